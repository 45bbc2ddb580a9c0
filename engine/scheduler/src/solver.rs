//! Chooses the method for a problem and turns the result into a plan. Keeps the working arrays between problems.

use model::problem::{Grid, Problem, Signal};
use model::schedule::{Metrics, Plan, PlannedSlot, Status};

use crate::appliances::possible_starts;
use crate::beside::Beside;
#[cfg(feature = "highs")]
use crate::by_highs;
use crate::by_microlp;
use crate::course::Course;
use crate::dispatch::{self, Decisions, dispatch};
use crate::dynamic::{self, Dynamic, Home};
use crate::general::Failed;
use crate::mean::Mean;
use crate::milp::Engine;
use crate::numbers::{GAP_MAX, SEARCH_SECONDS_MAX, TOLERANCE};
use crate::outlook::Outlook;
use crate::policies::{self, Known};
use crate::reference::{self, Candidate};
use crate::respond::{self, Means, Response};
use crate::score;
use crate::starts::Starts;
use crate::terms::Terms;
use crate::validate::{ProblemError, validate};
use crate::verify::verify;
use crate::vessel::Vessel;

/// Most choices of start slots that are solved per second of search time: about what a core can solve.
const LEAVES_PER_SECOND: f64 = 20_000.0;

/// Differences below this do not count as a gap: as a share of the cost, and in typical prices.
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
    /// The dynamic program for one store after the other, with a bound by prices.
    DpPrices,
    /// The mixed-integer program.
    Milp,
    /// None: the contents of stores and the start slots were given.
    Given,
    /// No search: battery idle, everything else as early as possible. The answer if all searches ran out of time.
    LeftAlone,
}

impl Method {
    /// Returns its name in plans and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dp => "dp",
            Self::DpHull => "dp_hull",
            Self::DpGeneral => "dp_general",
            Self::BranchAndBound => "branch_and_bound",
            Self::DpPrices => "dp_prices",
            Self::Milp => "milp",
            Self::Given => "given",
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

/// A solver of mixed-integer programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milp {
    /// microlp, in Rust.
    Microlp,
    /// HiGHS, in C++; only with the feature `highs`.
    #[cfg(feature = "highs")]
    Highs,
}

impl Milp {
    /// The solvers that are built in, in the order in which they are tried.
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

    /// Does what [`crate::by_milp`] does.
    pub(crate) fn alone(self, problem: &Problem, seconds: f64) -> Option<Candidate> {
        let terms = Terms::strict(problem).untied();
        reference::solve(problem, &terms, (self.engine(), seconds))
    }
}

/// Solves one problem after the other and keeps its working arrays between them.
#[derive(Debug, Default)]
pub struct Solver {
    dynamic: Dynamic,
    mean: Mean,
    starts: Starts,
    vessel: Vessel,
    beside: Beside,
}

/// A plan with its method.
struct Found {
    method: Method,
    candidate: Candidate,
}

impl Solver {
    /// Solves `problem` as [`crate::solve`] does.
    ///
    /// # Errors
    /// If `problem` is invalid; see [`validate`].
    pub fn solve(&mut self, problem: &Problem) -> Result<Plan, ProblemError> {
        self.solve_within(problem, SEARCH_SECONDS_MAX)
    }

    /// Solves `problem` with at most `seconds` of wall time for each search. When they are over, returns the best plan so
    /// far with its gap. Branch and bound counts its steps instead, so it gives the same plan on every machine.
    ///
    /// # Errors
    /// If `problem` is invalid; see [`validate`].
    pub fn solve_within(&mut self, problem: &Problem, seconds: f64) -> Result<Plan, ProblemError> {
        validate(problem)?;
        let seconds = search_seconds(problem, seconds);
        let strict = Terms::strict(problem);
        if let Some(found) = self.fast(problem, &strict, seconds) {
            return Ok(finish(problem, &strict, found));
        }
        let plan = self.by_program(problem, &strict, seconds);
        Ok(plan.unwrap_or_else(|| left_alone(problem, &strict)))
    }

