//! The weighted prices of a problem with its signal, its stores, and the penalties of broken limits. Contains no
//! decisions.

use model::problem::{Problem, Signal};

use crate::numbers::{REACH_KWH, smaller};
use crate::store::{Kind, Store};

/// Penalty of a broken grid limit per kWh, in multiples of the highest cost: a fuse matters more than a reserve.
const GRID_PENALTY: f64 = 1_000.0;
/// Cost that the mixed-integer program adds to the wear of each unit moved, in multiples of a typical price. It breaks ties
/// and is never reported.
const TIE_BREAK: f64 = 1e-8;
/// If the largest price is at most this many times the smallest one, it counts as typical.
const SPREAD: f64 = 1e3;
/// The largest cost of a column of the mixed-integer program for a price, in its unit of money.
const COST_MAX: f64 = 1e6;

/// Soft caps on the net flow of a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SoftCaps {
    /// Net flow at most, and the other way, kWh: of either sign, infinite without a cap.
    pub(crate) import_kwh: f64,
    pub(crate) export_kwh: f64,
    /// Currency per kWh beyond, 0 or more.
    pub(crate) import_price: f64,
    pub(crate) export_price: f64,
}

impl SoftCaps {
    /// Returns the caps of slot `t`, `dt` hours long.
    pub(crate) fn of(signal: &Signal, t: usize, dt: f64) -> Self {
        let (import_kw, export_kw) = signal.caps_kw(t);
        Self {
            import_kwh: import_kw * dt,
            export_kwh: export_kw * dt,
            import_price: signal.import_breach_price_per_kwh,
            export_price: signal.export_breach_price_per_kwh,
        }
    }

    /// Returns what a net flow beyond them costs.
    pub(crate) fn cost(&self, net_kwh: f64) -> f64 {
        self.import_price * (net_kwh - self.import_kwh).max(0.0)
            + self.export_price * (-net_kwh - self.export_kwh).max(0.0)
    }

    /// Returns what they add to the price of a kWh just below a net flow.
    fn price_below(&self, net_kwh: f64) -> f64 {
        let import = if self.import_kwh < net_kwh {
            self.import_price
        } else {
            0.0
        };
        let export = if -self.export_kwh >= net_kwh {
            self.export_price
        } else {
            0.0
        };
        import - export
    }
}

/// Weighted prices of each slot, in currency per kWh, and the stores.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    /// Length of a slot, hours.
    pub(crate) dt: f64,
    /// Cost of import, with the signal's price.
    pub(crate) buy: Vec<f64>,
    /// Revenue of export, with the signal's price.
    pub(crate) sell: Vec<f64>,
    /// The signal's price on net flow and its caps; empty without any.
    flow_prices: Vec<f64>,
    soft_caps: Vec<SoftCaps>,
    /// The largest price of a kWh, never 0. Arithmetic is exact to a share of it. It may be a single placeholder far above
    /// all other prices, so nothing else may depend on it.
    scale: f64,
    /// A price of usual size, never 0: the unit of ties and noise.
    pub(crate) typical: f64,
    /// The unit of money of the mixed-integer program.
    pub(crate) unit: f64,
    /// The highest cost of a kWh, including a higher peak and a departure from the previous plan: the unit of penalties.
    /// Signals do not change it, so that what a home costs under several of them can be compared.
    dearest: f64,
    /// Battery first, then EVs and heat stores in the problem's order.
    pub(crate) stores: Vec<Store<'a>>,
    relaxed: bool,
    /// Whether a search has no gap, and whether it breaks no ties.
    exact: bool,
    untied: bool,
}

impl<'a> Terms<'a> {
    /// Returns terms under which every limit holds.
    pub(crate) fn strict(problem: &'a Problem) -> Self {
        Self::signalled(problem, problem.signal.as_ref())
    }

