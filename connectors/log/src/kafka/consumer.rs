//! Opens a consumer: its settings, its group or partitions, and its thread.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::topic::Topic;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use super::brokers::Brokers;
use super::config::KafkaConfig;
use super::failures::{classify, setup};
use super::headers;
use super::poller::Poller;
use super::shared::{Events, Shared};
use platform::log::{
    Consumer, ConsumerControl, LogError, Record, Start, Subscription, TopicPartition,
};

/// Events that wait for the owner.
const EVENTS_MAX: usize = 16;
/// Longest wait for a place in the group, for which every member must answer.
const JOIN_MAX: Duration = Duration::from_secs(10);
const METADATA_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two polls while records are read again, and the longest time without any of them.
const POLL_EVERY: Duration = Duration::from_millis(100);
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The control that the owner gets. It does not keep the consumer in its group.
struct Control {
    consumer: Weak<BaseConsumer<Events>>,
    shared: Arc<Shared>,
    group: Option<String>,
    /// Settings of a consumer without a group, which reads records again.
    aside: ClientConfig,
}

#[async_trait::async_trait]
impl ConsumerControl for Control {
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        let Some(group) = &self.group else {
            let reason = "a consumer without a group commits nowhere".to_owned();
            return Err(LogError::Setup(reason));
        };
        let consumer = self.consumer.upgrade().ok_or(LogError::Closed)?;
        let owned = self.shared.owned();
        let mut list = TopicPartitionList::new();
        for (of, offset) in next_offsets {
            if !owned.contains(&of) {
                let (topic, partition) = (of.topic, of.partition);
                let reason = format!("partition {partition} of {topic} is no longer {group}'s");
                return Err(LogError::Refused(reason));
            }
            let name = self.shared.name(of.topic);
            list.add_partition_offset(&name, of.partition, Offset::Offset(offset))
                .map_err(|error| setup(&error))?;
        }
        let committing =
            tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync));
        let committed = timeout(self.shared.patience, committing)
            .await
            .map_err(|_| LogError::Unavailable("the commit was not answered in time".to_owned()))?
            .map_err(|error| LogError::Unavailable(error.to_string()))?;
        committed.map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::FencedInstanceId) => LogError::Refused(error.to_string()),
            // Also if the generation is over. During a rebalance that happens even for partitions that stay with us;
            // those that do not are revoked.
            _ => LogError::Unavailable(error.to_string()),
        })
    }

    fn pause(&self, partition: TopicPartition) {
        self.shared.pause(partition);
    }

    fn resume(&self, partition: TopicPartition) {
        self.shared.resume(partition);
    }

    fn end_offset(&self, partition: TopicPartition) -> Option<i64> {
        self.shared.end_offset(partition)
    }

    fn revoke_patience(&self) -> Duration {
        self.shared.patience
    }

    async fn read(
        &self,
        partition: TopicPartition,
        offsets: Range<i64>,
        key: &[u8],
    ) -> Result<Vec<Record>, LogError> {
        let (aside, name) = (self.aside.clone(), self.shared.name(partition.topic));
        let key = key.to_vec();
        let reading = tokio::task::spawn_blocking(move || {
            read(&aside, &name, partition.partition, &offsets, &key)
        });
        reading
            .await
            .map_err(|error| LogError::Unavailable(error.to_string()))?
    }

    async fn committed(&self, partition: TopicPartition) -> Result<Option<i64>, LogError> {
        let name = self.shared.name(partition.topic);
        self.ask(move |consumer| {
            let mut list = TopicPartitionList::new();
            list.add_partition(&name, partition.partition);
            let committed = consumer.committed_offsets(list, METADATA_LIMIT)?;
            let of = committed.find_partition(&name, partition.partition);
            Ok(match of.map(|of| of.offset()) {
                Some(Offset::Offset(offset)) => Some(offset),
                _ => None,
            })
        })
        .await
    }

    async fn offsets_now(&self, partition: TopicPartition) -> Result<Range<i64>, LogError> {
        let name = self.shared.name(partition.topic);
        self.ask(move |consumer| {
            let (first, end) =
                consumer.fetch_watermarks(&name, partition.partition, METADATA_LIMIT)?;
            Ok(first..end)
        })
        .await
    }

    async fn is_unread_and_whole(&self, partitions: &[TopicPartition]) -> Result<bool, LogError> {
        let names = partitions.iter();
        let names: Vec<(String, i32)> = names
            .map(|of| (self.shared.name(of.topic), of.partition))
            .collect();
        self.ask(move |consumer| {
            let mut list = TopicPartitionList::new();
            for (name, partition) in &names {
                list.add_partition(name, *partition);
            }
            let committed = consumer.committed_offsets(list, METADATA_LIMIT)?;
            for element in committed.elements() {
                if matches!(element.offset(), Offset::Offset(_)) {
                    return Ok(false);
                }
            }
            for (name, partition) in &names {
                let (first, _) = consumer.fetch_watermarks(name, *partition, METADATA_LIMIT)?;
                if first > 0 {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }
}

impl Control {
    /// Asks the brokers a question, on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Events>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, LogError> {
        let consumer = self.consumer.upgrade().ok_or(LogError::Closed)?;
        let asked = tokio::task::spawn_blocking(move || question(&consumer));
        let answer = asked
            .await
            .map_err(|error| LogError::Unavailable(error.to_string()))?;
        answer.map_err(|error| classify(&error))
    }
}

/// Reads the records of `key` within `offsets`, with a separate consumer.
fn read(
    aside: &ClientConfig,
    name: &str,
    partition: i32,
    offsets: &Range<i64>,
    key: &[u8],
) -> Result<Vec<Record>, LogError> {
    let consumer: BaseConsumer = aside.create().map_err(|error| setup(&error))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(name, partition, Offset::Offset(offsets.start))
        .and_then(|()| consumer.assign(&list))
        .map_err(|error| setup(&error))?;
    let (mut records, mut heard) = (Vec::new(), Instant::now());
    loop {
        let next = match consumer.poll(POLL_EVERY) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let is_wanted = message.key() == Some(key) && message.offset() < offsets.end;
                records.extend(is_wanted.then(|| record(&message)));
                message.offset() + 1
            }
            // There may be no record up to the end.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
            Some(Err(reason)) => return Err(classify(&reason)),
            None if heard.elapsed() > SILENCE_MAX => return Err(LogError::no_answer()),
            None => offsets.start,
        };
        if next >= offsets.end {
            return Ok(records);
        }
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key().map(Bytes::copy_from_slice),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        trace: headers::trace(message),
    }
}

