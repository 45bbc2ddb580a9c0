//! A home in France whose owner plans it with EMHASS: two published plans of eight days each, and a week with the
//! battery and the deferrable loads of the default configuration. See `../data/README.md` and
//! `docs/reference/cases.md`.

use std::fmt::Write;

use expect_test::{Expect, expect};
use model::problem::{Battery, Ev, Problem};
use model::schedule::Status;
use model::units::MINUTE_MS;

use crate::agreed::agreed;
use crate::page;
use crate::support::{appliance, battery, ev, home, with};

/// Half-hour slots of a day.
const DAY: usize = 48;
const SLOT_HOURS: f64 = 0.5;
/// Largest difference from a published bill, relative.
const SAME_BILL: f64 = 1e-6;
/// What a kWh of export earned, EUR.
const SELL: f64 = 0.065;
/// Limit of the grid connection either way, kW.
const GRID_KW: f64 = 9.0;
/// The two deferrable loads: kW, and slots a day.
const DEFERRABLE: [(f64, usize); 2] = [(3.0, 10), (0.75, 16)];

/// A file's columns of numbers, after its column of times.
fn columns<const N: usize>(text: &str) -> [Vec<f64>; N] {
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let mut columns = [const { Vec::new() }; N];
    for row in rows.records() {
        let row = row.expect("the file has as many columns in each row");
        for (column, values) in columns.iter_mut().enumerate() {
            values.push(row[column + 1].parse().expect("a number"));
        }
    }
    columns
}

/// Day `day` of series in W, without anything to plan.
fn day(load_w: &[f64], pv_w: &[f64], buy: &[f64], start_ms: i64, day: usize) -> Problem {
    let range = day * DAY..(day + 1) * DAY;
    let kilowatts = |watts: &[f64]| -> Vec<f64> {
        let watts = watts[range.clone()].iter();
        watts.map(|watts| watts / 1000.0).collect()
    };
    let first = i64::try_from(range.start).expect("a few days of slots");
    with(
        home(&kilowatts(load_w), &kilowatts(pv_w), &buy[range.clone()]),
        |p| {
            p.slot_minutes = 30;
            p.start_ms = start_ms + first * 30 * MINUTE_MS;
            p.sell_price = vec![SELL; DAY];
            p.grid.import_limit_kw = Some(GRID_KW);
            p.grid.export_limit_kw = Some(GRID_KW);
        },
    )
}

/// A load that is on or off and may pause: a car without losses whose charger knows one power and fills it.
fn deferrable(index: usize) -> Ev {
    let (power_kw, slots_count) = DEFERRABLE[index];
    let kwh = power_kw * SLOT_HOURS * slots_count as f64;
    Ev {
        capacity_kwh: kwh,
        soc_kwh: 0.0,
        goal_soc_kwh: kwh,
        charge_kw: power_kw,
        min_charge_kw: power_kw,
        ..ev(&format!("deferrable {index}"), 0, DAY as u32)
    }
}

/// The battery of EMHASS's default configuration. It ends a day with no less than it begins with.
fn default_battery() -> Battery {
    Battery {
        soc_kwh: 0.6 * 5.0,
        min_soc_kwh: 0.3 * 5.0,
        max_soc_kwh: 0.9 * 5.0,
        charge_kw: 1.0,
        discharge_kw: 1.0,
        charge_efficiency: 0.95,
        discharge_efficiency: 0.95,
        end_soc_min_kwh: 0.6 * 5.0,
        ..battery(5.0)
    }
}

/// Each day's bill of a published plan, from its own powers, and of ours.
fn published(text: &str, start_ms: i64) -> Vec<(f64, f64)> {
    let [load, pv, buy, first, second] = columns(text);
    let bill = |t: usize| {
        let net = (load[t] + first[t] + second[t] - pv[t]) / 1000.0;
        SLOT_HOURS * if net > 0.0 { buy[t] * net } else { SELL * net }
    };
    (0..load.len() / DAY)
        .map(|day| {
            let problem = with(self::day(&load, &pv, &buy, start_ms, day), |p| {
                p.evs = vec![deferrable(0), deferrable(1)];
            });
            let plan = agreed(&format!("day {day}"), &problem);
            assert_eq!(plan.status, Status::Optimal);
            assert_eq!(plan.objective, plan.metrics.cost);
            ((day * DAY..(day + 1) * DAY).map(bill).sum(), plan.objective)
        })
        .collect()
}

