//! Prices of any size, side by side: placeholders, currencies of small units, weights. No figure may depend on the
//! largest number in a problem that does not need it.

use crate::agreed::agreed;
use crate::oracle::{appliance_home, ev_and_battery_home, ev_home, everything_home, peak_home};
use crate::oracle::{battery_home, stable_home};
use crate::support::{appliance, battery, home, with};
use model::problem::{Battery, HeatStore, Problem};
use model::schedule::{Plan, Status};
use proptest::prelude::*;
use scheduler::{solve, validate, verify};

/// What stands for "no price yet" here and there.
const PLACEHOLDER: f64 = 99_999.0;

#[track_caller]
fn check(problem: &Problem, objective: f64) -> Plan {
    let plan = solve(problem).expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), []);
    assert_eq!((plan.status, plan.gap), (Status::Optimal, 0.0));
    let difference = (plan.objective - objective).abs();
    let size = objective.abs().min(1.0);
    assert!(
        difference <= 1e-8 * size.max(objective.abs() * 1e-3),
        "{} by {} instead of {objective}",
        plan.objective,
        plan.solver
    );
    plan
}

/// A battery and a tank for six hours at ordinary prices, and a seventh without load.
fn two_stores(last_buy: f64, last_sell: f64) -> Problem {
    let load = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0];
    let prices = [0.3, 0.31, 0.29, 0.35, 0.33, 0.34, last_buy];
    with(home(&load, &[0.0; 7], &prices), |p| {
        p.sell_price = vec![0.05, 0.05, 0.05, 0.05, 0.05, 0.05, last_sell];
        p.battery = Some(Battery {
            soc_kwh: 2.0,
            charge_kw: 3.0,
            discharge_kw: 3.0,
            ..battery(10.0)
        });
        p.heat_stores = vec![HeatStore {
            id: "tank".to_owned(),
            power_kw: 2.0,
            cop: vec![3.0; 7],
            kwh_per_k: 0.25,
            loss_kw_per_k: 0.002,
            temperature_c: 50.0,
            min_c: 45.0,
            max_c: 60.0,
            ambient_c: vec![20.0; 7],
            draw_kw: vec![0.2; 7],
            end_value_per_kwh: 0.0,
        }];
    })
}

/// The best plan does nothing in the last hour, so its price is in no cost. The figure is that of another
/// mixed-integer program.
#[test]
fn one_placeholder_changes_no_cost() {
    let best = 1.212_106_899;
    for price in [PLACEHOLDER, 0.36, 1.0, 100_000.0] {
        let problem = two_stores(price, 0.05);
        let plan = solve(&problem).expect("the problem can be stated");
        assert!((plan.objective - best).abs() < 1e-8, "{}", plan.objective);
        assert_eq!((verify(&problem, &plan), plan.gap), (vec![], 0.0));
        agreed("placeholder", &problem);
    }
    // An export that costs that much is none either.
    for (buy, sell) in [(PLACEHOLDER, -PLACEHOLDER), (1.0, -100_000.0)] {
        let plan = agreed("export", &two_stores(buy, sell));
        assert!((plan.objective - best).abs() < 1e-8, "{}", plan.objective);
    }
}

#[test]
fn placeholders_that_earn_are_worth_what_they_say() {
    // 3 kW may be bought, or sold, in the last hour.
    let bought = agreed("negative", &two_stores(-PLACEHOLDER, -PLACEHOLDER));
    assert!(bought.objective < -3.0 * PLACEHOLDER);
    let sold = agreed("sold", &two_stores(PLACEHOLDER, PLACEHOLDER));
    assert!(sold.objective < -2.0 * PLACEHOLDER);
}

#[test]
fn most_of_a_horizon_without_prices() {
    let prices: Vec<f64> = (0..24)
        .map(|t| {
            if t < 6 {
                0.2 + 0.02 * f64::from(t)
            } else {
                PLACEHOLDER
            }
        })
        .collect();
    let load: Vec<f64> = (0..24).map(|t| if t < 6 { 1.0 } else { 0.0 }).collect();
    let problem = with(home(&load, &[0.0; 24], &prices), |p| {
        p.battery = Some(Battery {
            charge_kw: 2.0,
            ..battery(1.5)
        });
        p.sell_price = vec![-PLACEHOLDER; 24];
    });
    // 1.5 kWh more in the first hour: for the sixth, and half of the fifth.
    let best = 2.5 * 0.2 + 0.22 + 0.24 + 0.26 + 0.5 * 0.28;
    check(&problem, best);
    let with_appliance = with(problem, |p| {
        p.appliances = vec![appliance("washer", &[0.4], 0, 6)];
    });
    check(&with_appliance, best + 0.4 * 0.2);
    agreed("appliance", &with_appliance);
}

#[test]
fn small_prices_count_beside_large_ones() {
    let problem = |prices: [f64; 2]| {
        with(home(&[1.0; 2], &[0.0; 2], &prices), |p| {
            p.battery = Some(battery(5.0));
        })
    };
    check(&problem([1e-6, 1e5]), 2e-6);
    check(&problem([1e5, 1e-6]), 1e5 + 1e-6);
    check(&problem([1e-6, 2e-6]), 2e-6);
    check(&problem([1_444.7, 2_000.0]), 2.0 * 1_444.7);
    // The peak is dear, and still the cheaper hour is chosen for what lies below it.
    let level = with(home(&[2.0, 0.0, 0.0], &[0.0; 3], &[0.3, 0.2, 0.1]), |p| {
        p.grid.peak_price_per_kw = 1e5;
        p.battery = Some(Battery {
            soc_kwh: 1.0,
            end_soc_min_kwh: 1.0,
            ..battery(5.0)
        });
    });
    check(&level, 1e5 + 0.3 + 0.1);
}

