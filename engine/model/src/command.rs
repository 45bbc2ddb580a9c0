//! Commands to devices, and the devices' answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::SlotPolicy;
use crate::units::HouseholdId;

/// Most entries of a program.
pub const ENTRIES_MAX: usize = 672;

/// A program for the devices of a home, the value of the `commands` topic. Of two commands the one issued later holds,
/// from its own first entry on. Times are UTC epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "CommandRecord", into = "CommandRecord")]
pub struct Command {
    /// Stable: the same schedule and first slot give the same id.
    pub command_id: String,
    /// The household whose devices it is for.
    pub household_id: HouseholdId,
    /// The schedule that it follows.
    pub schedule_id: String,
    /// `requested_ms` of the schedule.
    pub requested_ms: i64,
    /// When it was issued, in the home's own time.
    pub issued_ms: i64,
    /// End of the last entry. The command must not be applied at or after it.
    pub expires_ms: i64,
    /// The battery's figures, by which devices are told shares of its capacity; `None` if no entry has thresholds.
    pub battery: Option<BatteryRating>,
    /// What to do, from each entry's moment until the next one's: 1 to [`ENTRIES_MAX`] entries, ascending.
    pub program: Vec<ProgramEntry>,
}

impl Command {
    /// Returns when the first entry begins; `expires_ms` without entries, which no valid command has.
    #[must_use]
    pub fn from_ms(&self) -> i64 {
        self.program
            .first()
            .map_or(self.expires_ms, |entry| entry.from_ms)
    }

    /// Returns the entry that holds at `at_ms`; `None` before the first and once the command has expired.
    #[must_use]
    pub fn entry_at(&self, at_ms: i64) -> Option<&ProgramEntry> {
        let begun = self.program.partition_point(|entry| entry.from_ms <= at_ms);
        let entry = self.program.get(begun.checked_sub(1)?)?;
        (at_ms < self.expires_ms).then_some(entry)
    }

    /// Returns each entry with its end, UTC epoch milliseconds.
    pub fn spans(&self) -> impl Iterator<Item = (&ProgramEntry, i64)> {
        let ends_ms = self.program.iter().skip(1).map(|entry| entry.from_ms);
        self.program.iter().zip(ends_ms.chain([self.expires_ms]))
    }
}

/// The figures of a battery that its device may need to read a program.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatteryRating {
    /// Capacity, kWh: more than 0.
    pub capacity_kwh: f64,
    /// Largest charging power at the AC side, kW: 0 or more.
    pub charge_kw: f64,
    /// Largest discharging power at the AC side, kW: 0 or more.
    pub discharge_kw: f64,
}

/// What the devices do from a moment on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramEntry {
    /// The moment, UTC epoch milliseconds.
    pub from_ms: i64,
    /// What the battery does; `None` if the command does not say, so that it falls back.
    pub policy: Option<SlotPolicy>,
    /// Whether each appliance runs, by id.
    pub appliances: BTreeMap<String, bool>,
    /// What each EV does, by id.
    pub evs: BTreeMap<String, EvOrder>,
    /// What each heat store does, by id.
    pub heat: BTreeMap<String, HeatOrder>,
}

/// What an EV does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvOrder {
    /// Power that it draws whatever the sun does, kW: 0 or more.
    pub charge_kw: f64,
    /// Whether it also takes what PV has left over.
    pub surplus: bool,
    /// Largest power back to the home, kW: 0 or more.
    pub discharge_max_kw: f64,
}

/// What a heat store does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeatOrder {
    /// Electric power of the heater, kW: 0 or more.
    pub power_kw: f64,
}

/// A command as it was before programs: set-points for one slot. Old rows and snapshots hold such commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotCommand {
    /// As in [`Command`].
    pub command_id: String,
    /// As in [`Command`].
    pub household_id: HouseholdId,
    /// As in [`Command`].
    pub schedule_id: String,
    /// As in [`Command`].
    pub requested_ms: i64,
    /// Start of the slot, UTC epoch milliseconds.
    pub not_before_ms: i64,
    /// End of the slot, UTC epoch milliseconds.
    pub expires_ms: i64,
    /// Setpoint of the battery, W, positive while charging; `None` if the command does not set the battery.
    pub battery_w: Option<f64>,
    /// Whether each appliance runs, by id.
    pub appliances: BTreeMap<String, bool>,
}

