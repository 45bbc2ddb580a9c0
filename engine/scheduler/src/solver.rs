//! Chooses how a problem is solved, and makes the plan of what was found. Keeps the working arrays.

use model::problem::Problem;
use model::schedule::{Metrics, Plan, Status};

#[cfg(feature = "highs")]
use crate::by_highs;
use crate::by_microlp;
use crate::dispatch::{self, Decisions, dispatch};
use crate::dynamic::{self, Dynamic, Home};
use crate::general::Failed;
use crate::milp::Engine;
use crate::numbers::{GAP_MAX, SEARCH_SECONDS_MAX, TOLERANCE};
use crate::reference::{self, Candidate};
use crate::score;
use crate::starts::Starts;
use crate::terms::Terms;
use crate::validate::{ProblemError, validate};
use crate::verify::verify;
use crate::vessel::Vessel;

/// Choices of start slots solved at most for each second of a search: about what a core solves.
const LEAVES_PER_SECOND: f64 = 20_000.0;

/// Differences below this are no gap: as a share of the cost, and in typical prices.
const GAP_NOISE: f64 = 1e-6;

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

/// What solves mixed-integer programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milp {
    /// microlp, in Rust.
    Microlp,
    /// HiGHS, in C++; with the feature `highs`.
    #[cfg(feature = "highs")]
    Highs,
}

impl Milp {
    /// Every one that is built in, in the order of their turns.
    pub const ALL: &[Self] = &[
        Self::Microlp,
        #[cfg(feature = "highs")]
        Self::Highs,
    ];

    fn engine(self) -> Engine {
        match self {
            Self::Microlp => by_microlp::solve,
            #[cfg(feature = "highs")]
            Self::Highs => by_highs::solve,
        }
    }

    /// As [`crate::by_milp`].
    pub(crate) fn alone(self, problem: &Problem, seconds: f64) -> Option<Candidate> {
        let terms = Terms::strict(problem).untied();
        reference::solve(problem, &terms, (self.engine(), seconds))
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
        if let Some(found) = self.fast(problem, &strict, seconds) {
            return Ok(finish(problem, &strict, found));
        }
        let plan = by_program(problem, &strict, seconds);
        Ok(plan.unwrap_or_else(|| left_alone(problem, &strict)))
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

/// The best plan that the mixed-integer program gives. Each solver has its turn until one proves its plan; a plan that
/// does not stand up to [`verify`] is none.
fn by_program(problem: &Problem, strict: &Terms, seconds: f64) -> Option<Plan> {
    let mut best: Option<(f64, Plan)> = None;
    for milp in Milp::ALL {
        let Some(candidate) = reference::solve(problem, strict, (milp.engine(), seconds)) else {
            continue;
        };
        let cost = candidate.cost;
        let plan = finish(problem, strict, by_milp(candidate));
        let noise = GAP_NOISE * (strict.typical + cost.abs());
        let is_better = best.as_ref().is_none_or(|(least, before)| {
            cost < least - noise || (cost <= least + noise && plan.gap < before.gap)
        });
        if is_better && verify(problem, &plan).is_empty() {
            let is_proven = plan.gap == 0.0;
            best = Some((cost, plan));
            if is_proven {
                break;
            }
        }
    }
    best.map(|(_, plan)| plan)
}

fn by_milp(candidate: Candidate) -> Found {
    Found {
        method: Method::Milp,
        candidate,
    }
}

/// As [`crate::reference`].
pub(crate) fn reference(problem: &Problem, milp: Milp, seconds: f64) -> Result<Plan, ProblemError> {
    validate(problem)?;
    let strict = Terms::strict(problem).exact();
    let found = reference::solve(problem, &strict, (milp.engine(), seconds));
    Ok(match found {
        Some(candidate) => finish(problem, &strict, by_milp(candidate)),
        None => left_alone(problem, &strict),
    })
}

fn finish(problem: &Problem, strict: &Terms, found: Found) -> Plan {
    answer(problem, strict, found, dispatch::baseline(problem, strict))
}

/// What there is to say where every search failed or ran out of time: a plan of which nothing is proven.
fn left_alone(problem: &Problem, strict: &Terms) -> Plan {
    let terms = strict.relax(problem);
    let decisions = dispatch::left_alone(problem, &terms);
    let bound = Some(f64::NEG_INFINITY);
    let found = Found {
        method: Method::LeftAlone,
        candidate: candidate(problem, &terms, &decisions, &[], bound),
    };
    finish(problem, strict, found)
}

fn answer(problem: &Problem, terms: &Terms, found: Found, baseline: Metrics) -> Plan {
    let (method, candidate) = (found.method, found.candidate);
    let relaxed = score::relaxations(problem, &candidate.slots);
    let missing = candidate.cost - candidate.bound;
    // Solver tolerances and the tie-break leave a trace below this, which is no gap.
    let size = candidate.cost.abs();
    let gap = if missing <= GAP_NOISE * (terms.typical + size) {
        0.0
    } else {
        (missing / size.max(TOLERANCE * terms.typical)).min(GAP_MAX)
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
