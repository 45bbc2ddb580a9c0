//! Readings of a home's meters.

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// One reading of one meter at one moment. Its identity is (household, kind, `ts_ms`): another reading with the same
/// identity replaces the value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The household that sent it.
    pub household_id: HouseholdId,
    /// Event time, UTC epoch milliseconds.
    pub ts_ms: i64,
    /// The values that were read.
    pub measurement: Measurement,
}

/// The values of a reading, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Measurement {
    /// The home's load.
    Meter {
        /// Load, W: 0 or more. PV and battery are not subtracted.
        consumption_w: f64,
    },
    /// PV production.
    Pv {
        /// Production, W: 0 or more.
        pv_w: f64,
    },
    /// State of the battery.
    Battery {
        /// SoC, percent of the capacity: 0 to 100.
        soc_pct: f64,
        /// Power, W, positive while charging.
        power_w: f64,
    },
}

/// The kinds of reading, named as in topics, tables and metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// The home's load.
    Meter,
    /// PV production.
    Pv,
    /// State of the battery.
    Battery,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Meter, Self::Pv, Self::Battery];

    /// Returns the lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meter => "meter",
            Self::Pv => "pv",
            Self::Battery => "battery",
        }
    }
}

impl Measurement {
    /// Returns the kind of meter that these values come from.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Meter { .. } => Kind::Meter,
            Self::Pv { .. } => Kind::Pv,
            Self::Battery { .. } => Kind::Battery,
        }
    }
}

/// What became of a reading. No reading is dropped: each is stored, part of its slot, or a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadingOutcome {
    /// New.
    Accepted,
    /// The home already had this value for this kind and time.
    Duplicate,
    /// It replaced another value for this kind and time.
    Corrected,
    /// It came after the grace period; its slot is aggregated again from the store.
    Late,
    /// Too late, too early, too old, or the home had no room for it: the reading became a dead letter.
    Refused,
    /// New; a value slightly outside its gauge's range was moved to the nearest bound.
    Clamped,
    /// A value that this home cannot have: the reading became a dead letter and counts nowhere.
    Implausible,
}

impl ReadingOutcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Corrected,
        Self::Late,
        Self::Refused,
        Self::Clamped,
        Self::Implausible,
    ];

    /// Returns the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Corrected => "corrected",
            Self::Late => "late",
            Self::Refused => "refused",
            Self::Clamped => "clamped",
            Self::Implausible => "implausible",
        }
    }
}
