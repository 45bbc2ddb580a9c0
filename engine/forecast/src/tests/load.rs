use proptest::prelude::*;

use super::{DAY_MS, HOUR_MS, MINUTE_MS, at, near};
use crate::horizon::Horizon;
use crate::load::{LoadModel, SCENARIOS_MAX, courses, scenarios, weigh};
use crate::local_time::LocalTime;
use crate::profiles::Profiles;
use crate::young;
use model::units::SlotLength;

fn horizon(start_ms: i64, slots_count: usize) -> Horizon {
    Horizon {
        start_ms,
        slot: SlotLength::QUARTER_HOUR,
        slots_count,
        local: LocalTime::UTC,
    }
}

/// A home's quarter hours from Monday on, with its load by local time.
fn home(days: i64, offset_min: fn(i64) -> i32, load_w: impl Fn(i64) -> f64) -> Profiles {
    let mut profiles = Profiles::new(SlotLength::QUARTER_HOUR);
    for quarter in 0..days * 96 {
        let start_ms = at(0, 0, 15 * quarter);
        let offset_min = offset_min(start_ms);
        let local_ms = start_ms + i64::from(offset_min) * MINUTE_MS;
        profiles.observe(start_ms, offset_min, load_w(local_ms));
    }
    profiles
}

fn utc(_: i64) -> i32 {
    0
}

fn hour_of(local_ms: i64) -> i64 {
    local_ms.rem_euclid(DAY_MS) / HOUR_MS
}

/// Workdays of 512 W, Saturdays of 1,024 W, Sundays of 2,048 W, three weeks: Saturday's mean is Saturdays'; the other
/// models put most of their weight on them.
#[test]
fn days_are_weighed_by_weekday_class() {
    let load_w = |local_ms: i64| match (local_ms.div_euclid(DAY_MS) + 3).rem_euclid(7) {
        5 => 1_024.0,
        6 => 2_048.0,
        _ => 512.0,
    };
    let profiles = home(26, utc, load_w);
    let saturday_ms = at(26, 0, 0);
    let history = profiles.until(saturday_ms);
    let mean = scenarios(
        &history,
        LoadModel::WeekdayMean,
        horizon(saturday_ms, 96),
        None,
    );
    assert_eq!(mean.weights, [1.0]);
    near(mean.series_w[0][40], 1_024.0, 1e-9);
    let yesterday = scenarios(
        &history,
        LoadModel::Yesterday,
        horizon(saturday_ms, 96),
        None,
    );
    near(yesterday.series_w[0][40], 512.0, 0.0);
    let days = weigh(&history, LoadModel::PastDays, horizon(saturday_ms, 96));
    assert_eq!(days.len(), 26);
    let weight_of = |days_ago: i64| {
        let day = days.iter().find(|day| day.days_ago == days_ago);
        day.map_or(0.0, |day| day.weight)
    };
    // Saturday against the Friday after it: 1 to 1/4, and six days of age.
    near(
        weight_of(7) / weight_of(1),
        4.0 * (-6.0_f64 / 28.0).exp(),
        1e-9,
    );
    // Half a Saturday and half a Sunday.
    let noon = weigh(&history, LoadModel::PastDays, horizon(at(26, 12, 0), 96));
    let weight_of = |days_ago: i64| {
        let day = noon.iter().find(|day| day.days_ago == days_ago);
        day.map_or(0.0, |day| day.weight)
    };
    // A week ago 1; the day before, Friday and Saturday, half of 1/4 and half of 0.6.
    near(
        weight_of(7) / weight_of(1),
        (-6.0_f64 / 28.0).exp() / 0.425,
        1e-9,
    );
}

/// A home that is used every other day: after a day at home, the days after days at home count more.
#[test]
fn likely_days_are_like_the_last_day() {
    let load_w = |local_ms: i64| {
        if local_ms.div_euclid(DAY_MS) % 2 == 0 {
            200.0
        } else {
            1_000.0
        }
    };
    let profiles = home(20, utc, load_w);
    let history = profiles.until(at(20, 0, 0));
    let share = |model| {
        let days = weigh(&history, model, horizon(at(20, 0, 0), 96));
        let even = days.iter().filter(|day| day.days_ago % 2 == 0);
        even.map(|day| day.weight).sum::<f64>()
    };
    assert!(share(LoadModel::PastDays) < 0.6);
    assert!(share(LoadModel::LikelyDays) > 0.9);
}

