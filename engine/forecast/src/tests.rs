//! Tests beside the code: hand-worked values, golden values of pvlib, and properties.

mod compete;
mod home;
mod irradiance;
mod load;
mod profiles;
mod pv;
mod scenarios;
mod sun;

use model::units::{DAY_MS, HOUR_MS, MINUTE_MS};

/// 2026-06-01 00:00 UTC, a Monday.
const MONDAY_MS: i64 = 1_780_272_000_000;

/// Returns the moment some days, hours and minutes after [`MONDAY_MS`].
const fn at(days: i64, hours: i64, minutes: i64) -> i64 {
    MONDAY_MS + days * DAY_MS + hours * HOUR_MS + minutes * MINUTE_MS
}

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{found} is not within {tolerance} of {expected}"
    );
}
