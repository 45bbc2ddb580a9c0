//! What others ask of a home's flow at the meter: a price and caps, such as those of a limit that homes share.

use serde::{Deserialize, Serialize};

/// A price and soft caps on the net flow at the meter: import less export, positive for import. A series is empty, or has
/// an entry for each slot. A cap can be broken; then it costs its breach price, and the plan names it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Signal {
    /// What a kWh of import costs more in each slot, and a kWh of export earns more, currency per kWh: `-PRICE_MAX` to
    /// `PRICE_MAX`. It is not weighted.
    pub price_per_kwh: Vec<f64>,
    /// Largest net flow in each slot, kW: `-POWER_KW_MAX` to `POWER_KW_MAX`. One below 0 asks for that much export at least.
    /// `None` for no cap.
    pub import_cap_kw: Vec<Option<f64>>,
    /// Largest net flow the other way in each slot, kW: `-POWER_KW_MAX` to `POWER_KW_MAX`. One below 0 asks for that much
    /// import at least. `None` for no cap.
    pub export_cap_kw: Vec<Option<f64>>,
    /// What each kWh of import beyond its cap costs, currency per kWh: 0 to `PRICE_MAX`. It is not weighted.
    pub import_breach_price_per_kwh: f64,
    /// What each kWh of export beyond its cap costs, currency per kWh: 0 to `PRICE_MAX`. It is not weighted.
    pub export_breach_price_per_kwh: f64,
}

impl Signal {
    /// Returns the price in `slot`, currency per kWh; 0 without one.
    #[must_use]
    pub fn price(&self, slot: usize) -> f64 {
        self.price_per_kwh.get(slot).copied().unwrap_or(0.0)
    }

    /// Returns the caps on import and on export in `slot`, kW; infinite without one.
    #[must_use]
    pub fn caps_kw(&self, slot: usize) -> (f64, f64) {
        let cap = |caps: &[Option<f64>]| caps.get(slot).copied().flatten();
        (
            cap(&self.import_cap_kw).unwrap_or(f64::INFINITY),
            cap(&self.export_cap_kw).unwrap_or(f64::INFINITY),
        )
    }

    /// Returns whether there is a cap in any slot.
    #[must_use]
    pub fn has_caps(&self) -> bool {
        let mut caps = self.import_cap_kw.iter().chain(&self.export_cap_kw);
        caps.any(Option::is_some)
    }
}
