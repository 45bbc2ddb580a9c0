//! Plans for several scenarios of load and PV: what the mean of the least costs says, by hand and by solving each scenario
//! from each content anew.

use model::policy::{BatteryPolicy, Mode};
use model::problem::{Battery, Problem, Scenario};
use model::schedule::{Plan, PlannedSlot};
use scheduler::{Method, Solver, solve, verify};

use crate::oracle::{
    appliance_home, battery_home, draw, ev_and_battery_home, peak_home, stable_home,
};
use crate::support::{appliance, battery, ev, home, lossy, with};

fn own_series(problem: &Problem, weight: f64) -> Scenario {
    Scenario {
        weight,
        load_kw: problem.load_kw.clone(),
        pv_kw: problem.pv_kw.clone(),
    }
}

fn the_battery(slot: &PlannedSlot) -> BatteryPolicy {
    let policy = slot.policy.as_ref().expect("every slot has a policy");
    policy.battery.expect("the home has a battery")
}

fn thresholds(policy: &BatteryPolicy) -> [Option<f64>; 6] {
    [
        policy.charge_from_grid_to_kwh,
        policy.charge_from_pv_to_kwh,
        policy.discharge_to_home_to_kwh,
        policy.discharge_to_grid_to_kwh,
        policy.charge_from_excess_to_kwh,
        policy.discharge_to_excess_to_kwh,
    ]
}

#[track_caller]
fn check_same(label: &str, problem: &Problem, found: &Plan, expected: &Plan) {
    let near =
        |found: f64, expected: f64| (found - expected).abs() <= 1e-7 * expected.abs().max(1.0);
    assert!(near(found.objective, expected.objective), "{label}");
    assert_eq!(found.solver, expected.solver, "{label}");
    // Slopes of hulls, and those at the best peak, are as good as equal more often than they are equal.
    let has_peak_price = problem.grid.peak_price_per_kw > 0.0;
    let is_told_apart = expected.solver != Method::DpHull.as_str() && !has_peak_price;
    for (t, (found, expected)) in found.slots.iter().zip(&expected.slots).enumerate() {
        let contents = (found.soc_kwh, expected.soc_kwh);
        assert!(
            near(contents.0, contents.1),
            "{label} slot {t}: {contents:?}"
        );
        assert_eq!(found.appliances, expected.appliances, "{label} slot {t}");
        if !is_told_apart {
            continue;
        }
        let (found, expected) = (the_battery(found), the_battery(expected));
        let pairs = thresholds(&found).into_iter().zip(thresholds(&expected));
        let are_same = pairs.into_iter().all(|pair| match pair {
            (Some(found), Some(expected)) => near(found, expected),
            (found, expected) => found == expected,
        });
        assert!(are_same, "{label} slot {t}: {found:?} {expected:?}");
        assert_eq!(found.mode, expected.mode, "{label} slot {t}");
    }
}

/// With its own series for its only scenario a home gets the plan that it gets without. Returns whether that can be told:
/// powers that are held say nothing of what follows.
fn check_own(label: &str, problem: &Problem) -> bool {
    if problem.battery.is_none() {
        return false;
    }
    let expected = solve(problem).expect("the problem can be stated");
    let is_held = |slot: &PlannedSlot| the_battery(slot).mode == Mode::Setpoint;
    if expected.slots.iter().any(is_held) || expected.solver == Method::DpGeneral.as_str() {
        return false;
    }
    for weights in [vec![2.5], vec![1.0, 0.0, 3.0], vec![0.1; 10]] {
        let own = |weight: &f64| own_series(problem, *weight);
        let problem = with(problem.clone(), |p| {
            p.scenarios = weights.iter().map(own).collect();
        });
        let found = solve(&problem).expect("the problem can be stated");
        check_same(label, &problem, &found, &expected);
    }
    true
}

fn check_all_own(salt: u64, cases: u64, least: u64, any: impl Fn(u64) -> Problem) {
    let seeds = (0..cases).map(|case| salt * 1_000_000 + case);
    let told = seeds.filter(|seed| check_own(&format!("seed {seed}"), &any(*seed)));
    let told = told.count();
    assert!(told as u64 >= least, "{told} of {cases}");
}

#[test]
fn the_own_series_as_the_only_scenario_changes_nothing() {
    check_all_own(31, 2_000, 1_800, |seed| {
        draw(seed, &battery_home(0.05, 0.5, false))
    });
    check_all_own(32, 500, 100, |seed| {
        draw(seed, &battery_home(-0.3, 0.4, true))
    });
    check_all_own(33, 200, 100, |seed| draw(seed, &peak_home()));
    check_all_own(34, 500, 100, |seed| draw(seed, &stable_home()));
    check_all_own(35, 200, 150, |seed| draw(seed, &appliance_home(2)));
    check_all_own(36, 20, 2, |seed| draw(seed, &ev_and_battery_home()));
}

