//! What is stated to the solver, and when.

use super::*;
use crate::planning::{self, PlanningInput};
use crate::runs::Runs;
use crate::unplannable::Unplannable;
use forecast::home::HomeForecast;
use model::problem::{Appliance, Problem};

fn problem(input: &PlanningInput<'_>) -> Result<Problem, Unplannable> {
    planning::problem(input).map(|stated| stated.problem)
}

fn unknown() -> HomeForecast {
    HomeForecast::new(SETTINGS.slot)
}

/// Inputs that were read just now.
fn fresh(soc_pct: Option<f64>, now_ms: i64) -> Inputs {
    let newest = |value| Newest {
        ts_ms: now_ms,
        value,
    };
    Inputs {
        load_w: Some(newest(500.0)),
        pv_w: Some(newest(0.0)),
        soc_pct: soc_pct.map(newest),
        pv_day_before_w: None,
    }
}

fn state(
    metadata: &Metadata,
    now_ms: i64,
    settings: &Settings,
    runs: &Runs,
) -> Result<Problem, Unplannable> {
    problem(&PlanningInput {
        metadata,
        past: &HomeForecast::new(settings.slot),
        tariff: Some(&tariff()),
        inputs: fresh(Some(50.0), now_ms),
        runs,
        now_ms,
        settings,
    })
}

#[test]
fn missing_is_never_zero() {
    let home = metadata();
    let dark = Metadata {
        pv_capacity_kw: 0.0,
        ..metadata()
    };
    let no_battery = Metadata {
        battery: None,
        ..metadata()
    };
    let full = tariff();
    let prices = Some(&full);
    let gap = Tariff {
        periods: tariff().periods.split_off(60),
        ..tariff()
    };
    let end_ms = at(240 * 60);
    let known = |now_ms| fresh(Some(50.0), now_ms);
    let stated = |metadata, inputs, tariff, now_ms| {
        let runs = &Runs::new();
        let settings = &SETTINGS;
        problem(&PlanningInput {
            metadata,
            past: &unknown(),
            tariff,
            inputs,
            runs,
            now_ms,
            settings,
        })
        .map(
            |Problem {
                 load_kw,
                 pv_kw,
                 buy_price,
                 sell_price,
                 ..
             }| {
                let all = [
                    load_kw.len(),
                    pv_kw.len(),
                    buy_price.len(),
                    sell_price.len(),
                ];
                assert_eq!(all, [all[0]; 4]);
                all[0]
            },
        )
    };
    let (now, no_soc) = (known(at(0)), fresh(None, at(0)));
    let no_load = Inputs {
        load_w: None,
        ..now
    };
    let no_pv = Inputs { pv_w: None, ..now };
    assert_eq!(stated(&home, now, prices, at(0)), Ok(96));
    assert_eq!(
        stated(&home, no_load, prices, at(0)),
        Err(Unplannable::NoLoad)
    );
    assert_eq!(stated(&home, no_pv, prices, at(0)), Err(Unplannable::NoPv));
    assert_eq!(stated(&dark, no_pv, prices, at(0)), Ok(96));
    assert_eq!(
        stated(&home, no_soc, prices, at(0)),
        Err(Unplannable::NoSoc)
    );
    assert_eq!(stated(&no_battery, no_soc, prices, at(0)), Ok(96));
    assert_eq!(stated(&home, now, None, at(0)), Err(Unplannable::NoTariff));
    assert_eq!(
        stated(&home, known(end_ms), prices, end_ms),
        Err(Unplannable::NoPrice)
    );
    assert_eq!(
        stated(&home, now, Some(&gap), at(0)),
        Err(Unplannable::NoPrice)
    );
    // Prices end after ten days, and so does the horizon.
    let last_ms = end_ms - 75 * MINUTE_MS;
    assert_eq!(stated(&home, known(last_ms), prices, last_ms), Ok(5));
}