    /// Returns what the home of `problem` does under `signal`, which takes the place of the problem's own, and what that costs
    /// it. This is the best plan of [`Solver::solve`] without all that a coordinator of many homes does not need. Neither
    /// `problem` nor `signal` is checked.
    ///
    /// # Panics
    /// May panic if [`validate`] would refuse `problem` with that signal.
    pub fn respond(&mut self, problem: &Problem, signal: &Signal) -> Response {
        let strict = Terms::signalled(problem, Some(signal));
        let noise = |cost: f64| 0.1 * GAP_NOISE * (strict.typical + cost.abs());
        let seconds = search_seconds(problem, SEARCH_SECONDS_MAX);
        if let Some(response) = self.means(seconds).respond(problem, &strict, noise) {
            return response;
        }
        let problem = Problem {
            signal: Some(signal.clone()),
            ..problem.clone()
        };
        let strict = Terms::strict(&problem);
        let plan = self.by_program(&problem, &strict, seconds);
        let plan = plan.unwrap_or_else(|| left_alone(&problem, &strict));
        let penalty = score::penalty(&problem, &strict.relax(&problem), &plan.slots);
        respond::of_plan(&problem, &plan, plan.objective + penalty)
    }

    /// Returns whether plans of `problem` can be mixed: the mean of the contents of two of them is a plan again, and costs the
    /// home no more than their mean, whatever signals they answered. So it is with one store at most, no appliances, and
    /// slots that are all convex at the home's own prices. `problem` is not checked, as in [`Solver::respond`].
    pub fn can_mix(&mut self, problem: &Problem) -> bool {
        self.means(SEARCH_SECONDS_MAX).can_mix(problem)
    }

