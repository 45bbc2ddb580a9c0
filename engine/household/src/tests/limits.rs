//! What a home's metadata and a tariff may say, by data: each field at its limit and just beyond it.

use model::metadata::{Departure, EvSpec, HeatStoreSpec, Position, PvMounting};

use super::*;
use model::limits::{LimitError, PERIODS_MAX, POWER_KW_MAX, PRICE_MAX, SLOTS_MAX, TIME_MS_MAX};

/// The metadata of a home with one thing changed: `expected` is the sentence that refuses it, or empty.
#[track_caller]
fn check_home(expected: &str, change: fn(&mut Metadata)) {
    let mut home = metadata();
    change(&mut home);
    assert_eq!(sentence(home.check()), expected);
}

#[track_caller]
fn check_tariff(expected: &str, periods: &[(i64, i64, f64, f64)]) {
    let periods = periods
        .iter()
        .map(|(start_ms, end_ms, buy, sell)| PricePeriod {
            start_ms: *start_ms,
            end_ms: *end_ms,
            buy_per_kwh: *buy,
            sell_per_kwh: *sell,
        });
    let tariff = Tariff {
        stated: Vec::new(),
        name: "dynamic".to_owned(),
        periods: periods.collect(),
    };
    assert_eq!(sentence(tariff.check()), expected);
}

fn sentence(checked: Result<(), LimitError>) -> String {
    checked
        .err()
        .map_or_else(String::new, |error| error.to_string())
}

fn second_appliance(home: &mut Metadata, id: &str) {
    let spec = ApplianceSpec {
        id: id.to_owned(),
        ..home.appliances[0].clone()
    };
    home.appliances.push(spec);
}

#[test]
fn ids_are_used_once_and_have_a_length() {
    check_home("", |home| second_appliance(home, "dryer"));
    check_home(
        r#"appliances[1].id is "dishwasher", expected an id that is used once"#,
        |home| second_appliance(home, "dishwasher"),
    );
    check_home(
        r#"appliances[1].id is "", expected 1 to 64 bytes without control characters"#,
        |home| second_appliance(home, ""),
    );
    check_home("", |home| second_appliance(home, &"x".repeat(64)));
    check_home(
        &format!(
            r#"appliances[1].id is "{}", expected 1 to 64 bytes without control characters"#,
            "x".repeat(64)
        ),
        |home| second_appliance(home, &"x".repeat(65)),
    );
    check_home(
        r#"appliances[0].id is "a\nb", expected 1 to 64 bytes without control characters"#,
        |home| home.appliances[0].id = "a\nb".to_owned(),
    );
    check_home(
        r#"tariff is "", expected 1 to 256 bytes without control characters"#,
        |home| home.tariff.clear(),
    );
    check_home("appliances is 17 entries, expected 0 to 16", |home| {
        (0..16).for_each(|number| second_appliance(home, &number.to_string()));
    });
}

#[test]
fn profiles_and_windows_can_run() {
    check_home(
        "appliances[0].profile_kw is 0 entries, expected 1 to 672",
        |home| {
            home.appliances[0].profile_kw.clear();
        },
    );
    check_home(
        "appliances[0].profile_kw[1] is -0.5, expected 0 to 10000",
        |home| {
            home.appliances[0].profile_kw = vec![1.0, -0.5];
        },
    );
    check_home(
        "appliances[0].profile_kw[0] is NaN, expected 0 to 10000",
        |home| {
            home.appliances[0].profile_kw = vec![f64::NAN];
        },
    );
    check_home(
        "appliances[0].window_start_min is 1440, expected 0 to 1439",
        |home| {
            home.appliances[0].window_start_min = 1_440;
        },
    );
    check_home(
        "appliances[0].window_end_min is 1441, expected 0 to 1440",
        |home| {
            home.appliances[0].window_end_min = 1_441;
        },
    );
}

#[test]
fn places_and_assets_have_limits() {
    let check = |expected: &str, change: fn(&mut Metadata)| check_home(expected, change);
    check(
        r#"time_zone is "Berlin", expected an IANA time zone such as Europe/Berlin"#,
        |home| home.time_zone = "Berlin".to_owned(),
    );
    check("position.latitude_deg is 91, expected -90 to 90", |home| {
        home.position = Some(Position {
            latitude_deg: 91.0,
            longitude_deg: 0.0,
        });
    });
    check("pv_mounting.azimuth_deg is -1, expected 0 to 360", |home| {
        home.pv_mounting = Some(PvMounting {
            tilt_deg: 35.0,
            azimuth_deg: -1.0,
        });
    });
    check(
        "groups[1] is \"a\", expected a group that is named once",
        |home| {
            home.groups = vec!["a".to_owned(), "a".to_owned()];
        },
    );
    check(
        r#"evs[0].id is "a/b", expected a level of an MQTT topic: no `/`, `+`, `#` or space"#,
        |home| {
            home.evs = vec![EvSpec {
                id: "a/b".to_owned(),
                ..assets::ev_spec()
            }];
        },
    );
    check("evs[0].goal_soc_kwh is 51, expected 0 to 50", |home| {
        home.evs = vec![EvSpec {
            goal_soc_kwh: 51.0,
            ..assets::ev_spec()
        }];
    });
    check(
        "evs[0].departures[1].weekday is 2, expected a day that is named once",
        |home| {
            let departure = Departure {
                weekday: 2,
                at_min: 450,
            };
            home.evs = vec![EvSpec {
                departures: vec![departure; 2],
                ..assets::ev_spec()
            }];
        },
    );
    check("heat_stores[0].min_c is 66, expected -1000 to 65", |home| {
        home.heat_stores = vec![HeatStoreSpec {
            min_c: 66.0,
            ..assets::tank_spec()
        }];
    });
    check(
        "heat_stores[0].draw_kw is 23 entries, expected 24 to 24",
        |home| {
            home.heat_stores = vec![HeatStoreSpec {
                draw_kw: vec![0.1; 23],
                ..assets::tank_spec()
            }];
        },
    );
}

