//! What stands in a simulated home, and what it does in a step under an entry of a program or without one. No IO, no
//! clock.

use model::battery::{Bounds, Moment};
use model::command::ProgramEntry;
use model::metadata::{BatterySpec, Metadata};
use model::policy::{BatteryPolicy, Mode, SlotPolicy};
use model::problem::Grid;

use crate::appliance::Appliance;
use crate::ev::Ev;
use crate::homes::{Home, Understands};
use crate::tank::Tank;

/// The mean powers of a home over a step, kW. The load includes its appliances, but neither EV nor tank, which have meters
/// of their own, as PV and battery do.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flows {
    pub load_kw: f64,
    pub pv_kw: f64,
    /// Positive while charging.
    pub battery_kw: f64,
    /// Positive while charging.
    pub ev_kw: f64,
    pub heat_kw: f64,
}

impl Flows {
    /// Returns what the meter of the grid shows, kW, positive while importing.
    #[must_use]
    pub const fn grid_kw(&self) -> f64 {
        self.load_kw + self.battery_kw + self.ev_kw + self.heat_kw - self.pv_kw
    }

    /// Returns what the home uses: all but its battery and PV, kW; below 0 where an EV feeds more than that.
    #[must_use]
    pub const fn used_kw(&self) -> f64 {
        self.load_kw + self.ev_kw + self.heat_kw
    }

    /// Adds a step of `hours`, so that sums of powers become kWh.
    pub(crate) fn add(&mut self, step: &Self, hours: f64) {
        self.load_kw += step.load_kw * hours;
        self.pv_kw += step.pv_kw * hours;
        self.battery_kw += step.battery_kw * hours;
        self.ev_kw += step.ev_kw * hours;
        self.heat_kw += step.heat_kw * hours;
    }

    /// Returns the mean powers of what [`Self::add`] summed up over `hours`.
    pub(crate) fn mean(&self, hours: f64) -> Self {
        Self {
            load_kw: self.load_kw / hours,
            pv_kw: self.pv_kw / hours,
            battery_kw: self.battery_kw / hours,
            ev_kw: self.ev_kw / hours,
            heat_kw: self.heat_kw / hours,
        }
    }
}

/// What the meters of a home have counted, kWh, each 0 or more.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Meters {
    pub import_kwh: f64,
    pub export_kwh: f64,
    pub load_kwh: f64,
    pub pv_kwh: f64,
    pub battery_in_kwh: f64,
    pub battery_out_kwh: f64,
    pub ev_in_kwh: f64,
    pub ev_out_kwh: f64,
    pub heat_kwh: f64,
}

impl Meters {
    pub(crate) fn count(&mut self, flows: &Flows, hours: f64) {
        let pairs = [
            (flows.grid_kw(), &mut self.import_kwh, &mut self.export_kwh),
            (
                flows.battery_kw,
                &mut self.battery_in_kwh,
                &mut self.battery_out_kwh,
            ),
            (flows.ev_kw, &mut self.ev_in_kwh, &mut self.ev_out_kwh),
        ];
        for (power_kw, into, out) in pairs {
            *into += power_kw.max(0.0) * hours;
            *out += (-power_kw).max(0.0) * hours;
        }
        self.load_kwh += flows.load_kw * hours;
        self.pv_kwh += flows.pv_kw * hours;
        self.heat_kwh += flows.heat_kw * hours;
    }
}

/// A step of time and what comes from outside during it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// Its start, UTC epoch milliseconds.
    pub(crate) at_ms: i64,
    /// Its length: above 0.
    pub(crate) hours: f64,
    /// Load without appliances, kW.
    pub(crate) load_kw: f64,
    pub(crate) pv_kw: f64,
}

/// The battery, EV, tank and appliances of a home.
#[derive(Debug, Clone)]
pub(crate) struct Plant {
    pub(crate) battery: Option<Battery>,
    pub(crate) ev: Option<Ev>,
    pub(crate) tank: Option<Tank>,
    appliances: Vec<Appliance>,
}

/// A battery, its inverter, and what that understands.
#[derive(Debug, Clone)]
pub(crate) struct Battery {
    spec: BatterySpec,
    grid: Grid,
    understands: Understands,
    pub(crate) content_kwh: f64,
}

impl Plant {
    /// Makes a plant at rest, with its battery half full.
    pub(crate) fn new(home: &Home, metadata: &Metadata) -> Self {
        let calendar = home.calendar(&metadata.time_zone);
        let says_departure = home.id().get() % 2 == 1;
        let battery = metadata.battery.as_ref().map(|spec| Battery {
            content_kwh: spec.capacity_kwh / 2.0,
            spec: spec.clone(),
            grid: metadata.grid,
            understands: home.understands(),
        });
        let evs = metadata.evs.first();
        let tanks = metadata.heat_stores.first();
        let appliances = metadata.appliances.iter();
        Self {
            battery,
            ev: evs.map(|spec| Ev::new(spec.clone(), calendar.clone(), says_departure)),
            tank: tanks.map(|spec| Tank::new(spec.clone(), calendar.clone())),
            appliances: appliances
                .map(|spec| Appliance::new(spec.clone(), calendar.clone()))
                .collect(),
        }
    }

