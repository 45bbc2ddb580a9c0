//! A home's battery and meter, which carry a policy out in each recorded step, and the bill.

use model::battery::{Bounds, Moment};
use model::policy::{BatteryPolicy, Mode, SlotPolicy};
use serde::Serialize;

use crate::recorded::{Recorded, Step};

/// What moves in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moved {
    /// Power of the battery at the AC side, kW, positive while charging.
    pub battery_kw: f64,
    /// Energy from the grid, kWh: 0 or more.
    pub import_kwh: f64,
    /// Energy to the grid, kWh: 0 or more.
    pub export_kwh: f64,
    /// Change of the battery's content, kWh.
    pub content_kwh: f64,
    /// What it costs, currency.
    pub cost: f64,
}

/// Battery and meter.
#[derive(Debug, Clone)]
pub struct Device {
    bounds: Bounds,
    import_max_kw: f64,
    export_max_kw: f64,
    pv_curtailable: bool,
    content_kwh: f64,
}

impl Device {
    /// Returns the device of a home, its battery at the lowest content.
    #[must_use]
    pub fn new(home: &Recorded) -> Self {
        Self {
            bounds: (&home.battery).into(),
            import_max_kw: home.grid.import_limit_kw.unwrap_or(f64::INFINITY),
            export_max_kw: home.grid.export_limit_kw.unwrap_or(f64::INFINITY),
            pv_curtailable: home.pv_curtailable,
            content_kwh: home.battery.min_soc_kwh,
        }
    }

    /// Returns the battery's content, kWh.
    #[must_use]
    pub const fn content_kwh(&self) -> f64 {
        self.content_kwh
    }

    /// Returns the power with which a policy would have the battery work for some hours, kW, positive while charging.
    #[must_use]
    pub fn power_kw(&self, policy: &SlotPolicy, net_load_kw: f64, hours: f64) -> f64 {
        let limit = |own: f64, policys: Option<f64>| policys.map_or(own, |kw| own.min(kw));
        let moment = Moment {
            content_kwh: self.content_kwh,
            net_load_kw,
            import_max_kw: limit(self.import_max_kw, policy.import_max_kw),
            export_max_kw: limit(self.export_max_kw, policy.export_max_kw),
        };
        let battery = policy.battery.as_ref();
        battery.map_or(0.0, |battery| self.bounds.power_kw(battery, &moment, hours))
    }

    /// Carries a policy out for a step; without one, the battery rests. Nothing moves in a step that was not recorded.
    pub fn carry_out(&mut self, policy: Option<&SlotPolicy>, step: &Step) -> Moved {
        let Some(net_kw) = step.net_kw else {
            return Moved::default();
        };
        let power_kw = |policy| self.power_kw(policy, net_kw, step.hours);
        let battery_kw = policy.map_or(0.0, power_kw);
        let before_kwh = self.content_kwh;
        let after_kwh = self.bounds.after_kwh(before_kwh, battery_kw, step.hours);
        self.content_kwh = after_kwh.clamp(self.bounds.min_kwh, self.bounds.max_kwh);
        let grid_kw = net_kw + battery_kw;
        let import_kwh = grid_kw.max(0.0) * step.hours;
        let mut export_kw = (-grid_kw).max(0.0);
        if self.pv_curtailable {
            // What is curtailed can only be PV that is left over.
            let kept_kw = if step.sell < 0.0 {
                (export_kw - (-net_kw).max(0.0)).max(0.0)
            } else {
                export_kw
            };
            export_kw = kept_kw.min(self.export_max_kw);
        }
        let export_kwh = export_kw * step.hours;
        Moved {
            battery_kw,
            import_kwh,
            export_kwh,
            content_kwh: self.content_kwh - before_kwh,
            cost: step.buy * import_kwh - step.sell * export_kwh,
        }
    }
}

/// The policy of an inverter that knows nothing of prices: it stores what PV has left over and covers the load, at once.
#[must_use]
pub fn self_consumption(home: &Recorded) -> SlotPolicy {
    let battery = BatteryPolicy {
        mode: Mode::SelfConsumption,
        charge_from_grid_to_kwh: None,
        charge_from_pv_to_kwh: Some(home.battery.max_soc_kwh),
        discharge_to_home_to_kwh: Some(home.battery.min_soc_kwh),
        discharge_to_grid_to_kwh: None,
        charge_from_excess_to_kwh: None,
        discharge_to_excess_to_kwh: None,
        setpoint_kw: None,
        expected_kw: 0.0,
    };
    SlotPolicy {
        battery: Some(battery),
        ..SlotPolicy::setpoint(0.0)
    }
}

/// Sums over the steps that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bill {
    /// Import at its price less export at its, currency, less what the change of the battery's content is worth.
    pub cost: f64,
    /// Energy from the grid, kWh.
    pub import_kwh: f64,
    /// Energy to the grid, kWh.
    pub export_kwh: f64,
    /// Energy moved through the battery, as change of content either way, kWh.
    pub wear_kwh: f64,
}

impl Bill {
    /// Adds a step. `left_per_kwh` is what a kWh in the battery is worth.
    pub fn add(&mut self, moved: &Moved, left_per_kwh: f64) {
        self.cost += moved.cost - left_per_kwh * moved.content_kwh;
        self.import_kwh += moved.import_kwh;
        self.export_kwh += moved.export_kwh;
        self.wear_kwh += moved.content_kwh.abs();
    }
}
