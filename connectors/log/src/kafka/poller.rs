//! The thread of one consumer. It always serves rebalances, but takes records out of librdkafka's queues (one for each
//! partition) only while the owner has room. So a slow owner stops fetching but never the heartbeat.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::mpsc::error::TrySendError;
use tracing::{debug, error};

use super::headers;
use super::shared::{Events, NAP, Shared};
use platform::log::{LogEvent, Record, TopicPartition};
use platform::trace::TraceContext;

/// Longest pause between two polls for rebalances and errors.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Events served before records are looked at again.
const SERVED_MAX: usize = 16;
/// How long another rebalance is expected after one, and how often the broker is asked meanwhile.
const HASTY_FOR: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for its answer.
const ANSWER_MAX: Duration = Duration::from_millis(200);
/// Approximate size of a batch.
const BATCH_BYTES_MAX: usize = 4 << 20;

pub(super) struct Poller {
    consumer: Arc<BaseConsumer<Events>>,
    shared: Arc<Shared>,
    batch_max: usize,
    queues: BTreeMap<TopicPartition, PartitionQueue<Events>>,
    /// Partitions that have not reached their end yet; `None` for a member of a group.
    catching_up: Option<BTreeSet<TopicPartition>>,
    /// Name of the topic whose partitions the group shares; `None` without a group.
    lead: Option<String>,
    /// Until when the broker is asked for that topic, and when next.
    hasty_until: Instant,
    ask_at: Instant,
    /// Which partition is read first; it rotates, so that none is starved.
    first: usize,
}

/// The result of one pass over all queues.
enum Turn {
    Busy,
    Idle,
    /// The owner has no room.
    Full,
}

/// A fatal error, after which librdkafka does not continue.
struct Fatal(String);

/// Records that share one buffer.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    records: Vec<BatchRecord>,
}

struct BatchRecord {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Range<usize>>,
    value: Range<usize>,
    trace: Option<TraceContext>,
}

impl Poller {
    pub(super) fn new(
        consumer: Arc<BaseConsumer<Events>>,
        shared: Arc<Shared>,
        batch_max: usize,
        catching_up: Option<BTreeSet<TopicPartition>>,
        lead: Option<String>,
    ) -> Self {
        Self {
            consumer,
            shared,
            batch_max: batch_max.max(1),
            queues: BTreeMap::new(),
            catching_up,
            lead,
            hasty_until: Instant::now() + HASTY_FOR,
            ask_at: Instant::now(),
            first: 0,
        }
    }

    /// Runs until the owner drops its consumer, the log closes, or librdkafka gives up.
    pub(super) fn run(mut self) {
        while !self.shared.is_over() {
            match self.turn() {
                Ok(Turn::Busy) => {}
                Ok(Turn::Idle) => self.shared.wake.wait(POLL_EVERY),
                Ok(Turn::Full) => std::thread::sleep(NAP),
                Err(Fatal(reason)) => {
                    error!(%reason, "the subscription failed for good");
                    break;
                }
            }
        }
        self.leave();
    }

    fn turn(&mut self) -> Result<Turn, Fatal> {
        self.serve()?;
        self.take_given();
        self.follow_assignment();
        self.hasten_joins();
        if !self.shared.hand_over() {
            return Ok(Turn::Full);
        }
        let partitions: Vec<TopicPartition> = self.queues.keys().copied().collect();
        let count = partitions.len().max(1);
        let mut turn = Turn::Idle;
        for step in 0..partitions.len() {
            let of = partitions[(self.first + step) % count];
            if self.shared.is_paused(of) {
                continue;
            }
            let Some(sender) = self.shared.sender() else {
                return Ok(Turn::Idle);
            };
            let room = match sender.try_reserve() {
                Ok(room) => room,
                Err(TrySendError::Full(())) => {
                    self.first = (self.first + step) % count;
                    return Ok(Turn::Full);
                }
                Err(TrySendError::Closed(())) => return Ok(Turn::Idle),
            };
            let (batch, at_end) = self.take(of)?;
            if !batch.records.is_empty() {
                turn = Turn::Busy;
                let records = batch.into_records();
                room.send(LogEvent::Records { from: of, records });
            }
            let caught_up = |behind: &mut BTreeSet<TopicPartition>| behind.remove(&of);
            if at_end && self.catching_up.as_mut().is_some_and(caught_up) {
                turn = Turn::Busy;
                self.shared.say(LogEvent::CaughtUp(of));
            }
        }
        self.first = (self.first + 1) % count;
        Ok(turn)
    }

