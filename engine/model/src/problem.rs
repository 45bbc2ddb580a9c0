//! One planning problem: what `POST /api/optimize` describes and the worker pool solves.
//!
//! Powers are kW at the AC side, energies kWh, prices currency per kWh. Import and charging are positive. Every number is
//! finite. Limits by name stand in [`crate::limits`]; the scheduler's `validate` checks them all and names the field
//! that breaks one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// A home's problem over a horizon of equal slots. The four series have the same length, 1 to 672.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Whose home it is; the plan does not depend on it.
    pub household_id: HouseholdId,
    /// Start of the first slot, epoch milliseconds: 0 or more, a multiple of the slot's length, before the year 9999.
    pub start_ms: i64,
    /// Length of a slot, minutes: 1, 5, 15, 30 or 60.
    pub slot_minutes: u32,
    /// Load without appliances, EVs and heaters, kW: 0 to `POWER_KW_MAX`.
    pub load_kw: Vec<f64>,
    /// PV production available, kW: 0 to `POWER_KW_MAX`.
    pub pv_kw: Vec<f64>,
    /// What a kWh of import costs, currency: up to `PRICE_MAX` of either sign.
    pub buy_price: Vec<f64>,
    /// What a kWh of export earns, currency: up to `PRICE_MAX` of either sign; below 0 it costs.
    pub sell_price: Vec<f64>,
    /// The battery, where there is one.
    pub battery: Option<Battery>,
    /// Limits and peak price of the meter.
    pub grid: Grid,
    /// Whether PV may be thrown away.
    pub pv_curtailable: bool,
    /// Runs to place: `APPLIANCES_MAX` at most, ids used once.
    pub appliances: Vec<Appliance>,
    /// EVs: `STORES_MAX` at most, ids used once.
    #[serde(default)]
    pub evs: Vec<Ev>,
    /// Heat stores: `STORES_MAX` at most, ids used once.
    #[serde(default)]
    pub heat_stores: Vec<HeatStore>,
    /// What counts, and how much.
    pub weights: Weights,
    /// What makes the plan keep to the one before.
    #[serde(default)]
    pub stability: Option<Stability>,
    /// Longest time for a search, milliseconds; the best plan found by then counts, with its proven gap. `None` leaves it to
    /// the scheduler, and a longer time than the scheduler's own is cut to that.
    #[serde(default)]
    pub time_limit_ms: Option<u32>,
}

/// A battery at the start of the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Battery {
    /// Capacity, kWh: 0 to `ENERGY_KWH_MAX`.
    pub capacity_kwh: f64,
    /// SoC at the start, kWh: 0 to the capacity. Outside `min_soc_kwh` to `max_soc_kwh` the plan is relaxed.
    pub soc_kwh: f64,
    /// Lowest SoC, kWh: 0 to `max_soc_kwh`.
    pub min_soc_kwh: f64,
    /// Highest SoC, kWh: 0 to the capacity.
    pub max_soc_kwh: f64,
    /// Largest power into the battery, kW at the AC side: 0 to `POWER_KW_MAX`.
    pub charge_kw: f64,
    /// Largest power out of it, kW at the AC side: 0 to `POWER_KW_MAX`.
    pub discharge_kw: f64,
    /// Share of what is charged that arrives in the SoC: `EFFICIENCY_MIN` to 1.
    pub charge_efficiency: f64,
    /// Share of what leaves the SoC that arrives at the AC side: `EFFICIENCY_MIN` to 1.
    pub discharge_efficiency: f64,
    /// Lowest SoC allowed at the end of the horizon, kWh: 0 to the capacity.
    pub end_soc_min_kwh: f64,
    /// What a kWh left at the end is worth, currency: up to `PRICE_MAX` of either sign.
    pub end_value_per_kwh: f64,
    /// Cost of a kWh moved through the battery, measured as change of SoC, currency: 0 to `PRICE_MAX`.
    pub wear_cost_per_kwh: f64,
}

/// The grid connection; `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Largest import, kW: 0 to `POWER_KW_MAX`.
    pub import_limit_kw: Option<f64>,
    /// Largest export, kW: 0 to `POWER_KW_MAX`.
    pub export_limit_kw: Option<f64>,
    /// Price of each kW of the horizon's highest import that is above `peak_kw`, currency: 0, for none, to `PRICE_MAX`.
    #[serde(default)]
    pub peak_price_per_kw: f64,
    /// The highest import that is paid for already, kW: 0 to `POWER_KW_MAX`.
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
    /// Its name in the plan: 1 to `ID_BYTES_MAX` bytes.
    pub id: String,
    /// Power in each slot of the run, kW: 0 to `POWER_KW_MAX`. One entry at least, and no more than its window has slots.
    pub profile_kw: Vec<f64>,
    /// First slot index at which it may start: below `latest_end_slot`.
    pub earliest_slot: u32,
    /// The run ends before this slot index (exclusive bound): the number of slots at most.
    pub latest_end_slot: u32,
}

