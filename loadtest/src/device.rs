//! The devices of one simulated home: meter, PV plant, battery and appliances, and the commands they hold.
//! It does no IO and reads no clock.

use std::collections::BTreeMap;

use model::command::{Ack, AckStatus, Command};
use model::metadata::{BatterySpec, Metadata};
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;

use crate::homes::Home;

/// Most commands held at the same time. With more, those that start last are refused.
const COMMANDS_MAX: usize = 16;
/// Longest time step of the battery's simulation.
const STEP_MS_MAX: i64 = 3_600_000;

/// The devices of one home.
#[derive(Debug, Clone)]
pub struct Device {
    home: Home,
    metadata: Metadata,
    soc_kwh: f64,
    /// Time of the last step; `None` before the first.
    stepped_ms: Option<i64>,
    /// Commands by start; a later one for the same slot replaces the earlier one.
    commands: BTreeMap<i64, Held>,
}

/// A command that has not expired.
#[derive(Debug, Clone)]
struct Held {
    command: Command,
    answered: bool,
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
            commands: BTreeMap::new(),
        }
    }

    /// Returns whose devices they are.
    #[must_use]
    pub const fn id(&self) -> HouseholdId {
        self.home.id()
    }

    /// Takes a command. Returns the answer if the command has begun or is useless; otherwise the step in which it begins
    /// returns it. A repeated command is answered again.
    #[must_use]
    pub fn receive(&mut self, command: Command, now_ms: i64) -> Option<Ack> {
        if command.expires_ms <= now_ms {
            return Some(self.refuse(&command, now_ms, "expired"));
        }
        let starts_ms = command.not_before_ms;
        if self.commands.len() >= COMMANDS_MAX && !self.commands.contains_key(&starts_ms) {
            return Some(self.refuse(&command, now_ms, "too many commands"));
        }
        let begun = starts_ms <= now_ms;
        let ack = begun.then(|| applied(&command, now_ms));
        let held = Held {
            command,
            answered: begun,
        };
        self.commands.insert(starts_ms, held);
        ack
    }

    fn refuse(&self, command: &Command, now_ms: i64, reason: &str) -> Ack {
        Ack {
            household_id: self.id(),
            command_id: command.command_id.clone(),
            ts_ms: now_ms,
            status: AckStatus::Rejected,
            reason: reason.to_owned(),
        }
    }

    /// Advances to `ts_ms` and returns readings. Time does not go back: an earlier `ts_ms` does not advance.
    #[must_use]
    pub fn step(&mut self, ts_ms: i64) -> (Vec<Reading>, Vec<Ack>) {
        let elapsed_ms = self.stepped_ms.map_or(0, |last_ms| ts_ms - last_ms);
        self.stepped_ms = Some(self.stepped_ms.map_or(ts_ms, |last_ms| last_ms.max(ts_ms)));
        self.commands
            .retain(|_, held| held.command.expires_ms > ts_ms);
        let mut acks = Vec::new();
        for (_, held) in self.commands.range_mut(..=ts_ms) {
            if !held.answered {
                held.answered = true;
                acks.push(applied(&held.command, ts_ms));
            }
        }
        let command = self
            .commands
            .range(..=ts_ms)
            .next_back()
            .map(|(_, held)| &held.command);
        let load_w = self.home.load_w(ts_ms) + self.appliances_w(command);
        let pv_w = self.home.pv_w(ts_ms);
        let wanted_w = command
            .and_then(|command| command.battery_w)
            .unwrap_or(pv_w - load_w);
        let mut measurements = vec![Measurement::Meter {
            consumption_w: tenths(load_w),
        }];
        if self.metadata.pv_capacity_kw > 0.0 {
            measurements.push(Measurement::Pv { pv_w: tenths(pv_w) });
        }
        if let Some(spec) = &self.metadata.battery {
            let power_w = move_battery(spec, &mut self.soc_kwh, wanted_w, elapsed_ms);
            let soc_pct = tenths(100.0 * self.soc_kwh / spec.capacity_kwh);
            measurements.push(Measurement::Battery {
                soc_pct,
                power_w: tenths(power_w),
            });
        }
        let household_id = self.id();
        let reading = |measurement| Reading {
            household_id,
            ts_ms,
            measurement,
        };
        (measurements.into_iter().map(reading).collect(), acks)
    }

    /// Returns the mean power of the appliances that the command switches on.
    fn appliances_w(&self, command: Option<&Command>) -> f64 {
        let on = |id: &str| command.is_some_and(|it| it.appliances.get(id) == Some(&true));
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

fn applied(command: &Command, now_ms: i64) -> Ack {
    Ack {
        household_id: command.household_id,
        command_id: command.command_id.clone(),
        ts_ms: now_ms,
        status: AckStatus::Applied,
        reason: String::new(),
    }
}

/// Charges (positive) or discharges for `elapsed_ms`, as close to `wanted_w` as the limits of power and SoC allow.
/// Returns the actual power.
fn move_battery(spec: &BatterySpec, soc_kwh: &mut f64, wanted_w: f64, elapsed_ms: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "at most an hour of milliseconds"
    )]
    let hours = elapsed_ms.clamp(0, STEP_MS_MAX) as f64 / 3.6e6;
    let mut power_kw = (wanted_w / 1e3).clamp(-spec.discharge_kw, spec.charge_kw);
    let room_kwh = (spec.max_soc_kwh - *soc_kwh).max(0.0);
    let held_kwh = (*soc_kwh - spec.min_soc_kwh).max(0.0);
    if hours > 0.0 {
        let charge_max_kw = room_kwh / spec.charge_efficiency / hours;
        let discharge_max_kw = held_kwh * spec.discharge_efficiency / hours;
        power_kw = power_kw.clamp(-discharge_max_kw, charge_max_kw);
    }
    *soc_kwh += if power_kw > 0.0 {
        power_kw * spec.charge_efficiency * hours
    } else {
        power_kw / spec.discharge_efficiency * hours
    };
    *soc_kwh = soc_kwh.clamp(0.0, spec.capacity_kwh);
    power_kw * 1e3
}

