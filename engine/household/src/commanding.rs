//! The programs issued, and the devices' answers. A command follows from its schedule and first slot alone, so issuing it
//! again gives the same command.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::adopted::Adopted;
use crate::effect::Effect;
use crate::program::Source;
use crate::runs::{Runs, note_run};
use crate::slot_commands::{GivenForSlot, SlotCommands};
use crate::told::Told;
use model::command::{Ack, AckStatus, Command, CommandAnswer};
use model::metadata::Metadata;

/// Most commands that a home remembers; answers to older ones are ignored.
pub const COMMANDS_MAX: usize = 8;

/// An issued command and its answer. Times are UTC epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) command_id: String,
    pub(crate) requested_ms: i64,
    pub(crate) issued_ms: i64,
    /// When its first entry begins.
    pub(crate) from_ms: i64,
    /// Length of an entry.
    slot_ms: i64,
    /// When it ends to hold: at its expiry, or with the first entry of the command that has replaced it.
    pub(crate) until_ms: i64,
    expires_ms: i64,
    pub(crate) answer: Option<AckStatus>,
    /// What it says; of a command that was replaced only its appliances.
    told: Told,
}

impl Given {
    fn of(command: &Command) -> Self {
        let from_ms = command.from_ms();
        let first = command.spans().next();
        Self {
            command_id: command.command_id.clone(),
            requested_ms: command.requested_ms,
            issued_ms: command.issued_ms,
            from_ms,
            slot_ms: first.map_or(0, |(entry, end_ms)| end_ms - entry.from_ms),
            until_ms: command.expires_ms,
            expires_ms: command.expires_ms,
            answer: None,
            told: Told::of(command),
        }
    }

    fn is_in_force(&self, at_ms: i64) -> bool {
        (self.from_ms..self.until_ms).contains(&at_ms)
    }

    fn is_old(&self, present_ms: i64) -> bool {
        self.expires_ms + self.slot_ms <= present_ms
    }

    /// Returns whether it makes `command` needless: it says the same as far as both reach, and has more than half of its
    /// slots left.
    fn covers(&self, command: &Command) -> bool {
        let (from_ms, slot_ms) = (command.from_ms(), self.slot_ms);
        let Some(past_ms) = from_ms.checked_sub(self.from_ms).filter(|ms| *ms >= 0) else {
            return false;
        };
        let wanted = Self::of(command);
        let left_ms = self.until_ms - from_ms;
        let is_long_enough = 2 * left_ms > command.expires_ms - from_ms;
        if wanted.slot_ms != slot_ms || past_ms % slot_ms != 0 || left_ms <= 0 || !is_long_enough {
            return false;
        }
        let offset = usize::try_from(past_ms / slot_ms).expect("it is not negative");
        self.answer != Some(AckStatus::Rejected) && self.told.says_as_much_as(&wanted.told, offset)
    }

    /// Notes the runs that have begun with it up to `present_ms`. A later slot of a known run does not begin another.
    fn note_runs(&self, runs: &mut Runs, metadata: &Metadata, present_ms: i64) {
        for spec in &metadata.appliances {
            let indexes = self.told.appliances.get(&spec.id).into_iter().flatten();
            let starts_ms = indexes.map(|index| self.from_ms + i64::from(*index) * self.slot_ms);
            let begun = starts_ms.filter(|ms| *ms <= present_ms && *ms < self.until_ms);
            for start_ms in begun {
                note_run(runs, spec, start_ms, self.slot_ms);
            }
        }
    }
}

/// The commands issued recently, in the order in which they were issued. At most one is in force at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Commands {
    pub(crate) given: VecDeque<Given>,
    /// The last slot for which a command was considered: the schedule's `requested_ms`, and the slot's index.
    looked_at: Option<(i64, usize)>,
}

impl Commands {
    pub(crate) const fn new() -> Self {
        Self {
            given: VecDeque::new(),
            looked_at: None,
        }
    }

    /// Takes over the commands of a snapshot from before programs.
    pub(crate) fn recall(&mut self, before: &mut SlotCommands) {
        for GivenForSlot {
            command,
            answer,
            superseded,
        } in before.given.drain(..)
        {
            let mut given = Given::of(&Command::from(command));
            given.answer = answer;
            given.issued_ms = self.given.back().map_or(given.requested_ms, |before| {
                before.issued_ms.max(given.requested_ms)
            });
            if superseded {
                given.until_ms = given.from_ms;
            }
            self.given.push_back(given);
        }
    }

