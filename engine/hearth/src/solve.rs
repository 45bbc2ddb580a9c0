//! `hearth solve`: solves one problem without any service.

use std::time::Instant;

use anyhow::{Context, Result};
use api::body::{OptimizeBody, PlanBody};
use api::request;

/// Solves the problem in `text`, JSON as in `POST /api/optimize` with every series given, and returns the plan as JSON.
pub fn solve_json(text: &str) -> Result<String> {
    let body: OptimizeBody = request::parse(text.as_bytes()).context("read the problem")?;
    let problem = body.into_problem(None)?;
    let begun = Instant::now();
    let plan = scheduler::solve(&problem)?;
    let solve_us = i64::try_from(begun.elapsed().as_micros()).expect("a solve's time fits");
    let body = PlanBody::of(&plan, problem.start_ms, problem.slot_minutes, solve_us);
    let mut json = serde_json::to_string_pretty(&body).context("write the plan")?;
    json.push('\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::solve_json;

    /// A problem of one slot with `series` in place of its series, and `more` behind them.
    fn problem(series: &str, more: &str) -> String {
        let start = r#""household_id":1,"start":"2025-03-30T00:00:00Z","slot_minutes":15"#;
        format!("{{{start},{series}{more}}}")
    }

    const SERIES: &str = r#""load_kw":[1],"pv_kw":[0],"buy_price":[0.3],"sell_price":[0.1]"#;

    #[test]
    fn a_problem_that_cannot_be_read_names_its_field_as_the_api_does() {
        let more = |more: &str| problem(SERIES, more);
        for (text, expected) in [
            (
                more(r#","battery":{"capacity_kwh":"x"}"#),
                "battery.capacity_kwh: invalid type",
            ),
            (
                more(r#","grid":{"import_limit_kw":[]}"#),
                "grid.import_limit_kw: invalid type",
            ),
            (more(r#","colour":1"#), "colour: unknown field"),
            (more(r#","load_kw":[1]"#), "load_kw: duplicate field"),
            (
                problem(&SERIES.replace("[1]", "[null]"), ""),
                "load_kw[0]: invalid type",
            ),
            (
                problem(&SERIES.replace("[1]", "[1e400]"), ""),
                "not JSON: number out of range",
            ),
            ("{}".to_owned(), "household_id: missing field"),
            (String::new(), "not JSON"),
            (more("") + "x", "not JSON: trailing characters"),
        ] {
            let error = format!("{:#}", solve_json(&text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_plan_has_no_zero_with_a_sign() {
        let zeros = SERIES.replace("[1]", "[-0.0]").replace("[0]", "[-0.0]");
        let zeros = zeros.replace("0.3", "-0.0").replace("0.1", "-0.0");
        let grid = r#","grid":{"import_limit_kw":-0.0,"export_limit_kw":-0.0}"#;
        for more in ["", grid, r#","pv_curtailable":true"#] {
            let plan = solve_json(&problem(&zeros, more)).unwrap();
            assert!(!plan.contains("-0.0"), "{plan}");
        }
    }
}