/// The load was 500 W at all times and is 900 W now: 70 % of it is there in the first slot.
#[test]
fn the_first_slots_are_drawn_to_what_is_measured() {
    let profiles = home(20, utc, |_| 496.0);
    let history = profiles.until(at(20, 0, 0));
    let blended = scenarios(
        &history,
        LoadModel::Yesterday,
        horizon(at(20, 0, 0), 96),
        Some(896.0),
    );
    let course = &blended.series_w[0];
    near(course[0], 496.0 + 0.7 * 400.0, 1e-9);
    near(course[4], 496.0 + 0.7 * 400.0 * (-1.0_f64).exp(), 1e-9);
    near(course[8], 496.0 + 0.7 * 400.0 * (-2.0_f64).exp(), 1e-9);
    near(course[95], 496.0, 0.0);
    let low = scenarios(
        &history,
        LoadModel::Yesterday,
        horizon(at(20, 0, 0), 96),
        Some(-10_000.0),
    );
    near(low.series_w[0][0], 0.0, 0.0);
}

/// Berlin's summer time ends at the 20th day, 01:00 UTC. Supper is at 18:00 on the clock, before and after.
#[test]
fn habits_follow_the_clock_over_a_change() {
    fn offset_min(ms: i64) -> i32 {
        if ms < at(20, 1, 0) { 120 } else { 60 }
    }
    let supper_w = |local_ms: i64| {
        if hour_of(local_ms) == 18 {
            3_072.0
        } else {
            200.0
        }
    };
    for days in [19, 20, 21, 25] {
        let profiles = home(days, offset_min, supper_w);
        let start_ms = at(days, 0, 0);
        let local = LocalTime {
            offset_min: offset_min(start_ms),
            change: (days < 21).then_some((at(20, 1, 0), 60)),
        };
        let ahead = Horizon {
            local,
            ..horizon(start_ms, 192)
        };
        let history = profiles.until(start_ms);
        for model in LoadModel::ALL {
            let found = scenarios(&history, model, ahead, None);
            for (start_ms, index) in ahead.starts_ms().zip(0..) {
                let expected = supper_w(local.local_ms(start_ms));
                for course in &found.series_w {
                    near(course[index], expected, 1e-9);
                }
            }
        }
    }
}

/// A horizon of three days that one past day is known of: the day is repeated.
#[test]
fn a_long_horizon_repeats_the_last_days() {
    let profiles = home(15, utc, |local_ms| 100.0 * (hour_of(local_ms) % 8) as f64);
    let history = profiles.until(at(15, 0, 0));
    let week = scenarios(
        &history,
        LoadModel::Yesterday,
        horizon(at(15, 0, 0), 672),
        None,
    );
    for day in 0..7 {
        assert_eq!(week.series_w[0][day * 96..][..96], week.series_w[0][..96]);
    }
}

/// A gap takes the others' mean; where no day knows it, the standard profile stands in.
#[test]
fn gaps_are_filled() {
    let mut profiles = Profiles::new(SlotLength::QUARTER_HOUR);
    for quarter in 0..20 * 96 {
        let (day, of_day) = (quarter / 96, quarter % 96);
        let is_gap = of_day < 10 && (day == 19 || of_day < 5);
        if !is_gap {
            profiles.observe(at(0, 0, 15 * quarter), 0, 496.0);
        }
    }
    let history = profiles.until(at(20, 0, 0));
    let found = scenarios(
        &history,
        LoadModel::PastDays,
        horizon(at(20, 0, 0), 96),
        None,
    );
    near(found.series_w[0][7], 496.0, 1e-9);
    let level_w = young::level_w(&history);
    near(
        found.series_w[0][2],
        level_w * young::standard_share(at(20, 0, 30)),
        1e-9,
    );
}

/// 3 hours of the guess of 400 W, and a Monday of 800 W, whose hours have 23.37 times the mean together.
#[test]
fn the_level_of_a_young_home_is_what_was_read() {
    let empty = Profiles::new(SlotLength::QUARTER_HOUR);
    near(young::level_w(&empty.until(at(0, 0, 0))), 400.0, 0.0);
    let profiles = home(1, utc, |_| 800.0);
    let history = profiles.until(at(1, 0, 0));
    let hours: f64 = (0..24)
        .map(|hour| young::standard_share(at(0, hour, 0)))
        .sum();
    near(
        young::level_w(&history),
        (3.0 * 400.0 + 24.0 * 800.0) / (3.0 + hours),
        1e-9,
    );
    near(hours, 23.37, 1e-9);
}