    fn means(&mut self, seconds: f64) -> Means<'_> {
        Means {
            dynamic: &mut self.dynamic,
            starts: &mut self.starts,
            vessel: &mut self.vessel,
            beside: &mut self.beside,
            leaves_max: leaves_max(seconds),
        }
    }

    /// Solves the problem by dynamic programming; `None` if that method does not apply.
    fn fast(&mut self, problem: &Problem, strict: &Terms, seconds: f64) -> Option<Found> {
        if strict.stores.len() > 1 {
            return self.several_stores(problem, strict);
        }
        let grid = problem.grid;
        let is_limited = grid.import_limit_kw.is_some() || grid.export_limit_kw.is_some();
        if is_limited && !problem.appliances.is_empty() {
            // With penalties every choice is feasible. If the best plan keeps all limits, it is also the best strict plan.
            let found = self.search(problem, &strict.relax(problem), seconds).ok()?;
            return score::broken_limits(problem, &found.candidate.slots)
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

    /// Stores beside each other; `None` where their plan is not proven to be the best.
    fn several_stores(&mut self, problem: &Problem, strict: &Terms) -> Option<Found> {
        if !strict.starts_inside() {
            return None;
        }
        let noise = |cost: f64| 0.1 * GAP_NOISE * (strict.typical + cost.abs());
        let proven = self.beside.solve(problem, strict, noise)?;
        let decisions = Decisions {
            starts: Vec::new(),
            contents: proven.contents,
            still: 0.0,
            peak_kw: f64::INFINITY,
        };
        let (prices, bound) = (&proven.prices, proven.bound);
        let candidate = candidate(problem, strict, &decisions, prices, Some(bound));
        let keeps = score::broken_limits(problem, &candidate.slots).is_empty();
        if !keeps || candidate.cost - bound > 5.0 * noise(candidate.cost) {
            return None;
        }
        Some(Found {
            method: Method::DpPrices,
            candidate: self.settle(problem, strict, candidate),
        })
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
        self.dynamic.wants_levels = problem.battery.is_some();
        let method = self.dynamic.solve(&home, &problem.load_kw)?;
        let decisions = Decisions {
            starts: Vec::new(),
            contents: vec![self.dynamic.contents().to_vec()],
            still: 0.0,
            peak_kw: self.dynamic.peak_kw(),
        };
        let prices = &self.dynamic.shadow_prices;
        let mut candidate = candidate(problem, terms, &decisions, prices, None);
        self.write_policies(problem, terms, &mut candidate.slots);
        self.average(problem, terms, &mut candidate, |contents| {
            let decisions = Decisions {
                contents,
                ..decisions.clone()
            };
            dispatch(problem, terms, &decisions, &[])
        });
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
        self.dynamic.wants_levels = false;
        let leaves_max = leaves_max(seconds);
        let searched = self.starts.search(&home, &mut self.dynamic, leaves_max)?;
        let decisions = Decisions {
            starts: self.starts.starts(problem).collect(),
            contents: vec![self.starts.contents().to_vec()],
            still: 0.0,
            peak_kw: self.starts.peak_kw(),
        };
        let prices = self.starts.shadow_prices();
        let bound = (searched.bound < searched.cost).then_some(searched.bound);
        let mut candidate = candidate(problem, terms, &decisions, prices, bound);
        let slots = &mut candidate.slots;
        // The choice that was solved last need not be the best one.
        let load_kw: Vec<f64> = slots.iter().map(|slot| slot.load_kw).collect();
        self.dynamic.wants_levels = problem.battery.is_some();
        if self.dynamic.solve(&home, &load_kw).is_ok() {
            self.write_policies(problem, terms, slots);
            self.average(problem, terms, &mut candidate, |contents| {
                let decisions = Decisions {
                    contents,
                    ..decisions.clone()
                };
                dispatch(problem, terms, &decisions, &[])
            });
        } else {
            policies::fix(problem, slots);
        }
        Ok(Found {
            method: Method::BranchAndBound,
            candidate,
        })
    }

    /// Returns the best plan of the mixed-integer program. Solvers are tried in turn until one proves its plan. A plan that
    /// fails [`verify`] is discarded.
    fn by_program(&mut self, problem: &Problem, strict: &Terms, seconds: f64) -> Option<Plan> {
        let mut best: Option<(f64, Plan)> = None;
        for milp in Milp::ALL {
            let means = (milp.engine(), seconds);
            let Some(candidate) = reference::solve(problem, strict, means) else {
                continue;
            };
            let candidate = self.settle(problem, strict, candidate);
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

    /// Holds everything but the battery as it is in `candidate` and plans the battery again by the dynamic program, which
    /// knows what is best whatever load and sun turn out to be. Where that costs more, the battery's powers are held too.
    fn settle(&mut self, problem: &Problem, strict: &Terms, mut candidate: Candidate) -> Candidate {
        let limit_kw = problem.grid.import_limit_kw.unwrap_or(f64::INFINITY);
        let limit_kw = limit_kw.min(policies::peak_kw(problem, &candidate.slots));
        let rest = Problem {
            load_kw: candidate.slots.iter().map(policies::taken_kw).collect(),
            appliances: Vec::new(),
            evs: Vec::new(),
            heat_stores: Vec::new(),
            // The peak is held too, as a limit.
            grid: Grid {
                import_limit_kw: (limit_kw < f64::INFINITY).then_some(limit_kw),
                peak_price_per_kw: 0.0,
                ..problem.grid
            },
            ..problem.clone()
        };
        let terms = Terms::strict(&rest);
        let is_settled = problem.battery.is_some()
            && (self.settle_on(problem, strict, (&rest, &terms), &mut candidate)
                || self.settle_on(
                    problem,
                    strict,
                    (&rest, &terms.relax(&rest)),
                    &mut candidate,
                ));
        if !is_settled {
            policies::fix(problem, &mut candidate.slots);
        }
        candidate
    }

    /// The same on these terms of what is left; false where that does not do.
    fn settle_on(
        &mut self,
        problem: &Problem,
        strict: &Terms,
        (rest, terms): (&Problem, &Terms),
        candidate: &mut Candidate,
    ) -> bool {
        if !terms.is_relaxed() && !terms.starts_inside() {
            return false;
        }
        let home = Home::of(rest, terms, &mut self.vessel);
        self.dynamic.wants_levels = true;
        if self.dynamic.solve(&home, &rest.load_kw).is_err() {
            return false;
        }
        let peak_kw = self.dynamic.peak_kw();
        let dispatched = |contents| {
            let decisions = Decisions {
                starts: Vec::new(),
                contents,
                still: 0.0,
                peak_kw,
            };
            dispatch(rest, terms, &decisions, &[])
        };
        let settled = dispatched(vec![self.dynamic.contents().to_vec()]);
        let mut slots = candidate.slots.clone();
        take_over(&mut slots, &settled);
        let relaxed = strict.relax(problem);
        let cost_of = |objective: f64, slots: &[PlannedSlot]| {
            objective + score::penalty(problem, &relaxed, slots)
        };
        let (objective, metrics) = score::figures(problem, &slots);
        let before = cost_of(candidate.objective, &candidate.slots);
        let cost = cost_of(objective, &slots);
        let broken = |slots: &[PlannedSlot]| score::broken_limits(problem, slots).len();
        // What ties and tolerances of a search may differ by is far below what counts as a gap.
        let noise = 0.1 * GAP_NOISE * (strict.typical + before.abs());
        if cost > before + noise || broken(&slots) > broken(&candidate.slots) {
            return false;
        }
        self.write_policies(problem, terms, &mut slots);
        candidate.cost += cost - before;
        candidate.bound = candidate.bound.min(candidate.cost);
        (candidate.slots, candidate.objective, candidate.metrics) = (slots, objective, metrics);
        self.average(problem, terms, candidate, dispatched);
        true
    }

    /// Writes the policies of the plan in `slots`, whose battery the dynamic program has planned last.
    fn write_policies(&self, problem: &Problem, terms: &Terms, slots: &mut [PlannedSlot]) {
        let outlook = self.dynamic.outlook(&self.vessel);
        let peak_kw = policies::peak_kw(problem, slots);
        policies::write(&known(problem, terms, outlook, peak_kw), None, slots);
    }

    /// Lets the battery of `candidate` follow the mean over the scenarios, if there are any, and everything else as it is.
    /// `dispatched` makes slots of the battery's contents. Keeps the plan where that would break a limit or a cap, or one
    /// further.
    fn average(
        &mut self,
        problem: &Problem,
        terms: &Terms,
        candidate: &mut Candidate,
        dispatched: impl Fn(Vec<Vec<f64>>) -> Vec<PlannedSlot>,
    ) {
        let courses = courses(problem);
        if courses.is_empty() || problem.battery.is_none() {
            return;
        }
        let peak_kw = policies::peak_kw(problem, &candidate.slots);
        let taken = candidate.slots.iter().map(policies::taken_kw);
        let loads = taken.zip(&problem.load_kw);
        let added_kw: Vec<f64> = loads.map(|(taken, load)| taken - load).collect();
        let asked = self.dynamic.asked();
        // The peak that the plan was found with, which it need not reach.
        let reckoned_kw = self.dynamic.peak_kw();
        let cap_kw = if reckoned_kw < f64::INFINITY {
            reckoned_kw
        } else {
            peak_kw
        };
        let Self { mean, vessel, .. } = self;
        let mut averaged = |terms: &Terms| {
            let home = Home::of(problem, terms, vessel).capped(cap_kw);
            mean.solve(&home, &courses, &added_kw, asked, problem.caution_per_kwh)
                .is_ok()
        };
        if !averaged(terms) && (terms.is_relaxed() || !averaged(&terms.relax(problem))) {
            return;
        }
        let outlook = self.mean.outlook(&self.vessel);
        let following = known(problem, terms, outlook, peak_kw);
        let followed = policies::follow(&following, &candidate.slots);
        let mut slots = candidate.slots.clone();
        take_over(&mut slots, &dispatched(vec![followed.contents.clone()]));
        let relaxed = terms.relax(problem);
        let penalty = |slots: &[PlannedSlot]| score::penalty(problem, &relaxed, slots);
        let broken = |slots: &[PlannedSlot]| score::relaxations(problem, slots).len();
        let further = penalty(&slots) - penalty(&candidate.slots);
        let breaches = |slots: &[PlannedSlot]| score::breaches(problem, slots);
        let beyond_caps = breaches(&slots) - breaches(&candidate.slots);
        let noise = GAP_NOISE * (terms.typical + candidate.cost.abs());
        if further > noise || beyond_caps > noise || broken(&slots) > broken(&candidate.slots) {
            return;
        }
        self.mean.note_worths(&self.vessel, &followed.contents);
        let outlook = self.mean.outlook(&self.vessel);
        let following = known(problem, terms, outlook, peak_kw);
        policies::write(&following, Some(&followed), &mut slots);
        let mut before = self.vessel.start;
        for (t, slot) in slots.iter_mut().enumerate() {
            let (change, slope) = (slot.soc_kwh - before, -outlook.worths[t]);
            before = slot.soc_kwh;
            let vessel = &self.vessel;
            slot.shadow_price = self.dynamic.price_of_load(vessel, t, change, slope);
        }
        let (objective, metrics) = score::figures(problem, &slots);
        // What of the gap is known is known of the plan on the series alone.
        let dearer = objective - candidate.objective + further;
        candidate.cost += dearer;
        candidate.bound += dearer;
        (candidate.slots, candidate.objective, candidate.metrics) = (slots, objective, metrics);
    }
}

/// Returns how long each search for `problem` may take, at most `seconds`.
fn search_seconds(problem: &Problem, seconds: f64) -> f64 {
    let limit_ms = problem.time_limit_ms;
    limit_ms.map_or(seconds, |limit| seconds.min(f64::from(limit) / 1_000.0))
}

/// Returns how many choices of start slots are solved at most in `seconds`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count, cut to its range"
)]
fn leaves_max(seconds: f64) -> usize {
    (seconds * LEAVES_PER_SECOND).clamp(1.0, 1e9) as usize
}

/// Returns the plan in which stores and appliances do what `response` says, with a policy that holds its powers. The gap is
/// against `response.bound`, which must be one of `problem` with the signal that it holds; minus infinity claims nothing.
/// A content that cannot be is not reached: the plan comes as near as rates and bounds allow. PV is curtailed as is best
/// with the highest import of `response.net_kwh`.
///
/// # Errors
/// If `problem` is invalid, see [`validate`], or the response is not one of its homes.
pub fn plan_of(problem: &Problem, response: &Response) -> Result<Plan, ProblemError> {
    validate(problem)?;
    let strict = Terms::strict(problem);
    let counts = [
        ("contents", response.contents.len(), strict.stores.len()),
        ("starts", response.starts.len(), problem.appliances.len()),
    ];
    for (field, count, wanted) in counts {
        if count != wanted {
            return Err(ProblemError::Count {
                field: field.to_owned(),
                count,
                limit: wanted.to_string(),
            });
        }
    }
    let starts = response.starts.iter().zip(&problem.appliances);
    for (index, (start, appliance)) in starts.enumerate() {
        let possible = possible_starts(appliance);
        if !possible.contains(start) {
            return Err(ProblemError::Name {
                field: format!("starts[{index}]"),
                value: start.to_string(),
                limit: format!("{} to {}", possible.start(), possible.end()),
            });
        }
    }
    let terms = strict.relax(problem);
    let is_priced = problem.grid.peak_price_per_kw > 0.0 && !response.net_kwh.is_empty();
    let imports_kw = response.net_kwh.iter().map(|net| net / terms.dt);
    let decisions = Decisions {
        starts: response.starts.clone(),
        contents: response.contents.clone(),
        still: 0.0,
        peak_kw: if is_priced {
            imports_kw.fold(problem.grid.peak_kw, f64::max)
        } else {
            f64::INFINITY
        },
    };
    let bound = Some(response.bound);
    let mut candidate = candidate(problem, &terms, &decisions, &[], bound);
    policies::fix(problem, &mut candidate.slots);
    let found = Found {
        method: Method::Given,
        candidate,
    };
    Ok(finish(problem, &strict, found))
}

fn known<'a>(
    problem: &'a Problem,
    terms: &'a Terms,
    outlook: Outlook<'a>,
    peak_kw: f64,
) -> Known<'a> {
    Known {
        problem,
        dt: terms.dt,
        buy: &terms.buy,
        outlook,
        peak_kw,
    }
}

