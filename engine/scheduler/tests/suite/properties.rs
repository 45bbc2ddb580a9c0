//! What holds of every plan, and exhaustive search on problems small enough for it.

use crate::support::{appliance, battery, home, with};
use model::problem::{Appliance, Battery, Problem};
use model::schedule::{Plan, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use scheduler::{solve, verify};

/// Any home of `slots` slots: prices of either sign, limits that may be out of reach, SoC that may start outside.
fn any_home(slots: usize) -> impl Strategy<Value = Problem> {
    let series = (
        vec(0.0..3.0_f64, slots),
        vec(0.0..4.0_f64, slots),
        vec(-0.2..0.5_f64, slots),
        vec(-0.2..0.4_f64, slots),
    );
    let limits = (
        proptest::option::of(0.5..8.0_f64),
        proptest::option::of(0.0..5.0_f64),
        any::<bool>(),
        prop::sample::select(std::vec![5_u32, 15, 60]),
    );
    let weights = (0.0..2.0_f64, 0.0..0.3_f64, 0.0..0.5_f64);
    (
        series,
        limits,
        weights,
        proptest::option::of(any_battery()),
        vec(any_appliance(slots), 0..=2),
    )
        .prop_map(|(series, limits, weights, battery, appliances)| {
            with(home(&series.0, &series.1, &series.2), |p| {
                p.sell_price = series.3;
                (p.grid.import_limit_kw, p.grid.export_limit_kw, ..) = limits;
                p.pv_curtailable = limits.2;
                p.slot_minutes = limits.3;
                p.start_ms = 0;
                (p.weights.cost, p.weights.autarky, p.weights.revenue) = weights;
                p.battery = battery;
                p.appliances = appliances;
                for (index, appliance) in p.appliances.iter_mut().enumerate() {
                    appliance.id = format!("appliance {index}");
                }
            })
        })
}

fn any_battery() -> impl Strategy<Value = Battery> {
    let share = 0.0..1.0_f64;
    (
        (1.0..10.0_f64, share.clone(), 0.0..0.3_f64, 0.7..1.0_f64),
        (0.0..4.0_f64, 0.0..4.0_f64, 0.8..=1.0_f64, 0.8..=1.0_f64),
        (share, 0.0..0.3_f64, 0.0..0.05_f64),
    )
        .prop_map(|(energy, rates, end)| Battery {
            capacity_kwh: energy.0,
            soc_kwh: energy.0 * energy.1,
            min_soc_kwh: energy.0 * energy.2,
            max_soc_kwh: energy.0 * energy.3,
            charge_kw: rates.0,
            discharge_kw: rates.1,
            charge_efficiency: rates.2,
            discharge_efficiency: rates.3,
            end_soc_min_kwh: energy.0 * end.0,
            end_value_per_kwh: end.1,
            wear_cost_per_kwh: end.2,
        })
}

fn any_appliance(slots: usize) -> impl Strategy<Value = Appliance> {
    vec(0.0..2.0_f64, 1..=3).prop_flat_map(move |profile| {
        let length = profile.len();
        (0..=slots - length).prop_flat_map(move |earliest| {
            let profile = profile.clone();
            (earliest + length..=slots)
                .prop_map(move |end| appliance("", &profile, earliest as u32, end as u32))
        })
    })
}

/// The objective of a plan in which the battery rests and all PV is used; `None` where it breaks a limit.
fn resting(problem: &Problem, starts: &[usize]) -> Option<f64> {
    let dt = f64::from(problem.slot_minutes) / 60.0;
    let weights = problem.weights;
    let mut cost = 0.0;
    for t in 0..problem.load_kw.len() {
        let running: f64 = problem
            .appliances
            .iter()
            .zip(starts)
            .filter_map(|(a, start)| a.profile_kw.get(t.checked_sub(*start)?))
            .sum();
        let net = problem.load_kw[t] + running - problem.pv_kw[t];
        let (import, export) = (net.max(0.0), (-net).max(0.0));
        if problem
            .grid
            .import_limit_kw
            .is_some_and(|limit| import > limit)
            || problem
                .grid
                .export_limit_kw
                .is_some_and(|limit| export > limit)
        {
            return None;
        }
        let buy = weights.cost * problem.buy_price[t] + weights.autarky;
        let sell = (weights.cost + weights.revenue) * problem.sell_price[t];
        cost += dt * (buy * import - sell * export);
    }
    match &problem.battery {
        None => Some(cost),
        Some(b) => (b.soc_kwh >= b.min_soc_kwh.max(b.end_soc_min_kwh)
            && b.soc_kwh <= b.max_soc_kwh)
            .then_some(cost - b.end_value_per_kwh * b.soc_kwh),
    }
}

/// Every choice of start slots.
fn all_starts(appliances: &[Appliance]) -> Vec<Vec<usize>> {
    appliances.iter().fold(std::vec![std::vec![]], |heads, a| {
        let latest = a.latest_end_slot as usize - a.profile_kw.len();
        heads
            .iter()
            .flat_map(|head| {
                (a.earliest_slot as usize..=latest).map(|start| {
                    let mut longer = head.clone();
                    longer.push(start);
                    longer
                })
            })
            .collect()
    })
}

/// The least objective over SoC in steps of `1/steps` kWh, by dynamic programming; `None` where no path keeps every
/// limit. Curtailment is tried in the same steps of power. Hourly slots, no appliances.
fn on_a_grid(problem: &Problem, battery: &Battery, steps: f64) -> Option<f64> {
    let last = (battery.max_soc_kwh * steps).round() as usize;
    let first = (battery.min_soc_kwh * steps).round() as usize;
    let mut best = std::vec![f64::INFINITY; last + 1];
    best[(battery.soc_kwh * steps).round() as usize] = 0.0;
    for t in 0..problem.load_kw.len() {
        let mut next = std::vec![f64::INFINITY; last + 1];
        for (from, reached) in best.iter().enumerate().filter(|(_, cost)| cost.is_finite()) {
            for (to, entry) in next.iter_mut().enumerate().skip(first) {
                let change = (to as f64 - from as f64) / steps;
                let cost = reached + slot_on_a_grid(problem, battery, t, change, steps);
                *entry = entry.min(cost);
            }
        }
        best = next;
    }
    best.iter()
        .enumerate()
        .map(|(index, cost)| (index as f64 / steps, cost))
        .filter(|(soc, cost)| cost.is_finite() && *soc >= battery.end_soc_min_kwh)
        .map(|(soc, cost)| cost - battery.end_value_per_kwh * soc)
        .min_by(f64::total_cmp)
}

fn slot_on_a_grid(problem: &Problem, b: &Battery, t: usize, change: f64, steps: f64) -> f64 {
    let flow = if change > 0.0 {
        change / b.charge_efficiency
    } else {
        change * b.discharge_efficiency
    };
    if flow > b.charge_kw || -flow > b.discharge_kw {
        return f64::INFINITY;
    }
    let demand = problem.load_kw[t] + flow;
    let available = problem.pv_kw[t];
    let cuts = if problem.pv_curtailable {
        (available * steps).round() as usize
    } else {
        0
    };
    let at = |pv: f64| {
        let (import, export) = ((demand - pv).max(0.0), (pv - demand).max(0.0));
        if problem
            .grid
            .import_limit_kw
            .is_some_and(|limit| import > limit)
            || problem
                .grid
                .export_limit_kw
                .is_some_and(|limit| export > limit)
        {
            return f64::INFINITY;
        }
        problem.buy_price[t] * import - problem.sell_price[t] * export
            + b.wear_cost_per_kwh * change.abs()
    };
    (0..=cuts)
        .map(|cut| at(available - cut as f64 / steps))
        .fold(f64::INFINITY, f64::min)
}

/// Homes whose every number is whole, without losses: some best plan is whole too.
fn whole_home() -> impl Strategy<Value = Problem> {
    let slots = 4;
    let whole = |most: u32| vec((0..=most).prop_map(f64::from), slots);
    let price = || {
        vec(
            (-3..=5_i32).prop_map(|price| f64::from(price) / 10.0),
            slots,
        )
    };
    let limit = || proptest::option::of((1..=4_u32).prop_map(f64::from));
    (
        (whole(3), whole(3), price(), price()),
        (limit(), limit(), any::<bool>()),
        (
            1..=4_u32,
            0..=4_u32,
            0..=4_u32,
            1..=3_u32,
            1..=3_u32,
            0..=2_u32,
        ),
    )
        .prop_map(|(series, limits, b)| {
            with(home(&series.0, &series.1, &series.2), |p| {
                p.sell_price = series.3;
                (
                    p.grid.import_limit_kw,
                    p.grid.export_limit_kw,
                    p.pv_curtailable,
                ) = limits;
                p.battery = Some(Battery {
                    soc_kwh: f64::from(b.1.min(b.0)),
                    end_soc_min_kwh: f64::from(b.2.min(b.0)),
                    charge_kw: f64::from(b.3),
                    discharge_kw: f64::from(b.4),
                    wear_cost_per_kwh: f64::from(b.5) * 0.04,
                    ..battery(f64::from(b.0))
                });
            })
        })
}

fn solved(problem: &Problem) -> Plan {
    let plan = solve(problem).expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), [], "{problem:#?}");
    assert_ne!(plan.status, Status::Infeasible);
    assert_eq!(plan.gap, 0.0);
    plan
}

