//! The policy of each slot: by hand in small homes, and carried out on the series of random ones, where it must cost what the
//! plan costs.

use std::collections::BTreeMap;

use model::battery::{Bounds, Moment};
use model::policy::{BatteryPolicy, Mode, Reason};
use model::problem::{Battery, Problem};
use model::schedule::{Plan, PlannedSlot, Status};
use scheduler::{Method, solve, verify};

use crate::oracle::{
    appliance_home, battery_home, draw, ev_and_battery_home, everything_home, peak_home,
    stable_home,
};
use crate::support::{appliance, battery, home, lossy, with};

/// What a followed plan may cost more or less, relative to the larger of 1 and its objective.
const SAME: f64 = 1e-9;
/// A power or a content may be beyond a limit by this, kW or kWh.
const NOISE: f64 = 1e-7;

fn hours(problem: &Problem) -> f64 {
    f64::from(problem.slot_minutes) / 60.0
}

fn the_battery(slot: &PlannedSlot) -> BatteryPolicy {
    let policy = slot.policy.as_ref().expect("every slot has a policy");
    policy.battery.expect("the home has a battery")
}

/// What everything but the battery takes, kW, less all PV.
fn net_kw(problem: &Problem, t: usize, slot: &PlannedSlot) -> f64 {
    let evs: f64 = slot
        .evs
        .values()
        .map(|ev| ev.charge_kw - ev.discharge_kw)
        .sum();
    let heat: f64 = slot.heat.values().map(|heat| heat.power_kw).sum();
    slot.load_kw + evs + heat - problem.pv_kw[t]
}

/// Carries the policies out, a step a slot, on the series that were planned for. Returns the contents.
fn followed(problem: &Problem, battery: &Battery, plan: &Plan) -> Vec<f64> {
    let bounds = Bounds::from(battery);
    let mut content_kwh = battery.soc_kwh;
    let slots = plan.slots.iter().enumerate();
    slots
        .map(|(t, slot)| {
            let policy = slot.policy.as_ref().expect("every slot has a policy");
            let least = |limit: Option<f64>, other: Option<f64>| {
                limit
                    .unwrap_or(f64::INFINITY)
                    .min(other.unwrap_or(f64::INFINITY))
            };
            let moment = Moment {
                content_kwh,
                net_load_kw: net_kw(problem, t, slot),
                import_max_kw: least(problem.grid.import_limit_kw, policy.import_max_kw),
                export_max_kw: least(problem.grid.export_limit_kw, policy.export_max_kw),
            };
            let power = bounds.power_kw(&the_battery(slot), &moment, hours(problem));
            content_kwh = bounds.after_kwh(content_kwh, power, hours(problem));
            content_kwh
        })
        .collect()
}

/// What meter and battery cost where the battery holds `contents` at the ends of slots; infinite where a limit is broken.
/// The PV used is the best of the few amounts at which the cost can turn.
fn cost(problem: &Problem, battery: &Battery, plan: &Plan, contents: &[f64]) -> f64 {
    let (grid, weights, dt) = (problem.grid, problem.weights, hours(problem));
    let highest = plan.slots.iter().map(|slot| slot.grid_import_kw);
    let peak = highest.fold(grid.peak_kw, f64::max);
    let import_max = if grid.peak_price_per_kw > 0.0 {
        peak.min(grid.import_limit_kw.unwrap_or(f64::INFINITY))
    } else {
        grid.import_limit_kw.unwrap_or(f64::INFINITY)
    };
    let export_max = grid.export_limit_kw.unwrap_or(f64::INFINITY);
    let mut sum = 0.0;
    let mut most_import: f64 = 0.0;
    let mut before = battery.soc_kwh;
    for (t, (slot, content)) in plan.slots.iter().zip(contents).enumerate() {
        let change = content - before;
        before = *content;
        let power = if change > 0.0 {
            change / battery.charge_efficiency / dt
        } else {
            change * battery.discharge_efficiency / dt
        };
        let available = problem.pv_kw[t];
        let taken = net_kw(problem, t, slot) + available + power;
        let buy = weights.cost * problem.buy_price[t] + weights.autarky;
        let sell = (weights.cost + weights.revenue) * problem.sell_price[t];
        let turns = [taken, taken + export_max, taken - import_max, 0.0];
        let turns = turns.into_iter().filter(|_| problem.pv_curtailable);
        let best = turns
            .map(|pv| pv.clamp(0.0, available))
            .chain([available])
            .map(|pv| ((taken - pv).max(0.0), (pv - taken).max(0.0)))
            .filter(|(import, export)| {
                *import <= import_max + NOISE && *export <= export_max + NOISE
            })
            .map(|(import, export)| (buy * import - sell * export, import))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((flows, import)) = best else {
            return f64::INFINITY;
        };
        most_import = most_import.max(import);
        sum += dt * flows + battery.wear_cost_per_kwh * change.abs();
        if let Some(stability) = &problem.stability {
            let planned = stability.soc_change_kwh.get(t);
            let apart = planned.map_or(0.0, |planned| (change - planned).abs());
            sum += stability.battery_cost_per_kwh * apart;
        }
    }
    sum + grid.peak_price_per_kw * (most_import - grid.peak_kw).max(0.0)
        - battery.end_value_per_kwh * before
}

