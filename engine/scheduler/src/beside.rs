//! Plans for stores beside each other, which share only the meter: each store's plan by the dynamic program with the others
//! held, turn by turn, and a proof by prices.
//!
//! At any price per slot the meter and each store, each on its own, cost no more together than the home's best plan does
//! (Lagrange). Where that bound meets the cost of a plan, the plan is the best. First the turns alone are tried. The prices
//! of two stores are read off their plan (`pricing.rs`); where it has none, one of the stores bends to the other, and the
//! turns begin again. Where that does not do, the interior-point method finds prices, and contents to go on from.

use model::problem::Problem;

use crate::convex::Convex;
use crate::dynamic::{Dynamic, Home};
use crate::interior::{APART_MAX, Interior};
use crate::meter::{Frame, Meter};
use crate::numbers::{REACH_KWH, larger, smaller};
use crate::pricing::{Planned, Pricing};
use crate::slot_cost::Move;
use crate::store::Store;
use crate::terms::Terms;
use crate::vessel::Vessel;

/// Stores at most.
const STORES_MAX: usize = APART_MAX - 1;
/// Turns of each store at most.
const ROUNDS_MAX: usize = 6;
/// Times at most that the turns of two stores begin.
const ATTEMPTS_MAX: usize = 3;
/// Steps of the interior-point method at most.
const STEPS_MAX: usize = 60;
/// The first proof is tried this far from the best, in multiples of what counts as noise, and each one after it nearer by
/// this factor.
const FIRST: f64 = 5e4;
const NEARER: f64 = 0.02;
/// Rows that are unmet by this count as met, kWh or degrees: the turns put it right.
const MET_KWH: f64 = 1e-3;

/// Plans of all stores, and what is proven of them.
#[derive(Debug)]
pub(crate) struct Proven {
    /// For each store its content at the end of each slot.
    pub(crate) contents: Vec<Vec<f64>>,
    /// What one more kWh of load costs in each slot.
    pub(crate) prices: Vec<f64>,
    /// No plan costs less.
    pub(crate) bound: f64,
}

/// Working arrays.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    stores: Vec<Member>,
    meters: Vec<Meter>,
    dynamic: Dynamic,
    alone: Convex,
    at_prices: Vec<Move>,
    load_kw: Vec<f64>,
    prices: Vec<f64>,
    interior: Interior,
    pricing: Pricing,
    /// The column of each store's content in each slot, if there is one.
    places: Vec<Option<usize>>,
}

/// A store with its plan.
#[derive(Debug, Default)]
struct Member {
    vessel: Vessel,
    contents: Vec<f64>,
    /// Move in each slot, and what it takes at the AC side, kWh.
    changes: Vec<f64>,
    flows: Vec<f64>,
    /// What its moves and contents cost.
    own_cost: f64,
    /// Of its last turn: what load costs in each slot, and what a unit in it at the end of each is worth.
    prices: Vec<f64>,
    worths: Vec<f64>,
}

impl Beside {
    /// Finds the best plan, above whose bound its cost is no more than `noise` of that cost; `None` where that fails.
    pub(crate) fn solve(
        &mut self,
        problem: &Problem,
        terms: &Terms,
        noise: impl Fn(f64) -> f64,
    ) -> Option<Proven> {
        let is_plain = problem.appliances.is_empty()
            && problem.grid.peak_price_per_kw <= 0.0
            && terms.stores.len() <= STORES_MAX
            && terms.stores.iter().all(|store| store.min_charge_kw <= 0.0);
        if !is_plain {
            return None;
        }
        let frame = Frame::new(problem, terms);
        self.prepare(problem, terms, &frame);
        if !self.meters.iter().all(Meter::is_convex) {
            return None;
        }
        let last = self.stores.len() - 1;
        let mut turned = self.turns(problem, terms, &frame, (last, noise(0.0)));
        for attempt in 0..ATTEMPTS_MAX {
            let Some(cost) = turned else { break };
            if self.read_prices(terms) {
                let bound = self.bound(&frame);
                if cost - bound <= noise(cost) {
                    return Some(self.proven(bound));
                }
            }
            if attempt + 1 == ATTEMPTS_MAX || !self.bent_turn(&frame) {
                break;
            }
            turned = self.turns(problem, terms, &frame, (0, noise(0.0)));
        }
        self.state(terms, turned.is_some())?;
        let mut next = FIRST * noise(0.0);
        for _ in 0..STEPS_MAX {
            if !self.interior.step() {
                return None;
            }
            let distance = self.interior.distance();
            if distance > next || self.interior.unmet() > MET_KWH {
                continue;
            }
            next = NEARER * distance;
            self.take_over(terms);
            if let Some(cost) = self.turns(problem, terms, &frame, (last, noise(0.0))) {
                // What is not quite the best plan may still be proven by prices nearby.
                self.take_prices();
                if self.stores.len() != 2 || !self.read_prices(terms) {
                    self.fit_prices();
                }
                let bound = self.bound(&frame);
                if cost - bound <= noise(cost) {
                    return Some(self.proven(bound));
                }
            }
        }
        None
    }

