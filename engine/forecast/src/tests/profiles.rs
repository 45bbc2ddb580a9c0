use proptest::prelude::*;

use super::{DAY_MS, HOUR_MS, MINUTE_MS, at, near};
use crate::local_time::{DayClass, LocalTime};
use crate::profiles::Profiles;
use model::units::SlotLength;

fn length(minutes: u32) -> SlotLength {
    SlotLength::new(minutes).unwrap()
}

/// What is read back of one slot.
fn kept_w(load_w: f64) -> f64 {
    let mut profiles = Profiles::new(length(15));
    profiles.observe(at(0, 0, 0), 0, load_w);
    f64::from(profiles.until(at(0, 1, 0)).at_w(at(0, 0, 0)))
}

/// 16 steps of 4 W, then numbers of 16 to 31 times a power of two times 4 W.
#[test]
fn powers_are_rounded_to_a_byte() {
    for (load_w, expected) in [
        (0.0, 0.0),
        (-50.0, 0.0),
        (1.9, 0.0),
        (2.1, 4.0),
        (60.0, 60.0),
        (124.0, 124.0),
        (126.1, 128.0),
        (132.0, 136.0),
        (249.0, 248.0),
        (255.0, 256.0),
        (3_000.0, 2_944.0),
        (3_010.0, 3_072.0),
        (1e9, 1_966_080.0),
    ] {
        near(kept_w(load_w), expected, 0.0);
    }
}

proptest! {
    #[test]
    fn a_rounded_power_is_near(load_w in 0.0..1_900_000.0f64) {
        let kept = kept_w(load_w);
        prop_assert!((kept - load_w).abs() <= 2.0 + load_w / 31.9, "{load_w} became {kept}");
        prop_assert_eq!(kept_w(kept), kept);
    }
}

#[test]
fn slots_may_be_missing_late_and_corrected() {
    let mut profiles = Profiles::new(length(15));
    profiles.observe(at(1, 0, 0), 0, 400.0);
    profiles.observe(at(1, 1, 0), 0, 800.0);
    let history = profiles.until(at(1, 2, 0));
    assert!(history.at_w(at(1, 0, 15)).is_nan());
    // Late, before all others, and again.
    profiles.observe(at(0, 23, 0), 0, 100.0);
    profiles.observe(at(1, 0, 0), 0, 480.0);
    let history = profiles.until(at(1, 2, 0));
    assert_eq!(history.at_w(at(0, 23, 0)), 100.0);
    assert_eq!(history.at_w(at(1, 0, 0)), 480.0);
    // What was not there yet is not known.
    assert!(profiles.until(at(1, 1, 0)).at_w(at(1, 1, 0)).is_nan());
    assert_eq!(profiles.until(at(1, 1, 0)).at_w(at(1, 0, 0)), 480.0);
}

#[test]
fn what_is_older_than_the_ring_is_gone() {
    for (minutes, days) in [(15, 28), (30, 42), (60, 42)] {
        let mut profiles = Profiles::new(length(minutes));
        profiles.observe(at(0, 0, 0), 0, 100.0);
        profiles.observe(at(days - 1, 23, 0), 0, 200.0);
        assert_eq!(profiles.until(at(days, 0, 0)).at_w(at(0, 0, 0)), 100.0);
        profiles.observe(at(days, 0, 0), 0, 304.0);
        let history = profiles.until(at(days, 1, 0));
        assert!(history.at_w(at(0, 0, 0)).is_nan());
        profiles.observe(at(0, 0, 0), 0, 100.0);
        assert_eq!(profiles.until(at(days, 1, 0)).at_w(at(days, 0, 0)), 304.0);
        // A home that was silent for a year.
        profiles.observe(at(365, 0, 0), 0, 496.0);
        let history = profiles.until(at(365, 1, 0));
        assert_eq!(history.days_known(), 1);
        assert_eq!(profiles.until(at(500, 0, 0)).days_known(), 0);
    }
}

#[test]
fn shorter_slots_are_put_together() {
    let mut profiles = Profiles::new(length(5));
    profiles.observe(at(0, 0, 0), 0, 100.0);
    profiles.observe(at(0, 0, 5), 0, 200.0);
    profiles.observe(at(0, 0, 5), 0, 200.0);
    assert_eq!(profiles.until(at(0, 0, 15)).at_w(at(0, 0, 0)), 152.0);
    profiles.observe(at(0, 0, 10), 0, 304.0);
    profiles.observe(at(0, 0, 15), 0, 40.0);
    let history = profiles.until(at(0, 0, 30));
    assert_eq!(history.at_w(at(0, 0, 10)), 200.0);
    assert_eq!(history.at_w(at(0, 0, 15)), 40.0);
}

