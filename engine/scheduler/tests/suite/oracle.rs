//! Random problems of every kind, solved twice: as usual, and by the mixed-integer program without a gap.
//!
//! `SEED=123 cargo test -p scheduler oracle::one_seed` solves one again.

use model::problem::{Battery, Ev, HeatStore, Problem, Stability};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use scheduler::{Milp, reference, solve};

use crate::agreed::{REFERENCE_SECONDS, agreed};
use crate::support::{appliance, home, with};

pub(crate) fn draw<T>(seed: u64, strategy: &impl Strategy<Value = T>) -> T {
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
    agreed(&format!("seed {seed}"), problem).solver
}

#[expect(clippy::print_stdout, reason = "how often each method was the one")]
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

pub(crate) fn pick<T: Clone + std::fmt::Debug + 'static>(
    values: &[T],
) -> impl Strategy<Value = T> + use<T> {
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
pub(crate) fn battery_home(
    least: f64,
    most: f64,
    sells_dear: bool,
) -> impl Strategy<Value = Problem> {
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

pub(crate) fn appliance_home(count: usize) -> impl Strategy<Value = Problem> {
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

/// An EV that charges at any power, at no less than some, or at one; every third may give energy back.
fn ev(slots: usize) -> impl Strategy<Value = Ev> {
    let share = || 0.0..1.0_f64;
    (
        (share(), share()),
        (5.0..60.0_f64, share(), share(), 0.0..0.3_f64),
        (
            2.0..11.0_f64,
            pick(&[0.0, 0.0, 0.4, 1.0]),
            pick(&[0.0, 0.0, 5.0]),
        ),
        (
            pick(&[1.0, 0.95, 0.9]),
            pick(&[1.0, 0.9]),
            pick(&[0.0, 0.1, 0.3]),
            pick(&[0.0, 0.03]),
        ),
    )
        .prop_map(move |(stay, energy, rates, rest)| {
            let arrival = ((slots - 1) as f64 * stay.0) as u32;
            let length = ((slots as u32 - arrival - 1) as f64 * stay.1) as u32;
            Ev {
                id: "car".to_owned(),
                arrival_slot: arrival,
                departure_slot: arrival + 1 + length,
                capacity_kwh: energy.0,
                soc_kwh: energy.0 * energy.1,
                min_soc_kwh: energy.0 * energy.3,
                goal_soc_kwh: energy.0 * energy.2,
                charge_kw: rates.0,
                min_charge_kw: rates.0 * rates.1,
                discharge_kw: rates.2,
                charge_efficiency: rest.0,
                discharge_efficiency: rest.1,
                end_value_per_kwh: rest.2,
                wear_cost_per_kwh: rest.3,
            }
        })
}

/// A tank or a house that is now and then too cold, or drained, to keep its band.
fn heat_store(slots: usize) -> impl Strategy<Value = HeatStore> {
    (
        (1.0..6.0_f64, pick(&[1.0, 3.5]), vec(0.8..1.2_f64, slots)),
        (
            pick(&[0.2, 0.5, 5.0]),
            pick(&[0.0, 0.005, 0.15]),
            40.0..60.0_f64,
            10.0..20.0_f64,
        ),
        (
            -5.0..25.0_f64,
            vec(prop_oneof![2 => Just(0.0), 1 => 0.0..2.0_f64], slots),
            pick(&[0.0, 0.05]),
        ),
    )
        .prop_map(|(heater, tank, rest)| HeatStore {
            id: "tank".to_owned(),
            power_kw: heater.0,
            cop: heater.2.iter().map(|cop| cop * heater.1).collect(),
            kwh_per_k: tank.0,
            loss_kw_per_k: tank.1,
            temperature_c: tank.2,
            min_c: 42.0,
            max_c: 42.0 + tank.3,
            ambient_c: vec![rest.0; rest.1.len()],
            draw_kw: rest.1,
            end_value_per_kwh: rest.2,
        })
}

/// `problem` with what `add` draws for its number of slots.
pub(crate) fn and<T: std::fmt::Debug, S: Strategy<Value = T>>(
    problem: impl Strategy<Value = Problem>,
    add: impl Fn(usize) -> S,
    put: impl Fn(&mut Problem, T),
) -> impl Strategy<Value = Problem> {
    problem
        .prop_flat_map(move |problem| {
            let drawn = add(problem.load_kw.len());
            (Just(problem), drawn)
        })
        .prop_map(move |(problem, drawn)| with(problem, |p| put(p, drawn)))
}

fn without_battery(problem: impl Strategy<Value = Problem>) -> impl Strategy<Value = Problem> {
    problem.prop_map(|problem| with(problem, |p| p.battery = None))
}

pub(crate) fn any_prices() -> impl Strategy<Value = Problem> {
    prop_oneof![
        2 => battery_home(0.05, 0.5, false).boxed(),
        1 => battery_home(-0.3, 0.4, true).boxed(),
    ]
}

pub(crate) fn ev_home() -> impl Strategy<Value = Problem> {
    and(without_battery(any_prices()), ev, |p, ev| p.evs.push(ev))
}

pub(crate) fn ev_and_battery_home() -> impl Strategy<Value = Problem> {
    and(any_prices(), ev, |p, ev| p.evs.push(ev))
}

pub(crate) fn heat_home() -> impl Strategy<Value = Problem> {
    and(without_battery(any_prices()), heat_store, |p, store| {
        p.heat_stores.push(store);
    })
}

pub(crate) fn everything_home() -> impl Strategy<Value = Problem> {
    let home = and(appliance_home(1), heat_store, |p, store| {
        p.heat_stores.push(store);
    });
    and(home, ev, |p, ev| p.evs.push(ev))
}

pub(crate) fn peak_home() -> impl Strategy<Value = Problem> {
    let drawn = |_| (pick(&[0.05, 0.5, 3.0]), pick(&[0.0, 1.0, 3.0]));
    let homes = prop_oneof![
        2 => any_prices().boxed(),
        1 => appliance_home(1).boxed(),
        1 => appliance_home(2).boxed(),
    ];
    and(homes, drawn, |p, (price, paid)| {
        (p.grid.peak_price_per_kw, p.grid.peak_kw) = (price, paid);
    })
}

pub(crate) fn stable_home() -> impl Strategy<Value = Problem> {
    let homes = prop_oneof![any_prices().boxed(), appliance_home(1).boxed()];
    let drawn = |slots| {
        let change = prop_oneof![Just(0.0), -1.0..1.0_f64];
        let length = pick(&[slots, slots / 2, 0]);
        (
            vec(change, slots),
            length,
            pick(&[0.01, 0.05]),
            pick(&[0.0, 0.1]),
            0..40_u32,
        )
    };
    and(
        homes,
        drawn,
        |p, (mut changes, length, cost, start_cost, start)| {
            changes.truncate(length);
            p.stability = Some(Stability {
                battery_cost_per_kwh: cost,
                start_cost,
                soc_change_kwh: changes,
                start_slots: [("appliance 0".to_owned(), start)].into(),
            });
        },
    )
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
fn evs() {
    check_all(CASES, 5, &ev_home());
}

#[test]
fn evs_beside_batteries() {
    check_all(CASES / 2, 6, &ev_and_battery_home());
}

#[test]
fn heat_stores() {
    check_all(CASES, 7, &heat_home());
}

#[test]
fn everything_at_once() {
    check_all(CASES / 5, 8, &everything_home());
}

#[test]
fn peak_prices() {
    check_all(CASES, 9, &peak_home());
}

#[test]
fn plans_that_stay() {
    check_all(CASES, 10, &stable_home());
}

#[test]
fn one_seed() {
    let Some(seed) = option_env!("SEED").and_then(|seed| seed.parse().ok()) else {
        return;
    };
    let problem = match seed / 1_000_000 {
        1 => draw(seed, &battery_home(0.05, 0.5, false)),
        2 => draw(seed, &battery_home(-0.3, 0.4, true)),
        3 => draw(seed, &appliance_home(1)),
        4 => draw(seed, &appliance_home(2)),
        5 => draw(seed, &ev_home()),
        6 => draw(seed, &ev_and_battery_home()),
        7 => draw(seed, &heat_home()),
        8 => draw(seed, &everything_home()),
        9 => draw(seed, &peak_home()),
        10 => draw(seed, &stable_home()),
        other => panic!("no kind of problem has the number {other}"),
    };
    println!("{problem:#?}");
    let plan = solve(&problem).unwrap();
    let oracle = reference(&problem, Milp::Highs, REFERENCE_SECONDS).unwrap();
    for (t, (ours, theirs)) in plan.slots.iter().zip(&oracle.slots).enumerate() {
        println!("{t}: {ours:?}\n   {theirs:?}");
    }
    println!(
        "{} by {}, {}",
        plan.objective, plan.solver, oracle.objective
    );
    check(seed, &problem);
}
