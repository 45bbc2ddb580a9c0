//! What a household orders. Effects have stable ids: carrying one out twice changes nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Command, CommandProgress};
use crate::metadata::Metadata;
use crate::problem::Problem;
use crate::reading::{Kind, Reading};
use crate::schedule::Schedule;
use crate::slot::Slot;
use crate::units::HouseholdId;

/// An order to the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    StoreReading(Reading),
    StoreSlot {
        household_id: HouseholdId,
        slot: Slot,
    },
    StoreMetadata(Arc<Metadata>),
    StoreSchedule(Arc<Schedule>),
    StoreCommand(CommandProgress),
    RequestOptimize(Box<OptimizeRequest>),
    SendCommand(Command),
    RaiseAlert(Alert),
    /// A reading came too late for the window: aggregate the slot anew from the store, once the reading is there.
    RepairSlot {
        household_id: HouseholdId,
        start_ms: i64,
    },
    /// A reading came too late for its slot, or there was no room for it, and no store to aggregate the slot from: what
    /// it came in becomes a dead letter.
    RefuseReading {
        reading: Reading,
        refusal: Refusal,
    },
    /// One reading was handled, with this outcome.
    CountReading {
        kind: Kind,
        outcome: ReadingOutcome,
    },
}

/// Why a home could not take a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its slot ended longer ago than the grace.
    Late,
    /// The home holds as many raw readings as it may.
    Full,
}

/// What became of a reading. None is dropped: it is stored, part of its slot, or a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadingOutcome {
    /// New.
    Accepted,
    /// The same (kind, time) with the same value was there.
    Duplicate,
    /// The same (kind, time) with another value was there.
    Corrected,
    /// Behind the grace; its slot is repaired from the store.
    Late,
    /// See [`Effect::RefuseReading`].
    Refused,
}

impl ReadingOutcome {
    /// Metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Corrected => "corrected",
            Self::Late => "late",
            Self::Refused => "refused",
        }
    }
}

/// A problem for the worker pool, the value of the `optimize-requests` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimizeRequest {
    /// `{household}-{requested_ms}-{counter}`: a home that asks again at another time, for instance after a crash, asks
    /// another question. The household's id stands before the first dash.
    pub request_id: String,
    pub household_id: HouseholdId,
    /// Event time of the question.
    pub requested_ms: i64,
    /// Whether commands follow from the answer.
    pub adopt: bool,
    pub problem: Problem,
}

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
