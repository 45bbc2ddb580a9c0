//! What the operator knows of a home: its plant, its tariff, its wishes.

use serde::{Deserialize, Serialize};

use crate::problem::{Grid, Weights};
use crate::units::HouseholdId;

/// A household's metadata, the value of the `households` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub household_id: HouseholdId,
    pub name: String,
    /// Key of the weather forecast, free text such as `48.14,11.58`.
    pub location: String,
    /// Peak power of the PV plant in kW; 0 where there is none.
    pub pv_capacity_kw: f64,
    pub battery: Option<BatterySpec>,
    pub grid: Grid,
    /// Whether the inverter may throw PV power away.
    pub pv_curtailable: bool,
    pub appliances: Vec<ApplianceSpec>,
    /// Name of the tariff in the `tariffs` topic.
    pub tariff: String,
    pub weights: Weights,
}

/// The battery as installed. Its SoC is telemetry and stands elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatterySpec {
    /// Usable capacity; more than 0.
    pub capacity_kwh: f64,
    /// Lowest and highest SoC the plan may use, within 0 to capacity.
    pub min_soc_kwh: f64,
    pub max_soc_kwh: f64,
    /// Largest power at the AC side, each way, 0 or more.
    pub charge_kw: f64,
    pub discharge_kw: f64,
    /// More than 0, at most 1.
    pub charge_efficiency: f64,
    pub discharge_efficiency: f64,
    /// Currency per kWh moved through the battery, 0 or more.
    pub wear_cost_per_kwh: f64,
}

/// An appliance that runs once a UTC day inside a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplianceSpec {
    pub id: String,
    /// Power in each slot of a run, kW.
    pub profile_kw: Vec<f64>,
    /// The window, minutes after 00:00 UTC; a run starts at or after the first and ends by the second. A second that
    /// is not after the first means the next day.
    pub window_start_min: u32,
    pub window_end_min: u32,
}