/// Starts a consumer and its thread. The thread ends when the consumer is dropped or the log closes.
pub(super) async fn start(
    config: &KafkaConfig,
    subscription: Subscription,
    closing: Arc<AtomicBool>,
    brokers: &Arc<Brokers>,
) -> Result<(Consumer, JoinHandle<()>), LogError> {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let patience = Duration::from_millis(u64::from(config.session_timeout_ms) * 3 / 4);
    let followers = match &subscription.group {
        Some(_) => subscription.topics.iter().skip(1).copied().collect(),
        None => Vec::new(),
    };
    let shared = Shared::new(
        config.prefix.clone(),
        followers,
        sender,
        patience,
        closing,
        Arc::clone(brokers),
    );
    let shared = Arc::new(shared);
    let mut consumer: BaseConsumer<Events> = settings(config, &subscription)
        .create_with_context(Events(Arc::clone(&shared)))
        .map_err(|error| setup(&error))?;
    let wake = Arc::clone(&shared.wake);
    consumer.set_nonempty_callback(move || wake.ring());
    let consumer = Arc::new(consumer);
    let control = Arc::new(Control {
        consumer: Arc::downgrade(&consumer),
        shared: Arc::clone(&shared),
        group: subscription.group.clone(),
        aside: settings(
            config,
            &Subscription {
                group: None,
                member: None,
                ..subscription.clone()
            },
        ),
    });
    let is_member = subscription.group.is_some();
    let theirs = Arc::clone(&shared);
    let begun = tokio::task::spawn_blocking(move || begin(consumer, theirs, &subscription));
    let poller = begun
        .await
        .map_err(|error| LogError::Unavailable(error.to_string()))??;
    let thread = std::thread::Builder::new()
        .name("kafka-consumer".to_owned())
        .spawn(move || poller.run())
        .map_err(|error| LogError::Unavailable(error.to_string()))?;
    // Wait for a place before reporting ready: a rolling update stops the next member only then.
    if is_member && timeout(JOIN_MAX, shared.joined.notified()).await.is_err() {
        warn!("the group has no place yet, going on without waiting");
    }
    Ok((Consumer { events, control }, thread))
}