#[track_caller]
fn check_order(label: &str, policy: &BatteryPolicy) {
    let (never_up, never_down) = (f64::NEG_INFINITY, f64::INFINITY);
    let grid = policy.charge_from_grid_to_kwh.unwrap_or(never_up);
    let pv = policy.charge_from_pv_to_kwh.unwrap_or(never_up);
    let home = policy.discharge_to_home_to_kwh.unwrap_or(never_down);
    let sell = policy.discharge_to_grid_to_kwh.unwrap_or(never_down);
    let is_ordered = grid <= pv && pv <= sell && grid <= home && home <= sell;
    assert!(is_ordered, "{label}: {policy:?}");
    let is_set_point = policy.mode == Mode::Setpoint;
    assert_eq!(is_set_point, policy.setpoint_kw.is_some(), "{label}");
}

/// Follows the plan of `problem`. Returns how it was found, with how many slots have thresholds and how many a set-point;
/// `None` for a plan that breaks limits.
fn check(label: &str, problem: &Problem) -> Option<(String, [usize; 2])> {
    let battery = problem.battery.as_ref().expect("the home has a battery");
    let plan = solve(problem).expect("the problem can be stated");
    let policies = plan.slots.iter().map(the_battery);
    policies
        .clone()
        .for_each(|policy| check_order(label, &policy));
    if plan.status != Status::Optimal {
        return None;
    }
    let planned: Vec<f64> = plan.slots.iter().map(|slot| slot.soc_kwh).collect();
    let expected = cost(problem, battery, &plan, &planned);
    let is_alone = problem.appliances.is_empty() && problem.evs.is_empty();
    let size = plan.objective.abs().max(1.0);
    if is_alone && problem.heat_stores.is_empty() {
        let apart = (expected - plan.objective).abs();
        assert!(
            apart <= SAME * size,
            "{label}: the plan's cost, {apart:e} apart"
        );
    }
    let found = cost(problem, battery, &plan, &followed(problem, battery, &plan));
    let apart = (found - expected).abs();
    assert!(
        apart <= SAME * size,
        "{label}: {apart:e} apart: {problem:#?}"
    );
    let set_points = policies
        .filter(|policy| policy.mode == Mode::Setpoint)
        .count();
    Some((plan.solver, [plan.slots.len() - set_points, set_points]))
}

/// Follows many plans. Returns for each method the number of slots with thresholds and with a set-point.
#[expect(clippy::print_stdout, reason = "how many slots have a set-point")]
fn check_all(salt: u64, cases: u64, any: impl Fn(u64) -> Problem) -> BTreeMap<String, [usize; 2]> {
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for case in 0..cases {
        let seed = salt * 1_000_000 + case;
        let problem = any(seed);
        if problem.battery.is_none() {
            continue;
        }
        if let Some((method, slots)) = check(&format!("seed {seed}"), &problem) {
            let counted = counts.entry(method).or_default();
            *counted = [counted[0] + slots[0], counted[1] + slots[1]];
        }
    }
    println!("slots with thresholds and with set-points: {counts:?}");
    counts
}

