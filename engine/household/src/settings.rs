//! What is the same for every home.

use model::units::SlotLength;

/// The engine's settings, as homes need them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    pub slot: SlotLength,
    /// Slots in a plan, 1 to 672.
    pub horizon_slots: u32,
    /// How long after its end a slot keeps its raw readings, so that a late one corrects it exactly; 0 or more.
    pub grace_ms: i64,
    /// How long a reading holds where no next one of its kind comes: means are weighted by that time. 0 to an hour; with 0
    /// each reading weighs the same.
    pub hold_ms: i64,
    /// How far ahead of the host's clock a reading may be; what lies further ahead is refused, and state that does is
    /// brought back. 0 or more.
    pub ahead_ms: i64,
    /// How far back of the host's clock a reading may be: the store keeps nothing older. More than 0.
    pub kept_ms: i64,
    /// Whether each reading becomes a row of the store. Where it does not, the slot that a reading belongs to holds all
    /// that is kept of it, and one that comes after the grace is refused.
    pub stores_readings: bool,
    /// A home whose last reading is older than this is stale: it is neither planned nor commanded. An input whose last
    /// reading is older than this is unknown: no plan and no setpoint is based on it. More than 0.
    pub stale_after_ms: i64,
    /// Largest plausible power of a home's load, of its PV and of its battery, each where its metadata does not tell,
    /// kW; more than 0.
    pub load_kw_max: f64,
    pub pv_kw_max: f64,
    pub battery_kw_max: f64,
    /// What it must save to depart from the plan that holds, so that plans do not flip for next to nothing: currency
    /// per kWh that the battery moves otherwise, and per appliance that starts in another slot; 0 or more.
    pub switching_cost_per_kwh: f64,
    pub switching_cost_per_start: f64,
}

/// Default of [`Settings::load_kw_max`], [`Settings::pv_kw_max`] and [`Settings::battery_kw_max`]: more than the
/// connection of any home carries.
pub const UNKNOWN_KW_MAX: f64 = 100.0;