/// The limit takes all that the battery has, to within rounding.
#[test]
fn a_battery_that_is_emptied_to_keep_a_limit_is_not_below_empty() {
    let problem = with(
        home(
            &[3.0, 3.0, 0.0, 0.0],
            &[3.0, 0.0, 0.0, 0.0],
            &[0.5, 0.0, 0.0, 0.0],
        ),
        |p| {
            p.sell_price = vec![0.0; 4];
            p.grid.import_limit_kw = Some(1.0);
            p.battery = Some(Battery {
                soc_kwh: 2.0,
                charge_kw: 1.0,
                discharge_kw: 2.0,
                charge_efficiency: 0.938_227_752_167_710_6,
                discharge_efficiency: 0.938_227_752_167_710_6,
                ..battery(3.0)
            });
        },
    );
    solved(&problem);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_is_physical_and_no_worse_than_doing_nothing(problem in any_home(12)) {
        let plan = solved(&problem);
        let starts: Vec<usize> = problem.appliances.iter().map(|a| a.earliest_slot as usize).collect();
        if let Some(nothing) = resting(&problem, &starts) {
            prop_assert_eq!(plan.status, Status::Optimal);
            prop_assert!(plan.objective <= nothing + 1e-6, "{} > {}", plan.objective, nothing);
        }
    }

    #[test]
    fn the_same_problem_gives_the_same_plan(problem in any_home(8)) {
        prop_assert_eq!(solve(&problem), solve(&problem));
    }

    #[test]
    fn appliances_are_placed_as_trying_every_start_does(problem in any_home(8)) {
        let problem = with(problem, |p| {
            p.battery = None;
            p.pv_curtailable = false;
        });
        let plan = solved(&problem);
        let best = all_starts(&problem.appliances)
            .iter()
            .filter_map(|starts| resting(&problem, starts))
            .min_by(f64::total_cmp);
        match best {
            Some(best) => prop_assert!((plan.objective - best).abs() < 1e-6, "{} {best}", plan.objective),
            None => prop_assert_eq!(plan.status, Status::Relaxed),
        }
    }

    #[test]
    fn a_whole_problem_has_the_optimum_of_trying_every_whole_plan(problem in whole_home()) {
        let plan = solved(&problem);
        let battery = problem.battery.as_ref().expect("whole homes have one");
        match on_a_grid(&problem, battery, 1.0) {
            Some(best) => prop_assert!((plan.objective - best).abs() < 1e-5, "{} {best}", plan.objective),
            None => prop_assert_eq!(plan.status, Status::Relaxed),
        }
    }

    /// With losses the grid only bounds the optimum from above; the checks of the plan bound it from below.
    #[test]
    fn no_plan_on_a_fine_grid_is_cheaper(problem in whole_home(), efficiency in 0.7..0.99_f64) {
        let problem = with(problem, |p| {
            let battery = p.battery.as_mut().expect("whole homes have one");
            battery.charge_efficiency = efficiency;
            battery.discharge_efficiency = efficiency;
        });
        let plan = solved(&problem);
        let battery = problem.battery.as_ref().expect("whole homes have one");
        if let Some(best) = on_a_grid(&problem, battery, 16.0) {
            prop_assert_eq!(plan.status, Status::Optimal);
            prop_assert!(plan.objective <= best + 1e-5, "{} > {best}", plan.objective);
        }
    }

    /// Where the problem is convex, prices times a change of load never promise more than the change costs.
    #[test]
    fn shadow_prices_bound_what_a_change_of_load_costs(
        problem in any_home(12),
        changes in vec(-0.5..0.5_f64, 12),
    ) {
        let problem = with(problem, |p| {
            p.appliances.clear();
            p.weights.revenue = 0.0;
            p.grid.export_limit_kw = None;
            p.grid.import_limit_kw = None;
            for t in 0..12 {
                p.buy_price[t] = p.buy_price[t].abs();
                p.sell_price[t] = p.sell_price[t].abs().min(p.buy_price[t]);
            }
        });
        let plan = solved(&problem);
        let changed = with(problem.clone(), |p| {
            for (load, change) in p.load_kw.iter_mut().zip(&changes) {
                *load = (*load + change).max(0.0);
            }
        });
        let dt = f64::from(problem.slot_minutes) / 60.0;
        let promised: f64 = plan.slots.iter().enumerate()
            .map(|(t, slot)| slot.shadow_price * (changed.load_kw[t] - problem.load_kw[t]) * dt)
            .sum();
        let other = solved(&changed);
        if plan.status == Status::Optimal && other.status == Status::Optimal {
            prop_assert!(other.objective >= plan.objective + promised - 1e-5);
        }
    }
}
