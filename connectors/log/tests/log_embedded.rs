//! The embedded log by what its users see: order, durability, groups, retention, compaction, back-pressure.

#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hearth_log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use platform::clock::wall_ms;
use platform::log::{
    Consumer, Log, LogError, LogEvent, Record, Start, Subscription, TopicPartition, partition_of,
};
use schemas::topic::Topic;
use tokio::time::{Duration, timeout};

/// Longer than anything here takes; a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(30);

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, EmbeddedLogConfig::default()).unwrap()
}

fn subscription(group: Option<&str>, topics: &[Topic]) -> Subscription {
    Subscription {
        group: group.map(str::to_owned),
        member: None,
        topics: topics.to_vec(),
        start: Start::Earliest,
        batch_max: 100,
    }
}

async fn next(consumer: &mut Consumer) -> LogEvent {
    timeout(LIMIT, consumer.events.recv())
        .await
        .unwrap()
        .expect("the subscription goes on")
}

/// Reads until `count` records have come.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<(TopicPartition, Record)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match next(consumer).await {
            LogEvent::Records { from, records } => {
                taken.extend(records.into_iter().map(|record| (from, record)));
            }
            LogEvent::Assigned(_) | LogEvent::CaughtUp(_) => {}
            LogEvent::Revoked { .. } => panic!("nothing is revoked here"),
        }
    }
    taken
}

/// Everything in a topic now, by key in order of offset.
async fn all(log: &EmbeddedLog, topic: Topic) -> Vec<(TopicPartition, Record)> {
    let mut consumer = log.subscribe(subscription(None, &[topic])).await.unwrap();
    let mut behind = 4;
    let mut found = Vec::new();
    while behind > 0 {
        match next(&mut consumer).await {
            LogEvent::Records { from, records } => {
                found.extend(records.into_iter().map(|record| (from, record)));
            }
            LogEvent::CaughtUp(_) => behind -= 1,
            LogEvent::Assigned(partitions) => assert_eq!(partitions.len(), 4),
            LogEvent::Revoked { .. } => panic!("nothing is revoked here"),
        }
    }
    found
}

fn text(record: &Record) -> String {
    String::from_utf8(record.value.to_vec()).unwrap()
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let second = EmbeddedLog::open(dir.path(), EmbeddedLogConfig::default());
    let error = second.unwrap_err().to_string();
    let expected = format!("{} is in use by another process", dir.path().display());
    assert!(error.contains(&expected), "{error}");
    log.close().await;
}

