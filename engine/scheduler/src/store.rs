//! Stores of energy in one common form: the battery, EVs and heat stores. A store has a content, in kWh of SoC or degrees.
//! A slot changes it from `before` to `keep*before + drift + rise*charge - fall*discharge`.

use model::problem::{Battery, Ev, HeatStore, Problem};

use crate::numbers::{REACH_KWH, larger};

/// Penalties of a broken comfort band, SoC bound of the battery and goal of an EV, per kWh and slot, in multiples of the
/// highest cost. The crate's documentation explains their order.
const COMFORT_PENALTY: f64 = 10.0;
const SOC_PENALTY: f64 = 100.0;
const GOAL_PENALTY: f64 = 300.0;

/// Smallest share of its temperature difference that a heat store keeps over a slot. Not 0, because the dynamic program
/// divides by it, and far too small to matter.
const KEPT_MIN: f64 = 1e-18;

/// Which store it is; EVs and heat stores by their index in the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Battery,
    Ev(usize),
    Heat(usize),
}

/// A store of the problem.
#[derive(Debug, Clone)]
pub(crate) struct Store<'a> {
    pub(crate) kind: Kind,
    /// The slots in which it can move: `from..to`.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Content at the start of slot `from`.
    pub(crate) start: f64,
    pub(crate) charge_kw: f64,
    /// Least power while it charges.
    pub(crate) min_charge_kw: f64,
    pub(crate) discharge_kw: f64,
    charge_efficiency: f64,
    pub(crate) discharge_efficiency: f64,
    /// Currency per unit of content moved.
    pub(crate) wear: f64,
    /// The bounds of the content at the end of each slot.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The bounds that the content never leaves, even at a penalty.
    pub(crate) hard_low: f64,
    pub(crate) hard_high: f64,
    /// Content at the end of slot `to - 1`, at least.
    pub(crate) end_low: f64,
    /// Currency for each unit of content at the end above `end_zero`.
    pub(crate) end_value: f64,
    pub(crate) end_zero: f64,
    /// Currency per unit of content outside `low` to `high` in a slot, and below `end_low`; infinite if these are strict.
    pub(crate) penalty: f64,
    pub(crate) end_penalty: f64,
    heat: Option<&'a HeatStore>,
}

/// How a slot changes a content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) keep: f64,
    pub(crate) drift: f64,
    /// Units of content for a kW of charge or discharge.
    pub(crate) rise: f64,
    pub(crate) fall: f64,
    /// kW for a unit, one over each.
    kw_per_rise: f64,
    kw_per_fall: f64,
}

/// The move of a store in a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moved {
    pub(crate) charge_kw: f64,
    pub(crate) discharge_kw: f64,
    pub(crate) content: f64,
}

impl<'a> Store<'a> {
    /// Returns the stores of `problem`, battery first. If `relaxed` is given, bounds may be broken at a penalty in
    /// multiples of it.
    pub(crate) fn all(problem: &'a Problem, relaxed: Option<f64>) -> Vec<Self> {
        let slots = problem.load_kw.len();
        let battery = problem.battery.iter().map(|b| Self::battery(b, slots));
        let evs = problem.evs.iter().enumerate();
        let heat = problem.heat_stores.iter().enumerate();
        let mut stores: Vec<Self> = battery
            .chain(evs.map(|(index, ev)| Self::ev(index, ev)))
            .chain(heat.map(|(index, heat)| Self::heat(index, heat, slots)))
            .collect();
        if let Some(dearest) = relaxed {
            for store in &mut stores {
                store.relax(dearest);
            }
        }
        stores
    }

    fn battery(battery: &Battery, slots: usize) -> Self {
        Self {
            kind: Kind::Battery,
            from: 0,
            to: slots,
            start: battery.soc_kwh,
            charge_kw: battery.charge_kw,
            min_charge_kw: 0.0,
            discharge_kw: battery.discharge_kw,
            charge_efficiency: battery.charge_efficiency,
            discharge_efficiency: battery.discharge_efficiency,
            wear: battery.wear_cost_per_kwh,
            low: battery.min_soc_kwh,
            high: battery.max_soc_kwh,
            hard_low: battery.min_soc_kwh,
            hard_high: battery.max_soc_kwh,
            end_low: battery.end_soc_min_kwh,
            end_value: battery.end_value_per_kwh,
            end_zero: 0.0,
            penalty: f64::INFINITY,
            end_penalty: f64::INFINITY,
            heat: None,
        }
    }

    fn ev(index: usize, ev: &Ev) -> Self {
        let low = ev.min_soc_kwh.min(ev.soc_kwh);
        Self {
            kind: Kind::Ev(index),
            from: ev.arrival_slot as usize,
            to: ev.departure_slot as usize,
            start: ev.soc_kwh,
            charge_kw: ev.charge_kw,
            min_charge_kw: ev.min_charge_kw,
            discharge_kw: ev.discharge_kw,
            charge_efficiency: ev.charge_efficiency,
            discharge_efficiency: ev.discharge_efficiency,
            wear: ev.wear_cost_per_kwh,
            low,
            high: ev.capacity_kwh,
            hard_low: low,
            hard_high: ev.capacity_kwh,
            end_low: ev.goal_soc_kwh,
            end_value: ev.end_value_per_kwh,
            end_zero: 0.0,
            penalty: f64::INFINITY,
            end_penalty: f64::INFINITY,
            heat: None,
        }
    }

