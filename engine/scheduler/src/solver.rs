//! Chooses how a problem is solved, and makes the plan of what was found. Keeps the working arrays.

use household::problem::Problem;
use household::schedule::{Metrics, Plan, Status};

use crate::dispatch::{self, Decisions, dispatch};
use crate::dynamic::{self, Dynamic};
use crate::general::Failed;
use crate::reference::{self, Candidate};
use crate::slot_cost::Frame;
use crate::starts::Starts;
use crate::terms::Terms;
use crate::{GAP_MAX, ProblemError, SEARCH_SECONDS_MAX, TOLERANCE, score, validate};

/// Choices of start slots solved at most for each second of a search: about what a core solves.
const LEAVES_PER_SECOND: f64 = 20_000.0;

/// How a plan was found, as in [`Plan::solver`] and in metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The dynamic program, every slot convex.
    Dp,
    /// The dynamic program over lower hulls of slots that are not convex.
    DpHull,
    /// The dynamic program for functions of any shape.
    DpGeneral,
    /// Branch and bound over start slots, with the dynamic program for the battery.
    BranchAndBound,
    /// The mixed-integer program.
    Milp,
}

impl Method {
    /// Its name in plans and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dp => "dp",
            Self::DpHull => "dp_hull",
            Self::DpGeneral => "dp_general",
            Self::BranchAndBound => "branch_and_bound",
            Self::Milp => "milp",
        }
    }
}

impl From<dynamic::Method> for Method {
    fn from(method: dynamic::Method) -> Self {
        match method {
            dynamic::Method::Convex => Self::Dp,
            dynamic::Method::Hull => Self::DpHull,
            dynamic::Method::General => Self::DpGeneral,
        }
    }
}

/// Solves one problem after the other and keeps its working arrays between them.
#[derive(Debug, Default)]
pub struct Solver {
    dynamic: Dynamic,
    starts: Starts,
}

/// A plan with its method.
struct Found {
    method: Method,
    candidate: Candidate,
}

impl Solver {
    /// As [`crate::solve`].
    ///
    /// # Errors
    /// When `problem` is not one that can be stated; see [`validate`].
    pub fn solve(&mut self, problem: &Problem) -> Result<Plan, ProblemError> {
        self.solve_within(problem, SEARCH_SECONDS_MAX)
    }

    /// As [`Solver::solve`], with `seconds` for each search. When they are over, the best plan so far counts, with its
    /// gap. Branch and bound counts its steps instead, so that it gives the same plan on every machine.
    ///
    /// # Errors
    /// When `problem` is not one that can be stated; see [`validate`].
    pub fn solve_within(&mut self, problem: &Problem, seconds: f64) -> Result<Plan, ProblemError> {
        validate(problem)?;
        let strict = Terms::strict(problem);
        let relaxed = strict.relax(problem);
        let found = self.fast(problem, &strict, &relaxed, seconds).or_else(|| {
            reference::solve(problem, &strict, &relaxed, seconds).map(|candidate| Found {
                method: Method::Milp,
                candidate,
            })
        });
        Ok(finish(problem, &strict, found))
    }

    /// By dynamic programming, where it holds the problem.
    fn fast(
        &mut self,
        problem: &Problem,
        strict: &Terms,
        relaxed: &Terms,
        seconds: f64,
    ) -> Option<Found> {
        if !is_held(problem) {
            return None;
        }
        let is_limited =
            problem.grid.import_limit_kw.is_some() || problem.grid.export_limit_kw.is_some();
        if problem.appliances.is_empty() {
            let kept = strict
                .starts_inside()
                .then(|| self.battery(problem, strict))
                .unwrap_or(Err(Failed::OutOfReach));
            return match kept {
                Err(Failed::OutOfReach) => self.battery(problem, relaxed).ok(),
                kept => kept.ok(),
            };
        }
        if is_limited {
            // Limits at a penalty leave every choice open; a plan that keeps them all is the best of those.
            let found = self.appliances(problem, relaxed, seconds).ok()?;
            return score::relaxations(problem, &found.candidate.slots)
                .is_empty()
                .then_some(found);
        }
        let kept = strict
            .starts_inside()
            .then(|| self.appliances(problem, strict, seconds))
            .unwrap_or(Err(Failed::OutOfReach));
        match kept {
            Err(Failed::OutOfReach) => self.appliances(problem, relaxed, seconds).ok(),
            kept => kept.ok(),
        }
    }

