//! A short backtest of recorded homes: two weeks, of which the second counts. The long ones are `make bench NAME=backtest`.

use std::collections::BTreeMap;

use expect_test::expect;

use super::*;
use crate::figures::Report;
use crate::page;
use crate::run::run;

const CALIFORNIA: &str = include_str!("../../../../loadtest/data/california.csv");
/// 2017-06-05T00:00 in Pacific standard time.
const START_MS: i64 = 1_496_649_600_000;

/// One of the five homes, with a dear evening and an export that is not paid.
fn recorded(number: usize) -> Recorded {
    let column = |column: usize| -> Vec<f64> {
        let rows = CALIFORNIA.lines().skip(1);
        rows.map(|row| row.split(',').nth(column).unwrap().parse().unwrap())
            .collect()
    };
    let load_w = column(number);
    let pv_w = column(number + 5).iter().map(|watts| watts * 5.0).collect();
    let buy = (0..load_w.len())
        .map(|hour| {
            if (16..21).contains(&(hour % 24)) {
                0.54
            } else {
                0.22
            }
        })
        .collect();
    Recorded {
        name: format!("b0{number}"),
        location: "34.1,-117.4".to_owned(),
        start_ms: START_MS,
        step: SlotLength::new(60).unwrap(),
        pv_w,
        buy,
        sell: vec![0.0; load_w.len()],
        scored_from: 7 * 24,
        load_w,
        ..home(60, &[], &[], &[], 0.0)
    }
}

#[test]
fn a_week_of_two_homes() {
    let (mut homes, mut weeks) = (BTreeMap::new(), BTreeMap::new());
    for number in [1, 4] {
        let home = recorded(number);
        let outcome = run(&home, &mut |_| {});
        homes.insert(home.name.clone(), outcome.figures);
        weeks.insert(home.name, outcome.week);
    }
    let report = Report::of(homes);
    expect![[r#"
                                          none      rule  setpoint    hearth   perfect     bound    of gap  setpoint
        b01                              40.57     12.01     25.00     12.01     12.01     12.01         –         –
        b04                              33.32     23.70     27.86     20.30     19.82     19.82    87.8 %  -107.6 %
        mean share of the gap 87.8 %
    "#]].assert_eq(&page::text(&report));
    let page = page::html(&report, &weeks, "<p>CityLearn</p>");
    assert!(page.contains("<svg") && page.contains("b04") && page.ends_with("</html>"));
    // It stands alone.
    for loads in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(loads), "{loads}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"));
    let again = run(&recorded(1), &mut |_| {});
    assert_eq!(again.figures, report.homes["b01"], "it is repeatable");
}
