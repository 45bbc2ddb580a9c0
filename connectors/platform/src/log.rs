//! The seam to the log, with two implementations that ship: Kafka, and an embedded one for one machine.
//!
//! A produce resolves only once the record is durable. A consumer hands out records in batches of one partition, and
//! never commits by itself.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use schemas::topic::Topic;
use tokio::sync::{mpsc, oneshot};
use tokio::task::unconstrained;
use tokio::time::timeout;

use crate::trace::TraceContext;

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// Number of the partition, from 0.
    pub partition: i32,
}

/// A record read from the log.
#[derive(Debug, Clone)]
pub struct Record {
    /// Position in its partition, from 0.
    pub offset: i64,
    /// Wall-clock time at which it was appended, UTC epoch milliseconds.
    pub timestamp_ms: i64,
    /// `None` if the producer gave none.
    pub key: Option<Bytes>,
    /// Empty for a tombstone.
    pub value: Bytes,
    /// The span that produced it, if its trace is recorded.
    pub trace: Option<TraceContext>,
}

/// A record to append.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Topic to append to.
    pub topic: Topic,
    /// Key, which decides the partition.
    pub key: &'a [u8],
    /// Encoded value.
    pub value: &'a [u8],
    /// The span that produces it, which goes along as a header.
    pub trace: Option<TraceContext>,
}

/// Why an operation on the log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log cannot do it now, for example because it is not reachable. The same call may succeed later.
    #[error("log is not available: {0}")]
    Unavailable(String),
    /// The record itself is refused, for example because it is too large. Repeating it never succeeds.
    #[error("log refused the record: {0}")]
    Refused(String),
    /// The configuration is wrong, or a topic is missing.
    #[error("log is not set up: {0}")]
    Setup(String),
    /// The log has been closed.
    #[error("log is closed")]
    Closed,
}

impl LogError {
    /// Returns the error for a record that the log neither took nor refused in time.
    #[must_use]
    pub fn no_answer() -> Self {
        Self::Unavailable("no answer in time".to_owned())
    }

    /// Returns whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused(_) | Self::Setup(_) | Self::Closed => false,
        }
    }
}

/// Where a consumer begins in a partition that has no committed offset. Without a group that is every partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record that the partition holds.
    Earliest,
    /// Behind its last record: only new records are read.
    Latest,
}

/// The topics that a consumer reads, and how.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Consumer group. Its members share the partitions of the first topic. Partition p of every other topic goes to
    /// the member that has partition p of the first, so all topics must have the same number of partitions. `None`
    /// reads every partition and commits nothing.
    pub group: Option<String>,
    /// Stable name of this member, so that a restart does not move partitions. Needs `group`.
    pub member: Option<String>,
    /// Topics to read, at least one.
    pub topics: Vec<Topic>,
    /// Where to begin without a committed offset.
    pub start: Start,
    /// Most records in a batch.
    pub batch_max: usize,
}

/// An event of a consumer. Events come in order.
#[derive(Debug)]
pub enum LogEvent {
    /// These partitions were assigned to this consumer, in addition to those that it has.
    Assigned(Vec<TopicPartition>),
    /// Records of one partition, offsets ascending.
    Records {
        /// Where they were read.
        from: TopicPartition,
        /// At least one.
        records: Vec<Record>,
    },
    /// These partitions are being revoked. The owner stops working on them, commits what is durable, and then sends
    /// `done` or drops it. The consumer waits for that, at most [`ConsumerControl::revoke_patience`].
    Revoked {
        /// Partitions to give up.
        partitions: Vec<TopicPartition>,
        /// Tells the consumer that the owner has given them up.
        done: oneshot::Sender<()>,
    },
    /// Everything that was in the partition when the consumer started has been handed out. Sent once per partition,
    /// and only without a group.
    CaughtUp(TopicPartition),
}

