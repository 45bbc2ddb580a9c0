//! Records of a tariff become one series, compared with prices noted hour by hour.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{PricePeriod, PriceSeries, Tariff};
use crate::limits::PERIODS_MAX;

const EVER: i64 = i64::MIN;

fn tariff(periods: &[(i64, i64, i32)]) -> Tariff {
    let periods = periods.iter().map(|(start_ms, end_ms, price)| PricePeriod {
        start_ms: *start_ms,
        end_ms: *end_ms,
        buy_per_kwh: f64::from(*price),
        sell_per_kwh: f64::from(-*price),
    });
    Tariff {
        name: "dynamic".to_owned(),
        periods: periods.collect(),
        stated: Vec::new(),
    }
}

fn periods(series: &PriceSeries) -> Vec<(i64, i64, i32)> {
    shown(&series.tariff("dynamic").periods)
}

#[expect(clippy::cast_possible_truncation, reason = "whole prices")]
fn shown(periods: &[PricePeriod]) -> Vec<(i64, i64, i32)> {
    let shown = periods.iter().map(|period| {
        assert_eq!(period.sell_per_kwh, -period.buy_per_kwh);
        (period.start_ms, period.end_ms, period.buy_per_kwh as i32)
    });
    shown.collect()
}

/// After the records `told`, one after the other, the series is `expected`.
#[track_caller]
fn check(told: &[&[(i64, i64, i32)]], expected: &[(i64, i64, i32)]) {
    let mut series = PriceSeries::default();
    for (offset, record) in (0..).zip(told) {
        series.merge(&tariff(record), offset, EVER);
    }
    assert_eq!(periods(&series), expected);
}

#[test]
fn what_was_known_stays_known() {
    // Tomorrow's prices come; nothing comes; today's come again.
    check(&[&[(0, 10, 1)], &[(10, 20, 2)]], &[(0, 10, 1), (10, 20, 2)]);
    check(&[&[(0, 10, 1)], &[]], &[(0, 10, 1)]);
    check(&[&[(0, 10, 1)], &[(0, 10, 1)]], &[(0, 10, 1)]);
    check(&[&[], &[(0, 10, 1)]], &[(0, 10, 1)]);
    // Out of order, and with a gap that stays one.
    check(&[&[(20, 30, 3)], &[(0, 10, 1)]], &[(0, 10, 1), (20, 30, 3)]);
}

#[test]
fn the_later_record_holds_where_it_speaks() {
    check(&[&[(0, 10, 1)], &[(0, 10, 2)]], &[(0, 10, 2)]);
    check(&[&[(0, 10, 1)], &[(5, 15, 2)]], &[(0, 5, 1), (5, 15, 2)]);
    check(&[&[(5, 15, 1)], &[(0, 10, 2)]], &[(0, 10, 2), (10, 15, 1)]);
    check(
        &[&[(0, 9, 1)], &[(3, 6, 2)]],
        &[(0, 3, 1), (3, 6, 2), (6, 9, 1)],
    );
    check(
        &[&[(0, 4, 1), (4, 8, 2), (8, 12, 3)], &[(2, 10, 4)]],
        &[(0, 2, 1), (2, 10, 4), (10, 12, 3)],
    );
    // Quarter hours into hours, and an hour over quarter hours.
    check(
        &[&[(0, 4, 1), (4, 8, 1)], &[(1, 2, 2), (5, 6, 3)]],
        &[
            (0, 1, 1),
            (1, 2, 2),
            (2, 4, 1),
            (4, 5, 1),
            (5, 6, 3),
            (6, 8, 1),
        ],
    );
    check(
        &[&[(0, 1, 1), (1, 2, 2), (3, 4, 3)], &[(0, 4, 9)]],
        &[(0, 4, 9)],
    );
}

/// Two writers read the same series and each adds to it: neither takes the other's back.
#[test]
fn a_record_that_carries_old_periods_along_takes_nothing_back() {
    let mut series = PriceSeries::default();
    series.merge(&tariff(&[(0, 10, 1), (10, 20, 2)]), 5, EVER);
    let read = series.clone();
    let mut one = read.clone();
    one.merge(&tariff(&[(0, 10, 7)]), 6, EVER);
    let mut other = read;
    other.merge(&tariff(&[(10, 20, 8)]), 7, EVER);
    for told in [[&one, &other], [&other, &one]] {
        let mut series = series.clone();
        for (offset, carried) in (8..).zip(told) {
            series.merge(&carried.tariff("dynamic"), offset, EVER);
        }
        assert_eq!(periods(&series), [(0, 10, 7), (10, 20, 8)]);
    }
}

#[test]
fn a_record_that_lacks_something_is_told() {
    let mut series = PriceSeries::default();
    assert!(!series.merge(&tariff(&[(0, 10, 1)]), 0, EVER).record_lacks);
    assert!(series.merge(&tariff(&[(10, 20, 2)]), 1, EVER).record_lacks);
    assert!(series.merge(&tariff(&[]), 2, EVER).record_lacks);
    let whole = series.tariff("dynamic");
    let merged = series.merge(&whole, 3, EVER);
    assert!(!merged.record_lacks && merged.changed.is_empty());
    // What has gone is not missed.
    assert!(!series.merge(&tariff(&[(20, 30, 3)]), 4, 20).record_lacks);
    assert_eq!(periods(&series), [(20, 30, 3)]);
}

