//! The fast path for what nearly every device sends: one reading with exactly its own fields, parsed in one pass without
//! a copy. It accepts only what the full parser accepts, with the same result. Everything else goes to the full parser.

use model::reading::{Measurement, Reading};
use serde::Deserialize;

use super::ranges::{CONSUMPTION_W, POWER_W, PV_W, SOC_PCT};
use super::source::{Channel, Source};
use crate::time::parse_rfc3339;

// Other fields may hold what the full parser refuses, such as 1e999, so payloads with other fields are left to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Meter<'a> {
    household_id: i64,
    ts: &'a str,
    consumption_w: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pv<'a> {
    household_id: i64,
    ts: &'a str,
    pv_w: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Battery<'a> {
    household_id: i64,
    ts: &'a str,
    soc_pct: f64,
    power_w: f64,
}

/// Returns the reading, or `None` if `text` is for the full parser.
pub(super) fn reading(text: &str, source: Source<'_>) -> Option<Reading> {
    let (id, ts, measurement) = match source.channel {
        Channel::Meter => {
            let read: Meter<'_> = object(text)?;
            let consumption_w = within(read.consumption_w, CONSUMPTION_W)?;
            let measurement = Measurement::Meter { consumption_w };
            (read.household_id, read.ts, measurement)
        }
        Channel::Pv => {
            let read: Pv<'_> = object(text)?;
            let pv_w = within(read.pv_w, PV_W)?;
            (read.household_id, read.ts, Measurement::Pv { pv_w })
        }
        Channel::Battery => {
            let read: Battery<'_> = object(text)?;
            let soc_pct = within(read.soc_pct, SOC_PCT)?;
            let power_w = within(read.power_w, POWER_W)?;
            let measurement = Measurement::Battery { soc_pct, power_w };
            (read.household_id, read.ts, measurement)
        }
        Channel::Ack | Channel::Ev | Channel::Heat => return None,
    };
    let ts_ms = parse_rfc3339(ts)?;
    let is_ours = id == source.household_id.get() && source.times.contains(ts_ms);
    is_ours.then_some(Reading {
        household_id: source.household_id,
        ts_ms,
        measurement,
    })
}

/// Parses an object. Without the check, serde would also read a struct from an array, which the full parser refuses.
fn object<'t, T: Deserialize<'t>>(text: &'t str) -> Option<T> {
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).ok()
    } else {
        None
    }
}

fn within(number: f64, (min, max): (f64, f64)) -> Option<f64> {
    (min..=max).contains(&number).then_some(number)
}
