//! The Kafka log against librdkafka's own mock cluster: order, groups, rebalances, outages, back-pressure. What only a
//! real broker can show is tested with one elsewhere.

#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesOrdered, StreamExt};
use hearth_log::kafka::{KafkaConfig, KafkaLog};
use platform::log::{
    Consumer, Log, LogError, LogEvent, NewRecord, Record, Start, Subscription, TopicPartition,
    partition_of,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use schemas::topic::Topic;
use tokio::time::timeout;

/// Longer than anything here takes; a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;
const TOPICS: [Topic; 2] = [Topic::Telemetry, Topic::Acks];

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    for topic in TOPICS {
        cluster
            .create_topic(&format!("t.{topic}"), PARTITIONS, 1)
            .unwrap();
    }
    cluster
}

fn config(cluster: &Cluster) -> KafkaConfig {
    KafkaConfig {
        brokers: cluster.bootstrap_servers(),
        prefix: "t.".to_owned(),
        partitions: PARTITIONS,
        session_timeout_ms: 6_000,
        ..KafkaConfig::default()
    }
}

fn subscription(group: Option<&str>, topics: &[Topic]) -> Subscription {
    Subscription {
        group: group.map(str::to_owned),
        member: None,
        topics: topics.to_vec(),
        start: Start::Earliest,
        batch_max: 50,
    }
}

async fn next(consumer: &mut Consumer) -> LogEvent {
    timeout(LIMIT, consumer.events.recv())
        .await
        .unwrap()
        .expect("the subscription goes on")
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<(TopicPartition, Record)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match next(consumer).await {
            LogEvent::Records { from, records } => {
                taken.extend(records.into_iter().map(|record| (from, record)));
            }
            LogEvent::Assigned(_) | LogEvent::CaughtUp(_) => {}
            LogEvent::Revoked { done, .. } => drop(done),
        }
    }
    taken
}

async fn produce(log: &KafkaLog, topic: Topic, numbers: std::ops::Range<u32>) {
    let produced = numbers.map(|number| async move {
        let key = (number % 7).to_string();
        log.produce(topic, key.as_bytes(), number.to_string().into_bytes())
            .await
    });
    for outcome in futures::future::join_all(produced).await {
        outcome.unwrap();
    }
}

