//! What an operator should know.

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// Something an operator should know, the value of the `alerts` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "AlertRecord", into = "AlertRecord")]
pub struct Alert {
    pub household_id: HouseholdId,
    pub ts_ms: i64,
    pub kind: AlertKind,
    pub detail: String,
}

/// An alert as its record says it. Readers with the first schema know four kinds; `code` says what is more exact.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename = "Alert")]
struct AlertRecord {
    household_id: HouseholdId,
    ts_ms: i64,
    kind: AlertKind,
    code: String,
    detail: String,
}

impl From<Alert> for AlertRecord {
    fn from(alert: Alert) -> Self {
        let (kind, code) = match alert.kind {
            AlertKind::CommandRejected => (AlertKind::CommandUnanswered, alert.kind.as_str()),
            AlertKind::MissingTelemetry
            | AlertKind::SocLimit
            | AlertKind::ScheduleOverdue
            | AlertKind::CommandUnanswered => (alert.kind, ""),
        };
        Self {
            household_id: alert.household_id,
            ts_ms: alert.ts_ms,
            kind,
            code: code.to_owned(),
            detail: alert.detail,
        }
    }
}

impl From<AlertRecord> for Alert {
    fn from(record: AlertRecord) -> Self {
        let rejected = AlertKind::CommandRejected;
        Self {
            household_id: record.household_id,
            ts_ms: record.ts_ms,
            kind: if record.code == rejected.as_str() {
                rejected
            } else {
                record.kind
            },
            detail: record.detail,
        }
    }
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
