//! The prices of a problem after weighting, and what breaking a limit costs. Never holds a decision.

use household::problem::{Battery, Problem};

use crate::TOLERANCE;

/// What a broken SoC bound costs, in multiples of the largest price, per kWh and slot.
const SOC_PENALTY: f64 = 100.0;
/// What a broken grid limit costs, in the same unit: a fuse matters more than a reserve.
const GRID_PENALTY: f64 = 1_000.0;
/// What a kWh through the battery costs on top of its wear, in the same unit: breaks ties, is never reported.
const TIE_BREAK: f64 = 1e-7;

/// Weighted prices of each slot, in currency per kWh.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Length of a slot, hours.
    pub(crate) dt: f64,
    /// What importing costs.
    pub(crate) buy: Vec<f64>,
    /// What exporting earns.
    pub(crate) sell: Vec<f64>,
    /// The largest price there is, never 0: the solver works in multiples of it.
    pub(crate) scale: f64,
    /// SoC that may not be left, kWh; wider than the battery's where the terms are relaxed.
    pub(crate) soc_min: f64,
    pub(crate) soc_max: f64,
    relaxed: bool,
    exact: bool,
}

impl Terms {
    /// Every limit holds.
    pub(crate) fn strict(problem: &Problem) -> Self {
        let weights = problem.weights;
        let buy: Vec<f64> = problem
            .buy_price
            .iter()
            .map(|price| weights.cost * price + weights.autarky)
            .collect();
        let sell: Vec<f64> = problem
            .sell_price
            .iter()
            .map(|price| (weights.cost + weights.revenue) * price)
            .collect();
        let battery = problem.battery.as_ref();
        let largest = buy
            .iter()
            .chain(&sell)
            .copied()
            .chain(battery.map(|battery| battery.end_value_per_kwh))
            .chain(battery.map(|battery| battery.wear_cost_per_kwh))
            .fold(0.0, |largest: f64, price| largest.max(price.abs()));
        Self {
            dt: f64::from(problem.slot_minutes) / 60.0,
            buy,
            sell,
            scale: if largest > 0.0 { largest } else { 1.0 },
            soc_min: battery.map_or(0.0, |battery| battery.min_soc_kwh),
            soc_max: battery.map_or(0.0, |battery| battery.max_soc_kwh),
            relaxed: false,
            exact: false,
        }
    }

    /// Limits may be broken at a penalty. The SoC may go no further than where it starts.
    pub(crate) fn relaxed(problem: &Problem) -> Self {
        let mut terms = Self::strict(problem);
        if let Some(battery) = &problem.battery {
            terms.soc_min = terms.soc_min.min(battery.soc_kwh);
            terms.soc_max = terms.soc_max.max(battery.soc_kwh);
        }
        terms.relaxed = true;
        terms
    }

    /// The same without the tie-break, and for a search without a gap.
    pub(crate) fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether the battery starts within its bounds.
    pub(crate) fn starts_inside(&self, problem: &Problem) -> bool {
        problem.battery.as_ref().is_none_or(|battery| {
            battery.soc_kwh >= battery.min_soc_kwh - TOLERANCE
                && battery.soc_kwh <= battery.max_soc_kwh + TOLERANCE
        })
    }

    pub(crate) fn is_relaxed(&self) -> bool {
        self.relaxed
    }

    /// Currency per kWh of SoC outside the battery's bounds at the end of a slot.
    pub(crate) fn soc_penalty(&self) -> f64 {
        SOC_PENALTY * self.scale
    }

    /// Currency per kWh beyond a grid limit.
    pub(crate) fn grid_penalty(&self) -> f64 {
        GRID_PENALTY * self.scale
    }

    /// Wear as the solver sees it: with the tie-break.
    pub(crate) fn movement(&self, battery: &Battery) -> f64 {
        if self.exact {
            return battery.wear_cost_per_kwh;
        }
        battery.wear_cost_per_kwh + TIE_BREAK * self.scale
    }
}
