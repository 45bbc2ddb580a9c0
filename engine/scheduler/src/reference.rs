//! The general method: mixed-integer programs. It solves every valid problem, and the dynamic program is tested against it.

use model::problem::Problem;
use model::schedule::{Metrics, PlannedSlot};

use crate::caps::Exclusions;
use crate::dispatch::dispatch;
use crate::linear::Unsolved;
use crate::milp::{self, Engine, Found};
use crate::score;
use crate::terms::Terms;

/// How far the cost of a plan may be above the cost that its search reported: as a share of it, and in typical prices.
const NOISE: f64 = 1e-6;
/// The share of that by which a plan may cost more because it moves the stores less.
const TIE: f64 = 0.1;

/// What solves programs, and how long each search may take, seconds of wall time.
pub(crate) type Means = (Engine, f64);

/// Returns the best plan that keeps every limit, or if there is none the best that breaks some.
pub(crate) fn solve(problem: &Problem, strict: &Terms, means: Means) -> Option<Candidate> {
    strict
        .starts_inside()
        .then(|| search(problem, strict, means))
        .flatten()
        .filter(|candidate| score::broken_limits(problem, &candidate.slots).is_empty())
        .or_else(|| search(problem, &strict.relax(problem), means))
}

/// A physical plan with what was proven about it.
pub(crate) struct Candidate {
    pub(crate) slots: Vec<PlannedSlot>,
    /// The objective without penalties.
    pub(crate) objective: f64,
    pub(crate) metrics: Metrics,
    /// Objective with the penalties of broken limits.
    pub(crate) cost: f64,
    /// No plan costs less than this.
    pub(crate) bound: f64,
}

/// Searches with few binaries. If the resulting plan costs more than the search reported, searches again with all.
fn search(problem: &Problem, terms: &Terms, means: Means) -> Option<Candidate> {
    let likely = Exclusions::where_they_pay(problem, terms);
    let first = attempt(problem, terms, &likely, means);
    if let Ok(Some((candidate, true))) = first {
        return Some(candidate);
    }
    if matches!(first, Err(Unsolved::Infeasible)) {
        return None;
    }
    let first = first.ok().flatten().map(|(candidate, _)| candidate);
    let second = attempt(problem, terms, &Exclusions::everywhere(terms), means)
        .ok()
        .flatten()
        .map(|(candidate, _)| candidate);
    match (first, second) {
        (Some(first), Some(second)) => {
            let bound = first.bound.max(second.bound);
            let keeps = score::broken_limits(problem, &first.slots).is_empty();
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

/// Runs one search and dispatches its decisions. The flag is true if the plan costs what the search reported.
fn attempt(
    problem: &Problem,
    terms: &Terms,
    exclusions: &Exclusions,
    means: Means,
) -> Result<Option<(Candidate, bool)>, Unsolved> {
    let searched = milp::search(problem, terms, exclusions, means)?;
    let noise = |cost: f64| NOISE * (terms.typical + cost.abs());
    let mut best: Option<(Candidate, bool)> = None;
    for found in &searched.found {
        let candidate = dispatched(problem, terms, found, searched.bound);
        if !candidate.cost.is_finite() {
            continue;
        }
        let keeps = candidate.cost <= found.cost + noise(found.cost)
            && (terms.is_relaxed() || score::broken_limits(problem, &candidate.slots).is_empty());
        let is_better = best.as_ref().is_none_or(|(before, kept)| {
            (keeps, *kept) == (true, false)
                || (keeps == *kept && candidate.cost <= before.cost + TIE * noise(before.cost))
        });
        if is_better {
            best = Some((candidate, keeps));
        }
    }
    Ok(best)
}

fn dispatched(problem: &Problem, terms: &Terms, found: &Found, bound: f64) -> Candidate {
    let slots = dispatch(problem, terms, &found.decisions, &found.shadow_prices);
    let (objective, metrics) = score::figures(problem, &slots);
    let cost = objective + score::penalty(problem, terms, &slots);
    Candidate {
        slots,
        objective,
        metrics,
        cost,
        bound,
    }
}
