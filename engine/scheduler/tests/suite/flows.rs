//! Prices and soft caps on the flow at the meter: worked out by hand, and against the mixed-integer program.
//!
//! `FLOW_HOMES=5000 cargo test -p scheduler flows::` solves 5,000 random homes instead of a few hundred.

use model::policy::Mode;
use model::problem::{Problem, Signal};
use model::schedule::{Plan, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use scheduler::{Milp, penalised, reference, solve, verify};

use crate::agreed::REFERENCE_SECONDS;
use crate::oracle::{
    and, any_prices, appliance_home, battery_home, draw, ev_and_battery_home, ev_home,
    everything_home, heat_home, peak_home, pick, stable_home,
};
use crate::support::{appliance, battery, home, lossy, with};

/// Largest difference of costs, relative to the larger of 1 and the cost.
const SAME: f64 = 1e-7;
/// The parts of all random homes that each kind gets.
const PARTS: u64 = 25;

/// Random homes of all kinds together.
#[expect(
    clippy::disallowed_methods,
    reason = "how many is asked for at run time"
)]
fn homes() -> u64 {
    let asked = std::env::var("FLOW_HOMES").ok();
    asked.map_or(300, |count| count.parse().expect("a number of homes"))
}

/// A price in most signals, and caps in some slots: of either sign, cheap to break or dear.
pub(crate) fn signal(slots: usize) -> impl Strategy<Value = Signal> {
    let cap =
        || prop_oneof![2 => Just(None), 3 => (-2.0..5.0_f64).prop_map(Some), 1 => Just(Some(0.0))];
    let breach = || pick(&[0.05, 0.3, 2.0, 2.0]);
    (
        vec(prop_oneof![2 => Just(0.0), 1 => -0.2..0.3_f64], slots),
        (vec(cap(), slots), vec(cap(), slots)),
        (breach(), breach()),
        (0..4_u8, any::<bool>()),
    )
        .prop_map(|(prices, caps, breach, (kept, is_priced))| Signal {
            price_per_kwh: if is_priced || kept == 0 {
                prices
            } else {
                Vec::new()
            },
            import_cap_kw: if kept & 1 == 1 { caps.0 } else { Vec::new() },
            export_cap_kw: if kept & 2 == 2 { caps.1 } else { Vec::new() },
            import_breach_price_per_kwh: breach.0,
            export_breach_price_per_kwh: breach.1,
        })
}

fn signalled(homes: impl Strategy<Value = Problem>) -> impl Strategy<Value = Problem> {
    and(homes, signal, |p, signal| p.signal = Some(signal))
}

/// The plan passes every check and costs what the best one of the mixed-integer program does; where a search ran out of its
/// time, as on a busy machine, no more than its gap says. Returns its method.
fn check(label: &str, problem: &Problem) -> String {
    let plan = solve(problem).expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), [], "{label}: {problem:#?}");
    assert!(plan.gap == 0.0 || plan.solver == "milp", "{label}");
    let oracle = reference(problem, Milp::Highs, REFERENCE_SECONDS).expect("it can be stated");
    let (found, best) = (penalised(problem, &plan), penalised(problem, &oracle));
    let noise = SAME * best.abs().max(1.0);
    assert!(
        found - best <= plan.gap * found.abs() + noise
            && best - found <= oracle.gap * best.abs() + noise,
        "{label}: {found} by {} instead of {best}: {problem:#?}",
        plan.solver
    );
    plan.solver
}

#[expect(clippy::print_stdout, reason = "how often each method was the one")]
fn check_all(parts: u64, salt: u64, strategy: &impl Strategy<Value = Problem>) {
    let mut methods = std::collections::BTreeMap::new();
    for case in 0..(homes() * parts).div_ceil(PARTS) {
        let seed = salt * 1_000_000 + case;
        let method = check(&format!("seed {seed}"), &draw(seed, strategy));
        *methods.entry(method).or_insert(0) += 1;
    }
    println!("{methods:?}");
}

#[test]
fn batteries() {
    check_all(5, 31, &signalled(battery_home(0.05, 0.5, false)));
}

#[test]
fn batteries_at_prices_that_are_not_convex() {
    check_all(4, 32, &signalled(battery_home(-0.3, 0.4, true)));
}

#[test]
fn one_appliance() {
    check_all(3, 33, &signalled(appliance_home(1)));
}

#[test]
fn two_appliances() {
    check_all(2, 34, &signalled(appliance_home(2)));
}

#[test]
fn evs() {
    check_all(3, 35, &signalled(ev_home()));
}

#[test]
fn heat_stores() {
    check_all(3, 36, &signalled(heat_home()));
}

