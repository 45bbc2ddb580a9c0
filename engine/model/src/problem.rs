//! One planning problem: what `POST /api/optimize` describes and the worker pool solves.
//!
//! Powers are kW at the AC side, energies kWh, prices currency per kWh. Import and charging are positive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// A home's problem over a horizon of equal slots. The four series have the same length, 1 to 672.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub household_id: HouseholdId,
    /// Start of the first slot.
    pub start_ms: i64,
    /// 1, 5, 15, 30 or 60.
    pub slot_minutes: u32,
    /// Load without appliances, 0 or more.
    pub load_kw: Vec<f64>,
    /// PV production available, 0 or more.
    pub pv_kw: Vec<f64>,
    pub buy_price: Vec<f64>,
    pub sell_price: Vec<f64>,
    pub battery: Option<Battery>,
    pub grid: Grid,
    /// Whether PV may be thrown away.
    pub pv_curtailable: bool,
    pub appliances: Vec<Appliance>,
    #[serde(default)]
    pub evs: Vec<Ev>,
    #[serde(default)]
    pub heat_stores: Vec<HeatStore>,
    pub weights: Weights,
    /// What makes the plan keep to the one before.
    #[serde(default)]
    pub stability: Option<Stability>,
    /// Longest time for a search; the best plan found by then counts, with its proven gap.
    #[serde(default)]
    pub time_limit_ms: Option<u32>,
}

/// A battery at the start of the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Battery {
    pub capacity_kwh: f64,
    /// SoC at the start.
    pub soc_kwh: f64,
    pub min_soc_kwh: f64,
    pub max_soc_kwh: f64,
    pub charge_kw: f64,
    pub discharge_kw: f64,
    pub charge_efficiency: f64,
    pub discharge_efficiency: f64,
    /// Lowest SoC allowed at the end of the horizon.
    pub end_soc_min_kwh: f64,
    /// What a kWh left at the end is worth.
    pub end_value_per_kwh: f64,
    /// Cost of a kWh moved through the battery, measured as change of SoC.
    pub wear_cost_per_kwh: f64,
}

/// The grid connection; `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    pub import_limit_kw: Option<f64>,
    pub export_limit_kw: Option<f64>,
    /// Price of each kW of the horizon's highest import that is above `peak_kw`; 0 for none.
    #[serde(default)]
    pub peak_price_per_kw: f64,
    /// The highest import that is paid for already.
    #[serde(default)]
    pub peak_kw: f64,
}

impl Grid {
    /// Neither limits nor a price on the peak.
    pub const OPEN: Self = Self {
        import_limit_kw: None,
        export_limit_kw: None,
        peak_price_per_kw: 0.0,
        peak_kw: 0.0,
    };
}

/// An appliance that runs exactly once, without a break.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Appliance {
    pub id: String,
    /// Power in each slot of the run.
    pub profile_kw: Vec<f64>,
    /// First slot index at which it may start.
    pub earliest_slot: u32,
    /// The run ends before this slot index (exclusive bound).
    pub latest_end_slot: u32,
}

/// An electric vehicle that is plugged in once during the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ev {
    pub id: String,
    /// First slot in which it is plugged in, and the first in which it is gone.
    pub arrival_slot: u32,
    pub departure_slot: u32,
    pub capacity_kwh: f64,
    /// SoC on arrival.
    pub soc_kwh: f64,
    /// SoC that is never gone below; where it arrives with less, that SoC instead.
    pub min_soc_kwh: f64,
    /// SoC at departure, at least.
    pub goal_soc_kwh: f64,
    pub charge_kw: f64,
    /// Least power while it charges: 0 for any, `charge_kw` for a charger that is on or off.
    pub min_charge_kw: f64,
    /// Largest power back to the home; 0 where it cannot.
    pub discharge_kw: f64,
    pub charge_efficiency: f64,
    pub discharge_efficiency: f64,
    /// What a kWh on board at departure is worth.
    pub end_value_per_kwh: f64,
    /// Cost of a kWh moved, measured as change of SoC.
    pub wear_cost_per_kwh: f64,
}

/// A store of heat with one temperature, such as a hot-water tank or a house: a heater adds to it, its surroundings
/// and what is drawn take from it. With `a = exp(-loss*dt/kwh_per_k)` and `power` electric, a slot ends at
/// `a*before + (1 - a)*(ambient + (cop*power - draw)/loss)`, and without loss at `before + (cop*power - draw)*dt/kwh_per_k`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatStore {
    pub id: String,
    /// Largest electric power of the heater.
    pub power_kw: f64,
    /// Heat for a kWh of electricity in each slot; 1 for a heating rod.
    pub cop: Vec<f64>,
    /// Heat that makes it a kelvin warmer.
    pub kwh_per_k: f64,
    /// Heat lost for each kelvin above the surroundings.
    pub loss_kw_per_k: f64,
    /// Temperature at the start.
    pub temperature_c: f64,
    /// Comfort band at the end of each slot.
    pub min_c: f64,
    pub max_c: f64,
    /// Temperature of the surroundings in each slot.
    pub ambient_c: Vec<f64>,
    /// Heat taken from it in each slot, 0 or more.
    pub draw_kw: Vec<f64>,
    /// What a kWh of heat above `min_c` at the end is worth.
    pub end_value_per_kwh: f64,
}

/// What departing from the plan before costs. It is part of the objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// For each kWh by which the battery's change of SoC in a slot differs from before.
    pub battery_cost_per_kwh: f64,
    /// For each appliance that starts in another slot than before.
    pub start_cost: f64,
    /// The battery's change of SoC as planned before, from the first slot on; nothing is owed beyond its end.
    pub soc_change_kwh: Vec<f64>,
    /// The start slot of each appliance as planned before; nothing is owed for others.
    pub start_slots: BTreeMap<String, u32>,
}

/// Weights of what the meter counts, that is import and export; wear, peak, worth of what is left and departures have
/// none. See `POST /api/optimize` in the API reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    pub cost: f64,
    pub autarky: f64,
    pub revenue: f64,
}

impl Weights {
    /// Cheapest bill, nothing else.
    pub const COST: Self = Self {
        cost: 1.0,
        autarky: 0.0,
        revenue: 0.0,
    };
}