#[test]
fn an_appliance_takes_the_cheaper_of_close_prices() {
    let problem = |prices: &[f64]| {
        let zero = vec![0.0; prices.len()];
        with(home(&zero, &zero, prices), |p| {
            p.appliances = vec![appliance("washer", &[1.0], 0, 3)];
        })
    };
    check(
        &problem(&[0.3000002, 0.3000001, 0.3000003, PLACEHOLDER]),
        0.3000001,
    );
    let two = with(
        problem(&[0.3000002, 0.3000001, 0.3000003, PLACEHOLDER]),
        |p| {
            p.grid.import_limit_kw = Some(1.0);
            p.appliances.push(appliance("dryer", &[1.0], 0, 3));
        },
    );
    check(&two, 0.6000003);
}

#[test]
fn surplus_is_thrown_away_at_a_small_loss_beside_a_placeholder() {
    let problem = with(home(&[0.0; 2], &[1.0, 0.0], &[0.3, PLACEHOLDER]), |p| {
        p.sell_price = vec![-0.00001, 0.0];
        p.pv_curtailable = true;
    });
    check(&problem, 0.0);
}

/// Every amount of money times `factor`.
fn priced(problem: &Problem, factor: f64) -> Problem {
    with(problem.clone(), |p| {
        for price in p.buy_price.iter_mut().chain(&mut p.sell_price) {
            *price *= factor;
        }
        p.weights.autarky *= factor;
        beside(p, factor);
    })
}

/// The weights times `factor`, and what no weight counts for.
fn weighted(problem: &Problem, factor: f64) -> Problem {
    with(problem.clone(), |p| {
        p.weights.cost *= factor;
        p.weights.autarky *= factor;
        p.weights.revenue *= factor;
        beside(p, factor);
    })
}

fn beside(p: &mut Problem, factor: f64) {
    p.grid.peak_price_per_kw *= factor;
    if let Some(battery) = &mut p.battery {
        battery.end_value_per_kwh *= factor;
        battery.wear_cost_per_kwh *= factor;
    }
    for ev in &mut p.evs {
        ev.end_value_per_kwh *= factor;
        ev.wear_cost_per_kwh *= factor;
    }
    for store in &mut p.heat_stores {
        store.end_value_per_kwh *= factor;
    }
    if let Some(stability) = &mut p.stability {
        stability.battery_cost_per_kwh *= factor;
        stability.start_cost *= factor;
    }
}

fn cost(problem: &Problem, plan: &Plan) -> f64 {
    scheduler::penalised(problem, plan)
}

fn any_kind() -> impl Strategy<Value = Problem> {
    prop_oneof![
        battery_home(0.05, 0.5, false).boxed(),
        battery_home(-0.3, 0.4, true).boxed(),
        appliance_home(1).boxed(),
        ev_home().boxed(),
        ev_and_battery_home().boxed(),
        peak_home().boxed(),
        stable_home().boxed(),
        everything_home().boxed(),
    ]
    .prop_map(|problem| {
        with(problem, |p| {
            let weights = &mut p.weights;
            // Where nothing counts there is no currency: only what cannot be held costs anything, by a scale of its own.
            if weights.cost + weights.autarky + weights.revenue == 0.0 {
                weights.cost = 1.0;
            }
        })
    })
}

/// A slot at the end with nothing in it, in which neither import nor export pays.
fn longer(problem: &Problem) -> Problem {
    with(problem.clone(), |p| {
        p.load_kw.push(0.0);
        p.pv_kw.push(0.0);
        p.buy_price.push(PLACEHOLDER);
        p.sell_price.push(-PLACEHOLDER);
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_currency_is_the_same_problem(
        problem in any_kind(),
        factor in prop::sample::select(vec![1e-6, 1e-3, 4_815.7, 3e4]),
        by_weight in prop::sample::select(vec![1e-3, 1e3]),
    ) {
        let plan = solve(&problem).unwrap();
        let base = cost(&problem, &plan);
        for (other, factor) in [(priced(&problem, factor), factor), (weighted(&problem, by_weight), by_weight)] {
            if validate(&other).is_err() {
                continue;
            }
            let found = solve(&other).unwrap();
            prop_assert_eq!(verify(&other, &found), vec![]);
            prop_assert_eq!(found.status, plan.status);
            prop_assert_eq!(found.gap, plan.gap);
            let expected = factor * base;
            let difference = (cost(&other, &found) - expected).abs();
            prop_assert!(difference <= 2e-7 * factor * base.abs().max(1.0), "{difference} of {expected} at {factor}: {problem:#?}");
        }
    }

    #[test]
    fn an_empty_slot_at_a_huge_price_changes_nothing_else(problem in any_kind()) {
        let problem = with(problem, |p| {
            p.heat_stores.clear();
            // Without a weight on cost no price is paid, and the slot would be one more to charge in for nothing.
            p.weights.cost = p.weights.cost.max(0.1);
        });
        let plan = solve(&problem).unwrap();
        if plan.status == Status::Optimal {
            let other = longer(&problem);
            let found = solve(&other).unwrap();
            prop_assert_eq!(verify(&other, &found), vec![]);
            prop_assert_eq!((found.status, found.gap), (plan.status, plan.gap));
            let difference = (found.objective - plan.objective).abs();
            prop_assert!(difference <= 1e-7 * plan.objective.abs().max(1.0), "{difference} of {}: {problem:#?}", plan.objective);
        }
    }
}
