use proptest::prelude::*;

use super::{HOUR_MS, at, near};
use crate::horizon::Horizon;
use crate::irradiance::Plane;
use crate::local_time::LocalTime;
use crate::plant::Plant;
use crate::pv::{PvPast, PvSlot};
use crate::scenarios::Scenarios;
use crate::sun::{Place, position};
use model::rung::PvRung;
use model::units::SlotLength;
use model::weather::WeatherPeriod;

const EAST: Plane = Plane {
    tilt_deg: 35.0,
    azimuth_deg: 90.0,
};
const QUARTER: SlotLength = SlotLength::QUARTER_HOUR;

fn munich(plane: Option<Plane>, capacity_w: Option<f64>) -> Plant {
    Plant {
        place: Place::new(48.14, 11.58),
        plane,
        capacity_w,
    }
}

fn horizon(start_ms: i64, slots_count: usize) -> Horizon {
    Horizon {
        start_ms,
        slot: QUARTER,
        slots_count,
        local: LocalTime::UTC,
    }
}

/// Tells a past the slots of some days.
fn past(plant: &Plant, days: i64, weather: &[WeatherPeriod], pv_w: impl Fn(i64) -> f64) -> PvPast {
    let mut past = PvPast::default();
    for quarter in 0..days * 96 {
        let start_ms = at(0, 0, 15 * quarter);
        let period = weather
            .iter()
            .find(|period| (period.start_ms..period.end_ms).contains(&start_ms));
        let slot = PvSlot {
            start_ms,
            slot: QUARTER,
            local_ms: start_ms,
            pv_w: pv_w(start_ms),
            weather: period,
        };
        past.observe(&slot, plant);
    }
    past
}

fn clear_w(plant: &Plant, start_ms: i64) -> f64 {
    let yielded = plant.yield_of(start_ms..start_ms + QUARTER.ms(), start_ms, &[], &mut {
        i64::MIN
    });
    yielded.clear * plant.capacity_w.unwrap()
}

fn mean_kwh(scenarios: &Scenarios) -> f64 {
    scenarios.band().mean_w.iter().sum::<f64>() / 4_000.0
}

/// Hours of a constant share of the clear sky, from Monday on.
fn weather(plant: &Plant, days: i64, share: f64) -> Vec<WeatherPeriod> {
    let place = plant.place.unwrap();
    let ghi = |start_ms: i64| {
        let samples = (0..4).map(|quarter| start_ms + (2 * quarter + 1) * HOUR_MS / 8);
        let clear =
            samples.map(|ts_ms| crate::irradiance::clear_sky_w_per_m2(position(place, ts_ms)));
        share * clear.sum::<f64>() / 4.0
    };
    let hours = (0..days * 24).map(|hour| at(0, hour, 0));
    hours
        .map(|start_ms| WeatherPeriod {
            start_ms,
            end_ms: start_ms + HOUR_MS,
            ghi_w_per_m2: ghi(start_ms),
            temperature_c: 15.0,
        })
        .collect()
}

/// A plant that gave 60 % of the clear sky's power on each day gives 60 % on the next.
#[test]
fn recent_clearness_goes_on() {
    let plant = munich(Some(EAST), Some(5_000.0));
    let past = past(&plant, 10, &[], |ms| 0.6 * clear_w(&plant, ms));
    let ahead = horizon(at(10, 0, 0), 96);
    let (scenarios, rung) = past.scenarios(&plant, ahead, &[]);
    assert_eq!(rung, PvRung::RecentSky);
    assert_eq!(scenarios.weights.len(), 10);
    for (start_ms, mean_w) in ahead.starts_ms().zip(scenarios.band().mean_w) {
        // A percent is what a byte holds.
        near(mean_w, 0.6 * clear_w(&plant, start_ms), 30.0);
    }
}

