//! One run: a scenario, its faults, then calm until everything is finished, and the checks.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use platform::log::TopicPartition;
use platform::metrics::Metrics;
use schemas::codec::Codec;
use schemas::dead_letter::DeadLetter;
use schemas::topic::Topic;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::draws::Draws;
use super::faults::{Counts, Fault};
use super::invariants;
use super::outside;
use super::owner::{self, Order};
use super::poison;
use super::scenario::Scenario;
use super::state::{State, end_of};
use super::world::World;

/// Longest time from calm to rest.
const REST_MAX: Duration = Duration::from_secs(900);

/// What came of a seed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub violations: Vec<String>,
    pub counts: Counts,
    pub readings_count: usize,
    pub records_count: usize,
    /// Of everything in the store and in the log.
    pub digest: u64,
}

/// Runs one seed; a panic is a violation.
pub fn try_run(seed: u64) -> Outcome {
    catch_unwind(|| run(seed)).unwrap_or_else(|_| Outcome {
        violations: vec!["it panicked".to_owned()],
        ..Outcome::default()
    })
}

/// Runs one seed in a runtime of its own, in virtual time.
fn run(seed: u64) -> Outcome {
    let world = in_virtual_time(simulate(seed));
    let state = world.state();
    let mut violations = state.violations.clone();
    violations.extend(invariants::at_end(&state, &world.scenario));
    let mut counts = state.faults.counts.clone();
    for (fault, count) in &world.scenario.oddities {
        *counts.entry(*fault).or_default() += count;
    }
    Outcome {
        violations,
        counts,
        readings_count: state.offline.accepted.len(),
        records_count: state.log.values().map(Vec::len).sum(),
        digest: digest(&state),
    }
}

/// Actors need a system; here on this thread alone.
fn in_virtual_time<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO can be made");
    actix::System::with_tokio_rt(move || runtime).block_on(run)
}

/// An owner that dies `crashes` times on its way through everything in the log of `scenario`. What is wrong in the end,
/// and how many records were handed over more than once.
pub fn through_history(scenario: Scenario, crashes: usize) -> (Vec<String>, usize) {
    in_virtual_time(async {
        let telemetry = TopicPartition {
            topic: Topic::Telemetry,
            partition: 0,
        };
        let mut sent = scenario.sent.clone();
        sent.extend(scenario.closing());
        let world = World::new(scenario, Draws::new(1));
        world.state().faults.calm = true;
        world.state().stands_at_ms = Some(world.scenario.stands_at_ms());
        for sent in sent {
            world.append(sent.topic, &sent.key, sent.value);
        }
        let end = end_of(&world.state(), telemetry);
        let end_count = usize::try_from(end).expect("an end is not negative");
        let (orders, taken) = mpsc::channel(64);
        let supervised = owner::supervise(Arc::clone(&world), 0, Metrics::new(), taken);
        let supervised = tokio::task::spawn_local(supervised);
        for crash in 1..=crashes {
            let lives_count = world.state().lives_count;
            until(&world, |state| {
                state.handed_count >= end_count * crash / (crashes + 1)
            })
            .await;
            orders.send(Order::Crash(0)).await.expect("it listens");
            until(&world, |state| state.lives_count > lives_count).await;
        }
        until(&world, |state| {
            state.committed.get(&telemetry) == Some(&end)
        })
        .await;
        orders.send(Order::Finish).await.expect("it listens");
        supervised.await.expect("supervising does not fail");
        let state = world.state();
        let mut violations = state.violations.clone();
        violations.extend(invariants::at_end(&state, &world.scenario));
        (violations, state.handed_count - end_count)
    })
}

