//! Prices over time, and how records of a tariff become one series.
//!
//! A record changes only the time that its periods cover; prices for other times stay. Each period keeps the offset of
//! the record that stated it first. If two periods cover the same time, the one stated later wins. So records may be
//! merged in any order, and more than once. A record that repeats old periods does not undo newer ones.

use serde::{Deserialize, Serialize};

use crate::limits::{
    LimitError, NAME_BYTES_MAX, PERIODS_MAX, PRICE_MAX, TIME_MS_MAX, counted, limit_error, named,
    within,
};
use crate::units::DAY_MS;

/// A named series of prices, the value of the `tariffs` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tariff {
    /// Its name: 1 to `NAME_BYTES_MAX` bytes.
    pub name: String,
    /// The prices: ascending, without overlap, at most `PERIODS_MAX`.
    pub periods: Vec<PricePeriod>,
    /// For each period, the offset of the record that stated it first; empty if this record states them all.
    #[serde(default)]
    pub stated: Vec<i64>,
}

/// Prices in `[start_ms, end_ms)`, which are UTC epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PricePeriod {
    /// First moment, 0 or more.
    pub start_ms: i64,
    /// First moment after the period: after `start_ms`, at most `TIME_MS_MAX`.
    pub end_ms: i64,
    /// Price of import, currency per kWh: `-PRICE_MAX` to `PRICE_MAX`.
    pub buy_per_kwh: f64,
    /// Price of export, currency per kWh: `-PRICE_MAX` to `PRICE_MAX`; positive is paid to the home.
    pub sell_per_kwh: f64,
}

impl Tariff {
    /// Returns the period that contains `ts_ms`, or `None` if no price is known for it. A missing price is never taken
    /// as 0.
    #[must_use]
    pub fn at_ms(&self, ts_ms: i64) -> Option<&PricePeriod> {
        let after = self
            .periods
            .partition_point(|period| period.start_ms <= ts_ms);
        let period = self.periods.get(after.checked_sub(1)?)?;
        (ts_ms < period.end_ms).then_some(period)
    }

    /// Checks the name, the prices and the order of the periods. A tariff without periods passes: it changes nothing.
    ///
    /// # Errors
    /// Returns the first field that breaks its limit.
    pub fn check(&self) -> Result<(), LimitError> {
        named("name", &self.name, 1, NAME_BYTES_MAX)?;
        counted("periods", self.periods.len(), 0, PERIODS_MAX)?;
        if !self.stated.is_empty() && self.stated.len() != self.periods.len() {
            let found = format!("{} entries", self.stated.len());
            let expected = format!("none, or {} as periods has", self.periods.len());
            return Err(limit_error("stated", found, expected));
        }
        let mut free_from_ms = 0;
        for (index, period) in self.periods.iter().enumerate() {
            let buy = format_args!("periods[{index}].buy");
            within(buy, period.buy_per_kwh, -PRICE_MAX, PRICE_MAX)?;
            let sell = format_args!("periods[{index}].sell");
            within(sell, period.sell_per_kwh, -PRICE_MAX, PRICE_MAX)?;
            let (start_ms, end_ms) = (period.start_ms, period.end_ms);
            if start_ms < free_from_ms {
                let expected = match index {
                    0 => "a time since 1970",
                    _ => "a time at or after the end of the period before",
                };
                let field = format!("periods[{index}].start");
                return Err(limit_error(field, format!("{start_ms} ms"), expected));
            }
            if end_ms <= start_ms || end_ms > TIME_MS_MAX {
                let expected = "a time after its start and before the year 9999";
                let field = format!("periods[{index}].end");
                return Err(limit_error(field, format!("{end_ms} ms"), expected));
            }
            free_from_ms = end_ms;
        }
        Ok(())
    }
}

/// A period, and the offset of the record that stated it first.
type Stated = (PricePeriod, i64);

/// Later than every offset, which in a record means: stated by this one.
const STATED_BY_ITSELF: i64 = i64::MAX;

/// How long prices are kept after their time has passed, ms. The store has its own time to live.
pub const PRICES_KEPT_MS: i64 = 35 * DAY_MS;

/// All known prices of one tariff: its records, merged by time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PriceSeries {
    /// Ascending, without overlap.
    periods: Vec<Stated>,
}

/// What a record did to a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The changed part of the series, in whole periods: what a store must hold from the first start to the last end.
    /// Empty if the record changed nothing.
    pub changed: Vec<PricePeriod>,
    /// Whether the series has prices that the record lacks. A log that keeps only the newest record of a tariff would
    /// lose them.
    pub record_lacks: bool,
}

