//! What the operator knows about a home: its plant, tariff and weights.

use serde::{Deserialize, Serialize};

use crate::asset::AssetKind;
use crate::problem::{Grid, Weights};
use crate::units::HouseholdId;
use crate::zone::UTC;

/// A household's metadata, the value of the `households` topic. `Metadata::check` enforces the limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The household.
    pub household_id: HouseholdId,
    /// Name for people: at most `NAME_BYTES_MAX` bytes.
    pub name: String,
    /// Key of the weather forecast, free text such as `48.14,11.58`: at most `NAME_BYTES_MAX` bytes.
    pub location: String,
    /// IANA time zone, such as `Europe/Berlin`: windows of appliances and departures of EVs are in its local time.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Where the home stands; `None` if that is not known.
    #[serde(default)]
    pub position: Option<Position>,
    /// Peak power of the PV plant, kW: 0 to `POWER_KW_MAX`; 0 if there is none.
    pub pv_capacity_kw: f64,
    /// How the PV plant's modules are mounted; `None` if that is not known, and then it is learned.
    #[serde(default)]
    pub pv_mounting: Option<PvMounting>,
    /// The battery, if there is one.
    pub battery: Option<BatterySpec>,
    /// Limits of the grid connection and the price of its peak.
    pub grid: Grid,
    /// Whether the inverter may curtail PV power.
    pub pv_curtailable: bool,
    /// Appliances that Hearth may schedule: at most `APPLIANCES_MAX`, ids unique.
    pub appliances: Vec<ApplianceSpec>,
    /// EVs that charge at home: at most `STORES_MAX`, ids unique.
    #[serde(default)]
    pub evs: Vec<EvSpec>,
    /// Stores of heat with an electric heater or a heat pump: at most `STORES_MAX`, ids unique.
    #[serde(default)]
    pub heat_stores: Vec<HeatStoreSpec>,
    /// Names of groups that share limits, such as a feeder: at most `GROUPS_MAX`, unique.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Name of the tariff in the `tariffs` topic: 1 to `NAME_BYTES_MAX` bytes.
    pub tariff: String,
    /// Weights of the objective.
    pub weights: Weights,
}

fn utc() -> String {
    UTC.to_owned()
}

impl Metadata {
    /// Returns the metadata of a home of which no more is known: no plant, no battery, nothing to schedule.
    #[must_use]
    pub fn of(household_id: HouseholdId, tariff: &str) -> Self {
        Self {
            household_id,
            name: String::new(),
            location: String::new(),
            time_zone: utc(),
            position: None,
            pv_capacity_kw: 0.0,
            pv_mounting: None,
            battery: None,
            grid: Grid::OPEN,
            pv_curtailable: false,
            appliances: Vec::new(),
            evs: Vec::new(),
            heat_stores: Vec::new(),
            groups: Vec::new(),
            tariff: tariff.to_owned(),
            weights: Weights::COST,
        }
    }
}

impl Metadata {
    /// Returns whether an EV or a heat store of this id belongs to the home.
    #[must_use]
    pub fn has_asset(&self, kind: AssetKind, id: &str) -> bool {
        match kind {
            AssetKind::Ev => self.evs.iter().any(|spec| spec.id == id),
            AssetKind::Heat => self.heat_stores.iter().any(|spec| spec.id == id),
        }
    }
}

/// A place on Earth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Degrees north: -90 to 90.
    pub latitude_deg: f64,
    /// Degrees east: -180 to 180.
    pub longitude_deg: f64,
}

/// How modules are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PvMounting {
    /// Angle from the horizontal, degrees: 0 (flat) to 90 (upright).
    pub tilt_deg: f64,
    /// Direction that they face, degrees clockwise from north: 0 to 360; 180 is south.
    pub azimuth_deg: f64,
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

