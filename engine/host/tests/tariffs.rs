//! The tariffs' follower: new prices reach homes while the store is away, and what is no tariff is a dead letter.

#[allow(
    unreachable_pub,
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "shared by several tests"
)]
mod fakes;

use std::sync::atomic::Ordering;
use std::time::Duration;

use fakes::{MORNING_MS, World, until};
use model::tariff::{PricePeriod, Tariff};
use model::units::DAY_MS;
use platform::log::{LogEvent, Record, TopicPartition};
use platform::store::Row;
use schemas::codec::Codec;
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::topic::Topic;

const FROM: TopicPartition = TopicPartition {
    topic: Topic::Tariffs,
    partition: 0,
};

fn record(offset: i64, value: Vec<u8>) -> Record {
    Record {
        offset,
        timestamp_ms: MORNING_MS,
        key: Some("flat".into()),
        value: value.into(),
        trace: None,
    }
}

#[tokio::test(start_paused = true)]
async fn prices_do_not_wait_for_the_store_and_a_bad_record_is_a_dead_letter() {
    let mut world = World::new();
    let consumer = world.consumer();
    *world.log.subscription.lock().unwrap() = Some(consumer);
    world.store.is_away.store(true, Ordering::SeqCst);
    // Prices of long ago are let go.
    let start_ms = platform::clock::wall_ms();
    let tariff = Tariff {
        name: "flat".to_owned(),
        periods: vec![PricePeriod {
            start_ms,
            end_ms: start_ms + DAY_MS,
            buy_per_kwh: 0.3,
            sell_per_kwh: 0.08,
        }],
        stated: Vec::new(),
    };
    let value = Codec::single_object().encode(&tariff).unwrap();
    let records = vec![record(0, b"nonsense".to_vec()), record(1, value)];
    for event in [
        LogEvent::Assigned(vec![FROM]),
        LogEvent::Records {
            from: FROM,
            records,
        },
        LogEvent::CaughtUp(FROM),
    ] {
        world.events.send(event).await.unwrap();
    }
    let context = world.setup().context;
    // Each period is known by the record that said so.
    let expected = Tariff {
        stated: vec![1],
        ..tariff
    };
    let (tariffs, task) = host::tariffs::follow(context, Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(
        tariffs.current().get("flat").map(AsRef::as_ref),
        Some(&expected)
    );
    until(|| !world.log.values::<DeadLetter>().is_empty()).await;
    let letter = &world.log.values::<DeadLetter>()[0];
    assert_eq!(
        (letter.reason, letter.offset),
        (Reason::Undecodable, Some(0))
    );
    assert_eq!(letter.payload, b"nonsense");
    world.store.is_away.store(false, Ordering::SeqCst);
    let is_stored = |row: &Row| matches!(row, Row::Tariff(stored) if **stored == expected);
    until(|| world.store.rows.lock().unwrap().iter().any(is_stored)).await;
    assert!(!task.is_finished());
    drop(world.events);
    task.await.unwrap();
}
