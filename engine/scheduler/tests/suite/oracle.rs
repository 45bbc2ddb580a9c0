//! Random problems of every kind, solved twice: as usual, and by the mixed-integer program without a gap.
//!
//! `SEED=123 cargo test -p scheduler oracle::one_seed` solves one again.

use household::problem::{Battery, Problem};
use household::schedule::Status;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use scheduler::{Method, penalised, reference, solve, verify};

use crate::support::{appliance, home, with};

/// Largest difference of objectives, relative to the larger of 1 and the objective.
const SAME: f64 = 1e-7;
/// Wall time for one search of the oracle, seconds.
const ORACLE_SECONDS: f64 = 30.0;

fn draw<T>(seed: u64, strategy: &impl Strategy<Value = T>) -> T {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy
        .new_tree(&mut runner)
        .expect("no value is rejected")
        .current()
}

/// Returns the method.
fn check(seed: u64, problem: &Problem) -> String {
    let plan = solve(problem).expect("the problem can be stated");
    let broken = verify(problem, &plan);
    assert!(broken.is_empty(), "seed {seed}: {broken:#?} {problem:#?}");
    assert_eq!(plan.gap, 0.0, "seed {seed}");
    let oracle = reference(problem, ORACLE_SECONDS).expect("the problem can be stated");
    assert_eq!(plan.status, oracle.status, "seed {seed}: {problem:#?}");
    let (found, best) = match plan.status {
        Status::Optimal => (plan.objective, oracle.objective),
        Status::Relaxed | Status::Infeasible => {
            (penalised(problem, &plan), penalised(problem, &oracle))
        }
    };
    assert!(
        (found - best).abs() <= SAME * best.abs().max(1.0),
        "seed {seed}: {found} by {} instead of {best}: {problem:#?}",
        plan.solver
    );
    plan.solver
}

fn check_all(cases: u64, salt: u64, strategy: &impl Strategy<Value = Problem>) {
    let mut methods = std::collections::BTreeMap::new();
    for case in 0..cases {
        let seed = salt * 1_000_000 + case;
        *methods
            .entry(check(seed, &draw(seed, strategy)))
            .or_insert(0) += 1;
    }
    println!("{methods:?}");
}

fn pick<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

/// A price series of a few levels or of any, from `least` to `most`.
fn prices(slots: usize, least: f64, most: f64) -> impl Strategy<Value = Vec<f64>> {
    (
        vec(0.0..1.0_f64, slots),
        pick(&[0.0, 2.0, 4.0]),
        Just((least, most)),
    )
        .prop_map(|(shares, levels, (least, most))| {
            shares
                .into_iter()
                .map(|share| {
                    let share = if levels > 0.0 {
                        (share * levels).floor() / levels
                    } else {
                        share
                    };
                    least + share * (most - least)
                })
                .collect()
        })
}

fn battery() -> impl Strategy<Value = Battery> {
    let efficiency = || pick(&[1.0, 0.97, 0.95, 0.9, 0.8, 0.6]);
    let share = || prop_oneof![Just(0.0), Just(1.0), 0.0..1.0_f64];
    (
        (
            prop_oneof![0.5..15.0_f64, Just(10.0)],
            share(),
            0.0..0.3_f64,
            0.7..=1.0_f64,
        ),
        (
            prop_oneof![0.3..8.0_f64, Just(0.0)],
            prop_oneof![0.3..8.0_f64, Just(0.0)],
        ),
        (efficiency(), efficiency()),
        (
            prop_oneof![Just(0.0), 0.0..1.0_f64],
            pick(&[0.0, 0.1, 0.25]),
            pick(&[0.0, 0.0, 0.02, 0.08]),
        ),
    )
        .prop_map(|(energy, rates, efficiencies, end)| {
            let (least, most) = (energy.0 * energy.2, energy.0 * energy.3);
            Battery {
                capacity_kwh: energy.0,
                soc_kwh: least + (most - least) * energy.1,
                min_soc_kwh: least,
                max_soc_kwh: most,
                charge_kw: rates.0,
                discharge_kw: rates.1,
                charge_efficiency: efficiencies.0,
                discharge_efficiency: efficiencies.1,
                end_soc_min_kwh: least + (most - least) * end.0,
                end_value_per_kwh: end.1,
                wear_cost_per_kwh: end.2,
            }
        })
}

