//! How long rows are kept, and how long a time one query may cover. The same limits apply to every store.

use model::asset::AssetReading;
use model::tariff::PricePeriod;
use model::units::DAY_MS;

use platform::store::StoreError;

/// Most days of readings, slots or commands that one call may ask for.
pub const RANGE_DAYS_MAX: i64 = 400;

platform::settings! {
    /// Days that rows are kept, by table; 0 keeps them for ever. CQL counts from the time of the write. The embedded store
    /// counts back from a household's newest row, so that simulated time and replayed years are kept as well.
    #[derive(Copy)]
    pub struct Retention {
        /// `meter_readings`, `pv_generation`, `battery_state`, `ev_state` and `heat_state`; days.
        #[range(0..=36_500)]
        readings_days: u32 = 90,
        /// `slots`; days.
        #[range(0..=36_500)]
        slots_days: u32 = 730,
        /// `schedules`; days.
        #[range(0..=36_500)]
        schedules_days: u32 = 30,
        /// `commands`; days.
        #[range(0..=36_500)]
        commands_days: u32 = 30,
        /// `weather_forecast`; days.
        #[range(0..=36_500)]
        weather_days: u32 = 90,
    }
}

/// Returns the readings ascending by (time, kind, id).
pub(super) fn in_order(mut readings: Vec<AssetReading>) -> Vec<AssetReading> {
    readings.sort_by(|one, other| {
        let key = |reading: &AssetReading| (reading.ts_ms, reading.state.kind());
        (key(one), &one.id).cmp(&(key(other), &other.id))
    });
    readings
}

/// Checks `[from_ms, to_ms)` against [`RANGE_DAYS_MAX`]; returns false if the range is empty.
pub(super) fn check_range(from_ms: i64, to_ms: i64) -> Result<bool, StoreError> {
    if to_ms <= from_ms {
        return Ok(false);
    }
    let wide = to_ms
        .checked_sub(from_ms)
        .is_none_or(|span_ms| span_ms > RANGE_DAYS_MAX * DAY_MS);
    if wide {
        return Err(StoreError::Refused(format!(
            "a range is at most {RANGE_DAYS_MAX} days, not {from_ms} to {to_ms}"
        )));
    }
    Ok(true)
}

/// Cuts each period where the next one begins, since a newer series may begin inside a long older period. `periods`
/// are in ascending order.
pub(super) fn without_overlaps(mut periods: Vec<PricePeriod>, from_ms: i64) -> Vec<PricePeriod> {
    for next_index in 1..periods.len() {
        let next_start_ms = periods[next_index].start_ms;
        let period = &mut periods[next_index - 1];
        period.end_ms = period.end_ms.min(next_start_ms);
    }
    periods.retain(|period| period.end_ms > from_ms && period.end_ms > period.start_ms);
    periods
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, PricePeriod, RANGE_DAYS_MAX, check_range, without_overlaps};

    #[test]
    fn a_range_is_bounded() {
        assert!(check_range(0, RANGE_DAYS_MAX * DAY_MS).unwrap());
        assert!(check_range(0, RANGE_DAYS_MAX * DAY_MS + 1).is_err());
        assert!(check_range(i64::MIN, i64::MAX).is_err());
        assert!(!check_range(5, 5).unwrap());
        assert!(!check_range(i64::MAX, i64::MIN).unwrap());
    }

    #[test]
    fn a_long_period_ends_where_the_next_begins() {
        let period = |start_ms, end_ms| PricePeriod {
            start_ms,
            end_ms,
            buy_per_kwh: 0.3,
            sell_per_kwh: 0.1,
        };
        assert_eq!(
            without_overlaps(vec![period(0, 100), period(40, 50)], 10),
            [period(0, 40), period(40, 50)]
        );
        assert_eq!(
            without_overlaps(vec![period(0, 100), period(40, 50)], 40),
            [period(40, 50)]
        );
    }
}
