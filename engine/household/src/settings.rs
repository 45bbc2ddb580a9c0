//! The engine's settings that households need; they are the same for every home.

use model::units::SlotLength;

/// The settings. Durations are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Length of a slot.
    pub slot: SlotLength,
    /// Number of slots in a plan: 1 to 672.
    pub horizon_slots: u32,
    /// Most slots in a program: 1 to 96.
    pub program_slots: u32,
    /// How long a slot keeps its raw readings after its end, so that a late one corrects it exactly: 0 or more.
    pub grace_ms: i64,
    /// How long a reading holds if no other of its kind follows; means are weighted by that time. 0 to an hour; with 0 all
    /// readings have the same weight.
    pub hold_ms: i64,
    /// How far ahead of the host's clock a reading may be: 0 or more. A reading further ahead is refused; state further
    /// ahead is brought back.
    pub ahead_ms: i64,
    /// How far behind the host's clock a reading may be: more than 0. The store keeps nothing older.
    pub kept_ms: i64,
    /// Whether each reading becomes a row of the store. If not, only the slot's aggregate is kept, and readings that come
    /// after the grace period are refused.
    pub stores_readings: bool,
    /// Age after which the last reading is stale: more than 0. A home whose last reading of any kind is stale gets no
    /// plan and no commands. An input whose last reading is stale counts as unknown: no plan or setpoint uses it.
    pub stale_after_ms: i64,
    /// Largest plausible load if the metadata does not tell, kW: more than 0.
    pub load_kw_max: f64,
    /// Largest plausible PV power if the metadata does not tell, kW: more than 0.
    pub pv_kw_max: f64,
    /// Largest plausible battery power if the metadata does not tell, kW: more than 0.
    pub battery_kw_max: f64,
    /// Cost of departing from the plan in force, so that plans do not flip for tiny savings: currency per kWh that the
    /// battery moves differently, 0 or more.
    pub switching_cost_per_kwh: f64,
    /// The same for appliances: currency per appliance that starts in a different slot, 0 or more.
    pub switching_cost_per_start: f64,
}

/// Default of [`Settings::load_kw_max`], [`Settings::pv_kw_max`] and [`Settings::battery_kw_max`], kW: more than the
/// connection of any home carries.
pub const UNKNOWN_KW_MAX: f64 = 100.0;