#[test]
fn a_price_is_the_mean_over_the_slot() {
    let mut quarter_hours = tariff();
    quarter_hours.periods = (0..192)
        .map(|index| PricePeriod {
            start_ms: at(15 * index),
            end_ms: at(15 * index + 15),
            buy_per_kwh: f64::from(i32::try_from(index % 4).unwrap()),
            sell_per_kwh: -1.0,
        })
        .collect();
    let settings = Settings {
        slot: SlotLength::new(60).unwrap(),
        horizon_slots: 24,
        ..SETTINGS
    };
    let stated = problem(&PlanningInput {
        metadata: &metadata(),
        past: &HomeForecast::new(settings.slot),
        tariff: Some(&quarter_hours),
        inputs: fresh(Some(50.0), at(0)),
        runs: &Runs::new(),
        now_ms: at(0),
        settings: &settings,
    })
    .unwrap();
    assert_eq!(
        (stated.buy_price, stated.sell_price),
        (vec![1.5; 24], vec![-1.0; 24])
    );
}

#[test]
fn the_battery_starts_where_it_stands() {
    let stated = state(&metadata(), at(0), &SETTINGS, &Runs::new()).unwrap();
    let battery = stated.battery.unwrap();
    assert_eq!((battery.soc_kwh, battery.end_soc_min_kwh), (5.0, 1.0));
    // Half way between the mean prices of buying and selling, after losses: (0.3 + 0.1) / 2 * 0.95.
    assert!((battery.end_value_per_kwh - 0.19).abs() < 1e-12);
    let over = PlanningInput {
        metadata: &metadata(),
        past: &unknown(),
        tariff: Some(&tariff()),
        inputs: fresh(Some(104.0), at(0)),
        runs: &Runs::new(),
        now_ms: at(0),
        settings: &SETTINGS,
    };
    assert_eq!(problem(&over).unwrap().battery.unwrap().soc_kwh, 10.0);
}

#[track_caller]
fn check_appliance(
    window_min: (u32, u32),
    now_min: i64,
    horizon_slots: u32,
    last_run_min: Option<i64>,
    expected: Option<(&[f64], u32, u32)>,
) {
    let mut metadata = metadata();
    metadata.appliances[0].window_start_min = window_min.0;
    metadata.appliances[0].window_end_min = window_min.1;
    let settings = Settings {
        horizon_slots,
        ..SETTINGS
    };
    let last_run = last_run_min.map(|minute| ("dishwasher".to_owned(), at(minute)));
    let runs = last_run.into_iter().collect();
    let stated = state(&metadata, at(now_min), &settings, &runs).unwrap();
    let found = stated.appliances.first().map(|appliance: &Appliance| {
        (
            &appliance.profile_kw[..],
            appliance.earliest_slot,
            appliance.latest_end_slot,
        )
    });
    assert_eq!(found, expected);
}

#[test]
fn appliances_run_once_in_each_window() {
    let all: &[f64] = &[2.0, 1.0, 0.5];
    let day = (600, 960);
    check_appliance(day, 0, 96, None, Some((all, 40, 64)));
    check_appliance(day, 700, 96, None, Some((all, 0, 18)));
    // Bounds between slots are kept, not rounded across.
    check_appliance((601, 959), 0, 96, None, Some((all, 41, 63)));
    // Too little is left of the window: tomorrow's is the next, once all of it is in sight.
    check_appliance(day, 930, 96, None, None);
    check_appliance(day, 930, 120, None, Some((all, 74, 98)));
    check_appliance(day, 0, 40, None, None);
    // The window ends behind the horizon, so a later plan sees more of it.
    check_appliance(day, 0, 60, None, None);
    // It ran today, and tomorrow's window is in sight; or not yet.
    check_appliance(day, 700, 96, Some(600), None);
    check_appliance(day, 900, 120, Some(600), Some((all, 76, 100)));
    // It ran yesterday.
    check_appliance(day, 700, 96, Some(700 - 1_440), Some((all, 0, 18)));
    // It runs: what is left of it goes on at once.
    check_appliance(day, 615, 96, Some(600), Some((&all[1..], 0, 2)));
    check_appliance(day, 630, 96, Some(600), Some((&all[2..], 0, 1)));
    check_appliance(day, 645, 60, Some(600), None);
    // Over midnight.
    check_appliance((1_320, 360), 0, 96, None, Some((all, 0, 24)));
    check_appliance((1_320, 360), 0, 96, Some(-60), None);
    check_appliance((1_320, 360), 480, 96, None, Some((all, 56, 88)));
    check_appliance((0, 0), 600, 96, None, Some((all, 0, 56)));
    check_appliance((0, 1_440), 600, 96, None, Some((all, 0, 56)));
}

