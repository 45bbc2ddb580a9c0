//! The one store that the dynamic program moves: what it may hold, how fast, and what that costs. A slot's move `x` is
//! the change of content by its own doing; the content follows `keep*before + drift + x`.

use model::problem::Problem;

use crate::store::{Kind, Store};
use crate::terms::Terms;

/// What a unit through the store costs on top of its wear, in multiples of a typical price. It breaks ties towards
/// rest: a plan may be worse by this share of a price for each unit that it does not move.
const TIE_BREAK: f64 = 1e-9;

/// What a slot lets the store do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) keep: f64,
    pub(crate) drift: f64,
    /// Content that is never left at the end of the slot.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Largest fall and rise, units of content: 0 or less, 0 or more.
    pub(crate) fall: f64,
    pub(crate) rise: f64,
    /// Least rise above 0.
    pub(crate) least_rise: f64,
    /// Units of content for a kWh at the AC side, and kWh at the AC side for a unit.
    pub(crate) charge_efficiency: f64,
    pub(crate) discharge_efficiency: f64,
    /// One over each, for divisions take long.
    pub(crate) charge_per_unit: f64,
    pub(crate) discharge_per_kwh: f64,
}

impl Span {
    const CLOSED: Self = Self {
        keep: 1.0,
        drift: 0.0,
        low: 0.0,
        high: 0.0,
        fall: 0.0,
        rise: 0.0,
        least_rise: 0.0,
        charge_efficiency: 1.0,
        discharge_efficiency: 1.0,
        charge_per_unit: 1.0,
        discharge_per_kwh: 1.0,
    };

    /// Energy at the AC side for a move, kWh.
    pub(crate) fn flow(&self, change: f64) -> f64 {
        if change > 0.0 {
            change * self.charge_per_unit
        } else {
            change * self.discharge_efficiency
        }
    }

    /// What a unit costs, upwards, where a kWh at the AC side costs `price` and moving a unit `movement`.
    pub(crate) fn unit_cost(&self, rises: bool, price: f64, movement: f64) -> f64 {
        if rises {
            price * self.charge_per_unit + movement
        } else {
            price * self.discharge_efficiency - movement
        }
    }

    /// The move that takes `flow` at the AC side.
    pub(crate) fn change(&self, flow: f64) -> f64 {
        if flow > 0.0 {
            flow * self.charge_efficiency
        } else {
            flow * self.discharge_per_kwh
        }
    }
}

/// Bounds that cost a penalty instead of holding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Soft {
    /// Bounds at the end of each slot.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Currency per unit outside; 0 where the bounds hold anyway.
    pub(crate) penalty: f64,
    /// Currency per unit below `end_low` at the end.
    pub(crate) end_penalty: f64,
}

/// The store. Its slots are one for all, or one each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vessel {
    /// Content at the start.
    pub(crate) start: f64,
    /// Content at the end of the horizon, at least.
    pub(crate) end_low: f64,
    /// What a unit left at the end is worth, counted from `end_zero`.
    pub(crate) end_value: f64,
    end_zero: f64,
    /// Currency per unit moved, without and with the tie-break.
    pub(crate) wear: f64,
    pub(crate) movement: f64,
    /// Where bounds may be broken.
    pub(crate) soft: Option<Soft>,
    /// The moves of the plan before, and what each unit apart from them costs.
    planned: Vec<f64>,
    planned_cost: f64,
    spans: Vec<Span>,
}

impl Vessel {
    /// Makes this the only store of `problem`, or one that holds nothing where there is none.
    pub(crate) fn set(&mut self, problem: &Problem, terms: &Terms) {
        self.set_to(problem, terms, terms.stores.first());
    }

