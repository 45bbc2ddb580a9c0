//! What a plan is worth, computed from its slots alone and never taken from a solver.

use household::problem::Problem;
use household::schedule::{Metrics, PlannedSlot, Relaxation};

use crate::TOLERANCE;
use crate::terms::Terms;

/// The objective of `POST /api/optimize`, currency.
pub(crate) fn objective(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    let dt = f64::from(problem.slot_minutes) / 60.0;
    let weights = problem.weights;
    let prices = problem.buy_price.iter().zip(&problem.sell_price);
    let grid: f64 = slots
        .iter()
        .zip(prices)
        .map(|(slot, (buy, sell))| {
            let bill = buy * slot.grid_import_kw - sell * slot.grid_export_kw;
            let revenue = sell * slot.grid_export_kw;
            dt * (weights.cost * bill + weights.autarky * slot.grid_import_kw
                - weights.revenue * revenue)
        })
        .sum();
    let Some(battery) = &problem.battery else {
        return grid;
    };
    let mut before = battery.soc_kwh;
    let mut moved = 0.0;
    for slot in slots {
        moved += (slot.soc_kwh - before).abs();
        before = slot.soc_kwh;
    }
    grid + battery.wear_cost_per_kwh * moved - battery.end_value_per_kwh * before
}

/// What the broken limits cost the search, currency; 0 where every limit holds.
pub(crate) fn penalty(problem: &Problem, terms: &Terms, slots: &[PlannedSlot]) -> f64 {
    let over = |power: f64, limit: Option<f64>| (power - limit.unwrap_or(power)).max(0.0);
    let grid: f64 = slots
        .iter()
        .map(|slot| {
            over(slot.grid_import_kw, problem.grid.import_limit_kw)
                + over(slot.grid_export_kw, problem.grid.export_limit_kw)
        })
        .sum();
    let soc = problem.battery.as_ref().map_or(0.0, |battery| {
        let outside: f64 = slots
            .iter()
            .map(|slot| {
                (battery.min_soc_kwh - slot.soc_kwh).max(0.0)
                    + (slot.soc_kwh - battery.max_soc_kwh).max(0.0)
            })
            .sum();
        let last = slots.last().map_or(battery.soc_kwh, |slot| slot.soc_kwh);
        outside + (battery.end_soc_min_kwh - last).max(0.0)
    });
    terms.grid_penalty() * terms.dt * grid + terms.soc_penalty() * soc
}

/// The limits that `slots` do not keep, each by its largest amount in the unit its name ends with.
/// A SoC that starts outside its bounds counts.
pub(crate) fn relaxations(problem: &Problem, slots: &[PlannedSlot]) -> Vec<Relaxation> {
    let largest = |amounts: &mut dyn Iterator<Item = f64>| amounts.fold(0.0, f64::max);
    let mut found = Vec::new();
    let mut note = |constraint: &str, amount: f64| {
        if amount > TOLERANCE {
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
        let socs = || std::iter::once(battery.soc_kwh).chain(slots.iter().map(|slot| slot.soc_kwh));
        let mut below = socs().map(|soc| battery.min_soc_kwh - soc);
        note("battery.min_soc_kwh", largest(&mut below));
        let mut above = socs().map(|soc| soc - battery.max_soc_kwh);
        note("battery.max_soc_kwh", largest(&mut above));
        let last = slots.last().map_or(battery.soc_kwh, |slot| slot.soc_kwh);
        note("battery.end_soc_min_kwh", battery.end_soc_min_kwh - last);
    }
    found
}

/// Figures over the horizon. `autarky` is 1 where nothing is consumed and `self_consumption` is 1 where nothing is
/// produced. Both are cut to 0 to 1: a battery that trades with the grid imports more than the home consumes.
pub(crate) fn metrics(problem: &Problem, slots: &[PlannedSlot]) -> Metrics {
    let dt = f64::from(problem.slot_minutes) / 60.0;
    let energy = |power: fn(&PlannedSlot) -> f64| dt * slots.iter().map(power).sum::<f64>();
    let import = energy(|slot| slot.grid_import_kw);
    let export = energy(|slot| slot.grid_export_kw);
    let share_kept = |lost: f64, whole: f64| {
        if whole > 0.0 {
            (1.0 - lost / whole).clamp(0.0, 1.0)
        } else {
            1.0
        }
    };
    let prices = problem.buy_price.iter().zip(&problem.sell_price);
    Metrics {
        cost: slots
            .iter()
            .zip(prices)
            .map(|(slot, (buy, sell))| {
                dt * (buy * slot.grid_import_kw - sell * slot.grid_export_kw)
            })
            .sum(),
        grid_import_kwh: import,
        grid_export_kwh: export,
        autarky: share_kept(import, energy(|slot| slot.load_kw)),
        self_consumption: share_kept(export, energy(|slot| slot.pv_kw)),
    }
}
