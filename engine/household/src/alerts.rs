//! The conditions of alerts. An alert is raised once when its condition begins to hold, and again only after the
//! condition has ceased.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use model::alert::AlertKind;

/// What an alert is about. Snapshots encode these by their index: add new ones at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Condition {
    /// The home sends no readings at all.
    Silent,
    SocOutside,
    ScheduleOverdue,
    CommandUnanswered,
    CommandRejected,
    /// This input has stopped while others continue.
    LoadStale,
    PvStale,
    SocStale,
}

impl Condition {
    pub(crate) const fn kind(self) -> AlertKind {
        match self {
            Self::Silent | Self::LoadStale | Self::PvStale | Self::SocStale => {
                AlertKind::MissingTelemetry
            }
            Self::SocOutside => AlertKind::SocLimit,
            Self::ScheduleOverdue => AlertKind::ScheduleOverdue,
            Self::CommandUnanswered => AlertKind::CommandUnanswered,
            Self::CommandRejected => AlertKind::CommandRejected,
        }
    }
}

/// The conditions that were raised and still hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Raised(BTreeSet<Condition>);

impl Raised {
    pub(crate) const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Notes whether the condition holds; `None` means that nothing new is known. Returns true if the alert must be
    /// raised.
    pub(crate) fn note(&mut self, condition: Condition, holds: Option<bool>) -> bool {
        match holds {
            Some(true) => self.0.insert(condition),
            Some(false) => {
                self.0.remove(&condition);
                false
            }
            None => false,
        }
    }
}
