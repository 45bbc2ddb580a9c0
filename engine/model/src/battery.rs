//! What a battery does at a moment under a policy, and what becomes of its content. A device does this step by step.

use crate::metadata::BatterySpec;
use crate::policy::{BatteryPolicy, Mode};
use crate::problem::Battery;

/// What bounds a battery. Powers are those at the AC side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Lowest content, kWh: 0 or more.
    pub min_kwh: f64,
    /// Highest content, kWh: `min_kwh` or more.
    pub max_kwh: f64,
    /// Largest power into it, kW: 0 or more.
    pub charge_kw: f64,
    /// Largest power out of it, kW: 0 or more.
    pub discharge_kw: f64,
    /// Share of the charged energy that reaches the content: above 0, at most 1.
    pub charge_efficiency: f64,
    /// Share of the energy taken from the content that reaches the AC side: above 0, at most 1.
    pub discharge_efficiency: f64,
}

/// A home at a moment, as its meter and its battery say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Content of the battery, kWh.
    pub content_kwh: f64,
    /// Load less PV, without the battery, kW; negative while PV is left over.
    pub net_load_kw: f64,
    /// Largest import, kW: 0 or more; infinite without a limit.
    pub import_max_kw: f64,
    /// Largest export, kW: 0 or more; infinite without a limit.
    pub export_max_kw: f64,
}

impl From<&Battery> for Bounds {
    fn from(battery: &Battery) -> Self {
        Self {
            min_kwh: battery.min_soc_kwh,
            max_kwh: battery.max_soc_kwh,
            charge_kw: battery.charge_kw,
            discharge_kw: battery.discharge_kw,
            charge_efficiency: battery.charge_efficiency,
            discharge_efficiency: battery.discharge_efficiency,
        }
    }
}

impl From<&BatterySpec> for Bounds {
    fn from(battery: &BatterySpec) -> Self {
        Self {
            min_kwh: battery.min_soc_kwh,
            max_kwh: battery.max_soc_kwh,
            charge_kw: battery.charge_kw,
            discharge_kw: battery.discharge_kw,
            charge_efficiency: battery.charge_efficiency,
            discharge_efficiency: battery.discharge_efficiency,
        }
    }
}

impl Bounds {
    /// Returns the battery's power over the next `hours`, kW at the AC side, positive while charging. `hours` is above 0.
    /// A step ends at a threshold at the latest; with a step of a second this is what a device does, with one of a slot
    /// what a plan expects.
    ///
    /// Each kind of energy has a content up or down to which it is moved. Limits of the grid come before the policy: no
    /// charging beyond the one of import, no discharging beyond the one of export.
    #[must_use]
    pub fn power_kw(&self, policy: &BatteryPolicy, moment: &Moment, hours: f64) -> f64 {
        let net = moment.net_load_kw;
        // What imports up to the limit, and what exports up to it.
        let most = moment.import_max_kw - net;
        let least = -moment.export_max_kw - net;
        if policy.mode == Mode::Setpoint {
            let wanted = policy.setpoint_kw.unwrap_or(0.0);
            let power = wanted.max(least.min(0.0)).min(most);
            return if power > 0.0 {
                power.min(self.charging_kw(moment, self.max_kwh, hours))
            } else {
                -(-power).min(self.discharging_kw(moment, self.min_kwh, hours))
            };
        }
        let charging = |to: Option<f64>, most_kw: f64| {
            to.map_or(0.0, |to| self.charging_kw(moment, to, hours).min(most_kw))
        };
        let excess = policy.charge_from_excess_to_kwh.or(Some(self.max_kwh));
        let charge = charging(excess, least)
            .max(charging(policy.charge_from_pv_to_kwh, -net))
            .max(charging(policy.charge_from_grid_to_kwh, most));
        if charge > 0.0 {
            return charge;
        }
        let discharging = |to: Option<f64>, most_kw: f64| {
            to.map_or(0.0, |to| {
                self.discharging_kw(moment, to, hours).min(most_kw)
            })
        };
        let excess = policy.discharge_to_excess_to_kwh.or(Some(self.min_kwh));
        let discharge = discharging(excess, -most)
            .max(discharging(policy.discharge_to_home_to_kwh, net))
            .max(discharging(policy.discharge_to_grid_to_kwh, -least));
        if discharge > 0.0 { -discharge } else { 0.0 }
    }

    /// Returns the content after `hours` at `power_kw`, kWh.
    #[must_use]
    pub fn after_kwh(&self, content_kwh: f64, power_kw: f64, hours: f64) -> f64 {
        if power_kw > 0.0 {
            content_kwh + power_kw * self.charge_efficiency * hours
        } else {
            content_kwh + power_kw * hours / self.discharge_efficiency
        }
    }

    /// The power that charges to `to_kwh` within `hours`, or the largest: 0 or more.
    fn charging_kw(&self, moment: &Moment, to_kwh: f64, hours: f64) -> f64 {
        let missing = to_kwh.min(self.max_kwh) - moment.content_kwh;
        if missing > 0.0 {
            (missing / (self.charge_efficiency * hours)).min(self.charge_kw)
        } else {
            0.0
        }
    }

    /// The power that discharges to `to_kwh` within `hours`, or the largest: 0 or more.
    fn discharging_kw(&self, moment: &Moment, to_kwh: f64, hours: f64) -> f64 {
        let spare = moment.content_kwh - to_kwh.max(self.min_kwh);
        if spare > 0.0 {
            (spare * self.discharge_efficiency / hours).min(self.discharge_kw)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests;