    /// Returns the same plant as it is now, but without its battery.
    pub(crate) fn without_battery(&self) -> Self {
        Self {
            battery: None,
            ..self.clone()
        }
    }

    /// Runs a step. Without an entry everything falls back; what an entry does not name does so too.
    ///
    /// The tank comes first, the EV takes what PV has left over, and the battery meets the rest.
    pub(crate) fn run(&mut self, step: &Step, entry: Option<&ProgramEntry>) -> Flows {
        let Step { at_ms, hours, .. } = *step;
        let mut load_kw = step.load_kw;
        for appliance in &mut self.appliances {
            let told = entry.map(|entry| entry.appliances.get(appliance.id()) == Some(&true));
            load_kw += appliance.run(at_ms, told);
        }
        let heat_kw = self.tank.as_mut().map_or(0.0, |tank| {
            let order = entry.and_then(|entry| entry.heat.get(tank.id()));
            tank.run(at_ms, hours, order)
        });
        let left_kw = step.pv_kw - load_kw - heat_kw;
        let ev_kw = self.ev.as_mut().map_or(0.0, |ev| {
            let order = entry.and_then(|entry| entry.evs.get(ev.id()));
            ev.run(at_ms, hours, order, left_kw)
        });
        let policy = entry.and_then(|entry| entry.policy.as_ref());
        let battery_kw = self
            .battery
            .as_mut()
            .map_or(0.0, |battery| battery.run(ev_kw - left_kw, hours, policy));
        Flows {
            load_kw,
            pv_kw: step.pv_kw,
            battery_kw,
            ev_kw,
            heat_kw,
        }
    }

    /// Returns what the appliances will still draw in the windows that have begun, kWh.
    pub(crate) fn owed_kwh(&self, at_ms: i64) -> f64 {
        let appliances = self.appliances.iter().cloned();
        appliances
            .map(|mut appliance| appliance.owed_kwh(at_ms))
            .sum()
    }
}

impl Battery {
    pub(crate) const fn spec(&self) -> &BatterySpec {
        &self.spec
    }

    /// Runs it for `hours` and returns its power, kW, positive while charging. Limits of the connection hold at any time.
    fn run(&mut self, net_load_kw: f64, hours: f64, policy: Option<&SlotPolicy>) -> f64 {
        let told = policy
            .and_then(|policy| policy.battery)
            .map(|told| match self.understands {
                Understands::Programs => told,
                Understands::Modes => self.by_mode(told.mode),
            })
            .unwrap_or_else(|| self.by_mode(Mode::SelfConsumption));
        let least = |limit_kw: Option<f64>, told_kw: Option<f64>| {
            let limit_kw = limit_kw.unwrap_or(f64::INFINITY);
            limit_kw.min(told_kw.unwrap_or(f64::INFINITY))
        };
        let (import_kw, export_kw) = match self.understands {
            Understands::Programs => (
                policy.and_then(|policy| policy.import_max_kw),
                policy.and_then(|policy| policy.export_max_kw),
            ),
            Understands::Modes => (None, None),
        };
        let moment = Moment {
            content_kwh: self.content_kwh,
            net_load_kw,
            import_max_kw: least(self.grid.import_limit_kw, import_kw),
            export_max_kw: least(self.grid.export_limit_kw, export_kw),
        };
        let bounds = Bounds::from(&self.spec);
        let power_kw = bounds.power_kw(&told, &moment, hours);
        self.content_kwh = bounds.after_kwh(self.content_kwh, power_kw, hours);
        power_kw
    }

    /// Returns what a mode means to an inverter that knows nothing else. Without a valid command, or with a power that it
    /// cannot hold, it serves the home.
    const fn by_mode(&self, mode: Mode) -> BatteryPolicy {
        let (top, bottom) = (Some(self.spec.max_soc_kwh), Some(self.spec.min_soc_kwh));
        let (buys, stores, covers, sells) = match mode {
            Mode::SelfConsumption | Mode::Setpoint => (None, top, bottom, None),
            Mode::Charge => (top, top, None, None),
            Mode::Hold => (None, top, None, None),
            Mode::Sell => (None, None, bottom, bottom),
            Mode::Idle => (None, None, None, None),
        };
        BatteryPolicy {
            mode: Mode::SelfConsumption,
            charge_from_grid_to_kwh: buys,
            charge_from_pv_to_kwh: stores,
            discharge_to_home_to_kwh: covers,
            discharge_to_grid_to_kwh: sells,
            charge_from_excess_to_kwh: None,
            discharge_to_excess_to_kwh: None,
            setpoint_kw: None,
            expected_kw: 0.0,
        }
    }
}