    /// Reads prices off the plan; false where it has none, and so is not the best.
    fn read_prices(&mut self, terms: &Terms) -> bool {
        let [one, other] = self.stores.as_slice() else {
            // Those of the battery, which moves wherever it can.
            self.prices.clone_from(&self.stores[0].prices);
            return true;
        };
        let planned = [one, other].map(|member| Planned {
            vessel: &member.vessel,
            contents: &member.contents,
            changes: &member.changes,
        });
        let (pricing, prices) = (&mut self.pricing, &mut self.prices);
        pricing.prove(&self.meters, &planned, terms.typical, prices)
    }

    fn proven(&self, bound: f64) -> Proven {
        Proven {
            contents: self.stores.iter().map(|s| s.contents.clone()).collect(),
            prices: self.prices.clone(),
            bound,
        }
    }

    /// What all stores of the plan that was found last take together in each slot at the AC side, kWh, and what their moves
    /// and contents cost.
    pub(crate) fn taken(&self) -> (Vec<f64>, f64) {
        let flow = |t: usize| self.stores.iter().map(|store| store.flows[t]).sum();
        let flows = (0..self.meters.len()).map(flow);
        (
            flows.collect(),
            self.stores.iter().map(|store| store.own_cost).sum(),
        )
    }

    fn prepare(&mut self, problem: &Problem, terms: &Terms, frame: &Frame) {
        let slots = problem.load_kw.len();
        self.stores.resize_with(terms.stores.len(), Member::default);
        for (member, store) in self.stores.iter_mut().zip(&terms.stores) {
            member.vessel.set_to(problem, terms, Some(store));
            member.flows.clear();
            member.flows.resize(slots, 0.0);
            member.own_cost = 0.0;
        }
        self.meters.resize(slots, Meter::NONE);
        for (t, meter) in self.meters.iter_mut().enumerate() {
            meter.set(frame, problem, terms, (t, problem.load_kw[t]));
        }
    }

    /// Plans store after store, the others held, from store `first` on, until that saves no more than `noise`. Returns what
    /// all cost; `None` where a store finds no plan.
    fn turns(
        &mut self,
        problem: &Problem,
        terms: &Terms,
        frame: &Frame,
        (first, noise): (usize, f64),
    ) -> Option<f64> {
        let count = self.stores.len();
        let mut before = f64::INFINITY;
        let mut quiet = 0;
        // The battery last, for it can follow what the others need.
        for turn in 0..ROUNDS_MAX * count {
            let turned = (first + count - turn % count) % count;
            self.load_kw.clone_from(&problem.load_kw);
            let mut others = 0.0;
            for (k, member) in self.stores.iter().enumerate() {
                if k != turned {
                    others += member.own_cost;
                    for (load, flow) in self.load_kw.iter_mut().zip(&member.flows) {
                        *load += flow / terms.dt;
                    }
                }
            }
            let member = &mut self.stores[turned];
            let home = Home {
                problem,
                terms,
                frame: *frame,
                vessel: &member.vessel,
            };
            self.dynamic.solve(&home, &self.load_kw).ok()?;
            member.contents.clear();
            member.contents.extend_from_slice(self.dynamic.contents());
            let cost = self.dynamic.cost(&home) + others;
            let vessel = &member.vessel;
            member.own_cost = vessel.holding_cost(&member.contents);
            member.changes.clear();
            member.changes.extend_from_slice(self.dynamic.changes());
            for (t, change) in member.changes.iter().enumerate() {
                member.flows[t] = vessel.span(t).flow(*change);
                member.own_cost += vessel.moving_cost(t, *change);
            }
            member.prices.clone_from(&self.dynamic.shadow_prices);
            member.worths.clear();
            member.worths.extend_from_slice(self.dynamic.worths());
            quiet = if before - cost > noise { 0 } else { quiet + 1 };
            before = cost;
            if turn >= count && quiet + 1 >= count {
                break;
            }
        }
        Some(before)
    }

