//! What a home measures.

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// One reading of one meter at one moment. Identity is (household, kind, `ts_ms`): the same again changes the value
/// and adds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Whose reading it is.
    pub household_id: HouseholdId,
    /// Event time, UTC epoch milliseconds.
    pub ts_ms: i64,
    /// The measured values.
    pub measurement: Measurement,
}

/// The measured values, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Measurement {
    /// The home's load, 0 or more; PV and battery are not subtracted.
    Meter { consumption_w: f64 },
    /// PV production, 0 or more.
    Pv { pv_w: f64 },
    /// Battery state. `soc_pct` is 0 to 100; `power_w` is positive while charging.
    Battery { soc_pct: f64, power_w: f64 },
}

/// The kinds of reading, as they stand in topics, tables and metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Meter,
    Pv,
    Battery,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Meter, Self::Pv, Self::Battery];

    /// Lower-case name.
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
    /// Which meter it came from.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Meter { .. } => Kind::Meter,
            Self::Pv { .. } => Kind::Pv,
            Self::Battery { .. } => Kind::Battery,
        }
    }
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
    /// It came too late for its slot, or the home had no room for it: it is a dead letter.
    Refused,
    /// New, and a value a little beyond the range of its gauge was put back into it.
    Clamped,
    /// A value cannot be true of this home: the reading is a dead letter, and part of nothing.
    Implausible,
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
            Self::Clamped => "clamped",
            Self::Implausible => "implausible",
        }
    }
}
