//! `hearth solve`: solves one problem without any service.

use std::time::Instant;

use anyhow::{Context, Result};
use api::body::{OptimizeBody, PlanBody};

/// Solves the problem in `text`, JSON as in `POST /api/optimize` with every series given, and returns the plan as JSON.
pub fn solve_json(text: &str) -> Result<String> {
    let body: OptimizeBody = serde_json::from_str(text).context("read the problem")?;
    let problem = body.into_problem(None)?;
    let begun = Instant::now();
    let plan = scheduler::solve(&problem)?;
    let solve_us = i64::try_from(begun.elapsed().as_micros()).expect("a solve's time fits");
    let body = PlanBody::of(&plan, problem.start_ms, problem.slot_minutes, solve_us);
    let mut json = serde_json::to_string_pretty(&body).context("write the plan")?;
    json.push('\n');
    Ok(json)
}