/// What is written to a store that removes everything from the first start to the last end.
#[test]
fn a_change_is_told_in_whole_periods() {
    let mut series = PriceSeries::default();
    let first = [(0, 10, 1), (10, 20, 2), (20, 30, 3), (30, 40, 4)];
    assert_eq!(
        shown(&series.merge(&tariff(&first), 0, EVER).changed),
        first
    );
    let merged = series.merge(&tariff(&[(12, 15, 9)]), 1, EVER);
    assert_eq!(
        shown(&merged.changed),
        [(10, 12, 2), (12, 15, 9), (15, 20, 2)]
    );
    let merged = series.merge(&tariff(&[(18, 25, 8)]), 2, EVER);
    assert_eq!(
        shown(&merged.changed),
        [(15, 18, 2), (18, 25, 8), (25, 30, 3)]
    );
}

#[test]
fn a_series_is_bounded() {
    let mut series = PriceSeries::default();
    let many = |from: i64| {
        let hours: Vec<_> = (from..)
            .take(PERIODS_MAX)
            .map(|at| (at, at + 1, 1))
            .collect();
        tariff(&hours)
    };
    series.merge(&many(100), 0, EVER);
    series.merge(&many(0), 1, EVER);
    let held = periods(&series);
    assert_eq!(held.len(), PERIODS_MAX);
    assert_eq!(held[0].0, 0, "the latest periods go, not the present ones");
}

/// An offset of another log does not make a period later than every record to come.
#[test]
fn offsets_of_another_log_do_not_hold_for_ever() {
    let mut series = PriceSeries::default();
    let moved = Tariff {
        stated: vec![1_000_000],
        ..tariff(&[(0, 10, 1)])
    };
    series.merge(&moved, 0, EVER);
    series.merge(&tariff(&[(0, 10, 2)]), 1, EVER);
    assert_eq!(periods(&series), [(0, 10, 2)]);
}

/// Two who know the same write at the same time: neither takes back what the other states.
#[test]
fn what_two_put_at_the_same_time_is_kept() {
    let mut series = PriceSeries::default();
    series.merge(&tariff(&[(0, 30, 1)]), 0, EVER);
    let one = series.with(&tariff(&[(0, 10, 2)]), EVER);
    let other = series.with(&tariff(&[(10, 20, 3), (30, 40, 4)]), EVER);
    assert_eq!(shown(&one.periods), [(0, 10, 2), (10, 30, 1)]);
    assert!(!series.merge(&one, 1, EVER).record_lacks);
    assert!(series.merge(&other, 2, EVER).record_lacks);
    let both = [(0, 10, 2), (10, 20, 3), (20, 30, 1), (30, 40, 4)];
    assert_eq!(periods(&series), both);
    // What is read from the log again changes nothing.
    series.merge(&one, 1, EVER);
    assert_eq!(periods(&series), both);
    // A record that says all of it needs nothing before it.
    let mut alone = PriceSeries::default();
    alone.merge(&series.tariff("dynamic"), 3, EVER);
    assert_eq!(periods(&alone), both);
}

/// Periods between hours 0 and 60, with gaps.
fn some_record() -> impl Strategy<Value = Tariff> {
    prop::collection::vec((0..8_i64, 1..8_i64, 0..100_i32), 0..8).prop_map(|steps| {
        let mut at = 0;
        let periods: Vec<_> = steps
            .into_iter()
            .map(|(gap, length, price)| {
                let start = at + gap;
                at = start + length;
                (start, at, price)
            })
            .collect();
        tariff(&periods)
    })
}

/// The buying price of each hour, later records over earlier ones.
fn by_hour(records: &[Tariff]) -> BTreeMap<i64, f64> {
    let mut prices = BTreeMap::new();
    for period in records.iter().flat_map(|record| &record.periods) {
        prices.extend((period.start_ms..period.end_ms).map(|at| (at, period.buy_per_kwh)));
    }
    prices
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_become_what_they_say_hour_by_hour(
        records in prop::collection::vec(some_record(), 0..8),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut series = PriceSeries::default();
        let mut store: BTreeMap<i64, PricePeriod> = BTreeMap::new();
        for (offset, record) in (0..).zip(&records) {
            let merged = series.merge(record, offset, EVER);
            if let (Some(first), Some(last)) = (merged.changed.first(), merged.changed.last()) {
                store.retain(|start_ms, _| !(first.start_ms..last.end_ms).contains(start_ms));
            }
            store.extend(merged.changed.iter().map(|period| (period.start_ms, *period)));
        }
        let whole = series.tariff("dynamic");
        prop_assert_eq!(whole.check(), Ok(()));
        prop_assert_eq!(by_hour(std::slice::from_ref(&whole)), by_hour(&records));
        // Store and engine have one truth.
        let stored: Vec<PricePeriod> = store.into_values().collect();
        prop_assert_eq!(&stored, &whole.periods);
        // The series said whole, records read again in any order: nothing changes.
        for index in again {
            if records.is_empty() {
                break;
            }
            let at = index.index(records.len());
            series.merge(&records[at], i64::try_from(at).unwrap(), EVER);
            series.merge(&whole, 100, EVER);
        }
        prop_assert_eq!(by_hour(&[series.tariff("dynamic")]), by_hour(&records));
    }

    #[test]
    fn the_order_of_records_does_not_matter(
        records in prop::collection::vec(some_record(), 1..6),
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut series = PriceSeries::default();
        for at in order.into_iter().filter(|at| *at < records.len()) {
            series.merge(&records[at], i64::try_from(at).unwrap(), EVER);
        }
        prop_assert_eq!(by_hour(&[series.tariff("dynamic")]), by_hour(&records));
    }
}