/// Other courses of load and PV, from the home's own series.
fn scenarios(problem: &Problem, seed: u64, count: usize) -> Vec<Scenario> {
    let slots = problem.load_kw.len();
    let shares = proptest::collection::vec(0.0..2.0_f64, 2 * slots + 1);
    let draws = draw(seed, &proptest::collection::vec(shares, count));
    let scaled = |series: &[f64], shares: &[f64]| -> Vec<f64> {
        let pairs = series.iter().zip(shares);
        pairs.map(|(power, share)| power * share).collect()
    };
    draws
        .iter()
        .map(|shares| Scenario {
            weight: shares[2 * slots],
            load_kw: scaled(&problem.load_kw, &shares[..slots]),
            pv_kw: scaled(&problem.pv_kw, &shares[slots..]),
        })
        .collect()
}

/// The weighted mean of what each scenario costs from slot `from` on, with `content` in the battery then; `None` where one
/// of them breaks a limit.
fn mean_cost(problem: &Problem, from: usize, content: f64) -> Option<f64> {
    let whole: f64 = problem.scenarios.iter().map(|one| one.weight).sum();
    let costs = problem.scenarios.iter().map(|scenario| {
        let rest = with(problem.clone(), |p| {
            let slot_ms = i64::from(p.slot_minutes) * 60_000;
            p.start_ms += slot_ms * i64::try_from(from).expect("few slots");
            p.load_kw = scenario.load_kw[from..].to_vec();
            p.pv_kw = scenario.pv_kw[from..].to_vec();
            p.buy_price.drain(..from);
            p.sell_price.drain(..from);
            p.scenarios.clear();
            p.battery.as_mut().expect("there is one").soc_kwh = content;
        });
        let plan = solve(&rest).expect("the problem can be stated");
        let weight = scenario.weight / whole;
        (plan.relaxed.is_empty()).then_some(weight * plan.objective)
    });
    costs.sum()
}

/// What each threshold stands for: the slope at which it ceases to pay, and whether it pays at that very slope.
fn prices(problem: &Problem, battery: &Battery, t: usize) -> [f64; 4] {
    let (weights, wear) = (problem.weights, battery.wear_cost_per_kwh);
    let buy = weights.cost * problem.buy_price[t] + weights.autarky;
    let sell = (weights.cost + weights.revenue) * problem.sell_price[t];
    let (up, down) = (battery.charge_efficiency, battery.discharge_efficiency);
    [
        buy / up + wear,
        sell / up + wear,
        buy * down - wear,
        sell * down - wear,
    ]
}

/// Below each threshold a kWh is worth more in the battery than its price, and above it less, where worth is what the mean
/// over all scenarios, each solved anew, gets cheaper by it.
fn check_mean(label: &str, problem: &Problem) -> usize {
    const STEP_KWH: f64 = 1e-5;
    let battery = problem.battery.as_ref().expect("the home has a battery");
    let plan = solve(problem).expect("the problem can be stated");
    let certain = with(problem.clone(), |p| p.scenarios.clear());
    let is_kept = solve(&certain).is_ok_and(|plan| plan.relaxed.is_empty());
    if !is_kept {
        // A plan that breaks a limit as it is may stay as it is.
        return 0;
    }
    let (least, most) = (battery.min_soc_kwh, battery.max_soc_kwh);
    let mut checked = 0;
    for (t, slot) in plan.slots.iter().enumerate().take(plan.slots.len() - 1) {
        let policy = the_battery(slot);
        let never = [least, least, most, most];
        let prices = prices(problem, battery, t);
        for (k, level) in thresholds(&policy).into_iter().take(4).enumerate() {
            let level = level.unwrap_or(never[k]);
            let worth = |content: f64| {
                let cost = |content| mean_cost(problem, t + 1, content);
                let (from, to) = (content - STEP_KWH / 2.0, content + STEP_KWH / 2.0);
                Some((cost(from)? - cost(to)?) / STEP_KWH)
            };
            let tolerance = 1e-6;
            if level - 2.0 * STEP_KWH > least
                && let Some(worth) = worth(level - STEP_KWH)
            {
                checked += 1;
                assert!(
                    worth >= prices[k] - tolerance,
                    "{label} slot {t} threshold {k}: {worth} below {level}, {}",
                    prices[k]
                );
            }
            if level + 2.0 * STEP_KWH < most
                && let Some(worth) = worth(level + STEP_KWH)
            {
                checked += 1;
                assert!(
                    worth <= prices[k] + tolerance,
                    "{label} slot {t} threshold {k}: {worth} above {level}, {}",
                    prices[k]
                );
            }
        }
    }
    checked
}

