//! Decides what to do with the commands of one partition. Pure: the caller passes the time.
//!
//! A home has one command, the one issued last; it replaces those before. It is held until it and those before expire,
//! answered or not. The offsets to commit follow from that:
//! - the position in `commands` never passes a held command;
//! - the position in `acks` never passes the answer to a held command;
//! - neither passes the last record read, so that the next owner of the partition reads at least one record, if there is
//!   one, and learns its position;
//! - nothing is sent before both partitions have been read to the ends they had when they were taken over.
//!
//! So after a restart each command that may still be sent is read again together with its answer, before anything is
//! sent. A command that a device has answered is not sent again, even if the engine wrote it twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::command::{Ack, AckStatus, Command};
use model::units::HouseholdId;

/// The outcome of a command; the label `outcome` of `hearth_commands_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Outcome {
    Sent,
    Retried,
    Applied,
    Rejected,
    Expired,
    Superseded,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retried => "retried",
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

/// How far a partition has been read.
#[derive(Debug, Default)]
pub(super) struct ReadProgress {
    /// Offset of the last record.
    pub(super) last: Option<i64>,
    /// Whether the end that it had when it was taken over has been reached.
    pub(super) caught_up: bool,
    /// Offsets that the committed position must not pass.
    held: BTreeSet<i64>,
}

impl ReadProgress {
    fn position(&self) -> Option<i64> {
        self.held.first().copied().or(self.last)
    }
}

#[derive(Debug)]
struct PendingCommand {
    command: Arc<Command>,
    /// Of its record, or of the one that it has replaced and that would be valid longer.
    offset: i64,
    answer_offset: Option<i64>,
    attempts_count: u32,
    /// When to send it next; `None` if it has been answered or will have expired by then.
    due_ms: Option<i64>,
    /// When nothing that it has replaced is valid any more, if that is later than its own expiry.
    held_until_ms: i64,
    /// Whether it has expired.
    is_over: bool,
}

impl PendingCommand {
    /// When something is to be done about its end.
    fn end_ms(&self) -> i64 {
        if self.is_over {
            self.held_until_ms
        } else {
            self.command.expires_ms
        }
    }
}

/// Of two commands of a home the one of the higher rank holds.
fn rank(command: &Command) -> (i64, i64, &str) {
    (command.issued_ms, command.requested_ms, &command.command_id)
}

/// The commands of one partition, by home.
#[derive(Debug)]
pub(super) struct Pending {
    retry_ms: i64,
    entries: BTreeMap<HouseholdId, PendingCommand>,
    by_id: HashMap<String, HouseholdId>,
    sends: BTreeSet<(i64, HouseholdId)>,
    expiries: BTreeSet<(i64, HouseholdId)>,
    /// Answers that were read before their commands, with their offsets.
    early: HashMap<(HouseholdId, String), (AckStatus, i64)>,
    commands: ReadProgress,
    acks: ReadProgress,
}

impl Pending {
    /// Makes an empty state. A command is repeated every `retry_ms`, 1 or more.
    pub(super) fn new(retry_ms: i64) -> Self {
        Self {
            retry_ms: retry_ms.max(1),
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            sends: BTreeSet::new(),
            expiries: BTreeSet::new(),
            early: HashMap::new(),
            commands: ReadProgress::default(),
            acks: ReadProgress::default(),
        }
    }

