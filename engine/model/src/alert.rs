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
    MissingTelemetry,
    SocLimit,
    ScheduleOverdue,
    CommandUnanswered,
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
        }
    }
}
