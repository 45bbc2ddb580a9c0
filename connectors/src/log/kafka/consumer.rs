//! A consumer has a thread of its own that polls, so that heartbeats and rebalances go on while the owner is busy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};
use schemas::topic::Topic;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use super::{KafkaConfig, LogError, classify, setup};
use crate::log::{
    Consumer, ConsumerControl, LogEvent, Record, Start, Subscription, TopicPartition,
};

/// Events that wait for the owner.
const EVENTS_MAX: usize = 16;
/// Batches that wait in the polling thread before fetching is paused.
const PENDING_MAX: usize = 8;
const POLL: Duration = Duration::from_millis(50);
const NAP: Duration = Duration::from_millis(2);
const METADATA_LIMIT: Duration = Duration::from_secs(10);

struct Shared {
    prefix: String,
    sender: mpsc::Sender<LogEvent>,
    owned: Mutex<BTreeSet<TopicPartition>>,
    pending: Mutex<VecDeque<LogEvent>>,
    ends: Mutex<BTreeMap<TopicPartition, i64>>,
    paused: Mutex<BTreeSet<TopicPartition>>,
    patience: Duration,
}

struct Events(Arc<Shared>);

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                warn!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(target: "librdkafka", facility, "{message}");
            }
        }
    }

    fn stats(&self, statistics: Statistics) {
        let mut ends = self.0.ends.lock().expect("no holder panics");
        for (name, topic) in &statistics.topics {
            let Some(topic_of) = self.0.topic(name) else {
                continue;
            };
            for (number, partition) in &topic.partitions {
                if *number >= 0 && partition.hi_offset >= 0 {
                    let of = TopicPartition {
                        topic: topic_of,
                        partition: *number,
                    };
                    ends.insert(of, partition.hi_offset);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        warn!(target: "librdkafka", %error, reason, "kafka");
    }
}

impl ConsumerContext for Events {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => self.0.revoke(self.0.partitions(list)),
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => warn!(%error, "rebalance"),
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.0.assign(self.0.partitions(list)),
            Rebalance::Revoke(_) | Rebalance::Error(_) => {}
        }
    }
}

impl Shared {
    fn topic(&self, name: &str) -> Option<Topic> {
        Topic::parse(name.strip_prefix(&self.prefix)?)
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        let elements = list.elements();
        let ours = elements.iter().filter_map(|element| {
            Some(TopicPartition {
                topic: self.topic(element.topic())?,
                partition: element.partition(),
            })
        });
        ours.collect()
    }

    fn list(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for of in partitions {
            list.add_partition(&format!("{}{}", self.prefix, of.topic), of.partition);
        }
        list
    }

    fn assign(&self, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        self.owned
            .lock()
            .expect("no holder panics")
            .extend(partitions.iter().copied());
        self.pending
            .lock()
            .expect("no holder panics")
            .push_back(LogEvent::Assigned(partitions));
    }

    /// Tells the owner and waits until it has let go, at most for the patience.
    fn revoke(&self, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        let deadline = Instant::now() + self.patience;
        let gone: BTreeSet<TopicPartition> = partitions.iter().copied().collect();
        // What the owner has not seen is the next owner's.
        self.pending
            .lock()
            .expect("no holder panics")
            .retain(|event| match event {
                LogEvent::Records { from, .. } => !gone.contains(from),
                LogEvent::Assigned(_) | LogEvent::Revoked { .. } | LogEvent::CaughtUp(_) => true,
            });
        self.hand_over_until(deadline);
        let (done, mut left) = oneshot::channel();
        let mut event = LogEvent::Revoked { partitions, done };
        loop {
            match self.sender.try_send(event) {
                Ok(()) => break,
                Err(TrySendError::Closed(_)) => return self.disown(&gone),
                Err(TrySendError::Full(back)) => event = back,
            }
            if Instant::now() >= deadline {
                warn!("the owner of revoked partitions does not listen");
                return self.disown(&gone);
            }
            std::thread::sleep(NAP);
        }
        while left.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            if Instant::now() >= deadline {
                warn!("the owner of revoked partitions does not let go");
                break;
            }
            std::thread::sleep(NAP);
        }
        self.disown(&gone);
    }

    fn disown(&self, gone: &BTreeSet<TopicPartition>) {
        self.owned
            .lock()
            .expect("no holder panics")
            .retain(|of| !gone.contains(of));
        self.paused
            .lock()
            .expect("no holder panics")
            .retain(|of| !gone.contains(of));
    }

    /// Hands pending events over; false while some must wait.
    fn hand_over(&self) -> bool {
        let mut pending = self.pending.lock().expect("no holder panics");
        while let Some(event) = pending.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    pending.push_front(event);
                    return false;
                }
                Err(TrySendError::Closed(_)) => return true,
            }
        }
        true
    }

    fn hand_over_until(&self, deadline: Instant) {
        while !self.hand_over() && Instant::now() < deadline {
            std::thread::sleep(NAP);
        }
    }
}

