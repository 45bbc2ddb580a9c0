//! From decisions to slots: given start slots and SoC, everything else in a slot is arithmetic.
//! Never charges and discharges, or imports and exports, in the same slot.

use std::collections::BTreeMap;

use model::problem::Problem;
use model::schedule::{Metrics, PlannedEv, PlannedHeat, PlannedSlot};
use model::units::MINUTE_MS;

use crate::appliances::running_kw;
use crate::numbers::larger;
use crate::score::{Flows, Tally};
use crate::store::{Kind, Moved, Step, Store};
use crate::terms::Terms;

/// A power below this is rounding noise, kW.
const NOISE_KW: f64 = 1e-9;
/// A grid limit broken by at most this is noise of the search, which a store corrects, kW.
const LIMIT_NOISE_KW: f64 = 1e-6;

/// The decisions of a search.
#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    /// Start slot of each appliance, in the problem's order.
    pub(crate) starts: Vec<usize>,
    /// For each store its content at the end of each slot, up to the last slot in which it moves.
    pub(crate) contents: Vec<Vec<f64>>,
    /// Changes of content up to this are noise.
    pub(crate) still: f64,
    /// The highest import that the search assumed; infinite if the peak has no price.
    pub(crate) peak_kw: f64,
}

/// Returns the slots that follow from `decisions`, with `shadow_prices` if there are any.
pub(crate) fn dispatch(
    problem: &Problem,
    terms: &Terms,
    decisions: &Decisions,
    shadow_prices: &[f64],
) -> Vec<PlannedSlot> {
    let slots_count = problem.load_kw.len();
    let grid = problem.grid;
    let has_limits = grid.import_limit_kw.is_some() || grid.export_limit_kw.is_some();
    let mut slots = Vec::with_capacity(slots_count);
    let mut moved: Vec<Moved> = terms.stores.iter().map(Moved::at_start).collect();
    let mut steps: Vec<Step> = terms.stores.iter().map(|s| s.step(0, terms.dt)).collect();
    for t in 0..slots_count {
        slots.push(base_slot(problem, &decisions.starts, t));
        let slot = &mut slots[t];
        slot.shadow_price = shadow_prices.get(t).copied().unwrap_or(0.0);
        let mut consumed_kw = slot.load_kw;
        for (k, store) in terms.stores.iter().enumerate() {
            let wanted = decisions.contents[k].get(t);
            moved[k] = match wanted.filter(|_| store.moves_in(t)) {
                Some(wanted) => {
                    if !store.is_steady() {
                        steps[k] = store.step(t, terms.dt);
                    }
                    store.towards(&steps[k], moved[k].content, *wanted, decisions.still)
                }
                None => moved[k].resting(),
            };
            consumed_kw += moved[k].charge_kw - moved[k].discharge_kw;
        }
        if has_limits {
            consumed_kw -= take_back(problem, terms, &steps, &mut moved, (t, consumed_kw));
        }
        for (store, moved) in terms.stores.iter().zip(&moved) {
            note(problem, store, moved, slot);
        }
        slot.pv_kw = used_pv(problem, terms, decisions.peak_kw, (t, consumed_kw));
        meter(slot, consumed_kw);
    }
    slots
}

/// Lets stores charge a little less or more if noise of the search breaks a grid limit. Returns how much less they take,
/// kW.
fn take_back(
    problem: &Problem,
    terms: &Terms,
    steps: &[Step],
    moved: &mut [Moved],
    (t, consumed_kw): (usize, f64),
) -> f64 {
    if terms.is_relaxed() {
        return 0.0;
    }
    let pv = problem.pv_kw[t];
    let over = problem
        .grid
        .import_limit_kw
        .map_or(0.0, |limit| (consumed_kw - pv - limit).max(0.0));
    let under = match problem.grid.export_limit_kw {
        Some(limit) if !problem.pv_curtailable => (pv - consumed_kw - limit).max(0.0),
        Some(_) | None => 0.0,
    };
    let excess = over - under;
    if excess == 0.0 || excess.abs() > LIMIT_NOISE_KW {
        return 0.0;
    }
    for ((store, moved), step) in terms.stores.iter().zip(moved).zip(steps) {
        if !store.moves_in(t) {
            continue;
        }
        if moved.charge_kw > LIMIT_NOISE_KW && moved.charge_kw - excess <= store.charge_kw {
            moved.charge_kw -= excess;
            moved.content -= excess * step.rise;
            return excess;
        }
        if moved.discharge_kw > LIMIT_NOISE_KW && moved.discharge_kw + excess <= store.discharge_kw
        {
            moved.discharge_kw += excess;
            moved.content -= excess * step.fall;
            return excess;
        }
    }
    0.0
}