    fn heat(index: usize, heat: &'a HeatStore, slots: usize) -> Self {
        Self {
            kind: Kind::Heat(index),
            from: 0,
            to: slots,
            start: heat.temperature_c,
            charge_kw: heat.power_kw,
            min_charge_kw: 0.0,
            discharge_kw: 0.0,
            charge_efficiency: 1.0,
            discharge_efficiency: 1.0,
            wear: 0.0,
            low: heat.min_c,
            high: heat.max_c,
            hard_low: heat.min_c,
            hard_high: heat.max_c,
            end_low: f64::NEG_INFINITY,
            end_value: heat.end_value_per_kwh * heat.kwh_per_k,
            end_zero: heat.min_c,
            penalty: f64::INFINITY,
            end_penalty: f64::INFINITY,
            heat: Some(heat),
        }
    }

    /// Turns bounds into penalties. A battery goes no further outside than it starts; a temperature goes where it must.
    fn relax(&mut self, dearest: f64) {
        match self.kind {
            Kind::Battery => {
                self.hard_low = self.low.min(self.start);
                self.hard_high = self.high.max(self.start);
                self.penalty = SOC_PENALTY * dearest;
                self.end_penalty = SOC_PENALTY * dearest;
            }
            Kind::Ev(_) => self.end_penalty = GOAL_PENALTY * dearest,
            Kind::Heat(_) => {
                self.hard_low = f64::NEG_INFINITY;
                self.hard_high = f64::INFINITY;
                let kwh_per_k = self.heat.map_or(1.0, |heat| heat.kwh_per_k);
                self.penalty = COMFORT_PENALTY * dearest * kwh_per_k;
            }
        }
    }

    /// Returns whether it can move in slot `t`.
    pub(crate) fn moves_in(&self, t: usize) -> bool {
        (self.from..self.to).contains(&t)
    }

    /// Returns whether all slots are alike.
    pub(crate) fn is_steady(&self) -> bool {
        self.heat.is_none()
    }

    /// Returns how slot `t`, `dt` hours long, changes the content.
    pub(crate) fn step(&self, t: usize, dt: f64) -> Step {
        let Some(heat) = self.heat else {
            let (rise, fall) = (self.charge_efficiency * dt, dt / self.discharge_efficiency);
            return Step {
                keep: 1.0,
                drift: 0.0,
                rise,
                fall,
                kw_per_rise: 1.0 / rise,
                kw_per_fall: 1.0 / fall,
            };
        };
        // Degrees per kW of heat over the slot, including the loss while it warms up.
        let exponent = -heat.loss_kw_per_k * dt / heat.kwh_per_k;
        let lost = -exponent.exp_m1();
        let degrees = if heat.loss_kw_per_k > 0.0 {
            lost / heat.loss_kw_per_k
        } else {
            dt / heat.kwh_per_k
        };
        Step {
            keep: if lost > 0.5 {
                larger(exponent.exp(), KEPT_MIN)
            } else {
                1.0 - lost
            },
            drift: lost * heat.ambient_c[t] - degrees * heat.draw_kw[t],
            rise: degrees * heat.cop[t],
            fall: 0.0,
            kw_per_rise: 1.0 / (degrees * heat.cop[t]),
            kw_per_fall: 0.0,
        }
    }

    /// Returns the move from `before` towards `wanted` that comes closest within power limits and hard bounds. A change
    /// below `still` counts as none.
    pub(crate) fn towards(&self, step: &Step, before: f64, wanted: f64, still: f64) -> Moved {
        let rest = step.keep * before + step.drift;
        let wanted = wanted.clamp(self.hard_low, self.hard_high);
        let change = wanted - rest;
        let mut moved = Moved {
            charge_kw: 0.0,
            discharge_kw: 0.0,
            content: rest,
        };
        if change > still && step.rise > 0.0 {
            let power = change * step.kw_per_rise;
            let least = self.min_charge_kw;
            let overflows = |power: f64| rest + power * step.rise > self.hard_high + REACH_KWH;
            let held = if power < least && (power < 0.5 * least || overflows(least)) {
                0.0
            } else {
                power.clamp(least, self.charge_kw)
            };
            moved.charge_kw = held;
            moved.content = if held == power {
                wanted
            } else {
                rest + held * step.rise
            };
        } else if change < -still && self.discharge_kw > 0.0 {
            let power = -change * step.kw_per_fall;
            let held = power.min(self.discharge_kw);
            moved.discharge_kw = held;
            moved.content = if held == power {
                wanted
            } else {
                rest - held * step.fall
            };
        }
        moved
    }
    /// Returns the move without a plan: an EV charges at once up to its goal, a heater keeps the lower end of its band.
    pub(crate) fn left_alone(&self, step: &Step, before: f64) -> Moved {
        let wanted = match self.kind {
            Kind::Battery => before,
            Kind::Ev(_) => self.end_low,
            Kind::Heat(_) => self.low,
        };
        let rest = step.keep * before + step.drift;
        let charge_kw = if wanted > rest && step.rise > 0.0 {
            let power = ((wanted - rest) / step.rise).clamp(self.min_charge_kw, self.charge_kw);
            // A charger that is only on or off stops before the car would be more than full.
            if rest + power * step.rise > self.hard_high.max(wanted) {
                0.0
            } else {
                power
            }
        } else {
            0.0
        };
        Moved {
            charge_kw,
            discharge_kw: 0.0,
            content: rest + charge_kw * step.rise,
        }
    }
}

impl Moved {
    pub(crate) fn at_start(store: &Store) -> Self {
        Self {
            charge_kw: 0.0,
            discharge_kw: 0.0,
            content: store.start,
        }
    }

    /// Returns the same content without a move.
    pub(crate) fn resting(self) -> Self {
        Self {
            charge_kw: 0.0,
            discharge_kw: 0.0,
            ..self
        }
    }
}