    fn battery(&mut self, problem: &Problem, terms: &Terms) -> Result<Found, Failed> {
        let (frame, vessel) = frame(problem, terms);
        let method = self
            .dynamic
            .solve(problem, &frame, &vessel, &problem.load_kw)?;
        let decisions = Decisions {
            starts: Vec::new(),
            contents: vec![self.dynamic.soc().to_vec()],
            still: 0.0,
            peak_kw: f64::INFINITY,
        };
        let prices = &self.dynamic.shadow_prices;
        let candidate = candidate(problem, terms, &decisions, prices, None);
        Ok(Found {
            method: method.into(),
            candidate,
        })
    }

    fn appliances(
        &mut self,
        problem: &Problem,
        terms: &Terms,
        seconds: f64,
    ) -> Result<Found, Failed> {
        let (frame, vessel) = frame(problem, terms);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count, cut to its range"
        )]
        let leaves_max = (seconds * LEAVES_PER_SECOND).clamp(1.0, 1e9) as usize;
        let dynamic = &mut self.dynamic;
        let searched = self
            .starts
            .search(problem, &frame, &vessel, dynamic, leaves_max)?;
        let decisions = Decisions {
            starts: self.starts.starts(problem).collect(),
            contents: vec![self.starts.soc().to_vec()],
            still: 0.0,
            peak_kw: f64::INFINITY,
        };
        let prices = self.starts.shadow_prices();
        let bound = (searched.bound < searched.cost).then_some(searched.bound);
        let candidate = candidate(problem, terms, &decisions, prices, bound);
        Ok(Found {
            method: Method::BranchAndBound,
            candidate,
        })
    }
}

/// Whether the dynamic program holds all that `problem` has.
fn is_held(problem: &Problem) -> bool {
    problem.evs.is_empty()
        && problem.heat_stores.is_empty()
        && problem.grid.peak_price_per_kw == 0.0
        && problem.stability.is_none()
}

fn frame(problem: &Problem, terms: &Terms) -> (Frame, crate::convex::Vessel) {
    let battery = problem.battery.as_ref();
    let (grid, soc) = if terms.is_relaxed() {
        (
            terms.grid_penalty(),
            terms.stores.first().map(|s| s.penalty),
        )
    } else {
        (f64::INFINITY, None)
    };
    let frame = Frame::new(problem, battery, terms.scale, grid);
    (frame, dynamic::vessel(battery, soc))
}

/// The slots that follow from `decisions`, optimal unless `bound` says otherwise.
fn candidate(
    problem: &Problem,
    terms: &Terms,
    decisions: &Decisions,
    prices: &[f64],
    bound: Option<f64>,
) -> Candidate {
    let mut slots = dispatch(problem, terms, decisions);
    for (slot, price) in slots.iter_mut().zip(prices) {
        slot.shadow_price = *price;
    }
    let cost = score::objective(problem, &slots) + score::penalty(problem, terms, &slots);
    Candidate {
        slots,
        cost,
        bound: bound.unwrap_or(cost),
    }
}

/// As [`crate::reference`].
pub(crate) fn reference(problem: &Problem, seconds: f64) -> Result<Plan, ProblemError> {
    validate(problem)?;
    let strict = Terms::strict(problem).exact();
    let relaxed = strict.relax(problem);
    let found = reference::solve(problem, &strict, &relaxed, seconds).map(|candidate| Found {
        method: Method::Milp,
        candidate,
    });
    Ok(finish(problem, &strict, found))
}

fn finish(problem: &Problem, strict: &Terms, found: Option<Found>) -> Plan {
    let baseline = score::metrics(problem, &dispatch::baseline(problem, strict));
    match found {
        Some(found) => answer(problem, found, baseline),
        None => unsolved(baseline),
    }
}

fn answer(problem: &Problem, found: Found, baseline: Metrics) -> Plan {
    let (method, candidate) = (found.method, found.candidate);
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
        solver: method.as_str().to_owned(),
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
        solver: Method::Milp.as_str().to_owned(),
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
