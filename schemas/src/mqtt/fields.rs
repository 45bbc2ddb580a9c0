//! The fields of a payload's object. Every error names the field and the limit.

use model::units::HouseholdId;
use serde_json::{Map, Value};

use super::ranges::TimeWindow;
use super::scan;
use crate::dead_letter::Reason;
use crate::time::{parse_rfc3339, rfc3339};

/// Why something is refused: the reason, and the details for people.
pub(super) type Why = (Reason, String);

pub(super) fn field<'o>(object: &'o Map<String, Value>, name: &str) -> Result<&'o Value, Why> {
    match object.get(name) {
        None => Err((Reason::MissingField, format!("{name} is missing"))),
        Some(Value::Null) => Err((Reason::MissingField, format!("{name} is null"))),
        Some(value) => Ok(value),
    }
}

pub(super) fn text<'o>(object: &'o Map<String, Value>, name: &str) -> Result<&'o str, Why> {
    let value = field(object, name)?;
    value
        .as_str()
        .ok_or_else(|| wrong_type(name, "a string", value))
}

pub(super) fn wrong_type(name: &str, wanted: &str, found: &Value) -> Why {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    (
        Reason::WrongType,
        format!("{name} is {found}, not {wanted}"),
    )
}

pub(super) fn flag(object: &Map<String, Value>, name: &str) -> Result<bool, Why> {
    let value = field(object, name)?;
    value
        .as_bool()
        .ok_or_else(|| wrong_type(name, "true or false", value))
}

pub(super) fn household_id(object: &Map<String, Value>) -> Result<HouseholdId, Why> {
    let value = field(object, "household_id")?;
    if !value.is_number() {
        return Err(wrong_type("household_id", "a number", value));
    }
    value.as_i64().and_then(HouseholdId::new).ok_or_else(|| {
        let detail = format!("household_id is {value}, not a positive 63-bit integer");
        (Reason::BadHousehold, detail)
    })
}

pub(super) fn number(
    object: &Map<String, Value>,
    name: &str,
    (min, max): (f64, f64),
) -> Result<f64, Why> {
    let value = field(object, name)?;
    let number = match value {
        Value::Number(number) => number.as_f64(),
        // Some devices send NaN and Infinity, which JSON lacks, as strings.
        Value::String(text) if scan::names_no_number(text) => {
            return Err((Reason::NotFinite, format!("{name} is {text:?}")));
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            return Err(wrong_type(name, "a number", value));
        }
    };
    match number {
        Some(number) if !number.is_finite() => {
            Err((Reason::NotFinite, format!("{name} is not finite")))
        }
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err((
            Reason::OutOfRange,
            format!("{name} is {value}, {min} to {max}"),
        )),
    }
}

pub(super) fn time(object: &Map<String, Value>, name: &str) -> Result<i64, Why> {
    let value = text(object, name)?;
    parse_rfc3339(value).ok_or_else(|| {
        let shown: String = value.chars().take(40).collect();
        (
            Reason::BadTime,
            format!("{name} is {shown:?}, not an RFC 3339 time with an offset"),
        )
    })
}

pub(super) fn time_within(object: &Map<String, Value>, times: TimeWindow) -> Result<i64, Why> {
    let ts_ms = time(object, "ts")?;
    if times.contains(ts_ms) {
        return Ok(ts_ms);
    }
    let found = rfc3339(ts_ms);
    if ts_ms > times.latest_ms {
        let latest = rfc3339(times.latest_ms);
        return Err((
            Reason::FutureTime,
            format!("ts is {found}, at most {latest}"),
        ));
    }
    let earliest = rfc3339(times.earliest_ms);
    let detail = format!("ts is {found}, at least {earliest}: older readings are not kept");
    Err((Reason::PastTime, detail))
}