/// At most one slot in `least` has a set-point.
#[track_caller]
fn check_rare(counts: &BTreeMap<String, [usize; 2]>, least: usize) {
    let with = |k: usize| counts.values().map(|slots| slots[k]).sum::<usize>();
    assert!(with(1) * least <= with(0), "{counts:?}");
}

#[test]
fn following_a_convex_plan_costs_what_it_costs() {
    let counts = check_all(21, 3_000, |seed| {
        draw(seed, &battery_home(0.05, 0.5, false))
    });
    assert_eq!(counts[Method::Dp.as_str()][1], 0);
}

#[test]
fn following_a_plan_at_any_prices_costs_what_it_costs() {
    let counts = check_all(22, 3_000, |seed| draw(seed, &battery_home(-0.3, 0.4, true)));
    check_rare(&counts, 4);
}

#[test]
fn following_a_plan_with_a_peak_price_costs_what_it_costs() {
    let counts = check_all(23, 700, |seed| draw(seed, &peak_home()));
    check_rare(&counts, 4);
}

#[test]
fn following_a_plan_that_stays_costs_what_it_costs() {
    let counts = check_all(24, 1_000, |seed| draw(seed, &stable_home()));
    check_rare(&counts, 4);
}

#[test]
fn following_a_plan_beside_appliances_costs_what_it_costs() {
    let counts = check_all(25, 400, |seed| draw(seed, &appliance_home(2)));
    check_rare(&counts, 50);
}

#[test]
fn following_a_plan_beside_other_stores_costs_what_it_costs() {
    let counts = check_all(26, 60, |seed| draw(seed, &ev_and_battery_home()));
    check_rare(&counts, 4);
    let counts = check_all(27, 20, |seed| draw(seed, &everything_home()));
    check_rare(&counts, 50);
}

/// Each slot's mode, reason, power in kW, and worth of a kWh.
#[track_caller]
fn check_slots(problem: &Problem, objective: f64, slots: &[(Mode, Reason, f64, f64)]) -> Plan {
    let plan = solve(problem).expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), []);
    assert!(
        (plan.objective - objective).abs() < 1e-6,
        "{}",
        plan.objective
    );
    assert_eq!(plan.slots.len(), slots.len());
    for (t, (slot, (mode, reason, power_kw, worth))) in plan.slots.iter().zip(slots).enumerate() {
        let policy = slot.policy.as_ref().expect("every slot has a policy");
        let found = the_battery(slot);
        assert_eq!(
            (found.mode, policy.reason),
            (*mode, *reason),
            "slot {t}: {policy:?}"
        );
        assert!(
            (found.expected_kw - power_kw).abs() < 1e-6,
            "slot {t}: {policy:?}"
        );
        assert!(
            (policy.value_per_kwh - worth).abs() < 1e-6,
            "slot {t}: {policy:?}"
        );
    }
    plan
}

/// The four thresholds of slot `t`: what is bought, stored, covered, sold.
#[track_caller]
fn check_thresholds(plan: &Plan, t: usize, expected: [Option<f64>; 4]) {
    let policy = the_battery(&plan.slots[t]);
    let found = [
        policy.charge_from_grid_to_kwh,
        policy.charge_from_pv_to_kwh,
        policy.discharge_to_home_to_kwh,
        policy.discharge_to_grid_to_kwh,
    ];
    for (found, expected) in found.into_iter().zip(expected) {
        let is_same = match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-6,
            (found, expected) => found == expected,
        };
        assert!(is_same, "slot {t}: {policy:?}");
    }
}

#[test]
fn a_cheap_night_is_bought_and_kept_for_a_dear_evening() {
    let prices = [0.1, 0.2, 0.2, 0.5];
    let problem = with(home(&[0.0, 1.0, 1.0, 5.0], &[0.0; 4], &prices), |p| {
        p.battery = Some(battery(4.0));
    });
    // A kWh less after the first slot would be bought at 0.2.
    let plan = check_slots(
        &problem,
        4.0 * 0.1 + 2.0 * 0.2 + 0.5,
        &[
            (Mode::Charge, Reason::CheapNow, 4.0, 0.2),
            (Mode::Hold, Reason::DearLater, 0.0, 0.2),
            (Mode::Hold, Reason::DearLater, 0.0, 0.5),
            (Mode::SelfConsumption, Reason::OwnUse, -4.0, 0.0),
        ],
    );
    check_thresholds(&plan, 0, [Some(4.0), Some(4.0), None, None]);
    // In the third slot the battery buys what may be missing. There is no PV, but it would be stored.
    check_thresholds(&plan, 2, [Some(4.0), Some(4.0), None, None]);
    check_thresholds(&plan, 3, [None, None, Some(0.0), None]);
}

