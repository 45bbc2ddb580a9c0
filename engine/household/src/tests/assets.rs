//! EVs and heat stores: their readings, and what they become in the home's problem.

use model::asset::AssetState;
use model::metadata::{Departure, EvSpec, HeatStoreSpec};
use model::problem::{Ev, Problem};

use super::*;

pub(super) fn ev_spec() -> EvSpec {
    EvSpec {
        id: "car".to_owned(),
        capacity_kwh: 50.0,
        min_soc_kwh: 5.0,
        goal_soc_kwh: 40.0,
        charge_kw: 10.0,
        min_charge_kw: 0.0,
        discharge_kw: 0.0,
        charge_efficiency: 0.9,
        discharge_efficiency: 0.9,
        wear_cost_per_kwh: 0.0,
        departures: Vec::new(),
    }
}

pub(super) fn tank_spec() -> HeatStoreSpec {
    HeatStoreSpec {
        id: "tank".to_owned(),
        power_kw: 2.0,
        cop: 1.0,
        kwh_per_k: 0.35,
        loss_kw_per_k: 0.003,
        min_c: 45.0,
        max_c: 65.0,
        ambient_c: 18.0,
        draw_kw: (0..24).map(f64::from).collect(),
    }
}

fn home_with(evs: Vec<EvSpec>, heat_stores: Vec<HeatStoreSpec>, zone: &str) -> Metadata {
    Metadata {
        time_zone: zone.to_owned(),
        evs,
        heat_stores,
        ..metadata()
    }
}

fn asset(id_text: &str, ts_ms: i64, state: AssetState) -> AssetReading {
    AssetReading {
        household_id: id(),
        id: id_text.to_owned(),
        ts_ms,
        state,
    }
}

const PLUGGED: AssetState = AssetState::Ev {
    plugged: true,
    soc_pct: Some(40.0),
    power_w: 0.0,
    departure_ms: None,
    goal_pct: None,
};

/// The problem of a home whose EV and tank were read at midnight.
fn problem_at_midnight(metadata: Metadata, readings: &[AssetReading]) -> Problem {
    let mut world = World::with(SETTINGS, metadata);
    for reading in readings {
        world.tell(Event::AssetRead(reading.clone()));
    }
    world.read_all(at(-15));
    world.read_all(at(0));
    world.requests.pop().unwrap().problem
}

#[track_caller]
fn the_ev(metadata: Metadata, state: AssetState) -> Option<Ev> {
    let readings = [asset("car", at(0), state)];
    let mut evs = problem_at_midnight(metadata, &readings).evs;
    assert!(evs.len() <= 1);
    evs.pop()
}

#[test]
fn readings_become_rows_once() {
    let mut world = World::with(SETTINGS, home_with(vec![ev_spec()], Vec::new(), "UTC"));
    let at_ms = |minute| asset("car", at(minute), PLUGGED);
    for minute in [1, 1, 0, 2] {
        world.tell(Event::AssetRead(at_ms(minute)));
    }
    let unplugged = AssetState::Ev {
        plugged: false,
        soc_pct: Some(101.0),
        power_w: 0.0,
        departure_ms: None,
        goal_pct: None,
    };
    world.tell(Event::AssetRead(asset("car", at(2), unplugged)));
    world.tell(Event::AssetRead(asset("car", at(3), unplugged)));
    let counts: Vec<_> = world
        .outcomes
        .iter()
        .map(|(name, count)| (*name, *count))
        .collect();
    let expected = [
        ("accepted", 2),
        ("clamped", 1),
        ("corrected", 1),
        ("duplicate", 1),
        ("late", 1),
    ];
    assert_eq!(counts, expected);
    let rows_ms: Vec<_> = world.assets.iter().map(|row| row.ts_ms).collect();
    assert_eq!(rows_ms, [at(1), at(0), at(2), at(2), at(3)]);
}

#[test]
fn readings_from_a_wrong_clock_and_of_too_many_assets_are_refused() {
    let mut world = World::with(SETTINGS, metadata());
    world.now_ms = Some(at(0));
    world.tell(Event::AssetRead(asset("car", at(6), PLUGGED)));
    world.tell(Event::AssetRead(asset(
        "car",
        at(0) - 366 * DAY_MS,
        PLUGGED,
    )));
    for number in 0..17 {
        world.tell(Event::AssetRead(asset(&number.to_string(), at(0), PLUGGED)));
    }
    let expected = [
        (at(6), Refusal::Future),
        (at(0) - 366 * DAY_MS, Refusal::TooOld),
        (at(0), Refusal::TooManyAssets),
    ];
    assert_eq!(world.refused, expected);
    assert_eq!(world.assets.len(), 16);
}

