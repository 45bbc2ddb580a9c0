//! `docs/explanation/scheduler.md` against the scheduler: the figures of its example are those of the plan.

use model::problem::Problem;
use model::schedule::{Plan, Status};
use scheduler::{Method, solve, verify};
use serde_json::Value;

use crate::support::{appliance, with};

const PAGE: &str = include_str!("../../../../docs/explanation/scheduler.md");
const EXAMPLE: &str = include_str!("../../../../docs/explanation/example.json");
/// What the page may be wrong by: it rounds to six digits.
const ROUNDED: f64 = 1e-6;
/// The appliance of the page, kW.
const PROFILE: [f64; 2] = [1.5, 1.5];

/// The example. Its fields are those of `POST /api/optimize`; only the start has another name and form there.
fn example() -> Problem {
    let mut body: Value = serde_json::from_str(EXAMPLE).expect("the example is JSON");
    assert_eq!(body["start"], "2025-06-03T12:00:00Z");
    body["start_ms"] = 1_748_952_000_000_i64.into();
    serde_json::from_value(body).expect("the example is a problem")
}

/// The columns of the page's figures under the line that begins with `head`.
fn rows(head: &str) -> Vec<Vec<f64>> {
    let lines = PAGE.lines().skip_while(|line| !line.starts_with(head));
    lines
        .skip(1)
        .map_while(|line| line.split_whitespace().map(|n| n.parse().ok()).collect())
        .collect()
}

#[track_caller]
fn same(stated: f64, found: f64) {
    let difference = (stated - found).abs();
    assert!(difference < ROUNDED, "{stated} instead of {found}");
}

fn solved(problem: &Problem, method: Method) -> Plan {
    let plan = solve(problem).expect("the example can be stated");
    assert_eq!(verify(problem, &plan), []);
    assert_eq!(plan.status, Status::Optimal);
    assert_eq!(plan.solver, method.as_str());
    assert_eq!(plan.gap, 0.0);
    plan
}

#[test]
fn the_plan_is_as_explained() {
    let plan = solved(&example(), Method::Dp);
    let objective = PAGE
        .lines()
        .find_map(|line| line.strip_prefix("objective "))
        .expect("the page states the objective");
    same(objective.parse().expect("a number"), plan.objective);
    let stated = rows("slot  soc_kwh");
    assert_eq!(stated.len(), plan.slots.len());
    for (row, slot) in stated.iter().zip(&plan.slots) {
        same(row[1], slot.soc_kwh);
        same(row[2], slot.shadow_price);
    }
}

#[test]
fn the_cut_is_as_explained() {
    let plan = solved(&example(), Method::Dp);
    let stated = rows("start  by the cut");
    assert_eq!(stated.len(), plan.slots.len() + 1 - PROFILE.len());
    for (start, row) in (0_u32..).zip(&stated) {
        let run = plan.slots.iter().skip(start as usize).zip(PROFILE);
        let added: f64 = run.map(|(slot, power)| slot.shadow_price * power).sum();
        same(row[1], plan.objective + added);
        let there = with(example(), |p| {
            p.appliances = vec![appliance("dishwasher", &PROFILE, start, start + 2)];
        });
        let truth = solved(&there, Method::BranchAndBound).objective;
        same(row[2], truth);
        assert!(row[1] <= truth + ROUNDED, "the cut is a bound");
    }
    let anywhere = with(example(), |p| {
        p.appliances = vec![appliance("dishwasher", &PROFILE, 0, 6)];
    });
    let best = stated
        .iter()
        .map(|row| row[2])
        .fold(f64::INFINITY, f64::min);
    same(best, solved(&anywhere, Method::BranchAndBound).objective);
}
