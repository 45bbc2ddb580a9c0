//! Orders to devices and what devices answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// An order for one slot, the value of the `commands` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Stable: the same schedule and slot give the same id.
    pub command_id: String,
    pub household_id: HouseholdId,
    pub schedule_id: String,
    /// `requested_ms` of the schedule; a command for the same slot from a later schedule supersedes this one.
    pub requested_ms: i64,
    /// Not to be applied before; the slot's start.
    pub not_before_ms: i64,
    /// Not to be applied at or after; the slot's end.
    pub expires_ms: i64,
    /// Setpoint of the battery, positive while charging; `None` where the home has none.
    pub battery_w: Option<f64>,
    pub appliances: BTreeMap<String, bool>,
}

/// What a device does when its command has expired and no other has come.
pub const FALLBACK: &str = "self_consumption";

/// A device's answer, the value of the `acks` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    pub household_id: HouseholdId,
    pub command_id: String,
    pub ts_ms: i64,
    pub status: AckStatus,
    /// Empty where the device gave none.
    pub reason: String,
}

/// Whether the device did as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckStatus {
    Applied,
    Rejected,
}

/// How far a command has come, as kept in the `commands` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandState {
    /// Ordered by the household, on its way to the device.
    Issued,
    Applied,
    Rejected,
}

impl CommandState {
    /// Lower-case name, as in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Applied => "applied",
            Self::Rejected => "rejected",
        }
    }
}

/// A command and how far it has come: a row of the `commands` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandProgress {
    pub command: Command,
    pub state: CommandState,
    /// When the device answered; `None` while it has not.
    pub acked_ms: Option<i64>,
    pub reason: String,
}