#[test]
fn an_ev_is_planned_while_it_is_plugged_in() {
    let home = home_with(vec![ev_spec()], Vec::new(), "UTC");
    let ev = the_ev(home.clone(), PLUGGED).unwrap();
    // Nobody said when it leaves: it need not charge, and what is on board is worth the mean price times 0.9.
    assert_eq!((ev.arrival_slot, ev.departure_slot), (0, 96));
    assert_eq!((ev.soc_kwh, ev.goal_soc_kwh), (20.0, 0.0));
    assert!((ev.end_value_per_kwh - 0.3 * 0.9).abs() < 1e-12);
    let with = |plugged, soc_pct, departure_min: Option<i64>| AssetState::Ev {
        plugged,
        soc_pct,
        power_w: 0.0,
        departure_ms: departure_min.map(at),
        goal_pct: Some(90.0),
    };
    assert!(the_ev(home.clone(), with(false, Some(40.0), None)).is_none());
    assert!(the_ev(home.clone(), with(true, None, None)).is_none());
    // It leaves at 06:20, in slot 25, with 90 %.
    let ev = the_ev(home.clone(), with(true, Some(40.0), Some(380))).unwrap();
    assert_eq!((ev.departure_slot, ev.goal_soc_kwh), (25, 45.0));
    assert_eq!(ev.end_value_per_kwh, 0.0);
    // It leaves in this slot.
    assert!(the_ev(home.clone(), with(true, Some(40.0), Some(10))).is_none());
    // It leaves two hours behind the horizon: 18 of the 45 kWh can be charged then.
    let ev = the_ev(home, with(true, Some(40.0), Some(1_560))).unwrap();
    assert_eq!(ev.departure_slot, 96);
    assert!((ev.goal_soc_kwh - 27.0).abs() < 1e-12);
    // 2025-09-12 is a Friday. Its habit is 07:30 in Berlin, 05:30 UTC; Saturday's is another.
    let mut spec = ev_spec();
    spec.departures = vec![
        Departure {
            weekday: 5,
            at_min: 600,
        },
        Departure {
            weekday: 4,
            at_min: 450,
        },
    ];
    let home = home_with(vec![spec], Vec::new(), "Europe/Berlin");
    let ev = the_ev(home, PLUGGED).unwrap();
    assert_eq!((ev.departure_slot, ev.goal_soc_kwh), (22, 40.0));
}

#[test]
fn an_asset_that_has_fallen_silent_is_not_planned() {
    let home = home_with(vec![ev_spec()], vec![tank_spec()], "UTC");
    let tank = AssetState::Heat {
        temperature_c: 50.0,
        power_w: 0.0,
    };
    let readings = [asset("car", at(-61), PLUGGED), asset("tank", at(-60), tank)];
    let problem = problem_at_midnight(home, &readings);
    assert!(problem.evs.is_empty());
    assert_eq!(problem.heat_stores.len(), 1);
}

#[test]
fn a_tank_is_drawn_from_by_local_hours() {
    let home = home_with(Vec::new(), vec![tank_spec()], "Europe/Berlin");
    let tank = AssetState::Heat {
        temperature_c: 50.0,
        power_w: 0.0,
    };
    let problem = problem_at_midnight(home, &[asset("tank", at(0), tank)]);
    let store = &problem.heat_stores[0];
    assert_eq!(store.temperature_c, 50.0);
    // Midnight UTC is 02:00 in Berlin.
    assert_eq!(store.draw_kw[..5], [2.0, 2.0, 2.0, 2.0, 3.0]);
    assert_eq!((store.draw_kw[87], store.draw_kw[88]), (23.0, 0.0));
    assert_eq!((store.cop.len(), store.ambient_c[95]), (96, 18.0));
}

/// Habits keep their local time when clocks change: ten years of departures in five zones.
#[test]
fn departures_follow_local_clocks() {
    let base = problem_at_midnight(metadata(), &[]);
    for name in [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Pacific/Auckland",
    ] {
        let zone = model::zone::Zone::find(name).unwrap();
        let mut spec = ev_spec();
        spec.departures = (0..7)
            .map(|weekday| Departure {
                weekday,
                at_min: 450,
            })
            .collect();
        let metadata = home_with(vec![spec], Vec::new(), name);
        let first = zone.day_of(at(0));
        for number in 0..3_653 {
            let now_ms = zone.at_ms(first.plus(number), 0);
            let assets = {
                let mut assets = crate::assets::Assets::new();
                let counting = crate::assets::Counting {
                    slot_ms: 15 * MINUTE_MS,
                    hold_ms: 15 * MINUTE_MS,
                };
                assets.take_in(&asset("car", now_ms, PLUGGED), true, counting);
                assets
            };
            let mut problem = Problem {
                start_ms: now_ms,
                ..base.clone()
            };
            let input = crate::asset_problems::AssetInput {
                metadata: &metadata,
                assets: &assets,
                fresh_from_ms: now_ms,
                now_ms,
            };
            input.add_to(&mut problem);
            let departure_slot = i64::from(problem.evs[0].departure_slot);
            let departure_ms = now_ms + departure_slot * 15 * MINUTE_MS;
            let local_ms = departure_ms + i64::from(zone.offset_min(departure_ms)) * MINUTE_MS;
            assert_eq!(
                local_ms.rem_euclid(DAY_MS),
                450 * MINUTE_MS,
                "{name} {number}"
            );
        }
    }
}
