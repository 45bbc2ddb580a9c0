//! Commands to devices, and the devices' answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// A command for one slot, the value of the `commands` topic. Times are UTC epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Stable: the same schedule and slot give the same id.
    pub command_id: String,
    /// The household whose devices it is for.
    pub household_id: HouseholdId,
    /// The schedule that it follows.
    pub schedule_id: String,
    /// `requested_ms` of the schedule; a command for the same slot from a later schedule supersedes this one.
    pub requested_ms: i64,
    /// Start of the slot. The command must not be applied before it.
    pub not_before_ms: i64,
    /// End of the slot. The command must not be applied at or after it.
    pub expires_ms: i64,
    /// Setpoint of the battery, W, positive while charging; `None` if the command does not set the battery.
    pub battery_w: Option<f64>,
    /// Whether each appliance runs, by id.
    pub appliances: BTreeMap<String, bool>,
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
