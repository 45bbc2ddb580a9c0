//! What a home remembers for its forecasts, and what its plans make of it.

use std::sync::Arc;

use super::*;
use forecast::home::HomeForecast;
use model::asset::{AssetReading, AssetState};
use model::metadata::PvMounting;
use model::problem::Problem;
use model::rung::{LoadRung, PvRung, Rungs};

/// Tells a home events without prices, so that it is not planned.
fn live(home: &mut Household, events: impl IntoIterator<Item = Event>) {
    let env = Env {
        settings: &SETTINGS,
        tariffs: &BTreeMap::new(),
        now_ms: None,
    };
    for event in events {
        home.handle(event, &env, &mut Vec::new());
    }
}

/// The load of a day with a peak from 17:00 to 19:00 UTC, W.
fn evening_w(minute: i64) -> f64 {
    if (1_020..1_140).contains(&minute.rem_euclid(1_440)) {
        2_000.0
    } else {
        300.0
    }
}

/// The sun of a day, with clouds that differ from day to day, W.
fn sun_w(minute: i64) -> f64 {
    let height = 300 - (minute.rem_euclid(1_440) - 690).abs();
    let clouds = 4 + minute.div_euclid(1_440).rem_euclid(5);
    f64::from(i32::try_from(height.max(0) * clouds).unwrap()) * 2.0
}

fn readings(minutes: impl Iterator<Item = i64>) -> impl Iterator<Item = Event> {
    minutes.flat_map(|minute| {
        [
            load(at(minute), evening_w(minute)),
            pv(at(minute), sun_w(minute)),
            battery(at(minute), 50.0),
        ]
        .map(Event::ReadingArrived)
    })
}

fn newborn() -> Household {
    let mut home = Household::newborn(id());
    live(&mut home, [Event::MetadataChanged(Arc::new(metadata()))]);
    home
}

/// A home that was read every quarter of an hour for `days` up to midnight.
fn grown(days: i64) -> Household {
    let mut home = newborn();
    live(&mut home, readings((-days * 1_440..0).step_by(15)));
    home
}

/// What it asks at midnight.
fn asked(home: Household) -> Problem {
    request_of(home).problem
}

fn request_of(home: Household) -> OptimizeRequest {
    let mut world = World::new(SETTINGS);
    world.home = home;
    world.read_all(at(0));
    world.requests.last().unwrap().clone()
}

#[test]
fn a_request_says_what_its_forecasts_rest_on() {
    for (days, load, pv) in [
        (0, LoadRung::StandardProfile, PvRung::ClearSky),
        (3, LoadRung::FewDays, PvRung::RecentSky),
        (20, LoadRung::PastDays, PvRung::RecentSky),
    ] {
        let request = request_of(grown(days));
        assert_eq!(request.forecast, Some(Rungs { load, pv }), "{days} days");
    }
}

fn bytes(home: &Household) -> Vec<u8> {
    postcard::to_stdvec(home).unwrap()
}

/// A million homes that are read every five minutes are 6 GB of snapshots at most.
#[test]
fn a_grown_home_is_small() {
    let mut home = grown(45);
    live(&mut home, readings((0..1_440).step_by(5)));
    let request = {
        let mut world = World::new(SETTINGS);
        world.home = home;
        world.read_all(at(1_440));
        let request = world.requests.last().unwrap().clone();
        world.answer(&request, 1.5);
        home = world.home;
        request
    };
    assert_eq!(request.problem.load_kw.len(), 96);
    let bytes = bytes(&home);
    assert!(bytes.len() < 6_000, "{} bytes", bytes.len());
    assert_eq!(postcard::from_bytes::<Household>(&bytes).unwrap(), home);
}

/// The same events give the same bytes, whether the home lay in a snapshot in between or not.
#[test]
fn replay_gives_equal_bytes() {
    let whole = grown(20);
    let mut restored = newborn();
    live(&mut restored, readings((-20 * 1_440..-10_007).step_by(15)));
    restored = postcard::from_bytes(&bytes(&restored)).unwrap();
    let rest = (-20 * 1_440..0)
        .step_by(15)
        .skip_while(|minute| *minute < -10_007);
    live(&mut restored, readings(rest));
    assert_eq!(restored, whole);
    assert_eq!(bytes(&restored), bytes(&whole));
}

#[test]
fn a_plan_knows_habits_and_never_sun_at_night() {
    for days in [0, 1, 20] {
        let problem = asked(grown(days));
        let courses: Vec<_> = problem.scenarios.iter().collect();
        let weights: f64 = courses.iter().map(|course| course.weight).sum();
        assert!((weights - 1.0).abs() < 1e-9);
        assert!(courses.len() <= forecast::load::SCENARIOS_MAX);
        // In Munich in September the sun is down from 17:45 to 4:30 UTC.
        let pv_kw = courses.iter().map(|course| &course.pv_kw);
        for pv_kw in pv_kw.chain([&problem.pv_kw]) {
            assert_eq!(pv_kw.len(), 96);
            let night = pv_kw[..17].iter().chain(&pv_kw[73..]);
            assert!(night.into_iter().all(|kw| *kw == 0.0), "{days} days");
        }
    }
    let problem = asked(grown(20));
    // The load is known to 3.2 %; the first slots lean towards what was read last.
    for (index, load_kw) in problem.load_kw.iter().enumerate().skip(8) {
        let habit_kw = evening_w(15 * i64::try_from(index).unwrap()) / 1e3;
        assert!(
            (load_kw - habit_kw).abs() < 0.032 * habit_kw,
            "slot {index}"
        );
    }
    let noon_kw = problem.pv_kw[46];
    assert!((2.4..4.8).contains(&noon_kw), "{noon_kw} kW");
}