struct Control {
    consumer: Arc<BaseConsumer<Events>>,
    shared: Arc<Shared>,
}

#[async_trait::async_trait]
impl ConsumerControl for Control {
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        {
            let owned = self.shared.owned.lock().expect("no holder panics");
            for (of, offset) in &next_offsets {
                if !owned.contains(of) {
                    let reason = format!("partition {} of {} is not ours", of.partition, of.topic);
                    return Err(LogError::Setup(reason));
                }
                let name = format!("{}{}", self.shared.prefix, of.topic);
                list.add_partition_offset(&name, of.partition, Offset::Offset(*offset))
                    .map_err(|error| setup(&error))?;
            }
        }
        let consumer = Arc::clone(&self.consumer);
        let committed =
            tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync)).await;
        match committed.map_err(|error| LogError::Unavailable(error.to_string()))? {
            Ok(()) => Ok(()),
            Err(error) => Err(match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::FencedInstanceId,
                ) => LogError::Setup(error.to_string()),
                _ => LogError::Unavailable(error.to_string()),
            }),
        }
    }

    fn pause(&self, partition: TopicPartition) {
        self.shared
            .paused
            .lock()
            .expect("no holder panics")
            .insert(partition);
        if let Err(error) = self.consumer.pause(&self.shared.list([partition])) {
            warn!(%error, "pause a partition");
        }
    }

    fn resume(&self, partition: TopicPartition) {
        self.shared
            .paused
            .lock()
            .expect("no holder panics")
            .remove(&partition);
        if let Err(error) = self.consumer.resume(&self.shared.list([partition])) {
            warn!(%error, "resume a partition");
        }
    }

    fn end_offset(&self, partition: TopicPartition) -> Option<i64> {
        self.shared
            .ends
            .lock()
            .expect("no holder panics")
            .get(&partition)
            .copied()
    }

    async fn offsets_now(&self, partition: TopicPartition) -> Result<Range<i64>, LogError> {
        let consumer = Arc::clone(&self.consumer);
        let name = format!("{}{}", self.shared.prefix, partition.topic);
        let asked = tokio::task::spawn_blocking(move || {
            consumer.fetch_watermarks(&name, partition.partition, METADATA_LIMIT)
        });
        match asked.await {
            Ok(Ok((first, end))) => Ok(first..end),
            Ok(Err(error)) => Err(classify(&error)),
            Err(error) => Err(LogError::Unavailable(error.to_string())),
        }
    }
}

/// Starts a consumer and its thread. The thread ends when the consumer is dropped.
pub(super) async fn start(
    config: &KafkaConfig,
    subscription: Subscription,
) -> Result<(Consumer, std::thread::JoinHandle<()>), LogError> {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let shared = Arc::new(Shared {
        prefix: config.prefix.clone(),
        sender,
        owned: Mutex::default(),
        pending: Mutex::default(),
        ends: Mutex::default(),
        paused: Mutex::default(),
        patience: Duration::from_millis(u64::from(config.session_timeout_ms) * 3 / 4),
    });
    let mut client = config.client();
    let group = subscription.group.as_deref().unwrap_or("without-a-group");
    client
        .set("group.id", format!("{}{group}", config.prefix))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set(
            "auto.offset.reset",
            match subscription.start {
                Start::Earliest => "earliest",
                Start::Latest => "latest",
            },
        )
        // Partition p of every topic goes to the same member.
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", config.session_timeout_ms.to_string())
        .set("max.poll.interval.ms", "600000")
        .set(
            "enable.partition.eof",
            if subscription.group.is_none() {
                "true"
            } else {
                "false"
            },
        )
        .set("statistics.interval.ms", "2000")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.wait.max.ms", "100");
    if let Some(member) = &subscription.member {
        client.set("group.instance.id", member);
    }
    let consumer: BaseConsumer<Events> = client
        .create_with_context(Events(Arc::clone(&shared)))
        .map_err(|error| setup(&error))?;
    let consumer = Arc::new(consumer);
    let polled = Arc::clone(&consumer);
    let owner = Arc::clone(&shared);
    let begun = tokio::task::spawn_blocking(move || {
        begin(&polled, &owner, &subscription).map(|()| subscription)
    });
    let subscription = begun
        .await
        .map_err(|error| LogError::Unavailable(error.to_string()))??;
    let control = Arc::new(Control {
        consumer: Arc::clone(&consumer),
        shared: Arc::clone(&shared),
    });
    let thread = std::thread::Builder::new()
        .name("kafka-consumer".to_owned())
        .spawn(move || Poller::run(&consumer, &shared, &subscription))
        .map_err(|error| LogError::Unavailable(error.to_string()))?;
    Ok((Consumer { events, control }, thread))
}

