//! Turns a schedule into commands: the plan in force, the commands issued for it, and the devices' answers.
//! A command follows from its schedule and slot alone, so issuing it again gives the same command.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::runs::{Runs, is_under_way, note_runs};
use crate::settings::Settings;
use model::command::{Ack, AckStatus, Command, CommandProgress, CommandState};
use model::metadata::Metadata;
use model::problem::{Battery, Problem, Stability};
use model::schedule::Schedule;
use model::units::{HouseholdId, MINUTE_MS};

/// Most commands that a home remembers; answers to older ones are ignored.
pub const COMMANDS_MAX: usize = 8;

/// Returns the id of the command of schedule `schedule_id` for its slot `slot_index`.
#[must_use]
pub fn command_id(schedule_id: &str, slot_index: usize) -> String {
    format!("{schedule_id}-{slot_index}")
}

/// The parts of the schedule in force that commands need.
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

    fn slot_ms(&self) -> i64 {
        i64::from(self.slot_minutes) * MINUTE_MS
    }

    /// Returns the index of the slot that contains `at_ms`; `None` outside the horizon.
    pub(crate) fn slot_index(&self, at_ms: i64) -> Option<usize> {
        let slots_past = (at_ms - self.start_ms).checked_div_euclid(self.slot_ms())?;
        let index = usize::try_from(slots_past).ok()?;
        (index < self.slots_count).then_some(index)
    }

    /// Returns whether any appliance runs in the slot.
    fn runs_something(&self, slot_index: usize) -> bool {
        let mut runs = self.appliances.values();
        runs.any(|indexes| indexes.binary_search(&slot_index).is_ok())
    }

    /// Returns the cost of departing from this plan in `problem`; `None` if the plan does not cover its slots.
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
        let setpoints = problem.battery.as_ref().zip(self.battery_w.as_ref());
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

    /// Returns the command for one slot.
    pub(crate) fn command(&self, household_id: HouseholdId, slot_index: usize) -> Command {
        let slots_past = i64::try_from(slot_index).expect("a horizon has 672 slots at most");
        let not_before_ms = self.start_ms + slots_past * self.slot_ms();
        let runs = |indexes: &Vec<usize>| indexes.binary_search(&slot_index).is_ok();
        let appliances = self.appliances.iter();
        Command {
            command_id: command_id(&self.schedule_id, slot_index),
            household_id,
            schedule_id: self.schedule_id.clone(),
            requested_ms: self.requested_ms,
            not_before_ms,
            expires_ms: not_before_ms + self.slot_ms(),
            battery_w: self
                .battery_w
                .as_ref()
                .map(|setpoints_w| f64::from(setpoints_w[slot_index])),
            appliances: appliances
                .map(|(id, indexes)| (id.clone(), runs(indexes)))
                .collect(),
        }
    }
}

/// An issued command and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) command: Command,
    pub(crate) answer: Option<AckStatus>,
    /// A later command for the same time has replaced it.
    pub(crate) superseded: bool,
}

/// The commands issued recently, in the order in which they were issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Commands {
    pub(crate) given: VecDeque<Given>,
    /// The last slot for which commands were considered: the schedule's `requested_ms`, and the slot's index.
    looked_at: Option<(i64, usize)>,
}

impl Commands {
    pub(crate) const fn new() -> Self {
        Self {
            given: VecDeque::new(),
            looked_at: None,
        }
    }

    /// Issues the commands of the slot that contains `present_ms` and of the next one, so that the latter arrives in time.
    /// A command that a slot already has is not issued again. A run that has begun continues whatever the schedule says.
    /// Without `may_set_battery`, commands have no setpoint, and only slots in which an appliance runs get a command.
    pub(crate) fn give(
        &mut self,
        adopted: &Adopted,
        metadata: &Metadata,
        runs: &Runs,
        may_set_battery: bool,
        present_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(current) = adopted.slot_index(present_ms) else {
            return;
        };
        if self.looked_at == Some((adopted.requested_ms, current)) {
            return;
        }
        if may_set_battery {
            self.looked_at = Some((adopted.requested_ms, current));
        }
        for slot_index in current..adopted.slots_count.min(current + 2) {
            if !may_set_battery && !adopted.runs_something(slot_index) {
                continue;
            }
            let mut command = wanted(adopted, metadata, runs, slot_index);
            if !may_set_battery {
                command.battery_w = None;
            }
            let says_something = command.battery_w.is_some() || !command.appliances.is_empty();
            if says_something && !self.is_given(&command) {
                self.issue(command, effects);
            }
        }
    }

