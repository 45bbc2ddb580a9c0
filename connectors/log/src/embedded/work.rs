//! What the log's writer is asked for, and how it answers.

use platform::log::{LogError, TopicPartition};
use platform::trace::TraceContext;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What the writer is asked for.
pub(super) enum Work {
    Append(Append),
    /// Stores offsets of a group.
    Commit {
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
        done: oneshot::Sender<Result<(), LogError>>,
    },
    /// Removes the records with these keys.
    Trim {
        keys: Vec<Vec<u8>>,
        done: oneshot::Sender<Result<(), LogError>>,
    },
}

pub(super) struct Append {
    pub(super) to: TopicPartition,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) trace: Option<TraceContext>,
    pub(super) done: oneshot::Sender<Result<(), LogError>>,
    /// Returned once the record is written.
    pub(super) room: OwnedSemaphorePermit,
}

impl Work {
    pub(super) fn answer(self, answer: Result<(), LogError>) {
        let done = match self {
            Self::Append(append) => {
                drop(append.room);
                append.done
            }
            Self::Commit { done, .. } | Self::Trim { done, .. } => done,
        };
        // A producer that stopped waiting needs no answer.
        let _ = done.send(answer);
    }
}
