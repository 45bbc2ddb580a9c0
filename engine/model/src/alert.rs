//! Alerts for the operator.

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// Something the operator should know, the value of the `alerts` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "AlertRecord", into = "AlertRecord")]
pub struct Alert {
    /// The household.
    pub household_id: HouseholdId,
    /// When the condition began to hold, in the home's own time, UTC epoch milliseconds.
    pub ts_ms: i64,
    /// What is wrong.
    pub kind: AlertKind,
    /// The details, for people.
    pub detail: String,
}

/// An alert as it stands in a record. Readers with the first schema know only four kinds, so newer kinds are written as
/// one of those four, with the exact kind in `code`.
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

/// The kinds of alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// The home has stopped sending readings, or an input that its plan needs has stopped.
    MissingTelemetry,
    /// The SoC is outside the bounds that plans keep to.
    SocLimit,
    /// The home has waited too long for a schedule; the detail says what is missing.
    ScheduleOverdue,
    /// A command expired without an answer.
    CommandUnanswered,
    /// A device rejected a command. Raised once, and again only after a command was applied.
    CommandRejected,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::MissingTelemetry,
        Self::SocLimit,
        Self::ScheduleOverdue,
        Self::CommandUnanswered,
        Self::CommandRejected,
    ];

    /// Returns the metric label.
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
