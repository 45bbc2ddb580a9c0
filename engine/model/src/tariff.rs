//! Prices over time, and how records of a tariff become one series.
//!
//! A record speaks of the time that its periods cover and of nothing else: what was known of other times stays known.
//! Each period remembers the record that stated it first, by its offset in the log. Of two periods for the same time the
//! one stated later holds. So it does not matter in which order, or how often, records are taken in; and a record that
//! carries old periods along takes nothing back that was stated meanwhile.

use serde::{Deserialize, Serialize};

use crate::limits::PERIODS_MAX;
use crate::units::DAY_MS;

/// A named series of prices, the value of the `tariffs` topic. Periods ascend and do not overlap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tariff {
    pub name: String,
    pub periods: Vec<PricePeriod>,
    /// Offset of the record that stated each period first; empty where this record states them all.
    #[serde(default)]
    pub stated: Vec<i64>,
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

/// A period, and the offset of the record that stated it first.
type Stated = (PricePeriod, i64);

/// Later than every offset, which in a record means: stated by this one.
const STATED_BY_ITSELF: i64 = i64::MAX;

/// How long prices are kept after their time has passed, ms. The store has its own time to live.
pub const PRICES_KEPT_MS: i64 = 35 * DAY_MS;

/// What is known of one tariff: its records, merged by time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PriceSeries {
    /// Ascending, without overlap.
    periods: Vec<Stated>,
}

/// What a record did to a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The part of the series that the record touches, in whole periods: what a store must hold from its first start to
    /// its last end. Empty where the record changed nothing.
    pub changed: Vec<PricePeriod>,
    /// Whether the series knows something that the record does not say. A log that keeps a tariff's newest record alone
    /// would forget it.
    pub record_lacks: bool,
}

impl PriceSeries {
    /// Merges a record in that stands at `offset` in the log. Periods that ended by `keep_from_ms` are forgotten, and of
    /// more than [`PERIODS_MAX`] the latest ones.
    pub fn merge(&mut self, record: &Tariff, offset: i64, keep_from_ms: i64) -> Merged {
        let stated = |index: usize| record.stated.get(index).copied().unwrap_or(offset);
        let periods = record.periods.iter().enumerate();
        let told: Vec<Stated> = periods
            // An offset from another log, or from the future, is none: the record states it now.
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

    /// The series as a record that says all of it.
    #[must_use]
    pub fn tariff(&self, name: &str) -> Tariff {
        let (periods, stated) = self.periods.iter().copied().unzip();
        Tariff {
            name: name.to_owned(),
            periods,
            stated,
        }
    }

    /// The periods around everything that differs from `before`. Both ends are ends of periods in both, so that what a
    /// store held of `before` is replaced whole.
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

/// The parts of `periods` that no period of `others` takes away; `takes(stated, other's)` says which do. Both ascend
/// without overlap.
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

/// The part of a period in `[from_ms, to_ms)`, if there is one.
fn part(period: &PricePeriod, stated: i64, from_ms: i64, to_ms: i64) -> Option<Stated> {
    let (start_ms, end_ms) = (from_ms, to_ms.min(period.end_ms));
    let part = PricePeriod {
        start_ms,
        end_ms,
        ..*period
    };
    (start_ms < end_ms).then_some((part, stated))
}

/// Whether a period of `told` that was stated by the same record holds all of it.
fn is_within((held, stated): &Stated, told: &[Stated]) -> bool {
    let after = told.partition_point(|(period, _)| period.start_ms <= held.start_ms);
    let around = after.checked_sub(1).map(|index| &told[index]);
    around.is_some_and(|(period, by)| held.end_ms <= period.end_ms && by == stated)
}

#[cfg(test)]
mod tests;
