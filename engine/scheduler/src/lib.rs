//! The household scheduler: one [`Problem`] in, one [`Plan`] out, the cheapest there is. Nothing here does IO or draws a
//! random number; the only clock is the time limit of a mixed-integer program.
//!
//! `docs/explanation/scheduler.md` has the model, the recursion, the proofs and the sources. In short: powers are kW at
//! the AC side and 0 or more, energies kWh, prices currency per kWh and may be negative. In each slot of `dt` hours
//!
//! ```text
//! load + running appliances + charge + export = pv + discharge + import
//! ```
//!
//! where charge and discharge are those of the battery, EVs and heaters together, and no store or meter runs both ways.
//! Minimised is
//!
//! ```text
//! sum of dt*(w_cost*(buy*import - sell*export) + w_autarky*import - w_revenue*sell*export)
//!   + peak_price*max(0, highest import - peak_kw)
//!   + wear*|change of SoC|  - end_value*what is left   for each store
//!   + what departing from the plan before costs
//! ```
//!
//! # The way of a problem
//! `validate.rs` refuses what makes no sense. `solver.rs` picks the method. With one store or none, `slot_cost.rs` says
//! what each slot costs as a function of the store's move (`vessel.rs`), and `dynamic.rs` finds the best moves:
//! `convex.rs` where slots are convex, `general.rs` elsewhere. `starts.rs` places appliances by branch and bound over
//! that. What these do not hold goes to the mixed-integer program (`reference.rs`, `milp.rs`). microlp solves it; where
//! that proves no plan, HiGHS has a turn if the feature `highs` is on. What was decided, start slots and contents,
//! becomes a plan by plain arithmetic in `dispatch.rs`, its figures come from `score.rs`, and `verify.rs` checks any plan
//! without a solver.
//!
//! # Problems that cannot be held
//! Where no plan keeps every limit, limits give at a penalty, in this order of weight: the comfort band of heat stores,
//! SoC bounds and end SoC of the battery, goals of EVs, grid limits. The plan is then [`Status::Relaxed`] and names each
//! limit that is broken, by its largest amount. There is always a plan.
//!
//! [`Status::Relaxed`]: model::schedule::Status::Relaxed
//!
//! # Ties
//! Of plans that cost the same the one counts that moves its store least: each unit moved is charged a billionth of a
//! typical price (a hundred-millionth in the mixed-integer program), which is in no reported figure and in no gap.

#![warn(missing_docs)]

mod appliances;
#[cfg(feature = "highs")]
mod by_highs;
mod by_microlp;
mod caps;
mod convex;
mod dispatch;
mod dynamic;
mod general;
mod linear;
mod milp;
mod numbers;
mod reference;
mod score;
mod slot_cost;
mod solver;
mod starts;
mod store;
mod terms;
mod validate;
mod verify;
mod vessel;

use model::problem::Problem;
use model::schedule::Plan;

pub use crate::numbers::{GAP_MAX, SEARCH_SECONDS_MAX, TOLERANCE};
pub use crate::solver::{Method, Milp, Solver};
use crate::terms::Terms;
pub use crate::validate::{
    COP_MAX, COP_MIN, KWH_PER_K_MIN, ProblemError, TEMPERATURE_C_MAX, validate,
};
pub use crate::verify::{Violation, verify};

/// Solves `problem`. The same problem gives the same plan, unless a search ran out of time.
///
/// A shadow price is what one more kWh of load in the slot costs at the margin, with appliances and, where the home is
/// not convex, the direction of flows held. It is one point of an interval where several are right (a slot that neither
/// imports nor exports). In a relaxed plan it holds the penalties of broken limits too.
///
/// # Errors
/// When `problem` is not one that can be stated; see [`validate`].
pub fn solve(problem: &Problem) -> Result<Plan, ProblemError> {
    Solver::default().solve(problem)
}

/// What `plan` costs with the penalties of the limits it breaks: what a relaxed plan has least of.
#[must_use]
pub fn penalised(problem: &Problem, plan: &Plan) -> f64 {
    let terms = Terms::strict(problem).relax(problem);
    plan.objective + score::penalty(problem, &terms, &plan.slots)
}

/// What [`by_milp`] found, currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ByMilp {
    /// What its plan costs, with the penalties of the limits it breaks.
    pub cost: f64,
    /// No plan costs less.
    pub bound: f64,
}

/// Solves `problem` by the mixed-integer program alone, with the gap of [`solve`] and without its tie-break: what the
/// dynamic program saves the wait for. `None` where nothing was found in time.
///
/// # Errors
/// When `problem` is not one that can be stated; see [`validate`].
pub fn by_milp(problem: &Problem, milp: Milp) -> Result<Option<ByMilp>, ProblemError> {
    validate(problem)?;
    let found = milp.alone(problem, SEARCH_SECONDS_MAX);
    Ok(found.map(|candidate| ByMilp {
        cost: candidate.cost,
        bound: candidate.bound,
    }))
}

/// As [`solve`], by the mixed-integer program alone, without a gap and without the tie-break: the oracle that tests and
/// benchmarks compare with. `seconds` of wall time go to each search; there are six at most.
///
/// # Errors
/// When `problem` is not one that can be stated; see [`validate`].
pub fn reference(problem: &Problem, milp: Milp, seconds: f64) -> Result<Plan, ProblemError> {
    solver::reference(problem, milp, seconds)
}
