//! Homes whose code panics: they come back as after a crash, and hold up nobody.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "one kind of row is looked for"
)]

#[allow(
    unreachable_pub,
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "shared by several tests"
)]
mod fakes;

use std::sync::atomic::{AtomicU32, Ordering};

use fakes::{MORNING_MS, World, home, meter};
use host::fence::Fence;
use host::partition::Partition;
use household::effect::Effect;
use household::event::Event;
use household::household::{Env, Household};
use model::slot::Slot;
use model::units::MINUTE_MS;
use platform::store::Row;
use schemas::topic::Topic;

static REPAIRS: AtomicU32 = AtomicU32::new(0);
static TICKS: AtomicU32 = AtomicU32::new(0);

fn fails_on_first_repair(
    household: &mut Household,
    event: Event,
    env: &Env<'_>,
    effects: &mut Vec<Effect>,
) {
    let is_repair = matches!(event, Event::SlotRepaired(_));
    household.handle(event, env, effects);
    if is_repair && REPAIRS.fetch_add(1, Ordering::SeqCst) == 0 {
        panic!("as told by the test");
    }
}

fn fails_on_ticks(
    household: &mut Household,
    event: Event,
    env: &Env<'_>,
    effects: &mut Vec<Effect>,
) {
    let is_tick = matches!(event, Event::ClockTicked { .. });
    household.handle(event, env, effects);
    if is_tick && household.id() == home(1) {
        TICKS.fetch_add(1, Ordering::SeqCst);
        panic!("as told by the test");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_on_a_repaired_slot_costs_neither_the_shard_nor_the_slot() {
    let world = World::new();
    let mut setup = world.setup();
    setup.handle = fails_on_first_repair;
    let mut partition = Partition::new(setup, 0, Fence::open());
    // Two readings of a slot, of which the second comes an hour late.
    let readings = [0, 60, 61, 5].map(|minute| {
        let watts = 600.0 + 10.0 * f64::from(minute);
        meter(home(1), MORNING_MS + i64::from(minute) * MINUTE_MS, watts)
    });
    for reading in &readings {
        let record = world.append(0, home(1), reading);
        partition
            .take_in(Topic::Telemetry, &[record])
            .await
            .unwrap();
    }
    partition.leave(std::time::Duration::MAX).await.unwrap();
    assert!(REPAIRS.load(Ordering::SeqCst) > 1);
    let expected = {
        let timed = [readings[0], readings[3]].map(|read| (read.ts_ms, read.measurement));
        Slot::of(MORNING_MS, 15, 0, i64::MAX, timed)
    };
    let rows = world.store.rows.lock().unwrap();
    let newest = rows.iter().rev().find_map(|row| match row {
        Row::Slot { slot, .. } if slot.start_ms == MORNING_MS => Some(*slot),
        _ => None,
    });
    assert_eq!(newest, Some(expected));
    let count_of = |is_wanted: fn(&str) -> bool| -> u64 {
        let text = world.metrics.text();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("hearth_readings_total{"));
        let counts = lines.filter(|line| is_wanted(line));
        counts
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    assert!(count_of(|line| line.contains("replayed")) > 0);
    assert_eq!(
        count_of(|line| !line.contains("replayed")),
        4,
        "each counts once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_home_that_panics_on_each_tick_is_left_alone_until_its_next_record() {
    let world = World::new();
    let mut setup = world.setup();
    setup.handle = fails_on_ticks;
    let mut partition = Partition::new(setup.clone(), 0, Fence::open());
    for id in [1, 2] {
        let record = world.append(0, home(id), &meter(home(id), MORNING_MS, 500.0));
        partition
            .take_in(Topic::Telemetry, &[record])
            .await
            .unwrap();
    }
    for second in 0..20 {
        partition.tick(MORNING_MS + 1_000 * second).await.unwrap();
    }
    assert_eq!(TICKS.load(Ordering::SeqCst), 3);
    setup.lag.publish(setup.control.as_ref());
    assert_eq!(world.metrics.quarantined_households.get(), 1);
    let reading = meter(home(1), MORNING_MS + MINUTE_MS, 500.0);
    let record = world.append(0, home(1), &reading);
    partition
        .take_in(Topic::Telemetry, &[record])
        .await
        .unwrap();
    partition.tick(MORNING_MS + MINUTE_MS).await.unwrap();
    assert_eq!(TICKS.load(Ordering::SeqCst), 4);
}
