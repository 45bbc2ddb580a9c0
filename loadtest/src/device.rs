//! The devices of one simulated home: meter, PV plant, battery and appliances, and the programs that they hold.
//! They carry programs out by themselves, second by second, and fall back when the last one has expired. No IO, no clock.

use model::battery::{Bounds, Moment};
use model::command::{Ack, AckStatus, Command, ProgramEntry};
use model::metadata::{BatterySpec, Metadata};
use model::policy::{BatteryPolicy, Mode};
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;

use crate::homes::Home;

/// Step of the battery's simulation, milliseconds.
const STEP_MS: i64 = 1_000;
const SECOND_H: f64 = 1.0 / 3_600.0;
/// Longest time that is simulated between two readings, milliseconds.
const ELAPSED_MS_MAX: i64 = 3_600_000;

/// The devices of one home.
#[derive(Debug, Clone)]
pub struct Device {
    home: Home,
    metadata: Metadata,
    soc_kwh: f64,
    /// Time of the last step; `None` before the first.
    stepped_ms: Option<i64>,
    /// The command issued last, and the one before it until this one begins.
    commands: Vec<Command>,
}

impl Device {
    /// Makes a home at rest, with its battery half full.
    #[must_use]
    pub fn new(home: Home) -> Self {
        let metadata = home.metadata();
        let soc_kwh = metadata
            .battery
            .as_ref()
            .map_or(0.0, |spec| spec.capacity_kwh / 2.0);
        Self {
            home,
            metadata,
            soc_kwh,
            stepped_ms: None,
            commands: Vec::new(),
        }
    }

    /// Returns whose devices they are.
    #[must_use]
    pub const fn id(&self) -> HouseholdId {
        self.home.id()
    }

    /// Returns the capacity of the battery, kWh; 0 without one.
    #[must_use]
    pub fn capacity_kwh(&self) -> f64 {
        let battery = self.metadata.battery.as_ref();
        battery.map_or(0.0, |spec| spec.capacity_kwh)
    }

    /// Takes a command and returns the answer. A repeated command is answered again.
    #[must_use]
    pub fn receive(&mut self, command: Command, now_ms: i64) -> Ack {
        let (command_id, from_ms) = (command.command_id.clone(), command.from_ms());
        let newest = self.commands.last();
        let refusal = if command.expires_ms <= now_ms {
            "expired"
        } else if newest.is_some_and(|held| held.issued_ms > command.issued_ms) {
            "a later command is here"
        } else {
            self.commands.retain(|held| held.from_ms() < from_ms);
            self.commands.push(command);
            let outdated = self.commands.len().saturating_sub(2);
            self.commands.drain(..outdated);
            ""
        };
        Ack {
            household_id: self.id(),
            command_id,
            ts_ms: now_ms,
            status: if refusal.is_empty() {
                AckStatus::Applied
            } else {
                AckStatus::Rejected
            },
            reason: refusal.to_owned(),
        }
    }

    /// Returns what the devices are told for `at_ms`; `None` if they fall back.
    fn entry_at(&self, at_ms: i64) -> Option<&ProgramEntry> {
        let mut newest_first = self.commands.iter().rev();
        let begun = newest_first.find(|command| command.from_ms() <= at_ms)?;
        begun.entry_at(at_ms)
    }

