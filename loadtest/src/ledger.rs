//! The ledger records every reading that was sent, whether it was acknowledged and how long that took. It is compared
//! with the rows of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use model::reading::{Kind, Reading};
use model::units::HouseholdId;
use serde::Serialize;

/// A series of readings: the rows of one home in one table.
pub type Series = (HouseholdId, Kind);

/// The readings of one run. It grows with the run, and is meant for runs of minutes.
#[derive(Debug)]
pub struct Ledger {
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    /// For each series the times sent, and whether each reading was acknowledged.
    sent: BTreeMap<Series, BTreeMap<i64, bool>>,
    /// PUBLISH to PUBACK, microseconds.
    latency_us: Histogram<u64>,
    newest: Option<(Series, i64, Instant)>,
}

/// The result of comparing the ledger with the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Different readings that were sent.
    pub sent: u64,
    /// Those with a PUBACK.
    pub acknowledged: u64,
    /// Acknowledged readings that the store holds.
    pub stored: u64,
    /// Acknowledged readings that the store does not hold.
    pub lost: u64,
    /// Rows beyond the first for the same reading.
    pub duplicated: u64,
    /// Rows for readings that nobody sent.
    pub unknown: u64,
}

/// Percentiles of a latency, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencyMs {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// Makes an empty ledger.
    #[must_use]
    pub fn new() -> Self {
        let latency_us = latency_histogram();
        Self {
            book: Mutex::new(Book {
                sent: BTreeMap::new(),
                latency_us,
                newest: None,
            }),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the reading was sent for the first time.
    pub fn sent(&self, reading: &Reading) {
        let mut book = self.book();
        let times = book.sent.entry(series(reading)).or_default();
        times.entry(reading.ts_ms).or_insert(false);
    }

    /// Notes the reading's PUBACK, `after` its first publish.
    pub fn acknowledged(&self, reading: &Reading, after: Duration) {
        let mut book = self.book();
        let times = book.sent.entry(series(reading)).or_default();
        times.insert(reading.ts_ms, true);
        book.newest = Some((series(reading), reading.ts_ms, Instant::now()));
        let after_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        book.latency_us.saturating_record(after_us);
    }

    /// Returns every series with its first and last time, ascending.
    #[must_use]
    pub fn series(&self) -> Vec<(Series, i64, i64)> {
        let book = self.book();
        let ends =
            |times: &BTreeMap<i64, bool>| Some((*times.keys().next()?, *times.keys().next_back()?));
        book.sent
            .iter()
            .filter_map(|(series, times)| ends(times).map(|(first, last)| (*series, first, last)))
            .collect()
    }

    /// Compares one series with the times of the rows that a store holds for it.
    #[must_use]
    pub fn compare(&self, series: Series, rows_ms: &[i64]) -> Comparison {
        let book = self.book();
        let nothing = BTreeMap::new();
        let times = book.sent.get(&series).unwrap_or(&nothing);
        let rows: BTreeSet<i64> = rows_ms.iter().copied().collect();
        let acknowledged = times.iter().filter(|(_, acknowledged)| **acknowledged);
        let stored = acknowledged
            .clone()
            .filter(|(ts_ms, _)| rows.contains(ts_ms))
            .count() as u64;
        let acknowledged = acknowledged.count() as u64;
        Comparison {
            sent: times.len() as u64,
            acknowledged,
            stored,
            lost: acknowledged - stored,
            duplicated: (rows_ms.len() - rows.len()) as u64,
            unknown: rows
                .iter()
                .filter(|ts_ms| !times.contains_key(ts_ms))
                .count() as u64,
        }
    }

    /// Returns the reading that was acknowledged last, its time, and when the PUBACK came.
    #[must_use]
    pub fn newest(&self) -> Option<(Series, i64, Instant)> {
        self.book().newest
    }

    /// Returns the latency from the first PUBLISH of a reading to its PUBACK; `None` before the first PUBACK.
    #[must_use]
    pub fn latency(&self) -> Option<LatencyMs> {
        LatencyMs::of(&self.book().latency_us)
    }
}

/// Makes a histogram of latencies in microseconds, up to an hour; longer ones count as an hour. Its range is fixed because
/// `saturating_record` cuts off at the current range, and a histogram that grows starts with a range of 2.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    let longest_us = 3_600_000_000;
    Histogram::new_with_max(longest_us, 3).expect("three digits up to an hour are valid")
}

