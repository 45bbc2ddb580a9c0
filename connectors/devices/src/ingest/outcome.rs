//! What the ingest takes and answers.

use bytes::Bytes;
use model::units::HouseholdId;
use platform::settings::BadSetting;
use schemas::dead_letter::Reason;

use crate::spool::SpoolError;

/// What came, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The MQTT topic.
    pub topic: String,
    pub bytes: Bytes,
}

/// Why an ingest cannot start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("open the spool")]
    Spool(#[from] SpoolError),
    /// A setting is out of its range.
    #[error(transparent)]
    Setting(#[from] BadSetting),
}

impl IngestError {
    /// Whether the same start may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Spool(error) => error.is_retryable(),
            Self::Setting(_) => false,
        }
    }
}

/// The payload, or a part of it, is not durable: it must not be acknowledged, and the sender keeps it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotDurable {
    /// The log is away and the spool takes no more.
    #[error("neither log nor spool took it: {0}")]
    Spool(#[source] SpoolError),
    /// The ingest is closing.
    #[error("ingest is closed")]
    Closed,
}

impl NotDurable {
    /// Always: the sender tries again, here or at another process.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Spool(_) | Self::Closed => true,
        }
    }
}

/// A home's payload was refused: what its status topic tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalNotice {
    pub household_id: HouseholdId,
    /// Parts of the payload that became dead letters.
    pub refused: u64,
    /// Of the last of them.
    pub reason: Reason,
    /// For people: names the field and the limit.
    pub detail: String,
}
