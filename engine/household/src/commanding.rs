//! From an adopted schedule to commands: what is sent for which slot, and what the devices answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Ack, AckStatus, Command, CommandProgress, CommandState};
use crate::effect::Effect;
use crate::metadata::{ApplianceSpec, Metadata};
use crate::schedule::Schedule;
use crate::units::{HouseholdId, MINUTE_MS};

/// Most commands remembered; older ones have long expired.
const REMEMBERED_MAX: usize = 16;
/// A setpoint that differs by less is the same.
const SAME_W: f64 = 1.0;

/// The schedule in force, cut down to what commands need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adopted {
    pub schedule_id: String,
    pub requested_ms: i64,
    pub start_ms: i64,
    pub slot_ms: i64,
    pub setpoints: Vec<Setpoint>,
    /// How long a run of each appliance takes.
    pub runs_ms: BTreeMap<String, i64>,
}

/// What devices shall do in one slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setpoint {
    /// Positive while charging; `None` without a battery.
    pub battery_w: Option<f64>,
    pub appliances: BTreeMap<String, bool>,
}

impl Adopted {
    /// Of a schedule for the home that `metadata` describes.
    #[must_use]
    pub fn of(schedule: &Arc<Schedule>, metadata: Option<&Metadata>) -> Self {
        let has_battery = metadata.is_some_and(|metadata| metadata.battery.is_some());
        let setpoint = |slot: &crate::schedule::PlannedSlot| Setpoint {
            battery_w: has_battery.then(|| {
                ((slot.battery_charge_kw - slot.battery_discharge_kw) * 1e3).round() + 0.0
            }),
            appliances: slot.appliances.clone(),
        };
        let slot_ms = i64::from(schedule.slot_minutes) * MINUTE_MS;
        let appliances = metadata.map_or(&[][..], |metadata| &metadata.appliances);
        let run = |spec: &ApplianceSpec| {
            let count = i64::try_from(spec.profile_kw.len()).expect("a profile is short");
            (spec.id.clone(), count * slot_ms)
        };
        Self {
            runs_ms: appliances.iter().map(run).collect(),
            schedule_id: schedule.schedule_id.clone(),
            requested_ms: schedule.requested_ms,
            start_ms: schedule.start_ms,
            slot_ms,
            setpoints: schedule.plan.slots.iter().map(setpoint).collect(),
        }
    }

    /// Index of the slot that holds `ts_ms`; `None` outside of the schedule.
    #[must_use]
    pub fn index_at(&self, ts_ms: i64) -> Option<usize> {
        let index = usize::try_from((ts_ms - self.start_ms).div_euclid(self.slot_ms)).ok()?;
        (index < self.setpoints.len()).then_some(index)
    }
}

/// The newest commands by their slot's start, and which appliances run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Commands {
    sent: BTreeMap<i64, Sent>,
    /// Start and end of the newest run of each appliance, as far as devices have confirmed it.
    runs: BTreeMap<String, (i64, i64)>,
    /// The starts alone, as planning wants them.
    starts: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sent {
    command: Command,
    state: CommandState,
    acked_ms: Option<i64>,
    /// It expired without an answer, and that was said.
    given_up: bool,
    /// How long a run of each appliance takes.
    runs_ms: BTreeMap<String, i64>,
}

impl Commands {
    /// When each appliance last started.
    #[must_use]
    pub const fn runs(&self) -> &BTreeMap<String, i64> {
        &self.starts
    }

