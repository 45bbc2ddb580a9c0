//! Problems that cannot be stated: the field and the limit are named.

use crate::support::{appliance, battery, home, with};
use model::problem::{Problem, Scenario, Signal};
use scheduler::{solve, validate};

fn sound() -> Problem {
    with(home(&[1.0; 4], &[0.0; 4], &[0.3; 4]), |p| {
        p.battery = Some(battery(5.0));
        p.appliances = vec![
            appliance("washer", &[2.0, 1.0], 0, 4),
            appliance("dryer", &[2.0], 1, 3),
        ];
    })
}

#[track_caller]
fn check(field: &str, change: impl FnOnce(&mut Problem)) {
    let problem = with(sound(), change);
    let error = validate(&problem).expect_err("the problem cannot be stated");
    assert_eq!(error.field(), field, "{error}");
    assert!(error.to_string().contains(error.limit()));
    assert!(!error.is_retryable());
    let again = solve(&problem).expect_err("solve refuses it too");
    assert_eq!(again.to_string(), error.to_string());
}

#[track_caller]
fn check_battery(field: &str, change: impl FnOnce(&mut model::problem::Battery)) {
    check(&format!("battery.{field}"), |p| {
        change(p.battery.as_mut().expect("the sound problem has one"));
    });
}

#[test]
fn a_sound_problem_passes() {
    assert_eq!(validate(&sound()), Ok(()));
}

#[test]
fn time_and_series() {
    check("slot_minutes", |p| p.slot_minutes = 20);
    check("slot_minutes", |p| p.slot_minutes = 0);
    check("start", |p| p.start_ms += 60_000);
    check("start", |p| p.start_ms = -3_600_000);
    check("start", |p| p.start_ms = i64::MAX);
    check("load_kw", |p| p.load_kw.clear());
    check("load_kw", |p| p.load_kw = vec![0.0; 673]);
    check("load_kw[2]", |p| p.load_kw[2] = -0.1);
    check("load_kw[0]", |p| p.load_kw[0] = f64::NAN);
    check("pv_kw", |p| p.pv_kw.push(0.0));
    check("pv_kw[3]", |p| p.pv_kw[3] = f64::INFINITY);
    check("buy_price", |p| p.buy_price.truncate(2));
    check("buy_price[1]", |p| p.buy_price[1] = -1e6);
    check("sell_price[1]", |p| p.sell_price[1] = f64::NAN);
}

#[test]
fn batteries() {
    check_battery("capacity_kwh", |b| b.capacity_kwh = -1.0);
    check_battery("soc_kwh", |b| b.soc_kwh = 5.1);
    check_battery("max_soc_kwh", |b| b.max_soc_kwh = 6.0);
    check_battery("min_soc_kwh", |b| b.min_soc_kwh = 5.5);
    check_battery("charge_kw", |b| b.charge_kw = -1.0);
    check_battery("discharge_kw", |b| b.discharge_kw = f64::NAN);
    check_battery("charge_efficiency", |b| b.charge_efficiency = 0.0);
    check_battery("discharge_efficiency", |b| b.discharge_efficiency = 1.1);
    check_battery("end_soc_min_kwh", |b| b.end_soc_min_kwh = 7.0);
    check_battery("end_value_per_kwh", |b| b.end_value_per_kwh = f64::NAN);
    check_battery("wear_cost_per_kwh", |b| b.wear_cost_per_kwh = -0.1);
}

#[test]
fn limits_weights_and_appliances() {
    check("grid.import_limit_kw", |p| {
        p.grid.import_limit_kw = Some(-1.0);
    });
    check("grid.export_limit_kw", |p| {
        p.grid.export_limit_kw = Some(f64::NAN);
    });
    check("weights.cost", |p| p.weights.cost = -1.0);
    check("weights.autarky", |p| p.weights.autarky = f64::NAN);
    check("weights.revenue", |p| p.weights.revenue = 1e9);
    check("appliances", |p| {
        p.appliances = vec![appliance("a", &[1.0], 0, 4); 17];
    });
    check("appliances[1].id", |p| {
        p.appliances[1].id = "washer".to_owned();
    });
    check("appliances[0].id", |p| p.appliances[0].id.clear());
    check("appliances[0].id", |p| p.appliances[0].id = "x".repeat(65));
    check("appliances[1].latest_end_slot", |p| {
        p.appliances[1].latest_end_slot = 5;
    });
    check("appliances[1].latest_end_slot", |p| {
        p.appliances[1].earliest_slot = 3;
    });
    check("appliances[0].profile_kw", |p| {
        p.appliances[0].profile_kw.clear();
    });
    check("appliances[0].profile_kw", |p| {
        p.appliances[0].profile_kw = vec![1.0; 5];
    });
    check("appliances[0].profile_kw[1]", |p| {
        p.appliances[0].profile_kw[1] = f64::NAN;
    });
}

#[test]
fn scenarios() {
    let scenario = |weight: f64| Scenario {
        weight,
        load_kw: vec![1.0; 4],
        pv_kw: vec![0.0; 4],
    };
    let check = |field: &str, change: &dyn Fn(&mut Vec<Scenario>)| {
        check(field, |p| {
            p.scenarios = vec![scenario(1.0), scenario(0.0)];
            assert_eq!(validate(p), Ok(()));
            change(&mut p.scenarios);
        });
    };
    check("scenarios", &|all| all.resize(65, scenario(1.0)));
    check("scenarios[1].weight", &|all| all[1].weight = -0.1);
    check("scenarios[0].weight", &|all| all[0].weight = f64::NAN);
    check("scenarios[0].weight", &|all| all[0].weight = 1_000.5);
    check("scenarios[0].weight", &|all| all[0].weight = 0.0);
    check("scenarios[1].load_kw", &|all| all[1].load_kw.push(0.0));
    check("scenarios[0].load_kw[3]", &|all| all[0].load_kw[3] = -1.0);
    check("scenarios[1].pv_kw", &|all| all[1].pv_kw.clear());
    check("scenarios[1].pv_kw[2]", &|all| all[1].pv_kw[2] = f64::NAN);
}

#[test]
fn signals() {
    let check_signal = |field: &str, change: fn(&mut Signal)| {
        check(&format!("signal.{field}"), |p| {
            let mut signal = Signal::default();
            change(&mut signal);
            p.signal = Some(signal);
        });
    };
    check_signal("price_per_kwh", |s| s.price_per_kwh = vec![0.1; 3]);
    check_signal("price_per_kwh[2]", |s| {
        s.price_per_kwh = vec![0.0, 0.0, 1e6, 0.0];
    });
    check_signal("import_cap_kw", |s| s.import_cap_kw = vec![Some(1.0); 5]);
    check_signal("import_cap_kw[1]", |s| {
        s.import_cap_kw = vec![None, Some(-10_000.1), None, None];
    });
    check_signal("export_cap_kw[0]", |s| {
        s.export_cap_kw = vec![Some(f64::NAN); 4];
    });
    check_signal("import_breach_price_per_kwh", |s| {
        s.import_breach_price_per_kwh = -0.1;
    });
    check_signal("export_breach_price_per_kwh", |s| {
        s.export_breach_price_per_kwh = f64::INFINITY;
    });
}

#[test]
fn a_signal_that_asks_for_nothing_passes() {
    let problem = with(sound(), |p| p.signal = Some(Signal::default()));
    assert_eq!(validate(&problem), Ok(()));
    let plain = solve(&sound()).expect("a sound problem");
    assert_eq!(solve(&problem), Ok(plain));
}