#[test]
fn a_flat_tariff_leaves_self_consumption() {
    let pv = [0.0, 2.0, 2.0, 0.0, 0.0, 0.0];
    let problem = with(home(&[1.0; 6], &pv, &[0.3; 6]), |p| {
        p.sell_price = vec![0.08; 6];
        p.battery = Some(battery(5.0));
    });
    let own = |power_kw: f64, worth: f64| (Mode::SelfConsumption, Reason::OwnUse, power_kw, worth);
    let plan = check_slots(
        &problem,
        0.3 + 0.3,
        &[
            own(0.0, 0.3),
            own(1.0, 0.3),
            own(1.0, 0.3),
            own(-1.0, 0.3),
            own(-1.0, 0.3),
            own(0.0, 0.0),
        ],
    );
    // 3 kWh of load are to come, and none is bought for later or sold.
    check_thresholds(&plan, 2, [None, Some(3.0), Some(0.0), Some(3.0)]);
}

#[test]
fn room_is_kept_for_the_sun_that_cannot_be_sold() {
    let problem = with(
        home(&[0.0, 0.0, 0.0, 4.0], &[2.0, 4.0, 0.0, 0.0], &[0.3; 4]),
        |p| {
            p.sell_price = vec![0.1; 4];
            p.grid.export_limit_kw = Some(2.0);
            p.pv_curtailable = true;
            p.battery = Some(battery(2.0));
        },
    );
    check_slots(
        &problem,
        -0.2 - 0.2 + 0.6,
        &[
            (Mode::Idle, Reason::SunLater, 0.0, 0.0),
            (Mode::SelfConsumption, Reason::GridLimit, 2.0, 0.3),
            (Mode::SelfConsumption, Reason::OwnUse, 0.0, 0.3),
            (Mode::SelfConsumption, Reason::OwnUse, -2.0, 0.0),
        ],
    );
}

#[test]
fn what_pays_is_sold_and_what_must_be_left_is_bought() {
    let problem = with(home(&[0.0, 2.0], &[0.0; 2], &[0.6, 0.3]), |p| {
        p.sell_price = vec![0.5, 0.1];
        p.battery = Some(Battery {
            soc_kwh: 2.0,
            ..battery(2.0)
        });
    });
    check_slots(
        &problem,
        -1.0 + 0.6,
        &[
            (Mode::Sell, Reason::PaysNow, -2.0, 0.3),
            (Mode::SelfConsumption, Reason::OwnUse, 0.0, 0.0),
        ],
    );
    let problem = with(home(&[0.0; 2], &[0.0; 2], &[0.3; 2]), |p| {
        p.battery = Some(Battery {
            end_soc_min_kwh: 3.0,
            ..battery(5.0)
        });
    });
    check_slots(
        &problem,
        0.9,
        &[
            (Mode::Hold, Reason::NotWorthIt, 0.0, 0.3),
            (Mode::Charge, Reason::EndContent, 3.0, 0.0),
        ],
    );
}

/// Each slot imports alone, and the battery covers what is above the paid peak of 2 kW.
#[test]
fn a_peak_is_held_by_the_battery() {
    let problem = with(home(&[1.0, 4.0], &[0.0; 2], &[0.3; 2]), |p| {
        (p.grid.peak_price_per_kw, p.grid.peak_kw) = (5.0, 2.0);
        p.battery = Some(Battery {
            soc_kwh: 2.0,
            end_value_per_kwh: 0.4,
            ..battery(5.0)
        });
    });
    let plan = solve(&problem).expect("the problem can be stated");
    let policy = plan.slots[1]
        .policy
        .as_ref()
        .expect("every slot has a policy");
    assert_eq!(
        (policy.import_max_kw, policy.reason),
        (Some(2.0), Reason::GridLimit)
    );
    assert!((plan.slots[1].battery_discharge_kw - 2.0).abs() < 1e-9);
    assert_eq!(check("peak", &problem).expect("limits are kept").1, [2, 0]);
}