/// Holds each day's two bills, and the row of the page with their sums, to what they were.
#[expect(clippy::print_stdout, reason = "the figures of the page")]
fn check(label: &str, bills: &[(f64, f64)], expected: &Expect) {
    let mut figures = String::new();
    for (theirs, ours) in bills {
        writeln!(figures, "{theirs:.6} {ours:.6}").expect("a string takes all");
    }
    let sum = |of: fn(&(f64, f64)) -> f64| bills.iter().map(of).sum::<f64>();
    let (theirs, ours) = (sum(|bills| bills.0), sum(|bills| bills.1));
    writeln!(figures, "{theirs:.6} {ours:.6} in all").expect("a string takes all");
    println!("{label}\n{figures}");
    expected.assert_eq(&figures);
    page::states(label, &[theirs, ours, ours - theirs]);
}

#[test]
fn the_published_plans_of_the_cheapest_bill_are_found() {
    let bills = published(
        include_str!("../data/emhass_2022-02.csv"),
        1_645_650_000_000,
    );
    check(
        "February 2022",
        &bills,
        &expect![[r#"
        6.921038 6.921038
        4.283482 4.283482
        5.055970 5.055970
        3.796626 3.796626
        5.353261 5.353261
        4.327400 4.327400
        5.434343 5.434343
        4.240276 4.240276
        39.412397 39.412397 in all
    "#]],
    );
    for (theirs, ours) in bills {
        assert!(
            (theirs - ours).abs() <= SAME_BILL * theirs,
            "{ours} instead of {theirs}"
        );
    }
}

#[test]
fn a_published_plan_for_self_consumption_is_no_cheaper() {
    let bills = published(
        include_str!("../data/emhass_2022-05.csv"),
        1_651_957_200_000,
    );
    check(
        "May 2022",
        &bills,
        &expect![[r#"
        2.379974 2.379393
        0.798036 0.790669
        0.447696 0.447696
        0.766406 0.766406
        0.452323 0.452323
        0.926263 0.920085
        1.220670 1.216601
        1.063354 1.062911
        8.054723 8.036085 in all
    "#]],
    );
    for (theirs, ours) in bills {
        assert!(ours <= theirs + 1e-6, "{ours} instead of {theirs}");
    }
}

/// The tariff of the default configuration in each slot of a day from local midnight.
fn peak_and_off_peak() -> Vec<f64> {
    let is_peak = |slot| (6..=30).contains(&slot) || (35..=40).contains(&slot);
    (0..DAY)
        .map(|slot| if is_peak(slot) { 0.1907 } else { 0.1419 })
        .collect()
}

/// The week's bills without the battery and with it; `add` adds the loads.
fn week(add: fn(&mut Problem)) -> Vec<(f64, f64)> {
    let [load, pv] = columns(include_str!("../data/emhass_2024-06.csv"));
    let buy = peak_and_off_peak().repeat(load.len() / DAY);
    (0..load.len() / DAY)
        .map(|day| {
            let without = with(self::day(&load, &pv, &buy, 1_717_365_600_000, day), add);
            let with_battery = with(without.clone(), |p| p.battery = Some(default_battery()));
            let bill = |label: &str, problem: &Problem| {
                let plan = agreed(&format!("{label} {day}"), problem);
                assert_eq!(plan.status, Status::Optimal);
                // What EMHASS calls `set_nodischarge_to_grid` holds by itself at these prices.
                for slot in &plan.slots {
                    assert!(slot.battery_discharge_kw == 0.0 || slot.grid_export_kw < 1e-9);
                }
                plan.objective
            };
            (bill("without", &without), bill("with", &with_battery))
        })
        .collect()
}

#[test]
fn a_week_with_a_battery_and_loads_that_may_pause() {
    let bills = week(|p| p.evs = vec![deferrable(0), deferrable(1)]);
    check(
        "June 2024, with pauses",
        &bills,
        &expect![[r#"
        4.758858 4.600565
        1.853776 1.538940
        1.268884 0.910050
        4.628557 4.294924
        2.854274 2.623574
        1.658206 1.479881
        2.686776 2.513139
        19.709331 17.961073 in all
    "#]],
    );
}

#[test]
fn a_week_with_a_battery_and_loads_that_run_once() {
    let bills = week(|p| {
        p.appliances = (0..2)
            .map(|index| {
                let (power_kw, slots_count) = DEFERRABLE[index];
                appliance(
                    &format!("deferrable {index}"),
                    &vec![power_kw; slots_count],
                    0,
                    DAY as u32,
                )
            })
            .collect();
    });
    check(
        "June 2024, without",
        &bills,
        &expect![[r#"
        5.043653 4.855586
        1.978341 1.671602
        1.475639 1.049283
        5.032168 4.544072
        2.983364 2.737998
        1.751328 1.518156
        2.930239 2.688423
        21.194732 19.065121 in all
    "#]],
    );
}
