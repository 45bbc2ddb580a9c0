//! The length of slots is changed while homes have slots of the other one.

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

use std::collections::BTreeMap;

use fakes::{MORNING_MS, World, home, meter};
use host::fence::Fence;
use host::partition::Partition;
use model::slot::Slot;
use model::units::{MINUTE_MS, SlotLength};
use platform::store::Row;
use schemas::topic::Topic;

/// One process with slots of `minutes` takes readings in and stops.
async fn live(world: &World, minutes: u32, readings: impl IntoIterator<Item = i64>) {
    let mut setup = world.setup();
    setup.settings.slot = SlotLength::new(minutes).expect("a length");
    let mut partition = Partition::new(setup, 0, Fence::open());
    for half_minute in readings {
        let ts_ms = MORNING_MS + half_minute * MINUTE_MS / 2;
        let record = world.append(0, home(1), &meter(home(1), ts_ms, 600.0));
        partition
            .take_in(Topic::Telemetry, &[record])
            .await
            .expect("no fence, no panic");
    }
    partition
        .leave(std::time::Duration::MAX)
        .await
        .expect("no fence, no panic");
}

fn slots(world: &World) -> BTreeMap<i64, Slot> {
    let rows = world.store.rows.lock().expect("no fence, no panic");
    let slots = rows.iter().filter_map(|row| match row {
        Row::Slot { slot, .. } => Some(((slot.start_ms - MORNING_MS) / MINUTE_MS, *slot)),
        _ => None,
    });
    slots.collect()
}

/// Start in minutes, length and readings of each slot.
fn counts(world: &World) -> Vec<(i64, u32, u32)> {
    let slots = slots(world);
    let counts = slots
        .iter()
        .map(|(start_min, slot)| (*start_min, slot.slot_minutes, slot.load_w.count));
    counts.collect()
}

#[tokio::test(start_paused = true)]
async fn an_old_quarter_hour_keeps_its_readings_when_slots_become_shorter() {
    let world = World::new();
    // Half an hour, then one reading of the next quarter hour.
    live(&world, 15, 0..61).await;
    assert_eq!(counts(&world), [(0, 15, 30), (15, 15, 30)]);
    // New ones, then late ones in the midst of old quarter hours.
    live(&world, 5, (61..71).chain([13, 33])).await;
    let after = counts(&world);
    assert_eq!(
        after[..2],
        [(0, 15, 30), (15, 15, 30)],
        "the same readings again"
    );
    assert_eq!(after[2..], [(30, 5, 10)]);
}

#[tokio::test(start_paused = true)]
async fn late_readings_go_into_the_rows_of_their_time() {
    let world = World::new();
    // Each second half minute is missing.
    live(&world, 15, (0..61).step_by(2)).await;
    live(&world, 5, (61..91).chain([3, 33])).await;
    let after = counts(&world);
    assert_eq!(after[..2], [(0, 15, 16), (15, 15, 16)]);
    // 30:00 came before the change.
    assert_eq!(after[2..], [(30, 5, 10), (35, 5, 10), (40, 5, 10)]);
    // And back: the short slots stay, and what comes after is long again.
    live(&world, 15, (91..181).chain([5, 63])).await;
    let after = counts(&world);
    assert_eq!(after[..2], [(0, 15, 17), (15, 15, 16)]);
    assert_eq!(after[2..5], [(30, 5, 10), (35, 5, 10), (40, 5, 10)]);
    assert_eq!(after[5..], [(45, 15, 30), (60, 15, 30), (75, 15, 30)]);
}