    /// Advances to `ts_ms`, second by second, and returns readings. Time does not go back: an earlier `ts_ms` does not
    /// advance.
    #[must_use]
    pub fn step(&mut self, ts_ms: i64) -> Vec<Reading> {
        let from_ms = self.stepped_ms.unwrap_or(ts_ms);
        self.stepped_ms = Some(from_ms.max(ts_ms));
        let mut battery_kw = None;
        let mut at_ms = from_ms.max(ts_ms.saturating_sub(ELAPSED_MS_MAX));
        while at_ms < ts_ms {
            let step_ms = STEP_MS.min(ts_ms - at_ms);
            #[expect(clippy::cast_precision_loss, reason = "a second has few milliseconds")]
            let hours = step_ms as f64 / 3.6e6;
            let (power_kw, soc_kwh) = self.run(at_ms, hours);
            (battery_kw, self.soc_kwh) = (Some(power_kw), soc_kwh);
            at_ms += step_ms;
        }
        let battery_kw = battery_kw.unwrap_or_else(|| self.run(ts_ms, SECOND_H).0);
        self.commands.retain(|command| command.expires_ms > ts_ms);
        let (load_w, pv_w) = self.powers(ts_ms);
        let mut measurements = vec![Measurement::Meter {
            consumption_w: tenths(load_w),
        }];
        if self.metadata.pv_capacity_kw > 0.0 {
            measurements.push(Measurement::Pv { pv_w: tenths(pv_w) });
        }
        if let Some(spec) = &self.metadata.battery {
            let soc_pct = tenths(100.0 * self.soc_kwh / spec.capacity_kwh);
            measurements.push(Measurement::Battery {
                soc_pct,
                power_w: tenths(battery_kw * 1e3),
            });
        }
        let household_id = self.id();
        let reading = |measurement| Reading {
            household_id,
            ts_ms,
            measurement,
        };
        measurements.into_iter().map(reading).collect()
    }

    /// Runs the battery for `hours`, above 0, from `at_ms` on. Returns its power, kW, positive while charging, and the
    /// content to which that leads, kWh.
    fn run(&self, at_ms: i64, hours: f64) -> (f64, f64) {
        let Some(spec) = &self.metadata.battery else {
            return (0.0, 0.0);
        };
        let (load_w, pv_w) = self.powers(at_ms);
        let policy = self.entry_at(at_ms).and_then(|entry| entry.policy.as_ref());
        let told = policy.and_then(|policy| policy.battery);
        let limit_kw = |limit_kw: Option<f64>, told_kw: Option<f64>| {
            limit_kw
                .unwrap_or(f64::INFINITY)
                .min(told_kw.unwrap_or(f64::INFINITY))
        };
        let grid = &self.metadata.grid;
        let moment = Moment {
            content_kwh: self.soc_kwh,
            net_load_kw: (load_w - pv_w) / 1e3,
            import_max_kw: limit_kw(
                grid.import_limit_kw,
                policy.and_then(|policy| policy.import_max_kw),
            ),
            export_max_kw: limit_kw(
                grid.export_limit_kw,
                policy.and_then(|policy| policy.export_max_kw),
            ),
        };
        let bounds = Bounds::from(spec);
        let power_kw = bounds.power_kw(&told.unwrap_or(fallback(spec)), &moment, hours);
        (power_kw, bounds.after_kwh(self.soc_kwh, power_kw, hours))
    }

    /// Returns load with appliances, and PV, W.
    fn powers(&self, at_ms: i64) -> (f64, f64) {
        let load_w = self.home.load_w(at_ms) + self.appliances_w(self.entry_at(at_ms));
        (load_w, self.home.pv_w(at_ms))
    }

    /// Returns the mean power of the appliances that are switched on.
    fn appliances_w(&self, entry: Option<&ProgramEntry>) -> f64 {
        let on = |id: &str| entry.is_some_and(|entry| entry.appliances.get(id) == Some(&true));
        let running = self.metadata.appliances.iter().filter(|spec| on(&spec.id));
        running
            .map(|spec| {
                #[expect(clippy::cast_precision_loss, reason = "a profile has a few slots")]
                let slots = spec.profile_kw.len() as f64;
                1e3 * spec.profile_kw.iter().sum::<f64>() / slots
            })
            .sum()
    }
}

/// What a battery does without a valid command: it serves the home.
const fn fallback(spec: &BatterySpec) -> BatteryPolicy {
    BatteryPolicy {
        mode: Mode::SelfConsumption,
        charge_from_grid_to_kwh: None,
        charge_from_pv_to_kwh: Some(spec.max_soc_kwh),
        discharge_to_home_to_kwh: Some(spec.min_soc_kwh),
        discharge_to_grid_to_kwh: None,
        charge_from_excess_to_kwh: None,
        discharge_to_excess_to_kwh: None,
        setpoint_kw: None,
        expected_kw: 0.0,
    }
}