    /// Orders the commands for the slot that holds `now_ms` and the one after it, where they are not on their way.
    pub fn order(
        &mut self,
        id: HouseholdId,
        adopted: &Adopted,
        now_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = adopted.index_at(now_ms) else {
            return;
        };
        for (index, setpoint) in adopted.setpoints.iter().enumerate().skip(index).take(2) {
            let offset_ms =
                i64::try_from(index).expect("a schedule has few slots") * adopted.slot_ms;
            let not_before_ms = adopted.start_ms + offset_ms;
            if setpoint.battery_w.is_none() && setpoint.appliances.is_empty() {
                continue;
            }
            let mut appliances = setpoint.appliances.clone();
            for (appliance, (started_ms, ends_ms)) in &self.runs {
                if (*started_ms..*ends_ms).contains(&not_before_ms) {
                    appliances.insert(appliance.clone(), true);
                }
            }
            let command = Command {
                command_id: format!("{}-{index}", adopted.schedule_id),
                household_id: id,
                schedule_id: adopted.schedule_id.clone(),
                requested_ms: adopted.requested_ms,
                not_before_ms,
                expires_ms: not_before_ms + adopted.slot_ms,
                battery_w: setpoint.battery_w,
                appliances,
            };
            if self
                .sent
                .get(&not_before_ms)
                .is_some_and(|sent| sent.says_the_same(&command))
            {
                continue;
            }
            effects.push(Effect::StoreCommand(CommandProgress {
                command: command.clone(),
                state: CommandState::Issued,
                acked_ms: None,
                reason: String::new(),
            }));
            effects.push(Effect::SendCommand(command.clone()));
            let sent = Sent {
                command,
                state: CommandState::Issued,
                acked_ms: None,
                given_up: false,
                runs_ms: adopted.runs_ms.clone(),
            };
            self.sent.insert(not_before_ms, sent);
        }
        while self.sent.len() > REMEMBERED_MAX {
            self.sent.pop_first();
        }
    }

    /// Takes a device's answer in. An answer to a command that is not remembered, or the same again, changes nothing.
    pub fn acknowledge(&mut self, ack: &Ack) -> Option<Effect> {
        let sent = self
            .sent
            .values_mut()
            .find(|sent| sent.command.command_id == ack.command_id)?;
        let state = match ack.status {
            AckStatus::Applied => CommandState::Applied,
            AckStatus::Rejected => CommandState::Rejected,
        };
        if sent.state == state {
            return None;
        }
        sent.state = state;
        sent.acked_ms = Some(ack.ts_ms);
        let (command, runs_ms) = (sent.command.clone(), sent.runs_ms.clone());
        if state == CommandState::Applied {
            self.note_runs(&command, &runs_ms);
        }
        Some(Effect::StoreCommand(CommandProgress {
            command,
            state,
            acked_ms: Some(ack.ts_ms),
            reason: ack.reason.clone(),
        }))
    }

    /// A confirmed command that turns an appliance on starts a run, unless it is within one.
    fn note_runs(&mut self, command: &Command, runs_ms: &BTreeMap<String, i64>) {
        let starts_ms = command.not_before_ms;
        for (id, _) in command.appliances.iter().filter(|(_, runs)| **runs) {
            if self
                .runs
                .get(id)
                .is_some_and(|(_, ends_ms)| starts_ms < *ends_ms)
            {
                continue;
            }
            let slot_ms = command.expires_ms - starts_ms;
            let run_ms = runs_ms.get(id).copied().unwrap_or(slot_ms);
            self.runs
                .insert(id.clone(), (starts_ms, starts_ms + run_ms));
            self.starts.insert(id.clone(), starts_ms);
        }
    }

    /// Ids of commands that have expired without an answer; each is named once.
    pub fn expire(&mut self, now_ms: i64) -> Vec<String> {
        self.sent
            .values_mut()
            .filter(|sent| sent.state == CommandState::Issued && !sent.given_up)
            .filter(|sent| sent.command.expires_ms <= now_ms)
            .map(|sent| {
                sent.given_up = true;
                sent.command.command_id.clone()
            })
            .collect()
    }

    /// Most commands remembered, for the invariants.
    pub(crate) fn remembered_count(&self) -> usize {
        self.sent.len()
    }
}

impl Sent {
    /// Whether sending `command` would tell the device nothing new.
    fn says_the_same(&self, command: &Command) -> bool {
        let same_power = match (self.command.battery_w, command.battery_w) {
            (Some(before_w), Some(now_w)) => (before_w - now_w).abs() < SAME_W,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let rejected = self.state == CommandState::Rejected;
        !rejected && same_power && self.command.appliances == command.appliances
    }
}
