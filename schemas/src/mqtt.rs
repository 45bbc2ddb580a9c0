//! The JSON that homes and Hearth exchange over MQTT. Parsing is strict: whatever is refused has a reason and names the
//! field.

use model::asset::AssetReading;
use model::command::{Ack, AckStatus};
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::dead_letter::Reason;
pub use crate::time::rfc3339;

mod asset;
mod command;
mod fields;
mod plain;
mod ranges;
mod scan;
mod source;

pub use self::asset::{asset_json, asset_topic};
pub use self::command::{command_json, entries_json, parse_command};
use self::fields::{Why, household_id, number, text, time_within};
pub(crate) use self::ranges::{CONSUMPTION_W, HEATER_W, POWER_W, PV_W, SOC_PCT, TEMPERATURE_C};
pub use self::ranges::{DEVICE_TS_MS_MIN, POWER_W_MAX, TimeWindow};
use self::source::{Channel, Source};

/// Largest payload, bytes; a larger one is refused.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// The content of a payload. The elements of an array are parsed one by one, so a bad one does not affect the others.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The readings.
    pub readings: Vec<Reading>,
    /// The readings of EVs and heat stores.
    pub assets: Vec<AssetReading>,
    /// The answers to commands.
    pub acks: Vec<Ack>,
    /// The elements that were refused; each becomes a dead letter.
    pub refusals: Vec<Refusal>,
}

/// A payload, or an element of one, that was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The details, for people: names the field and the limit.
    pub detail: String,
    /// The refused bytes, at most `PAYLOAD_BYTES_MAX` of them.
    pub payload: Vec<u8>,
    /// How many bytes were refused.
    pub payload_bytes: usize,
}

/// Returns the household of a topic `home/{id}/…`, or `None` for any other topic.
#[must_use]
pub fn household_of_topic(topic: &str) -> Option<HouseholdId> {
    let mut levels = topic.split('/');
    if levels.next() != Some("home") {
        return None;
    }
    HouseholdId::parse(levels.next()?)
}

/// Returns the topic of a home's commands.
#[must_use]
pub fn command_topic(household_id: HouseholdId) -> String {
    format!("home/{household_id}/cmd")
}

/// Returns the topic that tells a home why its readings are refused or slowed down.
#[must_use]
pub fn status_topic(household_id: HouseholdId) -> String {
    format!("home/{household_id}/status")
}

/// Returns the topic to which a device publishes this reading.
#[must_use]
pub fn reading_topic(reading: &Reading) -> String {
    let kind = reading.measurement.kind().as_str();
    format!("home/{}/{kind}", reading.household_id)
}

/// Returns the topic to which a device publishes its answers to commands.
#[must_use]
pub fn ack_topic(household_id: HouseholdId) -> String {
    format!("home/{household_id}/ack")
}

/// Returns the payload with which a device sends a reading.
#[must_use]
pub fn reading_json(reading: &Reading) -> String {
    let (household_id, ts) = (reading.household_id, rfc3339(reading.ts_ms));
    match reading.measurement {
        Measurement::Meter { consumption_w } => {
            json!({"household_id": household_id, "ts": ts, "consumption_w": consumption_w})
        }
        Measurement::Pv { pv_w } => json!({"household_id": household_id, "ts": ts, "pv_w": pv_w}),
        Measurement::Battery { soc_pct, power_w } => {
            json!({"household_id": household_id, "ts": ts, "soc_pct": soc_pct, "power_w": power_w})
        }
    }
    .to_string()
}

/// Returns the payload with which a device answers a command.
#[must_use]
pub fn ack_json(ack: &Ack) -> String {
    let status = match ack.status {
        AckStatus::Applied => "applied",
        AckStatus::Rejected => "rejected",
    };
    json!({"command_id": ack.command_id, "ts": rfc3339(ack.ts_ms), "status": status, "reason": ack.reason})
        .to_string()
}