/// An appliance that runs once each local day inside a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplianceSpec {
    /// Name in plans and commands: 1 to `ID_BYTES_MAX` bytes, unique in its home.
    pub id: String,
    /// Power in each slot of a run, kW: 0 to `POWER_KW_MAX`. 1 to `SLOTS_MAX` entries.
    pub profile_kw: Vec<f64>,
    /// Earliest start of a run, minutes after 00:00 by local clocks: 0 to 1,439.
    pub window_start_min: u32,
    /// Latest end of a run, minutes after 00:00 by local clocks: 0 to 1,440. An end that is not after the start is on the next day.
    pub window_end_min: u32,
}

/// An EV and its charging point. Whether it is plugged in and how full it is come as readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvSpec {
    /// Name in telemetry, plans and commands: 1 to `ID_BYTES_MAX` bytes of a topic level, unique among the home's EVs.
    pub id: String,
    /// Usable capacity, kWh: `CAPACITY_KWH_MIN` to `ENERGY_KWH_MAX`.
    pub capacity_kwh: f64,
    /// Lowest SoC that a plan may use, kWh: 0 to the capacity.
    #[serde(default)]
    pub min_soc_kwh: f64,
    /// SoC that it is to have at departure where its readings name none, kWh: 0 to the capacity.
    pub goal_soc_kwh: f64,
    /// Largest power into it at the AC side, kW: 0 to `POWER_KW_MAX`.
    pub charge_kw: f64,
    /// Smallest power while it charges, kW: 0 to `charge_kw`.
    #[serde(default)]
    pub min_charge_kw: f64,
    /// Largest power back to the home at the AC side, kW: 0 (it cannot) to `POWER_KW_MAX`.
    #[serde(default)]
    pub discharge_kw: f64,
    /// Share of the charged energy that reaches the SoC: `EFFICIENCY_MIN` to 1.
    pub charge_efficiency: f64,
    /// Share of the energy taken from the SoC that reaches the AC side: `EFFICIENCY_MIN` to 1.
    #[serde(default = "one")]
    pub discharge_efficiency: f64,
    /// Cost of wear, currency per kWh of change in SoC: 0 to `PRICE_MAX`.
    #[serde(default)]
    pub wear_cost_per_kwh: f64,
    /// When it usually leaves where its readings name no departure: at most one entry for each day of the week.
    #[serde(default)]
    pub departures: Vec<Departure>,
}

const fn one() -> f64 {
    1.0
}

/// A habit: on this day of the week the EV leaves at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Departure {
    /// Day of the week: 0 (Monday) to 6 (Sunday).
    pub weekday: u32,
    /// Minutes after 00:00 by local clocks: 0 to 1,439.
    pub at_min: u32,
}

/// A store of heat as installed; see `problem::HeatStore` for what happens in it. Its temperature comes as readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatStoreSpec {
    /// Name in telemetry, plans and commands: 1 to `ID_BYTES_MAX` bytes of a topic level, unique among the home's stores.
    pub id: String,
    /// Largest electric power of the heater, kW: 0 to `POWER_KW_MAX`.
    pub power_kw: f64,
    /// Heat per kWh of electricity, kWh: `COP_MIN` to `COP_MAX`; 1 for a heating rod.
    #[serde(default = "one")]
    pub cop: f64,
    /// Heat that raises its temperature by 1 K, kWh: `CAPACITY_KWH_MIN` to `ENERGY_KWH_MAX`; 0.00116 for a litre of water.
    pub kwh_per_k: f64,
    /// Heat loss per kelvin above the surroundings, kW: 0 to `POWER_KW_MAX`.
    #[serde(default)]
    pub loss_kw_per_k: f64,
    /// Lowest temperature, degrees Celsius: `-TEMPERATURE_C_MAX` to `max_c`.
    pub min_c: f64,
    /// Highest temperature, degrees Celsius: `min_c` to `TEMPERATURE_C_MAX`.
    pub max_c: f64,
    /// Temperature of the surroundings, degrees Celsius: `-TEMPERATURE_C_MAX` to `TEMPERATURE_C_MAX`.
    pub ambient_c: f64,
    /// Heat drawn in each hour of the local day, kW: 24 entries of 0 to `POWER_KW_MAX`, or none where none is drawn.
    #[serde(default)]
    pub draw_kw: Vec<f64>,
}
