//! What a home does in a slot, whatever its load and its sun turn out to be.

use serde::{Deserialize, Serialize};

/// The policy of one slot. It holds from its slot's start until the next one's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotPolicy {
    /// What the battery does; `None` without a battery.
    pub battery: Option<BatteryPolicy>,
    /// Import that the battery keeps to, kW: 0 or more. It charges no further, and covers the load beyond. `None` for the
    /// limit of the grid connection alone.
    pub import_max_kw: Option<f64>,
    /// Export that the battery keeps to, kW: 0 or more. It discharges no further, and stores the PV beyond. `None` for the
    /// limit of the grid connection alone.
    pub export_max_kw: Option<f64>,
    /// What one more kWh in the battery at the slot's end is worth, or the last one of a full battery, currency per kWh.
    pub value_per_kwh: f64,
    /// Why, for people.
    pub reason: Reason,
}

impl SlotPolicy {
    /// Returns the policy that holds a power, kW at the AC side, positive while charging.
    #[must_use]
    pub const fn setpoint(power_kw: f64) -> Self {
        Self {
            battery: Some(BatteryPolicy::setpoint(power_kw)),
            import_max_kw: None,
            export_max_kw: None,
            value_per_kwh: 0.0,
            reason: Reason::Fixed,
        }
    }
}

/// When a battery charges and discharges, by its content. `None` means never, save where a limit of the grid is at
/// stake. The thresholds that are there are ordered: `charge_from_grid_to_kwh <= charge_from_pv_to_kwh`,
/// `charge_from_grid_to_kwh <= discharge_to_home_to_kwh`, and both are at most `discharge_to_grid_to_kwh`.
/// [`Bounds::power_kw`](crate::battery::Bounds::power_kw) carries it out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatteryPolicy {
    /// The same in a word, for devices that know only words.
    pub mode: Mode,
    /// Content up to which the battery buys, kWh.
    pub charge_from_grid_to_kwh: Option<f64>,
    /// Content up to which it stores what PV has left over, kWh.
    pub charge_from_pv_to_kwh: Option<f64>,
    /// Content down to which it covers the home's load, kWh.
    pub discharge_to_home_to_kwh: Option<f64>,
    /// Content down to which it sells, kWh.
    pub discharge_to_grid_to_kwh: Option<f64>,
    /// Content up to which it stores what PV has left over beyond the limit of export, kWh; `None` for as much as it
    /// holds.
    #[serde(default)]
    pub charge_from_excess_to_kwh: Option<f64>,
    /// Content down to which it covers load beyond the limit of import, kWh; `None` for as much as it has.
    #[serde(default)]
    pub discharge_to_excess_to_kwh: Option<f64>,
    /// What it does in [`Mode::Setpoint`], kW at the AC side, positive while charging. The thresholds are then `None`.
    pub setpoint_kw: Option<f64>,
    /// What the plan expects it to do, kW, mean over the slot, positive while charging.
    pub expected_kw: f64,
}

impl BatteryPolicy {
    /// Returns the policy that holds a power, kW at the AC side, positive while charging.
    #[must_use]
    pub const fn setpoint(power_kw: f64) -> Self {
        Self {
            mode: Mode::Setpoint,
            charge_from_grid_to_kwh: None,
            charge_from_pv_to_kwh: None,
            discharge_to_home_to_kwh: None,
            discharge_to_grid_to_kwh: None,
            charge_from_excess_to_kwh: None,
            discharge_to_excess_to_kwh: None,
            setpoint_kw: Some(power_kw),
            expected_kw: power_kw,
        }
    }
}

/// What a battery does, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Stores what PV has left over and covers the load.
    SelfConsumption,
    /// Charges, from the grid too.
    Charge,
    /// Stores what PV has left over and does not cover the load.
    Hold,
    /// Discharges, into the grid too.
    Sell,
    /// Neither charges nor discharges.
    Idle,
    /// Holds a power.
    Setpoint,
}

/// Why a policy is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing is better than using one's own PV at once.
    OwnUse,
    /// Energy is bought since this slot is cheap.
    CheapNow,
    /// Energy is kept since a later slot is dear.
    DearLater,
    /// Energy is sold since this slot pays well.
    PaysNow,
    /// Room is kept for PV that comes later.
    SunLater,
    /// A limit of import or export binds.
    GridLimit,
    /// The content at the end of the horizon must be reached.
    EndContent,
    /// Moving energy costs more than it brings.
    NotWorthIt,
    /// The plan fixes the power, since no thresholds can be had for it.
    Fixed,
}
