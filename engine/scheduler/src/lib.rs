//! The household scheduler: one [`Problem`] in, the cheapest [`Plan`] out. Nothing here does IO or draws a random number;
//! the only clock is the time limit of a mixed-integer program.
//!
//! `docs/explanation/scheduler.md` has the model, the recursion, the proofs and the sources. In short: powers are kW at
//! the AC side and 0 or more, energies kWh, prices currency per kWh and may be negative. In each slot of `dt` hours
//!
//! ```text
//! load + running appliances + charge + export = pv + discharge + import
//! ```
//!
//! where charge and discharge are sums over battery, EVs and heaters. No store charges and discharges in the same slot, and
//! the meter never imports and exports in the same slot. The objective to minimise is
//!
//! ```text
//! sum of dt*(w_cost*(buy*import - sell*export) + w_autarky*import - w_revenue*sell*export)
//!   + peak_price*max(0, highest import - peak_kw)
//!   + wear*|change of SoC|  - end_value*energy left   for each store
//!   + cost of departing from the previous plan
//! ```
//!
//! # How a problem is solved
//! `validate.rs` refuses invalid problems. `solver.rs` chooses the method. With at most one store, `slot_cost.rs` computes
//! the cost of each slot as a function of the store's move (`vessel.rs`), and `dynamic.rs` finds the best moves: with
//! `convex.rs` if all slots are convex, otherwise with `general.rs`. `starts.rs` places appliances by branch and bound on
//! top of that. Stores beside each other are planned in turns, and `interior.rs` finds the prices that prove the plan
//! (`beside.rs`). All other problems go to the mixed-integer program (`reference.rs`, `milp.rs`). microlp solves it; if
//! microlp cannot prove a plan and the feature `highs` is on, HiGHS tries. The decisions are start slots and contents of
//! stores: `dispatch.rs` turns them into a plan by plain arithmetic, `score.rs` computes its figures, and `verify.rs` checks
//! any plan without a solver.
//!
//! # Problems without a feasible plan
//! If no plan keeps every limit, limits may be broken at a penalty. From the lightest penalty to the heaviest these are:
//! the comfort band of heat stores, SoC bounds and end SoC of the battery, goals of EVs, grid limits. The plan is then
//! [`Status::Relaxed`] and names each broken limit with the largest amount by which it is broken. There is always a plan.
//!
//! [`Status::Relaxed`]: model::schedule::Status::Relaxed
//!
//! # Ties
//! Ties go to the plan that moves the store least: each unit moved costs a billionth of a typical price (a
//! hundred-millionth in the mixed-integer program). Reported figures and gaps do not contain this cost. Of plans that move as
//! much, PV is stored and load covered as early as is free, and energy is bought and sold as late.
//!
//! # Policies
//! Each slot comes with its policy (`policies.rs`): what the battery does whatever load and sun turn out to be.

#![warn(missing_docs)]

mod appliances;
mod beside;
#[cfg(feature = "highs")]
mod by_highs;
mod by_microlp;
mod caps;
mod chain;
mod convex;
mod course;
mod dispatch;
mod dynamic;
mod general;
mod interior;
mod ladder;
mod linear;
mod mean;
mod meter;
mod milp;
mod numbers;
mod outlook;
mod policies;
mod pricing;
mod reference;
mod respond;
mod score;
mod slot_cost;
mod solver;
mod starts;
mod store;
mod terms;
mod validate;
mod value;
mod verify;
mod vessel;

use model::problem::Problem;
use model::schedule::Plan;

pub use crate::numbers::{GAP_MAX, SEARCH_SECONDS_MAX, TOLERANCE};
pub use crate::respond::Response;
pub use crate::solver::{Method, Milp, Solver, plan_of};
use crate::terms::Terms;
pub use crate::validate::{
    COP_MAX, COP_MIN, KWH_PER_K_MIN, ProblemError, TEMPERATURE_C_MAX, validate,
};
pub use crate::verify::{Violation, verify};

/// Solves `problem`. The same problem gives the same plan, unless a search ran out of time.
///
/// The shadow price of a slot is the cost of one more kWh of load in it, with the start slots of appliances fixed and, if
/// the home is not convex, the directions of flows as well. If a whole interval of prices is correct (in a slot that
/// neither imports nor exports), it is one of them. In a relaxed plan it includes the penalties of broken limits.
///
/// # Errors
/// If `problem` is invalid; see [`validate`].
pub fn solve(problem: &Problem) -> Result<Plan, ProblemError> {
    Solver::default().solve(problem)
}

/// Returns the cost of `plan`, currency, including the penalties of the limits it breaks. A relaxed plan minimises this.
#[must_use]
pub fn penalised(problem: &Problem, plan: &Plan) -> f64 {
    let terms = Terms::strict(problem).relax(problem);
    plan.objective + score::penalty(problem, &terms, &plan.slots)
}

/// The result of [`by_milp`], currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ByMilp {
    /// Cost of its plan, including the penalties of the limits it breaks.
    pub cost: f64,
    /// No plan costs less.
    pub bound: f64,
}

/// Solves `problem` by the mixed-integer program alone, with the gap of [`solve`] and without its tie-break, to compare its
/// speed with the dynamic program. Returns `None` if nothing was found in time.
///
/// # Errors
/// If `problem` is invalid; see [`validate`].
pub fn by_milp(problem: &Problem, milp: Milp) -> Result<Option<ByMilp>, ProblemError> {
    validate(problem)?;
    let found = milp.alone(problem, SEARCH_SECONDS_MAX);
    Ok(found.map(|candidate| ByMilp {
        cost: candidate.cost,
        bound: candidate.bound,
    }))
}

/// Solves `problem` by the mixed-integer program alone, without a gap and without the tie-break: the oracle of tests and
/// benchmarks. Each search may take `seconds` of wall time; there are at most six.
///
/// # Errors
/// If `problem` is invalid; see [`validate`].
pub fn reference(problem: &Problem, milp: Milp, seconds: f64) -> Result<Plan, ProblemError> {
    solver::reference(problem, milp, seconds)
}