/// The scenarios that count.
fn courses(problem: &Problem) -> Vec<Course<'_>> {
    let whole: f64 = problem.scenarios.iter().map(|one| one.weight).sum();
    let likely = problem.scenarios.iter().filter(|one| one.weight > 0.0);
    likely
        .map(|scenario| Course {
            weight: scenario.weight / whole,
            load_kw: &scenario.load_kw,
            pv_kw: &scenario.pv_kw,
        })
        .collect()
}

/// Makes the battery and the meter of `slots` those of `from`.
fn take_over(slots: &mut [PlannedSlot], from: &[PlannedSlot]) {
    for (slot, from) in slots.iter_mut().zip(from) {
        slot.pv_kw = from.pv_kw;
        slot.grid_import_kw = from.grid_import_kw;
        slot.grid_export_kw = from.grid_export_kw;
        slot.battery_charge_kw = from.battery_charge_kw;
        slot.battery_discharge_kw = from.battery_discharge_kw;
        slot.soc_kwh = from.soc_kwh;
    }
}

/// Returns the plan that follows from `decisions`; it is optimal unless `bound` says otherwise.
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

fn by_milp(candidate: Candidate) -> Found {
    Found {
        method: Method::Milp,
        candidate,
    }
}

/// Does what [`crate::reference`] does.
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

/// Returns the answer if every search failed or ran out of time: a plan about which nothing is proven.
fn left_alone(problem: &Problem, strict: &Terms) -> Plan {
    let terms = strict.relax(problem);
    let decisions = dispatch::left_alone(problem, &terms);
    let bound = Some(f64::NEG_INFINITY);
    let mut candidate = candidate(problem, &terms, &decisions, &[], bound);
    policies::fix(problem, &mut candidate.slots);
    let found = Found {
        method: Method::LeftAlone,
        candidate,
    };
    finish(problem, strict, found)
}

fn answer(problem: &Problem, terms: &Terms, found: Found, baseline: Metrics) -> Plan {
    let (method, candidate) = (found.method, found.candidate);
    let relaxed = score::relaxations(problem, &candidate.slots);
    let missing = candidate.cost - candidate.bound;
    // Solver tolerances and the tie-break leave differences below this, which are not a gap.
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