/// An open subscription. Dropping it leaves the group.
pub struct Consumer {
    /// Events, in a bounded channel: a slow owner stops fetching but never the heartbeat.
    pub events: mpsc::Receiver<LogEvent>,
    /// Commits offsets, pauses partitions and answers questions about them.
    pub control: std::sync::Arc<dyn ConsumerControl>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

/// What an owner asks of its subscription.
#[async_trait::async_trait]
pub trait ConsumerControl: Send + Sync {
    /// Commits durably, for each partition, the offset to read next after a restart.
    ///
    /// Fails with [`LogError::Setup`] if the consumer has no group, with [`LogError::Refused`] if it no longer owns one
    /// of the partitions, and with [`LogError::Unavailable`] if the log does not answer in time or a rebalance is under
    /// way.
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError>;
    /// Stops fetching one partition. Records that were fetched before may still come.
    fn pause(&self, partition: TopicPartition);
    /// Resumes fetching a paused partition.
    fn resume(&self, partition: TopicPartition);
    /// Returns the end offset (the next to be written) of a partition, as last seen. Used for lag.
    fn end_offset(&self, partition: TopicPartition) -> Option<i64>;
    /// Returns how long the consumer waits for its owner after [`LogEvent::Revoked`] before it gives the partitions up.
    fn revoke_patience(&self) -> Duration {
        Duration::from_secs(30)
    }
    /// Returns whether nothing was ever committed for any of `partitions` and the log still holds each of them from its
    /// first record on, so that a reader sees everything that was ever written. False if that is not known.
    ///
    /// Fails with [`LogError::Unavailable`] if the log does not answer in time.
    async fn is_unread_and_whole(&self, partitions: &[TopicPartition]) -> Result<bool, LogError> {
        let _ = partitions;
        Ok(false)
    }
    /// Reads the records of `key` within `offsets` again, without moving the subscription.
    ///
    /// Fails with [`LogError::Unavailable`] if the log does not answer in time.
    async fn read(
        &self,
        partition: TopicPartition,
        offsets: Range<i64>,
        key: &[u8],
    ) -> Result<Vec<Record>, LogError>;
    /// Asks the log for the committed offset of the partition: the next that the group would read after a restart.
    /// `None` if nothing was committed, or if there is no group.
    ///
    /// Fails with [`LogError::Unavailable`] if the log does not answer in time.
    async fn committed(&self, partition: TopicPartition) -> Result<Option<i64>, LogError>;
    /// Asks the log which offsets the partition holds, from the first up to the next to be written. The first is 0 if it
    /// is not known.
    ///
    /// Fails with [`LogError::Unavailable`] if the log does not answer in time.
    async fn offsets_now(&self, partition: TopicPartition) -> Result<Range<i64>, LogError> {
        let end = self.end_offset(partition);
        end.map(|end| 0..end)
            .ok_or_else(|| LogError::Unavailable("the end is not known yet".to_owned()))
    }
}

/// A durable log of topics, each with partitions.
#[async_trait::async_trait]
pub trait Log: Send + Sync + 'static {
    /// Appends one record; resolves once it is durable. The partition follows from the key by murmur2, as in Kafka's
    /// own clients. Waits while the producer's queue is full.
    ///
    /// Fails with [`LogError::Refused`] if the record is too large or otherwise unacceptable, [`LogError::Unavailable`]
    /// if it did not become durable in time, [`LogError::Setup`] if its topic is missing, and [`LogError::Closed`]
    /// after [`Log::close`].
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError>;
    /// Does the same with the record's header. A log that has no headers leaves it out.
    async fn produce_traced(&self, record: NewRecord<'_>) -> Result<(), LogError> {
        self.produce(record.topic, record.key, record.value.to_vec())
            .await
    }
    /// Appends records in their order. Resolves once each is durable or has failed, and after `limit` at the latest.
    /// Returns the failed ones by index, ascending; a record without an answer in time is [`LogError::Unavailable`].
    /// Calls take their places in the log in the order in which they are first polled, whatever the topics.
    async fn produce_all(
        &self,
        records: &[NewRecord<'_>],
        limit: Duration,
    ) -> Vec<(usize, LogError)> {
        let mut outcomes: Vec<Option<Result<(), LogError>>> = Vec::with_capacity(records.len());
        let mut waiting = FuturesUnordered::new();
        for (index, record) in records.iter().enumerate() {
            // Unconstrained: if tokio made this future yield before it has its place, a later call would overtake it.
            let mut produced = unconstrained(self.produce_traced(*record));
            match futures::poll!(&mut produced) {
                std::task::Poll::Ready(outcome) => outcomes.push(Some(outcome)),
                std::task::Poll::Pending => {
                    outcomes.push(None);
                    waiting.push(async move { (index, produced.await) });
                }
            }
        }
        // Records without an answer by then are found below.
        let _ = timeout(limit, async {
            while let Some((index, outcome)) = waiting.next().await {
                outcomes[index] = Some(outcome);
            }
        })
        .await;
        let failures = outcomes
            .into_iter()
            .enumerate()
            .filter_map(|(index, outcome)| {
                let outcome = outcome.unwrap_or_else(|| Err(LogError::no_answer()));
                Some((index, outcome.err()?))
            });
        failures.collect()
    }
    /// Returns the time after which a record that got no answer can no longer arrive.
    fn gives_up_after(&self) -> Duration {
        Duration::ZERO
    }
    /// Opens a subscription.
    ///
    /// Fails with [`LogError::Setup`] if a topic is missing, if the topics differ in their number of partitions, or if
    /// the log cannot take this member; and with [`LogError::Unavailable`] if it does not answer.
    async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, LogError>;
    /// Creates the topics that are missing and checks those that exist. Safe to repeat.
    ///
    /// Fails with [`LogError::Setup`] if a topic has another number of partitions than configured.
    async fn init(&self) -> Result<(), LogError>;
    /// Checks that the log answers now. Fails with [`LogError::Unavailable`] if it does not, and with
    /// [`LogError::Closed`] after [`Log::close`].
    async fn ping(&self) -> Result<(), LogError>;
    /// Waits until everything produced is durable, and closes. Later calls fail with [`LogError::Closed`].
    async fn close(&self);
}

/// Returns the partition of `key` among `partitions_count`: murmur2 as in Kafka's Java client, sign bit dropped.
#[must_use]
pub fn partition_of(key: &[u8], partitions_count: u32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(positive % partitions_count).expect("31 bits fit")
}

fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let seed = 0x9747_b28c_u32;
    let length = u32::try_from(bytes.len()).expect("a key is shorter than 4 GiB");
    let mut hash = seed ^ length;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("chunks of four"));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (shift, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * shift);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::partition_of;

    #[test]
    fn keys_land_where_the_java_client_puts_them() {
        // Values of org.apache.kafka.common.utils.Utils.murmur2, made positive.
        for (key, positive) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
        ] {
            let expected = (positive & 0x7fff_ffff) % 8;
            assert_eq!(partition_of(key.as_bytes(), 8), expected, "{key}");
        }
    }
}
