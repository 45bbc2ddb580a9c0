//! What the forecasts behind a plan rest on: rungs of two ladders, the worst first.

use serde::{Deserialize, Serialize};

/// What a load forecast rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadRung {
    /// The profile of a common home; no day of this one is known.
    StandardProfile,
    /// Less than two weeks of the home's own days, and the common profile.
    FewDays,
    /// The home's own past days.
    PastDays,
}

/// What a PV forecast rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PvRung {
    /// No plant is known and none was seen.
    None,
    /// A clear sky and usual clearness.
    ClearSky,
    /// A clear sky and the clearness of the home's past days.
    RecentSky,
    /// A weather forecast; the home's past days are few.
    Weather,
    /// A weather forecast and the home's own gain and errors.
    LearnedWeather,
}

/// The rungs of a plan that the engine stated out of the home's own past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rungs {
    /// Of the load.
    pub load: LoadRung,
    /// Of the PV power.
    pub pv: PvRung,
}