#[test]
fn peaks() {
    check_all(2, 37, &signalled(peak_home()));
}

#[test]
fn plans_before() {
    check_all(1, 38, &signalled(stable_home()));
}

#[test]
fn evs_beside_batteries() {
    check_all(2, 39, &signalled(ev_and_battery_home()));
}

/// A few, for their program takes time.
#[test]
fn everything_at_once() {
    for case in 0..6 {
        let seed = 40_000_000 + case;
        check(
            &format!("seed {seed}"),
            &draw(seed, &signalled(everything_home())),
        );
    }
}

/// An hour, a load and PV, import at 0.3 and export at 0.1, with `signal`.
fn hour(load_kw: f64, pv_kw: f64, signal: Signal) -> Problem {
    with(home(&[load_kw], &[pv_kw], &[0.3]), |p| {
        p.sell_price = vec![0.1];
        p.signal = Some(signal);
    })
}

fn import_cap(cap_kw: f64, price: f64) -> Signal {
    Signal {
        import_cap_kw: vec![Some(cap_kw)],
        import_breach_price_per_kwh: price,
        ..Signal::default()
    }
}

fn export_cap(cap_kw: f64, price: f64) -> Signal {
    Signal {
        export_cap_kw: vec![Some(cap_kw)],
        export_breach_price_per_kwh: price,
        ..Signal::default()
    }
}

fn priced(price_per_kwh: Vec<f64>) -> Signal {
    Signal {
        price_per_kwh,
        ..Signal::default()
    }
}

/// The best plan, which costs `objective` and breaks the cap named, if any, by so much.
#[track_caller]
fn plan(problem: &Problem, objective: f64, broken: Option<(&str, f64)>) -> Plan {
    let plan = solve(problem).expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), []);
    assert!(
        (plan.objective - objective).abs() < 1e-9,
        "{}",
        plan.objective
    );
    let named: Vec<(&str, f64)> = plan
        .relaxed
        .iter()
        .map(|broken| {
            (
                broken.constraint.as_str(),
                (broken.amount * 1e9).round() / 1e9,
            )
        })
        .collect();
    assert_eq!(named, Vec::from_iter(broken));
    let status = match broken {
        None => Status::Optimal,
        Some(_) => Status::Relaxed,
    };
    assert_eq!(plan.status, status);
    check("by hand", problem);
    plan
}

/// 2 kWh at 0.3 + 0.05; 2 kWh sold at 0.1 + 0.05. Weights of 0 leave the price as it is, and the bill is without it.
#[test]
fn a_price_is_paid_for_import_and_earned_by_export() {
    let bought = plan(&hour(2.0, 0.0, priced(vec![0.05])), 0.7, None);
    assert!((bought.metrics.cost - 0.6).abs() < 1e-12);
    plan(&hour(0.0, 2.0, priced(vec![0.05])), -0.3, None);
    let unweighted = with(hour(2.0, 0.0, priced(vec![0.05])), |p| p.weights.cost = 0.0);
    plan(&unweighted, 0.1, None);
}

/// Import costs 0.3 in both hours, 0.1 less in the first and 0.1 more in the second by the signal: the battery moves 1 kWh.
#[test]
fn a_price_moves_a_battery() {
    let problem = with(home(&[0.0, 1.0], &[0.0; 2], &[0.3; 2]), |p| {
        p.battery = Some(battery(2.0));
        p.signal = Some(priced(vec![-0.1, 0.1]));
    });
    let plan = plan(&problem, 0.2, None);
    assert!((plan.slots[0].battery_charge_kw - 1.0).abs() < 1e-9);
}

/// 2 kWh at 0.3, one of them beyond the cap at 0.5.
#[test]
fn a_cap_that_cannot_be_held_is_named() {
    let named = Some(("signal.import_cap_kw", 1.0));
    plan(&hour(2.0, 0.0, import_cap(1.0, 0.5)), 1.1, named);
    let named = Some(("signal.export_cap_kw", 1.5));
    plan(&hour(0.0, 2.0, export_cap(0.5, 0.4)), -0.2 + 0.6, named);
}

/// A cap that costs nothing to break is broken all the same, and named.
#[test]
fn a_cap_without_a_price_changes_nothing() {
    let named = Some(("signal.import_cap_kw", 1.0));
    plan(&hour(2.0, 0.0, import_cap(1.0, 0.0)), 0.6, named);
}