    /// Makes this `store` of `problem`, or one that holds nothing.
    pub(crate) fn set_to(&mut self, problem: &Problem, terms: &Terms, store: Option<&Store>) {
        self.spans.clear();
        self.planned.clear();
        self.planned_cost = 0.0;
        self.soft = None;
        let Some(store) = store else {
            self.spans.push(Span::CLOSED);
            (self.start, self.end_low) = (0.0, 0.0);
            (self.end_value, self.end_zero) = (0.0, 0.0);
            (self.wear, self.movement) = (0.0, 0.0);
            return;
        };
        self.start = store.start;
        self.end_low = store.end_low;
        (self.end_value, self.end_zero) = (store.end_value, store.end_zero);
        self.wear = store.wear;
        self.movement = store.wear + TIE_BREAK * terms.typical;
        if terms.is_relaxed() {
            self.soft = Some(Soft {
                low: store.low,
                high: store.high,
                penalty: finite_or_none(store.penalty),
                end_penalty: finite_or_none(store.end_penalty),
            });
        }
        let slots = terms.buy.len();
        match store.kind {
            Kind::Battery => {
                self.spans.push(span(store, 0, terms.dt));
                self.keep_to(problem);
            }
            Kind::Ev(_) => {
                let plugged = span(store, store.from, terms.dt);
                let away = Span {
                    fall: 0.0,
                    rise: 0.0,
                    least_rise: 0.0,
                    ..plugged
                };
                let at = |t| if store.moves_in(t) { plugged } else { away };
                self.spans.extend((0..slots).map(at));
            }
            Kind::Heat(_) => {
                self.spans
                    .extend((0..slots).map(|t| span(store, t, terms.dt)));
                self.bound_by_reach();
            }
        }
    }

    fn keep_to(&mut self, problem: &Problem) {
        if let Some(stability) = &problem.stability {
            self.planned.extend_from_slice(&stability.soc_change_kwh);
            self.planned_cost = stability.battery_cost_per_kwh;
        }
    }

    /// A temperature that may go where it must goes no further than the heater takes it.
    fn bound_by_reach(&mut self) {
        let (mut low, mut high) = (self.start, self.start);
        for span in &mut self.spans {
            low = span.keep * low + span.drift;
            high = span.keep * high + span.drift + span.rise;
            span.low = span.low.max(low - 1.0);
            span.high = span.high.min(high + 1.0);
        }
    }

    /// What slot `t` lets the store do.
    pub(crate) fn span(&self, t: usize) -> &Span {
        match self.spans.as_slice() {
            [all] => all,
            each => &each[t],
        }
    }

    /// The move of the plan before in slot `t` with what departing from it costs.
    pub(crate) fn planned(&self, t: usize) -> Option<(f64, f64)> {
        self.planned.get(t).map(|move_| (*move_, self.planned_cost))
    }

    /// Whether there is a plan before.
    pub(crate) fn is_planned(&self) -> bool {
        !self.planned.is_empty()
    }

    /// What moving by `change` in slot `t` costs beside its energy, without the tie-break.
    pub(crate) fn moving_cost(&self, t: usize, change: f64) -> f64 {
        let apart = self
            .planned(t)
            .map_or(0.0, |(planned, cost)| cost * (change - planned).abs());
        self.wear * change.abs() + apart
    }

    /// What it costs to hold `contents` at the end of the slots: penalties, less the worth of what is left.
    pub(crate) fn holding_cost(&self, contents: &[f64]) -> f64 {
        let last = contents.last().copied().unwrap_or(self.start);
        let worth = self.end_value * (last - self.end_zero);
        let Some(soft) = self.soft else {
            return -worth;
        };
        let outside: f64 = contents
            .iter()
            .map(|content| (soft.low - content).max(0.0) + (content - soft.high).max(0.0))
            .sum();
        soft.penalty * outside + soft.end_penalty * (self.end_low - last).max(0.0) - worth
    }
}

fn finite_or_none(penalty: f64) -> f64 {
    if penalty.is_finite() { penalty } else { 0.0 }
}

fn span(store: &Store, t: usize, dt: f64) -> Span {
    let step = store.step(t, dt);
    Span {
        keep: step.keep,
        drift: step.drift,
        low: store.hard_low,
        high: store.hard_high,
        fall: -store.discharge_kw * step.fall,
        rise: store.charge_kw * step.rise,
        least_rise: store.min_charge_kw * step.rise,
        charge_efficiency: step.rise / dt,
        discharge_efficiency: if step.fall > 0.0 { dt / step.fall } else { 1.0 },
        charge_per_unit: dt / step.rise,
        discharge_per_kwh: if step.fall > 0.0 { step.fall / dt } else { 1.0 },
    }
}
