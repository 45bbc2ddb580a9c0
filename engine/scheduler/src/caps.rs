//! Bounds on flows in the mixed-integer program: the smallest and largest power of each flow in each slot, and which flows
//! exclude each other.

use model::problem::Problem;

use crate::store::Store;
use crate::terms::Terms;

/// The slots in which two flows exclude each other by a binary.
#[derive(Debug)]
pub(crate) struct Exclusions {
    /// Charging and discharging of each store.
    pub(crate) stores: Vec<Vec<bool>>,
    pub(crate) grid: Vec<bool>,
}

impl Exclusions {
    /// Excludes both directions in the slots in which using both could pay, judged by the slot alone.
    pub(crate) fn where_they_pay(problem: &Problem, terms: &Terms) -> Self {
        let mut exclusions = Self::everywhere(terms);
        for (store, excluded) in terms.stores.iter().zip(&mut exclusions.stores) {
            for (t, excluded) in excluded.iter_mut().enumerate() {
                let step = store.step(t, terms.dt);
                // The loss of a kWh that is charged and discharged.
                let loss = if *excluded {
                    terms.dt / step.rise - terms.dt / step.fall
                } else {
                    0.0
                };
                // Surplus PV that can be curtailed is never worth less than 0.
                let surplus = if problem.pv_curtailable && problem.pv_kw[t] > 0.0 {
                    terms.sell[t].max(0.0)
                } else {
                    terms.sell[t]
                };
                let least_kw = problem.load_kw[t]
                    - if problem.pv_curtailable {
                        0.0
                    } else {
                        problem.pv_kw[t]
                    };
                let too_much = problem
                    .grid
                    .export_limit_kw
                    .is_some_and(|limit| -least_kw > limit);
                let mut worth = terms.buy[t].min(surplus);
                if let Some(caps) = terms.soft_caps(t)
                    && -least_kw * terms.dt > caps.export_kwh
                {
                    worth -= caps.export_price;
                }
                *excluded = loss > 0.0 && (too_much || worth * loss + 2.0 * store.wear < 0.0);
            }
        }
        exclusions
    }

    /// Excludes both directions wherever both are possible. Importing and exporting at once costs `buy - sell`. If that is
    /// not negative, a plan without it is no worse and breaks no limit, so the meter needs no exclusion.
    pub(crate) fn everywhere(terms: &Terms) -> Self {
        let slots = terms.buy.len();
        let both = |store: &Store| {
            let possible = store.charge_kw > 0.0 && store.discharge_kw > 0.0;
            (0..slots).map(|t| possible && store.moves_in(t)).collect()
        };
        let prices = terms.buy.iter().zip(&terms.sell);
        Self {
            stores: terms.stores.iter().map(both).collect(),
            grid: prices.map(|(buy, sell)| sell > buy).collect(),
        }
    }
}

/// Smallest and largest power of a flow in a slot, kW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cap {
    pub(crate) least_kw: f64,
    /// Infinite if nothing limits it.
    pub(crate) most_kw: f64,
}

impl Cap {
    pub(crate) const fn up_to(most_kw: f64) -> Self {
        Self {
            least_kw: 0.0,
            most_kw,
        }
    }

    /// Lets nothing flow.
    pub(crate) fn close(&mut self) {
        *self = Self::up_to(0.0);
    }
}

/// The caps of a store, one for each slot of the horizon.
#[derive(Debug, Clone)]
pub(crate) struct StoreCaps {
    pub(crate) charge: Vec<Cap>,
    pub(crate) discharge: Vec<Cap>,
}

/// All caps.
#[derive(Debug, Clone)]
pub(crate) struct Caps {
    pub(crate) stores: Vec<StoreCaps>,
    pub(crate) import: Vec<Cap>,
    pub(crate) export: Vec<Cap>,
}

impl Caps {
    pub(crate) fn of(problem: &Problem, terms: &Terms) -> Self {
        let slots = problem.load_kw.len();
        let grid = |limit: Option<f64>| match limit {
            Some(limit) if !terms.is_relaxed() => Cap::up_to(limit),
            Some(_) | None => Cap::up_to(f64::INFINITY),
        };
        let within = |store: &Store, power: f64| -> Vec<Cap> {
            (0..slots)
                .map(|t| Cap::up_to(if store.moves_in(t) { power } else { 0.0 }))
                .collect()
        };
        let stores = terms.stores.iter();
        Self {
            stores: stores
                .map(|store| StoreCaps {
                    charge: within(store, store.charge_kw),
                    discharge: within(store, store.discharge_kw),
                })
                .collect(),
            import: vec![grid(problem.grid.import_limit_kw); slots],
            export: vec![grid(problem.grid.export_limit_kw); slots],
        }
    }
}
