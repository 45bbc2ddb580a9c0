//! The cost and figures of a plan, computed from its slots alone, never taken from a solver.

use model::problem::{Ev, HeatStore, Problem, Signal};
use model::schedule::{Metrics, PlannedSlot, Relaxation};

use crate::store::{Kind, Store};
use crate::terms::Terms;

/// Violations up to this are noise of the search, in the unit of the limit.
const NOISE: f64 = 1e-6;

/// Returns the objective of `POST /api/optimize`, currency, and the figures over the horizon.
pub(crate) fn figures(problem: &Problem, slots: &[PlannedSlot]) -> (f64, Metrics) {
    let tally = tally(problem, slots);
    let objective = tally.weighted_cost(problem)
        + peak(problem, slots)
        + battery(problem, slots)
        + evs(problem, slots)
        + heat(problem, slots)
        + departures(problem, slots)
        + signalled(problem, slots);
    (objective, tally.metrics(problem))
}

/// Returns what the signal adds to the cost: its price of the net flow, and what breaking its caps costs.
pub(crate) fn signalled(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    let Some(signal) = &problem.signal else {
        return 0.0;
    };
    let dt = f64::from(problem.slot_minutes) / 60.0;
    let priced = slots.iter().enumerate();
    let priced = priced.map(|(t, slot)| signal.price(t) * net_kw(slot));
    dt * priced.sum::<f64>() + breaches(problem, slots)
}

/// Returns what breaking the signal's caps costs.
pub(crate) fn breaches(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    let Some(signal) = &problem.signal else {
        return 0.0;
    };
    let dt = f64::from(problem.slot_minutes) / 60.0;
    let beyond = slots.iter().enumerate();
    let costs = beyond.map(|(t, slot)| {
        let (import_kw, export_kw) = beyond_caps_kw(signal, t, slot);
        signal.import_breach_price_per_kwh * import_kw.max(0.0)
            + signal.export_breach_price_per_kwh * export_kw.max(0.0)
    });
    dt * costs.sum::<f64>()
}

/// Returns by how much the net flow is beyond the caps on import and on export, kW; below 0 where it keeps them.
fn beyond_caps_kw(signal: &Signal, t: usize, slot: &PlannedSlot) -> (f64, f64) {
    let (import_kw, export_kw) = signal.caps_kw(t);
    (net_kw(slot) - import_kw, -net_kw(slot) - export_kw)
}

/// Returns the net flow at the meter, kW, positive for import.
fn net_kw(slot: &PlannedSlot) -> f64 {
    slot.grid_import_kw - slot.grid_export_kw
}

/// Returns the cost of the highest import.
fn peak(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    let price = problem.grid.peak_price_per_kw;
    if price == 0.0 {
        return 0.0;
    }
    let imports = slots.iter().map(|slot| slot.grid_import_kw);
    price * (imports.fold(0.0, f64::max) - problem.grid.peak_kw).max(0.0)
}

/// Returns the wear of the battery minus the value of the energy left in it.
fn battery(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    let Some(battery) = &problem.battery else {
        return 0.0;
    };
    let last = slots.last().map_or(battery.soc_kwh, |slot| slot.soc_kwh);
    let mut moved = 0.0;
    if battery.wear_cost_per_kwh > 0.0 {
        let mut before = battery.soc_kwh;
        for slot in slots {
            moved += (slot.soc_kwh - before).abs();
            before = slot.soc_kwh;
        }
    }
    battery.wear_cost_per_kwh * moved - battery.end_value_per_kwh * last
}

/// Returns the same for EVs.
fn evs(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    let mut cost = 0.0;
    for ev in &problem.evs {
        let mut before = ev.soc_kwh;
        let mut moved = 0.0;
        for soc in slots.iter().map(|slot| soc_of(slot, ev)) {
            moved += (soc - before).abs();
            before = soc;
        }
        cost += ev.wear_cost_per_kwh * moved - ev.end_value_per_kwh * before;
    }
    cost
}

fn heat(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    let worth = |store: &HeatStore| {
        let last = slots.last().map(|slot| temperature_of(slot, store));
        let above = last.unwrap_or(store.temperature_c) - store.min_c;
        store.end_value_per_kwh * store.kwh_per_k * above
    };
    -problem.heat_stores.iter().map(worth).sum::<f64>()
}

