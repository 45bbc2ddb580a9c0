//! One planning problem: what `POST /api/optimize` describes and the worker pool solves.
//!
//! Powers are kW at the AC side, energies kWh, prices currency per kWh. Import and charging are positive. Every number is
//! finite. The named limits are in [`crate::limits`]. The scheduler's `validate` checks every limit and names the field
//! that breaks one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::scenario::Scenario;
pub use crate::signal::Signal;
use crate::units::HouseholdId;

/// A home's problem over a horizon of equal slots. The four series have the same length, 1 to 672.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The household; the plan does not depend on it.
    pub household_id: HouseholdId,
    /// Start of the first slot, epoch milliseconds: 0 or more, a multiple of the slot's length, before the year 9999.
    pub start_ms: i64,
    /// Length of a slot, minutes: 1, 5, 15, 30 or 60.
    pub slot_minutes: u32,
    /// Load without appliances, EVs and heaters, kW: 0 to `POWER_KW_MAX`.
    pub load_kw: Vec<f64>,
    /// PV production available, kW: 0 to `POWER_KW_MAX`.
    pub pv_kw: Vec<f64>,
    /// Price of import in each slot, currency per kWh: `-PRICE_MAX` to `PRICE_MAX`.
    pub buy_price: Vec<f64>,
    /// Price of export in each slot, currency per kWh: `-PRICE_MAX` to `PRICE_MAX`. Positive is paid to the home.
    pub sell_price: Vec<f64>,
    /// The battery, if there is one.
    pub battery: Option<Battery>,
    /// Limits and peak price of the meter.
    pub grid: Grid,
    /// Whether PV power may be curtailed.
    pub pv_curtailable: bool,
    /// Appliance runs to place: at most `APPLIANCES_MAX`, ids unique.
    pub appliances: Vec<Appliance>,
    /// EVs: at most `STORES_MAX`, ids unique.
    #[serde(default)]
    pub evs: Vec<Ev>,
    /// Heat stores: at most `STORES_MAX`, ids unique.
    #[serde(default)]
    pub heat_stores: Vec<HeatStore>,
    /// Weights of the objective.
    pub weights: Weights,
    /// Cost of departing from the previous plan, if there is one.
    #[serde(default)]
    pub stability: Option<Stability>,
    /// Longest time for a search, milliseconds. The answer is the best plan found by then, with its proven gap. `None`
    /// means the scheduler's own limit, which also caps this one.
    #[serde(default)]
    pub time_limit_ms: Option<u32>,
    /// What load and PV may turn out to be, instead of `load_kw` and `pv_kw`: at most `SCENARIOS_MAX`. None means that they
    /// are certain.
    #[serde(default)]
    pub scenarios: Vec<Scenario>,
    /// What a battery must expect to gain by a kWh beyond its costs before it departs from storing what PV has left over
    /// and covering the load, currency per kWh: 0 to `PRICE_MAX`. Counts with scenarios only: what they promise is more
    /// than comes, since what pays in them was chosen for it.
    #[serde(default)]
    pub caution_per_kwh: f64,
    /// What others ask of the flow at the meter, if they do.
    #[serde(default)]
    pub signal: Option<Signal>,
}

/// A battery at the start of the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Battery {
    /// Capacity, kWh: 0 to `ENERGY_KWH_MAX`.
    pub capacity_kwh: f64,
    /// SoC at the start, kWh: 0 to the capacity. If it is outside `min_soc_kwh` to `max_soc_kwh`, the plan is relaxed.
    pub soc_kwh: f64,
    /// Lowest SoC, kWh: 0 to `max_soc_kwh`.
    pub min_soc_kwh: f64,
    /// Highest SoC, kWh: 0 to the capacity.
    pub max_soc_kwh: f64,
    /// Largest power into the battery at the AC side, kW: 0 to `POWER_KW_MAX`.
    pub charge_kw: f64,
    /// Largest power out of the battery at the AC side, kW: 0 to `POWER_KW_MAX`.
    pub discharge_kw: f64,
    /// Share of the charged energy that reaches the SoC: `EFFICIENCY_MIN` to 1.
    pub charge_efficiency: f64,
    /// Share of the energy taken from the SoC that reaches the AC side: `EFFICIENCY_MIN` to 1.
    pub discharge_efficiency: f64,
    /// Lowest SoC allowed at the end of the horizon, kWh: 0 to the capacity.
    pub end_soc_min_kwh: f64,
    /// Value of the energy left at the end, currency per kWh: `-PRICE_MAX` to `PRICE_MAX`.
    pub end_value_per_kwh: f64,
    /// Cost of wear, currency per kWh of change in SoC: 0 to `PRICE_MAX`.
    pub wear_cost_per_kwh: f64,
}

/// The grid connection; `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Largest import, kW: 0 to `POWER_KW_MAX`.
    pub import_limit_kw: Option<f64>,
    /// Largest export, kW: 0 to `POWER_KW_MAX`.
    pub export_limit_kw: Option<f64>,
    /// Price of the part of the highest import that is above `peak_kw`, currency per kW: 0 (none) to `PRICE_MAX`.
    #[serde(default)]
    pub peak_price_per_kw: f64,
    /// Peak import that is already paid for, kW: 0 to `POWER_KW_MAX`.
    #[serde(default)]
    pub peak_kw: f64,
}

