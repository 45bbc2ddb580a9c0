//! The devices of one simulated home: its meters, its plant, and the programs that they hold. They carry programs out by
//! themselves, second by second, and fall back when the last one has expired. No IO, no clock.

use model::asset::AssetReading;
use model::command::{Ack, AckStatus, Command, ProgramEntry};
use model::metadata::Metadata;
use model::reading::{Measurement, Reading};
use model::units::{HouseholdId, MINUTE_MS};
use schemas::telemetry::Telemetry;

use crate::bills::{Bills, Shadows};
use crate::homes::Home;
use crate::plant::{Flows, Meters, Plant, Step};

/// Step of the simulation, milliseconds.
const STEP_MS: i64 = 1_000;
const SECOND_H: f64 = 1.0 / 3_600.0;
/// Step of the past, which nobody watches. Recorded load and sun are no finer.
const PAST_STEP_MS: i64 = MINUTE_MS;
/// Longest time that is simulated between two readings, milliseconds.
const ELAPSED_MS_MAX: i64 = 3_600_000;
/// What a device without contact keeps: means of so long.
pub const KEPT_MS: i64 = 15 * MINUTE_MS;
const KEPT_H: f64 = 0.25;

/// The devices of one home.
#[derive(Debug, Clone)]
pub struct Device {
    home: Home,
    metadata: Metadata,
    plant: Plant,
    meters: Meters,
    /// Time of the last step; `None` before the first.
    stepped_ms: Option<i64>,
    /// The command issued last, and the one before it until this one begins.
    commands: Vec<Command>,
    shadows: Option<Shadows>,
}