    /// Returns the number of commands and early answers in memory.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.early.len()
    }

    /// Takes in the command at `offset`, which is due at once. A command read again after a start has no outcome, since it
    /// had one before.
    pub(super) fn take_command(
        &mut self,
        offset: i64,
        command: Command,
        now_ms: i64,
    ) -> Option<Outcome> {
        self.commands.last = self.commands.last.max(Some(offset));
        let live = self.is_ready();
        let is_over = command.expires_ms <= now_ms;
        let home = command.household_id;
        let mut outcome = None;
        let mut held_until_ms = command.expires_ms;
        let mut held_offset = offset;
        if let Some(held) = self.entries.get(&home) {
            if held.command.command_id == command.command_id {
                return None;
            }
            if rank(&held.command) > rank(&command) {
                self.hold_until(home, command.expires_ms);
                return live.then_some(if is_over {
                    Outcome::Expired
                } else {
                    Outcome::Superseded
                });
            }
            let is_open = held.answer_offset.is_none() && !held.is_over;
            outcome = (live && is_open).then_some(Outcome::Superseded);
            if held.held_until_ms > held_until_ms {
                // After a restart both must be read again, so that the one before stays replaced.
                held_until_ms = held.held_until_ms;
                held_offset = held.offset;
            }
            self.forget(home);
        }
        if is_over {
            outcome = live.then_some(Outcome::Expired);
            if held_until_ms <= now_ms {
                return outcome;
            }
        }
        self.commands.held.insert(held_offset);
        self.by_id.insert(command.command_id.clone(), home);
        let early = self.early.remove(&(home, command.command_id.clone()));
        let due_ms = (early.is_none() && !is_over).then_some(now_ms);
        if let Some(due_ms) = due_ms {
            self.sends.insert((due_ms, home));
        }
        let entry = PendingCommand {
            command: Arc::new(command),
            offset: held_offset,
            answer_offset: early.map(|(_, answer_offset)| answer_offset),
            attempts_count: 0,
            due_ms,
            held_until_ms,
            is_over,
        };
        self.expiries.insert((entry.end_ms(), home));
        self.entries.insert(home, entry);
        outcome
    }

    /// Holds the home's command at least until `ms`, so that one which it has replaced is known for that if it is read
    /// again.
    fn hold_until(&mut self, home: HouseholdId, ms: i64) {
        let Some(entry) = self
            .entries
            .get_mut(&home)
            .filter(|entry| entry.held_until_ms < ms)
        else {
            return;
        };
        self.expiries.remove(&(entry.end_ms(), home));
        entry.held_until_ms = ms;
        self.expiries.insert((entry.end_ms(), home));
    }

    /// Takes in the answer at `offset`. The first answer counts; devices may repeat it.
    pub(super) fn take_ack(&mut self, offset: i64, ack: &Ack) -> Option<Outcome> {
        self.acks.last = self.acks.last.max(Some(offset));
        let live = self.is_ready();
        let entry = self
            .by_id
            .get(&ack.command_id)
            .and_then(|key| Some((*key, self.entries.get_mut(key)?)))
            .filter(|(_, entry)| entry.command.household_id == ack.household_id);
        let Some((key, entry)) = entry else {
            // Its command has expired or was superseded, unless the command's record is still to come.
            if !self.commands.caught_up {
                let id = (ack.household_id, ack.command_id.clone());
                self.early.entry(id).or_insert_with(|| {
                    self.acks.held.insert(offset);
                    (ack.status, offset)
                });
            }
            return None;
        };
        if entry.answer_offset.is_some() || entry.is_over {
            return None;
        }
        entry.answer_offset = Some(offset);
        self.acks.held.insert(offset);
        if let Some(due_ms) = entry.due_ms.take() {
            self.sends.remove(&(due_ms, key));
        }
        live.then_some(match ack.status {
            AckStatus::Applied => Outcome::Applied,
            AckStatus::Rejected => Outcome::Rejected,
        })
    }

    /// Notes a record that could not be decoded.
    pub(super) fn skip_command(&mut self, offset: i64) {
        self.commands.last = self.commands.last.max(Some(offset));
    }

    /// Notes a record that could not be decoded.
    pub(super) fn skip_ack(&mut self, offset: i64) {
        self.acks.last = self.acks.last.max(Some(offset));
    }

    /// Notes that `commands` has been read to the end that it had when it was taken over.
    pub(super) fn commands_caught_up(&mut self) {
        self.commands.caught_up = true;
        for (_, (_, offset)) in self.early.drain() {
            self.acks.held.remove(&offset);
        }
    }

    /// Notes that `acks` has been read to the end that it had when it was taken over.
    pub(super) const fn acks_caught_up(&mut self) {
        self.acks.caught_up = true;
    }

    /// Returns whether commands may be sent.
    pub(super) const fn is_ready(&self) -> bool {
        self.commands.caught_up && self.acks.caught_up
    }

    /// Returns how far `commands` has been read.
    pub(super) const fn commands(&self) -> &ReadProgress {
        &self.commands
    }

    /// Returns how far `acks` has been read.
    pub(super) const fn acks(&self) -> &ReadProgress {
        &self.acks
    }

    /// Ends expired commands; returns how many of them no device answered.
    pub(super) fn expire(&mut self, now_ms: i64) -> u64 {
        let mut unanswered_count = 0;
        while let Some(&(end_ms, home)) = self.expiries.first() {
            if end_ms > now_ms {
                break;
            }
            let entry = self
                .entries
                .get_mut(&home)
                .expect("an expiring command is held");
            if !entry.is_over && entry.answer_offset.is_none() {
                unanswered_count += 1;
            }
            if entry.held_until_ms <= now_ms {
                self.forget(home);
                continue;
            }
            self.expiries.remove(&(end_ms, home));
            if let Some(due_ms) = entry.due_ms.take() {
                self.sends.remove(&(due_ms, home));
            }
            entry.is_over = true;
            self.expiries.insert((entry.end_ms(), home));
        }
        unanswered_count
    }

    /// Returns the due command that has waited longest. It stays due until [`Self::sent`] is called.
    pub(super) fn due(&self, now_ms: i64) -> Option<Arc<Command>> {
        let (due_ms, key) = self.sends.first().filter(|_| self.is_ready())?;
        let command = &self.entries[key].command;
        (*due_ms <= now_ms && now_ms < command.expires_ms).then(|| Arc::clone(command))
    }

    /// Notes that the command was handed to MQTT. It is due again after `retry_ms`, unless it expires before.
    pub(super) fn sent(&mut self, command: &Command, now_ms: i64) -> Outcome {
        let key = command.household_id;
        let entry = self
            .entries
            .get_mut(&key)
            .expect("a command that is due is held");
        if let Some(due_ms) = entry.due_ms.take() {
            self.sends.remove(&(due_ms, key));
        }
        let again_ms = now_ms.saturating_add(self.retry_ms);
        if again_ms < command.expires_ms {
            entry.due_ms = Some(again_ms);
            self.sends.insert((again_ms, key));
        }
        entry.attempts_count += 1;
        if entry.attempts_count == 1 {
            Outcome::Sent
        } else {
            Outcome::Retried
        }
    }

    /// Returns when something is due next.
    pub(super) fn wake_ms(&self) -> Option<i64> {
        let send = self.sends.first().filter(|_| self.is_ready());
        let expiry = self.expiries.first();
        [send, expiry]
            .into_iter()
            .flatten()
            .map(|(at_ms, _)| *at_ms)
            .min()
    }

    /// Returns the positions to commit in `commands` and `acks`; `None` if nothing was read yet.
    pub(super) fn positions(&self) -> (Option<i64>, Option<i64>) {
        (self.commands.position(), self.acks.position())
    }

    fn forget(&mut self, key: HouseholdId) {
        let entry = self
            .entries
            .remove(&key)
            .expect("a superseded or expiring command is held");
        self.by_id.remove(&entry.command.command_id);
        self.expiries.remove(&(entry.end_ms(), key));
        if let Some(due_ms) = entry.due_ms {
            self.sends.remove(&(due_ms, key));
        }
        self.commands.held.remove(&entry.offset);
        if let Some(answer_offset) = entry.answer_offset {
            self.acks.held.remove(&answer_offset);
        }
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
