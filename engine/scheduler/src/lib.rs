//! The household scheduler: one [`Problem`] in, one [`Plan`] out, by mixed-integer linear programming (HiGHS
//! through `good_lp`). Nothing here reads a clock, does IO, or draws a random number.
//!
//! # The model
//! Slots have the length `dt` in hours. Powers are kW at the AC side and 0 or more; energies are kWh; prices are
//! currency per kWh and may be negative. For each slot:
//!
//! ```text
//! load + running appliances + charge + export = pv + discharge + import
//! soc = soc of the slot before + charge_efficiency*charge*dt - discharge*dt/discharge_efficiency
//! min_soc <= soc <= max_soc,  charge <= charge_kw,  discharge <= discharge_kw
//! import <= import_limit,  export <= export_limit
//! charge = 0 or discharge = 0;  import = 0 or export = 0
//! pv is what is available, or anything from 0 to that where it may be curtailed
//! ```
//!
//! `soc` is the state at the end of the slot; the last one is at least `end_soc_min`. An appliance runs exactly
//! once, without a break, inside its window. Minimised is
//!
//! ```text
//! sum of dt*(w_cost*(buy*import - sell*export) + w_autarky*import - w_revenue*sell*export)
//!   + wear*|change of soc|   - end_value*final soc
//! ```
//!
//! # How it is solved
//! The exclusions "charge or discharge" and "import or export" need binaries only where burning energy, or buying
//! to sell at once, would pay. The first search has binaries for those slots only, and for the start slots of
//! appliances. What it decides (start slots and SoC) is then dispatched by plain arithmetic, which cannot break
//! an exclusion. The search was over a larger set than the true one, so where the dispatched plan keeps every
//! limit at the cost the search found, it is optimal; elsewhere a second search has every binary.
//! Among plans of equal cost the one that moves the battery least is taken, by a charge of a ten-millionth of the
//! largest price per kWh moved, which is in no reported figure.
//!
//! # Problems that cannot be held
//! Where no plan keeps every limit (an import limit below the load, a SoC that starts outside its bounds), limits
//! are softened in this order of price: the end SoC and the SoC bounds, then the grid limits. The plan is then
//! [`Status::Relaxed`] and names each limit that is broken, by its largest amount. SoC bounds never move beyond
//! where the battery starts.
//!
//! # Source
//! The mixed-integer formulation with big-M exclusions is the usual one for home energy management, as in EMHASS
//! and the evcc optimizer. The exactness of the relaxation is the argument above, and every plan is checked by it.

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

use household::problem::Problem;
use household::schedule::Plan;

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

/// Solves `problem`. The same problem gives the same plan, unless a search ran out of time.
///
/// A shadow price is the dual of the slot's energy balance with appliances and, where binaries were needed, the
/// direction of flows held: what one more kWh of load in the slot costs at the margin. It is one point of an
/// interval where several are right (a slot that neither imports nor exports). In a relaxed plan it holds the
/// penalties of broken limits too.
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

/// As [`solve`], by the mixed-integer program alone, without a gap and without the tie-break: the oracle that tests and
/// benchmarks compare with. `seconds` of wall time go to each of four searches at most.
///
/// # Errors
/// When `problem` is not one that can be stated; see [`validate`].
pub fn reference(problem: &Problem, seconds: f64) -> Result<Plan, ProblemError> {
    solver::reference(problem, seconds)
}