impl Device {
    /// Makes a home at rest, with its battery half full.
    #[must_use]
    pub fn new(home: Home) -> Self {
        let metadata = home.metadata();
        Self {
            plant: Plant::new(&home, &metadata),
            home,
            metadata,
            meters: Meters::default(),
            stepped_ms: None,
            commands: Vec::new(),
            shadows: None,
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

    /// Returns the content of the battery, kWh; 0 without one.
    #[must_use]
    pub fn content_kwh(&self) -> f64 {
        let battery = self.plant.battery.as_ref();
        battery.map_or(0.0, |battery| battery.content_kwh)
    }

    /// Returns what the meters have counted since the first step.
    #[must_use]
    pub const fn meters(&self) -> Meters {
        self.meters
    }

    /// Lets the plain rule, and the same without a battery, run beside it from now on, with the same load, sun and trips.
    pub fn compare_from(&mut self, at_ms: i64) {
        self.shadows = Some(Shadows::of(&self.plant, at_ms));
    }

    /// Returns what it has paid and would have paid since [`Self::compare_from`]; nothing before.
    #[must_use]
    pub fn bills(&self) -> Bills {
        let stepped = self.shadows.as_ref().zip(self.stepped_ms);
        stepped.map_or_else(Bills::default, |(shadows, at_ms)| {
            shadows.bills(&self.plant, at_ms)
        })
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

    /// Advances to `ts_ms`, second by second, and returns readings. Time does not go back: an earlier `ts_ms` does not
    /// advance.
    #[must_use]
    pub fn step(&mut self, ts_ms: i64) -> Vec<Telemetry> {
        let mut last = None;
        self.advance(ts_ms, STEP_MS, |flows, _| last = Some(*flows));
        // Load and PV as they are now; of the others the second before.
        let now = self.glance(ts_ms);
        let flows = last.map_or(now, |last| Flows {
            load_kw: now.load_kw,
            pv_kw: now.pv_kw,
            ..last
        });
        self.commands.retain(|command| command.expires_ms > ts_ms);
        self.tell(&self.plant, ts_ms, &flows)
    }

    /// Lives through [`KEPT_MS`] from `start_ms` on without contact, and returns what it will send of that later: means,
    /// and contents at the start.
    #[must_use]
    pub fn live_through(&mut self, start_ms: i64) -> Vec<Telemetry> {
        self.advance(start_ms, PAST_STEP_MS, |_, _| {});
        let before = self.plant.clone();
        let mut sum = Flows::default();
        self.advance(start_ms + KEPT_MS, PAST_STEP_MS, |flows, hours| {
            sum.add(flows, hours);
        });
        self.tell(&before, start_ms, &sum.mean(KEPT_H))
    }

    fn advance(&mut self, ts_ms: i64, step_ms: i64, mut see: impl FnMut(&Flows, f64)) {
        let from_ms = self.stepped_ms.unwrap_or(ts_ms);
        self.stepped_ms = Some(from_ms.max(ts_ms));
        let mut at_ms = from_ms.max(ts_ms.saturating_sub(ELAPSED_MS_MAX));
        while at_ms < ts_ms {
            let end_ms = ts_ms.min(at_ms - at_ms.rem_euclid(step_ms) + step_ms);
            #[expect(clippy::cast_precision_loss, reason = "a step has few milliseconds")]
            let hours = (end_ms - at_ms) as f64 / 3.6e6;
            let step = self.step_at(at_ms, hours);
            let flows = self.plant.run(&step, entry_at(&self.commands, at_ms));
            if let Some(shadows) = &mut self.shadows {
                shadows.run(&step, &flows);
            }
            self.meters.count(&flows, hours);
            see(&flows, hours);
            at_ms = end_ms;
        }
    }

    /// Returns what happens in the second from `ts_ms` on, without living through it.
    fn glance(&self, ts_ms: i64) -> Flows {
        let step = self.step_at(ts_ms, SECOND_H);
        let entry = entry_at(&self.commands, ts_ms);
        self.plant.clone().run(&step, entry)
    }

    fn step_at(&self, at_ms: i64, hours: f64) -> Step {
        Step {
            at_ms,
            hours,
            load_kw: self.home.load_w(at_ms) / 1e3,
            pv_kw: self.home.pv_w(at_ms) / 1e3,
        }
    }

    /// Returns the readings of all meters and gauges. PV comes first: of a slot it is what forecasts need at once.
    fn tell(&self, plant: &Plant, ts_ms: i64, flows: &Flows) -> Vec<Telemetry> {
        let household_id = self.id();
        let reading = |measurement| {
            Telemetry::Reading(Reading {
                household_id,
                ts_ms,
                measurement,
            })
        };
        let mut told = Vec::with_capacity(4);
        if self.metadata.pv_capacity_kw > 0.0 {
            let pv_w = tenths(flows.pv_kw * 1e3);
            told.push(reading(Measurement::Pv { pv_w }));
        }
        let consumption_w = tenths(flows.used_kw().max(0.0) * 1e3);
        told.push(reading(Measurement::Meter { consumption_w }));
        if let Some(battery) = &plant.battery {
            let soc_pct = tenths(100.0 * battery.content_kwh / battery.spec().capacity_kwh);
            let power_w = tenths(flows.battery_kw * 1e3);
            told.push(reading(Measurement::Battery { soc_pct, power_w }));
        }
        let asset = |id: &str, state| {
            Telemetry::Asset(AssetReading {
                household_id,
                id: id.to_owned(),
                ts_ms,
                state,
            })
        };
        let ev = plant.ev.as_ref();
        told.extend(ev.map(|ev| asset(ev.id(), ev.state(ts_ms, flows.ev_kw))));
        let tank = plant.tank.as_ref();
        told.extend(tank.map(|tank| asset(tank.id(), tank.state(flows.heat_kw))));
        told
    }
}

/// Returns what the devices are told for `at_ms`; `None` if they fall back.
fn entry_at(commands: &[Command], at_ms: i64) -> Option<&ProgramEntry> {
    let mut newest_first = commands.iter().rev();
    let begun = newest_first.find(|command| command.from_ms() <= at_ms)?;
    begun.entry_at(at_ms)
}

/// Rounds to tenths, as meters do.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests;
