//! Answers to signals: those of the plans that they stand for, and bounds that no plan of another signal's beats.

use model::problem::{Problem, Signal};
use model::schedule::{Plan, Status};
use proptest::prelude::*;
use scheduler::{ProblemError, Response, Solver, penalised, plan_of, verify};

use crate::daily::{Beside, day};
use crate::flows::signal;
use crate::oracle::{
    any_prices, appliance_home, battery_home, draw, ev_home, heat_home, peak_home, stable_home,
};
use crate::support::{appliance, battery, ev, home, with};

/// Largest difference of costs and flows, relative to the larger of 1 and the cost.
const SAME: f64 = 1e-9;

fn same(one: f64, other: f64) -> bool {
    (one - other).abs() <= SAME * other.abs().max(1.0)
}

fn under(problem: &Problem, signal: &Signal) -> Problem {
    with(problem.clone(), |p| p.signal = Some(signal.clone()))
}

/// What of the plan's cost the signal is.
fn signalled(problem: &Problem, signal: &Signal, net_kwh: &[f64]) -> f64 {
    let dt = f64::from(problem.slot_minutes) / 60.0;
    let of = |(t, net): (usize, &f64)| {
        let (import_kw, export_kw) = signal.caps_kw(t);
        signal.price(t) * net
            + signal.import_breach_price_per_kwh * (net - import_kw * dt).max(0.0)
            + signal.export_breach_price_per_kwh * (-net - export_kw * dt).max(0.0)
    };
    net_kwh.iter().enumerate().map(of).sum()
}

fn net_kwh(problem: &Problem, plan: &Plan) -> Vec<f64> {
    let dt = f64::from(problem.slot_minutes) / 60.0;
    let slots = plan.slots.iter();
    slots
        .map(|slot| dt * (slot.grid_import_kw - slot.grid_export_kw))
        .collect()
}

/// The response costs what the plan of the same signal does, and is a plan of the home.
fn check(label: &str, solver: &mut Solver, problem: &Problem, signal: &Signal) -> Response {
    let response = solver.respond(problem, signal);
    let stated = under(problem, signal);
    let plan = solver.solve(&stated).expect("the problem can be stated");
    let cost = penalised(&stated, &plan);
    assert!(
        same(response.value, cost),
        "{label}: {} {cost}",
        response.value
    );
    assert!(response.bound <= response.value + SAME, "{label}");
    let beside = response.value - signalled(problem, signal, &response.net_kwh);
    assert!(
        same(response.own, beside),
        "{label}: {} {beside}",
        response.own
    );

    let again = plan_of(&stated, &response).expect("the response is one of the home");
    assert_eq!(verify(&stated, &again), [], "{label}");
    assert_eq!(again.solver, "given");
    let cost = penalised(&stated, &again);
    assert!(
        same(cost, response.value),
        "{label}: {cost} {}",
        response.value
    );
    for (found, planned) in response.net_kwh.iter().zip(net_kwh(&stated, &again)) {
        assert!((found - planned).abs() < 1e-7, "{label}: {found} {planned}");
    }
    response
}

fn check_all(cases: u64, salt: u64, homes: &impl Strategy<Value = Problem>) {
    let mut solver = Solver::default();
    for case in 0..cases {
        let seed = salt * 1_000_000 + case;
        let problem = draw(seed, homes);
        let signals = signal(problem.load_kw.len());
        let (one, other) = (draw(seed, &signals), draw(seed + 500_000, &signals));
        let label = format!("seed {seed}");
        let response = check(&label, &mut solver, &problem, &one);
        // What answers another signal costs no less under this one.
        let elsewhere = solver.respond(&problem, &other);
        let cost = elsewhere.own + signalled(&problem, &one, &elsewhere.net_kwh);
        let noise = 1e-6 * cost.abs().max(1.0);
        assert!(
            response.bound <= cost + noise,
            "{label}: {} {cost}",
            response.bound
        );
    }
}

#[test]
fn batteries() {
    check_all(300, 51, &any_prices());
}

#[test]
fn appliances() {
    check_all(150, 52, &appliance_home(1));
    check_all(60, 53, &appliance_home(2));
}

#[test]
fn evs_and_tanks() {
    check_all(150, 54, &ev_home());
    check_all(150, 55, &heat_home());
}

#[test]
fn peaks_and_plans_before() {
    check_all(60, 56, &peak_home());
    check_all(60, 57, &stable_home());
}

#[test]
fn stores_beside_each_other() {
    let mut solver = Solver::default();
    for number in 0..20 {
        for beside in [Beside::Ev, Beside::Tank] {
            let problem = day(number, beside);
            let signal = Signal {
                price_per_kwh: (0..96).map(|t| f64::from(t % 7) * 0.01).collect(),
                import_cap_kw: (0..96).map(|t| (t % 4 == 0).then_some(3.0)).collect(),
                import_breach_price_per_kwh: 1.0,
                ..Signal::default()
            };
            check(
                &format!("{beside:?} {number}"),
                &mut solver,
                &problem,
                &signal,
            );
        }
    }
}

