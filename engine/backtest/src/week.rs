//! A week of a home, as the page shows it.

use forecast::scenarios::Band;
use model::battery::Bounds;
use model::policy::SlotPolicy;
use serde::Serialize;

/// What the battery's thresholds were in a slot, kWh; `None` for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Thresholds {
    /// Content up to which the battery bought.
    pub grid: Option<f64>,
    /// Content up to which it stored what PV had left over.
    pub pv: Option<f64>,
    /// Content down to which it covered the load.
    pub home: Option<f64>,
    /// Content down to which it sold.
    pub sold: Option<f64>,
}

impl Thresholds {
    /// Returns those of a policy.
    #[must_use]
    pub fn of(policy: &SlotPolicy) -> Self {
        policy
            .battery
            .as_ref()
            .map_or_else(Self::default, |battery| Self {
                grid: battery.charge_from_grid_to_kwh,
                pv: battery.charge_from_pv_to_kwh,
                home: battery.discharge_to_home_to_kwh,
                sold: battery.discharge_to_grid_to_kwh,
            })
    }
}

/// A slot of the week: means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct WeekSlot {
    /// Start, UTC epoch milliseconds.
    pub start_ms: i64,
    /// Load, kW.
    pub load_kw: f64,
    /// PV power, kW.
    pub pv_kw: f64,
    /// Power of the battery, kW, positive while charging.
    pub battery_kw: f64,
    /// Content of the battery at the slot's end, kWh.
    pub content_kwh: f64,
    /// Price of import, currency per kWh.
    pub buy: f64,
    /// Thresholds at the slot's start.
    pub thresholds: Thresholds,
    /// 10, 50 and 90 % of the load as forecast at the last midnight before, kW.
    pub load_band_kw: [f64; 3],
    /// The same of the PV power.
    pub pv_band_kw: [f64; 3],
}

/// A week of a home under Hearth's programs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Week {
    /// Its slots, ascending.
    pub slots: Vec<WeekSlot>,
    /// Highest content of the battery, kWh.
    pub most_kwh: f64,
}

impl Week {
    /// Returns a week without slots.
    #[must_use]
    pub const fn new(bounds: &Bounds) -> Self {
        Self {
            slots: Vec::new(),
            most_kwh: bounds.max_kwh,
        }
    }
}

/// Returns 10, 50 and 90 % of a slot, kW.
#[must_use]
pub fn band_kw(band: &Band, index: usize) -> [f64; 3] {
    [band.low_w[index], band.median_w[index], band.high_w[index]].map(|watts| watts / 1e3)
}
