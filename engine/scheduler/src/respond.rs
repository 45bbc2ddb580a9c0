//! A home's answer to a signal: what a coordinator of many homes needs to know of the best plan, and no more. Makes no
//! plan, checks no problem and prices no slot.

use model::problem::Problem;
use model::schedule::{Plan, PlannedSlot};

use crate::appliances::start_cost;
use crate::beside::Beside;
use crate::dispatch::used_pv;
use crate::dynamic::{self, Dynamic, Home};
use crate::general::Failed;
use crate::numbers::larger;
use crate::score;
use crate::starts::Starts;
use crate::terms::Terms;
use crate::vessel::Vessel;

/// What penalties of broken limits come to at least, in typical prices: the noise of sums is far below.
const BROKEN: f64 = 1e-5;

/// What a home does under a signal, and what that costs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Least cost under the signal, currency: [`Response::own`], the price of the net flow, and what breaking caps costs.
    pub value: f64,
    /// What no plan of the home costs less than under the signal, currency; `value` where that is proven to be the least.
    pub bound: f64,
    /// The home's own objective, currency, with the penalties of limits that cannot be held.
    pub own: f64,
    /// Net flow at the meter in each slot, kWh; positive for import.
    pub net_kwh: Vec<f64>,
    /// Of each store its content at the end of each slot, kWh or degrees Celsius: the battery, then EVs and heat stores in
    /// the problem's order.
    pub contents: Vec<Vec<f64>>,
    /// Start slot of each appliance, in the problem's order.
    pub starts: Vec<usize>,
}

/// What finds the best plan of a home.
pub(crate) struct Means<'a> {
    pub(crate) dynamic: &'a mut Dynamic,
    pub(crate) starts: &'a mut Starts,
    pub(crate) vessel: &'a mut Vessel,
    pub(crate) beside: &'a mut Beside,
    /// Choices of start slots that are solved at most.
    pub(crate) leaves_max: usize,
}

/// What was decided for the stores and appliances of a home.
struct Decided {
    starts: Vec<usize>,
    contents: Vec<Vec<f64>>,
    /// What the stores take in each slot at the AC side, kWh; empty without any.
    flows_kwh: Vec<f64>,
    /// What their moves and contents cost.
    stores_cost: f64,
    peak_kw: f64,
    /// What is proven, where that is less than the cost.
    bound: Option<f64>,
}

impl Means<'_> {
    /// Answers on `strict`, the terms of `problem` under its signal; `None` where that takes the mixed-integer program.
    pub(crate) fn respond(
        &mut self,
        problem: &Problem,
        strict: &Terms,
        noise: impl Fn(f64) -> f64,
    ) -> Option<Response> {
        if strict.stores.len() > 1 {
            let decided = self.several_stores(problem, strict, noise)?;
            return Some(valued(problem, strict, decided));
        }
        let grid = problem.grid;
        let is_limited = grid.import_limit_kw.is_some() || grid.export_limit_kw.is_some();
        if is_limited && !problem.appliances.is_empty() {
            // With penalties every choice is feasible. If the best plan keeps all limits, it is also the best strict plan.
            let relaxed = strict.relax(problem);
            let decided = self.search(problem, &relaxed).ok()?;
            let response = valued(problem, &relaxed, decided);
            let penalty = response.value - self.without_penalties(problem, strict, &response);
            return (penalty <= BROKEN * strict.typical).then_some(response);
        }
        let kept = if strict.starts_inside() {
            self.search(problem, strict)
        } else {
            Err(Failed::OutOfReach)
        };
        match kept {
            Ok(decided) => Some(valued(problem, strict, decided)),
            Err(Failed::OutOfReach) => {
                let relaxed = strict.relax(problem);
                let decided = self.search(problem, &relaxed).ok()?;
                Some(valued(problem, &relaxed, decided))
            }
            Err(Failed::TooLarge) => None,
        }
    }

    /// What `response` costs on strict terms, where limits have no price.
    fn without_penalties(&mut self, problem: &Problem, strict: &Terms, response: &Response) -> f64 {
        self.vessel.set(problem, strict);
        let contents = response.contents.clone();
        let (flows_kwh, stores_cost) = of_contents(self.vessel, &contents);
        let decided = Decided {
            starts: response.starts.clone(),
            contents,
            flows_kwh,
            stores_cost,
            peak_kw: f64::INFINITY,
            bound: None,
        };
        valued(problem, strict, decided).value
    }

    fn several_stores(
        &mut self,
        problem: &Problem,
        strict: &Terms,
        noise: impl Fn(f64) -> f64,
    ) -> Option<Decided> {
        if !strict.starts_inside() {
            return None;
        }
        let proven = self.beside.solve(problem, strict, noise)?;
        let (flows_kwh, stores_cost) = self.beside.taken();
        Some(Decided {
            starts: Vec::new(),
            contents: proven.contents,
            flows_kwh,
            stores_cost,
            peak_kw: f64::INFINITY,
            bound: Some(proven.bound),
        })
    }

    fn search(&mut self, problem: &Problem, terms: &Terms) -> Result<Decided, Failed> {
        let home = Home::of(problem, terms, self.vessel);
        self.dynamic.wants_levels = false;
        let has_store = !terms.stores.is_empty();
        let kept = |contents: &[f64]| {
            if has_store {
                vec![contents.to_vec()]
            } else {
                Vec::new()
            }
        };
        let (starts, contents, peak_kw, bound) = if problem.appliances.is_empty() {
            self.dynamic.solve_unpriced(&home, &problem.load_kw)?;
            let contents = kept(self.dynamic.contents());
            (Vec::new(), contents, self.dynamic.peak_kw(), None)
        } else {
            let searched = self.starts.search(&home, self.dynamic, self.leaves_max)?;
            let bound = (searched.bound < searched.cost).then_some(searched.bound);
            let contents = kept(self.starts.contents());
            let starts = self.starts.starts(problem).collect();
            (starts, contents, self.starts.peak_kw(), bound)
        };
        let (flows_kwh, stores_cost) = of_contents(home.vessel, &contents);
        Ok(Decided {
            starts,
            contents,
            flows_kwh,
            stores_cost,
            peak_kw,
            bound,
        })
    }

    /// Whether the mean of two plans of `problem` is a plan that costs no more than their mean: one store at most, no
    /// choice of start slots, and every slot convex at the home's own prices.
    pub(crate) fn can_mix(&mut self, problem: &Problem) -> bool {
        let strict = Terms::signalled(problem, None);
        if strict.stores.len() > 1 || !problem.appliances.is_empty() {
            return false;
        }
        let mut method = |terms: &Terms| {
            let home = Home::of(problem, terms, self.vessel);
            self.dynamic.wants_levels = false;
            self.dynamic.solve_unpriced(&home, &problem.load_kw)
        };
        let kept = if strict.starts_inside() {
            method(&strict)
        } else {
            Err(Failed::OutOfReach)
        };
        let method = match kept {
            Err(Failed::OutOfReach) => method(&strict.relax(problem)),
            kept => kept,
        };
        method == Ok(dynamic::Method::Convex)
    }
}