fn settings(config: &KafkaConfig, subscription: &Subscription) -> ClientConfig {
    let mut client = config.client();
    // librdkafka wants a group name even if no group is joined.
    let group = subscription.group.as_deref().unwrap_or("without-a-group");
    let start = match subscription.start {
        Start::Earliest => "earliest",
        Start::Latest => "latest",
    };
    let alone = subscription.group.is_none();
    // Members learn of a rebalance with their next heartbeat, and all wait for the last one. A moving partition stands
    // still for about that long.
    let heartbeat_ms = (config.session_timeout_ms / 10).clamp(100, 250);
    client
        .set("group.id", format!("{}{group}", config.prefix))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", start)
        // Only the partitions that must move stop; the others go on.
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", config.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", heartbeat_ms.to_string())
        .set("max.poll.interval.ms", "600000")
        .set("enable.partition.eof", if alone { "true" } else { "false" })
        .set("statistics.interval.ms", "2000")
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "32768")
        // The default is a second, a noticeable delay each time a full queue has room again.
        .set("fetch.queue.backoff.ms", "20")
        .set("fetch.wait.max.ms", "100");
    if let Some(member) = &subscription.member {
        client.set("group.instance.id", member);
    }
    client
}

/// Joins the group, or assigns every partition if there is no group.
fn begin(
    consumer: Arc<BaseConsumer<Events>>,
    shared: Arc<Shared>,
    subscription: &Subscription,
) -> Result<Poller, LogError> {
    let batch_max = subscription.batch_max;
    let partitions = partitions(&consumer, &shared, subscription)?;
    if subscription.group.is_some() {
        let of = |topic: &Topic| partitions.iter().filter(|of| of.topic == *topic).count();
        let mut topics = subscription.topics.iter();
        let lead = topics
            .next()
            .ok_or_else(|| LogError::Setup("a group without a topic".to_owned()))?;
        for topic in topics {
            if of(topic) != of(lead) {
                let (a, b) = (of(lead), of(topic));
                let reason =
                    format!("{lead} has {a} partitions and {topic} {b}; both must have as many");
                return Err(LogError::Setup(reason));
            }
        }
        let lead = shared.name(*lead);
        consumer
            .subscribe(&[&lead])
            .map_err(|error| setup(&error))?;
        return Ok(Poller::new(consumer, shared, batch_max, None, Some(lead)));
    }
    let offset = match subscription.start {
        Start::Earliest => Offset::Beginning,
        Start::Latest => Offset::End,
    };
    let mut list = TopicPartitionList::new();
    for of in &partitions {
        list.add_partition_offset(&shared.name(of.topic), of.partition, offset)
            .map_err(|error| setup(&error))?;
    }
    shared.assign(partitions.iter().copied().collect());
    let catching_up = Some(partitions);
    let mut poller = Poller::new(Arc::clone(&consumer), shared, batch_max, catching_up, None);
    // Each partition needs its queue before anything is fetched, or the end of an empty one could be missed.
    poller.follow_assignment();
    consumer.assign(&list).map_err(|error| setup(&error))?;
    Ok(poller)
}

/// Returns every partition of the subscribed topics.
fn partitions(
    consumer: &BaseConsumer<Events>,
    shared: &Shared,
    subscription: &Subscription,
) -> Result<BTreeSet<TopicPartition>, LogError> {
    let mut partitions = BTreeSet::new();
    for topic in &subscription.topics {
        let name = shared.name(*topic);
        let metadata = consumer
            .fetch_metadata(Some(&name), METADATA_LIMIT)
            .map_err(|error| classify(&error))?;
        let found = metadata.topics().first();
        let count = found.map_or(0, |found| found.partitions().len());
        if count == 0 {
            let reason = format!("topic {name} does not exist, run hearth init");
            return Err(LogError::Setup(reason));
        }
        for partition in 0..i32::try_from(count).expect("a topic's partitions fit") {
            let topic = *topic;
            partitions.insert(TopicPartition { topic, partition });
        }
    }
    Ok(partitions)
}