fn number(record: &Record) -> u32 {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

/// Each partition's offsets count up from 0, each key stands where murmur2 puts it, and its numbers ascend.
#[track_caller]
fn check_order(taken: &[(TopicPartition, Record)]) {
    let mut offsets: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let mut newest: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for (from, record) in taken {
        let expected = offsets.entry(*from).or_default();
        assert_eq!(record.offset, *expected, "{from:?}");
        *expected += 1;
        let key = record.key.as_ref().unwrap();
        assert_eq!(from.partition, partition_of(key, PARTITIONS.unsigned_abs()));
        if let Some(before) = newest.insert(key.to_vec(), number(record)) {
            assert!(before < number(record));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_reads_everything_in_order_and_goes_on_after_its_commit() {
    let cluster = cluster();
    let log = KafkaLog::connect(config(&cluster)).unwrap();
    produce(&log, Topic::Telemetry, 0..500).await;
    let mine = || subscription(Some("g"), &[Topic::Telemetry]);

    let mut consumer = log.subscribe(mine()).await.unwrap();
    let taken = take(&mut consumer, 500).await;
    check_order(&taken);
    let mut next_offsets: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (from, record) in &taken {
        next_offsets.insert(*from, record.offset + 1);
    }
    let stranger = TopicPartition {
        topic: Topic::Alerts,
        partition: 0,
    };
    let refused = consumer
        .control
        .commit(vec![(stranger, 1)])
        .await
        .unwrap_err();
    assert!(matches!(refused, LogError::Refused(_)) && !refused.is_retryable());
    consumer
        .control
        .commit(next_offsets.into_iter().collect())
        .await
        .unwrap();
    let before = Arc::clone(&consumer.control);
    drop(consumer);

    produce(&log, Topic::Telemetry, 500..600).await;
    let mut consumer = log.subscribe(mine()).await.unwrap();
    let taken: BTreeSet<u32> = take(&mut consumer, 100)
        .await
        .iter()
        .map(|(_, record)| number(record))
        .collect();
    assert_eq!(taken, (500..600).collect());
    assert!(
        before.commit(vec![(stranger, 1)]).await.is_err(),
        "a former member has no say"
    );
    timeout(LIMIT, log.close()).await.unwrap();
    while let Some(event) = timeout(LIMIT, consumer.events.recv()).await.unwrap() {
        assert!(!matches!(event, LogEvent::Records { .. }));
    }
    assert!(matches!(
        log.produce(Topic::Acks, b"1", Vec::new()).await,
        Err(LogError::Closed)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_one_key_are_read_again_aside_from_the_subscription() {
    let cluster = cluster();
    let log = KafkaLog::connect(config(&cluster)).unwrap();
    produce(&log, Topic::Telemetry, 0..200).await;
    let mut consumer = log
        .subscribe(subscription(Some("g"), &TOPICS))
        .await
        .unwrap();
    let taken = take(&mut consumer, 200).await;
    let of = taken[0].0;
    let key = taken[0].1.key.clone().unwrap();
    let held: Vec<&Record> = taken
        .iter()
        .filter(|(from, record)| *from == of && record.key.as_ref() == Some(&key))
        .map(|(_, record)| record)
        .collect();
    let (first, last) = (held[3].offset, held[held.len() - 3].offset);
    let again = consumer.control.read(of, first..last, &key).await.unwrap();
    let told = |record: &Record| (record.offset, number(record));
    assert_eq!(
        again.iter().map(told).collect::<Vec<_>>(),
        held[3..held.len() - 3]
            .iter()
            .map(|record| told(record))
            .collect::<Vec<_>>()
    );
    let beyond = consumer.control.read(of, last..last + 1_000, &key).await;
    assert_eq!(beyond.unwrap().len(), 3, "what is there, and no waiting");
    produce(&log, Topic::Telemetry, 200..210).await;
    assert_eq!(
        take(&mut consumer, 10).await.len(),
        10,
        "the subscription goes on where it was"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_a_group_learns_when_it_has_caught_up() {
    let cluster = cluster();
    let log = KafkaLog::connect(config(&cluster)).unwrap();
    // One key: three partitions stay empty.
    for number in 0..20 {
        let value = number.to_string().into_bytes();
        log.produce(Topic::Acks, b"1", value).await.unwrap();
    }
    let mut reader = log
        .subscribe(subscription(None, &[Topic::Acks]))
        .await
        .unwrap();
    let mut seen = 0;
    let mut caught_up = BTreeSet::new();
    while i32::try_from(caught_up.len()).unwrap() < PARTITIONS {
        match next(&mut reader).await {
            LogEvent::Assigned(partitions) => assert_eq!(partitions.len(), 4),
            LogEvent::Records { records, .. } => seen += records.len(),
            LogEvent::CaughtUp(of) => {
                assert!(caught_up.insert(of), "once a partition");
                if of.partition == partition_of(b"1", 4) {
                    assert_eq!(seen, 20);
                }
            }
            LogEvent::Revoked { .. } => panic!("nobody shares with this reader"),
        }
    }
    log.produce(Topic::Acks, b"1", b"20".to_vec())
        .await
        .unwrap();
    assert_eq!(number(&take(&mut reader, 1).await[0].1), 20);
    let of = TopicPartition {
        topic: Topic::Acks,
        partition: 0,
    };
    assert!(matches!(
        reader.control.commit(vec![(of, 1)]).await,
        Err(LogError::Setup(_))
    ));

    let missing = log.subscribe(subscription(None, &[Topic::Tariffs])).await;
    assert!(
        missing.is_err(),
        "a topic that is not there is said at once"
    );
}

/// The next event of a consumer, once it is there.
async fn of_any(consumer: &mut Option<Consumer>) -> LogEvent {
    match consumer {
        Some(consumer) => next(consumer).await,
        None => std::future::pending().await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_member_gets_whole_partitions_after_the_first_has_let_go() {
    let cluster = cluster();
    let log = KafkaLog::connect(config(&cluster)).unwrap();
    produce(&log, Topic::Telemetry, 0..100).await;
    produce(&log, Topic::Acks, 0..100).await;
    let mine = || subscription(Some("g"), &TOPICS);
    let mut first = log.subscribe(mine()).await.unwrap();
    let mut next_offsets: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (from, record) in take(&mut first, 200).await {
        next_offsets.insert(from, record.offset + 1);
    }

    // The mock refuses commits during a rebalance, which real brokers take.
    let due = next_offsets.iter().map(|(of, offset)| (*of, *offset));
    first.control.commit(due.collect()).await.unwrap();
    let all = TOPICS.into_iter().flat_map(|topic| {
        (0..PARTITIONS).map(move |partition| TopicPartition { topic, partition })
    });
    let mut held: [BTreeSet<TopicPartition>; 2] = [all.collect(), BTreeSet::new()];
    let (mut repeated, mut revoked) = (0, 0);
    // The first must let go before the second has its place.
    let mut joining = std::pin::pin!(log.subscribe(mine()));
    let mut second = None;
    // Nothing is read twice, because the second waits for the first to let go.
    while held[0].len() != 4 || held[1].len() != 4 {
        let (index, event) = tokio::select! {
            joined = &mut joining, if second.is_none() => {
                second = Some(joined.unwrap());
                continue;
            }
            event = next(&mut first) => (0, event),
            event = of_any(&mut second) => (1, event),
        };
        match event {
            LogEvent::Assigned(partitions) => held[index].extend(partitions),
            LogEvent::Revoked { partitions, done } => {
                revoked += partitions.len();
                held[index].retain(|of| !partitions.contains(of));
                done.send(()).unwrap();
            }
            LogEvent::Records { records, .. } => repeated += records.len(),
            LogEvent::CaughtUp(_) => panic!("only without a group"),
        }
    }
    assert_eq!(repeated, 0);
    assert_eq!(revoked, 4, "only what moves is taken away");
    for mine in &held {
        let of = |topic| -> BTreeSet<i32> {
            let ours = mine.iter().filter(|of| of.topic == topic);
            ours.map(|of| of.partition).collect()
        };
        assert_eq!(
            of(Topic::Telemetry),
            of(Topic::Acks),
            "partition p of every topic goes together"
        );
    }
    let lost = *held[1].first().unwrap();
    assert!(
        first.control.commit(vec![(lost, 1)]).await.is_err(),
        "it is the other's"
    );

    drop(first);
    while held[1].len() < 8 {
        match of_any(&mut second).await {
            LogEvent::Assigned(partitions) => held[1].extend(partitions),
            LogEvent::Revoked { .. } => panic!("it keeps what it has"),
            LogEvent::Records { .. } | LogEvent::CaughtUp(_) => panic!("nothing new is there"),
        }
    }
}

/// A member of a group that commits nothing: whatever it is given begins at offset 0.
struct Member {
    consumer: Consumer,
    next_offsets: BTreeMap<TopicPartition, i64>,
}

impl Member {
    async fn join(log: &KafkaLog) -> Self {
        let consumer = log.subscribe(subscription(Some("g"), &TOPICS)).await;
        Self {
            consumer: consumer.unwrap(),
            next_offsets: BTreeMap::new(),
        }
    }

    fn hear(&mut self, event: LogEvent) {
        match event {
            LogEvent::Assigned(partitions) => {
                let begun = partitions.into_iter().map(|of| (of, 0));
                self.next_offsets.extend(begun);
            }
            LogEvent::Records { from, records } => {
                let next = self.next_offsets.get_mut(&from).expect("it is given first");
                for record in records {
                    assert_eq!(record.offset, *next, "{from:?}");
                    *next += 1;
                }
            }
            LogEvent::Revoked { partitions, done } => {
                self.next_offsets.retain(|of, _| !partitions.contains(of));
                done.send(()).unwrap();
            }
            LogEvent::CaughtUp(_) => panic!("only without a group"),
        }
    }

    /// Whether it has `count` partitions, and has read of those that hold something.
    fn has(&self, count: usize) -> bool {
        let mut telemetry = self
            .next_offsets
            .iter()
            .filter(|(of, _)| of.topic == Topic::Telemetry);
        self.next_offsets.len() == count && telemetry.all(|(_, next)| *next > 100)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_given_a_partition_reads_it_without_a_gap() {
    let cluster = cluster();
    let log = KafkaLog::connect(config(&cluster)).unwrap();
    produce(&log, Topic::Telemetry, 0..20_000).await;
    let mut first = Member::join(&log).await;
    while !first.has(8) {
        let event = next(&mut first.consumer).await;
        first.hear(event);
    }
    let mut joining = std::pin::pin!(Member::join(&log));
    // It must let go before the second has its place.
    let mut second = loop {
        tokio::select! {
            second = &mut joining => break second,
            event = next(&mut first.consumer) => first.hear(event),
        }
    };
    while !(first.has(4) && second.has(4)) {
        tokio::select! {
            event = next(&mut first.consumer) => first.hear(event),
            event = next(&mut second.consumer) => second.hear(event),
        }
    }
    drop(second);
    while !first.has(8) {
        let event = next(&mut first.consumer).await;
        first.hear(event);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_survived_by_producer_and_consumer() {
    let cluster = cluster();
    let config = KafkaConfig {
        delivery_timeout_ms: 1_500,
        ..config(&cluster)
    };
    let log = KafkaLog::connect(config).unwrap();
    produce(&log, Topic::Telemetry, 0..10).await;
    let mut consumer = log
        .subscribe(subscription(Some("g"), &[Topic::Telemetry]))
        .await
        .unwrap();
    take(&mut consumer, 10).await;

    cluster.broker_down(1).unwrap();
    let refused = log
        .produce(Topic::Telemetry, b"1", b"10".to_vec())
        .await
        .unwrap_err();
    assert!(matches!(refused, LogError::Unavailable(_)) && refused.is_retryable());
    let unanswered = log.ping().await.unwrap_err();
    assert!(unanswered.is_retryable());

    cluster.broker_up(1).unwrap();
    timeout(LIMIT, async {
        while log
            .produce(Topic::Telemetry, b"1", b"11".to_vec())
            .await
            .is_err()
        {}
    })
    .await
    .unwrap();
    // Nothing was committed, so what came before may come again.
    let is_new = |(_, record): &(TopicPartition, Record)| number(record) >= 10;
    while !take(&mut consumer, 1).await.iter().any(is_new) {}
    log.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_owner_and_paused_partitions_lose_nothing() {
    let cluster = cluster();
    let log = KafkaLog::connect(config(&cluster)).unwrap();
    let mut consumer = log
        .subscribe(subscription(Some("g"), &[Topic::Telemetry]))
        .await
        .unwrap();
    let LogEvent::Assigned(partitions) = next(&mut consumer).await else {
        panic!("first the partitions");
    };
    let paused = *partitions
        .iter()
        .find(|of| of.partition == partition_of(b"0", 4))
        .unwrap();
    consumer.control.pause(paused);
    produce(&log, Topic::Telemetry, 0..5_000).await;
    // Nobody reads while far more comes than may wait.
    let mut taken = Vec::new();
    let elsewhere = (0..5_000_u32)
        .filter(|number| partition_of((number % 7).to_string().as_bytes(), 4) != paused.partition)
        .count();
    while taken.len() < elsewhere {
        assert!(consumer.events.len() <= 16);
        taken.extend(take(&mut consumer, 1).await);
    }
    assert!(taken.iter().all(|(from, _)| *from != paused));
    consumer.control.resume(paused);
    taken.extend(take(&mut consumer, 5_000 - elsewhere).await);
    assert_eq!(taken.len(), 5_000);
    check_order(&taken);
    let batches_are_bounded = next_batch(&log, &mut consumer).await;
    assert!(batches_are_bounded <= 50);
    // The broker's figures come every other second.
    timeout(LIMIT, async {
        while consumer.control.end_offset(paused).is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
}

async fn next_batch(log: &KafkaLog, consumer: &mut Consumer) -> usize {
    produce(log, Topic::Telemetry, 5_000..5_400).await;
    loop {
        if let LogEvent::Records { records, .. } = next(consumer).await {
            return records.len();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_large_is_refused_for_good() {
    let cluster = cluster();
    let log = KafkaLog::connect(config(&cluster)).unwrap();
    let refused = log
        .produce(Topic::Acks, b"1", vec![0; 3 << 20])
        .await
        .unwrap_err();
    assert!(matches!(refused, LogError::Refused(_)), "{refused}");
    assert!(!refused.is_retryable());
}

/// Appends records of one key together.
async fn produce_together(log: &KafkaLog, numbers: std::ops::Range<u32>) -> Vec<(usize, LogError)> {
    let values: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let records: Vec<NewRecord<'_>> = values
        .iter()
        .map(|value| NewRecord {
            topic: Topic::Telemetry,
            key: b"1",
            value: value.as_bytes(),
            trace: None,
        })
        .collect();
    log.produce_all(&records, LIMIT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_records_given_together_each_failure_is_named() {
    let cluster = cluster();
    // Closing waits as long for what is not delivered.
    let config = KafkaConfig {
        delivery_timeout_ms: 1_500,
        ..config(&cluster)
    };
    let log = KafkaLog::connect(config).unwrap();
    let large = vec![0; 3 << 20];
    let record = |topic, value| NewRecord {
        topic,
        key: b"1",
        value,
        trace: None,
    };
    let records = [
        record(Topic::Telemetry, b"0".as_slice()),
        record(Topic::Telemetry, large.as_slice()),
        record(Topic::Acks, b"2"),
        record(Topic::Acks, large.as_slice()),
        record(Topic::Telemetry, b"4"),
    ];
    let failed = log.produce_all(&records, LIMIT).await;
    let [(1, LogError::Refused(_)), (3, LogError::Refused(_))] = failed.as_slice() else {
        panic!("{failed:?}")
    };
    assert!(log.produce_all(&[], LIMIT).await.is_empty());
    let mut consumer = log.subscribe(subscription(None, &TOPICS)).await.unwrap();
    let mut taken: Vec<u32> = take(&mut consumer, 3)
        .await
        .iter()
        .map(|(_, record)| number(record))
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [0, 2, 4]);

    cluster.broker_down(1).unwrap();
    let begun = std::time::Instant::now();
    let limit = Duration::from_millis(300);
    let unanswered = log.produce_all(&records[..1], limit).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    let [(0, LogError::Unavailable(_))] = unanswered.as_slice() else {
        panic!("{unanswered:?}")
    };
    log.close().await;
    let closed = log.produce_all(&records[..2], LIMIT).await;
    let [(0, LogError::Closed), (1, LogError::Closed)] = closed.as_slice() else {
        panic!("{closed:?}")
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_waited_for_and_nobody_goes_first() {
    // Together more than librdkafka's queue holds.
    const EACH: u32 = 60_000;
    let cluster = cluster();
    let config = KafkaConfig {
        delivery_timeout_ms: 60_000,
        ..config(&cluster)
    };
    let log = KafkaLog::connect(config).unwrap();
    produce(&log, Topic::Telemetry, 0..1).await;
    cluster.broker_down(1).unwrap();
    let mut producing: FuturesOrdered<_> = [1..EACH, EACH..2 * EACH, 2 * EACH..2 * EACH + 10]
        .into_iter()
        .map(|numbers| produce_together(&log, numbers))
        .collect();
    let early = timeout(Duration::from_millis(500), producing.next()).await;
    assert!(early.is_err(), "nothing can be durable: {early:?}");
    cluster.broker_up(1).unwrap();
    while let Some(failed) = producing.next().await {
        assert!(failed.is_empty(), "{failed:?}");
    }
    drop(producing);
    let mut consumer = log
        .subscribe(subscription(None, &[Topic::Telemetry]))
        .await
        .unwrap();
    let taken = take(&mut consumer, usize::try_from(2 * EACH + 10).unwrap()).await;
    let of_key = partition_of(b"1", u32::try_from(PARTITIONS).unwrap());
    let numbers: Vec<u32> = taken
        .iter()
        .filter(|(from, record)| from.partition == of_key && number(record) > 0)
        .map(|(_, record)| number(record))
        .collect();
    assert!(numbers.is_sorted() && numbers.len() == usize::try_from(2 * EACH + 9).unwrap());
}

#[test]
fn a_setting_that_librdkafka_does_not_know_is_an_error_of_setup() {
    let config = KafkaConfig {
        properties: [("no.such.property".to_owned(), "1".to_owned())].into(),
        ..KafkaConfig::default()
    };
    let error = KafkaLog::connect(config).unwrap_err();
    assert!(
        matches!(&error, LogError::Setup(reason) if reason.contains("no.such.property")),
        "{error}"
    );
}
