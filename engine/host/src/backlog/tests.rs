use std::collections::{BTreeMap, BTreeSet};

use model::reading::{Measurement, Reading};
use model::units::{DAY_MS, HouseholdId};
use platform::store::snapshot_bucket;
use proptest::prelude::*;

use super::*;

fn reading(home: i64, ts_ms: i64, consumption_w: f64) -> Row {
    Row::Reading(Reading {
        household_id: HouseholdId::new(home).unwrap(),
        ts_ms,
        measurement: Measurement::Meter { consumption_w },
    })
}

fn snapshot(home: i64, state: Vec<u8>) -> Row {
    Row::Snapshot {
        household_id: HouseholdId::new(home).unwrap(),
        state,
    }
}

#[test]
fn a_row_goes_alone_while_the_store_keeps_up_and_with_its_day_while_it_does_not() {
    let mut backlog = Backlog::default();
    backlog.push(vec![reading(1, 0, 1.0)]);
    let (rows, receipt) = backlog.next(64).unwrap().split();
    assert_eq!(rows, [reading(1, 0, 1.0)]);
    backlog.written(&receipt);
    backlog.push(vec![reading(1, 1, 1.0), reading(2, 1, 1.0)]);
    backlog.push(vec![
        reading(2, DAY_MS, 1.0),
        reading(2, 2, 1.0),
        reading(1, 2, 1.0),
    ]);
    let next = |backlog: &mut Backlog| backlog.next(64).map(|batch| batch.rows);
    assert_eq!(
        next(&mut backlog),
        Some(vec![reading(1, 1, 1.0), reading(1, 2, 1.0)])
    );
    assert_eq!(
        next(&mut backlog),
        Some(vec![reading(2, 1, 1.0), reading(2, 2, 1.0)])
    );
    assert_eq!(next(&mut backlog), Some(vec![reading(2, DAY_MS, 1.0)]));
    assert_eq!(next(&mut backlog), None);
}

#[test]
fn each_write_takes_its_share_of_the_places_that_wait() {
    let mut backlog = Backlog::default();
    backlog.push((1..=10).map(|home| reading(home, 0, 1.0)).collect());
    let homes = |batch: WriteBatch| -> Vec<i64> {
        let of = |row: &Row| {
            let Row::Reading(reading) = row else {
                unreachable!()
            };
            reading.household_id.get()
        };
        batch.rows.iter().map(of).collect()
    };
    let mut next = |writes_max| backlog.next(writes_max).map(homes);
    assert_eq!(next(3), Some(vec![1, 2, 3, 4]));
    assert_eq!(next(3), Some(vec![5, 6]));
    assert_eq!(next(16), Some(vec![7]));
    assert_eq!(next(1), Some(vec![8, 9, 10]));
    assert_eq!(next(1), None);
}

#[test]
fn a_place_that_does_not_fit_whole_goes_on_first() {
    let mut backlog = Backlog::default();
    backlog.push((0..60).map(|ts_ms| reading(1, ts_ms, 1.0)).collect());
    backlog.push((0..60).map(|ts_ms| reading(2, ts_ms, 1.0)).collect());
    backlog.push(vec![reading(3, 0, 1.0)]);
    let next = |backlog: &mut Backlog| {
        let rows = backlog.next(1).unwrap().rows;
        let of = |home| {
            rows.iter()
                .filter(move |row| row.place() == Place::Day(HouseholdId::new(home).unwrap(), 0))
        };
        [1, 2, 3].map(|home| of(home).count())
    };
    assert_eq!(next(&mut backlog), [60, 40, 0]);
    assert_eq!(next(&mut backlog), [0, 20, 1]);
}

#[test]
fn a_newer_state_takes_the_turn_of_the_one_that_waits() {
    let mut backlog = Backlog::default();
    let first = backlog.push(vec![snapshot(1, vec![1])]);
    let second = backlog.push(vec![snapshot(1, vec![2]), snapshot(2, vec![2])]);
    let (rows, receipt) = backlog.next(64).unwrap().split();
    assert_eq!(rows, [snapshot(1, vec![2])]);
    backlog.written(&receipt);
    assert!(backlog.is_written(first) && !backlog.is_written(second));
    let (_, receipt) = backlog.next(64).unwrap().split();
    backlog.written(&receipt);
    assert!(backlog.is_written(second));
}

