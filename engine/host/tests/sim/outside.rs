//! Who else writes to the log: devices that send readings and answer commands, and a worker pool that answers requests
//! in its own time and order, some of them twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::command::{Ack, AckStatus, Command};
use model::request::OptimizeRequest;
use model::schedule::{Metrics, Plan, PlannedSlot, Schedule, Status};
use schemas::codec::{Codec, Message};
use schemas::topic::Topic;

use super::draws::Draws;
use super::faults::Fault;
use super::scenario::Sent;
use super::world::World;

const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Sends what the scenario says, when it says.
pub async fn send(world: Arc<World>, sent: Vec<Sent>) {
    for Sent {
        at_ms,
        topic,
        key,
        value,
    } in sent
    {
        let wait_ms = (at_ms - world.event_ms()).max(0) / world.scenario.speed;
        let wait_ms = u64::try_from(wait_ms).expect("it is not negative");
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        world.append(topic, &key, value);
    }
}

/// The values of a topic that nobody has looked at yet.
struct Unseen {
    topic: Topic,
    seen: BTreeMap<i32, usize>,
}

impl Unseen {
    const fn of(topic: Topic) -> Self {
        Self {
            topic,
            seen: BTreeMap::new(),
        }
    }

    fn take<T: Message>(&mut self, world: &World) -> Vec<T> {
        let state = world.state();
        let codec = Codec::single_object();
        let mut values = Vec::new();
        for (at, kept) in state.log.iter().filter(|(at, _)| at.topic == self.topic) {
            let seen = self.seen.entry(at.partition).or_default();
            let unseen = kept[*seen..].iter().map(|kept| codec.decode(&kept.value));
            values.extend(unseen.map(|value: Result<T, _>| value.expect("it is ours")));
            *seen = kept.len();
        }
        values
    }
}

fn append<T: Message>(world: &World, household: impl std::fmt::Display, value: &T) {
    let bytes = Codec::single_object().encode(value);
    let key = household.to_string().into_bytes();
    world.append(T::TOPIC, &key, bytes.expect("it is valid"));
}

async fn append_after<T: Message>(
    world: Arc<World>,
    after_ms: u64,
    household: model::units::HouseholdId,
    value: T,
) {
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    append(&world, household, &value);
}

/// Answers requests.
pub async fn answer_requests(world: Arc<World>, mut draws: Draws) {
    let mut unseen = Unseen::of(Topic::OptimizeRequests);
    let mut dropped: Vec<OptimizeRequest> = Vec::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let is_calm = world.is_calm();
        let mut requests: Vec<OptimizeRequest> = unseen.take(&world);
        if is_calm {
            requests.append(&mut dropped);
        }
        for request in requests {
            let is_odd = |draws: &mut Draws, share| !is_calm && draws.permille(share);
            if is_odd(&mut draws, 150) {
                world.count(Fault::AnswerDropped);
                dropped.push(request);
                continue;
            }
            let infeasible = is_odd(&mut draws, 80);
            if infeasible {
                world.count(Fault::AnswerInfeasible);
            }
            let id = request.household_id;
            let schedule = schedule(request, infeasible);
            let times = if is_odd(&mut draws, 150) {
                world.count(Fault::AnswerRepeated);
                2
            } else {
                1
            };
            for _ in 0..times {
                let after_ms = draws.next() % draws.one_of(&[100, 2_000, 40_000]);
                let after_ms = if is_calm { 0 } else { after_ms };
                let sent = append_after(Arc::clone(&world), after_ms, id, schedule.clone());
                tokio::task::spawn_local(sent);
            }
        }
    }
}

/// A plan that follows from its request alone.
fn schedule(request: OptimizeRequest, infeasible: bool) -> Schedule {
    let problem = &request.problem;
    let figures = Metrics {
        cost: 1.0,
        grid_import_kwh: 1.0,
        grid_export_kwh: 0.0,
        autarky: 0.5,
        self_consumption: 0.5,
    };
    let mut draws = Draws::new(request.requested_ms.unsigned_abs());
    let slot_ms = i64::from(problem.slot_minutes) * 60_000;
    let starts = (0_i64..).map(|nth| problem.start_ms + nth * slot_ms);
    let slots = starts.zip(&problem.load_kw).map(|(start_ms, load_kw)| {
        let battery_kw = draws.one_of(&[0.0, 1.5, 2.25]);
        PlannedSlot {
            start_ms,
            load_kw: *load_kw,
            pv_kw: 0.0,
            grid_import_kw: load_kw + battery_kw,
            grid_export_kw: 0.0,
            battery_charge_kw: battery_kw,
            battery_discharge_kw: 0.0,
            soc_kwh: 5.0,
            appliances: BTreeMap::from([("dishwasher".to_owned(), draws.permille(300))]),
            evs: BTreeMap::new(),
            heat: BTreeMap::new(),
            shadow_price: 0.3,
            policy: None,
        }
    });
    let plan = Plan {
        status: if infeasible {
            Status::Infeasible
        } else {
            Status::Optimal
        },
        relaxed: Vec::new(),
        objective: 1.0,
        solver: "simulated".to_owned(),
        gap: 0.0,
        metrics: figures,
        baseline: figures,
        slots: if infeasible {
            Vec::new()
        } else {
            slots.collect()
        },
    };
    Schedule {
        schedule_id: request.request_id.clone(),
        start_ms: problem.start_ms,
        slot_minutes: problem.slot_minutes,
        request_id: request.request_id,
        household_id: request.household_id,
        requested_ms: request.requested_ms,
        adopt: request.adopt,
        solve_us: 100,
        forecast: request.forecast,
        plan,
    }
}

/// Answers commands, each once or more often.
pub async fn answer_commands(world: Arc<World>, mut draws: Draws) {
    let mut unseen = Unseen::of(Topic::Commands);
    let mut answered = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for command in unseen.take::<Command>(&world) {
            let is_news = answered.insert(command.command_id.clone());
            if !is_news || draws.permille(100) {
                continue;
            }
            let ack = Ack {
                household_id: command.household_id,
                command_id: command.command_id,
                ts_ms: command.issued_ms,
                status: draws.one_of(&[
                    AckStatus::Applied,
                    AckStatus::Applied,
                    AckStatus::Rejected,
                ]),
                reason: String::new(),
            };
            let is_twice = !world.is_calm() && draws.permille(150);
            if is_twice {
                world.count(Fault::AckRepeated);
            }
            for _ in 0..1 + usize::from(is_twice) {
                let after_ms = draws.next() % 5_000;
                let sent = append_after(
                    Arc::clone(&world),
                    after_ms,
                    command.household_id,
                    ack.clone(),
                );
                tokio::task::spawn_local(sent);
            }
        }
    }
}
