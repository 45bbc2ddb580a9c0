//! The household scheduler: one [`Problem`] in, one [`Plan`] out, the cheapest there is. Nothing here does IO or draws a
//! random number; the only clock is the time limit of HiGHS.
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
//! that. What these do not hold goes to the mixed-integer program (`reference.rs`, `milp.rs`). What was decided, start
//! slots and contents, becomes a plan by plain arithmetic in `dispatch.rs`, its figures come from `score.rs`, and
//! `verify.rs` checks any plan without a solver.
//!
//! # Problems that cannot be held
//! Where no plan keeps every limit, limits give at a penalty, in this order of weight: the comfort band of heat stores,
//! SoC bounds and end SoC of the battery, goals of EVs, grid limits. The plan is then [`Status::Relaxed`] and names each
//! limit that is broken, by its largest amount. There is always a plan.
//!
//! [`Status::Relaxed`]: model::schedule::Status::Relaxed
//!
//! # Ties
//! Of plans that cost the same the one counts that moves its store least: each unit moved is charged a billionth of the
//! largest price (a ten-millionth in the mixed-integer program), which is in no reported figure.

mod appliances;
mod convex;
mod dispatch;
mod dynamic;
mod general;
mod milp;
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

pub use crate::solver::{Method, Solver};
use crate::terms::Terms;
pub use crate::validate::{
    APPLIANCES_MAX, ENERGY_KWH_MAX, POWER_KW_MAX, PRICE_MAX, ProblemError, SLOTS_MAX, STORES_MAX,
    TEMPERATURE_C_MAX, WEIGHT_MAX, validate,
};
pub use crate::verify::{Violation, verify};

/// Longest time that [`solve`] gives one search, in seconds of wall time.
pub const SEARCH_SECONDS_MAX: f64 = 10.0;

/// The gap of a plan of which nothing is proven.
pub const GAP_MAX: f64 = 1e6;

/// What counts as zero in a balance or a bound: kW, kWh or degrees, relative to the bound where that is above 1.
pub const TOLERANCE: f64 = 1e-9;

/// By how much a content may miss a bound before that counts as out of reach, kWh.
pub(crate) const REACH_KWH: f64 = 1e-9;

/// The larger of two numbers that are none of them NaN. One instruction, where `f64::max`, which looks for NaN, is four.
pub(crate) const fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The smaller one, likewise.
pub(crate) const fn smaller(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

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

/// Solves `problem` by the mixed-integer program alone, with the gap and the tie-break of [`solve`]: what the dynamic
/// program saves the wait for. `None` where nothing was found in time.
///
/// # Errors
/// When `problem` is not one that can be stated; see [`validate`].
pub fn by_milp(problem: &Problem) -> Result<Option<ByMilp>, ProblemError> {
    validate(problem)?;
    let found = reference::solve(problem, &Terms::strict(problem), SEARCH_SECONDS_MAX);
    Ok(found.map(|candidate| ByMilp {
        cost: candidate.cost,
        bound: candidate.bound,
    }))
}

/// As [`solve`], by the mixed-integer program alone, without a gap and without the tie-break: the oracle that tests and
/// benchmarks compare with. `seconds` of wall time go to each of four searches at most.
///
/// # Errors
/// When `problem` is not one that can be stated; see [`validate`].
pub fn reference(problem: &Problem, seconds: f64) -> Result<Plan, ProblemError> {
    solver::reference(problem, seconds)
}
