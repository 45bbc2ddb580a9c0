//! Readings of a home's assets: its EVs and heat stores. A home may have several of each, so each reading names one.

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// The state of one asset at one moment. Its identity is (household, kind, id, `ts_ms`): another reading with the same
/// identity replaces the values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssetReading {
    /// The household that sent it.
    pub household_id: HouseholdId,
    /// The asset's id in the home's metadata: 1 to `ID_BYTES_MAX` bytes.
    pub id: String,
    /// Event time, UTC epoch milliseconds.
    pub ts_ms: i64,
    /// The values that were read.
    pub state: AssetState,
}

/// The values of an asset's reading, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum AssetState {
    /// An EV at its charging point.
    Ev {
        /// Whether it is plugged in.
        plugged: bool,
        /// SoC, percent of the capacity: 0 to 100; `None` if the charging point cannot tell.
        soc_pct: Option<f64>,
        /// Power, W, positive while charging.
        power_w: f64,
        /// When it will leave, UTC epoch milliseconds; `None` if nobody said.
        departure_ms: Option<i64>,
        /// SoC wanted at departure, percent of the capacity: 0 to 100; `None` if nobody said.
        goal_pct: Option<f64>,
    },
    /// A heat store.
    Heat {
        /// Temperature, degrees Celsius: -`TEMPERATURE_C_MAX` to `TEMPERATURE_C_MAX`.
        temperature_c: f64,
        /// Electric power of its heater, W: 0 or more.
        power_w: f64,
    },
}

/// The kinds of asset, named as in topics, tables and metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AssetKind {
    /// An EV.
    Ev,
    /// A heat store.
    Heat,
}

impl AssetKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Ev, Self::Heat];

    /// Returns the lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ev => "ev",
            Self::Heat => "heat",
        }
    }
}

impl AssetState {
    /// Returns the kind of asset that has these values.
    #[must_use]
    pub const fn kind(&self) -> AssetKind {
        match self {
            Self::Ev { .. } => AssetKind::Ev,
            Self::Heat { .. } => AssetKind::Heat,
        }
    }

    /// Returns the electric power that it draws, W; below 0 while an EV feeds the home.
    #[must_use]
    pub const fn power_w(&self) -> f64 {
        match self {
            Self::Ev { power_w, .. } | Self::Heat { power_w, .. } => *power_w,
        }
    }
}