    /// Returns whether the slot already has this command. A schedule issues it once, unless the device rejects it.
    fn is_given(&self, command: &Command) -> bool {
        let standing = self
            .given
            .iter()
            .filter(|given| !given.superseded && given.answer != Some(AckStatus::Rejected));
        let mut standing = standing.map(|given| &given.command);
        standing
            .any(|given| given.command_id == command.command_id || says_the_same(given, command))
    }

    /// Issues the command, which replaces those for the same time.
    fn issue(&mut self, command: Command, effects: &mut Vec<Effect>) {
        for given in &mut self.given {
            given.superseded |= given.command.not_before_ms < command.expires_ms
                && command.not_before_ms < given.command.expires_ms;
        }
        if self.given.len() == COMMANDS_MAX {
            self.given.pop_front();
        }
        self.given.push_back(Given {
            command: command.clone(),
            answer: None,
            superseded: false,
        });
        effects.push(Effect::StoreCommand(CommandProgress {
            command: command.clone(),
            state: CommandState::Issued,
            acked_ms: None,
            reason: String::new(),
        }));
        effects.push(Effect::SendCommand(command));
    }

    /// Handles an answer. Returns the command if it is known and the answer is new.
    pub(crate) fn answered(&mut self, ack: &Ack, effects: &mut Vec<Effect>) -> Option<&Command> {
        let given = self
            .given
            .iter_mut()
            .find(|given| given.command.command_id == ack.command_id)?;
        if given.answer == Some(ack.status) {
            return None;
        }
        given.answer = Some(ack.status);
        effects.push(Effect::StoreCommand(CommandProgress {
            command: given.command.clone(),
            state: match ack.status {
                AckStatus::Applied => CommandState::Applied,
                AckStatus::Rejected => CommandState::Rejected,
            },
            acked_ms: Some(ack.ts_ms),
            reason: ack.reason.clone(),
        }));
        Some(&given.command)
    }

    /// Returns the newest command that was answered or has expired, apart from superseded ones.
    fn newest_over(&self, present_ms: i64) -> Option<&Given> {
        let waited_for = self.given.iter().filter(|given| !given.superseded);
        waited_for
            .filter(|given| given.answer.is_some() || given.command.expires_ms <= present_ms)
            .max_by_key(|given| given.command.not_before_ms)
    }

    /// Returns the newest command that is over, and whether it expired without an answer; `None` if none is over.
    pub(crate) fn is_unanswered(&self, present_ms: i64) -> Option<(&Command, bool)> {
        let newest = self.newest_over(present_ms)?;
        Some((&newest.command, newest.answer.is_none()))
    }

    /// Returns the newest command that was answered, and whether it was rejected; `None` if none was answered.
    pub(crate) fn is_rejected(&self) -> Option<(&Command, bool)> {
        let answered = self
            .given
            .iter()
            .filter(|given| given.answer.is_some() && !given.superseded);
        let newest = answered.max_by_key(|given| given.command.not_before_ms)?;
        Some((&newest.command, newest.answer == Some(AckStatus::Rejected)))
    }

    /// Forgets commands that expired at least a slot ago; until then an answer may come.
    pub(crate) fn forget(&mut self, present_ms: i64) {
        self.given.retain(|Given { command, .. }| {
            command.expires_ms + (command.expires_ms - command.not_before_ms) > present_ms
        });
    }

    /// Returns `runs` plus those that a command in force has begun, even if the device has not confirmed it yet.
    pub(crate) fn runs_at(&self, runs: &Runs, metadata: &Metadata, present_ms: i64) -> Runs {
        let mut runs = runs.clone();
        for Given {
            command,
            answer,
            superseded,
        } in &self.given
        {
            let in_force = (command.not_before_ms..command.expires_ms).contains(&present_ms);
            if in_force && !superseded && *answer != Some(AckStatus::Rejected) {
                note_runs(&mut runs, command, metadata);
            }
        }
        runs
    }
}

/// Returns the schedule's command for a slot, in which runs that have begun continue.
fn wanted(adopted: &Adopted, metadata: &Metadata, runs: &Runs, slot_index: usize) -> Command {
    let mut command = adopted.command(metadata.household_id, slot_index);
    for spec in &metadata.appliances {
        if is_under_way(runs, spec, &command) {
            command.appliances.insert(spec.id.clone(), true);
        }
    }
    command
}

fn says_the_same(one: &Command, other: &Command) -> bool {
    (one.not_before_ms, one.expires_ms) == (other.not_before_ms, other.expires_ms)
        && one.battery_w == other.battery_w
        && one.appliances == other.appliances
}
