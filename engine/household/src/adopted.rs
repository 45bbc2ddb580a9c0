//! The schedule in force, as much of it as a home keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use model::metadata::Metadata;
use model::problem::{Battery, Problem, Stability};
use model::schedule::Schedule;
use model::units::MINUTE_MS;

/// The parts of the schedule in force that later plans and commands need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adopted {
    pub(crate) schedule_id: String,
    pub(crate) requested_ms: i64,
    pub(crate) start_ms: i64,
    pub(crate) slot_minutes: u32,
    pub(crate) slots_count: usize,
    /// Setpoint of each slot in whole watts, positive while charging; `None` if the home has no battery.
    battery_w: Option<Vec<i32>>,
    /// Indexes of the slots in which each appliance runs.
    appliances: BTreeMap<String, Vec<usize>>,
}

impl Adopted {
    /// Adopts a schedule. An appliance that the plan does not name is off.
    #[expect(clippy::cast_possible_truncation, reason = "powers are below 10 MW")]
    pub(crate) fn of(schedule: &Schedule, metadata: Option<&Metadata>) -> Self {
        let slots = &schedule.plan.slots;
        let mut appliances: BTreeMap<String, Vec<usize>> = metadata
            .iter()
            .flat_map(|metadata| &metadata.appliances)
            .map(|spec| (spec.id.clone(), Vec::new()))
            .collect();
        for (index, slot) in slots.iter().enumerate() {
            for (id, runs) in &slot.appliances {
                let indexes = appliances.entry(id.clone()).or_default();
                if *runs {
                    indexes.push(index);
                }
            }
        }
        let setpoints_w = || {
            let kw = slots
                .iter()
                .map(|slot| slot.battery_charge_kw - slot.battery_discharge_kw);
            kw.map(|kw| (kw * 1e3).round() as i32).collect()
        };
        let has_battery = metadata.is_some_and(|metadata| metadata.battery.is_some());
        Self {
            schedule_id: schedule.schedule_id.clone(),
            requested_ms: schedule.requested_ms,
            start_ms: schedule.start_ms,
            slot_minutes: schedule.slot_minutes,
            slots_count: slots.len(),
            battery_w: has_battery.then(setpoints_w),
            appliances,
        }
    }

    /// Returns the length of a slot, milliseconds.
    pub(crate) fn slot_ms(&self) -> i64 {
        i64::from(self.slot_minutes) * MINUTE_MS
    }

    /// Returns the index of the slot that contains `at_ms`; `None` outside the horizon.
    pub(crate) fn slot_index(&self, at_ms: i64) -> Option<usize> {
        let slots_past = (at_ms - self.start_ms).checked_div_euclid(self.slot_ms())?;
        let index = usize::try_from(slots_past).ok()?;
        (index < self.slots_count).then_some(index)
    }

    /// Returns the cost of departing from this plan in `problem`; `None` if the plan does not cover its slots. Where a
    /// problem has scenarios, the battery is free: its thresholds hold whatever load and sun do, and a cost of departing
    /// from the one course that was expected would pin them to it.
    pub(crate) fn stability(&self, problem: &Problem, settings: &Settings) -> Option<Stability> {
        let from = self.slot_index(problem.start_ms)?;
        if self.slot_minutes != problem.slot_minutes {
            return None;
        }
        let slots_count = problem.load_kw.len();
        let hours = f64::from(self.slot_minutes) / 60.0;
        let change = |battery: &Battery, setpoint_w: i32| {
            let kwh = f64::from(setpoint_w) / 1e3 * hours;
            if kwh > 0.0 {
                kwh * battery.charge_efficiency
            } else {
                kwh / battery.discharge_efficiency
            }
        };
        let battery = problem.battery.as_ref();
        let battery = battery.filter(|_| problem.scenarios.is_empty());
        let setpoints = battery.zip(self.battery_w.as_ref());
        let soc_change_kwh = setpoints.map_or_else(Vec::new, |(battery, setpoints_w)| {
            let ahead = setpoints_w[from..].iter().take(slots_count);
            ahead.map(|watts| change(battery, *watts)).collect()
        });
        // A run that has begun continues anyway, so only later starts are listed.
        let starts = self.appliances.iter().filter_map(|(id, runs)| {
            let start = runs.first()?.checked_sub(from)?;
            let start = u32::try_from(start).ok()?;
            Some((id.clone(), start))
        });
        Some(Stability {
            battery_cost_per_kwh: settings.switching_cost_per_kwh,
            start_cost: settings.switching_cost_per_start,
            soc_change_kwh,
            start_slots: starts.collect(),
        })
    }

    /// Returns when a slot begins, UTC epoch milliseconds.
    pub(crate) fn slot_start_ms(&self, slot_index: usize) -> i64 {
        let slots_past = i64::try_from(slot_index).expect("a horizon has 672 slots at most");
        self.start_ms + slots_past * self.slot_ms()
    }

    /// Returns what the plan has its appliances do in a slot.
    pub(crate) fn appliances(&self, slot_index: usize) -> BTreeMap<String, bool> {
        let runs = |indexes: &Vec<usize>| indexes.binary_search(&slot_index).is_ok();
        let appliances = self.appliances.iter();
        appliances
            .map(|(id, indexes)| (id.clone(), runs(indexes)))
            .collect()
    }

    /// Returns the setpoint of each slot, W, positive while charging; `None` without a battery.
    pub(crate) fn battery_w(&self, slot_index: usize) -> Option<i32> {
        self.battery_w.as_ref()?.get(slot_index).copied()
    }
}
