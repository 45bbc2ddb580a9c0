//! Readings of EVs and heat stores: `home/{id}/ev/{ev}` and `home/{id}/heat/{store}`.

use model::asset::{AssetReading, AssetState};
use model::limits::ID_BYTES_MAX;
use serde_json::{Map, Value, json};

use super::fields::{Why, flag, number, time};
use super::ranges::{HEATER_W, POWER_W, SOC_PCT, TEMPERATURE_C};
use super::source::{Channel, Source};
use crate::time::rfc3339;

/// Returns whether this level of a topic can be an asset's id.
pub(super) fn is_id(level: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&level.len())
        && !level.contains(['/', '+', '#', ' '])
        && !level.chars().any(char::is_control)
}

/// Returns the reading in a payload's object. Fields that may be missing may also be null.
pub(super) fn reading(
    object: &Map<String, Value>,
    source: Source<'_>,
    ts_ms: i64,
) -> Result<AssetReading, Why> {
    let given = |name: &str| object.get(name).is_some_and(|value| !value.is_null());
    let state = if source.channel == Channel::Ev {
        let percent = |name: &str| {
            let value = given(name).then(|| number(object, name, SOC_PCT));
            value.transpose()
        };
        AssetState::Ev {
            plugged: flag(object, "plugged")?,
            soc_pct: percent("soc_pct")?,
            power_w: number(object, "power_w", POWER_W)?,
            departure_ms: given("departure")
                .then(|| time(object, "departure"))
                .transpose()?,
            goal_pct: percent("goal_pct")?,
        }
    } else {
        AssetState::Heat {
            temperature_c: number(object, "temperature_c", TEMPERATURE_C)?,
            power_w: number(object, "power_w", HEATER_W)?,
        }
    };
    Ok(AssetReading {
        household_id: source.household_id,
        id: source.asset.to_owned(),
        ts_ms,
        state,
    })
}

/// Returns the topic to which a device publishes this reading.
#[must_use]
pub fn asset_topic(reading: &AssetReading) -> String {
    let kind = reading.state.kind().as_str();
    format!("home/{}/{kind}/{}", reading.household_id, reading.id)
}

/// Returns the payload with which a device sends a reading.
#[must_use]
pub fn asset_json(reading: &AssetReading) -> String {
    let (household_id, ts) = (reading.household_id, rfc3339(reading.ts_ms));
    match reading.state {
        AssetState::Ev {
            plugged,
            soc_pct,
            power_w,
            departure_ms,
            goal_pct,
        } => {
            json!({"household_id": household_id, "ts": ts, "plugged": plugged, "soc_pct": soc_pct,
                   "power_w": power_w, "departure": departure_ms.map(rfc3339), "goal_pct": goal_pct})
        }
        AssetState::Heat {
            temperature_c,
            power_w,
        } => {
            json!({"household_id": household_id, "ts": ts, "temperature_c": temperature_c, "power_w": power_w})
        }
    }
    .to_string()
}