    /// Returns the same with `signal` in the place of the problem's own.
    pub(crate) fn signalled(problem: &'a Problem, signal: Option<&Signal>) -> Self {
        let weights = problem.weights;
        let mut buy: Vec<f64> = problem
            .buy_price
            .iter()
            .map(|price| weights.cost * price + weights.autarky)
            .collect();
        let mut sell: Vec<f64> = problem
            .sell_price
            .iter()
            .map(|price| (weights.cost + weights.revenue) * price)
            .collect();
        let dt = f64::from(problem.slot_minutes) / 60.0;
        let own = largest(problem, &buy, &sell);
        let departing = problem.stability.as_ref();
        let departing = departing.map_or(0.0, |stability| stability.battery_cost_per_kwh);
        let dearest = own.max(problem.grid.peak_price_per_kw / dt).max(departing);
        // If nothing costs anything, any unit of money will do.
        let dearest = if dearest > 0.0 { dearest } else { 1.0 };
        for prices in [&mut buy, &mut sell] {
            let added = signal.map_or(&[][..], |signal| &signal.price_per_kwh);
            for (price, added) in prices.iter_mut().zip(added) {
                *price += added;
            }
        }
        let capping = signal.filter(|signal| signal.has_caps());
        let breach = capping.map_or(0.0, |signal| {
            let export = signal.export_breach_price_per_kwh;
            signal.import_breach_price_per_kwh.max(export)
        });
        let priced = signal.map_or(own, |_| largest(problem, &buy, &sell));
        let scale = if priced > 0.0 { priced } else { dearest };
        let typical = typical(&buy, &sell, scale);
        let scale = scale.max(breach);
        let slots = 0..buy.len();
        let soft_caps = capping.map(|signal| slots.map(|t| SoftCaps::of(signal, t, dt)).collect());
        Self {
            dt,
            buy,
            sell,
            flow_prices: signal.map_or_else(Vec::new, |signal| signal.price_per_kwh.clone()),
            soft_caps: soft_caps.unwrap_or_default(),
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

    /// Returns the same terms, but limits may be broken at a penalty.
    pub(crate) fn relax(&self, problem: &'a Problem) -> Self {
        Self {
            dt: self.dt,
            buy: self.buy.clone(),
            sell: self.sell.clone(),
            flow_prices: self.flow_prices.clone(),
            soft_caps: self.soft_caps.clone(),
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

    /// Returns the same terms without the tie-break, for a search without a gap.
    pub(crate) fn exact(mut self) -> Self {
        self.exact = true;
        self.untied()
    }

    /// Returns the same terms without the tie-break.
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

    /// Returns whether the battery starts within its bounds.
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

    /// Returns the signal's price on the net flow of slot `t`, currency per kWh.
    pub(crate) fn flow_price(&self, t: usize) -> f64 {
        self.flow_prices.get(t).copied().unwrap_or(0.0)
    }

    /// Returns the signal's caps on the net flow of slot `t`; `None` without any in the horizon.
    pub(crate) fn soft_caps(&self, t: usize) -> Option<&SoftCaps> {
        self.soft_caps.get(t)
    }

    /// Returns what a kWh more costs in slot `t` just below a net flow of 0 or more, currency.
    pub(crate) fn buy_below(&self, t: usize, net_kwh: f64) -> f64 {
        match self.soft_caps(t) {
            Some(caps) => self.buy[t] + caps.price_below(net_kwh),
            None => self.buy[t],
        }
    }

    /// Returns the penalty beyond a grid limit, currency per kWh.
    pub(crate) fn grid_penalty(&self) -> f64 {
        GRID_PENALTY * self.dearest
    }

    /// Returns the cost that the mixed-integer program adds to the wear of each unit moved.
    pub(crate) fn tie_break(&self) -> f64 {
        if self.untied {
            return 0.0;
        }
        TIE_BREAK * self.typical
    }

    /// Returns the largest price at which 64-bit sums are exact enough, currency per kWh: sums over a horizon at this price
    /// have an error far below a typical price times [`crate::numbers::SLIVER_KWH`].
    pub(crate) fn resolved(&self) -> f64 {
        self.typical.max(self.scale / SPREAD)
    }

    /// Returns the rounding error of a sum of costs over the horizon, currency per kWh.
    pub(crate) fn rounding(&self) -> f64 {
        64.0 * f64::EPSILON * self.scale
    }
}

/// Returns the largest of the prices and of what stores' energy and wear cost, without their sign.
fn largest(problem: &Problem, buy: &[f64], sell: &[f64]) -> f64 {
    let battery = problem
        .battery
        .iter()
        .map(|battery| (battery.end_value_per_kwh, battery.wear_cost_per_kwh));
    let evs = problem.evs.iter();
    let evs = evs.map(|ev| (ev.end_value_per_kwh, ev.wear_cost_per_kwh));
    let heat = problem.heat_stores.iter();
    let heat = heat.map(|heat| (heat.end_value_per_kwh, 0.0));
    let stores = battery.chain(evs).chain(heat);
    buy.iter()
        .chain(sell)
        .copied()
        .chain(stores.flat_map(|(value, wear)| [value, wear]))
        .fold(0.0, |largest: f64, price| largest.max(price.abs()))
}

/// Returns a price of usual size: the largest, unless others are far below it. Then a low one, with at most nine in ten
/// above it.
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