/// Returns the cost of departing from the previous plan.
fn departures(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    let Some(stability) = &problem.stability else {
        return 0.0;
    };
    let mut apart = 0.0;
    if let Some(battery) = &problem.battery {
        let mut before = battery.soc_kwh;
        for (slot, planned) in slots.iter().zip(&stability.soc_change_kwh) {
            apart += (slot.soc_kwh - before - planned).abs();
            before = slot.soc_kwh;
        }
    }
    let mut moved = 0.0;
    for (id, planned) in &stability.start_slots {
        let start = slots
            .iter()
            .position(|slot| slot.appliances.get(id) == Some(&true));
        if start.is_some_and(|start| start != *planned as usize) {
            moved += 1.0;
        }
    }
    stability.battery_cost_per_kwh * apart + stability.start_cost * moved
}

/// Returns the SoC of `ev` at the end of `slot`, kWh.
pub(crate) fn soc_of(slot: &PlannedSlot, ev: &Ev) -> f64 {
    slot.evs
        .get(&ev.id)
        .map_or(f64::NAN, |planned| planned.soc_kwh)
}

/// Returns the temperature of `store` at the end of `slot`, degrees Celsius.
pub(crate) fn temperature_of(slot: &PlannedSlot, store: &HeatStore) -> f64 {
    let planned = slot.heat.get(&store.id);
    planned.map_or(f64::NAN, |planned| planned.temperature_c)
}

/// Returns the penalties of broken limits, currency; 0 if every limit holds.
pub(crate) fn penalty(problem: &Problem, terms: &Terms, slots: &[PlannedSlot]) -> f64 {
    let over = |power: f64, limit: Option<f64>| (power - limit.unwrap_or(power)).max(0.0);
    let grid: f64 = slots
        .iter()
        .map(|slot| {
            over(slot.grid_import_kw, problem.grid.import_limit_kw)
                + over(slot.grid_export_kw, problem.grid.export_limit_kw)
        })
        .sum();
    let stores: f64 = terms
        .stores
        .iter()
        .map(|store| store_penalty(problem, store, slots))
        .sum();
    terms.grid_penalty() * terms.dt * grid + stores
}

fn store_penalty(problem: &Problem, store: &Store, slots: &[PlannedSlot]) -> f64 {
    let content = |slot: &PlannedSlot| match store.kind {
        Kind::Battery => slot.soc_kwh,
        Kind::Ev(index) => soc_of(slot, &problem.evs[index]),
        Kind::Heat(index) => temperature_of(slot, &problem.heat_stores[index]),
    };
    let mut cost = 0.0;
    if store.penalty.is_finite() {
        let outside = slots[store.from..store.to].iter().map(content);
        cost += store.penalty
            * outside
                .map(|content| (store.low - content).max(0.0) + (content - store.high).max(0.0))
                .sum::<f64>();
    }
    if store.end_penalty.is_finite() {
        let last = slots[..store.to].last().map_or(store.start, content);
        cost += store.end_penalty * (store.end_low - last).max(0.0);
    }
    cost
}

/// Returns the limits that `slots` break, and the caps of the signal, each with its largest amount in the unit that its name
/// ends with.
pub(crate) fn relaxations(problem: &Problem, slots: &[PlannedSlot]) -> Vec<Relaxation> {
    let mut found = broken_limits(problem, slots);
    if let Some(signal) = &problem.signal {
        let (mut import, mut export) = (0.0_f64, 0.0_f64);
        for (t, slot) in slots.iter().enumerate() {
            let (import_kw, export_kw) = beyond_caps_kw(signal, t, slot);
            (import, export) = (import.max(import_kw), export.max(export_kw));
        }
        for (name, amount) in [("import", import), ("export", export)] {
            if amount > NOISE {
                let constraint = format!("signal.{name}_cap_kw");
                found.push(Relaxation { constraint, amount });
            }
        }
    }
    found
}

