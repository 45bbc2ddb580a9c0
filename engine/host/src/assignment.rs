//! A partition that is assigned to us.

use platform::log::TopicPartition;
use schemas::topic::Topic;

use crate::fence::Fence;
use crate::ownership::Ownership;
use crate::setup::Setup;
use schemas::snapshot::SHARD_TOPICS;

/// Which partition it is, and what is there to work on it.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) setup: Setup,
    pub(crate) partition: i32,
    /// Raised when the partition goes to another owner.
    pub(crate) fence: Fence,
    pub(crate) ownership: Ownership,
}

impl Assignment {
    /// The partition of one topic.
    pub(crate) const fn of(&self, topic: Topic) -> TopicPartition {
        TopicPartition {
            topic,
            partition: self.partition,
        }
    }

    /// The partition of each topic of a shard.
    pub(crate) fn of_all(&self) -> [TopicPartition; SHARD_TOPICS.len()] {
        SHARD_TOPICS.map(|topic| self.of(topic))
    }
}