#[test]
fn among_equal_plans_energy_is_bought_last() {
    let problem = with(home(&[0.0, 0.0, 1.0], &[0.0; 3], &[0.1, 0.1, 0.4]), |p| {
        p.battery = Some(battery(5.0));
    });
    let plan = solve(&problem).expect("the problem can be stated");
    assert_eq!(plan.slots[0].battery_charge_kw, 0.0);
    check_thresholds(&plan, 0, [None, Some(1.0), Some(1.0), None]);
    check_thresholds(&plan, 1, [Some(1.0), Some(1.0), Some(1.0), None]);
}

#[test]
fn among_equal_plans_pv_is_stored_first_and_thrown_away_last() {
    let problem = |limit: Option<f64>| {
        with(home(&[0.0, 0.0, 1.0], &[1.0, 1.0, 0.0], &[0.3; 3]), |p| {
            p.grid.export_limit_kw = limit;
            p.pv_curtailable = true;
            p.battery = Some(battery(1.0));
        })
    };
    for limit in [None, Some(0.0)] {
        let plan = solve(&problem(limit)).expect("the problem can be stated");
        assert!((plan.slots[0].battery_charge_kw - 1.0).abs() < 1e-9);
        assert_eq!(plan.slots[1].battery_charge_kw, 0.0);
        assert!((plan.slots[0].pv_kw - 1.0).abs() < 1e-9);
        check_thresholds(&plan, 0, [None, Some(1.0), Some(0.0), None]);
    }
    let plan = solve(&problem(Some(0.0))).expect("the problem can be stated");
    assert_eq!(plan.slots[1].pv_kw, 0.0);
}

#[test]
fn among_equal_plans_load_is_covered_first() {
    let problem = with(home(&[1.0; 3], &[0.0; 3], &[0.3; 3]), |p| {
        p.battery = Some(Battery {
            soc_kwh: 1.0,
            ..battery(5.0)
        });
    });
    let plan = solve(&problem).expect("the problem can be stated");
    assert!((plan.slots[0].battery_discharge_kw - 1.0).abs() < 1e-9);
    check_thresholds(&plan, 0, [None, Some(2.0), Some(0.0), None]);
}

#[test]
fn among_equal_plans_the_mode_changes_least() {
    let prices = [0.1, 0.1, 0.1, 0.1, 0.4];
    let problem = with(home(&[0.0, 0.0, 0.0, 0.0, 2.0], &[0.0; 5], &prices), |p| {
        p.battery = Some(Battery {
            charge_kw: 1.0,
            ..battery(5.0)
        });
    });
    check_slots(
        &problem,
        0.2,
        &[
            (Mode::Hold, Reason::DearLater, 0.0, 0.1),
            (Mode::Hold, Reason::DearLater, 0.0, 0.1),
            (Mode::Charge, Reason::CheapNow, 1.0, 0.1),
            (Mode::Charge, Reason::CheapNow, 1.0, 0.0),
            (Mode::SelfConsumption, Reason::OwnUse, -2.0, 0.0),
        ],
    );
}

/// The battery's thresholds beside an appliance are those of the home whose load has it.
#[test]
fn an_appliance_is_part_of_the_load() {
    let prices = [0.1, 0.3, 0.4, 0.2];
    let alone = with(home(&[0.5; 4], &[0.0, 1.0, 0.0, 0.0], &prices), |p| {
        p.battery = Some(lossy(4.0, 0.9));
    });
    let beside = with(alone.clone(), |p| {
        p.appliances = vec![appliance("oven", &[2.0], 2, 3)];
    });
    let within = with(alone, |p| p.load_kw[2] += 2.0);
    let policies = |problem: &Problem| {
        let plan = solve(problem).expect("the problem can be stated");
        plan.slots
            .into_iter()
            .map(|slot| slot.policy)
            .collect::<Vec<_>>()
    };
    assert_eq!(policies(&beside), policies(&within));
}
