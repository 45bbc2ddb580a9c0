//! Battery plans by dynamic programming: convex slots exactly, others by their lower hull where that is enough, else
//! by the general program. Never sees an appliance: those are part of the load here.

use household::problem::{Battery, Problem};

use crate::convex::{Convex, OutOfReach, Soft, Vessel};
use crate::general::{Failed, General};
use crate::slot_cost::{Frame, Meter, Move};

/// A hull is believed where the plan's cost is above it by no more than this, in multiples of the largest price.
const HULL_KWH: f64 = 1e-11;

/// How the plan was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Every slot was convex.
    Convex,
    /// Some were not, and the best plan over their lower hulls was physical.
    Hull,
    /// By the general program.
    General,
}

/// Working arrays and, after [`Dynamic::solve`], the answer.
#[derive(Debug, Default)]
pub(crate) struct Dynamic {
    meters: Vec<Meter>,
    moves: Vec<Move>,
    /// `moves` where they are convex, else their hulls.
    hulls: Vec<Move>,
    convex: Convex,
    general: General,
    /// For bounds: the battery alone, at prices.
    alone: Convex,
    at_prices: Vec<Move>,
    /// What was solved last.
    load_kw: Vec<f64>,
    method: Option<Method>,
    /// What one more kWh of load costs in each slot.
    pub(crate) shadow_prices: Vec<f64>,
}

impl Dynamic {
    /// Finds the best SoC for `load_kw`, appliances included.
    pub(crate) fn solve(
        &mut self,
        problem: &Problem,
        frame: &Frame,
        vessel: &Vessel,
        load_kw: &[f64],
    ) -> Result<Method, Failed> {
        self.meters.clear();
        self.moves.clear();
        self.load_kw.clear();
        self.method = None;
        for (t, load) in load_kw.iter().enumerate() {
            let meter = frame.meter(problem, t, *load);
            let cost = Move::of(frame, &meter).ok_or(Failed::OutOfReach)?;
            self.meters.push(meter);
            self.moves.push(cost);
        }
        self.load_kw.extend_from_slice(load_kw);
        self.finish(frame, vessel, load_kw.len())
    }

    /// The same for another load of the home that was solved last.
    pub(crate) fn solve_again(
        &mut self,
        problem: &Problem,
        frame: &Frame,
        vessel: &Vessel,
        load_kw: &[f64],
    ) -> Result<Method, Failed> {
        if self.method.is_none() {
            return self.solve(problem, frame, vessel, load_kw);
        }
        let was_convex = self.method == Some(Method::Convex);
        self.method = None;
        let mut unchanged = 0;
        for (t, load) in load_kw.iter().enumerate() {
            if self.load_kw[t] != *load {
                self.load_kw[t] = *load;
                self.meters[t] = frame.meter(problem, t, *load);
                self.moves[t] = Move::of(frame, &self.meters[t]).ok_or(Failed::OutOfReach)?;
                unchanged = t + 1;
            }
        }
        self.finish(
            frame,
            vessel,
            if was_convex { unchanged } else { load_kw.len() },
        )
    }

    fn finish(
        &mut self,
        frame: &Frame,
        vessel: &Vessel,
        unchanged: usize,
    ) -> Result<Method, Failed> {
        let method = if self.moves.iter().all(|cost| cost.is_convex) {
            self.convex.solve_from(vessel, &self.moves, unchanged)?;
            Method::Convex
        } else {
            self.solve_bent(vessel, frame.scale)?
        };
        self.convex
            .shadow_prices(frame, &self.meters, &mut self.shadow_prices);
        self.method = Some(method);
        Ok(method)
    }

    /// What the plan costs: the objective, with the penalties of broken bounds.
    pub(crate) fn cost(&self, frame: &Frame, vessel: &Vessel) -> f64 {
        let slots = self.meters.iter().zip(&self.convex.changes);
        let flows: f64 = slots
            .map(|(meter, change)| {
                meter.cost(meter.net + frame.flow(*change)) + frame.wear(*change)
            })
            .sum();
        flows + vessel.cost(&self.convex.soc)
    }

    /// Whether the cost of the home solved last is convex in the load, whatever its appliances draw.
    pub(crate) fn is_convex_in_load(&self, problem: &Problem, frame: &Frame) -> bool {
        self.meters.iter().enumerate().all(|(t, meter)| {
            let least = (problem.load_kw[t] - problem.pv_kw[t]) * frame.dt;
            frame.is_convex_in_load(meter, least, least + peak_kw(problem, t) * frame.dt)
        })
    }

