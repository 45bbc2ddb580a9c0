//! Plans for one store by dynamic programming: convex slots exactly, others by their lower hull where that is enough,
//! else by the general program. Never sees an appliance: those are part of the load here.

use model::problem::Problem;

use crate::appliances::peak_kw;
use crate::convex::Convex;
use crate::general::{Failed, General};
use crate::meter::{Frame, Meter};
use crate::numbers::{larger, smaller};
use crate::outlook::{ASKED, Outlook, asked};
use crate::slot_cost::{Move, is_convex_in_load, shadow_price};
use crate::terms::Terms;
use crate::value::OutOfReach;
use crate::vessel::Vessel;

/// A hull is believed where the plan's cost is above it by no more than this, in multiples of a price.
const HULL_KWH: f64 = 1e-11;
/// A peak is the best where no other costs less by more than this, in multiples of a price.
const PEAK_KWH: f64 = 1e-10;
/// How far beyond every possible import the search for a peak begins, kW.
const BEYOND_KW: f64 = 1.0;
/// Peaks tried at most.
const PEAKS_MAX: usize = 100;

/// What is solved: the same for every load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) terms: &'a Terms<'a>,
    pub(crate) frame: Frame,
    pub(crate) vessel: &'a Vessel,
}

impl<'a> Home<'a> {
    /// `problem` on `terms`, with `vessel` made its store.
    pub(crate) fn of(problem: &'a Problem, terms: &'a Terms<'a>, vessel: &'a mut Vessel) -> Self {
        vessel.set(problem, terms);
        Self {
            problem,
            terms,
            frame: Frame::new(problem, terms),
            vessel,
        }
    }

    /// The same where importing more than `peak_kw` costs as much as the price of the peak.
    pub(crate) fn capped(&self, peak_kw: f64) -> Self {
        let price = self.problem.grid.peak_price_per_kw;
        let frame = if self.has_peak_price() {
            self.frame.capped(peak_kw, price)
        } else {
            self.frame
        };
        Self { frame, ..*self }
    }

    fn has_peak_price(&self) -> bool {
        self.problem.grid.peak_price_per_kw > 0.0
    }
}

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
    /// Whether [`Dynamic::outlook`] is wanted.
    pub(crate) wants_levels: bool,
    meters: Vec<Meter>,
    moves: Vec<Move>,
    /// `moves` where they are convex, else their hulls.
    hulls: Vec<Move>,
    convex: Convex,
    general: General,
    /// For bounds: the store alone, at prices.
    alone: Convex,
    at_prices: Vec<Move>,
    /// What was solved last.
    load_kw: Vec<f64>,
    method: Option<Method>,
    peak_kw: f64,
    peak_cost: f64,
    /// Shadow prices at the nearest peaks tried below and above the best one.
    left_prices: Vec<f64>,
    right_prices: Vec<f64>,
    /// What one more kWh of load costs in each slot.
    pub(crate) shadow_prices: Vec<f64>,
}

impl Dynamic {
    /// Finds the best contents for `load_kw`, appliances included.
    pub(crate) fn solve(&mut self, home: &Home, load_kw: &[f64]) -> Result<Method, Failed> {
        self.load_kw.clear();
        self.load_kw.extend_from_slice(load_kw);
        if home.has_peak_price() {
            return self.solve_peak(home);
        }
        self.peak_kw = f64::INFINITY;
        self.peak_cost = 0.0;
        self.prepare(home, &home.frame)?;
        self.finish(home, None)
    }

    /// The same without shadow prices, unless the peak has a price.
    pub(crate) fn solve_unpriced(
        &mut self,
        home: &Home,
        load_kw: &[f64],
    ) -> Result<Method, Failed> {
        if home.has_peak_price() {
            return self.solve(home, load_kw);
        }
        self.load_kw.clear();
        self.load_kw.extend_from_slice(load_kw);
        self.peak_kw = f64::INFINITY;
        self.peak_cost = 0.0;
        self.prepare(home, &home.frame)?;
        self.method = None;
        self.decide(home, None)
    }

