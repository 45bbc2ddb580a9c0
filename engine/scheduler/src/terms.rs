//! The prices of a problem after weighting, its stores, and what breaking a limit costs. Never holds a decision.

use model::problem::Problem;

use crate::REACH_KWH;
use crate::store::{Kind, Store};

/// What a broken grid limit costs, in multiples of what is dearest, per kWh: a fuse matters more than a reserve.
const GRID_PENALTY: f64 = 1_000.0;
/// What a kWh through a store costs on top of its wear, in multiples of the largest price: breaks ties, is never
/// reported.
const TIE_BREAK: f64 = 1e-7;

/// Weighted prices of each slot, in currency per kWh, and the stores.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    /// Length of a slot, hours.
    pub(crate) dt: f64,
    /// What importing costs.
    pub(crate) buy: Vec<f64>,
    /// What exporting earns.
    pub(crate) sell: Vec<f64>,
    /// The largest price of a kWh there is, never 0: the solver works in multiples of it.
    pub(crate) scale: f64,
    /// The same with what a kWh can cost by raising the peak, or by departing from the plan before: the measure of
    /// penalties.
    dearest: f64,
    /// Battery first, then EVs and heat stores in the problem's order.
    pub(crate) stores: Vec<Store<'a>>,
    relaxed: bool,
    exact: bool,
}

impl<'a> Terms<'a> {
    /// Every limit holds.
    pub(crate) fn strict(problem: &'a Problem) -> Self {
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
        let battery = problem
            .battery
            .iter()
            .map(|battery| (battery.end_value_per_kwh, battery.wear_cost_per_kwh));
        let evs = problem.evs.iter();
        let evs = evs.map(|ev| (ev.end_value_per_kwh, ev.wear_cost_per_kwh));
        let heat = problem.heat_stores.iter();
        let heat = heat.map(|heat| (heat.end_value_per_kwh, 0.0));
        let stores = battery.chain(evs).chain(heat);
        let largest = buy
            .iter()
            .chain(&sell)
            .copied()
            .chain(stores.flat_map(|(value, wear)| [value, wear]))
            .fold(0.0, |largest: f64, price| largest.max(price.abs()));
        let dt = f64::from(problem.slot_minutes) / 60.0;
        let scale = if largest > 0.0 { largest } else { 1.0 };
        let departing = problem.stability.as_ref();
        Self {
            dt,
            buy,
            sell,
            scale,
            dearest: scale
                .max(problem.grid.peak_price_per_kw / dt)
                .max(departing.map_or(0.0, |stability| stability.battery_cost_per_kwh)),
            stores: Store::all(problem, None),
            relaxed: false,
            exact: false,
        }
    }

    /// The same where limits may be broken at a penalty.
    pub(crate) fn relax(&self, problem: &'a Problem) -> Self {
        Self {
            dt: self.dt,
            buy: self.buy.clone(),
            sell: self.sell.clone(),
            scale: self.scale,
            dearest: self.dearest,
            stores: Store::all(problem, Some(self.dearest)),
            relaxed: true,
            exact: self.exact,
        }
    }

    /// The same without the tie-break, and for a search without a gap.
    pub(crate) fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether every battery starts within its bounds.
    pub(crate) fn starts_inside(&self) -> bool {
        self.stores.iter().all(|store| match store.kind {
            Kind::Battery => {
                store.start >= store.low - REACH_KWH && store.start <= store.high + REACH_KWH
            }
            // They may reach their bounds by the end of the first slot.
            Kind::Ev(_) | Kind::Heat(_) => true,
        })
    }

    pub(crate) fn is_relaxed(&self) -> bool {
        self.relaxed
    }

    /// Currency per kWh beyond a grid limit.
    pub(crate) fn grid_penalty(&self) -> f64 {
        GRID_PENALTY * self.dearest
    }

    /// Wear as the solver sees it: with the tie-break.
    pub(crate) fn movement(&self, store: &Store) -> f64 {
        if self.exact {
            return store.wear;
        }
        store.wear + TIE_BREAK * self.scale
    }
}