/// Where plans can be mixed, the mean of the answers to two signals costs the home no more than their mean.
#[test]
fn plans_that_mix_cost_no_more_mixed() {
    let mut solver = Solver::default();
    let mut mixed_count = 0;
    for case in 0..400 {
        let seed = 58_000_000 + case;
        let problem = draw(seed, &battery_home(-0.05, 0.5, false));
        if !solver.can_mix(&problem) {
            continue;
        }
        mixed_count += 1;
        let signals = signal(problem.load_kw.len());
        let one = solver.respond(&problem, &draw(seed, &signals));
        let other = solver.respond(&problem, &draw(seed + 500_000, &signals));
        let mean = |a: &[f64], b: &[f64]| -> Vec<f64> {
            a.iter().zip(b).map(|(a, b)| 0.5 * (a + b)).collect()
        };
        let mixed = Response {
            contents: vec![mean(&one.contents[0], &other.contents[0])],
            bound: f64::NEG_INFINITY,
            ..one.clone()
        };
        let plan = plan_of(&problem, &mixed).expect("it can be mixed");
        assert_eq!(verify(&problem, &plan), [], "seed {seed}");
        let (cost, bound) = (penalised(&problem, &plan), 0.5 * (one.own + other.own));
        assert!(
            cost <= bound + 1e-7 * bound.abs().max(1.0),
            "seed {seed}: {cost} {bound}"
        );
    }
    assert!(mixed_count > 200, "{mixed_count}");
}

#[test]
fn who_can_mix() {
    let sound = || {
        with(home(&[1.0; 2], &[0.0; 2], &[0.3, 0.1]), |p| {
            p.battery = Some(battery(5.0));
        })
    };
    let can_mix = |problem: &Problem| Solver::default().can_mix(problem);
    assert!(can_mix(&sound()));
    assert!(can_mix(&with(sound(), |p| p.battery = None)));
    let with_car = |least_kw: f64| {
        with(sound(), |p| {
            p.battery = None;
            p.evs = vec![with(ev("car", 0, 2), |ev| ev.min_charge_kw = least_kw)];
        })
    };
    assert!(can_mix(&with_car(0.0)));
    assert!(!can_mix(&with_car(4.0)));
    let washer = appliance("washer", &[2.0], 0, 2);
    assert!(!can_mix(&with(sound(), |p| p.appliances = vec![washer])));
    assert!(!can_mix(
        &with(with_car(0.0), |p| p.battery = Some(battery(5.0)))
    ));
    // Selling earns more than buying costs.
    assert!(!can_mix(&with(sound(), |p| p.sell_price = vec![0.0, 0.2])));
    // The home's own signal does not count.
    let caps = Signal {
        export_cap_kw: vec![Some(-1.0); 2],
        export_breach_price_per_kwh: 2.0,
        ..Signal::default()
    };
    assert!(can_mix(&under(&sound(), &caps)));
}

/// 5 kWh in the battery, 3 of them wanted: what is beyond the bounds or the rates is not reached.
#[test]
fn a_plan_from_given_contents() {
    let problem = with(home(&[1.0; 2], &[0.0; 2], &[0.3; 2]), |p| {
        p.battery = Some(with(battery(5.0), |b| b.soc_kwh = 5.0));
        p.appliances = vec![appliance("washer", &[2.0], 0, 2)];
    });
    let given = Response {
        value: 0.0,
        bound: f64::NEG_INFINITY,
        own: 0.0,
        net_kwh: Vec::new(),
        contents: vec![vec![3.0, 9.0]],
        starts: vec![1],
    };
    let plan = plan_of(&problem, &given).unwrap();
    assert_eq!(verify(&problem, &plan), []);
    assert_eq!(
        (plan.status, plan.gap),
        (Status::Optimal, scheduler::GAP_MAX)
    );
    assert_eq!(plan.slots[0].grid_export_kw, 1.0);
    assert_eq!(plan.slots[1].soc_kwh, 5.0);
    assert_eq!(plan.slots[1].grid_import_kw, 5.0);
    let field = |response: Response| plan_of(&problem, &response).unwrap_err().field().to_owned();
    assert_eq!(
        field(with(given.clone(), |r| r.contents.clear())),
        "contents"
    );
    assert_eq!(field(with(given.clone(), |r| r.starts.clear())), "starts");
    assert_eq!(field(with(given, |r| r.starts[0] = 2)), "starts[0]");
    let refused = plan_of(
        &with(problem, |p| p.slot_minutes = 7),
        &Response {
            value: 0.0,
            bound: 0.0,
            own: 0.0,
            net_kwh: Vec::new(),
            contents: Vec::new(),
            starts: Vec::new(),
        },
    );
    assert!(matches!(refused, Err(ProblemError::OutOfRange { .. })));
}