#[tokio::test]
async fn records_of_a_key_stay_in_order_on_the_keys_partition() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for number in 0..50 {
        let key = (number % 5).to_string();
        log.produce(
            Topic::Telemetry,
            key.as_bytes(),
            number.to_string().into_bytes(),
        )
        .await
        .unwrap();
    }
    let mut by_key: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut offsets: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (from, record) in all(&log, Topic::Telemetry).await {
        let key = record.key.clone().unwrap();
        assert_eq!(from.partition, partition_of(&key, 4));
        let next = offsets.entry(from).or_default();
        assert_eq!(record.offset, *next, "offsets count up without a gap");
        *next += 1;
        let number = text(&record).parse().unwrap();
        by_key
            .entry(String::from_utf8(key.to_vec()).unwrap())
            .or_default()
            .push(number);
    }
    for (key, numbers) in by_key {
        let first: u32 = key.parse().unwrap();
        assert_eq!(numbers, (first..50).step_by(5).collect::<Vec<u32>>());
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_restart_without_closing() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(dir.path()));
    let mut producing = tokio::task::JoinSet::new();
    for number in 0..200 {
        let log = Arc::clone(&log);
        producing.spawn(async move {
            let key = number.to_string();
            log.produce(Topic::Telemetry, key.as_bytes(), key.clone().into_bytes())
                .await
        });
    }
    while let Some(produced) = producing.join_next().await {
        produced.unwrap().unwrap();
    }
    // A copy of the folder as it stands is what a killed process leaves behind.
    let copy = tempfile::tempdir().unwrap();
    copy_folder(dir.path(), copy.path());
    let reopened = open(copy.path());
    assert_eq!(all(&reopened, Topic::Telemetry).await.len(), 200);
    reopened
        .produce(Topic::Telemetry, b"0", b"more".to_vec())
        .await
        .unwrap();
    let found = all(&reopened, Topic::Telemetry).await;
    assert_eq!(found.len(), 201);
    let last = found
        .iter()
        .rfind(|(from, _)| from.partition == partition_of(b"0", 4));
    assert_eq!(
        text(&last.unwrap().1),
        "more",
        "offsets go on where they were"
    );
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn records_of_one_key_are_read_again_aside_from_the_subscription() {
    const COUNT: usize = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let keys: [&[u8]; 2] = [b"7", b"8"];
    let produced = (0..COUNT).map(|number| {
        let value = number.to_string().into_bytes();
        log.produce(Topic::Acks, keys[number % 2], value)
    });
    futures::future::try_join_all(produced).await.unwrap();
    let mut consumer = log
        .subscribe(subscription(Some("engine"), &[Topic::Acks]))
        .await
        .unwrap();
    let taken = take(&mut consumer, COUNT).await;
    for key in keys {
        let of_key = |(_, record): &&(TopicPartition, Record)| record.key.as_deref() == Some(key);
        let held: Vec<_> = taken.iter().filter(of_key).collect();
        let (from, _) = held[0];
        let (first, end) = (held[10].1.offset, held[held.len() - 1].1.offset);
        let again = consumer.control.read(*from, first..end, key).await.unwrap();
        let again: Vec<String> = again.iter().map(text).collect();
        let expected = held[10..held.len() - 1].iter();
        assert_eq!(
            again,
            expected.map(|(_, record)| text(record)).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn a_group_goes_on_at_its_committed_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for number in 0..10 {
        log.produce(Topic::Acks, b"7", number.to_string().into_bytes())
            .await
            .unwrap();
    }
    let mine = || subscription(Some("engine"), &[Topic::Acks]);
    let mut consumer = log.subscribe(mine()).await.unwrap();
    let taken = take(&mut consumer, 10).await;
    let from = taken[0].0;
    consumer.control.commit(vec![(from, 4)]).await.unwrap();
    assert_eq!(consumer.control.end_offset(from), Some(10));

    // One member at a time, and the one that was has nothing to say any more.
    assert!(matches!(
        log.subscribe(mine()).await,
        Err(LogError::Setup(_))
    ));
    let before = Arc::clone(&consumer.control);
    drop(consumer);
    let mut consumer = log.subscribe(mine()).await.unwrap();
    assert!(matches!(
        before.commit(vec![(from, 9)]).await,
        Err(LogError::Refused(_))
    ));
    let other = TopicPartition {
        topic: Topic::Telemetry,
        partition: 0,
    };
    assert!(matches!(
        consumer.control.commit(vec![(other, 1)]).await,
        Err(LogError::Refused(_))
    ));
    assert_eq!(text(&take(&mut consumer, 6).await[0].1), "4");
    drop((consumer, before));
    log.close().await;
    drop(log);

    let log = open(dir.path());
    let mut consumer = log.subscribe(mine()).await.unwrap();
    assert_eq!(
        text(&take(&mut consumer, 6).await[0].1),
        "4",
        "the commit was durable"
    );
    let mut other = log
        .subscribe(subscription(Some("other"), &[Topic::Acks]))
        .await
        .unwrap();
    assert_eq!(text(&take(&mut other, 10).await[0].1), "0");
    let late = Subscription {
        start: Start::Latest,
        ..subscription(Some("late"), &[Topic::Acks])
    };
    let mut late = log.subscribe(late).await.unwrap();
    assert!(matches!(next(&mut late).await, LogEvent::Assigned(_)));
    log.produce(Topic::Acks, b"7", b"new".to_vec())
        .await
        .unwrap();
    assert_eq!(text(&take(&mut late, 1).await[0].1), "new");
}

#[tokio::test]
async fn batches_are_bounded_and_pausing_holds_a_partition() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let produce = |text: &'static str| log.produce(Topic::Commands, b"1", text.as_bytes().to_vec());
    for _ in 0..25 {
        produce("old").await.unwrap();
    }
    let small = Subscription {
        batch_max: 10,
        ..subscription(Some("g"), &[Topic::Commands])
    };
    let mut consumer = log.subscribe(small).await.unwrap();
    let mut sizes = Vec::new();
    let mut partition = None;
    while sizes.iter().sum::<usize>() < 25 {
        if let LogEvent::Records { from, records } = next(&mut consumer).await {
            sizes.push(records.len());
            partition = Some(from);
        }
    }
    assert_eq!(sizes, [10, 10, 5]);

    let partition = partition.unwrap();
    consumer.control.pause(partition);
    produce("held").await.unwrap();
    let other = TopicPartition {
        partition: (partition.partition + 1) % 4,
        ..partition
    };
    let key = (0..)
        .map(|n: i32| n.to_string())
        .find(|key| partition_of(key.as_bytes(), 4) == other.partition);
    log.produce(Topic::Commands, key.unwrap().as_bytes(), b"flows".to_vec())
        .await
        .unwrap();
    assert_eq!(text(&take(&mut consumer, 1).await[0].1), "flows");
    consumer.control.resume(partition);
    assert_eq!(text(&take(&mut consumer, 1).await[0].1), "held");
}

#[tokio::test]
async fn a_slow_owner_stops_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let one = |group| Subscription {
        batch_max: 1,
        ..subscription(Some(group), &[Topic::Alerts])
    };
    let slow = log.subscribe(one("slow")).await.unwrap();
    let mut quick = log.subscribe(one("quick")).await.unwrap();
    for number in 0..100 {
        log.produce(Topic::Alerts, b"1", number.to_string().into_bytes())
            .await
            .unwrap();
    }
    assert_eq!(take(&mut quick, 100).await.len(), 100);
    assert!(
        slow.events.len() < 100,
        "what waits for the owner is bounded"
    );
    // A reader that waits for its owner does not keep the log open.
    timeout(LIMIT, log.close()).await.unwrap();
}

