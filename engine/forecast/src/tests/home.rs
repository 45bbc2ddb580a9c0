use proptest::prelude::*;

use super::{HOUR_MS, MINUTE_MS, at, near};
use crate::home::{Ahead, EndedSlot, HomeForecast};
use crate::horizon::Horizon;
use crate::load::SCENARIOS_MAX;
use crate::local_time::LocalTime;
use crate::plant::Plant;
use crate::sun::Place;
use model::rung::{LoadRung, PvRung, Rungs};
use model::units::SlotLength;
use model::weather::WeatherPeriod;

fn plant() -> Plant {
    Plant {
        place: Place::new(48.14, 11.58),
        plane: None,
        capacity_w: Some(6_000.0),
    }
}

/// A number that looks random, 0 to 1, the same for the same slot.
fn noise(start_ms: i64) -> f64 {
    let mixed = (start_ms / MINUTE_MS).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    (mixed >> 40).rem_euclid(1_000) as f64 / 1_000.0
}

fn period(start_ms: i64) -> WeatherPeriod {
    let start_ms = start_ms - start_ms.rem_euclid(HOUR_MS);
    WeatherPeriod {
        start_ms,
        end_ms: start_ms + HOUR_MS,
        ghi_w_per_m2: 600.0 * noise(start_ms),
        temperature_c: 12.0,
    }
}

fn tell(home: &mut HomeForecast, start_ms: i64) {
    let sun = 3_000.0 - (start_ms.rem_euclid(24 * HOUR_MS) - 11 * HOUR_MS).abs() as f64 / 7_200.0;
    home.observe(&EndedSlot {
        start_ms,
        offset_min: if start_ms < at(20, 1, 0) { 120 } else { 60 },
        load_w: (noise(start_ms) > 0.02).then(|| 3_000.0 * noise(start_ms + 1).powi(4)),
        pv_w: Some((sun * noise(start_ms + 2)).max(0.0)),
        plant: &plant(),
        weather: Some(&period(start_ms)),
        stake_per_kwh: 0.2,
    });
}

fn told(minutes: u32, days: i64) -> HomeForecast {
    let slot = SlotLength::new(minutes).unwrap();
    let mut home = HomeForecast::new(slot);
    for index in 0..days * i64::try_from(slot.per_day()).unwrap() {
        tell(&mut home, at(0, 0, index * i64::from(minutes)));
    }
    home
}

fn ahead(start_ms: i64, slot: SlotLength) -> Horizon {
    Horizon {
        start_ms,
        slot,
        slots_count: slot.per_day(),
        local: LocalTime {
            offset_min: 60,
            change: None,
        },
    }
}

/// A million homes with quarter hours are 3.4 GB.
#[test]
fn the_past_is_small() {
    for (minutes, bytes_max) in [(5, 3_450), (15, 3_420), (30, 2_750), (60, 1_740)] {
        let home = told(minutes, 45);
        let bytes = postcard::to_stdvec(&home).unwrap().len();
        assert!(bytes <= bytes_max, "{bytes} bytes at {minutes} minutes");
        assert!(
            bytes > bytes_max - 100,
            "{bytes} bytes at {minutes} minutes"
        );
    }
    assert!(
        size_of::<HomeForecast>() <= 400,
        "{}",
        size_of::<HomeForecast>()
    );
}

/// The same slots give the same bytes, whether the home lay in a snapshot in between or not.
#[test]
fn replay_gives_equal_bytes() {
    for minutes in [5, 15, 60] {
        let slot = SlotLength::new(minutes).unwrap();
        let whole = told(minutes, 24);
        let bytes = postcard::to_stdvec(&told(minutes, 17)).unwrap();
        let mut restored: HomeForecast = postcard::from_bytes(&bytes).unwrap();
        let per_day = i64::try_from(slot.per_day()).unwrap();
        for index in 17 * per_day..24 * per_day {
            tell(&mut restored, at(0, 0, index * i64::from(minutes)));
        }
        assert_eq!(restored, whole);
        assert_eq!(
            postcard::to_stdvec(&restored).unwrap(),
            postcard::to_stdvec(&whole).unwrap()
        );
        let weather: Vec<_> = (0..24).map(|hour| period(at(24, hour, 0))).collect();
        let question = Ahead {
            horizon: ahead(at(24, 0, 0), slot),
            load_now_w: None,
            plant: &plant(),
            weather: &weather,
        };
        assert_eq!(restored.forecast(&question), whole.forecast(&question));
    }
}