/// Rounds to tenths, as meters do.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
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

    fn command(id: &str, from_ms: i64, battery_w: f64) -> Command {
        Command {
            command_id: id.to_owned(),
            household_id: HouseholdId::new(1).unwrap(),
            schedule_id: "1-0-0".to_owned(),
            requested_ms: 0,
            not_before_ms: from_ms,
            expires_ms: from_ms + 15 * MINUTE_MS,
            battery_w: Some(battery_w),
            appliances: BTreeMap::new(),
        }
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
    fn soc_follows_the_command_and_stays_within_the_limits() {
        for (power_w, end_pct) in [(5_000.0, 95.0), (-5_000.0, 10.0), (50_000.0, 95.0)] {
            let mut device = device();
            let mut soc_pct = 50.0;
            for minute in 0..120 {
                let now_ms = START_MS + minute * MINUTE_MS;
                let _ = device.receive(command(&minute.to_string(), now_ms, power_w), now_ms);
                let (readings, _) = device.step(now_ms);
                let (next_pct, moved_w) = battery(&readings);
                assert!((10.0..=95.0).contains(&next_pct), "{next_pct} %");
                assert!((-5_000.0..=5_000.0).contains(&moved_w), "{moved_w} W");
                let expected_pct = if moved_w > 0.0 {
                    moved_w * 0.95
                } else {
                    moved_w / 0.95
                } / 6e3;
                let moved_pct = if minute == 0 { 0.0 } else { expected_pct };
                assert!(
                    (next_pct - soc_pct - moved_pct).abs() < 0.11,
                    "minute {minute}"
                );
                soc_pct = next_pct;
            }
            assert_eq!(soc_pct, end_pct);
        }
    }

    #[test]
    fn without_a_valid_command_the_battery_serves_the_home() {
        let mut device = device();
        let _ = device.receive(command("a", START_MS, 5_000.0), START_MS);
        let (readings, _) = device.step(START_MS);
        assert_eq!(battery(&readings).1, 5_000.0);
        let later_ms = START_MS + 15 * MINUTE_MS;
        let (readings, _) = device.step(later_ms);
        let wanted_w = device.home.pv_w(later_ms) - device.home.load_w(later_ms);
        assert!((battery(&readings).1 - wanted_w.clamp(-5_000.0, 5_000.0)).abs() < 0.1);
    }

    #[test]
    fn a_command_is_answered_when_it_begins_and_again_when_it_comes_again() {
        let mut device = device();
        let begun = device
            .receive(command("now", START_MS, 0.0), START_MS)
            .unwrap();
        assert_eq!(
            (begun.command_id.as_str(), begun.status),
            ("now", AckStatus::Applied)
        );
        assert!(
            device
                .receive(command("now", START_MS, 0.0), START_MS + 1)
                .is_some()
        );
        let ahead_ms = START_MS + 15 * MINUTE_MS;
        assert!(
            device
                .receive(command("ahead", ahead_ms, 0.0), START_MS)
                .is_none()
        );
        assert!(device.step(ahead_ms - 1).1.is_empty());
        let (_, acks) = device.step(ahead_ms);
        assert_eq!(acks.len(), 1);
        assert_eq!(acks[0].command_id, "ahead");
        assert!(device.step(ahead_ms + 1).1.is_empty());
        let late = device
            .receive(command("late", START_MS, 0.0), ahead_ms)
            .unwrap();
        assert_eq!(
            (late.status, late.reason.as_str()),
            (AckStatus::Rejected, "expired")
        );
    }

    #[test]
    fn commands_kept_are_bounded() {
        let mut device = device();
        let refused = (1..=20)
            .filter_map(|slot| {
                let from_ms = START_MS + slot * 15 * MINUTE_MS;
                device.receive(command(&slot.to_string(), from_ms, 0.0), START_MS)
            })
            .count();
        assert_eq!(refused, 20 - COMMANDS_MAX);
    }

    #[test]
    fn an_appliance_that_is_switched_on_shows_on_the_meter() {
        let mut device = Device::new(Home::new(HouseholdId::new(3).unwrap(), SEED));
        let (idle, _) = device.clone().step(START_MS);
        let mut order = command("on", START_MS, 0.0);
        order.appliances.insert("dishwasher".to_owned(), true);
        let _ = device.receive(order, START_MS);
        let (running, _) = device.step(START_MS);
        let load_w = |readings: &[Reading]| match readings[0].measurement {
            Measurement::Meter { consumption_w } => consumption_w,
            Measurement::Pv { .. } | Measurement::Battery { .. } => panic!("the meter comes first"),
        };
        assert!((load_w(&running) - load_w(&idle) - 1_050.0).abs() < 0.2);
    }
}