/// Rounds to tenths, as meters do.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::policy::SlotPolicy;

    use super::*;
    use crate::homes::SEED;

    const START_MS: i64 = 1_790_000_100_000;
    const MINUTE_MS: i64 = 60_000;

    /// Home 1 has PV and a battery in the fleet of the default seed.
    fn device() -> Device {
        let device = Device::new(Home::new(HouseholdId::new(1).unwrap(), SEED));
        assert!(device.metadata.battery.is_some() && device.metadata.pv_capacity_kw > 0.0);
        device
    }

    /// A program of quarter hours from `from_ms` on, issued then.
    fn command(id: &str, from_ms: i64, policies: &[Option<SlotPolicy>]) -> Command {
        let entry = |(nth, policy): (i64, &Option<SlotPolicy>)| ProgramEntry {
            from_ms: from_ms + nth * 15 * MINUTE_MS,
            policy: policy.clone(),
            appliances: BTreeMap::new(),
            evs: BTreeMap::new(),
            heat: BTreeMap::new(),
        };
        let program: Vec<_> = (0_i64..).zip(policies).map(entry).collect();
        Command {
            command_id: id.to_owned(),
            household_id: HouseholdId::new(1).unwrap(),
            schedule_id: "1-0-0".to_owned(),
            requested_ms: 0,
            issued_ms: from_ms,
            expires_ms: program.last().unwrap().from_ms + 15 * MINUTE_MS,
            battery: None,
            program,
        }
    }

    fn holds(power_kw: f64) -> Option<SlotPolicy> {
        Some(SlotPolicy::setpoint(power_kw))
    }

    fn battery(readings: &[Reading]) -> (f64, f64) {
        readings
            .iter()
            .find_map(|reading| match reading.measurement {
                Measurement::Battery { soc_pct, power_w } => Some((soc_pct, power_w)),
                Measurement::Meter { .. } | Measurement::Pv { .. } => None,
            })
            .unwrap()
    }

    #[test]
    fn soc_follows_the_program_and_stays_within_the_limits() {
        for (power_kw, end_pct) in [(5.0, 95.0), (-5.0, 10.0), (50.0, 95.0)] {
            let mut device = device();
            let program = command("a", START_MS, &vec![holds(power_kw); 8]);
            assert_eq!(device.receive(program, START_MS).status, AckStatus::Applied);
            let mut soc_pct = 50.0;
            for minute in 0..120 {
                let (next_pct, moved_w) = battery(&device.step(START_MS + minute * MINUTE_MS));
                assert!((10.0..=95.0).contains(&next_pct), "{next_pct} %");
                assert!((-5_000.0..=5_000.0).contains(&moved_w), "{moved_w} W");
                let expected_pct = if moved_w > 0.0 {
                    moved_w * 0.95
                } else {
                    moved_w / 0.95
                } / 6e3;
                let moves = minute > 0 && (10.5..94.5).contains(&next_pct);
                let moved_pct = if moves {
                    expected_pct
                } else {
                    next_pct - soc_pct
                };
                assert!(
                    (next_pct - soc_pct - moved_pct).abs() < 0.11,
                    "minute {minute}"
                );
                soc_pct = next_pct;
            }
            assert_eq!(soc_pct, end_pct);
        }
    }

    /// Every second counts, whatever the time between readings.
    #[test]
    fn a_program_is_carried_out_between_readings() {
        let program = command("a", START_MS, &[holds(4.0), holds(-2.0)]);
        let (mut often, mut seldom) = (device(), device());
        for device in [&mut often, &mut seldom] {
            let _ = device.step(START_MS);
            let _ = device.receive(program.clone(), START_MS);
        }
        for second in 1..=1_800 {
            let _ = often.step(START_MS + second * 1_000);
        }
        let _ = seldom.step(START_MS + 30 * MINUTE_MS);
        assert!((often.soc_kwh - seldom.soc_kwh).abs() < 1e-9);
        // A quarter of an hour each, at 95 % each way.
        let expected_kwh = 5.0 + 4.0 * 0.25 * 0.95 - 2.0 * 0.25 / 0.95;
        assert!((seldom.soc_kwh - expected_kwh).abs() < 1e-9);
    }

    #[test]
    fn without_a_valid_command_the_battery_serves_the_home() {
        let mut device = device();
        let _ = device.receive(command("a", START_MS, &[holds(5.0)]), START_MS);
        let readings = device.step(START_MS);
        assert_eq!(battery(&readings).1, 5_000.0);
        let later_ms = START_MS + 15 * MINUTE_MS + 1_000;
        let readings = device.step(later_ms);
        let at_ms = later_ms - 1_000;
        let wanted_w = device.home.pv_w(at_ms) - device.home.load_w(at_ms);
        assert!((battery(&readings).1 - wanted_w.clamp(-5_000.0, 5_000.0)).abs() < 0.1);
        // An entry that says nothing of the battery is no order either.
        let _ = device.receive(command("b", later_ms, &[None]), later_ms);
        let readings = device.step(later_ms + 1_000);
        let wanted_w = device.home.pv_w(later_ms) - device.home.load_w(later_ms);
        assert!((battery(&readings).1 - wanted_w.clamp(-5_000.0, 5_000.0)).abs() < 0.1);
    }

    #[test]
    fn the_later_command_holds_from_its_first_entry_on() {
        let mut device = device();
        let policy = |device: &Device, minute: i64| {
            let entry = device.entry_at(START_MS + minute * MINUTE_MS)?;
            entry.policy.as_ref()?.battery?.setpoint_kw
        };
        let one = command("one", START_MS, &[holds(1.0), holds(2.0), holds(3.0)]);
        let two = command("two", START_MS + 15 * MINUTE_MS, &[holds(-1.0)]);
        assert_eq!(
            device.receive(one.clone(), START_MS).status,
            AckStatus::Applied
        );
        assert_eq!(device.receive(two, START_MS).status, AckStatus::Applied);
        assert_eq!(policy(&device, -1), None);
        assert_eq!(policy(&device, 14), Some(1.0));
        assert_eq!(policy(&device, 15), Some(-1.0));
        // The later one ends earlier, and the one before does not come back.
        assert_eq!(policy(&device, 30), None);
        let again = device.receive(one, START_MS + 1);
        assert_eq!(again.reason, "a later command is here");
        let late = device.receive(
            command("late", START_MS, &[None]),
            START_MS + 15 * MINUTE_MS,
        );
        assert_eq!(late.reason, "expired");
    }

    #[test]
    fn a_command_that_comes_again_is_answered_again() {
        let mut device = device();
        for _ in 0..2 {
            let ack = device.receive(command("now", START_MS, &[None]), START_MS);
            assert_eq!(
                (ack.command_id.as_str(), ack.status),
                ("now", AckStatus::Applied)
            );
            assert_eq!(device.commands.len(), 1);
        }
    }

    #[test]
    fn an_appliance_that_is_switched_on_shows_on_the_meter() {
        let mut device = Device::new(Home::new(HouseholdId::new(3).unwrap(), SEED));
        let idle = device.clone().step(START_MS);
        let mut order = command("on", START_MS, &[None]);
        order.program[0]
            .appliances
            .insert("dishwasher".to_owned(), true);
        let _ = device.receive(order, START_MS);
        let running = device.step(START_MS);
        let load_w = |readings: &[Reading]| match readings[0].measurement {
            Measurement::Meter { consumption_w } => consumption_w,
            Measurement::Pv { .. } | Measurement::Battery { .. } => panic!("the meter comes first"),
        };
        assert!((load_w(&running) - load_w(&idle) - 1_050.0).abs() < 0.2);
    }
}