    /// Lets librdkafka call its callbacks: rebalances, errors, statistics.
    fn serve(&self) -> Result<(), Fatal> {
        // A poll that served a callback looks like one that found nothing.
        for _ in 0..SERVED_MAX {
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Ok(message)) => {
                    let (topic, partition) = (message.topic(), message.partition());
                    // If it were skipped, it would be lost once a later one is committed.
                    return Err(Fatal(format!(
                        "a record of {topic}, partition {partition}, came outside its queue"
                    )));
                }
                Some(Err(reason)) => self.noted(&reason)?,
            }
        }
        Ok(())
    }

    /// Takes the partitions that a rebalance assigned. Each gets its queue before anything is fetched; records that came
    /// through the main queue would be out of order.
    fn take_given(&mut self) {
        let Some(partitions) = self.shared.given() else {
            return;
        };
        let list = self.shared.list(&partitions);
        self.shared.assign(partitions);
        self.follow_assignment();
        if let Err(reason) = self.consumer.incremental_assign(&list) {
            error!(%reason, "assigned partitions cannot be taken");
        }
    }

    /// Makes librdkafka rejoin quickly. It joins a group at most once a second, unless it has fetched metadata of a topic
    /// since. A rebalance that moves partitions is followed by another, and these stand still until every member joined.
    fn hasten_joins(&mut self) {
        let Some(lead) = &self.lead else { return };
        let now = Instant::now();
        if self.shared.rebalanced.swap(false, Ordering::Relaxed) {
            self.hasty_until = now + HASTY_FOR;
        }
        if now < self.hasty_until && now >= self.ask_at {
            if let Err(reason) = self.consumer.fetch_metadata(Some(lead), ANSWER_MAX) {
                debug!(%reason, "the next rebalance may take a second longer");
            }
            self.ask_at = Instant::now() + ASK_EVERY;
        }
    }

    /// Gives each assigned partition its own queue.
    pub(super) fn follow_assignment(&mut self) {
        let owned = self.shared.owned();
        self.queues.retain(|of, _| owned.contains(of));
        for of in owned {
            if !self.queues.contains_key(&of) {
                let name = self.shared.name(of.topic);
                let Some(mut queue) = self.consumer.split_partition_queue(&name, of.partition)
                else {
                    continue;
                };
                let wake = Arc::clone(&self.shared.wake);
                queue.set_nonempty_callback(move || wake.ring());
                self.queues.insert(of, queue);
            }
        }
    }

    /// Takes one batch of a partition; also returns whether its end was reached.
    fn take(&mut self, of: TopicPartition) -> Result<(Batch, bool), Fatal> {
        let mut batch = Batch::default();
        let Some(queue) = self.queues.get(&of) else {
            return Ok((batch, false));
        };
        while batch.records.len() < self.batch_max && batch.bytes.len() < BATCH_BYTES_MAX {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    self.shared.brokers.heard();
                    batch.push(&message);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok((batch, true)),
                Some(Err(reason)) => self.noted(&reason)?,
                None => break,
            }
        }
        Ok((batch, false))
    }

    /// Handles an error of a poll. librdkafka recovers from most by itself, and reports them again until it has.
    fn noted(&self, reason: &KafkaError) -> Result<(), Fatal> {
        if matches!(reason, KafkaError::MessageConsumptionFatal(_)) {
            return Err(Fatal(reason.to_string()));
        }
        // An end of partition in the main queue does not name its topic.
        if !matches!(reason, KafkaError::PartitionEOF(_)) {
            self.shared.brokers.trouble(&reason.to_string());
        }
        Ok(())
    }

    /// Gives everything up, so that another member can continue immediately. Closing, unlike unsubscribing, keeps a
    /// static member's partitions for its next run.
    fn leave(mut self) {
        // librdkafka does not close before assigned partitions are taken.
        self.take_given();
        let Self {
            consumer,
            queues,
            shared,
            ..
        } = self;
        drop(queues);
        drop(consumer);
        shared.end();
    }
}

impl Batch {
    fn push(&mut self, message: &BorrowedMessage<'_>) {
        let mut keep = |bytes: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            start..self.bytes.len()
        };
        let key = message.key().map(&mut keep);
        let value = keep(message.payload().unwrap_or_default());
        self.records.push(BatchRecord {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key,
            value,
            trace: headers::trace(message),
        });
    }

    fn into_records(self) -> Vec<Record> {
        let bytes = Bytes::from(self.bytes);
        let records = self.records.into_iter().map(|parts| Record {
            offset: parts.offset,
            timestamp_ms: parts.timestamp_ms,
            key: parts.key.map(|key| bytes.slice(key)),
            value: bytes.slice(parts.value),
            trace: parts.trace,
        });
        records.collect()
    }
}