/// An electric vehicle that is plugged in once during the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ev {
    /// Its name in the plan: 1 to `ID_BYTES_MAX` bytes.
    pub id: String,
    /// First slot in which it is plugged in: below `departure_slot`.
    pub arrival_slot: u32,
    /// First slot in which it is gone: the number of slots at most.
    pub departure_slot: u32,
    /// Capacity, kWh: 0 to `ENERGY_KWH_MAX`.
    pub capacity_kwh: f64,
    /// SoC on arrival, kWh: 0 to the capacity.
    pub soc_kwh: f64,
    /// SoC that is never gone below, kWh: 0 to the capacity. Where it arrives with less, that SoC holds instead.
    pub min_soc_kwh: f64,
    /// SoC at departure, at least, kWh: 0 to the capacity. Where that is out of reach, the plan is relaxed.
    pub goal_soc_kwh: f64,
    /// Largest power into it, kW at the AC side: 0 to `POWER_KW_MAX`.
    pub charge_kw: f64,
    /// Least power while it charges, kW: 0 for any, `charge_kw` for a charger that is on or off.
    pub min_charge_kw: f64,
    /// Largest power back to the home, kW at the AC side: 0, where it cannot, to `POWER_KW_MAX`.
    pub discharge_kw: f64,
    /// Share of what is charged that arrives in the SoC: `EFFICIENCY_MIN` to 1.
    pub charge_efficiency: f64,
    /// Share of what leaves the SoC that arrives at the AC side: `EFFICIENCY_MIN` to 1.
    pub discharge_efficiency: f64,
    /// What a kWh on board at departure is worth, currency: up to `PRICE_MAX` of either sign.
    pub end_value_per_kwh: f64,
    /// Cost of a kWh moved, measured as change of SoC, currency: 0 to `PRICE_MAX`.
    pub wear_cost_per_kwh: f64,
}

/// A store of heat with one temperature, such as a hot-water tank or a house: a heater adds to it, its surroundings
/// and what is drawn take from it. With `a = exp(-loss*dt/kwh_per_k)` and `power` electric, a slot ends at
/// `a*before + (1 - a)*(ambient + (cop*power - draw)/loss)`, and without loss at `before + (cop*power - draw)*dt/kwh_per_k`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatStore {
    /// Its name in the plan: 1 to `ID_BYTES_MAX` bytes.
    pub id: String,
    /// Largest electric power of the heater, kW: 0 to `POWER_KW_MAX`.
    pub power_kw: f64,
    /// Heat for a kWh of electricity in each slot, kWh: 0.1 to 100; 1 for a heating rod.
    pub cop: Vec<f64>,
    /// Heat that makes it a kelvin warmer, kWh: 0.001, a litre of water, to `ENERGY_KWH_MAX`.
    pub kwh_per_k: f64,
    /// Heat lost for each kelvin above the surroundings, kW: 0 to `POWER_KW_MAX`.
    pub loss_kw_per_k: f64,
    /// Temperature at the start, degrees Celsius: -1,000 to 1,000, as for all that follow.
    pub temperature_c: f64,
    /// Least temperature at the end of each slot: `max_c` at most. A band out of reach makes the plan relaxed.
    pub min_c: f64,
    /// Highest temperature at the end of each slot.
    pub max_c: f64,
    /// Temperature of the surroundings in each slot.
    pub ambient_c: Vec<f64>,
    /// Heat taken from it in each slot, kW: 0 to `POWER_KW_MAX`.
    pub draw_kw: Vec<f64>,
    /// What a kWh of heat above `min_c` at the end is worth, currency: up to `PRICE_MAX` of either sign.
    pub end_value_per_kwh: f64,
}

/// What departing from the plan before costs. It is part of the objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// For each kWh by which the battery's change of SoC in a slot differs from before, currency: 0 to `PRICE_MAX`.
    pub battery_cost_per_kwh: f64,
    /// For each appliance that starts in another slot than before, currency: 0 to `PRICE_MAX`.
    pub start_cost: f64,
    /// The battery's change of SoC as planned before, kWh, from the first slot on: up to `ENERGY_KWH_MAX` of either sign.
    /// No longer than the horizon; nothing is owed beyond its end.
    pub soc_change_kwh: Vec<f64>,
    /// The start slot of each appliance as planned before; nothing is owed for others.
    pub start_slots: BTreeMap<String, u32>,
}

/// Weights of what the meter counts, that is import and export; wear, peak, worth of what is left and departures have
/// none. See `POST /api/optimize` in the API reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Of the bill: 0 to `WEIGHT_MAX`, as for the others.
    pub cost: f64,
    /// Currency for each kWh of import, besides its price.
    pub autarky: f64,
    /// Of what export earns, besides its part in the bill.
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