/// Parses a payload from a home. Refuses readings and answers outside `times`. The time it takes grows linearly with the
/// payload's length, whatever the bytes.
#[must_use]
pub fn parse(topic: &str, payload: &[u8], times: TimeWindow) -> Parsed {
    parse_counting(topic, payload, times).0
}

/// Does the same, and counts the bytes examined: each byte once per pass over it.
fn parse_counting(topic: &str, payload: &[u8], times: TimeWindow) -> (Parsed, usize) {
    let mut looked_bytes = payload.len();
    let mut parsed = Parsed::default();
    if let Err((reason, detail)) = parse_into(topic, payload, times, &mut parsed, &mut looked_bytes)
    {
        parsed.refusals.push(refusal(reason, detail, payload));
    }
    (parsed, looked_bytes)
}

fn refusal(reason: Reason, detail: String, payload: &[u8]) -> Refusal {
    Refusal {
        reason,
        detail,
        payload: payload[..payload.len().min(PAYLOAD_BYTES_MAX)].to_vec(),
        payload_bytes: payload.len(),
    }
}

fn parse_into(
    topic: &str,
    payload: &[u8],
    times: TimeWindow,
    parsed: &mut Parsed,
    looked_bytes: &mut usize,
) -> Result<(), Why> {
    let (household_id, channel, asset) = parse_topic(topic)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        let detail = format!(
            "payload has {} bytes, at most {PAYLOAD_BYTES_MAX}",
            payload.len()
        );
        return Err((Reason::Oversized, detail));
    }
    let text = std::str::from_utf8(payload)
        .map_err(|error| (Reason::BadUtf8, format!("payload is not UTF-8: {error}")))?;
    let source = Source {
        household_id,
        channel,
        asset,
        times,
    };
    if !text.trim_start().starts_with('[') {
        return source.take(text, parsed, looked_bytes);
    }
    *looked_bytes += text.len();
    let elements: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| not_json(text, &error, looked_bytes))?;
    for element in elements {
        let element = element.get();
        if let Err((reason, detail)) = source.take(element, parsed, looked_bytes) {
            let refused = refusal(reason, detail, element.as_bytes());
            parsed.refusals.push(refused);
        }
    }
    Ok(())
}

/// Returns the home, the channel, and the asset's id where it is an asset's channel.
fn parse_topic(topic: &str) -> Result<(HouseholdId, Channel, &str), Why> {
    let unknown = || {
        (
            Reason::UnknownTopic,
            "topic is not home/{id}/meter, pv, battery, ack, ev/{ev} or heat/{store}".to_owned(),
        )
    };
    let mut levels = topic.splitn(4, '/');
    let (Some("home"), Some(id), Some(channel)) = (levels.next(), levels.next(), levels.next())
    else {
        return Err(unknown());
    };
    let (channel, asset) = match (channel, levels.next()) {
        ("meter", None) => (Channel::Meter, ""),
        ("pv", None) => (Channel::Pv, ""),
        ("battery", None) => (Channel::Battery, ""),
        ("ack", None) => (Channel::Ack, ""),
        ("ev", Some(asset)) if asset::is_id(asset) => (Channel::Ev, asset),
        ("heat", Some(asset)) if asset::is_id(asset) => (Channel::Heat, asset),
        _ => return Err(unknown()),
    };
    let id = HouseholdId::parse(id).ok_or_else(|| {
        let detail = "the id in the topic is not a positive 63-bit integer".to_owned();
        (Reason::BadHousehold, detail)
    })?;
    Ok((id, channel, asset))
}