/// The plane is not known: after two clear weeks, the forecast of the next day is the true plane's.
#[test]
fn an_unknown_plane_is_learned_by_hour() {
    let truth = munich(Some(EAST), Some(5_000.0));
    let plant = munich(None, Some(5_000.0));
    let ahead = horizon(at(14, 0, 0), 96);
    let off_w = |past: &PvPast| {
        let (scenarios, _) = past.scenarios(&plant, ahead, &[]);
        let pairs = ahead.starts_ms().zip(scenarios.band().mean_w);
        let off = pairs.map(|(start_ms, mean_w)| (mean_w - clear_w(&truth, start_ms)).abs());
        off.sum::<f64>() / 96.0
    };
    let learned = past(&plant, 14, &[], |ms| clear_w(&truth, ms));
    let mean_w = ahead.starts_ms().map(|ms| clear_w(&truth, ms)).sum::<f64>() / 96.0;
    assert!(
        off_w(&learned) < 0.1 * mean_w,
        "{} of {mean_w}",
        off_w(&learned)
    );
    assert!(off_w(&PvPast::default()) > 0.2 * mean_w);
}

/// The forecast says half a clear sky, the home gives 80 % of what the model makes of that, and today it is clear.
#[test]
fn weather_and_gain_make_the_forecast() {
    let plant = munich(Some(EAST), Some(5_000.0));
    let past_weather = weather(&plant, 20, 0.5);
    let skies: Vec<_> = past_weather
        .iter()
        .map(|period| crate::plant::Sky::of(period, plant.place))
        .collect();
    let given_w = |ms: i64| {
        let yielded = plant.yield_of(ms..ms + QUARTER.ms(), ms, &skies, &mut { i64::MIN });
        0.8 * 5_000.0 * yielded.weather.unwrap()
    };
    let past = past(&plant, 10, &past_weather, given_w);
    let ahead = horizon(at(10, 0, 0), 96);
    let (scenarios, rung) = past.scenarios(&plant, ahead, &past_weather);
    assert_eq!(rung, PvRung::LearnedWeather);
    for (start_ms, mean_w) in ahead.starts_ms().zip(scenarios.band().mean_w) {
        near(mean_w, given_w(start_ms), 40.0);
    }
    // Without its own past, the model alone.
    let (prior, rung) = PvPast::default().scenarios(&plant, ahead, &past_weather);
    assert_eq!(rung, PvRung::Weather);
    let given_kwh = ahead.starts_ms().map(given_w).sum::<f64>() / 4_000.0;
    near(mean_kwh(&prior) / given_kwh, 0.975 / 0.8, 0.01);
}

#[test]
fn a_forecast_is_not_above_what_was_shown() {
    let plant = munich(Some(EAST), Some(5_000.0));
    // An inverter of 1.5 kW.
    let past = past(&plant, 14, &[], |ms| clear_w(&plant, ms).min(1_500.0));
    let (scenarios, _) = past.scenarios(&plant, horizon(at(14, 0, 0), 96), &[]);
    let most_w = scenarios
        .series_w
        .iter()
        .flatten()
        .copied()
        .fold(0.0, f64::max);
    assert!((1_400.0..=1_500.0).contains(&most_w), "{most_w}");
    let young = PvPast::default();
    let (scenarios, rung) = young.scenarios(&plant, horizon(at(0, 0, 0), 96), &[]);
    assert_eq!(rung, PvRung::ClearSky);
    let most_w = scenarios
        .series_w
        .iter()
        .flatten()
        .copied()
        .fold(0.0, f64::max);
    assert!((2_000.0..=5_000.0).contains(&most_w), "{most_w}");
}

#[test]
fn a_home_without_a_plant_has_no_sun() {
    for plant in [munich(None, Some(0.0)), munich(None, None)] {
        let past = past(&plant, 3, &[], |_| 0.0);
        let (scenarios, rung) = past.scenarios(&plant, horizon(at(3, 0, 0), 96), &[]);
        assert_eq!(rung, PvRung::None);
        assert_eq!(scenarios.series_w, [[0.0; 96]]);
    }
}

/// Where the place is not known, the same hours of the past days say when the sun shines.
#[test]
fn a_home_of_no_place_repeats_its_hours() {
    let truth = munich(Some(EAST), Some(5_000.0));
    let plant = Plant {
        place: None,
        ..truth
    };
    let past = past(&plant, 10, &[], |ms| clear_w(&truth, ms));
    let ahead = horizon(at(10, 0, 0), 96);
    let (scenarios, _) = past.scenarios(&plant, ahead, &[]);
    let kwh = ahead.starts_ms().map(|ms| clear_w(&truth, ms)).sum::<f64>() / 4_000.0;
    near(mean_kwh(&scenarios), kwh, 0.1 * kwh);
    // From 21:00 to 05:00.
    let band = scenarios.band();
    assert_eq!(band.high_w[84..], [0.0; 12]);
    assert_eq!(band.high_w[..20], [0.0; 20]);
}