/// What the only store takes in each slot where it holds `contents`, kWh, and what that costs it.
fn of_contents(vessel: &Vessel, contents: &[Vec<f64>]) -> (Vec<f64>, f64) {
    let [contents] = contents else {
        return (Vec::new(), 0.0);
    };
    let mut cost = vessel.holding_cost(contents);
    let mut before = vessel.start;
    let flows = contents.iter().enumerate().map(|(t, content)| {
        let span = vessel.span(t);
        let change = content - (span.keep * before + span.drift);
        before = *content;
        cost += vessel.moving_cost(t, change);
        span.flow(change)
    });
    (flows.collect(), cost)
}

/// The response with what was decided; curtailment follows from it.
fn valued(problem: &Problem, terms: &Terms, decided: Decided) -> Response {
    let dt = terms.dt;
    let mut load_kw = problem.load_kw.clone();
    let (mut cost, mut signalled) = (decided.stores_cost, 0.0);
    for (start, appliance) in decided.starts.iter().zip(&problem.appliances) {
        cost += start_cost(problem, appliance, *start);
        for (offset, power) in appliance.profile_kw.iter().enumerate() {
            load_kw[start + offset] += power;
        }
    }
    let grid = problem.grid;
    let over = |power: f64, limit: Option<f64>| (power - limit.unwrap_or(power)).max(0.0);
    let mut highest_kw = grid.peak_kw;
    let mut net_kwh = Vec::with_capacity(load_kw.len());
    for (t, load) in load_kw.iter().enumerate() {
        let consumed = load + decided.flows_kwh.get(t).map_or(0.0, |flow| flow / dt);
        let net = consumed - used_pv(problem, terms, decided.peak_kw, (t, consumed));
        let (import, export) = (larger(net, 0.0), larger(-net, 0.0));
        cost += dt * (terms.buy[t] * import - terms.sell[t] * export);
        if terms.is_relaxed() {
            let broken = over(import, grid.import_limit_kw) + over(export, grid.export_limit_kw);
            cost += dt * terms.grid_penalty() * broken;
        }
        if let Some(caps) = terms.soft_caps(t) {
            let beyond = caps.cost(net * dt);
            cost += beyond;
            signalled += beyond;
        }
        signalled += terms.flow_price(t) * net * dt;
        highest_kw = larger(highest_kw, import);
        net_kwh.push(net * dt);
    }
    cost += grid.peak_price_per_kw * (highest_kw - grid.peak_kw);
    Response {
        value: cost,
        bound: decided.bound.unwrap_or(cost),
        own: cost - signalled,
        net_kwh,
        contents: decided.contents,
        starts: decided.starts,
    }
}

/// The response that `plan` of `problem` is to the problem's own signal; `value` counts penalties.
pub(crate) fn of_plan(problem: &Problem, plan: &Plan, value: f64) -> Response {
    let slots = &plan.slots;
    let dt = f64::from(problem.slot_minutes) / 60.0;
    let content = |of: &dyn Fn(&PlannedSlot) -> f64| slots.iter().map(of).collect::<Vec<f64>>();
    let mut contents = Vec::new();
    if problem.battery.is_some() {
        contents.push(content(&|slot| slot.soc_kwh));
    }
    let evs = problem.evs.iter();
    contents.extend(evs.map(|ev| content(&|slot| score::soc_of(slot, ev))));
    let heat = problem.heat_stores.iter();
    contents.extend(heat.map(|store| content(&|slot| score::temperature_of(slot, store))));
    let start = |id: &String| {
        let runs = slots
            .iter()
            .position(|slot| slot.appliances.get(id) == Some(&true));
        runs.unwrap_or(0)
    };
    Response {
        value,
        bound: value - plan.gap * value.abs(),
        own: value - score::signalled(problem, slots),
        net_kwh: slots
            .iter()
            .map(|slot| dt * (slot.grid_import_kw - slot.grid_export_kw))
            .collect(),
        contents,
        starts: problem.appliances.iter().map(|a| start(&a.id)).collect(),
    }
}