    /// Plans the second store as if the first one bent to it, at the prices that it leaves, as far as its rates allow. Turns
    /// alone stop where both would have to move at once. False where that finds no plan.
    fn bent_turn(&mut self, frame: &Frame) -> bool {
        let [one, other] = self.stores.as_mut_slice() else {
            return false;
        };
        self.at_prices.clear();
        for (t, meter) in self.meters.iter().enumerate() {
            let span = one.vessel.span(t);
            let flow = one.flows[t];
            let reach = (span.flow(span.fall), span.flow(span.rise));
            let mut cost = Move::NONE;
            let bent = meter.bent(flow, one.prices[t], reach);
            if !bent.is_some_and(|bent| cost.set(frame, &other.vessel, t, &bent)) {
                return false;
            }
            self.at_prices.push(cost);
        }
        let vessel = &other.vessel;
        if self.alone.solve(vessel, &self.at_prices).is_err() {
            return false;
        }
        other.own_cost = vessel.holding_cost(&self.alone.contents);
        for (t, change) in self.alone.changes.iter().enumerate() {
            other.flows[t] = vessel.span(t).flow(*change);
            other.own_cost += vessel.moving_cost(t, *change);
        }
        true
    }

    /// The flows that stores can take together in slot `t`, kWh.
    fn reach(&self, t: usize) -> (f64, f64) {
        let spans = || self.stores.iter().map(|store| store.vessel.span(t));
        let low: f64 = spans().map(|span| span.flow(span.fall)).sum();
        let high: f64 = spans().map(|span| span.flow(span.rise)).sum();
        (low, high)
    }

    /// What no plan costs less than, at `prices`.
    fn bound(&mut self, frame: &Frame) -> f64 {
        let mut bound = 0.0;
        for (t, (meter, price)) in self.meters.iter().zip(&self.prices).enumerate() {
            let (low, high) = self.reach(t);
            let (low, high) = (meter.net + low, meter.net + high);
            bound += price * meter.net + meter.least_beyond(*price, low, high);
        }
        for Member { vessel, .. } in &self.stores {
            self.at_prices.clear();
            let prices = self.prices.iter().enumerate();
            self.at_prices
                .extend(prices.map(|(t, price)| Move::at_price(frame, vessel, t, *price)));
            if self.alone.solve(vessel, &self.at_prices).is_err() {
                return f64::NEG_INFINITY;
            }
            bound += vessel.holding_cost(&self.alone.contents);
            for (t, (price, change)) in self.prices.iter().zip(&self.alone.changes).enumerate() {
                bound += price * vessel.span(t).flow(*change) + vessel.moving_cost(t, *change);
            }
        }
        bound
    }

    /// States all as one linear program: the meter and each store in pieces. Each slot has a row for its balance, and one
    /// for the content of each store. It begins from the last turns, if they gave a plan. `None` if no plan keeps the
    /// limits of the meter.
    fn state(&mut self, terms: &Terms, is_planned: bool) -> Option<()> {
        let slots = self.meters.len();
        let height = self.stores.len() + 1;
        self.interior.clear(slots * height, height);
        self.places.clear();
        #[expect(clippy::cast_precision_loss, reason = "a count of slots")]
        let mean = terms.buy.iter().chain(&terms.sell).sum::<f64>() / (2 * slots) as f64;
        // What a kWh costs, where nothing is known of it.
        let guess = (!is_planned).then_some(mean);
        for t in 0..slots {
            let meter = self.meters[t];
            let (fall, rise) = self.reach(t);
            let limits = meter.limits();
            let low = larger(meter.net + fall, limits.0);
            let high = smaller(meter.net + rise, limits.1);
            if low > high + REACH_KWH {
                return None;
            }
            let balance = t * height;
            self.interior.sums[balance] = low - meter.net - fall;
            let flow: f64 = self.stores.iter().map(|store| store.flows[t]).sum();
            self.interior.prices[balance] = if is_planned {
                -self.stores[0].prices[t]
            } else {
                -0.5 * (terms.buy[t] + terms.sell[t])
            };
            let mut at = if is_planned {
                meter.net + flow - low
            } else {
                0.5 * (high - low)
            };
            for piece in meter.between(low, high) {
                let rows = [(balance, -1.0), (balance + 1, 0.0)];
                self.interior.piece(piece.slope, piece.length, at, rows);
                at -= piece.length;
            }
            for k in 0..self.stores.len() {
                self.state_store(terms, (t, k), guess);
            }
        }
        self.interior.begin();
        Some(())
    }

