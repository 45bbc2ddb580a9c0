//! Which alerts stand: each is raised once when its condition begins to hold, and again only after it was over.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use model::alert::AlertKind;

/// What an alert is about. Snapshots hold these by their place: add at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Condition {
    /// Nothing comes from the home.
    Silent,
    SocOutside,
    ScheduleOverdue,
    CommandUnanswered,
    CommandRejected,
    /// The input has died while others go on.
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

    /// Notes whether the condition holds; `None` where nothing new is known of it. True where it is to be raised.
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