/// Of 2 kWh of sun 0.5 may be sold; throwing the rest away costs 0.1 a kWh that is not earned, and a breach 0.4.
#[test]
fn sun_beyond_the_cap_on_export_is_thrown_away_if_that_is_cheaper() {
    let capped = |price: f64| {
        with(hour(0.0, 2.0, export_cap(0.5, price)), |p| {
            p.pv_curtailable = true;
        })
    };
    let plan_of = plan(&capped(0.4), -0.05, None);
    assert!((plan_of.slots[0].pv_kw - 0.5).abs() < 1e-9);
    let named = Some(("signal.export_cap_kw", 1.5));
    plan(&capped(0.04), -0.2 + 0.06, named);
}

/// An export cap of -1 kW wants 1 kW of import: with 1 kW of load and of sun, the sun is thrown away for 0.3 rather than
/// pay 0.5. An import cap of -1 kW wants 1 kW of export, which a battery gives.
#[test]
fn caps_below_zero_ask_for_the_other_way() {
    let problem = with(hour(1.0, 1.0, export_cap(-1.0, 0.5)), |p| {
        p.pv_curtailable = true;
    });
    plan(&problem, 0.3, None);
    let full = with(battery(3.0), |b| b.soc_kwh = 3.0);
    let problem = with(hour(1.0, 0.0, import_cap(-1.0, 0.5)), |p| {
        p.battery = Some(with(full, |b| b.end_value_per_kwh = 0.2));
    });
    // A kWh in the battery is worth 0.2: it saves 0.3 and 0.5, then earns 0.1 and saves 0.5, and then would earn 0.1.
    plan(&problem, -0.1 - 0.2, None);
}

/// The load is 2 kW in both hours, and 1.5 kW may be had: the battery of 1 kWh with losses is charged before.
#[test]
fn a_battery_keeps_a_cap_and_its_policy_says_so() {
    let problem = with(home(&[0.5, 2.0], &[0.0; 2], &[0.3; 2]), |p| {
        p.battery = Some(lossy(1.0, 0.8));
        p.signal = Some(Signal {
            import_cap_kw: vec![None, Some(1.5)],
            import_breach_price_per_kwh: 2.0,
            ..Signal::default()
        });
    });
    // 0.5 kWh of load need 0.625 in the battery and 0.78125 at its plug.
    let plan = plan(&problem, 0.3 * (0.5 + 0.78125 + 1.5), None);
    let policies: Vec<_> = plan
        .slots
        .iter()
        .map(|slot| slot.policy.as_ref().expect("every slot has one"))
        .collect();
    assert_eq!(policies[0].import_max_kw, None);
    assert_eq!(policies[1].import_max_kw, Some(1.5));
    let last = policies[1].battery.expect("a battery");
    assert_ne!(last.mode, Mode::Setpoint);
    assert_eq!(last.discharge_to_excess_to_kwh, None, "as much as it has");
    assert_eq!(last.discharge_to_home_to_kwh, Some(0.0));
}

/// Branch and bound takes caps.
#[test]
fn appliances_under_caps_need_no_mixed_integer_program() {
    let problem = with(home(&[0.5; 4], &[0.0; 4], &[0.3, 0.1, 0.2, 0.3]), |p| {
        p.appliances = vec![appliance("washer", &[2.0], 0, 4)];
        p.signal = Some(Signal {
            import_cap_kw: vec![None, Some(1.0), None, None],
            import_breach_price_per_kwh: 2.0,
            ..Signal::default()
        });
    });
    // In the third hour, not in the second, where 1.5 kWh would be beyond the cap.
    let plan = plan(&problem, 0.5 * (0.3 + 0.1 + 0.2 + 0.3) + 2.0 * 0.2, None);
    assert_eq!(plan.solver, "branch_and_bound");
}

/// With caps, scenarios and policies together the plan is still sound, and keeps what it can.
#[test]
fn scenarios_keep_caps() {
    for case in 0..60 {
        let seed = 41_000_000 + case;
        let homes = signalled(any_prices());
        let problem = with(draw(seed, &homes), |p| {
            let course = |share: f64| model::problem::Scenario {
                weight: 1.0,
                load_kw: p.load_kw.iter().map(|load| share * load).collect(),
                pv_kw: p.pv_kw.clone(),
            };
            p.scenarios = vec![course(0.7), course(1.0), course(1.3)];
        });
        let certain = with(problem.clone(), |p| p.scenarios.clear());
        let (plan, best) = (solve(&problem).unwrap(), solve(&certain).unwrap());
        assert_eq!(verify(&problem, &plan), [], "seed {seed}");
        let noise = SAME * best.objective.abs().max(1.0);
        let costs = (penalised(&problem, &plan), penalised(&certain, &best));
        assert!(costs.0 >= costs.1 - noise, "seed {seed}: {costs:?}");
        assert!(plan.relaxed.len() <= best.relaxed.len(), "seed {seed}");
    }
}