impl LatencyMs {
    /// Returns the percentiles of a histogram in microseconds; `None` if it is empty.
    #[must_use]
    pub fn of(latency_us: &Histogram<u64>) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a run")]
        let at = |quantile: f64| latency_us.value_at_quantile(quantile) as f64 / 1e3;
        (!latency_us.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        })
    }
}

impl std::ops::AddAssign for Comparison {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.stored += other.stored;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.unknown += other.unknown;
    }
}

fn series(reading: &Reading) -> Series {
    (reading.household_id, reading.measurement.kind())
}

#[cfg(test)]
mod tests {
    use model::reading::Measurement;

    use super::*;

    fn reading(ts_ms: i64) -> Reading {
        Reading {
            household_id: HouseholdId::new(1).unwrap(),
            ts_ms,
            measurement: Measurement::Pv { pv_w: 1.0 },
        }
    }

    /// Three readings sent, the first two acknowledged.
    #[track_caller]
    fn check(rows_ms: &[i64], stored: u64, lost: u64, duplicated: u64, unknown: u64) {
        let ledger = Ledger::new();
        for ts_ms in [1_000, 2_000, 3_000] {
            ledger.sent(&reading(ts_ms));
        }
        for (ts_ms, after_ms) in [(1_000, 5), (2_000, 50)] {
            ledger.acknowledged(&reading(ts_ms), Duration::from_millis(after_ms));
        }
        let series = series(&reading(1_000));
        assert_eq!(ledger.series(), [(series, 1_000, 3_000)]);
        let expected = Comparison {
            sent: 3,
            acknowledged: 2,
            stored,
            lost,
            duplicated,
            unknown,
        };
        assert_eq!(ledger.compare(series, rows_ms), expected);
        let latency = ledger.latency().unwrap();
        assert!((latency.p50 - 5.0).abs() < 0.1 && (latency.p999 - 50.0).abs() < 0.1);
    }

    #[test]
    fn rows_are_compared_with_what_was_acknowledged() {
        check(&[1_000, 2_000], 2, 0, 0, 0);
        check(&[1_000], 1, 1, 0, 0);
        check(&[], 0, 2, 0, 0);
        check(&[1_000, 2_000, 3_000], 2, 0, 0, 0);
        check(&[1_000, 2_000, 2_000], 2, 0, 1, 0);
        check(&[1_000, 2_000, 2_500], 2, 0, 0, 1);
    }

    #[test]
    fn latencies_keep_their_size() {
        let mut latency_us = latency_histogram();
        assert_eq!(LatencyMs::of(&latency_us), None);
        for after_us in [1_500, 20_000, 3_000_000] {
            latency_us.saturating_record(after_us);
        }
        let latency = LatencyMs::of(&latency_us).unwrap();
        assert!((latency.p50 - 20.0).abs() < 0.1, "{latency:?}");
        assert!((latency.p999 - 3_000.0).abs() < 5.0, "{latency:?}");
    }

    #[test]
    fn a_reading_sent_twice_is_one() {
        let ledger = Ledger::new();
        ledger.sent(&reading(1));
        ledger.acknowledged(&reading(1), Duration::ZERO);
        ledger.sent(&reading(1));
        let compared = ledger.compare(series(&reading(1)), &[]);
        assert_eq!((compared.sent, compared.acknowledged), (1, 1));
    }
}