impl Source<'_> {
    /// Parses one object.
    fn take(self, text: &str, parsed: &mut Parsed, looked_bytes: &mut usize) -> Result<(), Why> {
        *looked_bytes += text.len();
        if let Some(reading) = plain::reading(text, self) {
            parsed.readings.push(reading);
            return Ok(());
        }
        self.take_any(text, parsed, looked_bytes)
    }

    /// Parses whatever [`plain::reading`] leaves: the full parser.
    fn take_any(
        self,
        text: &str,
        parsed: &mut Parsed,
        looked_bytes: &mut usize,
    ) -> Result<(), Why> {
        *looked_bytes += text.len();
        let value: Value =
            serde_json::from_str(text).map_err(|error| not_json(text, &error, looked_bytes))?;
        let Value::Object(object) = value else {
            let detail = "payload is neither an object nor an array of objects".to_owned();
            return Err((Reason::NotAnObject, detail));
        };
        if self.channel == Channel::Ack {
            let ack = take_ack(&object, self.household_id, self.times)?;
            parsed.acks.push(ack);
            return Ok(());
        }
        let id = household_id(&object)?;
        if id != self.household_id {
            let detail = format!("household_id is {id}, the topic says {}", self.household_id);
            return Err((Reason::HouseholdMismatch, detail));
        }
        let ts_ms = time_within(&object, self.times)?;
        if let Channel::Ev | Channel::Heat = self.channel {
            parsed.assets.push(asset::reading(&object, self, ts_ms)?);
            return Ok(());
        }
        let number = |name, range| number(&object, name, range);
        let measurement = match self.channel {
            Channel::Meter => Measurement::Meter {
                consumption_w: number("consumption_w", CONSUMPTION_W)?,
            },
            Channel::Pv => Measurement::Pv {
                pv_w: number("pv_w", PV_W)?,
            },
            Channel::Battery => Measurement::Battery {
                soc_pct: number("soc_pct", SOC_PCT)?,
                power_w: number("power_w", POWER_W)?,
            },
            Channel::Ack | Channel::Ev | Channel::Heat => unreachable!("these were taken above"),
        };
        parsed.readings.push(Reading {
            household_id: id,
            ts_ms,
            measurement,
        });
        Ok(())
    }
}

fn take_ack(
    object: &Map<String, Value>,
    household_id: HouseholdId,
    times: TimeWindow,
) -> Result<Ack, Why> {
    let command_id = text(object, "command_id")?;
    if command_id.is_empty() || command_id.len() > 200 {
        let detail = format!("command_id has {} bytes, 1 to 200", command_id.len());
        return Err((Reason::OutOfRange, detail));
    }
    // An ack needs no household_id. If a device adds one, it must agree with the topic.
    if object.contains_key("household_id") {
        let id = self::household_id(object)?;
        if id != household_id {
            let detail = format!("household_id is {id}, the topic says {household_id}");
            return Err((Reason::HouseholdMismatch, detail));
        }
    }
    let ts_ms = time_within(object, times)?;
    let status = match text(object, "status")? {
        "applied" => AckStatus::Applied,
        "rejected" => AckStatus::Rejected,
        other => {
            let shown: String = other.chars().take(40).collect();
            let detail = format!("status is {shown:?}, not applied or rejected");
            return Err((Reason::OutOfRange, detail));
        }
    };
    let reason = match object.get("reason") {
        None | Some(Value::Null) => String::new(),
        Some(_) => text(object, "reason")?.chars().take(500).collect(),
    };
    Ok(Ack {
        household_id,
        command_id: command_id.to_owned(),
        ts_ms,
        status,
        reason,
    })
}

/// Distinguishes a number that JSON cannot express, such as NaN or 1e999, from other damage.
fn not_json(text: &str, error: &serde_json::Error, looked_bytes: &mut usize) -> Why {
    let too_large = error.to_string().starts_with("number out of range");
    if too_large || scan::holds_bare_nan(text, looked_bytes) {
        return (
            Reason::NotFinite,
            "a number is NaN, infinite or beyond a double".to_owned(),
        );
    }
    (Reason::BadJson, format!("payload is not JSON: {error}"))
}

#[cfg(test)]
mod tests;
