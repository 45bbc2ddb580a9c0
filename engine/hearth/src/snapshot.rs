//! A household's state as bytes, with the offsets up to which it has seen its topics.

use household::household::Household;
use schemas::topic::Topic;
use serde::{Deserialize, Serialize};

/// Version of the layout; a snapshot of another version is not read.
const VERSION: u8 = 1;

/// The topics of a shard, in the order of `NextOffsets`.
pub const SHARD_TOPICS: [Topic; 4] = [
    Topic::Telemetry,
    Topic::Households,
    Topic::Schedules,
    Topic::Acks,
];

/// The first offset not yet seen, for each topic of a shard; 0 before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextOffsets([i64; SHARD_TOPICS.len()]);

impl NextOffsets {
    fn index(topic: Topic) -> usize {
        SHARD_TOPICS
            .iter()
            .position(|ours| *ours == topic)
            .expect("a shard reads its own topics only")
    }

    /// First offset of `topic` not yet seen.
    #[must_use]
    pub fn get(&self, topic: Topic) -> i64 {
        self.0[Self::index(topic)]
    }

    /// Moves on to `offset`; never back.
    pub fn advance(&mut self, topic: Topic, offset: i64) {
        let next = &mut self.0[Self::index(topic)];
        *next = (*next).max(offset);
    }

    /// Topics of which something was seen.
    pub fn iter(&self) -> impl Iterator<Item = (Topic, i64)> + '_ {
        SHARD_TOPICS
            .into_iter()
            .zip(self.0)
            .filter(|(_, offset)| *offset > 0)
    }
}

/// Why a snapshot is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("it is empty")]
    Empty,
    #[error("its layout has version {0}, this build reads {VERSION}")]
    Version(u8),
    #[error("it was taken on partition {0}: the number of partitions has changed")]
    Partition(i32),
    #[error("it does not decode: {0}")]
    Undecodable(#[from] postcard::Error),
}

/// The state as bytes.
#[must_use]
pub fn encode(partition: i32, next_offsets: &NextOffsets, household: &Household) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let body = postcard::to_stdvec(&(partition, next_offsets, household))
        .expect("a household has nothing that postcard cannot write");
    bytes.extend(body);
    bytes
}

/// The state from bytes.
pub fn decode(bytes: &[u8], partition: i32) -> Result<(NextOffsets, Household), SnapshotError> {
    let (version, body) = bytes.split_first().ok_or(SnapshotError::Empty)?;
    if *version != VERSION {
        return Err(SnapshotError::Version(*version));
    }
    let (taken_on, next_offsets, household): (i32, NextOffsets, Household) =
        postcard::from_bytes(body)?;
    if taken_on != partition {
        return Err(SnapshotError::Partition(taken_on));
    }
    Ok((next_offsets, household))
}