    /// The same for another load of the home that was solved last.
    pub(crate) fn solve_again(&mut self, home: &Home, load_kw: &[f64]) -> Result<Method, Failed> {
        if self.method.is_none() || home.has_peak_price() {
            return self.solve(home, load_kw);
        }
        self.method = None;
        let mut unchanged = 0;
        for (t, load) in load_kw.iter().enumerate() {
            if self.load_kw[t] != *load {
                self.load_kw[t] = *load;
                self.set(home, &home.frame, t)?;
                unchanged = t + 1;
            }
        }
        self.finish(home, Some(unchanged))
    }

    /// What each slot of the load costs.
    fn prepare(&mut self, home: &Home, frame: &Frame) -> Result<(), Failed> {
        let slots = self.load_kw.len();
        self.meters.resize(slots, Meter::NONE);
        self.moves.resize(slots, Move::NONE);
        self.method = None;
        for t in 0..slots {
            self.set(home, frame, t)?;
        }
        self.convex.asked.clear();
        if self.wants_levels {
            for (t, meter) in self.meters.iter().enumerate() {
                let prices = meter.prices(frame, home.terms.soft_caps(t));
                let sets = asked(home.vessel, t, prices);
                self.convex.asked.extend(sets.into_iter().flatten());
            }
        }
        Ok(())
    }

    fn set(&mut self, home: &Home, frame: &Frame, t: usize) -> Result<(), Failed> {
        let meter = &mut self.meters[t];
        meter.set(frame, home.problem, home.terms, (t, self.load_kw[t]));
        if self.moves[t].set(frame, home.vessel, t, meter) {
            Ok(())
        } else {
            Err(Failed::OutOfReach)
        }
    }

    fn finish(&mut self, home: &Home, unchanged: Option<usize>) -> Result<Method, Failed> {
        let vessel = home.vessel;
        let method = self.decide(home, unchanged)?;
        let moves = match method {
            Method::Convex => &self.moves,
            Method::Hull => &self.hulls,
            Method::General => &self.general.parts,
        };
        let prices = &mut self.shadow_prices;
        self.convex
            .shadow_prices(vessel, moves, &self.meters, prices);
        self.method = Some(method);
        Ok(method)
    }

    fn decide(&mut self, home: &Home, unchanged: Option<usize>) -> Result<Method, Failed> {
        let vessel = home.vessel;
        if !self.moves.iter().all(|cost| cost.is_convex) {
            return self.solve_bent(vessel, home.terms.resolved());
        }
        match unchanged {
            Some(unchanged) => self.convex.solve_again(vessel, &self.moves, unchanged)?,
            None => self.convex.solve(vessel, &self.moves)?,
        }
        Ok(Method::Convex)
    }

    /// The best plan where the highest import has a price: the least cost over all peaks, which is convex in the peak
    /// where slots are. Each peak tried gives a tangent; the next one is where the two nearest tangents meet.
    fn solve_peak(&mut self, home: &Home) -> Result<Method, Failed> {
        let (terms, grid) = (home.terms, home.problem.grid);
        // Below a peak some slots would turn from importing to exporting at once, which is not convex; or a slot would
        // import beyond it all the same.
        let per_kwh = grid.peak_price_per_kw / terms.dt;
        let is_held = !terms.is_relaxed()
            && (0..terms.buy.len())
                .all(|t| terms.sell[t] <= terms.buy[t] && terms.buy_below(t, 0.0) + per_kwh >= 0.0);
        if !is_held {
            return Err(Failed::TooLarge);
        }
        let tolerance = PEAK_KWH * terms.resolved();
        let least = self.try_peak(home, grid.peak_kw)?;
        if least.slope >= 0.0 {
            return Ok(Method::Convex);
        }
        // No slot gets there, so that the cost rises by the price from here on.
        let most_kw = (0..self.load_kw.len())
            .map(|t| {
                let span = home.vessel.span(t);
                self.load_kw[t] + span.flow(span.rise) / terms.dt
            })
            .fold(grid.peak_kw, f64::max)
            + BEYOND_KW;
        self.left_prices.clone_from(&self.shadow_prices);
        let (mut left, mut right) = (least, self.try_peak(home, most_kw)?);
        self.right_prices.clone_from(&self.shadow_prices);
        for _ in 0..PEAKS_MAX {
            let apart = right.slope - left.slope;
            if apart <= 0.0 {
                break;
            }
            let at = (left.cost - left.slope * left.peak_kw - right.cost
                + right.slope * right.peak_kw)
                / apart;
            let at = at.clamp(left.peak_kw, right.peak_kw);
            let bound = left.cost + left.slope * (at - left.peak_kw);
            let tried = self.try_peak(home, at)?;
            if tried.slope == 0.0 {
                return Ok(Method::Convex);
            }
            if tried.cost <= bound + tolerance {
                // Both tangents hold here. Mixed so that their slopes cancel they bound the cost whatever the peak.
                let share = right.slope / apart;
                let sides = self.left_prices.iter().zip(&self.right_prices);
                self.shadow_prices.clear();
                self.shadow_prices
                    .extend(sides.map(|(left, right)| share * left + (1.0 - share) * right));
                return Ok(Method::Convex);
            }
            if tried.slope < 0.0 {
                left = tried;
                self.left_prices.clone_from(&self.shadow_prices);
            } else {
                right = tried;
                self.right_prices.clone_from(&self.shadow_prices);
            }
        }
        Err(Failed::TooLarge)
    }

