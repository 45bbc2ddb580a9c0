//! The conditions of alerts. An alert is raised once when its condition begins to hold, and again only after the
//! condition has ceased.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use model::alert::AlertKind;
use model::metadata::BatterySpec;

/// How far a SoC reading may be outside the bounds before it raises an alert, percent of the capacity. The SoC of a
/// battery that rests at a bound varies a little.
const SOC_TOLERANCE_PCT: f64 = 1.0;

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

/// A SoC outside the bounds that plans keep to, all in percent of the capacity.
pub(crate) struct SocOutside {
    pct: f64,
    least_pct: f64,
    most_pct: f64,
}

impl SocOutside {
    /// Returns the SoC of a battery, percent, if it is outside.
    pub(crate) fn of(pct: f64, battery: &BatterySpec) -> Option<Self> {
        let least_pct = battery.min_soc_kwh / battery.capacity_kwh * 100.0;
        let most_pct = battery.max_soc_kwh / battery.capacity_kwh * 100.0;
        let is_outside = pct < least_pct - SOC_TOLERANCE_PCT || pct > most_pct + SOC_TOLERANCE_PCT;
        is_outside.then_some(Self {
            pct,
            least_pct,
            most_pct,
        })
    }
}

impl std::fmt::Display for SocOutside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pct,
            least_pct,
            most_pct,
        } = self;
        write!(
            f,
            "SoC {pct:.1} % is outside {least_pct:.1} to {most_pct:.1} %"
        )
    }
}
