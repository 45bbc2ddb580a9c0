//! Whatever `validate` accepts has a plan that stands up to `verify`: no panic, no NaN, at the ends of every range.

use model::limits::{
    EFFICIENCY_MIN, ENERGY_KWH_MAX, POWER_KW_MAX, PRICE_MAX, SLOTS_MAX, WEIGHT_MAX,
};
use model::problem::{Appliance, Battery, Ev, Grid, HeatStore, Problem, Stability, Weights};
use proptest::collection::vec;
use proptest::prelude::*;
use scheduler::{COP_MAX, COP_MIN, KWH_PER_K_MIN, Solver, TEMPERATURE_C_MAX, validate, verify};

use crate::support::home;

/// One of `ends`, or anything of an ordinary size.
fn end(ends: &[f64], ordinary: std::ops::Range<f64>) -> BoxedStrategy<f64> {
    prop_oneof![prop::sample::select(ends.to_vec()), ordinary].boxed()
}

fn power() -> BoxedStrategy<f64> {
    end(&[0.0, 0.0, 1e-9, 1e-13, POWER_KW_MAX], 0.0..8.0)
}

fn energy() -> BoxedStrategy<f64> {
    end(&[0.0, 1e-9, 1e-13, ENERGY_KWH_MAX], 0.5..20.0)
}

fn price() -> BoxedStrategy<f64> {
    end(
        &[0.0, 0.3, 1e-6, -1e-6, PRICE_MAX, -PRICE_MAX, 99_999.0],
        -0.2..0.5,
    )
}

fn cost() -> BoxedStrategy<f64> {
    end(&[0.0, 0.0, 0.0, 1e-6, PRICE_MAX], 0.0..0.1)
}

fn share() -> BoxedStrategy<f64> {
    end(&[0.0, 1.0], 0.0..1.0)
}

fn efficiency() -> BoxedStrategy<f64> {
    end(&[1.0, 1.0, EFFICIENCY_MIN], 0.8..1.0)
}

fn any_battery() -> impl Strategy<Value = Battery> {
    (
        energy(),
        [share(), share(), share(), share()],
        [power(), power()],
        [efficiency(), efficiency()],
        [price(), cost()],
    )
        .prop_map(|(capacity_kwh, shares, rates, efficiencies, money)| {
            let max_soc_kwh = capacity_kwh * shares[0];
            Battery {
                capacity_kwh,
                soc_kwh: capacity_kwh * shares[1],
                min_soc_kwh: max_soc_kwh * shares[2],
                max_soc_kwh,
                charge_kw: rates[0],
                discharge_kw: rates[1],
                charge_efficiency: efficiencies[0],
                discharge_efficiency: efficiencies[1],
                end_soc_min_kwh: capacity_kwh * shares[3],
                end_value_per_kwh: money[0],
                wear_cost_per_kwh: money[1],
            }
        })
}

fn any_ev(slots: usize) -> impl Strategy<Value = Ev> {
    let slots = u32::try_from(slots).expect("a horizon is short");
    (
        (0..slots, 0..slots),
        energy(),
        [share(), share(), share(), share()],
        [power(), power()],
        [efficiency(), efficiency()],
        [price(), cost()],
    )
        .prop_map(
            move |(stay, capacity_kwh, shares, rates, efficiencies, money)| Ev {
                id: "car".to_owned(),
                arrival_slot: stay.0.min(stay.1),
                departure_slot: stay.0.max(stay.1) + 1,
                capacity_kwh,
                soc_kwh: capacity_kwh * shares[0],
                min_soc_kwh: capacity_kwh * shares[1],
                goal_soc_kwh: capacity_kwh * shares[2],
                charge_kw: rates[0],
                min_charge_kw: rates[0] * shares[3],
                discharge_kw: rates[1],
                charge_efficiency: efficiencies[0],
                discharge_efficiency: efficiencies[1],
                end_value_per_kwh: money[0],
                wear_cost_per_kwh: money[1],
            },
        )
}

fn any_heat_store(slots: usize) -> impl Strategy<Value = HeatStore> {
    let celsius = || end(&[TEMPERATURE_C_MAX, -TEMPERATURE_C_MAX, 0.0], 30.0..60.0);
    (
        power(),
        end(&[KWH_PER_K_MIN, ENERGY_KWH_MAX], 0.2..5.0),
        end(&[0.0, 0.0, 1e-12, POWER_KW_MAX], 0.0..0.2),
        [celsius(), celsius(), celsius()],
        (
            vec(end(&[COP_MIN, COP_MAX, 1.0], 1.0..4.0), slots),
            vec(
                end(&[TEMPERATURE_C_MAX, -TEMPERATURE_C_MAX], -5.0..25.0),
                slots,
            ),
            vec(end(&[0.0, 0.0, 0.0, POWER_KW_MAX], 0.0..2.0), slots),
        ),
        price(),
    )
        .prop_map(
            |(power_kw, kwh_per_k, loss_kw_per_k, band, series, value)| HeatStore {
                id: "tank".to_owned(),
                power_kw,
                cop: series.0,
                kwh_per_k,
                loss_kw_per_k,
                temperature_c: band[0],
                min_c: band[1].min(band[2]),
                max_c: band[1].max(band[2]),
                ambient_c: series.1,
                draw_kw: series.2,
                end_value_per_kwh: value,
            },
        )
}