#[tokio::test]
async fn old_records_go_and_offsets_do_not_start_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for number in 0..10 {
        log.produce(Topic::Telemetry, b"1", number.to_string().into_bytes())
            .await
            .unwrap();
    }
    assert_eq!(log.trim(wall_ms()).await.unwrap(), 0);
    let in_8_days = wall_ms() + 8 * model::units::DAY_MS;
    assert_eq!(log.trim(in_8_days).await.unwrap(), 10);
    assert!(all(&log, Topic::Telemetry).await.is_empty());
    log.close().await;
    drop(log);

    let log = open(dir.path());
    log.produce(Topic::Telemetry, b"1", b"new".to_vec())
        .await
        .unwrap();
    let found = all(&log, Topic::Telemetry).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.offset, 10);
}

/// A clock 400 days ahead, and one that stamped records in 1970 and was then set right, make everything old.
#[tokio::test]
async fn a_wrong_clock_removes_nothing_that_a_group_has_yet_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for i in 0..10 {
        let value = i.to_string().into_bytes();
        log.produce(Topic::Telemetry, b"1", value).await.unwrap();
    }
    let days_ahead = |days| wall_ms() + days * model::units::DAY_MS;
    let subscribe = |group| log.subscribe(subscription(Some(group), &[Topic::Telemetry]));
    let mut quick = subscribe("quick").await.unwrap();
    let slow = subscribe("slow").await.unwrap();
    let from = take(&mut quick, 10).await[0].0;
    quick.control.commit(vec![(from, 10)]).await.unwrap();
    // The slow one has committed nothing, then three, then the rest.
    for (committed, removed) in [(None, 0), (Some(3), 3), (Some(10), 7)] {
        if let Some(offset) = committed {
            slow.control.commit(vec![(from, offset)]).await.unwrap();
        }
        let ahead = days_ahead(400);
        assert_eq!(log.trim(ahead).await.unwrap(), removed, "{committed:?}");
    }

    // After a restart a group counts before its consumer is there.
    log.produce(Topic::Telemetry, b"1", b"last".to_vec())
        .await
        .unwrap();
    log.close().await;
    drop((quick, slow, log));
    let log = open(dir.path());
    // Its records are as old as those of 1970 are after the clock was set right.
    assert_eq!(log.trim(days_ahead(20_000)).await.unwrap(), 0);
    let mut slow = log
        .subscribe(subscription(Some("slow"), &[Topic::Telemetry]))
        .await
        .unwrap();
    let (_, last) = take(&mut slow, 1).await.remove(0);
    assert_eq!((last.offset, text(&last).as_str()), (10, "last"));
}

#[tokio::test]
async fn compaction_keeps_the_newest_of_each_key() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for version in 0..3 {
        for key in ["a", "b", "c"] {
            let value = format!("{key}{version}").into_bytes();
            log.produce(Topic::Tariffs, key.as_bytes(), value)
                .await
                .unwrap();
        }
    }
    log.produce(Topic::Tariffs, b"b", Vec::new()).await.unwrap();
    assert_eq!(log.trim(wall_ms()).await.unwrap(), 7);
    let mut kept: Vec<String> = all(&log, Topic::Tariffs)
        .await
        .iter()
        .map(|(_, record)| text(record))
        .collect();
    kept.sort();
    assert_eq!(kept, ["", "a2", "c2"], "a tombstone is a record");
    // A topic that only compacts forgets nothing else, however old.
    let in_8_days = wall_ms() + 8 * model::units::DAY_MS;
    assert_eq!(log.trim(in_8_days).await.unwrap(), 0);
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let refused = log
        .produce(Topic::DeadLetters, b"1", vec![0; 3 << 20])
        .await
        .unwrap_err();
    assert!(matches!(refused, LogError::Refused(_)) && !refused.is_retryable());
    log.produce(Topic::DeadLetters, b"1", vec![0; 300 << 10])
        .await
        .unwrap();
    assert_eq!(
        all(&log, Topic::DeadLetters).await[0].1.value.len(),
        300 << 10
    );
}

#[tokio::test]
async fn closing_ends_subscriptions_and_refuses_more() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut consumer = log
        .subscribe(subscription(Some("g"), &[Topic::Acks]))
        .await
        .unwrap();
    log.ping().await.unwrap();
    log.init().await.unwrap();
    log.close().await;
    while let Some(event) = timeout(LIMIT, consumer.events.recv()).await.unwrap() {
        assert!(matches!(event, LogEvent::Assigned(_)));
    }
    assert!(matches!(log.ping().await, Err(LogError::Closed)));
    let refused = log.produce(Topic::Acks, b"1", Vec::new()).await;
    assert!(matches!(refused, Err(LogError::Closed)));
}
