//! Makes a program of the schedule in force.

use std::collections::BTreeMap;

use crate::adopted::Adopted;
use crate::runs::{Runs, is_under_way};
use model::command::{BatteryRating, Command, EvOrder, HeatOrder, ProgramEntry};
use model::metadata::Metadata;
use model::policy::SlotPolicy;
use model::schedule::PlannedSlot;

/// What a program is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) adopted: &'a Adopted,
    /// All slots of the plan, while it is at hand: when it is adopted. Without, the program is about appliances alone.
    pub(crate) planned: Option<&'a [PlannedSlot]>,
    pub(crate) metadata: &'a Metadata,
    pub(crate) runs: &'a Runs,
    /// Most entries.
    pub(crate) slots_max: usize,
}

/// Returns the id of the command of schedule `schedule_id` whose first entry is for its slot `slot_index`.
#[must_use]
pub fn command_id(schedule_id: &str, slot_index: usize) -> String {
    format!("{schedule_id}-{slot_index}")
}

impl Source<'_> {
    /// Returns the command that begins with the slot `first`; `None` if it has nothing to say.
    pub(crate) fn command(&self, first: usize, issued_ms: i64) -> Option<Command> {
        let adopted = self.adopted;
        let end = adopted.slots_count.min(first + self.slots_max);
        let program: Vec<_> = (first..end).map(|index| self.entry(index)).collect();
        let has_orders = |entry: &ProgramEntry| {
            let runs_something = entry.appliances.values().any(|runs| *runs);
            let says_not_to_run = self.planned.is_some() && !entry.appliances.is_empty();
            let has_stores = !entry.evs.is_empty() || !entry.heat.is_empty();
            entry.policy.is_some() || runs_something || says_not_to_run || has_stores
        };
        if !program.iter().any(has_orders) {
            return None;
        }
        let battery = self.metadata.battery.as_ref();
        let has_policies = program.iter().any(|entry| entry.policy.is_some());
        Some(Command {
            command_id: command_id(&adopted.schedule_id, first),
            household_id: self.metadata.household_id,
            schedule_id: adopted.schedule_id.clone(),
            requested_ms: adopted.requested_ms,
            issued_ms,
            expires_ms: adopted.slot_start_ms(end),
            battery: battery.filter(|_| has_policies).map(|spec| BatteryRating {
                capacity_kwh: spec.capacity_kwh,
                charge_kw: spec.charge_kw,
                discharge_kw: spec.discharge_kw,
            }),
            program,
        })
    }

    /// Returns the entry for a slot, in which runs that have begun continue whatever the plan says.
    fn entry(&self, slot_index: usize) -> ProgramEntry {
        let from_ms = self.adopted.slot_start_ms(slot_index);
        let slot = self.planned.and_then(|slots| slots.get(slot_index));
        let mut appliances = self.adopted.appliances(slot_index);
        for spec in &self.metadata.appliances {
            if is_under_way(self.runs, spec, from_ms, self.adopted.slot_ms()) {
                appliances.insert(spec.id.clone(), true);
            }
        }
        ProgramEntry {
            from_ms,
            policy: slot.and_then(|slot| self.policy(slot_index, slot)),
            appliances,
            evs: slot.map_or_else(BTreeMap::new, evs),
            heat: slot.map_or_else(BTreeMap::new, heat),
        }
    }

    /// Returns what the battery does; a setpoint where the plan has no policy.
    fn policy(&self, slot_index: usize, slot: &PlannedSlot) -> Option<SlotPolicy> {
        let setpoint_w = self.adopted.battery_w(slot_index)?;
        match &slot.policy {
            Some(policy) if policy.battery.is_some() => Some(policy.clone()),
            Some(_) | None => Some(SlotPolicy::setpoint(f64::from(setpoint_w) / 1e3)),
        }
    }
}

fn evs(slot: &PlannedSlot) -> BTreeMap<String, EvOrder> {
    let order = |(id, ev): (&String, &model::schedule::PlannedEv)| {
        let order = EvOrder {
            charge_kw: ev.charge_kw,
            surplus: false,
            discharge_max_kw: ev.discharge_kw,
        };
        (id.clone(), order)
    };
    slot.evs.iter().map(order).collect()
}

fn heat(slot: &PlannedSlot) -> BTreeMap<String, HeatOrder> {
    let orders = slot.heat.iter();
    orders
        .map(|(id, store)| {
            let power_kw = store.power_kw;
            (id.clone(), HeatOrder { power_kw })
        })
        .collect()
}
