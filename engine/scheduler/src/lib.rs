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

mod dispatch;
mod milp;
mod score;
mod terms;
mod validate;
mod verify;

use household::problem::Problem;
use household::schedule::{Metrics, Plan, PlannedSlot, Status};

use crate::dispatch::dispatch;
use crate::milp::{Exclusions, Found};
use crate::terms::Terms;
pub use crate::validate::{
    APPLIANCES_MAX, ENERGY_KWH_MAX, POWER_KW_MAX, PRICE_MAX, ProblemError, SLOTS_MAX, WEIGHT_MAX,
    validate,
};
pub use crate::verify::{Violation, verify};

/// The name of the method, as in [`Plan::solver`] and in metric labels.
pub const NAME: &str = "milp";

/// Longest time that [`solve`] gives one search, in seconds of wall time.
pub const SEARCH_SECONDS_MAX: f64 = 10.0;

/// The gap of a plan of which nothing is proven.
pub const GAP_MAX: f64 = 1e6;

/// What counts as zero in a balance or a bound: kW or kWh.
pub const TOLERANCE: f64 = 1e-6;

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
    solve_within(problem, SEARCH_SECONDS_MAX)
}

/// As [`solve`], with `seconds` of wall time for each search. When they are over, the best plan so far counts, with
/// its gap. A problem takes at most four searches, and nearly always one.
///
/// # Errors
/// When `problem` is not one that can be stated; see [`validate`].
pub fn solve_within(problem: &Problem, seconds: f64) -> Result<Plan, ProblemError> {
    validate(problem)?;
    let strict = Terms::strict(problem);
    let relaxed = Terms::relaxed(problem);
    let starts_inside = problem.battery.as_ref().is_none_or(|battery| {
        battery.soc_kwh >= battery.min_soc_kwh - TOLERANCE
            && battery.soc_kwh <= battery.max_soc_kwh + TOLERANCE
    });
    let found = starts_inside
        .then(|| search(problem, &strict, seconds))
        .flatten()
        .filter(|candidate| score::relaxations(problem, &candidate.slots).is_empty())
        .or_else(|| search(problem, &relaxed, seconds));
    let baseline = score::metrics(problem, &dispatch::baseline(problem, &strict));
    Ok(match found {
        Some(candidate) => plan(problem, candidate, baseline),
        None => unsolved(baseline),
    })
}

/// A physical plan with what was proven about it.
struct Candidate {
    slots: Vec<PlannedSlot>,
    /// Objective with the penalties of broken limits.
    cost: f64,
    /// No plan costs less than this.
    bound: f64,
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
    let second = attempt(
        problem,
        terms,
        &Exclusions::everywhere(problem, terms),
        seconds,
    )
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
    let mut slots = dispatch(problem, terms, &decisions);
    for (slot, price) in slots.iter_mut().zip(&shadow_prices) {
        slot.shadow_price = *price;
    }
    let penalty = score::penalty(problem, terms, &slots);
    let cost = score::objective(problem, &slots) + penalty;
    if !cost.is_finite() {
        return Ok(None);
    }
    let keeps = cost <= promised + 1e-6 * (terms.scale + promised.abs())
        && (terms.is_relaxed() || score::relaxations(problem, &slots).is_empty());
    Ok(Some((Candidate { slots, cost, bound }, keeps)))
}

fn plan(problem: &Problem, candidate: Candidate, baseline: Metrics) -> Plan {
    let relaxed = score::relaxations(problem, &candidate.slots);
    let missing = candidate.cost - candidate.bound;
    // Solver tolerances and the tie-break leave a trace below this, which is no gap.
    let gap = if missing <= 1e-6 * (1.0 + candidate.cost.abs()) {
        0.0
    } else {
        (missing / candidate.cost.abs().max(TOLERANCE)).min(GAP_MAX)
    };
    Plan {
        status: if relaxed.is_empty() {
            Status::Optimal
        } else {
            Status::Relaxed
        },
        relaxed,
        objective: score::objective(problem, &candidate.slots),
        solver: NAME.to_owned(),
        gap,
        metrics: score::metrics(problem, &candidate.slots),
        baseline,
        slots: candidate.slots,
    }
}

/// The answer where every search failed.
fn unsolved(baseline: Metrics) -> Plan {
    Plan {
        status: Status::Infeasible,
        relaxed: Vec::new(),
        objective: 0.0,
        solver: NAME.to_owned(),
        gap: 0.0,
        metrics: Metrics {
            cost: 0.0,
            grid_import_kwh: 0.0,
            grid_export_kwh: 0.0,
            autarky: 0.0,
            self_consumption: 0.0,
        },
        baseline,
        slots: Vec::new(),
    }
}
