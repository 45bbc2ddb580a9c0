//! One planning problem: what `POST /api/optimize` describes and the worker pool solves.
//!
//! Powers are kW at the AC side, energies kWh, prices currency per kWh. Import and charging are positive.

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
    pub weights: Weights,
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

/// Weights of the objective; see `POST /api/optimize` in the API reference.
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
