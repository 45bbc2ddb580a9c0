//! What an operator should know.

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// Something an operator should know, the value of the `alerts` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub household_id: HouseholdId,
    pub ts_ms: i64,
    pub kind: AlertKind,
    pub detail: String,
}

/// Kinds of alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// Nothing comes from the home any more, or nothing of one input that its plan needs.
    MissingTelemetry,
    /// The SoC stands outside the bounds that plans keep to.
    SocLimit,
    /// The home waits for a schedule; the detail says what is missing.
    ScheduleOverdue,
    /// A command expired without an answer.
    CommandUnanswered,
    /// A device rejected a command. Raised once until one is applied again.
    CommandRejected,
}

impl AlertKind {
    /// Metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingTelemetry => "missing_telemetry",
            Self::SocLimit => "soc_limit",
            Self::ScheduleOverdue => "schedule_overdue",
            Self::CommandUnanswered => "command_unanswered",
            Self::CommandRejected => "command_rejected",
        }
    }
}
