//! The value of the `telemetry` topic: a reading of a meter, or of an asset.

use model::asset::{AssetReading, AssetState};
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;
use serde::{Deserialize, Serialize};

/// What a record of telemetry holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "TelemetryRecord", into = "TelemetryRecord")]
pub enum Telemetry {
    /// Meter, PV or battery.
    Reading(Reading),
    /// An EV or a heat store.
    Asset(AssetReading),
}

/// The record as its schema has it.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Reading")]
struct TelemetryRecord {
    household_id: HouseholdId,
    ts_ms: i64,
    measurement: Union,
}

#[derive(Serialize, Deserialize)]
enum Union {
    Meter {
        consumption_w: f64,
    },
    Pv {
        pv_w: f64,
    },
    Battery {
        soc_pct: f64,
        power_w: f64,
    },
    Ev {
        id: String,
        plugged: bool,
        soc_pct: Option<f64>,
        power_w: f64,
        departure_ms: Option<i64>,
        goal_pct: Option<f64>,
    },
    Heat {
        id: String,
        temperature_c: f64,
        power_w: f64,
    },
}

impl From<TelemetryRecord> for Telemetry {
    fn from(record: TelemetryRecord) -> Self {
        let (household_id, ts_ms) = (record.household_id, record.ts_ms);
        let reading = |measurement| {
            Self::Reading(Reading {
                household_id,
                ts_ms,
                measurement,
            })
        };
        let asset = |id, state| {
            Self::Asset(AssetReading {
                household_id,
                id,
                ts_ms,
                state,
            })
        };
        match record.measurement {
            Union::Meter { consumption_w } => reading(Measurement::Meter { consumption_w }),
            Union::Pv { pv_w } => reading(Measurement::Pv { pv_w }),
            Union::Battery { soc_pct, power_w } => {
                reading(Measurement::Battery { soc_pct, power_w })
            }
            Union::Ev {
                id,
                plugged,
                soc_pct,
                power_w,
                departure_ms,
                goal_pct,
            } => asset(
                id,
                AssetState::Ev {
                    plugged,
                    soc_pct,
                    power_w,
                    departure_ms,
                    goal_pct,
                },
            ),
            Union::Heat {
                id,
                temperature_c,
                power_w,
            } => asset(
                id,
                AssetState::Heat {
                    temperature_c,
                    power_w,
                },
            ),
        }
    }
}

impl From<Telemetry> for TelemetryRecord {
    fn from(telemetry: Telemetry) -> Self {
        match telemetry {
            Telemetry::Reading(reading) => Self {
                household_id: reading.household_id,
                ts_ms: reading.ts_ms,
                measurement: match reading.measurement {
                    Measurement::Meter { consumption_w } => Union::Meter { consumption_w },
                    Measurement::Pv { pv_w } => Union::Pv { pv_w },
                    Measurement::Battery { soc_pct, power_w } => {
                        Union::Battery { soc_pct, power_w }
                    }
                },
            },
            Telemetry::Asset(reading) => Self {
                household_id: reading.household_id,
                ts_ms: reading.ts_ms,
                measurement: union_of(reading.id, reading.state),
            },
        }
    }
}

fn union_of(id: String, state: AssetState) -> Union {
    match state {
        AssetState::Ev {
            plugged,
            soc_pct,
            power_w,
            departure_ms,
            goal_pct,
        } => Union::Ev {
            id,
            plugged,
            soc_pct,
            power_w,
            departure_ms,
            goal_pct,
        },
        AssetState::Heat {
            temperature_c,
            power_w,
        } => Union::Heat {
            id,
            temperature_c,
            power_w,
        },
    }
}