/// A home whose car charges with 7 kW from 20:00 to 22:00 each evening, the meter with it, for twenty days.
fn with_car(metadata: Metadata) -> Problem {
    let mut home = Household::newborn(id());
    live(&mut home, [Event::MetadataChanged(Arc::new(metadata))]);
    for minute in (-20 * 1_440..0).step_by(5) {
        let charges = (1_200..1_320).contains(&i64::rem_euclid(minute, 1_440));
        let power_w = if charges { 7_000.0 } else { 0.0 };
        let state = AssetState::Ev {
            plugged: true,
            soc_pct: Some(50.0),
            power_w,
            departure_ms: None,
            goal_pct: None,
        };
        let car = AssetReading {
            household_id: id(),
            id: "car".to_owned(),
            ts_ms: at(minute),
            state,
        };
        let meter = load(at(minute), evening_w(minute) + power_w);
        let sun = [pv(at(minute), sun_w(minute)), battery(at(minute), 50.0)];
        let readings = [meter].into_iter().chain(sun);
        live(&mut home, [Event::AssetRead(car)]);
        live(&mut home, readings.map(Event::ReadingArrived));
    }
    asked(home)
}

/// What a planned car draws is no habit of the home; what one draws that nobody plans is.
#[test]
fn the_load_is_known_without_what_plans_decide() {
    let planned = Metadata {
        evs: vec![super::assets::ev_spec()],
        ..metadata()
    };
    let evening_kw = |problem: &Problem| problem.load_kw[82];
    let found_kw = evening_kw(&with_car(planned));
    assert!((found_kw - 0.3).abs() < 0.02, "{found_kw} kW");
    let found_kw = evening_kw(&with_car(metadata()));
    assert!((found_kw - 7.3).abs() < 0.3, "{found_kw} kW");
}

/// A reading that comes after its slot has ended counts as if it had come in time.
#[test]
fn a_late_reading_corrects_the_load() {
    let minutes = || (0..120).step_by(5);
    let late = Event::ReadingArrived(load(at(97), 9_000.0));
    let mut in_time = grown(20);
    live(
        &mut in_time,
        readings(minutes().filter(|minute| *minute <= 95)),
    );
    live(&mut in_time, [late.clone()]);
    live(
        &mut in_time,
        readings(minutes().filter(|minute| *minute > 95)),
    );
    let mut too_late = grown(20);
    live(&mut too_late, readings(minutes()));
    let uncorrected = too_late.clone();
    live(&mut too_late, [late]);
    let load = |home: &Household| {
        let past = home.past().unwrap();
        let found = crate::past::forecast(past, &metadata(), at(105), SETTINGS.slot, 96);
        found.load_band()
    };
    assert_eq!(load(&too_late), load(&in_time));
    assert_ne!(load(&too_late), load(&uncorrected));
}

/// A home without a battery has nothing to decide by courses.
#[test]
fn a_home_without_a_battery_asks_without_courses() {
    let mut home = grown(3);
    live(
        &mut home,
        [Event::MetadataChanged(Arc::new(plain_metadata()))],
    );
    let problem = asked(home);
    assert!(problem.scenarios.is_empty());
    assert_eq!(problem.pv_kw, [0.0; 96]);
}

/// A snapshot from before forecasts has the slots of a day, and nothing is lost of it.
#[test]
fn a_home_of_an_earlier_build_begins_with_its_last_day() {
    let mut home = grown(1);
    let known = home.past.take();
    home.recall(&SETTINGS);
    let load = |past: &forecast::home::HomeForecast| {
        crate::past::forecast(past, &metadata(), at(0), SETTINGS.slot, 96).load_band()
    };
    assert_eq!(load(home.past().unwrap()), load(&known.unwrap()));
}

#[test]
fn slots_of_another_length_go_on_with_the_same_past() {
    let mut home = grown(20);
    let hours = Settings {
        slot: SlotLength::new(60).unwrap(),
        horizon_slots: 24,
        ..SETTINGS
    };
    let env = Env {
        settings: &hours,
        tariffs: &BTreeMap::new(),
        now_ms: None,
    };
    for event in readings((0..240).step_by(15)) {
        home.handle(event, &env, &mut Vec::new());
    }
    let past = home.past().unwrap();
    let found = crate::past::forecast(past, &metadata(), at(180), hours.slot, 24);
    // 17:00 to 19:00 are the hours 14 and 15 from 03:00 on.
    let median_w = &found.load_band().median_w;
    assert!(median_w[13] < 400.0 && median_w[14] > 1_900.0 && median_w[15] > 1_900.0);
}

/// Given modules that face east, a home of which nothing has been read yet expects its sun in the morning.
#[test]
fn modules_face_where_the_operator_says() {
    let share_before_noon = |pv_mounting: Option<PvMounting>| {
        let home = Metadata {
            pv_mounting,
            ..metadata()
        };
        let past = HomeForecast::new(SETTINGS.slot);
        let found = crate::past::forecast(&past, &home, at(0), SETTINGS.slot, 96);
        // Solar noon is near 11:15 UTC.
        let pv_w = found.pv_band().mean_w;
        pv_w[..45].iter().sum::<f64>() / pv_w.iter().sum::<f64>()
    };
    let facing = |azimuth_deg| {
        share_before_noon(Some(PvMounting {
            tilt_deg: 60.0,
            azimuth_deg,
        }))
    };
    let unknown = share_before_noon(None);
    assert!((0.45..0.55).contains(&unknown), "{unknown}");
    assert!(facing(90.0) > 0.65, "{}", facing(90.0));
    assert!(facing(270.0) < 0.35, "{}", facing(270.0));
}