impl From<SlotCommand> for Command {
    /// Makes a program of one entry. Such commands were issued for the start of their slot.
    fn from(command: SlotCommand) -> Self {
        let entry = ProgramEntry {
            from_ms: command.not_before_ms,
            policy: command
                .battery_w
                .map(|watts| SlotPolicy::setpoint(watts / 1e3)),
            appliances: command.appliances,
            evs: BTreeMap::new(),
            heat: BTreeMap::new(),
        };
        Self {
            command_id: command.command_id,
            household_id: command.household_id,
            schedule_id: command.schedule_id,
            requested_ms: command.requested_ms,
            issued_ms: command.not_before_ms,
            expires_ms: command.expires_ms,
            battery: None,
            program: vec![entry],
        }
    }
}

/// A command as it stands in a record. Records from before programs have no entries but the fields of a [`SlotCommand`].
/// Those fields stay in the record, so that builds from before programs can read it; they find no order in them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename = "Command")]
struct CommandRecord {
    command_id: String,
    household_id: HouseholdId,
    schedule_id: String,
    requested_ms: i64,
    not_before_ms: i64,
    expires_ms: i64,
    battery_w: Option<f64>,
    appliances: BTreeMap<String, bool>,
    #[serde(default)]
    issued_ms: i64,
    #[serde(default)]
    battery: Option<BatteryRating>,
    #[serde(default)]
    program: Vec<ProgramEntry>,
}

impl From<Command> for CommandRecord {
    fn from(command: Command) -> Self {
        Self {
            not_before_ms: command.from_ms(),
            command_id: command.command_id,
            household_id: command.household_id,
            schedule_id: command.schedule_id,
            requested_ms: command.requested_ms,
            expires_ms: command.expires_ms,
            battery_w: None,
            appliances: BTreeMap::new(),
            issued_ms: command.issued_ms,
            battery: command.battery,
            program: command.program,
        }
    }
}

impl From<CommandRecord> for Command {
    fn from(record: CommandRecord) -> Self {
        if record.program.is_empty() {
            return Self::from(SlotCommand {
                command_id: record.command_id,
                household_id: record.household_id,
                schedule_id: record.schedule_id,
                requested_ms: record.requested_ms,
                not_before_ms: record.not_before_ms,
                expires_ms: record.expires_ms,
                battery_w: record.battery_w,
                appliances: record.appliances,
            });
        }
        Self {
            command_id: record.command_id,
            household_id: record.household_id,
            schedule_id: record.schedule_id,
            requested_ms: record.requested_ms,
            issued_ms: record.issued_ms,
            expires_ms: record.expires_ms,
            battery: record.battery,
            program: record.program,
        }
    }
}

/// What a device does when its command has expired and no new one has come.
pub const FALLBACK: &str = "self_consumption";

/// A device's answer, the value of the `acks` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The household that answers.
    pub household_id: HouseholdId,
    /// The command that is answered.
    pub command_id: String,
    /// When the device answered, UTC epoch milliseconds.
    pub ts_ms: i64,
    /// What the device did.
    pub status: AckStatus,
    /// Why, in the device's words; empty if it gave no reason.
    pub reason: String,
}

/// Whether the device applied the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckStatus {
    /// The device carries it out.
    Applied,
    /// The device does not carry it out.
    Rejected,
}

/// State of a command, as kept in the `commands` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandState {
    /// Issued by the household; the device has not answered yet.
    Issued,
    /// The device carries it out.
    Applied,
    /// The device does not carry it out.
    Rejected,
}

impl CommandState {
    /// Returns the lower-case name, as in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Applied => "applied",
            Self::Rejected => "rejected",
        }
    }
}

impl From<AckStatus> for CommandState {
    fn from(status: AckStatus) -> Self {
        match status {
            AckStatus::Applied => Self::Applied,
            AckStatus::Rejected => Self::Rejected,
        }
    }
}

/// A device's answer, as it stands beside its command in the `commands` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandAnswer {
    /// The household that answers.
    pub household_id: HouseholdId,
    /// The command that is answered.
    pub command_id: String,
    /// When the command's first entry begins, UTC epoch milliseconds: part of the row's key.
    pub from_ms: i64,
    /// What the device did.
    pub status: AckStatus,
    /// When the device answered, UTC epoch milliseconds.
    pub acked_ms: i64,
    /// The device's reason; empty if it gave none.
    pub reason: String,
}

/// A command and its state: a row of the `commands` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandProgress {
    /// The command.
    pub command: Command,
    /// Its state.
    pub state: CommandState,
    /// When the device answered, UTC epoch milliseconds; `None` until it does.
    pub acked_ms: Option<i64>,
    /// The device's reason; empty if it gave none.
    pub reason: String,
}