#[test]
fn another_length_keeps_the_past() {
    let mut profiles = Profiles::new(length(15));
    for quarter in 0..8 {
        let load_w = if quarter < 4 { 400.0 } else { 800.0 };
        profiles.observe(at(0, 0, 15 * quarter), 120, load_w);
    }
    let hours = profiles.resized(length(60));
    let history = hours.until(at(0, 2, 0));
    assert_eq!(history.at_w(at(0, 0, 0)), 400.0);
    assert_eq!(history.at_w(at(0, 1, 30)), 800.0);
    assert_eq!(history.local_ms(at(0, 0, 0)), at(0, 2, 0));
    let halves = hours.resized(length(30));
    assert_eq!(halves.until(at(0, 2, 0)).at_w(at(0, 0, 30)), 400.0);
    let minutes = profiles.resized(length(1));
    assert_eq!(minutes.until(at(0, 2, 0)).at_w(at(0, 1, 44)), 800.0);
}

#[test]
fn a_clock_that_was_ahead_is_taken_back() {
    let mut profiles = Profiles::new(length(15));
    profiles.observe(at(0, 0, 0), 0, 100.0);
    profiles.observe(at(3, 0, 0), 0, 200.0);
    profiles.forget_after(at(1, 0, 0));
    profiles.observe(at(1, 0, 15), 0, 304.0);
    let history = profiles.until(at(4, 0, 0));
    assert_eq!(history.at_w(at(0, 0, 0)), 100.0);
    assert_eq!(history.at_w(at(1, 0, 15)), 304.0);
    assert!(history.at_w(at(3, 0, 0)).is_nan());
}

/// Paris, 2026-10-25: clocks go from 03:00 back to 02:00 at 01:00 UTC.
#[test]
fn an_hour_that_comes_twice_is_the_later_one() {
    let change_ms = 1_792_890_000_000;
    let mut profiles = Profiles::new(length(15));
    profiles.observe(change_ms - DAY_MS, 120, 100.0);
    profiles.observe(change_ms, 60, 100.0);
    let history = profiles.until(change_ms + HOUR_MS);
    // 02:30 was at 00:30 and at 01:30 UTC.
    assert_eq!(
        history.utc_ms(change_ms + HOUR_MS + 30 * MINUTE_MS),
        change_ms + 30 * MINUTE_MS
    );
    // 01:30 was at 23:30 UTC.
    assert_eq!(
        history.utc_ms(change_ms + 30 * MINUTE_MS),
        change_ms - 90 * MINUTE_MS
    );
}

/// Paris, 2026-03-29: clocks go from 02:00 to 03:00 at 01:00 UTC.
#[test]
fn an_hour_that_is_left_out_is_read_as_if_it_came() {
    let change_ms = 1_774_746_000_000;
    let mut profiles = Profiles::new(length(15));
    profiles.observe(change_ms - DAY_MS, 60, 100.0);
    profiles.observe(change_ms, 120, 100.0);
    let history = profiles.until(change_ms + HOUR_MS);
    // 01:59 was at 00:59 UTC, 02:30 would have been at 01:30 UTC, 03:00 was at 01:00 UTC.
    assert_eq!(
        history.utc_ms(change_ms + 59 * MINUTE_MS),
        change_ms - MINUTE_MS
    );
    assert_eq!(
        history.utc_ms(change_ms + 90 * MINUTE_MS),
        change_ms + 30 * MINUTE_MS
    );
    assert_eq!(history.utc_ms(change_ms + 2 * HOUR_MS), change_ms);
}

#[test]
fn the_clock_ahead_changes_once() {
    let local = LocalTime {
        offset_min: 120,
        change: Some((at(1, 1, 0), 60)),
    };
    assert_eq!(local.local_ms(at(1, 0, 59)), at(1, 2, 59));
    assert_eq!(local.local_ms(at(1, 1, 0)), at(1, 2, 0));
}

#[test]
fn weekdays_have_classes() {
    for (day, class) in [
        (0, DayClass::Workday),
        (4, DayClass::Workday),
        (5, DayClass::Saturday),
        (6, DayClass::Sunday),
        (7, DayClass::Workday),
    ] {
        assert_eq!(DayClass::of(at(day, 0, 0)), class);
        assert_eq!(DayClass::of(at(day, 23, 59)), class);
    }
    assert_eq!(DayClass::of(0), DayClass::Workday);
    assert_eq!(DayClass::of(-5 * DAY_MS), DayClass::Saturday);
}
