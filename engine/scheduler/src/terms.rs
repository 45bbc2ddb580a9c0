//! The prices of a problem after weighting, its stores, and what breaking a limit costs. Never holds a decision.

use model::problem::Problem;

use crate::numbers::{REACH_KWH, smaller};
use crate::store::{Kind, Store};

/// What a broken grid limit costs, in multiples of what is dearest, per kWh: a fuse matters more than a reserve.
const GRID_PENALTY: f64 = 1_000.0;
/// What a unit through a store costs the mixed-integer program on top of its wear, in multiples of a typical price:
/// breaks ties, is never reported.
const TIE_BREAK: f64 = 1e-8;
/// Where the largest price is within this of the least one, it is typical.
const SPREAD: f64 = 1e3;
/// The largest cost of a column of the mixed-integer program for a price, in its unit of money.
const COST_MAX: f64 = 1e6;

/// Weighted prices of each slot, in currency per kWh, and the stores.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    /// Length of a slot, hours.
    pub(crate) dt: f64,
    /// What importing costs.
    pub(crate) buy: Vec<f64>,
    /// What exporting earns.
    pub(crate) sell: Vec<f64>,
    /// The largest price of a kWh there is, never 0. Arithmetic is exact to a share of it. One placeholder may be all
    /// there is of its size, so nothing else may depend on it.
    scale: f64,
    /// A price like most of the others, never 0: what ties and noise are measured in.
    pub(crate) typical: f64,
    /// The unit of money of the mixed-integer program.
    pub(crate) unit: f64,
    /// The same with what a kWh can cost by raising the peak, or by departing from the plan before: the measure of
    /// penalties.
    dearest: f64,
    /// Battery first, then EVs and heat stores in the problem's order.
    pub(crate) stores: Vec<Store<'a>>,
    relaxed: bool,
    /// Whether a search has no gap, and whether it breaks no ties.
    exact: bool,
    untied: bool,
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
        let departing = problem.stability.as_ref();
        let departing = departing.map_or(0.0, |stability| stability.battery_cost_per_kwh);
        let dearest = largest
            .max(problem.grid.peak_price_per_kw / dt)
            .max(departing);
        // Where nothing costs anything, any unit of money will do.
        let dearest = if dearest > 0.0 { dearest } else { 1.0 };
        let scale = if largest > 0.0 { largest } else { dearest };
        let typical = typical(&buy, &sell, scale);
        Self {
            dt,
            buy,
            sell,
            scale,
            typical,
            unit: typical.max(scale / COST_MAX),
            dearest,
            stores: Store::all(problem, None),
            relaxed: false,
            exact: false,
            untied: false,
        }
    }

    /// The same where limits may be broken at a penalty.
    pub(crate) fn relax(&self, problem: &'a Problem) -> Self {
        Self {
            dt: self.dt,
            buy: self.buy.clone(),
            sell: self.sell.clone(),
            scale: self.scale,
            typical: self.typical,
            unit: self.unit,
            dearest: self.dearest,
            stores: Store::all(problem, Some(self.dearest)),
            relaxed: true,
            exact: self.exact,
            untied: self.untied,
        }
    }

    /// The same without the tie-break, and for a search without a gap.
    pub(crate) fn exact(mut self) -> Self {
        self.exact = true;
        self.untied()
    }

    /// The same without the tie-break.
    pub(crate) fn untied(mut self) -> Self {
        self.untied = true;
        self
    }

    pub(crate) fn is_untied(&self) -> bool {
        self.untied
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

    /// What a unit through a store costs the mixed-integer program on top of its wear.
    pub(crate) fn tie_break(&self) -> f64 {
        if self.untied {
            return 0.0;
        }
        TIE_BREAK * self.typical
    }

    /// The price that what is computed in 64 bits is exact for, currency per kWh: sums over a horizon at this price
    /// have an error far below a typical price times [`crate::numbers::SLIVER_KWH`].
    pub(crate) fn resolved(&self) -> f64 {
        self.typical.max(self.scale / SPREAD)
    }

    /// The error of adding up a horizon's costs, currency for each kWh.
    pub(crate) fn rounding(&self) -> f64 {
        64.0 * f64::EPSILON * self.scale
    }
}

/// A price like most: the largest, unless others are far below it. Then a low one, at most nine in ten being above.
fn typical(buy: &[f64], sell: &[f64], largest: f64) -> f64 {
    let sizes = || buy.iter().chain(sell).map(|price| price.abs());
    let mut least = f64::INFINITY;
    for size in sizes() {
        least = if size > 0.0 {
            smaller(size, least)
        } else {
            least
        };
    }
    if least == f64::INFINITY || largest <= SPREAD * least {
        return largest;
    }
    let mut sizes: Vec<f64> = sizes().filter(|size| *size > 0.0).collect();
    let low = (sizes.len() - 1) / 10;
    *sizes.select_nth_unstable_by(low, f64::total_cmp).1
}