/// The morning was darker than on the days before: the next hours are too, and tomorrow is as before.
#[test]
fn today_so_far_counts_for_hours() {
    let plant = munich(Some(EAST), Some(5_000.0));
    let ahead = horizon(at(10, 9, 0), 96);
    let mut morning = past(&plant, 10, &[], |ms| 0.9 * clear_w(&plant, ms));
    for quarter in 0..36 {
        let start_ms = at(10, 0, 15 * quarter);
        let slot = PvSlot {
            start_ms,
            slot: QUARTER,
            local_ms: start_ms,
            pv_w: 0.3 * clear_w(&plant, start_ms),
            weather: None,
        };
        morning.observe(&slot, &plant);
    }
    let (scenarios, _) = morning.scenarios(&plant, ahead, &[]);
    let share = |slot: usize| {
        let start_ms = at(10, 9, 15 * i64::try_from(slot).unwrap());
        scenarios.band().mean_w[slot] / clear_w(&plant, start_ms)
    };
    // 0.9 - 0.6 * exp(-1/16) at first, 0.9 - 0.6 * exp(-1) after two hours.
    near(share(0), 0.336, 0.01);
    near(share(8), 0.9 - 0.6 * (-8.5_f64 / 8.0).exp(), 0.01);
    near(share(95), 0.9, 0.01);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// For any place, day, plane, slot and past: no sun at night, nothing above the capacity, weights sum to 1.
    #[test]
    fn the_sun_never_shines_at_night(
        latitude in -90.0..=90.0f64,
        longitude in -180.0..=180.0f64,
        plane in prop::option::of((0.0..=90.0f64, 0.0..360.0f64)),
        capacity_w in prop::option::of(0.0..20_000.0f64),
        day in 0..3_650i64,
        minutes in prop::sample::select(vec![5_u32, 15, 30, 60]),
        days in 0..5i64,
        shown_w in 0.0..10_000.0f64,
        ghi in prop::option::of(0.0..1_200.0f64),
    ) {
        let place = Place::new(latitude, longitude).unwrap();
        let plane = plane.map(|(tilt_deg, azimuth_deg)| Plane { tilt_deg, azimuth_deg });
        let plant = Plant { place: Some(place), plane, capacity_w };
        let slot = SlotLength::new(minutes).unwrap();
        let period = ghi.map(|ghi_w_per_m2| WeatherPeriod {
            start_ms: at(day, 0, 0),
            end_ms: at(day + days + 2, 0, 0),
            ghi_w_per_m2,
            temperature_c: 10.0,
        });
        // This home claims sun at night.
        let mut past = PvPast::default();
        let slots = days * 24 * 60 / i64::from(minutes);
        for index in 0..slots {
            let start_ms = at(day, 0, index * i64::from(minutes));
            let told = PvSlot { start_ms, slot, local_ms: start_ms, pv_w: shown_w, weather: period.as_ref() };
            past.observe(&told, &plant);
        }
        let ahead = Horizon {
            start_ms: at(day + days, 0, 0),
            slot,
            slots_count: slot.per_day(),
            local: LocalTime::UTC,
        };
        let (found, _) = past.scenarios(&plant, ahead, period.as_slice());
        prop_assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let bound_w = capacity_w.unwrap_or(shown_w);
        for (start_ms, index) in ahead.starts_ms().zip(0..) {
            let is_night = [0, 1, 2, 3, 4].iter().all(|part| {
                position(place, start_ms + part * slot.ms() / 4).elevation_deg < -0.5
            });
            for course in &found.series_w {
                prop_assert!((0.0..=bound_w * 1.000_001 + 1e-9).contains(&course[index]));
                prop_assert!(!is_night || course[index] <= 0.0);
            }
        }
    }
}
