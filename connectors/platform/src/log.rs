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

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Topic,
    pub partition: i32,
}

/// A record as it came out of the log.
#[derive(Debug, Clone)]
pub struct Record {
    pub offset: i64,
    /// Time at which the log took it, wall clock.
    pub timestamp_ms: i64,
    /// `None` where the producer gave none.
    pub key: Option<Bytes>,
    /// Empty for a tombstone.
    pub value: Bytes,
}

/// A record on its way into the log.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    pub topic: Topic,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// Why the log could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not now; the same call may succeed later.
    #[error("log is not available: {0}")]
    Unavailable(String),
    /// The record itself is refused, for instance because it is too large. Never succeeds.
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
    /// For a record that the log neither took nor refused in time.
    #[must_use]
    pub fn no_answer() -> Self {
        Self::Unavailable("no answer in time".to_owned())
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused(_) | Self::Setup(_) | Self::Closed => false,
        }
    }
}

/// Where a consumer begins in a partition for which its group has no committed offset, or for every partition when
/// it has no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
}

/// What a consumer wants.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Members of one group share the partitions of the first topic; partition p of every other topic goes to the same
    /// member, so all must have as many. `None` reads every partition, and commits nowhere.
    pub group: Option<String>,
    /// Stable name of this member, so that a restart does not move partitions. Needs `group`.
    pub member: Option<String>,
    pub topics: Vec<Topic>,
    pub start: Start,
    /// Most records in a batch.
    pub batch_max: usize,
}

/// What a consumer tells its owner, in order.
#[derive(Debug)]
pub enum LogEvent {
    /// These partitions are now ours, on top of those that were.
    Assigned(Vec<TopicPartition>),
    /// Records of one partition, offsets ascending.
    Records {
        from: TopicPartition,
        records: Vec<Record>,
    },
    /// These partitions are being taken away. The owner stops, commits what is durable, and then sends on (or drops)
    /// `done`; only then does the consumer let go. It waits for [`ConsumerControl::revoke_patience`].
    Revoked {
        partitions: Vec<TopicPartition>,
        done: oneshot::Sender<()>,
    },
    /// Everything that was in the partition when the consumer started has been handed out. Once a partition; only
    /// without a group.
    CaughtUp(TopicPartition),
}

/// An open subscription. Dropping it leaves the group.
pub struct Consumer {
    /// Bounded: a slow owner stops the fetching, never the heartbeat.
    pub events: mpsc::Receiver<LogEvent>,
    pub control: std::sync::Arc<dyn ConsumerControl>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

/// The way back from an owner to its subscription.
#[async_trait::async_trait]
pub trait ConsumerControl: Send + Sync {
    /// Stores durably that everything before `next_offset` is done. Offsets of partitions that are no longer ours
    /// are refused.
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError>;
    /// Stops fetching one partition; records already on their way may still come.
    fn pause(&self, partition: TopicPartition);
    /// Fetches it again.
    fn resume(&self, partition: TopicPartition);
    /// End offset (next to be written) of a partition, as last seen; for lag.
    fn end_offset(&self, partition: TopicPartition) -> Option<i64>;
    /// How long the consumer waits for its owner after [`LogEvent::Revoked`]; then the partitions go all the same.
    fn revoke_patience(&self) -> Duration {
        Duration::from_secs(30)
    }
    /// Whether nothing was ever committed for any of `partitions` and the log still holds each of them from its first
    /// record on: whoever reads them reads all there ever was. False where that is not known.
    async fn is_unread_and_whole(&self, partitions: &[TopicPartition]) -> Result<bool, LogError> {
        let _ = partitions;
        Ok(false)
    }
    /// Records of `key` that the partition holds within `offsets`, read again aside from the subscription, whose place does
    /// not change. Waits for the log, within a limit.
    async fn read(
        &self,
        partition: TopicPartition,
        offsets: Range<i64>,
        key: &[u8],
    ) -> Result<Vec<Record>, LogError>;
    /// Asks the log now for the offset at which the group would go on after a restart; `None` if nothing was committed.
    async fn committed(&self, partition: TopicPartition) -> Result<Option<i64>, LogError>;
    /// Offsets that the partition holds, asked of the log now: from the first up to the next to be written. Where
    /// the first is not known it is 0.
    async fn offsets_now(&self, partition: TopicPartition) -> Result<Range<i64>, LogError> {
        let end = self.end_offset(partition);
        end.map(|end| 0..end)
            .ok_or_else(|| LogError::Unavailable("the end is not known yet".to_owned()))
    }
}

/// The log.
#[async_trait::async_trait]
pub trait Log: Send + Sync + 'static {
    /// Appends one record; resolves once it is durable. The partition follows from the key by murmur2, as in Kafka's
    /// own clients. Waits while the producer's queue is full.
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError>;
    /// Appends records in their order; resolves once each is durable or has failed, after `limit` in any case. Returns
    /// those that failed, by their index, ascending; one without an answer in time counts as not available. The places
    /// are taken in the order in which such calls are first polled, whatever the topics.
    async fn produce_all(
        &self,
        records: &[NewRecord<'_>],
        limit: Duration,
    ) -> Vec<(usize, LogError)> {
        let mut outcomes: Vec<Option<Result<(), LogError>>> = Vec::with_capacity(records.len());
        let mut waiting = FuturesUnordered::new();
        for (index, record) in records.iter().enumerate() {
            // Unconstrained: a future made to yield before it has its place would lose it to those behind it.
            let produced = self.produce(record.topic, record.key, record.value.to_vec());
            let mut produced = unconstrained(produced);
            match futures::poll!(&mut produced) {
                std::task::Poll::Ready(outcome) => outcomes.push(Some(outcome)),
                std::task::Poll::Pending => {
                    outcomes.push(None);
                    waiting.push(async move { (index, produced.await) });
                }
            }
        }
        // Who has not answered by then is found below.
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
    /// After this time a record that was produced without an answer does not arrive any more.
    fn gives_up_after(&self) -> Duration {
        Duration::ZERO
    }
    /// Opens a subscription.
    async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, LogError>;
    /// Creates the topics that are missing and checks those that are there. Safe to repeat.
    async fn init(&self) -> Result<(), LogError>;
    /// Whether the log answers now.
    async fn ping(&self) -> Result<(), LogError>;
    /// Waits until everything produced is durable, and closes.
    async fn close(&self);
}

/// The partition of `key` among `partitions_count`: murmur2 as in Kafka's Java client, sign bit dropped.
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