/// The standard profile has all of the weight on the first day, a quarter after a week, none after two.
#[test]
fn the_standard_profile_shrinks_away() {
    let of_week: f64 = (0..7 * 24)
        .map(|hour| young::standard_share(at(0, hour, 0)))
        .sum();
    near(of_week / 168.0, 1.0, 0.01);
    for (days, expected) in [(0, 1.0), (7, 0.25), (13, 1.0 / 196.0), (14, 0.0), (20, 0.0)] {
        let profiles = home(days, utc, |_| 496.0);
        let history = profiles.until(at(days, 0, 0));
        let found = scenarios(
            &history,
            LoadModel::PastDays,
            horizon(at(days, 0, 0), 4),
            None,
        );
        let days = usize::try_from(days).unwrap();
        let standard: f64 = found.weights[days..].iter().sum();
        near(standard, expected, 1e-9);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever was read and whenever the clock changed: weights sum to 1, no load is negative, nothing is unknown.
    #[test]
    fn scenarios_are_possible(
        minutes in prop::sample::select(vec![1_u32, 5, 15, 30, 60]),
        loads in prop::collection::vec(prop::option::weighted(0.8, 0.0..20_000.0f64), 0..700),
        offset_min in -840..840i32,
        change_after in 0..800i64,
        now_after in 0..900i64,
        slots_count in 1..672usize,
        now_w in prop::option::of(0.0..30_000.0f64),
    ) {
        let slot = SlotLength::new(minutes).unwrap();
        let change_ms = at(0, 0, 0) + change_after * slot.ms();
        let mut profiles = Profiles::new(slot);
        for (load_w, index) in loads.iter().zip(0..) {
            let start_ms = at(0, 0, 0) + index * slot.ms();
            let offset_min = if start_ms < change_ms { offset_min } else { offset_min - 60 };
            if let Some(load_w) = load_w {
                profiles.observe(start_ms, offset_min, *load_w);
            }
        }
        let start_ms = at(0, 0, 0) + now_after * slot.ms();
        let ahead = Horizon {
            start_ms,
            slot,
            slots_count,
            local: LocalTime { offset_min, change: Some((change_ms, offset_min - 60)) },
        };
        let history = profiles.until(start_ms);
        for model in LoadModel::ALL {
            let found = scenarios(&history, model, ahead, now_w);
            prop_assert!((1..=SCENARIOS_MAX + 3).contains(&found.weights.len()));
            prop_assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert_eq!(found.weights.len(), found.series_w.len());
            for course in &found.series_w {
                prop_assert_eq!(course.len(), slots_count);
                prop_assert!(course.iter().all(|power_w| *power_w >= 0.0 && power_w.is_finite()));
            }
            let band = found.band();
            for slot_index in 0..slots_count {
                let figures = [band.low_w[slot_index], band.median_w[slot_index], band.high_w[slot_index]];
                prop_assert!(figures.is_sorted());
            }
        }
    }

    /// A course is what was read when the clocks showed the same times some whole days before, also where they change.
    #[test]
    fn courses_are_what_the_clock_says(
        start_quarter in 96..50 * 96_i64,
        slots_count in 1..300_usize,
        minutes in prop::sample::select(vec![5_u32, 15, 30]),
        change_quarter in 0..60 * 96_i64,
        is_summer in any::<bool>(),
    ) {
        let offsets = if is_summer { (60, 120) } else { (120, 60) };
        let change_ms = at(0, 0, 15 * change_quarter);
        let offset_min = |ms: i64| if ms < change_ms { offsets.0 } else { offsets.1 };
        let mut profiles = Profiles::new(SlotLength::QUARTER_HOUR);
        for quarter in 0..start_quarter {
            let start_ms = at(0, 0, 15 * quarter);
            // A few are missing.
            if quarter % 61 != 7 {
                let load_w = ((quarter * 37) % 1_009) as f64;
                profiles.observe(start_ms, offset_min(start_ms), load_w);
            }
        }
        let start_ms = at(0, 0, 15 * start_quarter);
        let asked = Horizon {
            start_ms,
            slot: SlotLength::new(minutes).unwrap(),
            slots_count,
            local: LocalTime {
                offset_min: offset_min(start_ms),
                change: (change_ms > start_ms).then_some((change_ms, offsets.1)),
            },
        };
        let history = profiles.until(start_ms);
        let days = weigh(&history, LoadModel::PastDays, asked);
        let found = courses(&history, LoadModel::PastDays, asked);
        prop_assert_eq!(days.len(), found.scenarios.series_w.len());
        for (day, course_w) in days.iter().zip(&found.scenarios.series_w) {
            prop_assert_eq!(course_w.len(), slots_count);
            for (index, (ms, found_w)) in asked.starts_ms().zip(course_w).enumerate() {
                let passed_ms = i64::try_from(index).unwrap() * asked.slot.ms();
                let days_ago = day.days_ago.max(passed_ms / DAY_MS + 1);
                let like_ms = history.utc_ms(asked.local.local_ms(ms) - days_ago * DAY_MS);
                let expected_w = f64::from(history.at_w(like_ms));
                // What is not known is filled up.
                prop_assert!(expected_w.is_nan() || *found_w == expected_w);
            }
        }
    }
}
