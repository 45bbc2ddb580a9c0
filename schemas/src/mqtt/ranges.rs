//! The numbers and times that a home's payload may contain.

use model::limits::{BELOW_ZERO_SHARE, BELOW_ZERO_W, SOC_BEYOND_PCT, TEMPERATURE_C_MAX};

use crate::time::TS_MS_MAX;

/// Largest power of any home, W; more is a broken meter.
pub const POWER_W_MAX: f64 = 10_000_000.0;
/// Earliest time of a reading, UTC epoch milliseconds: 2000-01-01. An earlier one comes from a device whose clock was
/// never set.
pub const DEVICE_TS_MS_MIN: i64 = 946_684_800_000;

/// Smallest and largest value of each field in any home. The household knows its own plant: it clamps values that are
/// slightly outside a gauge's range and refuses what its plant cannot do.
pub(crate) const CONSUMPTION_W: (f64, f64) = (-BELOW_ZERO_W, POWER_W_MAX);
/// The lower bound is the share that still reads as 0, for a plant of 50 kW, the largest of a home.
pub(crate) const PV_W: (f64, f64) = (-BELOW_ZERO_SHARE * 50_000.0, POWER_W_MAX);
pub(crate) const SOC_PCT: (f64, f64) = (-SOC_BEYOND_PCT, 100.0 + SOC_BEYOND_PCT);
pub(crate) const POWER_W: (f64, f64) = (-POWER_W_MAX, POWER_W_MAX);
pub(crate) const HEATER_W: (f64, f64) = (-BELOW_ZERO_W, POWER_W_MAX);
pub(crate) const TEMPERATURE_C: (f64, f64) = (-TEMPERATURE_C_MAX, TEMPERATURE_C_MAX);

/// The times that readings and answers may have, UTC epoch milliseconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    /// Earliest time. Anything older is no longer in the store, or comes from a clock that was never set.
    pub earliest_ms: i64,
    /// Latest time. Anything later comes from a clock that is ahead.
    pub latest_ms: i64,
}

impl TimeWindow {
    /// Returns the window from `age_ms_max` before `now_ms` to `skew_ms_max` after it, cut to [`DEVICE_TS_MS_MIN`] and
    /// [`TS_MS_MAX`]. `age_ms_max` is how long readings are kept, `i64::MAX` for ever.
    #[must_use]
    pub const fn around(now_ms: i64, age_ms_max: i64, skew_ms_max: i64) -> Self {
        let earliest_ms = now_ms.saturating_sub(age_ms_max);
        let latest_ms = now_ms.saturating_add(skew_ms_max);
        Self {
            earliest_ms: if earliest_ms > DEVICE_TS_MS_MIN {
                earliest_ms
            } else {
                DEVICE_TS_MS_MIN
            },
            latest_ms: if latest_ms < TS_MS_MAX {
                latest_ms
            } else {
                TS_MS_MAX
            },
        }
    }

    pub(super) const fn contains(self, ts_ms: i64) -> bool {
        self.earliest_ms <= ts_ms && ts_ms <= self.latest_ms
    }
}
