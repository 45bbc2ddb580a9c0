//! Checks a plan against its problem from the slots alone. Never calls a solver, and shares no arithmetic with the
//! dispatch: only the objective and the metrics are recomputed by the same sums.

use model::problem::{Battery, Ev, HeatStore, Problem};
use model::schedule::{Metrics, Plan, PlannedSlot, Relaxation, Status};
use model::units::MINUTE_MS;

use crate::numbers::TOLERANCE;
use crate::score;

/// A rule that a plan breaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// The slot's index; `None` if it concerns the whole plan.
    pub slot: Option<usize>,
    /// The rule, such as `energy balance` or `battery.max_soc_kwh`.
    pub rule: String,
    /// By how much it is broken, in the unit of the rule: more than 0; 1 if it cannot be measured.
    pub amount: f64,
}

/// Returns every rule that `plan` breaks; empty if it is a valid answer to `problem`.
///
/// An infeasible plan is valid only without slots. A relaxed plan may break the limits that it names, by at most the
/// amount that it states. `problem` must be one that [`crate::validate`] accepts.
#[must_use]
pub fn verify(problem: &Problem, plan: &Plan) -> Vec<Violation> {
    let mut check = Check {
        problem,
        plan,
        dt: f64::from(problem.slot_minutes) / 60.0,
        found: Vec::new(),
    };
    match plan.status {
        Status::Infeasible => check.require(None, "no slots", plan.slots.is_empty()),
        Status::Optimal | Status::Relaxed if plan.slots.len() != problem.load_kw.len() => {
            check.require(None, "one entry a slot", false);
        }
        Status::Optimal | Status::Relaxed => check.all(),
    }
    check.found
}

struct Check<'a> {
    problem: &'a Problem,
    plan: &'a Plan,
    dt: f64,
    found: Vec<Violation>,
}

