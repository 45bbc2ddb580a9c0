//! What log and store refuse for good is a dead letter, and holds up nobody.

#[allow(
    unreachable_pub,
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "shared by several tests"
)]
mod fakes;

use std::time::Duration;

use fakes::{MORNING_MS, World, home, meter};
use host::fence::Fence;
use host::partition::Partition;
use model::units::MINUTE_MS;
use platform::store::Row;
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::topic::Topic;

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_too_large_is_cut() {
    let world = World::new();
    *world.log.bytes_max.lock().unwrap() = Some(1 << 20);
    let mut partition = Partition::new(world.setup(), 0, Fence::open());
    let garbage = vec![7; 1_900_000];
    let record = world.append_bytes(Topic::Telemetry, 0, home(1), garbage);
    partition
        .take_in(Topic::Telemetry, &[record])
        .await
        .unwrap();
    partition.leave(Duration::MAX).await.unwrap();
    let letters: Vec<DeadLetter> = world.log.values();
    let [letter] = &letters[..] else {
        panic!("{} dead letters", letters.len())
    };
    assert_eq!(letter.reason, Reason::Undecodable);
    assert_eq!((letter.partition, letter.offset), (Some(0), Some(0)));
    assert_eq!(letter.payload_bytes, 1_900_000);
    assert_eq!(letter.payload, vec![7; 16 * 1024]);
    let refused = &world.metrics.records_refused_total;
    assert_eq!(refused.with_label_values(&["dead-letters"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_no_store_could_hold_is_a_dead_letter_and_the_rest_is_stored() {
    let world = World::new();
    let bad_ms = MORNING_MS + 7 * MINUTE_MS;
    *world.store.bad_ms.lock().unwrap() = Some(bad_ms);
    let mut partition = Partition::new(world.setup(), 0, Fence::open());
    let minutes = 0..12;
    let records: Vec<_> = minutes
        .map(|minute| {
            let reading = meter(home(1), MORNING_MS + minute * MINUTE_MS, 500.0);
            world.append(0, home(1), &reading)
        })
        .collect();
    partition.take_in(Topic::Telemetry, &records).await.unwrap();
    partition.leave(Duration::MAX).await.unwrap();
    let rows = world.store.rows.lock().unwrap();
    let is_reading = |row: &&Row| matches!(row, Row::Reading(_));
    assert_eq!(rows.iter().filter(is_reading).count(), 11);
    let letters: Vec<DeadLetter> = world.log.values();
    let [letter] = &letters[..] else {
        panic!("{} dead letters", letters.len())
    };
    // It can be replayed: the payload is the reading.
    assert_eq!(
        (letter.source.as_str(), &letter.payload[..]),
        ("telemetry", &records[7].value[..])
    );
    let refused = &world.metrics.rows_refused_total;
    assert_eq!(refused.with_label_values(&["telemetry"]).get(), 1);
}