#[test]
fn thresholds_come_from_the_mean_of_the_least_costs() {
    let mut checked = 0;
    for seed in 37_000_000..37_000_060_u64 {
        let problem = draw(seed, &battery_home(0.05, 0.5, false));
        if problem.battery.is_none() {
            continue;
        }
        let problem = with(problem, |p| {
            p.appliances.clear();
            p.scenarios = scenarios(p, seed, 1 + (seed % 5) as usize);
        });
        checked += check_mean(&format!("seed {seed}"), &problem);
    }
    assert!(checked > 2_000, "{checked}");
}

#[track_caller]
fn check_order(label: &str, policy: &BatteryPolicy) {
    let [grid, pv, home, sell, _, _] = thresholds(policy);
    let (grid, pv) = (grid.unwrap_or(-1.0), pv.unwrap_or(-1.0));
    let (home, sell) = (home.unwrap_or(f64::INFINITY), sell.unwrap_or(f64::INFINITY));
    let is_ordered = grid <= pv && pv <= sell && grid <= home && home <= sell;
    assert!(is_ordered, "{label}: {policy:?}");
}

#[test]
fn thresholds_are_ordered_and_plans_sound() {
    let mut solver = Solver::default();
    let mut check_all = |salt: u64, cases: u64, any: &dyn Fn(u64) -> Problem| {
        for seed in salt * 1_000_000..salt * 1_000_000 + cases {
            let problem = with(any(seed), |p| p.scenarios = scenarios(p, seed, 8));
            let label = format!("seed {seed}");
            let plan = solver.solve(&problem).expect("the problem can be stated");
            assert_eq!(verify(&problem, &plan), [], "{label}");
            let certain = with(problem.clone(), |p| p.scenarios.clear());
            let best = solver.solve(&certain).expect("the problem can be stated");
            assert!(plan.relaxed.len() <= best.relaxed.len(), "{label}");
            if best.relaxed.is_empty() && best.gap == 0.0 {
                let noise = 1e-6 * best.objective.abs().max(1.0);
                assert!(plan.objective >= best.objective - noise, "{label}");
            }
            if problem.battery.is_some() {
                for slot in &plan.slots {
                    check_order(&label, &the_battery(slot));
                }
            }
        }
    };
    check_all(41, 1_000, &|seed| {
        draw(seed, &battery_home(0.05, 0.5, false))
    });
    check_all(42, 1_000, &|seed| {
        draw(seed, &battery_home(-0.3, 0.4, true))
    });
    check_all(43, 100, &|seed| draw(seed, &peak_home()));
    check_all(44, 300, &|seed| draw(seed, &stable_home()));
    check_all(45, 200, &|seed| draw(seed, &appliance_home(2)));
    check_all(46, 20, &|seed| draw(seed, &ev_and_battery_home()));
}

/// The evening's load is 4 kWh in half of the scenarios and nothing in the others. A kWh for it is bought at 0.2 where it
/// saves 0.5 half of the time, and not at 0.3.
#[test]
fn what_may_not_be_needed_is_worth_half() {
    let problem = |night: f64| {
        let prices = [night, 0.5];
        with(home(&[0.0, 1.0], &[0.0; 2], &prices), |p| {
            p.battery = Some(battery(10.0));
            let evening = |load: f64| Scenario {
                weight: 1.0,
                load_kw: vec![0.0, load],
                pv_kw: vec![0.0; 2],
            };
            p.scenarios = vec![evening(4.0), evening(0.0)];
        })
    };
    let bought = |night: f64| {
        let plan = solve(&problem(night)).expect("the problem can be stated");
        let slot = &plan.slots[0];
        let policy = slot.policy.as_ref().expect("every slot has a policy");
        (
            the_battery(slot).charge_from_grid_to_kwh,
            policy.value_per_kwh,
        )
    };
    let near = |found: (Option<f64>, f64), level: Option<f64>, worth: f64| {
        assert!((found.1 - worth).abs() < 1e-6, "{found:?}");
        assert_eq!(found.0.map(|level| level.round()), level, "{found:?}");
    };
    near(bought(0.2), Some(4.0), 0.0);
    near(bought(0.3), None, 0.25);
}