impl Check<'_> {
    fn all(&mut self) {
        let mut before = self.problem.battery.as_ref().map_or(0.0, |b| b.soc_kwh);
        for (t, slot) in self.plan.slots.iter().enumerate() {
            self.finite(t, slot);
            self.slot(t, slot);
            self.flows(t, slot);
            match &self.problem.battery {
                Some(battery) => self.battery(t, slot, battery, before),
                None => self.no_battery(t, slot),
            }
            before = slot.soc_kwh;
        }
        for ev in &self.problem.evs {
            self.ev(ev);
        }
        for store in &self.problem.heat_stores {
            self.heat_store(store);
        }
        self.appliances();
        self.limits();
        self.figures();
    }

    fn require(&mut self, slot: Option<usize>, rule: &str, holds: bool) {
        self.at_most(slot, rule, if holds { 0.0 } else { 1.0 }, 0.0);
    }

    /// Checks an upper limit. NaN is above every limit.
    fn at_most(&mut self, slot: Option<usize>, rule: &str, value: f64, limit: f64) {
        let amount = value - limit;
        if amount <= TOLERANCE * 1.0_f64.max(limit.abs()) {
            return;
        }
        self.found.push(Violation {
            slot,
            rule: rule.to_owned(),
            amount,
        });
    }

    fn equal(&mut self, slot: Option<usize>, rule: &str, value: f64, expected: f64) {
        let size = 1.0_f64.max(expected.abs());
        self.at_most(slot, rule, (value - expected).abs() / size, 0.0);
    }

    fn finite(&mut self, t: usize, slot: &PlannedSlot) {
        let flows = [
            ("load_kw", slot.load_kw),
            ("pv_kw", slot.pv_kw),
            ("grid_import_kw", slot.grid_import_kw),
            ("grid_export_kw", slot.grid_export_kw),
            ("battery_charge_kw", slot.battery_charge_kw),
            ("battery_discharge_kw", slot.battery_discharge_kw),
            ("soc_kwh", slot.soc_kwh),
        ];
        for (name, value) in flows {
            let rule = format!("{name} is finite and 0 or more");
            self.require(Some(t), &rule, value.is_finite() && value >= 0.0);
        }
        let rule = "shadow_price is finite";
        self.require(Some(t), rule, slot.shadow_price.is_finite());
    }

    fn slot(&mut self, t: usize, slot: &PlannedSlot) {
        let index = i64::try_from(t).expect("a horizon has at most 672 slots");
        let slot_ms = i64::from(self.problem.slot_minutes) * MINUTE_MS;
        let start = self.problem.start_ms + index * slot_ms;
        self.require(Some(t), "start", slot.start_ms == start);
        let available = self.problem.pv_kw[t];
        if self.problem.pv_curtailable {
            self.at_most(Some(t), "pv_kw available", slot.pv_kw, available);
        } else {
            self.equal(Some(t), "pv_kw as it is", slot.pv_kw, available);
        }
    }

    fn flows(&mut self, t: usize, slot: &PlannedSlot) {
        let heat: f64 = slot.heat.values().map(|heat| heat.power_kw).sum();
        let charge: f64 = slot.evs.values().map(|ev| ev.charge_kw).sum();
        let discharge: f64 = slot.evs.values().map(|ev| ev.discharge_kw).sum();
        let out = slot.load_kw + slot.battery_charge_kw + slot.grid_export_kw + charge + heat;
        let into = slot.pv_kw + slot.battery_discharge_kw + slot.grid_import_kw + discharge;
        self.equal(Some(t), "energy balance", out, into);
        let both = slot.grid_import_kw.min(slot.grid_export_kw);
        self.require(Some(t), "import or export", both <= 0.0);
        let both = slot.battery_charge_kw.min(slot.battery_discharge_kw);
        self.require(Some(t), "charge or discharge", both <= 0.0);
    }

    fn battery(&mut self, t: usize, slot: &PlannedSlot, battery: &Battery, before: f64) {
        let t = Some(t);
        let (charge, discharge) = (slot.battery_charge_kw, slot.battery_discharge_kw);
        self.at_most(t, "battery.charge_kw", charge, battery.charge_kw);
        self.at_most(t, "battery.discharge_kw", discharge, battery.discharge_kw);
        let change = battery.charge_efficiency * charge * self.dt
            - discharge * self.dt / battery.discharge_efficiency;
        let drift = slot.soc_kwh - before - change;
        self.at_most(t, "soc follows the flows", drift.abs(), 0.0);
        self.at_most(t, "capacity", slot.soc_kwh, battery.capacity_kwh);
    }

    fn ev(&mut self, ev: &Ev) {
        let name = |rule: &str| format!("evs.{} {rule}", ev.id);
        let mut before = ev.soc_kwh;
        for (t, slot) in self.plan.slots.iter().enumerate() {
            let at = Some(t);
            let Some(planned) = slot.evs.get(&ev.id) else {
                self.require(at, &name("named"), false);
                continue;
            };
            let (charge, discharge) = (planned.charge_kw, planned.discharge_kw);
            let is_there = (ev.arrival_slot as usize..ev.departure_slot as usize).contains(&t);
            let most = if is_there {
                (ev.charge_kw, ev.discharge_kw)
            } else {
                (0.0, 0.0)
            };
            self.within(at, &name("charge_kw"), charge, (0.0, most.0));
            self.within(at, &name("discharge_kw"), discharge, (0.0, most.1));
            let both = charge.min(discharge);
            self.require(at, &name("charge or discharge"), both <= 0.0);
            if charge > 0.0 {
                self.at_most(at, &name("min_charge_kw"), ev.min_charge_kw, charge);
            }
            let change = ev.charge_efficiency * charge * self.dt
                - discharge * self.dt / ev.discharge_efficiency;
            let drift = planned.soc_kwh - before - change;
            self.at_most(at, &name("soc follows the flows"), drift.abs(), 0.0);
            let low = ev.min_soc_kwh.min(ev.soc_kwh);
            let bounds = (low, ev.capacity_kwh);
            self.within(at, &name("soc_kwh"), planned.soc_kwh, bounds);
            before = planned.soc_kwh;
        }
    }

    fn heat_store(&mut self, store: &HeatStore) {
        let name = |rule: &str| format!("heat_stores.{} {rule}", store.id);
        let mut before = store.temperature_c;
        for (t, slot) in self.plan.slots.iter().enumerate() {
            let at = Some(t);
            let Some(planned) = slot.heat.get(&store.id) else {
                self.require(at, &name("named"), false);
                continue;
            };
            let power = planned.power_kw;
            self.within(at, &name("power_kw"), power, (0.0, store.power_kw));
            let heat_kw = store.cop[t] * power - store.draw_kw[t];
            let expected = if store.loss_kw_per_k > 0.0 {
                // The share of the temperature difference that is gone after the slot.
                let gone = -(-self.dt * store.loss_kw_per_k / store.kwh_per_k).exp_m1();
                before + gone * (store.ambient_c[t] - before) + heat_kw * gone / store.loss_kw_per_k
            } else {
                before + heat_kw * self.dt / store.kwh_per_k
            };
            let rule = name("temperature follows the heat");
            self.equal(at, &rule, planned.temperature_c, expected);
            before = planned.temperature_c;
        }
    }

    /// Checks a range. NaN is outside every range.
    fn within(&mut self, slot: Option<usize>, rule: &str, value: f64, bounds: (f64, f64)) {
        self.at_most(slot, rule, value, bounds.1);
        self.at_most(slot, rule, bounds.0, value);
    }

    fn no_battery(&mut self, t: usize, slot: &PlannedSlot) {
        let sum = slot.battery_charge_kw + slot.battery_discharge_kw + slot.soc_kwh;
        self.at_most(Some(t), "no battery", sum, 0.0);
    }

    fn appliances(&mut self) {
        let mut load = self.problem.load_kw.clone();
        for appliance in &self.problem.appliances {
            let runs: Vec<usize> = (0..load.len())
                .filter(|t| self.plan.slots[*t].appliances.get(&appliance.id) == Some(&true))
                .collect();
            let length = appliance.profile_kw.len();
            let start = runs.first().copied().unwrap_or(0);
            let is_whole = runs.len() == length && runs.last() == Some(&(start + length - 1));
            let is_inside = start >= appliance.earliest_slot as usize
                && start + length <= appliance.latest_end_slot as usize;
            let rule = format!("{} runs once, whole, in its window", appliance.id);
            self.require(None, &rule, is_whole && is_inside);
            for (load, power) in load.iter_mut().skip(start).zip(&appliance.profile_kw) {
                *load += power;
            }
        }
        for (t, load) in load.into_iter().enumerate() {
            let slot = &self.plan.slots[t];
            self.equal(Some(t), "load_kw with appliances", slot.load_kw, load);
            let named = self.problem.appliances.iter();
            let known = named
                .filter(|a| slot.appliances.contains_key(&a.id))
                .count();
            let is_exact = known == slot.appliances.len()
                && known == self.problem.appliances.len()
                && slot.evs.len() == self.problem.evs.len()
                && slot.heat.len() == self.problem.heat_stores.len();
            self.require(Some(t), "everything named", is_exact);
        }
    }

    /// Checks grid limits, SoC bounds and end SoC, apart from what the plan states as relaxed.
    fn limits(&mut self) {
        let is_relaxed = self.plan.status == Status::Relaxed;
        self.require(
            None,
            "status names limits",
            is_relaxed != self.plan.relaxed.is_empty(),
        );
        let broken = score::relaxations(self.problem, &self.plan.slots);
        let said = |constraint: &str, all: &[Relaxation]| {
            all.iter()
                .find(|relaxation| relaxation.constraint == constraint)
                .map_or(0.0, |relaxation| relaxation.amount)
        };
        for relaxation in &broken {
            let name = &relaxation.constraint;
            self.at_most(
                None,
                name,
                relaxation.amount,
                said(name, &self.plan.relaxed),
            );
        }
        for relaxation in &self.plan.relaxed {
            let name = &relaxation.constraint;
            let amount = said(name, &broken);
            self.equal(None, "relaxed as said", relaxation.amount, amount);
        }
    }

    fn figures(&mut self) {
        let slots = &self.plan.slots;
        let (objective, metrics) = score::figures(self.problem, slots);
        self.equal(None, "objective", self.plan.objective, objective);
        let is_gap = self.plan.gap.is_finite() && self.plan.gap >= 0.0;
        self.require(None, "gap is finite and 0 or more", is_gap);
        let named = |metrics: &Metrics| {
            [
                ("metrics.cost", metrics.cost),
                ("metrics.grid_import_kwh", metrics.grid_import_kwh),
                ("metrics.grid_export_kwh", metrics.grid_export_kwh),
                ("metrics.autarky", metrics.autarky),
                ("metrics.self_consumption", metrics.self_consumption),
            ]
        };
        for ((name, value), (_, expected)) in
            named(&self.plan.metrics).into_iter().zip(named(&metrics))
        {
            self.equal(None, name, value, expected);
        }
    }
}