/// A home with a battery, prices between `least` and `most` to buy; what selling earns is a share of that, or its own.
fn battery_home(least: f64, most: f64, sells_dear: bool) -> impl Strategy<Value = Problem> {
    (pick(&[1_usize, 2, 7, 24, 48]), pick(&[5_u32, 15, 30, 60])).prop_flat_map(
        move |(slots, minutes)| {
            (
                (
                    vec(0.0..3.0_f64, slots),
                    vec(prop_oneof![Just(0.0), 0.0..6.0_f64], slots),
                    prices(slots, least, most),
                    prices(slots, if sells_dear { least } else { 0.0 }, 1.0),
                ),
                battery(),
                (
                    proptest::option::weighted(0.4, 0.5..8.0_f64),
                    proptest::option::weighted(0.4, 0.0..5.0_f64),
                    any::<bool>(),
                ),
                (
                    pick(&[1.0, 1.0, 0.5, 0.0]),
                    pick(&[0.0, 0.0, 0.1]),
                    pick(&[0.0, 0.0, 0.5]),
                ),
            )
                .prop_map(move |(series, battery, limits, weights)| {
                    with(home(&series.0, &series.1, &series.2), |p| {
                        p.sell_price = if sells_dear {
                            series.3
                        } else {
                            let prices = series.2.iter().zip(&series.3);
                            prices.map(|(buy, share)| buy.max(0.0) * share).collect()
                        };
                        p.slot_minutes = minutes;
                        p.battery = Some(battery);
                        (
                            p.grid.import_limit_kw,
                            p.grid.export_limit_kw,
                            p.pv_curtailable,
                        ) = limits;
                        (p.weights.cost, p.weights.autarky, p.weights.revenue) = weights;
                        if !sells_dear {
                            p.weights.revenue = 0.0;
                        }
                    })
                })
        },
    )
}

fn appliance_home(count: usize) -> impl Strategy<Value = Problem> {
    let one = (vec(0.2..3.0_f64, 1..=4), 0.0..1.0_f64, 0.0..1.0_f64);
    (battery_home(0.05, 0.5, false), vec(one, count)).prop_map(|(problem, appliances)| {
        with(problem, |p| {
            let slots = p.load_kw.len();
            for (index, (mut profile, from, width)) in appliances.into_iter().enumerate() {
                profile.truncate(slots);
                let earliest = ((slots - profile.len()) as f64 * from) as usize;
                let spare = slots - profile.len() - earliest;
                let end = earliest + profile.len() + (spare as f64 * width) as usize;
                let id = format!("appliance {index}");
                p.appliances
                    .push(appliance(&id, &profile, earliest as u32, end as u32));
            }
        })
    })
}

const CASES: u64 = 700;

#[test]
fn convex_batteries() {
    check_all(2 * CASES, 1, &battery_home(0.05, 0.5, false));
}

#[test]
fn negative_prices_and_sales_above_purchases() {
    check_all(2 * CASES, 2, &battery_home(-0.3, 0.4, true));
}

#[test]
fn one_appliance() {
    check_all(CASES, 3, &appliance_home(1));
}

#[test]
fn two_appliances() {
    check_all(CASES / 2, 4, &appliance_home(2));
}

#[test]
fn one_seed() {
    let Some(seed) = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    else {
        return;
    };
    let problem = match seed / 1_000_000 {
        1 => draw(seed, &battery_home(0.05, 0.5, false)),
        2 => draw(seed, &battery_home(-0.3, 0.4, true)),
        3 => draw(seed, &appliance_home(1)),
        4 => draw(seed, &appliance_home(2)),
        other => panic!("no kind of problem has the number {other}"),
    };
    println!("{problem:#?}");
    let plan = solve(&problem).unwrap();
    let oracle = reference(&problem, ORACLE_SECONDS).unwrap();
    for (t, (ours, theirs)) in plan.slots.iter().zip(&oracle.slots).enumerate() {
        println!("{t}: {ours:?}\n   {theirs:?}");
    }
    println!(
        "{} by {}, {}",
        plan.objective, plan.solver, oracle.objective
    );
    assert_ne!(plan.solver, Method::Milp.as_str());
    check(seed, &problem);
}
