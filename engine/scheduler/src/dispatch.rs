//! From decisions to slots: given start slots and SoC, everything else in a slot is arithmetic.
//! Never charges and discharges, or imports and exports, in the same slot.

use std::collections::BTreeMap;

use household::problem::{Appliance, Battery, Problem};
use household::schedule::PlannedSlot;
use household::units::MINUTE_MS;

use crate::terms::Terms;

/// Below this a change of SoC is solver noise, kWh.
const STILL_KWH: f64 = 1e-8;
/// Below this a power is rounding noise, kW.
const NOISE_KW: f64 = 1e-9;

/// What a search decides.
#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    /// Start slot of each appliance, in the problem's order.
    pub(crate) starts: Vec<usize>,
    /// SoC at the end of each slot, kWh; empty without a battery.
    pub(crate) soc_kwh: Vec<f64>,
}

/// Whether an appliance started at `start` runs in `slot`, and its power then, kW.
pub(crate) fn running_kw(appliance: &Appliance, start: usize, slot: usize) -> Option<f64> {
    slot.checked_sub(start)
        .and_then(|offset| appliance.profile_kw.get(offset).copied())
}

/// The slots that follow from `decisions`; shadow prices are left at 0.
pub(crate) fn dispatch(
    problem: &Problem,
    terms: &Terms,
    decisions: &Decisions,
) -> Vec<PlannedSlot> {
    let socs = problem
        .battery
        .as_ref()
        .map(|battery| held_soc(battery, terms, &decisions.soc_kwh));
    let slots_count = problem.load_kw.len();
    let mut slots = Vec::with_capacity(slots_count);
    let mut before = problem
        .battery
        .as_ref()
        .map_or(0.0, |battery| battery.soc_kwh);
    for t in 0..slots_count {
        let soc = socs.as_ref().map_or(0.0, |socs| socs[t]);
        let (charge, discharge) = problem.battery.as_ref().map_or((0.0, 0.0), |battery| {
            powers(battery, terms.dt, soc - before)
        });
        before = soc;
        let mut slot = base_slot(problem, &decisions.starts, t);
        slot.battery_charge_kw = charge;
        slot.battery_discharge_kw = discharge;
        slot.soc_kwh = soc;
        let demand = slot.load_kw + charge - discharge;
        slot.pv_kw = used_pv(problem, terms, t, demand);
        meter(&mut slot, demand);
        slots.push(slot);
    }
    slots
}

/// The home left alone: battery idle, appliances at their earliest start. All PV is used or exported; where it may
/// be curtailed, the inverter keeps to the export limit. Grid limits may be broken otherwise.
pub(crate) fn baseline(problem: &Problem, terms: &Terms) -> Vec<PlannedSlot> {
    let starts: Vec<usize> = problem
        .appliances
        .iter()
        .map(|appliance| appliance.earliest_slot as usize)
        .collect();
    let soc = problem.battery.as_ref().map_or(0.0, |b| b.soc_kwh);
    (0..terms.buy.len())
        .map(|t| {
            let mut slot = base_slot(problem, &starts, t);
            slot.soc_kwh = soc;
            let demand = slot.load_kw;
            slot.pv_kw = match problem.grid.export_limit_kw {
                Some(limit) if problem.pv_curtailable => problem.pv_kw[t].min(demand + limit),
                Some(_) | None => problem.pv_kw[t],
            };
            meter(&mut slot, demand);
            slot
        })
        .collect()
}

/// A slot with its load and appliances; the rest is 0.
fn base_slot(problem: &Problem, starts: &[usize], t: usize) -> PlannedSlot {
    let mut load = problem.load_kw[t];
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
    }
}

/// What the solver gave, made to keep bounds and rates to the last digit.
fn held_soc(battery: &Battery, terms: &Terms, wanted: &[f64]) -> Vec<f64> {
    let rise_max = battery.charge_kw * battery.charge_efficiency * terms.dt;
    let fall_max = battery.discharge_kw * terms.dt / battery.discharge_efficiency;
    let mut before = battery.soc_kwh;
    wanted
        .iter()
        .map(|soc| {
            let inside = soc.clamp(terms.soc_min, terms.soc_max);
            let reached = inside.clamp(before - fall_max, before + rise_max);
            if (reached - before).abs() > STILL_KWH {
                before = reached;
            }
            before
        })
        .collect()
}

/// Charge and discharge that change the SoC by `change` kWh, kW.
fn powers(battery: &Battery, dt: f64, change: f64) -> (f64, f64) {
    if change > 0.0 {
        let charge = change / (battery.charge_efficiency * dt);
        (charge.min(battery.charge_kw), 0.0)
    } else {
        let discharge = -change * battery.discharge_efficiency / dt;
        (0.0, discharge.abs().min(battery.discharge_kw))
    }
}

/// The PV power that makes the slot cheapest, given what the home and its battery take; the most of equal ones.
fn used_pv(problem: &Problem, terms: &Terms, t: usize, demand: f64) -> f64 {
    let available = problem.pv_kw[t];
    if !problem.pv_curtailable {
        return available;
    }
    let over = |power: f64, limit: Option<f64>| (power - limit.unwrap_or(power)).max(0.0);
    let cost = |pv: f64| {
        let import = (demand - pv).max(0.0);
        let export = (pv - demand).max(0.0);
        let broken =
            over(import, problem.grid.import_limit_kw) + over(export, problem.grid.export_limit_kw);
        terms.buy[t] * import - terms.sell[t] * export + terms.grid_penalty() * broken
    };
    // The cost is linear between these.
    let kinks = [
        Some(demand),
        problem.grid.export_limit_kw.map(|limit| demand + limit),
        problem.grid.import_limit_kw.map(|limit| demand - limit),
        Some(0.0),
    ];
    kinks.into_iter().flatten().fold(available, |best, kink| {
        let pv = kink.clamp(0.0, available);
        let gain = cost(best) - cost(pv);
        let tie = NOISE_KW * terms.scale;
        if gain > tie || (gain >= -tie && pv > best) {
            pv
        } else {
            best
        }
    })
}

/// Sets import and export from the balance.
fn meter(slot: &mut PlannedSlot, demand: f64) {
    let net = demand - slot.pv_kw;
    if net > NOISE_KW {
        slot.grid_import_kw = net;
    } else if net < -NOISE_KW {
        slot.grid_export_kw = -net;
    }
}