    /// The constant of the cut at the shadow prices where the cost is convex in the load: whatever the appliances do,
    /// the home costs at least this and their load at those prices. `cost` is what `load_kw`, solved last, costs.
    pub(crate) fn tangent_constant(
        &self,
        problem: &Problem,
        frame: &Frame,
        cost: f64,
        load_kw: &[f64],
    ) -> f64 {
        let loads = load_kw.iter().zip(&problem.load_kw);
        let added = loads
            .zip(&self.shadow_prices)
            .map(|((load, base), price)| price * (load - base) * frame.dt);
        cost - added.sum::<f64>()
    }

    /// The same wherever it is not.
    pub(crate) fn lagrangian_constant(
        &mut self,
        problem: &Problem,
        frame: &Frame,
        vessel: &Vessel,
    ) -> f64 {
        let prices = &self.shadow_prices;
        // Meter and battery, each on its own at these prices: a bound whatever the shape of either.
        self.at_prices.clear();
        self.at_prices
            .extend(prices.iter().map(|price| Move::at_price(frame, *price)));
        if self.alone.solve(vessel, &self.at_prices).is_err() {
            return f64::NEG_INFINITY;
        }
        let mut constant = vessel.cost(&self.alone.soc);
        for (t, price) in prices.iter().enumerate() {
            let base = (problem.load_kw[t] - problem.pv_kw[t]) * frame.dt;
            let most = base + peak_kw(problem, t) * frame.dt;
            let (low, high) = (base + frame.flow(frame.fall), most + frame.flow(frame.rise));
            let cost = &self.at_prices[t];
            constant += price * base
                + self.meters[t].least_beyond(*price, low, high)
                + cost.rise_to(self.alone.changes[t])
                - cost.rise_to(0.0);
        }
        constant
    }

    fn solve_bent(&mut self, vessel: &Vessel, scale: f64) -> Result<Method, Failed> {
        self.hulls.clear();
        self.hulls.extend(self.moves.iter().map(|cost| {
            if cost.is_convex {
                *cost
            } else {
                cost.envelope()
            }
        }));
        self.convex.solve(vessel, &self.hulls)?;
        if self.is_physical(scale) {
            return Ok(Method::Hull);
        }
        self.general.solve(vessel, &self.moves, scale)?;
        match self.convex.solve(vessel, &self.general.parts) {
            Ok(()) => Ok(Method::General),
            Err(OutOfReach) => Err(Failed::TooLarge),
        }
    }

    /// Whether the plan over the hulls costs what the hulls say.
    fn is_physical(&self, scale: f64) -> bool {
        let slots = self.moves.iter().zip(&self.hulls);
        slots
            .zip(&self.convex.changes)
            .filter(|((cost, _), _)| !cost.is_convex)
            .all(|((cost, hull), change)| {
                cost.rise_to(*change) - hull.rise_to(*change) <= HULL_KWH * scale
            })
    }

    /// SoC at the end of each slot, kWh.
    pub(crate) fn soc(&self) -> &[f64] {
        &self.convex.soc
    }
}

/// The most that all appliances together can draw in slot `t`, kW.
fn peak_kw(problem: &Problem, t: usize) -> f64 {
    let possible = problem.appliances.iter().filter(|appliance| {
        (appliance.earliest_slot as usize..appliance.latest_end_slot as usize).contains(&t)
    });
    possible
        .map(|appliance| appliance.profile_kw.iter().copied().fold(0.0, f64::max))
        .sum()
}

/// The battery's bounds as they are, or with `penalty` per kWh where they cannot be held.
pub(crate) fn vessel(battery: Option<&Battery>, penalty: Option<f64>) -> Vessel {
    let Some(battery) = battery else {
        return Vessel {
            start: 0.0,
            low: 0.0,
            high: 0.0,
            end_low: 0.0,
            end_value: 0.0,
            soft: None,
        };
    };
    let (low, high) = (battery.min_soc_kwh, battery.max_soc_kwh);
    Vessel {
        start: battery.soc_kwh,
        low: penalty.map_or(low, |_| low.min(battery.soc_kwh)),
        high: penalty.map_or(high, |_| high.max(battery.soc_kwh)),
        end_low: battery.end_soc_min_kwh,
        end_value: battery.end_value_per_kwh,
        soft: penalty.map(|penalty| Soft { low, high, penalty }),
    }
}