impl PriceSeries {
    /// Merges the record at `offset` in the log. Forgets periods that ended by `keep_from_ms`. If more than
    /// [`PERIODS_MAX`] remain, keeps the earliest ones.
    pub fn merge(&mut self, record: &Tariff, offset: i64, keep_from_ms: i64) -> Merged {
        let stated = |index: usize| record.stated.get(index).copied().unwrap_or(offset);
        let periods = record.periods.iter().enumerate();
        let told: Vec<Stated> = periods
            // An offset beyond the record's own cannot be true (it may come from another log): use the record's.
            .map(|(index, period)| (*period, stated(index).clamp(0, offset.max(0))))
            .collect();
        let before = std::mem::take(&mut self.periods);
        let kept = without(&before, &told, |held, told| told >= held);
        let news = without(&told, &before, |told, held| held > told);
        let mut periods = [kept, news].concat();
        periods.sort_by_key(|(period, _)| period.start_ms);
        periods.retain(|(period, _)| period.end_ms > keep_from_ms);
        periods.truncate(PERIODS_MAX);
        self.periods = periods;
        Merged {
            changed: self.changed_since(&before),
            record_lacks: self.periods.iter().any(|held| !is_within(held, &told)),
        }
    }

    /// Returns a record that says all of this series with the periods of `newer` over it, which the record itself
    /// states. Whatever others state before the record has its offset is not taken back.
    #[must_use]
    pub fn with(&self, newer: &Tariff, keep_from_ms: i64) -> Tariff {
        let mut series = self.clone();
        series.merge(newer, STATED_BY_ITSELF, keep_from_ms);
        series.tariff(&newer.name)
    }

    /// Returns the whole series as one record.
    #[must_use]
    pub fn tariff(&self, name: &str) -> Tariff {
        let (periods, stated) = self.periods.iter().copied().unzip();
        Tariff {
            name: name.to_owned(),
            periods,
            stated,
        }
    }

    /// Returns the periods around everything that differs from `before`. The range begins and ends with a period's bound
    /// in both series, so no row of `before` is left half replaced.
    fn changed_since(&self, before: &[Stated]) -> Vec<PricePeriod> {
        let same_front = self.periods.iter().zip(before);
        let front = same_front.take_while(|(one, other)| one == other).count();
        let rest = (self.periods.len() - front).min(before.len() - front);
        let same_back = self.periods.iter().rev().zip(before.iter().rev());
        let back = same_back
            .take(rest)
            .take_while(|(one, other)| one == other)
            .count();
        let changed = &self.periods[front..self.periods.len() - back];
        changed.iter().map(|(period, _)| *period).collect()
    }
}

/// Returns the parts of `periods` that no period of `others` takes away. `takes(stated, other_stated)` decides whether
/// one does. Both lists ascend without overlap.
fn without(periods: &[Stated], others: &[Stated], takes: impl Fn(i64, i64) -> bool) -> Vec<Stated> {
    let mut left = Vec::with_capacity(periods.len());
    let mut first = 0;
    for (period, stated) in periods {
        let mut from_ms = period.start_ms;
        while others
            .get(first)
            .is_some_and(|(other, _)| other.end_ms <= from_ms)
        {
            first += 1;
        }
        let around = others[first..].iter();
        for (other, by) in around.take_while(|(other, _)| other.start_ms < period.end_ms) {
            if !takes(*stated, *by) {
                continue;
            }
            left.extend(part(period, *stated, from_ms, other.start_ms));
            from_ms = from_ms.max(other.end_ms);
        }
        left.extend(part(period, *stated, from_ms, period.end_ms));
    }
    left
}

/// Returns the part of a period in `[from_ms, to_ms)`, if any.
fn part(period: &PricePeriod, stated: i64, from_ms: i64, to_ms: i64) -> Option<Stated> {
    let (start_ms, end_ms) = (from_ms, to_ms.min(period.end_ms));
    let part = PricePeriod {
        start_ms,
        end_ms,
        ..*period
    };
    (start_ms < end_ms).then_some((part, stated))
}

/// Returns whether one period of `told`, stated by the same record, covers all of this one.
fn is_within((held, stated): &Stated, told: &[Stated]) -> bool {
    let after = told.partition_point(|(period, _)| period.start_ms <= held.start_ms);
    let around = after.checked_sub(1).map(|index| &told[index]);
    around.is_some_and(|(period, by)| held.end_ms <= period.end_ms && by == stated)
}

#[cfg(test)]
mod tests;