#[test]
fn rungs_rise_with_the_past() {
    for (days, load, pv) in [
        (0, LoadRung::StandardProfile, PvRung::ClearSky),
        (3, LoadRung::FewDays, PvRung::RecentSky),
        (13, LoadRung::FewDays, PvRung::RecentSky),
        (15, LoadRung::PastDays, PvRung::RecentSky),
    ] {
        let home = told(15, days);
        let question = Ahead {
            horizon: ahead(at(days, 0, 0), SlotLength::QUARTER_HOUR),
            load_now_w: None,
            plant: &plant(),
            weather: &[],
        };
        let found = home.forecast(&question);
        assert_eq!(found.rungs, Rungs { load, pv }, "{days} days");
        assert_eq!(found.model, home.contest().chosen());
    }
    assert!(LoadRung::StandardProfile < LoadRung::PastDays);
    assert!(PvRung::RecentSky < PvRung::Weather);
}

/// What is not known is never taken as 0.
#[test]
fn a_power_that_is_no_number_is_not_read() {
    let mut home = told(15, 5);
    let before = home.clone();
    home.observe(&EndedSlot {
        start_ms: at(5, 0, 0),
        offset_min: 120,
        load_w: Some(f64::NAN),
        pv_w: Some(f64::INFINITY),
        plant: &plant(),
        weather: None,
        stake_per_kwh: 1.0,
    });
    assert_eq!(home, before);
}

/// Pairs keep the mean of the load and of the PV power that each had alone.
#[test]
fn pairs_keep_both_means() {
    let home = told(15, 12);
    let horizon = ahead(at(12, 0, 0), SlotLength::QUARTER_HOUR);
    let question = Ahead {
        horizon,
        load_now_w: Some(700.0),
        plant: &plant(),
        weather: &[],
    };
    let found = home.forecast(&question);
    assert!((4..=SCENARIOS_MAX).contains(&found.load.weights.len()));
    assert_eq!(found.load.weights, found.pv.weights);
    let without = Plant {
        capacity_w: Some(0.0),
        ..plant()
    };
    let alone = home.forecast(&Ahead {
        plant: &without,
        ..question
    });
    assert_eq!(alone.rungs.pv, PvRung::None);
    for (pair, alone) in found
        .load_band()
        .mean_w
        .iter()
        .zip(&alone.load_band().mean_w)
    {
        near(*pair, *alone, 1e-6);
    }
}

#[test]
fn the_load_measured_now_is_the_last_slots_if_it_is_not_given() {
    let home = told(15, 20);
    let mut question = Ahead {
        horizon: ahead(at(20, 0, 0), SlotLength::QUARTER_HOUR),
        load_now_w: None,
        plant: &plant(),
        weather: &[],
    };
    let alone = home.forecast(&question);
    question.load_now_w = Some(5_000.0);
    let measured = home.forecast(&question);
    assert!(measured.load_band().mean_w[0] > alone.load_band().mean_w[0] + 2_000.0);
    near(
        measured.load_band().mean_w[40],
        alone.load_band().mean_w[40],
        1e-9,
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Slots late, twice, of other lengths and from clocks ahead: a forecast is always possible.
    #[test]
    fn a_forecast_is_always_possible(
        minutes in prop::sample::select(vec![1_u32, 5, 15, 30, 60]),
        other in prop::sample::select(vec![1_u32, 5, 15, 30, 60]),
        jumps in prop::collection::vec((-50..200i64, prop::option::of(0.0..9_000.0f64)), 0..150),
        slots_count in 1..200usize,
    ) {
        let slot = SlotLength::new(minutes).unwrap();
        let mut home = HomeForecast::new(slot);
        let mut index = 0;
        for (jump, load_w) in &jumps {
            index += jump;
            home.observe(&EndedSlot {
                start_ms: at(0, 0, index * i64::from(minutes)),
                offset_min: i32::try_from(index % 800).unwrap(),
                load_w: *load_w,
                pv_w: *load_w,
                plant: &plant(),
                weather: None,
                stake_per_kwh: 1.0,
            });
        }
        home.forget_after(at(0, 0, index / 2 * i64::from(minutes)));
        let home = home.resized(SlotLength::new(other).unwrap());
        let slot = SlotLength::new(other).unwrap();
        let start_ms = slot.start_of_ms(at(0, 0, index * i64::from(minutes)));
        let question = Ahead {
            horizon: Horizon { slots_count, ..ahead(start_ms, slot) },
            load_now_w: None,
            plant: &plant(),
            weather: &[],
        };
        let found = home.forecast(&question);
        prop_assert!((found.load.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!((1..=SCENARIOS_MAX).contains(&found.load.weights.len()));
        for course in found.load.series_w.iter().chain(&found.pv.series_w) {
            prop_assert_eq!(course.len(), slots_count);
            prop_assert!(course.iter().all(|power_w| *power_w >= 0.0 && power_w.is_finite()));
        }
    }
}
