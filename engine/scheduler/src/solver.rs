//! Chooses how a problem is solved, and makes the plan of what was found. Keeps the working arrays.

use model::problem::Problem;
use model::schedule::{Metrics, Plan, Status};

use crate::dispatch::{self, Decisions, dispatch};
use crate::dynamic::{self, Dynamic, Home};
use crate::general::Failed;
use crate::reference::{self, Candidate};
use crate::starts::Starts;
use crate::terms::Terms;
use crate::vessel::Vessel;
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
    /// No search: battery idle, everything else as early as it may. The answer where all searches ran out of time.
    LeftAlone,
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
            Self::LeftAlone => "left_alone",
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
    vessel: Vessel,
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
        let seconds = problem
            .time_limit_ms
            .map_or(seconds, |limit| seconds.min(f64::from(limit) / 1_000.0));
        let strict = Terms::strict(problem);
        let found = self.fast(problem, &strict, seconds).or_else(|| {
            reference::solve(problem, &strict, seconds).map(|candidate| Found {
                method: Method::Milp,
                candidate,
            })
        });
        Ok(finish(problem, &strict, found))
    }

    /// By dynamic programming, where it holds the problem.
    fn fast(&mut self, problem: &Problem, strict: &Terms, seconds: f64) -> Option<Found> {
        if strict.stores.len() > 1 {
            return None;
        }
        let grid = problem.grid;
        let is_limited = grid.import_limit_kw.is_some() || grid.export_limit_kw.is_some();
        if is_limited && !problem.appliances.is_empty() {
            // Limits at a penalty leave every choice open; a plan that keeps them all is the best of those.
            let found = self.search(problem, &strict.relax(problem), seconds).ok()?;
            return score::relaxations(problem, &found.candidate.slots)
                .is_empty()
                .then_some(found);
        }
        let kept = if strict.starts_inside() {
            self.search(problem, strict, seconds)
        } else {
            Err(Failed::OutOfReach)
        };
        match kept {
            Err(Failed::OutOfReach) => self.search(problem, &strict.relax(problem), seconds).ok(),
            kept => kept.ok(),
        }
    }

    fn search(&mut self, problem: &Problem, terms: &Terms, seconds: f64) -> Result<Found, Failed> {
        if problem.appliances.is_empty() {
            self.one_store(problem, terms)
        } else {
            self.appliances(problem, terms, seconds)
        }
    }

    fn one_store(&mut self, problem: &Problem, terms: &Terms) -> Result<Found, Failed> {
        let home = Home::of(problem, terms, &mut self.vessel);
        let method = self.dynamic.solve(&home, &problem.load_kw)?;
        let decisions = Decisions {
            starts: Vec::new(),
            contents: vec![self.dynamic.contents().to_vec()],
            still: 0.0,
            peak_kw: self.dynamic.peak_kw(),
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
        let home = Home::of(problem, terms, &mut self.vessel);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count, cut to its range"
        )]
        let leaves_max = (seconds * LEAVES_PER_SECOND).clamp(1.0, 1e9) as usize;
        let searched = self.starts.search(&home, &mut self.dynamic, leaves_max)?;
        let decisions = Decisions {
            starts: self.starts.starts(problem).collect(),
            contents: vec![self.starts.contents().to_vec()],
            still: 0.0,
            peak_kw: self.starts.peak_kw(),
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

/// The slots that follow from `decisions`, optimal unless `bound` says otherwise.
fn candidate(
    problem: &Problem,
    terms: &Terms,
    decisions: &Decisions,
    prices: &[f64],
    bound: Option<f64>,
) -> Candidate {
    let slots = dispatch(problem, terms, decisions, prices);
    let (objective, metrics) = score::figures(problem, &slots);
    let penalty = if terms.is_relaxed() {
        score::penalty(problem, terms, &slots)
    } else {
        0.0
    };
    let cost = objective + penalty;
    Candidate {
        slots,
        objective,
        metrics,
        cost,
        bound: bound.unwrap_or(cost),
    }
}

/// As [`crate::reference`].
pub(crate) fn reference(problem: &Problem, seconds: f64) -> Result<Plan, ProblemError> {
    validate(problem)?;
    let strict = Terms::strict(problem).exact();
    let found = reference::solve(problem, &strict, seconds).map(|candidate| Found {
        method: Method::Milp,
        candidate,
    });
    Ok(finish(problem, &strict, found))
}

fn finish(problem: &Problem, strict: &Terms, found: Option<Found>) -> Plan {
    let baseline = dispatch::baseline(problem, strict);
    let found = found.unwrap_or_else(|| left_alone(problem, &strict.relax(problem)));
    answer(problem, found, baseline)
}

/// What there is to say where every search failed or ran out of time: a plan of which nothing is proven.
fn left_alone(problem: &Problem, terms: &Terms) -> Found {
    let decisions = dispatch::left_alone(problem, terms);
    let bound = Some(f64::NEG_INFINITY);
    Found {
        method: Method::LeftAlone,
        candidate: candidate(problem, terms, &decisions, &[], bound),
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
        objective: candidate.objective,
        solver: method.as_str().to_owned(),
        gap,
        metrics: candidate.metrics,
        baseline,
        slots: candidate.slots,
    }
}
