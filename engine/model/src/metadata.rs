//! What the operator knows about a home: its plant, tariff and weights.

use serde::{Deserialize, Serialize};

use crate::problem::{Grid, Weights};
use crate::units::HouseholdId;

/// A household's metadata, the value of the `households` topic. `Metadata::check` enforces the limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The household.
    pub household_id: HouseholdId,
    /// Name for people: at most `NAME_BYTES_MAX` bytes.
    pub name: String,
    /// Key of the weather forecast, free text such as `48.14,11.58`: at most `NAME_BYTES_MAX` bytes.
    pub location: String,
    /// Peak power of the PV plant, kW: 0 to `POWER_KW_MAX`; 0 if there is none.
    pub pv_capacity_kw: f64,
    /// The battery, if there is one.
    pub battery: Option<BatterySpec>,
    /// Limits of the grid connection and the price of its peak.
    pub grid: Grid,
    /// Whether the inverter may curtail PV power.
    pub pv_curtailable: bool,
    /// Appliances that Hearth may schedule: at most `APPLIANCES_MAX`, ids unique.
    pub appliances: Vec<ApplianceSpec>,
    /// Name of the tariff in the `tariffs` topic: 1 to `NAME_BYTES_MAX` bytes.
    pub tariff: String,
    /// Weights of the objective.
    pub weights: Weights,
}

/// The battery as installed. Its SoC is not metadata: it comes as readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatterySpec {
    /// Usable capacity, kWh: `CAPACITY_KWH_MIN` to `ENERGY_KWH_MAX`.
    pub capacity_kwh: f64,
    /// Lowest SoC that a plan may use, kWh: 0 to `max_soc_kwh`.
    pub min_soc_kwh: f64,
    /// Highest SoC that a plan may use, kWh: 0 to the capacity.
    pub max_soc_kwh: f64,
    /// Largest charging power at the AC side, kW: 0 to `POWER_KW_MAX`.
    pub charge_kw: f64,
    /// Largest discharging power at the AC side, kW: 0 to `POWER_KW_MAX`.
    pub discharge_kw: f64,
    /// Share of the charged energy that reaches the SoC: `EFFICIENCY_MIN` to 1.
    pub charge_efficiency: f64,
    /// Share of the energy taken from the SoC that reaches the AC side: `EFFICIENCY_MIN` to 1.
    pub discharge_efficiency: f64,
    /// Cost of wear, currency per kWh of change in SoC: 0 to `PRICE_MAX`.
    pub wear_cost_per_kwh: f64,
}

/// An appliance that runs once each UTC day inside a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplianceSpec {
    /// Name in plans and commands: 1 to `ID_BYTES_MAX` bytes, unique in its home.
    pub id: String,
    /// Power in each slot of a run, kW: 0 to `POWER_KW_MAX`. 1 to `SLOTS_MAX` entries.
    pub profile_kw: Vec<f64>,
    /// Earliest start of a run, minutes after 00:00 UTC: 0 to 1,439.
    pub window_start_min: u32,
    /// Latest end of a run, minutes after 00:00 UTC: 0 to 1,440. An end that is not after the start is on the next day.
    pub window_end_min: u32,
}
