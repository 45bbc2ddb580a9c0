//! The ingest's input, answers and errors.

use bytes::Bytes;
use model::units::HouseholdId;
use platform::settings::BadSetting;
use platform::trace::TraceContext;
use schemas::dead_letter::Reason;

use crate::spool::SpoolError;

/// A payload and its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The MQTT topic.
    pub topic: String,
    pub bytes: Bytes,
    /// The span that brought it.
    pub trace: Option<TraceContext>,
}

/// Why an ingest cannot start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("open the spool")]
    Spool(#[from] SpoolError),
    /// The value of a setting is not allowed.
    #[error(transparent)]
    Setting(#[from] BadSetting),
}

impl IngestError {
    /// Returns whether the same start may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Spool(error) => error.is_retryable(),
            Self::Setting(_) => false,
        }
    }
}

/// Why a payload, or a part of it, is not durable. It must not be acknowledged, so that the sender keeps it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotDurable {
    /// The log is away and the spool did not take it.
    #[error("neither log nor spool took it: {0}")]
    Spool(#[source] SpoolError),
    /// The ingest is closing.
    #[error("ingest is closed")]
    Closed,
}

impl NotDurable {
    /// Returns true: the sender tries again, with this process or another.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Spool(_) | Self::Closed => true,
        }
    }
}

/// A notice for a home's status topic that a payload of it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalNotice {
    pub household_id: HouseholdId,
    /// Number of dead letters made of the payload.
    pub refused: u64,
    /// Reason of the last of them.
    pub reason: Reason,
    /// For people: names the field and the limit.
    pub detail: String,
}