/// Writes what `store` does into `slot`.
fn note(problem: &Problem, store: &Store, moved: &Moved, slot: &mut PlannedSlot) {
    match store.kind {
        Kind::Battery => {
            slot.battery_charge_kw = moved.charge_kw;
            slot.battery_discharge_kw = moved.discharge_kw;
            slot.soc_kwh = not_below_empty(moved.content);
        }
        Kind::Ev(index) => {
            let planned = PlannedEv {
                charge_kw: moved.charge_kw,
                discharge_kw: moved.discharge_kw,
                soc_kwh: not_below_empty(moved.content),
            };
            slot.evs.insert(problem.evs[index].id.clone(), planned);
        }
        Kind::Heat(index) => {
            let planned = PlannedHeat {
                power_kw: moved.charge_kw,
                temperature_c: moved.content,
            };
            let id = problem.heat_stores[index].id.clone();
            slot.heat.insert(id, planned);
        }
    }
}

/// Returns the content without the noise that may be left below 0 where a store is emptied to keep a limit.
const fn not_below_empty(content_kwh: f64) -> f64 {
    content_kwh.max(0.0)
}

/// Returns the figures of the home without planning: battery idle, appliances at their earliest start, EVs charged at once
/// up to their goal, heat stores kept at the lower end of their band. All PV is used or exported; if it may be curtailed,
/// the inverter keeps the export limit. Other grid limits may be broken.
pub(crate) fn baseline(problem: &Problem, terms: &Terms) -> Metrics {
    let mut moved: Vec<Moved> = terms.stores.iter().map(Moved::at_start).collect();
    let mut tally = Tally::default();
    for t in 0..problem.load_kw.len() {
        let mut consumed = problem.load_kw[t];
        for appliance in &problem.appliances {
            let start = appliance.earliest_slot as usize;
            consumed += running_kw(appliance, start, t).unwrap_or(0.0);
        }
        for (store, moved) in terms.stores.iter().zip(&mut moved) {
            if store.kind != Kind::Battery && store.moves_in(t) {
                *moved = store.left_alone(&store.step(t, terms.dt), moved.content);
                consumed += moved.charge_kw;
            }
        }
        let pv = match problem.grid.export_limit_kw {
            Some(limit) if problem.pv_curtailable => problem.pv_kw[t].min(consumed + limit),
            Some(_) | None => problem.pv_kw[t],
        };
        let flows = Flows {
            import: larger(consumed - pv, 0.0),
            export: larger(pv - consumed, 0.0),
            consumed,
            pv,
        };
        tally.add(problem.buy_price[t], problem.sell_price[t], &flows);
    }
    tally.metrics(problem)
}

/// Returns the decisions of that home: a plan that always exists.
pub(crate) fn left_alone(problem: &Problem, terms: &Terms) -> Decisions {
    let slots_count = problem.load_kw.len();
    let contents = |store: &Store| {
        let mut moved = Moved::at_start(store);
        (0..slots_count)
            .map(|t| {
                if store.kind != Kind::Battery && store.moves_in(t) {
                    moved = store.left_alone(&store.step(t, terms.dt), moved.content);
                }
                moved.content
            })
            .collect()
    };
    let starts = problem.appliances.iter();
    Decisions {
        starts: starts.map(|a| a.earliest_slot as usize).collect(),
        contents: terms.stores.iter().map(contents).collect(),
        still: 0.0,
        peak_kw: f64::INFINITY,
    }
}

