//! Prices over time.

use serde::{Deserialize, Serialize};

/// A named series of prices, the value of the `tariffs` topic. Periods ascend and do not overlap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tariff {
    pub name: String,
    pub periods: Vec<PricePeriod>,
}

/// Prices that hold in `[start_ms, end_ms)`, currency per kWh; may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PricePeriod {
    pub start_ms: i64,
    pub end_ms: i64,
    pub buy_per_kwh: f64,
    pub sell_per_kwh: f64,
}

impl Tariff {
    /// The period that holds `ts_ms`, or `None` where the series has a gap or has ended. Missing is never zero.
    #[must_use]
    pub fn at_ms(&self, ts_ms: i64) -> Option<&PricePeriod> {
        let after = self
            .periods
            .partition_point(|period| period.start_ms <= ts_ms);
        let period = self.periods.get(after.checked_sub(1)?)?;
        (ts_ms < period.end_ms).then_some(period)
    }
}
