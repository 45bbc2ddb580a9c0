//! Two weeks of a real home. See `../data/README.md`.

use crate::support::{battery, home, with};
use expect_test::expect;
use model::problem::{Battery, Problem};
use model::schedule::Status;
use model::units::HOUR_MS;
use scheduler::{solve, verify};

const DAY: usize = 24;

/// Two weeks without a battery action, hourly.
fn two_weeks() -> Problem {
    let text = include_str!("../data/citylearn_home_two_weeks.csv");
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let mut series = [const { Vec::new() }; 3];
    for row in rows.records() {
        let row = row.expect("the file has as many columns in each row");
        for (column, values) in series.iter_mut().enumerate() {
            values.push(row[column + 1].parse().expect("a number"));
        }
    }
    let [load, pv, price] = series;
    with(home(&load, &pv, &price), |p| {
        p.sell_price = vec![0.05; load.len()];
        p.start_ms = 1_470_009_600_000;
    })
}

/// `hours` of `whole` from `start`, with the battery at `soc_kwh`.
fn cut(whole: &Problem, start: usize, hours: usize, soc_kwh: f64) -> Problem {
    let range = start..(start + hours).min(whole.load_kw.len());
    let one_way = 0.9_f64.sqrt();
    with(whole.clone(), |p| {
        p.start_ms += i64::try_from(start).expect("two weeks of hours") * HOUR_MS;
        p.load_kw = whole.load_kw[range.clone()].to_vec();
        p.pv_kw = whole.pv_kw[range.clone()].to_vec();
        p.buy_price = whole.buy_price[range.clone()].to_vec();
        p.sell_price = whole.sell_price[range].to_vec();
        p.battery = Some(Battery {
            soc_kwh,
            charge_kw: 5.0,
            discharge_kw: 5.0,
            charge_efficiency: one_way,
            discharge_efficiency: one_way,
            ..battery(6.4)
        });
    })
}

/// Each day is planned 48 h ahead and its 24 h are lived; the SoC carries over and starts empty.
#[test]
fn baseline_against_optimized_over_two_weeks_of_a_real_home() {
    let whole = two_weeks();
    assert_eq!(whole.load_kw.len(), 14 * DAY);
    let baseline = solve(&whole).expect("the weeks can be stated").baseline;
    let (mut cost, mut import, mut load, mut soc) = (0.0, 0.0, 0.0, 0.0);
    for start in (0..whole.load_kw.len()).step_by(DAY) {
        let problem = cut(&whole, start, 2 * DAY, soc);
        let plan = solve(&problem).expect("the day can be stated");
        assert_eq!(verify(&problem, &plan), []);
        assert_eq!(plan.status, Status::Optimal);
        for (t, slot) in plan.slots.iter().take(DAY).enumerate() {
            cost += problem.buy_price[t] * slot.grid_import_kw;
            cost -= problem.sell_price[t] * slot.grid_export_kw;
            import += slot.grid_import_kw;
            load += slot.load_kw;
            soc = slot.soc_kwh;
        }
    }
    let autarky = 1.0 - import / load;
    assert!(cost <= baseline.cost);
    let foresight = solve(&cut(&whole, 0, 14 * DAY, 0.0)).expect("the weeks can be stated");
    assert!(cost >= foresight.objective - 1e-6);
    assert!(autarky >= baseline.autarky);
    let figures = format!(
        "baseline:  cost {:.4} USD, autarky {:.4}\noptimized: cost {cost:.4} USD, autarky {autarky:.4}\n",
        baseline.cost, baseline.autarky,
    );
    expect![[r#"
        baseline:  cost 100.6147 USD, autarky 0.3313
        optimized: cost 66.1485 USD, autarky 0.4915
    "#]]
    .assert_eq(&figures);
}