/// Returns a slot with its load and appliances; the rest is 0.
fn base_slot(problem: &Problem, starts: &[usize], t: usize) -> PlannedSlot {
    // Makes -0.0 a plain 0.
    let mut load = problem.load_kw[t] + 0.0;
    let mut appliances = BTreeMap::new();
    for (appliance, start) in problem.appliances.iter().zip(starts) {
        let power = running_kw(appliance, *start, t);
        load += power.unwrap_or(0.0);
        appliances.insert(appliance.id.clone(), power.is_some());
    }
    let index = i64::try_from(t).expect("a horizon has at most 672 slots");
    PlannedSlot {
        start_ms: problem.start_ms + index * i64::from(problem.slot_minutes) * MINUTE_MS,
        load_kw: load,
        pv_kw: 0.0,
        grid_import_kw: 0.0,
        grid_export_kw: 0.0,
        battery_charge_kw: 0.0,
        battery_discharge_kw: 0.0,
        soc_kwh: 0.0,
        appliances,
        evs: BTreeMap::new(),
        heat: BTreeMap::new(),
        shadow_price: 0.0,
        policy: None,
    }
}

/// Returns the PV power that makes the slot cheapest, given what the home and its stores take; the largest if several do.
pub(crate) fn used_pv(
    problem: &Problem,
    terms: &Terms,
    peak_kw: f64,
    (t, consumed_kw): (usize, f64),
) -> f64 {
    let available = problem.pv_kw[t] + 0.0;
    let caps = terms.soft_caps(t);
    // If power is worth something and may be exported, none is curtailed.
    let is_welcome = terms.buy[t] >= 0.0
        && terms.sell[t] >= 0.0
        && problem.grid.export_limit_kw.is_none()
        && caps.is_none_or(|caps| caps.export_kwh == f64::INFINITY);
    if !problem.pv_curtailable || is_welcome {
        return available;
    }
    let over = |power: f64, limit: Option<f64>| (power - limit.unwrap_or(power)).max(0.0);
    let cost = |pv: f64| {
        let import = larger(consumed_kw - pv, 0.0);
        let export = larger(pv - consumed_kw, 0.0);
        let broken = over(import, problem.grid.import_limit_kw)
            + over(export, problem.grid.export_limit_kw)
            + over(import, Some(peak_kw));
        let beyond = caps.map_or(0.0, |caps| {
            caps.cost((consumed_kw - pv) * terms.dt) / terms.dt
        });
        terms.buy[t] * import - terms.sell[t] * export + terms.grid_penalty() * broken + beyond
    };
    let caps_kw = caps.map(|caps| (caps.import_kwh / terms.dt, caps.export_kwh / terms.dt));
    // The cost is linear between these.
    let kinks = [
        Some(consumed_kw),
        problem
            .grid
            .export_limit_kw
            .map(|limit| consumed_kw + limit),
        problem
            .grid
            .import_limit_kw
            .map(|limit| consumed_kw - limit),
        Some(consumed_kw - peak_kw),
        Some(0.0),
        caps_kw.map(|(import, _)| consumed_kw - import),
        caps_kw.map(|(_, export)| consumed_kw + export),
    ];
    kinks.into_iter().flatten().fold(available, |best, kink| {
        let pv = kink.clamp(0.0, available);
        let gain = cost(best) - cost(pv);
        let tie = NOISE_KW * terms.typical;
        if gain > tie || (gain >= -tie && pv > best) {
            pv
        } else {
            best
        }
    })
}

/// Sets import and export from the balance.
fn meter(slot: &mut PlannedSlot, consumed_kw: f64) {
    let net = consumed_kw - slot.pv_kw;
    if net > NOISE_KW {
        slot.grid_import_kw = net;
    } else if net < -NOISE_KW {
        slot.grid_export_kw = -net;
    }
}