    /// Returns whether a program is to be considered now: when a plan is adopted, and, once in each of its slots, where no
    /// program is in force although the plan is. A plan that no new one follows lasts longer than its program.
    pub(crate) fn considers(&self, adopted: &Adopted, is_new: bool, present_ms: i64) -> bool {
        let Some(current) = adopted.slot_index(present_ms) else {
            return false;
        };
        let mut given = self.given.iter();
        is_new
            || self.looked_at != Some((adopted.requested_ms, current))
                && !given.any(|given| given.is_in_force(present_ms))
    }

    /// Issues the program of the plan in force, unless the one before says the same and has enough slots left.
    pub(crate) fn give(&mut self, source: &Source<'_>, present_ms: i64, effects: &mut Vec<Effect>) {
        let adopted = source.adopted;
        let Some(current) = adopted.slot_index(present_ms) else {
            return;
        };
        self.looked_at = Some((adopted.requested_ms, current));
        let newest_ms = self.given.back().map(|given| given.issued_ms);
        let issued_ms = newest_ms.map_or(present_ms, |newest_ms| present_ms.max(newest_ms + 1));
        let Some(command) = source.command(current, issued_ms) else {
            return;
        };
        let newest = self.given.back();
        if !newest.is_some_and(|given| given.covers(&command)) {
            self.issue(command, effects);
        }
    }

    /// Issues the command, which replaces those before from its first entry on.
    fn issue(&mut self, command: Command, effects: &mut Vec<Effect>) {
        let from_ms = command.from_ms();
        for given in &mut self.given {
            given.until_ms = given.until_ms.min(from_ms.max(given.from_ms));
            given.told.forget_stores();
        }
        if self.given.len() == COMMANDS_MAX {
            self.given.pop_front();
        }
        self.given.push_back(Given::of(&command));
        effects.push(Effect::StoreCommand(command.clone()));
        effects.push(Effect::SendCommand(command));
    }

    /// Handles an answer. Returns whether the command is known and the answer is new.
    pub(crate) fn answered(&mut self, ack: &Ack, effects: &mut Vec<Effect>) -> bool {
        let mut given = self.given.iter_mut();
        let Some(given) = given.find(|given| given.command_id == ack.command_id) else {
            return false;
        };
        if given.answer == Some(ack.status) {
            return false;
        }
        given.answer = Some(ack.status);
        effects.push(Effect::StoreAnswer(CommandAnswer {
            household_id: ack.household_id,
            command_id: ack.command_id.clone(),
            from_ms: given.from_ms,
            status: ack.status,
            acked_ms: ack.ts_ms,
            reason: ack.reason.clone(),
        }));
        true
    }

    /// Returns the id of the newest command that was answered or has waited for a slot's length, and whether it has no
    /// answer; `None` if there is no such command.
    pub(crate) fn is_unanswered(&self, present_ms: i64) -> Option<(&str, bool)> {
        let waited = |given: &&Given| present_ms - given.issued_ms >= given.slot_ms;
        let mut newest_first = self.given.iter().rev();
        let newest = newest_first.find(|given| given.answer.is_some() || waited(given))?;
        Some((&newest.command_id, newest.answer.is_none()))
    }

    /// Returns the id of the newest command that was answered, and whether it was rejected; `None` if none was answered.
    pub(crate) fn is_rejected(&self) -> Option<(&str, bool)> {
        let mut newest_first = self.given.iter().rev();
        let newest = newest_first.find(|given| given.answer.is_some())?;
        let is_rejected = newest.answer == Some(AckStatus::Rejected);
        Some((&newest.command_id, is_rejected))
    }

    /// Notes the runs that have begun with commands that a device carries out.
    pub(crate) fn note_runs(&self, runs: &mut Runs, metadata: &Metadata, present_ms: i64) {
        let applied = |given: &&Given| given.answer == Some(AckStatus::Applied);
        for given in self.given.iter().filter(applied) {
            given.note_runs(runs, metadata, present_ms);
        }
    }

    /// Returns whether [`Self::forget`] would forget a command.
    pub(crate) fn has_old(&self, present_ms: i64) -> bool {
        self.given.iter().any(|given| given.is_old(present_ms))
    }

    /// Forgets commands that expired at least a slot ago; until then an answer may come.
    pub(crate) fn forget(&mut self, present_ms: i64) {
        self.given.retain(|given| !given.is_old(present_ms));
    }

    /// Returns `runs` plus those that commands have begun, even if the device has not confirmed them yet.
    pub(crate) fn runs_at(&self, runs: &Runs, metadata: &Metadata, present_ms: i64) -> Runs {
        let mut runs = runs.clone();
        let believed = |given: &&Given| given.answer != Some(AckStatus::Rejected);
        for given in self.given.iter().filter(believed) {
            given.note_runs(&mut runs, metadata, present_ms);
        }
        runs
    }
}