    /// The best plan with `peak_kw`, where importing more costs as if each slot were the only one that does.
    fn try_peak(&mut self, home: &Home, peak_kw: f64) -> Result<Tangent, Failed> {
        let (terms, grid) = (home.terms, home.problem.grid);
        let price = grid.peak_price_per_kw;
        self.prepare(home, &home.frame.capped(peak_kw, price))?;
        self.peak_kw = peak_kw;
        self.peak_cost = price * (peak_kw - grid.peak_kw);
        if self.finish(home, None)? != Method::Convex {
            return Err(Failed::TooLarge);
        }
        let peak_kwh = peak_kw * terms.dt;
        let is_free = peak_kwh >= home.frame.import_wall();
        let prices = self.shadow_prices.iter().enumerate();
        let saved: f64 = prices
            .filter(|_| !is_free)
            .map(|(t, price_of_load)| {
                ((price_of_load - terms.buy_below(t, peak_kwh)) * terms.dt).clamp(0.0, price)
            })
            .sum();
        Ok(Tangent {
            peak_kw,
            cost: self.cost(home),
            slope: price - saved,
        })
    }

    /// What the plan costs: the objective, with the penalties of broken bounds.
    pub(crate) fn cost(&self, home: &Home) -> f64 {
        let vessel = home.vessel;
        let slots = self.meters.iter().zip(&self.convex.changes);
        let flows: f64 = slots
            .enumerate()
            .map(|(t, (meter, change))| {
                let balance = meter.net + vessel.span(t).flow(*change);
                meter.cost(balance) + vessel.moving_cost(t, *change)
            })
            .sum();
        flows + vessel.holding_cost(&self.convex.contents) + self.peak_cost
    }

    /// The highest import that the plan reckons with; infinite where it has no price.
    pub(crate) fn peak_kw(&self) -> f64 {
        self.peak_kw
    }

    /// Whether the cost of the home solved last is convex in the load, whatever its appliances draw.
    pub(crate) fn is_convex_in_load(&self, home: &Home) -> bool {
        let (problem, dt) = (home.problem, home.frame.dt);
        self.meters.iter().enumerate().all(|(t, meter)| {
            let least = (problem.load_kw[t] - problem.pv_kw[t]) * dt;
            let range = (least, least + peak_kw(problem, t) * dt);
            is_convex_in_load(home.vessel, t, meter, range)
        })
    }

    /// The constant of the cut at the shadow prices where the cost is convex in the load: whatever the appliances do,
    /// the home costs at least this and their load at those prices. `cost` is what `load_kw`, solved last, costs.
    pub(crate) fn tangent_constant(&self, home: &Home, cost: f64, load_kw: &[f64]) -> f64 {
        let loads = load_kw.iter().zip(&home.problem.load_kw);
        let added = loads
            .zip(&self.shadow_prices)
            .map(|((load, base), price)| price * (load - base) * home.frame.dt);
        cost - added.sum::<f64>()
    }