/// Returns the limits that `slots` break, as [`relaxations`] does, without the caps of the signal: those have a price.
/// A SoC that starts outside its bounds counts.
pub(crate) fn broken_limits(problem: &Problem, slots: &[PlannedSlot]) -> Vec<Relaxation> {
    let largest = |amounts: &mut dyn Iterator<Item = f64>| amounts.fold(0.0, f64::max);
    let mut found = Vec::new();
    let mut note = |constraint: &str, amount: f64| {
        if amount > NOISE {
            found.push(Relaxation {
                constraint: constraint.to_owned(),
                amount,
            });
        }
    };
    if let Some(limit) = problem.grid.import_limit_kw {
        let mut amounts = slots.iter().map(|slot| slot.grid_import_kw - limit);
        note("grid.import_limit_kw", largest(&mut amounts));
    }
    if let Some(limit) = problem.grid.export_limit_kw {
        let mut amounts = slots.iter().map(|slot| slot.grid_export_kw - limit);
        note("grid.export_limit_kw", largest(&mut amounts));
    }
    if let Some(battery) = &problem.battery {
        let (mut least, mut most) = (battery.soc_kwh, battery.soc_kwh);
        for slot in slots {
            least = least.min(slot.soc_kwh);
            most = most.max(slot.soc_kwh);
        }
        note("battery.min_soc_kwh", battery.min_soc_kwh - least);
        note("battery.max_soc_kwh", most - battery.max_soc_kwh);
        let last = slots.last().map_or(battery.soc_kwh, |slot| slot.soc_kwh);
        note("battery.end_soc_min_kwh", battery.end_soc_min_kwh - last);
    }
    for ev in &problem.evs {
        let last = slots.last().map_or(ev.soc_kwh, |slot| soc_of(slot, ev));
        let name = format!("evs.{}.goal_soc_kwh", ev.id);
        note(&name, ev.goal_soc_kwh - last);
    }
    for store in &problem.heat_stores {
        let temperatures = || slots.iter().map(|slot| temperature_of(slot, store));
        let mut below = temperatures().map(|temperature| store.min_c - temperature);
        note(
            &format!("heat_stores.{}.min_c", store.id),
            largest(&mut below),
        );
        let mut above = temperatures().map(|temperature| temperature - store.max_c);
        note(
            &format!("heat_stores.{}.max_c", store.id),
            largest(&mut above),
        );
    }
    found
}

/// Sums over slots.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    cost: f64,
    revenue: f64,
    import: f64,
    export: f64,
    consumed: f64,
    pv: f64,
}

/// What flows in a slot, kW.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flows {
    pub(crate) import: f64,
    pub(crate) export: f64,
    pub(crate) consumed: f64,
    pub(crate) pv: f64,
}

impl Tally {
    pub(crate) fn add(&mut self, buy: f64, sell: f64, flows: &Flows) {
        let revenue = sell * flows.export;
        self.cost += buy * flows.import - revenue;
        self.revenue += revenue;
        self.import += flows.import;
        self.export += flows.export;
        self.consumed += flows.consumed;
        self.pv += flows.pv;
    }

    /// Returns the weighted cost of import and export.
    fn weighted_cost(&self, problem: &Problem) -> f64 {
        let dt = f64::from(problem.slot_minutes) / 60.0;
        let weights = problem.weights;
        dt * (weights.cost * self.cost + weights.autarky * self.import
            - weights.revenue * self.revenue)
    }

    /// Returns the figures. `autarky` is 1 if nothing is consumed, and `self_consumption` is 1 if nothing is produced. Both
    /// are clamped to 0 to 1, because a battery that trades with the grid may import more than the home consumes.
    pub(crate) fn metrics(&self, problem: &Problem) -> Metrics {
        let dt = f64::from(problem.slot_minutes) / 60.0;
        let share_kept = |lost: f64, whole: f64| {
            if whole > 0.0 {
                (1.0 - lost / whole).clamp(0.0, 1.0)
            } else {
                1.0
            }
        };
        Metrics {
            cost: dt * self.cost,
            grid_import_kwh: dt * self.import,
            grid_export_kwh: dt * self.export,
            autarky: share_kept(self.import, self.consumed),
            self_consumption: share_kept(self.export, self.pv),
        }
    }
}

fn tally(problem: &Problem, slots: &[PlannedSlot]) -> Tally {
    let mut tally = Tally::default();
    let prices = problem.buy_price.iter().zip(&problem.sell_price);
    for (slot, (buy, sell)) in slots.iter().zip(prices) {
        let flows = Flows {
            import: slot.grid_import_kw,
            export: slot.grid_export_kw,
            consumed: consumed_kw(slot),
            pv: slot.pv_kw,
        };
        tally.add(*buy, *sell, &flows);
    }
    tally
}

/// Returns the consumption of load, appliances, EVs and heaters, kW. Energy from EVs reduces it.
fn consumed_kw(slot: &PlannedSlot) -> f64 {
    let evs = slot.evs.values().map(|ev| ev.charge_kw - ev.discharge_kw);
    let heat = slot.heat.values().map(|heat| heat.power_kw);
    slot.load_kw + evs.chain(heat).sum::<f64>()
}
