//! The general path: mixed-integer programs through HiGHS. It solves whatever can be stated, and is what the dynamic
//! program is tested against.

use model::problem::Problem;
use model::schedule::{Metrics, PlannedSlot};

use crate::dispatch::dispatch;
use crate::milp::{self, Exclusions, Found};
use crate::score;
use crate::terms::Terms;

/// The best plan that keeps every limit; where there is none, the best that breaks some.
pub(crate) fn solve(problem: &Problem, strict: &Terms, seconds: f64) -> Option<Candidate> {
    strict
        .starts_inside()
        .then(|| search(problem, strict, seconds))
        .flatten()
        .filter(|candidate| score::relaxations(problem, &candidate.slots).is_empty())
        .or_else(|| search(problem, &strict.relax(problem), seconds))
}

/// A physical plan with what was proven about it.
pub(crate) struct Candidate {
    pub(crate) slots: Vec<PlannedSlot>,
    /// Without penalties.
    pub(crate) objective: f64,
    pub(crate) metrics: Metrics,
    /// Objective with the penalties of broken limits.
    pub(crate) cost: f64,
    /// No plan costs less than this.
    pub(crate) bound: f64,
}

/// Searches with few binaries, then, if the plan that follows is not what the search promised, with all.
fn search(problem: &Problem, terms: &Terms, seconds: f64) -> Option<Candidate> {
    let likely = Exclusions::where_they_pay(problem, terms);
    let first = attempt(problem, terms, &likely, seconds);
    if let Ok(Some((candidate, true))) = first {
        return Some(candidate);
    }
    if matches!(first, Err(milp::Unsolved::Infeasible)) {
        return None;
    }
    let first = first.ok().flatten().map(|(candidate, _)| candidate);
    let second = attempt(problem, terms, &Exclusions::everywhere(terms), seconds)
        .ok()
        .flatten()
        .map(|(candidate, _)| candidate);
    match (first, second) {
        (Some(first), Some(second)) => {
            let bound = first.bound.max(second.bound);
            let keeps = score::relaxations(problem, &first.slots).is_empty();
            let best = if keeps && first.cost < second.cost {
                first
            } else {
                second
            };
            Some(Candidate { bound, ..best })
        }
        (first, second) => second.or(first),
    }
}

/// One search, dispatched; true where the plan keeps what the search promised.
fn attempt(
    problem: &Problem,
    terms: &Terms,
    exclusions: &Exclusions,
    seconds: f64,
) -> Result<Option<(Candidate, bool)>, milp::Unsolved> {
    let Found {
        decisions,
        cost: promised,
        bound,
        shadow_prices,
    } = milp::search(problem, terms, exclusions, seconds)?;
    let slots = dispatch(problem, terms, &decisions, &shadow_prices);
    let (objective, metrics) = score::figures(problem, &slots);
    let cost = objective + score::penalty(problem, terms, &slots);
    if !cost.is_finite() {
        return Ok(None);
    }
    let keeps = cost <= promised + 1e-6 * (terms.scale + promised.abs())
        && (terms.is_relaxed() || score::relaxations(problem, &slots).is_empty());
    Ok(Some((
        Candidate {
            slots,
            objective,
            metrics,
            cost,
            bound,
        },
        keeps,
    )))
}