async fn until(world: &World, is_so: impl Fn(&State) -> bool) {
    while !is_so(&world.state()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn simulate(seed: u64) -> Arc<World> {
    poison::begin();
    let mut draws = Draws::new(seed);
    let scenario = Scenario::draw(&mut draws);
    let mut sent = scenario.sent.clone();
    let closing = scenario.closing();
    let world = World::new(scenario, Draws::new(draws.next()));
    let tariff = sent.remove(0);
    world.append(tariff.topic, &tariff.key, tariff.value);

    let sending = tokio::task::spawn_local(outside::send(Arc::clone(&world), sent));
    let (requests, commands) = (Draws::new(draws.next()), Draws::new(draws.next()));
    tokio::task::spawn_local(outside::answer_requests(Arc::clone(&world), requests));
    tokio::task::spawn_local(outside::answer_commands(Arc::clone(&world), commands));
    let metrics = Metrics::new();
    let partitions = i32::try_from(world.scenario.partitions_count).expect("there are few");
    let mut owners = Vec::new();
    for partition in 0..partitions {
        let (orders, taken) = mpsc::channel(64);
        let owner = owner::supervise(Arc::clone(&world), partition, metrics.clone(), taken);
        owners.push((orders, tokio::task::spawn_local(owner)));
    }

    disturb(&world, &owners, &mut draws).await;
    sending.await.expect("sending does not fail");
    {
        let mut state = world.state();
        state.faults.calm = true;
        state.clock_off_ms = 0;
        state.stands_at_ms = Some(world.scenario.stands_at_ms());
    }
    for sent in closing {
        world.append(sent.topic, &sent.key, sent.value);
    }
    rest(&world).await;
    for (orders, owner) in owners {
        orders.send(Order::Finish).await.expect("it listens");
        owner.await.expect("supervising does not fail");
    }
    world
}

type Owners = [(mpsc::Sender<Order>, tokio::task::JoinHandle<()>)];

/// Crashes, moves partitions, switches services off and sets the clock, until the scenario is over.
async fn disturb(world: &Arc<World>, owners: &Owners, draws: &mut Draws) {
    let every_ms = draws.one_of(&[1_000, 5_000, 20_000]);
    while world.event_ms() < world.scenario.ends_ms + 2 * world.scenario.settings.slot.ms() {
        let pause_ms = draws.next() % every_ms;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let (orders, _) = &owners[draws.index(owners.len())];
        let away_until = Instant::now() + Duration::from_millis(draws.next() % 45_000);
        let order = match draws.next() % 13 {
            0..=2 => Order::Crash(draws.next() % draws.one_of(&[5, 30, 200])),
            3 | 4 => Order::Fence,
            5 | 6 => Order::Leave,
            7 => {
                world.count(Fault::ClockJump);
                let off_ms = draws.within(-7_200_000, 7_200_000);
                world.state().clock_off_ms = draws.one_of(&[0, off_ms / 60, off_ms]);
                continue;
            }
            8 => {
                world.state().faults.store_away_until = Some(away_until);
                continue;
            }
            9 => {
                world.state().faults.log_away_until = Some(away_until);
                continue;
            }
            10 => Order::Sleep(Duration::from_millis(draws.next() % 120_000)),
            _ => continue,
        };
        // One that waits for something else is spared.
        let _ = orders.try_send(order);
    }
}

/// Waits until nothing has been written for a while.
async fn rest(world: &Arc<World>) {
    let begun = Instant::now();
    let written = || {
        let state = world.state();
        let records: usize = state.log.values().map(Vec::len).sum();
        (records, state.writes_count, state.committed.clone())
    };
    let mut last = written();
    let mut since = Instant::now();
    // Whatever is due by then is saved and committed.
    let rest_min = Duration::from_secs(60) + world.scenario.hosting.checkpoint_every * 2;
    while since.elapsed() < rest_min {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = written();
        let is_over = world.state().sleepers_count == 0;
        if now != last || !is_over {
            (last, since) = (now, Instant::now());
        }
        if begun.elapsed() > REST_MAX {
            world.violation("it never comes to rest".to_owned());
            return;
        }
    }
}

/// The wall clock stands in one field, which is left out.
fn digest(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (key, stored) in &state.rows {
        format!("{key:?} {stored:?}").hash(&mut hasher);
    }
    let codec = Codec::single_object();
    for (at, kept) in &state.log {
        for kept in kept {
            if at.topic == Topic::DeadLetters {
                let letter: DeadLetter = codec.decode(&kept.value).expect("it is ours");
                let letter = DeadLetter {
                    refused_ms: 0,
                    ..letter
                };
                format!("{at:?} {letter:?}").hash(&mut hasher);
            } else {
                format!("{at:?}").hash(&mut hasher);
                kept.value.hash(&mut hasher);
            }
            kept.timestamp_ms.hash(&mut hasher);
        }
    }
    state
        .committed
        .values()
        .for_each(|next| next.hash(&mut hasher));
    hasher.finish()
}
