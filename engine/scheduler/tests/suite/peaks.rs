//! A price on the highest import, where little or nothing can be moved. Worked out by hand.

use crate::agreed::agreed;
use crate::support::{appliance, battery, ev, home, with};
use model::problem::{Battery, HeatStore, Problem};
use model::schedule::{Plan, Status};
use scheduler::{solve, verify};

#[track_caller]
fn check(problem: &Problem, objective: f64) -> Plan {
    let plan = solve(problem).expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), []);
    assert_eq!((plan.status, plan.gap), (Status::Optimal, 0.0));
    let difference = (plan.objective - objective).abs();
    assert!(difference < 1e-9, "{} by {}", plan.objective, plan.solver);
    agreed("peak", problem);
    plan
}

/// Four quarter hours at 30 ct, 10 ct for export, and 5 for each kW of the highest import.
fn peak(load: [f64; 4]) -> Problem {
    with(home(&load, &[0.0; 4], &[0.3; 4]), |p| {
        p.slot_minutes = 15;
        p.sell_price = vec![0.1; 4];
        p.grid.peak_price_per_kw = 5.0;
    })
}

#[test]
fn a_flat_load_pays_for_its_one_height() {
    // 0.5 kWh at 0.3, and 0.5 kW at 5.
    let plan = check(&peak([0.5; 4]), 0.15 + 2.5);
    assert_eq!(plan.solver, "dp");
    check(&peak([0.5, 1.0, 0.25, 0.5]), 2.25 / 4.0 * 0.3 + 5.0);
}

#[test]
fn nothing_is_owed_without_an_import() {
    check(&peak([0.0; 4]), 0.0);
    let sunny = with(peak([0.0; 4]), |p| p.pv_kw = vec![2.0; 4]);
    check(&sunny, -0.2);
    check(&with(sunny, |p| p.pv_curtailable = true), -0.2);
    let even = with(peak([2.0; 4]), |p| p.pv_kw = vec![2.0; 4]);
    check(&even, 0.0);
}

#[test]
fn only_what_is_above_the_paid_peak_counts() {
    let paid = |kw: f64| with(peak([0.5; 4]), |p| p.grid.peak_kw = kw);
    check(&paid(0.2), 0.15 + 0.3 * 5.0);
    check(&paid(0.5), 0.15);
    check(&paid(10_000.0), 0.15);
}

#[test]
fn one_slot_is_a_horizon() {
    let problem = with(home(&[0.5], &[0.0], &[0.3]), |p| {
        p.grid.peak_price_per_kw = 5.0;
    });
    check(&problem, 0.15 + 2.5);
    check(&with(problem.clone(), |p| p.load_kw[0] = 0.0), 0.0);
    check(&with(problem, |p| p.buy_price[0] = 0.0), 2.5);
}

#[test]
fn a_store_that_cannot_move_changes_nothing() {
    let stuck = |change: fn(&mut Battery)| {
        let mut stuck = battery(5.0);
        change(&mut stuck);
        with(peak([0.5; 4]), |p| p.battery = Some(stuck))
    };
    check(&stuck(|b| *b = battery(0.0)), 2.65);
    check(&stuck(|b| (b.charge_kw, b.discharge_kw) = (0.0, 0.0)), 2.65);
    check(&stuck(|b| b.max_soc_kwh = 0.0), 2.65);
    let full = |b: &mut Battery| (b.soc_kwh, b.min_soc_kwh, b.end_soc_min_kwh) = (5.0, 5.0, 5.0);
    check(&stuck(full), 2.65);
    // At its goal already, and nothing to give back.
    let car = with(ev("car", 0, 4), |ev| ev.goal_soc_kwh = ev.soc_kwh);
    check(&with(peak([0.5; 4]), |p| p.evs = vec![car]), 2.65);
    let tank = HeatStore {
        id: "tank".to_owned(),
        power_kw: 2.0,
        cop: vec![3.0; 4],
        kwh_per_k: 0.25,
        loss_kw_per_k: 0.0,
        temperature_c: 50.0,
        min_c: 45.0,
        max_c: 60.0,
        ambient_c: vec![20.0; 4],
        draw_kw: vec![0.0; 4],
        end_value_per_kwh: 0.0,
    };
    check(&with(peak([0.5; 4]), |p| p.heat_stores = vec![tank]), 2.65);
}

#[test]
fn a_battery_levels_the_import() {
    let problem = with(home(&[0.0, 2.0], &[0.0; 2], &[0.3; 2]), |p| {
        p.grid.peak_price_per_kw = 1.0;
        p.battery = Some(battery(10.0));
    });
    check(&problem, 2.0 * 0.3 + 1.0);
}

#[test]
fn an_appliance_that_fills_the_horizon_has_no_choice() {
    let problem = with(peak([0.5; 4]), |p| {
        p.appliances = vec![appliance("heater", &[1.0; 4], 0, 4)];
    });
    check(&problem, 1.5 * 0.3 + 7.5);
    let with_battery = with(problem, |p| p.battery = Some(battery(0.0)));
    check(&with_battery, 1.5 * 0.3 + 7.5);
}

#[test]
fn import_that_is_limited_or_free() {
    let limited = |kw: f64| with(peak([0.5; 4]), |p| p.grid.import_limit_kw = Some(kw));
    check(&limited(0.5), 2.65);
    check(&limited(10_000.0), 2.65);
    let free = with(peak([0.5; 4]), |p| {
        p.buy_price = vec![0.0; 4];
        p.sell_price = vec![0.0; 4];
    });
    check(&free, 2.5);
    let dear = with(peak([0.5; 4]), |p| p.grid.peak_price_per_kw = 100_000.0);
    check(&dear, 0.15 + 50_000.0);
}