fn any_appliance(slots: usize) -> impl Strategy<Value = Appliance> {
    vec(power(), 1..=slots.min(4)).prop_flat_map(move |profile_kw| {
        let length = profile_kw.len();
        (0..=slots - length, Just(profile_kw)).prop_flat_map(move |(earliest, profile_kw)| {
            (earliest + length..=slots).prop_map(move |end| Appliance {
                id: "washer".to_owned(),
                profile_kw: profile_kw.clone(),
                earliest_slot: u32::try_from(earliest).expect("a horizon is short"),
                latest_end_slot: u32::try_from(end).expect("a horizon is short"),
            })
        })
    })
}

fn any_stability(slots: usize) -> impl Strategy<Value = Stability> {
    let change = end(&[0.0, ENERGY_KWH_MAX, -ENERGY_KWH_MAX, 1e-13], -1.0..1.0);
    (cost(), cost(), vec(change, 0..=slots), 0..700_u32).prop_map(
        |(battery_cost_per_kwh, start_cost, soc_change_kwh, start)| Stability {
            battery_cost_per_kwh,
            start_cost,
            soc_change_kwh,
            start_slots: [("washer".to_owned(), start)].into(),
        },
    )
}

fn any_grid() -> impl Strategy<Value = Grid> {
    let limit = || proptest::option::weighted(0.3, power());
    (limit(), limit(), cost(), power()).prop_map(|(import, export, peak_price, peak)| Grid {
        import_limit_kw: import,
        export_limit_kw: export,
        peak_price_per_kw: peak_price,
        peak_kw: peak,
    })
}

fn any_weights() -> impl Strategy<Value = Weights> {
    let weight = || end(&[0.0, WEIGHT_MAX, 1e-3], 0.0..2.0);
    prop_oneof![
        2 => Just(Weights::COST),
        1 => (weight(), weight(), weight()).prop_map(|(cost, autarky, revenue)| Weights {
            cost,
            autarky,
            revenue,
        }),
    ]
}

/// Any home of `slots` slots with at most `stores_max` stores.
fn any_home(slots: usize, stores_max: usize) -> impl Strategy<Value = Problem> {
    let some = proptest::option::weighted::<BoxedStrategy<Battery>>;
    let constant = |of: BoxedStrategy<f64>| of.prop_map(move |value| vec![value; slots]);
    let series = move |of: fn() -> BoxedStrategy<f64>| prop_oneof![2 => vec(of(), slots).boxed(), 1 => constant(of()).boxed()];
    (
        (series(power), series(power), series(price), series(price)),
        (any_grid(), any_weights(), any::<bool>()),
        (
            some(0.5, any_battery().boxed()),
            proptest::option::weighted(0.3, any_ev(slots)),
            proptest::option::weighted(0.3, any_heat_store(slots)),
            proptest::option::weighted(0.3, any_appliance(slots)),
            proptest::option::weighted(0.2, any_stability(slots)),
        ),
        prop::sample::select(std::vec![1_u32, 5, 15, 60]),
    )
        .prop_map(move |(series, frame, parts, slot_minutes)| {
            let mut problem = Problem {
                sell_price: series.3,
                slot_minutes,
                grid: frame.0,
                weights: frame.1,
                pv_curtailable: frame.2,
                ..home(&series.0, &series.1, &series.2)
            };
            problem.battery = parts.0;
            let mut left = stores_max - usize::from(problem.battery.is_some());
            for ev in parts.1.into_iter().take(left) {
                problem.evs.push(ev);
                left -= 1;
            }
            problem.heat_stores.extend(parts.2.into_iter().take(left));
            problem.appliances.extend(parts.3);
            problem.stability = parts.4;
            problem
        })
}

fn check(problem: &Problem, seconds: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(validate(problem), Ok(()));
    let plan = Solver::default()
        .solve_within(problem, seconds)
        .expect("the problem can be stated");
    let found = verify(problem, &plan);
    prop_assert!(found.is_empty(), "{} {found:#?} {problem:#?}", plan.solver);
    prop_assert!(plan.objective.is_finite() && plan.gap >= 0.0);
    for metrics in [plan.metrics, plan.baseline] {
        let all = [
            metrics.cost,
            metrics.grid_import_kwh,
            metrics.grid_export_kwh,
            metrics.autarky,
            metrics.self_consumption,
        ];
        prop_assert!(all.iter().all(|figure| figure.is_finite()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_home_with_one_store_has_a_sound_plan(
        problem in prop::sample::select(vec![1_usize, 2, 5, 12]).prop_flat_map(|slots| any_home(slots, 1)),
    ) {
        check(&problem, 1.0)?;
    }

    #[test]
    fn a_home_with_several_stores_has_a_sound_plan(
        problem in prop::sample::select(vec![1_usize, 2, 6]).prop_flat_map(|slots| any_home(slots, 3)),
    ) {
        check(&problem, 0.5)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_longest_horizon_has_a_sound_plan(problem in any_home(SLOTS_MAX, 1)) {
        check(&problem, 0.2)?;
    }
}