#[test]
fn states_of_one_group_are_written_together_and_none_takes_anothers_place() {
    let first = HouseholdId::new(1).unwrap();
    let other =
        (2..).find(|id| snapshot_bucket(HouseholdId::new(*id).unwrap()) == snapshot_bucket(first));
    let other = other.unwrap();
    let mut backlog = Backlog::default();
    backlog.push(vec![snapshot(1, vec![1]), snapshot(other, vec![1])]);
    backlog.push(vec![snapshot(other, vec![2])]);
    let (rows, receipt) = backlog.next(64).unwrap().split();
    assert_eq!(rows, [snapshot(1, vec![1]), snapshot(other, vec![2])]);
    backlog.written(&receipt);
    assert!(backlog.is_written(2) && !backlog.is_waiting());
}

#[test]
fn a_slow_store_gets_fewer_writes_and_a_quick_one_more_while_rows_wait() {
    let mut window = Window::new();
    let quick = Duration::from_millis(2);
    for _ in 0..10_000 {
        window.observe(quick, true);
    }
    assert_eq!(window.limit(), 64);
    window.observe(quick, false);
    assert_eq!(window.limit(), 64);
    for _ in 0..200 {
        window.observe(Duration::from_secs(1), true);
    }
    assert_eq!(window.limit(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<(i64, i64)>),
    Start,
    /// Of the batches under way, the one at this place, round and round.
    Finish(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let row = (1..6_i64, 0..40_i64);
    prop_oneof![
        2 => prop::collection::vec(row, 0..150).prop_map(Step::Push),
        3 => Just(Step::Start),
        3 => (0..8_usize).prop_map(Step::Finish),
    ]
}

proptest! {
    /// Batches are numbered as they begin and finish in any order; a store that keeps the highest number of each place
    /// ends with the last row pushed for each key. A push counts as written exactly when it and all before it are.
    #[test]
    fn the_last_row_of_each_key_wins_and_none_is_lost(steps in prop::collection::vec(step(), 1..80), writes_max in 1..5_usize) {
        let mut backlog = Backlog::default();
        let (mut expected, mut stored) = (BTreeMap::new(), BTreeMap::new());
        let mut under_way: Vec<(u64, Vec<Row>, Receipt)> = Vec::new();
        let (mut order, mut value, mut pushed) = (0_u64, 0.0, 0_usize);
        let mut finish = |batch: (u64, Vec<Row>, Receipt), backlog: &mut Backlog, pushed: &mut usize| {
            let (order, rows, receipt) = batch;
            *pushed -= rows.len();
            for row in rows {
                let Row::Reading(reading) = row else { unreachable!() };
                let Measurement::Meter { consumption_w } = reading.measurement else { unreachable!() };
                let held = stored.entry((reading.household_id.get(), reading.ts_ms)).or_insert((0, 0.0));
                if held.0 <= order {
                    *held = (order, consumption_w);
                }
            }
            backlog.written(&receipt);
        };
        let all = steps.into_iter().map(Some).chain(std::iter::repeat(None));
        for step in all {
            let is_over = step.is_none();
            match step {
                Some(Step::Push(rows)) => {
                    let rows: Vec<Row> = rows.into_iter().map(|(home, minute)| {
                        value += 1.0;
                        // Two days of one home.
                        let ts_ms = minute * DAY_MS / 20;
                        expected.insert((home, ts_ms), value);
                        reading(home, ts_ms, value)
                    }).collect();
                    pushed += rows.len();
                    let ticket = backlog.push(rows);
                    prop_assert_eq!(backlog.is_written(ticket), pushed == 0);
                }
                Some(Step::Start) | None => {
                    let waiting = backlog.turns.len();
                    if let Some(batch) = backlog.next(writes_max) {
                        prop_assert!(batch.rows.len() <= WRITE_ROWS_MAX);
                        prop_assert!(batch.bytes <= WRITE_BYTES_MAX || batch.rows.len() == 1);
                        let places: BTreeSet<_> = batch.rows.iter().map(Row::place).collect();
                        prop_assert!(places.len() <= waiting.div_ceil(writes_max));
                        order += 1;
                        let (rows, receipt) = batch.split();
                        under_way.push((order, rows, receipt));
                    } else if is_over {
                        break;
                    }
                }
                Some(Step::Finish(index)) => {
                    if !under_way.is_empty() {
                        let batch = under_way.remove(index % under_way.len());
                        finish(batch, &mut backlog, &mut pushed);
                    }
                }
            }
        }
        while let Some(batch) = under_way.pop() {
            finish(batch, &mut backlog, &mut pushed);
        }
        prop_assert_eq!(pushed, 0);
        prop_assert!(backlog.is_written(backlog.pushes) && backlog.rows_count == 0 && backlog.bytes == 0);
        let stored: BTreeMap<_, _> = stored.into_iter().map(|(key, (_, value))| (key, value)).collect();
        prop_assert_eq!(stored, expected);
    }
}
