//! Decides what to do with the commands of one partition. Pure: the caller passes the time.
//!
//! A home has one command per slot, the one requested last. It is held until it expires, answered or not. The offsets to
//! commit follow from that:
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

/// A home and the start of a slot.
type Key = (HouseholdId, i64);

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
    offset: i64,
    answer_offset: Option<i64>,
    attempts_count: u32,
    /// When to send it next; `None` if it has been answered or will have expired by then.
    due_ms: Option<i64>,
}

/// The commands of one partition that have not expired.
#[derive(Debug)]
pub(super) struct Pending {
    retry_ms: i64,
    entries: BTreeMap<Key, PendingCommand>,
    by_id: HashMap<String, Key>,
    sends: BTreeSet<(i64, Key)>,
    expiries: BTreeSet<(i64, Key)>,
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

    /// Takes in the command at `offset`. A command read again after a start has no outcome, since it had one before.
    pub(super) fn take_command(
        &mut self,
        offset: i64,
        command: Command,
        now_ms: i64,
    ) -> Option<Outcome> {
        self.commands.last = self.commands.last.max(Some(offset));
        let live = self.is_ready();
        if command.expires_ms <= now_ms {
            return live.then_some(Outcome::Expired);
        }
        let key = (command.household_id, command.not_before_ms);
        let rank = |command: &Command| (command.requested_ms, command.command_id.clone());
        let mut outcome = None;
        if let Some(held) = self.entries.get(&key) {
            if held.command.command_id == command.command_id {
                return None;
            }
            if rank(&held.command) > rank(&command) {
                return live.then_some(Outcome::Superseded);
            }
            outcome = (live && held.answer_offset.is_none()).then_some(Outcome::Superseded);
            self.forget(key);
        }
        self.commands.held.insert(offset);
        self.by_id.insert(command.command_id.clone(), key);
        self.expiries.insert((command.expires_ms, key));
        let early = self
            .early
            .remove(&(command.household_id, command.command_id.clone()));
        let due_ms = early.is_none().then_some(command.not_before_ms);
        if let Some(due_ms) = due_ms {
            self.sends.insert((due_ms, key));
        }
        let entry = PendingCommand {
            command: Arc::new(command),
            offset,
            answer_offset: early.map(|(_, answer_offset)| answer_offset),
            attempts_count: 0,
            due_ms,
        };
        self.entries.insert(key, entry);
        outcome
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
        if entry.answer_offset.is_some() {
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

    /// Drops expired commands; returns how many of them no device answered.
    pub(super) fn expire(&mut self, now_ms: i64) -> u64 {
        let mut unanswered_count = 0;
        while let Some(&(expires_ms, key)) = self.expiries.first() {
            if expires_ms > now_ms {
                break;
            }
            if self.forget(key).answer_offset.is_none() {
                unanswered_count += 1;
            }
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
        let key = (command.household_id, command.not_before_ms);
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

    fn forget(&mut self, key: Key) -> PendingCommand {
        let entry = self
            .entries
            .remove(&key)
            .expect("a superseded or expiring command is held");
        self.by_id.remove(&entry.command.command_id);
        self.expiries.remove(&(entry.command.expires_ms, key));
        if let Some(due_ms) = entry.due_ms {
            self.sends.remove(&(due_ms, key));
        }
        self.commands.held.remove(&entry.offset);
        if let Some(answer_offset) = entry.answer_offset {
            self.acks.held.remove(&answer_offset);
        }
        entry
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