/// Joins the group, or takes every partition where there is none.
fn begin(
    consumer: &BaseConsumer<Events>,
    shared: &Shared,
    subscription: &Subscription,
) -> Result<(), LogError> {
    let names: Vec<String> = subscription
        .topics
        .iter()
        .map(|topic| format!("{}{topic}", shared.prefix))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if subscription.group.is_some() {
        return consumer.subscribe(&names).map_err(|error| setup(&error));
    }
    let [topic] = subscription.topics[..] else {
        return Err(LogError::Setup(
            "without a group a consumer reads one topic".to_owned(),
        ));
    };
    let metadata = consumer
        .fetch_metadata(Some(names[0]), METADATA_LIMIT)
        .map_err(|error| classify(&error))?;
    let count = metadata
        .topics()
        .first()
        .map_or(0, |found| found.partitions().len());
    if count == 0 {
        return Err(LogError::Setup(format!(
            "there is no topic {}, run hearth init",
            names[0]
        )));
    }
    let offset = match subscription.start {
        Start::Earliest => Offset::Beginning,
        Start::Latest => Offset::End,
    };
    let mut list = TopicPartitionList::new();
    let mut partitions = Vec::new();
    for partition in 0..i32::try_from(count).expect("a topic's partitions fit") {
        list.add_partition_offset(names[0], partition, offset)
            .map_err(|error| setup(&error))?;
        partitions.push(TopicPartition { topic, partition });
    }
    consumer.assign(&list).map_err(|error| setup(&error))?;
    shared.assign(partitions);
    Ok(())
}

struct Poller<'p> {
    consumer: &'p BaseConsumer<Events>,
    shared: &'p Shared,
    subscription: &'p Subscription,
    batches: BTreeMap<TopicPartition, Vec<Record>>,
    batched_count: usize,
    caught_up: BTreeSet<TopicPartition>,
    held: bool,
}

impl<'p> Poller<'p> {
    fn run(consumer: &'p BaseConsumer<Events>, shared: &'p Shared, subscription: &'p Subscription) {
        let mut poller = Self {
            consumer,
            shared,
            subscription,
            batches: BTreeMap::new(),
            batched_count: 0,
            caught_up: BTreeSet::new(),
            held: false,
        };
        while !shared.sender.is_closed() {
            poller.turn();
        }
        consumer.unsubscribe();
        info!("left the log");
    }

    fn turn(&mut self) {
        let wait = if self.batched_count > 0 {
            Duration::ZERO
        } else {
            POLL
        };
        match self.consumer.poll(wait) {
            Some(Ok(message)) => self.keep(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => self.reached_end(partition),
            // librdkafka goes on by itself; what it cannot mend shows again.
            Some(Err(error)) => warn!(%error, "poll"),
            None => self.flush(),
        }
        if self.batched_count >= self.subscription.batch_max {
            self.flush();
        }
        let all_handed_over = self.shared.hand_over();
        let pending_count = self.shared.pending.lock().expect("no holder panics").len();
        if !self.held && pending_count > PENDING_MAX {
            self.hold(true);
        } else if self.held && all_handed_over {
            self.hold(false);
        } else if !all_handed_over && !self.held {
            std::thread::sleep(NAP);
        }
    }

    fn keep(&mut self, message: &BorrowedMessage<'_>) {
        let Some(topic) = self.shared.topic(message.topic()) else {
            return;
        };
        let from = TopicPartition {
            topic,
            partition: message.partition(),
        };
        self.batches.entry(from).or_default().push(Record {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(bytes::Bytes::copy_from_slice),
            value: message
                .payload()
                .map(bytes::Bytes::copy_from_slice)
                .unwrap_or_default(),
        });
        self.batched_count += 1;
    }

    fn flush(&mut self) {
        if self.batched_count == 0 {
            return;
        }
        let owned = self.shared.owned.lock().expect("no holder panics").clone();
        let mut pending = self.shared.pending.lock().expect("no holder panics");
        for (from, records) in std::mem::take(&mut self.batches) {
            // Revoked between the poll and now: the next owner reads them.
            if owned.contains(&from) {
                pending.push_back(LogEvent::Records { from, records });
            }
        }
        self.batched_count = 0;
    }

    fn reached_end(&mut self, partition: i32) {
        self.flush();
        if let [topic] = self.subscription.topics[..] {
            let of = TopicPartition { topic, partition };
            if self.caught_up.insert(of) {
                let mut pending = self.shared.pending.lock().expect("no holder panics");
                pending.push_back(LogEvent::CaughtUp(of));
            }
        }
    }

    /// Stops or resumes fetching; polling goes on either way.
    fn hold(&mut self, held: bool) {
        let owned = self.shared.owned.lock().expect("no holder panics").clone();
        let paused = self.shared.paused.lock().expect("no holder panics").clone();
        let list = self
            .shared
            .list(owned.into_iter().filter(|of| !paused.contains(of)));
        let outcome = if held {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        if let Err(error) = outcome {
            warn!(%error, held, "hold the fetching");
        }
        self.held = held;
    }
}
