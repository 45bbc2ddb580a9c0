//! The worker pool on a log in memory: who waits for whom, and what is solved at all.

#[allow(
    unreachable_pub,
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "shared by several tests"
)]
mod fakes;

use std::collections::BTreeMap;
use std::sync::Arc;

use fakes::{MORNING_MS, World, home, until};
use host::config::OptimizerConfig;
use host::optimizer::Optimizer;
use model::problem::{Ev, Grid, Problem, Weights};
use model::request::OptimizeRequest;
use model::schedule::Schedule;
use platform::log::{LogEvent, Record, TopicPartition};
use schemas::topic::Topic;

const FROM: TopicPartition = TopicPartition {
    topic: Topic::OptimizeRequests,
    partition: 0,
};

/// A home without anything to decide: solved within a moment.
fn plain(id: i64, requested_ms: i64) -> OptimizeRequest {
    OptimizeRequest {
        request_id: format!("{id}-{requested_ms}-0"),
        household_id: home(id),
        requested_ms,
        adopt: true,
        problem: Problem {
            household_id: home(id),
            start_ms: MORNING_MS,
            slot_minutes: 15,
            load_kw: vec![0.5; 4],
            pv_kw: vec![0.0; 4],
            buy_price: vec![0.3; 4],
            sell_price: vec![0.1; 4],
            battery: None,
            grid: Grid::OPEN,
            pv_curtailable: false,
            appliances: Vec::new(),
            evs: Vec::new(),
            heat_stores: Vec::new(),
            weights: Weights::COST,
            stability: None,
            time_limit_ms: None,
            scenarios: Vec::new(),
            caution_per_kwh: 0.0,
            signal: None,
        },
        forecast: None,
    }
}

/// A home with several EVs whose chargers are only on or off, under one peak price: a mixed-integer program that uses up
/// its time.
fn general(id: i64, requested_ms: i64) -> OptimizeRequest {
    let slots_count = 96;
    let ev = |number: u32| Ev {
        id: format!("ev-{number}"),
        arrival_slot: number,
        departure_slot: 90 - number,
        capacity_kwh: 60.0,
        soc_kwh: 10.0 + f64::from(number),
        min_soc_kwh: 0.0,
        goal_soc_kwh: 47.3 - f64::from(number),
        charge_kw: 7.0 + 0.7 * f64::from(number),
        min_charge_kw: 7.0 + 0.7 * f64::from(number),
        discharge_kw: 0.0,
        charge_efficiency: 0.93,
        discharge_efficiency: 1.0,
        end_value_per_kwh: 0.0,
        wear_cost_per_kwh: 0.0,
    };
    let mut request = plain(id, requested_ms);
    let problem = &mut request.problem;
    problem.load_kw = (0..slots_count)
        .map(|slot| 0.4 + 0.1 * f64::from(slot % 7))
        .collect();
    problem.pv_kw = vec![0.0; problem.load_kw.len()];
    problem.buy_price = (0..slots_count)
        .map(|slot| 0.2 + 0.01 * f64::from(slot % 11))
        .collect();
    problem.sell_price = vec![0.05; problem.load_kw.len()];
    problem.grid.peak_price_per_kw = 0.5;
    problem.evs = (0..5).map(ev).collect();
    problem.time_limit_ms = Some(200);
    request
}

/// Starts a pool of two workers and hands it `requests` as one batch.
async fn pool_with(world: &mut World, requests: &[OptimizeRequest]) -> Optimizer {
    let records = requests.iter();
    let records: Vec<Record> = records
        .map(|request| world.append(0, request.household_id, request))
        .collect();
    let config = OptimizerConfig {
        workers: 2,
        ..OptimizerConfig::default()
    };
    let context = world.setup().context;
    let pool = Optimizer::over(context, world.consumer(), &config).expect("threads start");
    let event = LogEvent::Records {
        from: FROM,
        records,
    };
    world.events.send(event).await.expect("the pool listens");
    pool
}

#[tokio::test]
async fn a_long_solve_holds_up_no_other_answer() {
    const PLAIN_COUNT: i64 = 255;
    let mut world = World::new();
    let mut requests = vec![general(1, MORNING_MS)];
    requests.extend((2..2 + PLAIN_COUNT).map(|id| plain(id, MORNING_MS)));
    let pool = pool_with(&mut world, &requests).await;
    let (log, group) = (Arc::clone(&world.log), Arc::clone(&world.group));
    let committed = || group.committed.lock().unwrap().get(&FROM).copied();
    until(|| {
        // In this order: what is answered in between is not committed yet.
        let committed = committed();
        let answers: Vec<Schedule> = log.values();
        let is_oldest_answered = answers.iter().any(|answer| answer.household_id == home(1));
        assert!(committed.is_none() || is_oldest_answered, "{committed:?}");
        committed == Some(PLAIN_COUNT + 1)
    })
    .await;
    let answers: Vec<Schedule> = log.values();
    let place = answers
        .iter()
        .position(|answer| answer.household_id == home(1));
    let place = place.expect("it is answered");
    assert_eq!(answers.len(), requests.len());
    // It was begun first. Whoever waited for it would be answered after it.
    assert!(place > 0, "nothing was answered before it");
    pool.close().await;
}

#[tokio::test]
async fn of_a_homes_requests_in_a_batch_the_newest_alone_is_solved() {
    let mut world = World::new();
    let question = OptimizeRequest {
        adopt: false,
        ..plain(1, MORNING_MS - 1)
    };
    let requests = [
        plain(1, MORNING_MS),
        plain(1, MORNING_MS + 2),
        plain(2, MORNING_MS),
        question,
        plain(1, MORNING_MS + 1),
    ];
    let pool = pool_with(&mut world, &requests).await;
    let group = Arc::clone(&world.group);
    until(|| group.committed.lock().unwrap().get(&FROM) == Some(&5)).await;
    let answers: Vec<Schedule> = world.log.values();
    assert_eq!(answers.len(), requests.len());
    let is_solved: BTreeMap<&str, bool> = answers
        .iter()
        .map(|answer| (answer.request_id.as_str(), answer.plan.failure().is_none()))
        .collect();
    // The question is always solved; of the rest the newest of each home, wherever it stands.
    let solved = requests
        .each_ref()
        .map(|request| is_solved[request.request_id.as_str()]);
    assert_eq!(solved, [false, true, true, true, false]);
    pool.close().await;
}