#[test]
fn a_plan_is_asked_for_once_a_slot() {
    let mut world = lived_day(SETTINGS);
    let requests_count = world.requests.len();
    for minute in 0..60 {
        world.read_all(at(minute));
        world.tick(at(minute) + 1_000);
    }
    let asked: Vec<_> = world.requests[requests_count..].iter().collect();
    let starts: Vec<_> = asked
        .iter()
        .map(|request| request.problem.start_ms)
        .collect();
    assert_eq!(starts, [at(0), at(15), at(30), at(45)]);
    let first = asked[0];
    let (requested_ms, nth) = (first.requested_ms, requests_count);
    assert_eq!(first.request_id, format!("7-{requested_ms}-{nth}"));
    assert!(first.adopt && first.problem.load_kw.len() == 96);
    assert!(asked.is_sorted_by(|one, next| one.requested_ms < next.requested_ms));
}

/// The next problem knows the plan that holds, from its own first slot on.
#[test]
fn a_plan_is_kept_unless_another_saves_enough() {
    let mut world = World::with(SETTINGS, metadata());
    world.read_all(at(1));
    let first = world.requests[0].clone();
    assert_eq!(first.problem.stability, None);
    world.answer(&first, 2.0);
    world.read_all(at(16));
    let next = world.requests.last().unwrap().clone();
    assert_ne!(next.request_id, first.request_id);
    let stability = next.problem.stability.unwrap();
    assert_eq!(stability.start_cost, 0.01);
    // The battery has thresholds, which no plan before pins.
    assert!(!next.problem.scenarios.is_empty());
    assert!(stability.soc_change_kwh.is_empty());
    let earliest = first.problem.appliances[0].earliest_slot;
    assert_eq!(stability.start_slots["dishwasher"], earliest - 1);
}

#[test]
fn metadata_may_come_after_readings() {
    let mut world = World::new(SETTINGS);
    for minute in 0..40 {
        world.read_all(at(minute));
    }
    assert!(world.requests.is_empty());
    world.tell(Event::MetadataChanged(Arc::new(metadata())));
    assert_eq!(world.requests.len(), 1);
    // The same again is no news; a change asks again in the same slot, and later.
    world.tell(Event::MetadataChanged(Arc::new(metadata())));
    assert_eq!(world.requests.len(), 1);
    world.tell(Event::MetadataChanged(Arc::new(plain_metadata())));
    assert_eq!(world.requests.len(), 2);
    assert!(world.requests[0].requested_ms < world.requests[1].requested_ms);
}

#[test]
fn a_new_home_is_planned_at_once() {
    let mut world = World::with(SETTINGS, metadata());
    world.read(load(at(3), 500.0));
    world.read(pv(at(3), 100.0));
    assert!(world.requests.is_empty());
    world.read(battery(at(3), 50.0));
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn a_silent_home_is_not_planned() {
    let mut world = lived_day(SETTINGS);
    world.tick(at(50));
    let requests_count = world.requests.len();
    world.tick(at(120));
    world.tick(at(180));
    assert_eq!(world.requests.len(), requests_count);
    assert!(world.home.is_stale(at(180), &SETTINGS));
    world.read_all(at(181));
    assert_eq!(world.requests.len(), requests_count + 1);
}

#[test]
fn horizons_of_92_and_100_slots_and_other_lengths() {
    for (minutes, horizon_slots) in [(15, 92), (15, 100), (60, 23), (60, 25), (5, 288), (1, 60)] {
        let slot = SlotLength::new(minutes).unwrap();
        let mut world = lived_day(Settings {
            slot,
            horizon_slots,
            ..SETTINGS
        });
        world.read_all(at(0));
        let problem = &world.requests.last().unwrap().problem;
        assert_eq!(problem.load_kw.len(), horizon_slots as usize);
        assert_eq!((problem.start_ms, problem.slot_minutes), (at(0), minutes));
        // The scenario of the day before is 500 W throughout, whatever the length of a slot is now.
        let yesterday = |scenario: &&model::problem::Scenario| {
            scenario
                .load_kw
                .iter()
                .all(|kw| (kw - 0.5).abs() < 0.5 * 0.032)
        };
        assert!(
            problem
                .scenarios
                .iter()
                .any(|scenario| yesterday(&scenario))
        );
    }
}