    /// The columns of store `k` in slot `t`.
    fn state_store(&mut self, terms: &Terms, (t, k): (usize, usize), guess: Option<f64>) {
        let member = &self.stores[k];
        let (store, vessel) = (&terms.stores[k], &member.vessel);
        if !store.moves_in(t) {
            self.places.push(None);
            return;
        }
        let height = self.stores.len() + 1;
        let (balance, row) = (t * height, t * height + 1 + k);
        let span = vessel.span(t);
        let interior = &mut self.interior;
        interior.prices[row] = match guess {
            None => -member.worths[t],
            Some(mean) => -mean * span.charge_per_unit,
        };
        let change = match guess {
            None => span.change(member.flows[t]),
            Some(_) => 0.0,
        };
        interior.sums[row] += span.drift + span.fall;
        if t == store.from {
            interior.sums[row] += span.keep * vessel.start;
        }
        let (planned, apart) = vessel.planned(t).unwrap_or((f64::NEG_INFINITY, 0.0));
        let mut at = span.fall;
        for bend in [planned.min(0.0), 0.0, planned.max(0.0), span.rise] {
            let end = bend.clamp(at, span.rise);
            let beside = if at < planned { -apart } else { apart };
            let (factor, wear) = if at >= 0.0 {
                (span.charge_per_unit, vessel.wear)
            } else {
                (span.discharge_efficiency, -vessel.wear)
            };
            let rows = [(balance, factor), (row, -1.0)];
            interior.piece(wear + beside, end - at, change - at, rows);
            at = end;
        }
        let is_last = t + 1 == store.to;
        let low = floor(store, vessel, t);
        interior.sums[row] -= low;
        let (cost, after) = if is_last {
            (-vessel.end_value, (balance, 0.0))
        } else {
            let keep = vessel.span(t + 1).keep;
            interior.sums[row + height] += keep * low;
            (0.0, (row + height, -keep))
        };
        let content = match guess {
            None => member.contents[t] - low,
            Some(_) => 0.5 * (span.high - low),
        };
        let rows = [(row, 1.0), after];
        self.places
            .push(interior.piece(cost, span.high - low, content, rows));
    }

    /// Takes prices from the interior-point method.
    fn take_prices(&mut self) {
        let height = self.stores.len() + 1;
        self.prices.clear();
        let balances = self.interior.prices.iter().step_by(height);
        self.prices.extend(balances.map(|price| -price));
    }

    /// Takes contents from the interior-point method.
    fn take_over(&mut self, terms: &Terms) {
        let count = self.stores.len();
        for (k, member) in self.stores.iter_mut().enumerate() {
            let (store, vessel) = (&terms.stores[k], &member.vessel);
            member.contents.clear();
            member.own_cost = 0.0;
            let mut before = vessel.start;
            for t in 0..self.meters.len() {
                let span = vessel.span(t);
                let rest = if store.moves_in(t) {
                    span.keep * before + span.drift
                } else {
                    before
                };
                let content = if store.moves_in(t) {
                    floor(store, vessel, t)
                        + self.places[t * count + k].map_or(0.0, |at| self.interior.value(at))
                } else {
                    before
                };
                let change = (content - rest).clamp(span.fall, span.rise);
                member.flows[t] = span.flow(change);
                member.own_cost += vessel.moving_cost(t, change);
                member.contents.push(content);
                before = content;
            }
            member.own_cost += vessel.holding_cost(&member.contents);
        }
    }

    /// Moves each price to the nearest that suits the meter at the plan.
    fn fit_prices(&mut self) {
        for (t, (meter, price)) in self.meters.iter().zip(&mut self.prices).enumerate() {
            let flow: f64 = self.stores.iter().map(|store| store.flows[t]).sum();
            let (least, most) = meter.slopes_at(meter.net + flow);
            *price = smaller(larger(*price, least), most);
        }
    }
}

/// The least that `store` may hold at the end of slot `t`.
fn floor(store: &Store, vessel: &Vessel, t: usize) -> f64 {
    let span = vessel.span(t);
    if t + 1 == store.to {
        span.low.max(vessel.end_low).min(span.high)
    } else {
        span.low
    }
}