/// The policy of the first of two slots of a home whose battery holds `content` of 10 kWh. Load and PV, in the first and in
/// the second slot, are certain.
fn cautious(
    caution: f64,
    content: f64,
    (load, pv): ([f64; 2], [f64; 2]),
    (buy, sell): ([f64; 2], [f64; 2]),
) -> BatteryPolicy {
    let problem = with(home(&load, &pv, &buy), |p| {
        p.sell_price = sell.to_vec();
        p.battery = Some(Battery {
            soc_kwh: content,
            ..battery(10.0)
        });
        p.scenarios = vec![own_series(p, 1.0)];
        p.caution_per_kwh = caution;
    });
    let plan = solve(&problem).expect("the problem can be stated");
    the_battery(&plan.slots[0])
}

/// Energy is bought, kept from the load, sold or left to the grid where that gains more than caution asks for, and stored
/// and used at once otherwise.
#[test]
fn caution_asks_for_a_gain() {
    let level = |level: Option<f64>| level.map(f64::round);
    let none = [0.0; 2];
    let bought = |caution| {
        let policy = cautious(caution, 0.0, ([0.0, 4.0], none), ([0.2, 0.25], none));
        level(policy.charge_from_grid_to_kwh)
    };
    assert_eq!((bought(0.04), bought(0.06)), (Some(4.0), None));
    let needed = |caution| {
        let policy = cautious(caution, 4.0, ([4.0, 4.0], none), ([0.4, 0.5], none));
        level(policy.discharge_to_home_to_kwh)
    };
    assert_eq!((needed(0.09), needed(0.11)), (Some(4.0), Some(0.0)));
    let sold = |caution| {
        let policy = cautious(caution, 4.0, ([0.0, 4.0], none), ([0.6; 2], [0.5, 0.0]));
        level(policy.discharge_to_grid_to_kwh)
    };
    assert_eq!((sold(0.0), sold(0.11)), (Some(4.0), Some(4.0)));
    let sold_dear = |caution| {
        let policy = cautious(caution, 4.0, ([0.0, 4.0], none), ([0.6, 0.45], [0.5, 0.0]));
        level(policy.discharge_to_grid_to_kwh)
    };
    assert_eq!((sold_dear(0.04), sold_dear(0.06)), (Some(0.0), Some(4.0)));
    let stored = |caution| {
        let series = ([0.0, 4.0], [4.0, 0.0]);
        let policy = cautious(caution, 0.0, series, ([0.6, 0.28], [0.3, 0.0]));
        level(policy.charge_from_pv_to_kwh)
    };
    assert_eq!((stored(0.01), stored(0.03)), (None, Some(4.0)));
}

/// An oven and a car take what they take in each scenario; the battery knows of both.
#[test]
fn what_is_fixed_first_is_part_of_each_scenario() {
    let alone = with(
        home(&[0.5; 4], &[0.0, 1.0, 0.0, 0.0], &[0.1, 0.3, 0.4, 0.2]),
        |p| p.battery = Some(lossy(4.0, 0.9)),
    );
    let scenarios = |p: &Problem, added: &[f64]| -> Vec<Scenario> {
        let scaled = [0.5, 1.0, 3.0].map(|share| {
            let load = p.load_kw.iter().zip(added);
            Scenario {
                weight: 1.0,
                load_kw: load
                    .map(|(load, added)| 0.5 * share + added + 0.0 * load)
                    .collect(),
                pv_kw: p.pv_kw.clone(),
            }
        });
        scaled.to_vec()
    };
    let oven = [0.0, 0.0, 2.0, 0.0];
    let beside = with(alone.clone(), |p| {
        p.appliances = vec![appliance("oven", &[2.0], 2, 3)];
        p.scenarios = scenarios(p, &[0.0; 4]);
    });
    let within = with(alone.clone(), |p| {
        p.load_kw[2] += 2.0;
        p.scenarios = scenarios(p, &oven);
    });
    let policies = |problem: &Problem| -> Vec<BatteryPolicy> {
        let plan = solve(problem).expect("the problem can be stated");
        plan.slots.iter().map(the_battery).collect()
    };
    assert_eq!(policies(&beside), policies(&within));
    // The car can only charge in the first slot.
    let beside = with(alone.clone(), |p| {
        p.evs = vec![model::problem::Ev {
            goal_soc_kwh: 12.0,
            ..ev("car", 0, 1)
        }];
        p.scenarios = scenarios(p, &[0.0; 4]);
    });
    let within = with(alone, |p| {
        p.load_kw[0] += 2.0;
        p.scenarios = scenarios(p, &[2.0, 0.0, 0.0, 0.0]);
    });
    for (beside, within) in policies(&beside).iter().zip(policies(&within)) {
        let pairs = thresholds(beside).into_iter().zip(thresholds(&within));
        for (beside, within) in pairs {
            let apart = beside.unwrap_or(-1.0) - within.unwrap_or(-1.0);
            assert!(apart.abs() < 1e-6, "{beside:?} {within:?}");
        }
    }
}