    /// The same wherever it is not. A peak with a price is beyond it.
    pub(crate) fn lagrangian_constant(&mut self, home: &Home) -> f64 {
        let (frame, vessel, problem) = (&home.frame, home.vessel, home.problem);
        let prices = &self.shadow_prices;
        // Meter and store, each on its own at these prices: a bound whatever the shape of either.
        self.at_prices.clear();
        let moves = prices.iter().enumerate();
        self.at_prices
            .extend(moves.map(|(t, price)| Move::at_price(frame, vessel, t, *price)));
        if home.has_peak_price() || self.alone.solve(vessel, &self.at_prices).is_err() {
            return f64::NEG_INFINITY;
        }
        let mut constant = vessel.holding_cost(&self.alone.contents);
        for (t, price) in prices.iter().enumerate() {
            let span = vessel.span(t);
            let base = (problem.load_kw[t] - problem.pv_kw[t]) * frame.dt;
            let most = base + peak_kw(problem, t) * frame.dt;
            let (low, high) = (base + span.flow(span.fall), most + span.flow(span.rise));
            let change = self.alone.changes[t];
            constant += price * base
                + self.meters[t].least_beyond(*price, low, high)
                + price * span.flow(change)
                + vessel.moving_cost(t, change);
        }
        constant
    }

    fn solve_bent(&mut self, vessel: &Vessel, price: f64) -> Result<Method, Failed> {
        self.hulls.clear();
        self.hulls.extend(self.moves.iter().map(|cost| {
            if cost.is_convex {
                *cost
            } else {
                cost.envelope()
            }
        }));
        self.convex.solve(vessel, &self.hulls)?;
        if self.is_physical(price) {
            return Ok(Method::Hull);
        }
        self.general.solve(vessel, &self.moves, price)?;
        match self.convex.solve(vessel, &self.general.parts) {
            Ok(()) => Ok(Method::General),
            Err(OutOfReach) => Err(Failed::TooLarge),
        }
    }

    /// Whether the plan over the hulls costs what the hulls say.
    fn is_physical(&self, price: f64) -> bool {
        let slots = self.moves.iter().zip(&self.hulls);
        slots
            .zip(&self.convex.changes)
            .filter(|((cost, _), _)| !cost.is_convex)
            .all(|((cost, hull), change)| {
                !cost.is_in_gap(*change)
                    && cost.rise_to(*change) - hull.rise_to(*change) <= HULL_KWH * price
            })
    }

    /// Whether to move towards the levels is, by its theory, to follow the plan.
    fn is_plain(&self, vessel: &Vessel) -> bool {
        self.method == Some(Method::Convex)
            && !vessel.is_planned()
            && vessel.soft.is_none()
            && self.meters.iter().all(Meter::is_plain)
    }

    /// What follows each slot of the load solved last, where [`Dynamic::wants_levels`].
    pub(crate) fn outlook<'a>(&'a self, vessel: &'a Vessel) -> Outlook<'a> {
        Outlook {
            vessel,
            places: &self.convex.places,
            bounds: &self.convex.bounds,
            worths: &self.convex.worths,
            is_plain: self.is_plain(vessel),
        }
    }

    /// What one more kWh of load costs in slot `t` where the store moves by `change` and what follows has `slope`, as
    /// far as that suits the slot.
    pub(crate) fn price_of_load(&self, vessel: &Vessel, t: usize, change: f64, slope: f64) -> f64 {
        let (least, most) = self.moves[t].slopes_around(change);
        let slope = smaller(larger(slope, -most), -least);
        shadow_price(vessel, t, &self.meters[t], change, slope)
    }

    /// The slopes to be found in what follows each slot, as in [`Outlook::places`].
    pub(crate) fn asked(&self) -> &[[f64; ASKED]] {
        &self.convex.asked
    }

    /// What one more unit at the end of each slot is worth.
    pub(crate) fn worths(&self) -> &[f64] {
        &self.convex.worths
    }

    /// Move in each slot.
    pub(crate) fn changes(&self) -> &[f64] {
        &self.convex.changes
    }

    /// Content at the end of each slot.
    pub(crate) fn contents(&self) -> &[f64] {
        &self.convex.contents
    }
}

/// What a peak costs, and how that changes with the peak.
#[derive(Debug, Clone, Copy)]
struct Tangent {
    peak_kw: f64,
    cost: f64,
    /// Currency per kW.
    slope: f64,
}
