//! What a home has paid at its meter, and what it would have paid by the plain rule and without its battery: both run beside
//! the true plant, with the same load, sun and trips. No IO, no clock.

use crate::homes::{mean_prices, price_at};
use crate::plant::{Flows, Plant, Step};

/// Price of what an EV charges on the road, currency per kWh.
const ROAD_PER_KWH: f64 = 0.6;

/// Bills of homes, currency. What was left in batteries, EVs and tanks at the beginning is charged for, and what is left
/// in them now is credited, by mean prices.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bills {
    /// Homes that are in the sums.
    pub homes: u64,
    /// Since when the first of them is, UTC epoch milliseconds; 0 without homes.
    pub since_ms: i64,
    /// With Hearth's programs.
    pub hearth: f64,
    /// By the rule: what PV leaves over is stored, load is covered, EVs charge and appliances run at once.
    pub rule: f64,
    /// By the same rule, without a battery.
    pub none: f64,
}

impl std::ops::AddAssign for Bills {
    fn add_assign(&mut self, other: Self) {
        self.since_ms = match (self.homes, other.homes) {
            (0, _) => other.since_ms,
            (_, 0) => self.since_ms,
            _ => self.since_ms.min(other.since_ms),
        };
        self.homes += other.homes;
        self.hearth += other.hearth;
        self.rule += other.rule;
        self.none += other.none;
    }
}

/// The plants beside the true one, and what all of them have cost.
#[derive(Debug, Clone)]
pub(crate) struct Shadows {
    since_ms: i64,
    rule: Plant,
    none: Plant,
    hearth_bill: Bill,
    rule_bill: Bill,
    none_bill: Bill,
}

/// The bill of one plant.
#[derive(Debug, Clone, Copy)]
struct Bill {
    worth_before: f64,
    cost: f64,
}

impl Shadows {
    /// Begins with the true plant's state.
    pub(crate) fn of(plant: &Plant, at_ms: i64) -> Self {
        let none = plant.without_battery();
        let bill = |plant: &Plant| Bill {
            worth_before: worth(plant, at_ms),
            cost: 0.0,
        };
        Self {
            since_ms: at_ms,
            hearth_bill: bill(plant),
            rule_bill: bill(plant),
            none_bill: bill(&none),
            rule: plant.clone(),
            none,
        }
    }

    /// Runs a step beside the true plant, whose flows were `flows`.
    pub(crate) fn run(&mut self, step: &Step, flows: &Flows) {
        let price = price_at(step.at_ms);
        let cost = |flows: &Flows| {
            let grid_kw = flows.grid_kw();
            let per_kwh = if grid_kw > 0.0 { price.buy } else { price.sell };
            grid_kw * per_kwh * step.hours
        };
        self.hearth_bill.cost += cost(flows);
        self.rule_bill.cost += cost(&self.rule.run(step, None));
        self.none_bill.cost += cost(&self.none.run(step, None));
    }

    /// Returns the bills up to `at_ms`, when the true plant is `plant`.
    pub(crate) fn bills(&self, plant: &Plant, at_ms: i64) -> Bills {
        let net = |bill: &Bill, plant: &Plant| bill.cost + bill.worth_before - worth(plant, at_ms);
        Bills {
            homes: 1,
            since_ms: self.since_ms,
            hearth: net(&self.hearth_bill, plant),
            rule: net(&self.rule_bill, &self.rule),
            none: net(&self.none_bill, &self.none),
        }
    }
}

/// Returns what is in a plant is worth, less what it still owes: its battery may spare a purchase or be sold, EV and tank
/// spare one, and appliances that have not run in their window will yet.
fn worth(plant: &Plant, at_ms: i64) -> f64 {
    let price = mean_prices();
    let battery = plant.battery.as_ref().map_or(0.0, |battery| {
        let per_kwh = f64::midpoint(price.buy, price.sell) * battery.spec().discharge_efficiency;
        battery.content_kwh * per_kwh
    });
    let ev = plant.ev.as_ref().map_or(0.0, |ev| {
        let stored = ev.content_kwh() * price.buy / ev.spec().charge_efficiency;
        stored - ev.road_kwh() * ROAD_PER_KWH
    });
    let tank = plant.tank.as_ref().map_or(0.0, |tank| tank.content_kwh());
    battery + ev + (tank - plant.owed_kwh(at_ms)) * price.buy
}