impl Grid {
    /// No limits and no price on the peak.
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
    /// Name in the plan: 1 to `ID_BYTES_MAX` bytes.
    pub id: String,
    /// Power in each slot of the run, kW: 0 to `POWER_KW_MAX`. At least one entry, at most as many as the window has slots.
    pub profile_kw: Vec<f64>,
    /// Index of the first slot in which it may start: less than `latest_end_slot`.
    pub earliest_slot: u32,
    /// Index of the slot before which the run must end: at most the number of slots.
    pub latest_end_slot: u32,
}

/// An electric vehicle that is plugged in once during the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ev {
    /// Name in the plan: 1 to `ID_BYTES_MAX` bytes.
    pub id: String,
    /// Index of the first slot in which it is plugged in: less than `departure_slot`.
    pub arrival_slot: u32,
    /// Index of the first slot in which it is gone: at most the number of slots.
    pub departure_slot: u32,
    /// Capacity, kWh: 0 to `ENERGY_KWH_MAX`.
    pub capacity_kwh: f64,
    /// SoC on arrival, kWh: 0 to the capacity.
    pub soc_kwh: f64,
    /// Lowest SoC, kWh: 0 to the capacity. If it arrives with less, the SoC on arrival is the lowest.
    pub min_soc_kwh: f64,
    /// Lowest SoC at departure, kWh: 0 to the capacity. If it cannot be reached, the plan is relaxed.
    pub goal_soc_kwh: f64,
    /// Largest power into it at the AC side, kW: 0 to `POWER_KW_MAX`.
    pub charge_kw: f64,
    /// Smallest power while it charges, kW: 0 to `charge_kw`. Equal to `charge_kw` for a charger that is only on or off.
    pub min_charge_kw: f64,
    /// Largest power back to the home at the AC side, kW: 0 (it cannot) to `POWER_KW_MAX`.
    pub discharge_kw: f64,
    /// Share of the charged energy that reaches the SoC: `EFFICIENCY_MIN` to 1.
    pub charge_efficiency: f64,
    /// Share of the energy taken from the SoC that reaches the AC side: `EFFICIENCY_MIN` to 1.
    pub discharge_efficiency: f64,
    /// Value of the energy on board at departure, currency per kWh: `-PRICE_MAX` to `PRICE_MAX`.
    pub end_value_per_kwh: f64,
    /// Cost of wear, currency per kWh of change in SoC: 0 to `PRICE_MAX`.
    pub wear_cost_per_kwh: f64,
}

/// A store of heat with one temperature, such as a hot-water tank or a house. A heater adds heat; losses to the
/// surroundings and draws remove it. With `a = exp(-loss*dt/kwh_per_k)` and `power` electric, the temperature at the end
/// of a slot is `a*before + (1 - a)*(ambient + (cop*power - draw)/loss)`. Without loss it is
/// `before + (cop*power - draw)*dt/kwh_per_k`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatStore {
    /// Name in the plan: 1 to `ID_BYTES_MAX` bytes.
    pub id: String,
    /// Largest electric power of the heater, kW: 0 to `POWER_KW_MAX`.
    pub power_kw: f64,
    /// Heat per kWh of electricity in each slot, kWh: 0.1 to 100; 1 for a heating rod.
    pub cop: Vec<f64>,
    /// Heat that raises its temperature by 1 K, kWh: 0.001 (about a litre of water) to `ENERGY_KWH_MAX`.
    pub kwh_per_k: f64,
    /// Heat loss per kelvin above the surroundings, kW: 0 to `POWER_KW_MAX`.
    pub loss_kw_per_k: f64,
    /// Temperature at the start, degrees Celsius: -1,000 to 1,000, like the other temperatures here.
    pub temperature_c: f64,
    /// Lowest temperature at the end of each slot: at most `max_c`. If the range cannot be kept, the plan is relaxed.
    pub min_c: f64,
    /// Highest temperature at the end of each slot.
    pub max_c: f64,
    /// Temperature of the surroundings in each slot.
    pub ambient_c: Vec<f64>,
    /// Heat drawn in each slot, kW: 0 to `POWER_KW_MAX`.
    pub draw_kw: Vec<f64>,
    /// Value of the heat above `min_c` at the end, currency per kWh: `-PRICE_MAX` to `PRICE_MAX`.
    pub end_value_per_kwh: f64,
}

/// The cost of departing from the previous plan, which is part of the objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// Cost of a different change of the battery's SoC in a slot, currency per kWh of difference: 0 to `PRICE_MAX`.
    pub battery_cost_per_kwh: f64,
    /// Cost of each appliance that starts in a different slot, currency: 0 to `PRICE_MAX`.
    pub start_cost: f64,
    /// The battery's planned change of SoC in each slot, from the first slot on, kWh: `-ENERGY_KWH_MAX` to
    /// `ENERGY_KWH_MAX`. At most as long as the horizon. Slots after its end cost nothing.
    pub soc_change_kwh: Vec<f64>,
    /// The planned start slot of each appliance. Appliances that are not listed cost nothing.
    pub start_slots: BTreeMap<String, u32>,
}

/// Weights of import and export in the objective. Wear, peak price, end values, stability costs and signals are not
/// weighted.
/// See `POST /api/optimize` in the API reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Weight of the bill: 0 to `WEIGHT_MAX`.
    pub cost: f64,
    /// Cost of import in addition to its price, currency per kWh: 0 to `WEIGHT_MAX`.
    pub autarky: f64,
    /// Weight of the revenue from export, in addition to its part in the bill: 0 to `WEIGHT_MAX`.
    pub revenue: f64,
}

impl Weights {
    /// The cheapest bill and nothing else.
    pub const COST: Self = Self {
        cost: 1.0,
        autarky: 0.0,
        revenue: 0.0,
    };
}