/// A window from `start_min` to `end_min` holds `expected` slots of `minutes`.
#[track_caller]
fn check_window(start_min: u32, end_min: u32, minutes: u32, expected: usize) {
    let slot = SlotLength::new(minutes).unwrap();
    let mut home = metadata();
    home.appliances[0].window_start_min = start_min;
    home.appliances[0].window_end_min = end_min;
    home.appliances[0].profile_kw = vec![1.0; expected];
    assert_eq!(home.check_runs(slot), Ok(()));
    home.appliances[0].profile_kw.push(1.0);
    let error = home.check_runs(slot).unwrap_err();
    let field = if expected == 0 {
        "window_end_min"
    } else {
        "profile_kw"
    };
    assert_eq!(error.field, format!("appliances[0].{field}"));
}

#[test]
fn a_run_fits_into_its_window() {
    check_window(600, 645, 15, 3);
    check_window(600, 645, 1, 45);
    check_window(600, 645, 60, 0);
    // From 10:05 to 10:40 only the quarter hour from 10:15 lies inside whole.
    check_window(605, 640, 15, 1);
    check_window(1_380, 60, 15, 8);
    check_window(0, 1_440, 15, 96);
    check_window(0, 0, 15, 96);
    check_window(0, 0, 1, SLOTS_MAX);
}

#[test]
fn batteries_and_the_grid_have_limits() {
    let battery = |change: fn(&mut BatterySpec)| {
        let mut home = metadata();
        change(home.battery.as_mut().unwrap());
        sentence(home.check())
    };
    assert_eq!(
        battery(|spec| spec.capacity_kwh = 0.0),
        "battery.capacity_kwh is 0, expected 0.001 to 100000"
    );
    assert_eq!(
        battery(|spec| spec.capacity_kwh = f64::INFINITY),
        "battery.capacity_kwh is inf, expected 0.001 to 100000"
    );
    assert_eq!(
        battery(|spec| spec.min_soc_kwh = 9.6),
        "battery.min_soc_kwh is 9.6, expected 0 to 9.5"
    );
    assert_eq!(
        battery(|spec| spec.max_soc_kwh = 10.1),
        "battery.max_soc_kwh is 10.1, expected 0 to 10"
    );
    assert_eq!(
        battery(|spec| spec.charge_kw = POWER_KW_MAX + 1.0),
        "battery.charge_kw is 10001, expected 0 to 10000"
    );
    assert_eq!(battery(|spec| spec.discharge_kw = POWER_KW_MAX), "");
    assert_eq!(
        battery(|spec| spec.discharge_efficiency = 1.01),
        "battery.discharge_efficiency is 1.01, expected 0.01 to 1"
    );
    assert_eq!(
        battery(|spec| spec.wear_cost_per_kwh = -0.1),
        "battery.wear_cost_per_kwh is -0.1, expected 0 to 100000"
    );
    check_home("grid.import_limit_kw is -1, expected 0 to 10000", |home| {
        home.grid.import_limit_kw = Some(-1.0);
    });
    check_home("", |home| home.grid.import_limit_kw = Some(0.0));
    check_home("grid.peak_kw is NaN, expected 0 to 10000", |home| {
        home.grid.peak_kw = f64::NAN;
    });
    check_home("pv_capacity_kw is 10000.5, expected 0 to 10000", |home| {
        home.pv_capacity_kw = 10_000.5;
    });
    check_home("weights.autarky is 1001, expected 0 to 1000", |home| {
        home.weights.autarky = 1_001.0;
    });
}

#[test]
fn prices_of_every_currency_pass() {
    let hour = |price: f64| [(0, HOUR_MS, price, price)];
    check_tariff("", &hour(1_444.70));
    check_tariff("", &hour(PRICE_MAX));
    check_tariff("", &hour(-PRICE_MAX));
    check_tariff(
        "periods[0].buy is 100000.01, expected -100000 to 100000",
        &hour(100_000.01),
    );
    check_tariff(
        "periods[0].sell is NaN, expected -100000 to 100000",
        &[(0, HOUR_MS, 0.0, f64::NAN)],
    );
}

#[test]
fn periods_ascend() {
    check_tariff("", &[]);
    check_tariff(
        "",
        &[
            (0, 1, 0.1, 0.1),
            (1, 2, 0.1, 0.1),
            (5, TIME_MS_MAX, 0.1, 0.1),
        ],
    );
    check_tariff(
        "periods[1].start is 1 ms, expected a time at or after the end of the period before",
        &[(0, 2, 0.1, 0.1), (1, 3, 0.1, 0.1)],
    );
    check_tariff(
        "periods[0].start is -1 ms, expected a time since 1970",
        &[(-1, 3, 0.1, 0.1)],
    );
    let end = "a time after its start and before the year 9999";
    check_tariff(
        &format!("periods[0].end is 3 ms, expected {end}"),
        &[(3, 3, 0.1, 0.1)],
    );
    check_tariff(
        &format!("periods[0].end is {} ms, expected {end}", TIME_MS_MAX + 1),
        &[(3, TIME_MS_MAX + 1, 0.1, 0.1)],
    );
    let many: Vec<_> = (0..)
        .map(|start_ms| (start_ms, start_ms + 1, 0.1, 0.1))
        .take(PERIODS_MAX + 1)
        .collect();
    check_tariff("periods is 20001 entries, expected 0 to 20000", &many);
    check_tariff("", &many[1..]);
}
