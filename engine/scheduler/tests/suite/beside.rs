//! Stores beside each other against the mixed-integer program: no plan costs more than its best one, and what a plan
//! states as its bound is one.
//!
//! `HOMES=1667 cargo test -p scheduler beside::days` solves 5,000 homes instead of a few.

use model::problem::Problem;
use model::schedule::Status;
use proptest::prelude::*;
use scheduler::{Milp, Solver, by_milp, penalised, verify};

use crate::daily::{Beside, day};
use crate::oracle::{ev_and_battery_home, everything_home};
use crate::support::with;

/// A tenth of a cent.
const DEARER_MAX: f64 = 0.001;
/// What the program's own tolerances come to, currency.
const NOISE: f64 = 1e-6;

#[expect(
    clippy::disallowed_methods,
    reason = "how many is asked for at run time"
)]
fn homes(usual: u64) -> u64 {
    let asked = std::env::var("HOMES").ok();
    asked.map_or(usual, |count| count.parse().expect("a number of homes"))
}

/// Both ways to solve a home.
struct Compared {
    method: String,
    /// By how much the plan costs more than the program's, currency.
    dearer: f64,
    /// By how much the stated bound is above what the program's plan costs, currency.
    bound_above: f64,
}

/// Solves `problem` both ways.
fn compare(label: &str, solver: &mut Solver, problem: &Problem) -> Compared {
    let plan = solver.solve(problem).expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), [], "{label}");
    let cost = penalised(problem, &plan);
    let oracle = by_milp(problem, Milp::Highs)
        .expect("the problem can be stated")
        .expect("a plan");
    let noise = NOISE * oracle.cost.abs().max(1.0);
    assert!(
        cost <= oracle.cost + DEARER_MAX,
        "{label}: {cost} {oracle:?}"
    );
    let bound = cost - plan.gap * cost.abs();
    assert!(bound <= oracle.cost + noise, "{label}: {bound} {oracle:?}");
    assert!(cost >= oracle.bound - noise, "{label}: {cost} {oracle:?}");
    Compared {
        method: plan.solver,
        dearer: cost - oracle.cost,
        bound_above: bound - oracle.cost,
    }
}

/// One home in fifty at most needs the mixed-integer program.
#[expect(clippy::print_stdout, reason = "the worst of all homes")]
fn days(beside: Beside, usual: u64) {
    let mut solver = Solver::default();
    let (mut unproven, mut dearer, mut bound_above) = (Vec::new(), f64::MIN, f64::MIN);
    let count = homes(usual);
    for number in 0..count {
        let label = format!("{beside:?} {number}");
        let compared = compare(&label, &mut solver, &day(number, beside));
        if compared.method != "dp_prices" {
            unproven.push((number, compared.method));
        }
        dearer = dearer.max(compared.dearer);
        bound_above = bound_above.max(compared.bound_above);
    }
    println!(
        "{beside:?}: {count} homes, dearer by {dearer:e} at most, bound above by {bound_above:e}, {unproven:?}"
    );
    assert!(unproven.len() as u64 <= count / 50, "{unproven:?}");
}

#[test]
fn days_of_batteries_beside_evs() {
    days(Beside::Ev, 120);
}

#[test]
fn days_of_batteries_beside_tanks() {
    days(Beside::Tank, 120);
}

#[test]
fn days_of_batteries_beside_evs_and_tanks() {
    days(Beside::Both, 60);
}

/// The meter lets 1 kW in. The second hour needs 1 kWh for the load and 1 for the car, so that one of them has to be bought
/// in the first and kept in the battery: 0.1 for it and 0.3 for the other.
#[test]
fn a_battery_makes_room_for_a_car_that_comes_later() {
    let mut problem = with(day(0, Beside::Ev), |p| {
        p.slot_minutes = 60;
        p.load_kw = vec![0.0, 1.0];
        p.pv_kw = vec![0.0, 0.0];
        p.buy_price = vec![0.1, 0.3];
        p.sell_price = vec![0.0, 0.0];
        p.grid.import_limit_kw = Some(1.0);
        p.pv_curtailable = false;
    });
    let battery = problem.battery.as_mut().expect("every home has one");
    (battery.capacity_kwh, battery.max_soc_kwh) = (2.0, 2.0);
    (
        battery.soc_kwh,
        battery.min_soc_kwh,
        battery.end_soc_min_kwh,
    ) = (0.0, 0.0, 0.0);
    (battery.charge_kw, battery.discharge_kw) = (2.0, 2.0);
    (battery.charge_efficiency, battery.discharge_efficiency) = (1.0, 1.0);
    (battery.wear_cost_per_kwh, battery.end_value_per_kwh) = (0.0, 0.0);
    let car = &mut problem.evs[0];
    (car.arrival_slot, car.departure_slot) = (1, 2);
    (
        car.capacity_kwh,
        car.soc_kwh,
        car.min_soc_kwh,
        car.goal_soc_kwh,
    ) = (10.0, 5.0, 0.0, 6.0);
    (car.charge_kw, car.discharge_kw, car.charge_efficiency) = (2.0, 0.0, 1.0);
    (car.wear_cost_per_kwh, car.end_value_per_kwh) = (0.0, 0.0);
    let plan = scheduler::solve(&problem).unwrap();
    assert_eq!(
        (plan.status, plan.solver.as_str()),
        (Status::Optimal, "dp_prices")
    );
    assert!((plan.objective - 0.4).abs() < 1e-9, "{}", plan.objective);
    assert!((plan.slots[0].soc_kwh - 1.0).abs() < 1e-9);
    assert_eq!(plan.gap, 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_home_with_stores_beside_each_other(
        problem in prop_oneof![
            3 => ev_and_battery_home().boxed(),
            1 => everything_home().prop_map(|home| with(home, |p| p.appliances.clear())).boxed(),
        ],
    ) {
        compare("any", &mut Solver::default(), &problem);
    }

    /// Two cars beside a battery.
    #[test]
    fn the_order_of_stores_does_not_matter(number in 0..1_000_u64) {
        let two = with(day(number, Beside::Ev), |p| {
            let mut other = p.evs[0].clone();
            other.id = "van".to_owned();
            other.charge_kw = 3.0;
            other.goal_soc_kwh = other.soc_kwh + 0.5 * (other.goal_soc_kwh - other.soc_kwh);
            p.evs.push(other);
            p.grid.import_limit_kw = None;
        });
        let turned = with(two.clone(), |p| p.evs.reverse());
        let (one, other) = (scheduler::solve(&two).unwrap(), scheduler::solve(&turned).unwrap());
        prop_assert!((one.objective - other.objective).abs() <= 1e-5 * one.objective.abs().max(1.0));
    }
}
