//! The commands in snapshots of builds from before programs, each for one slot. Their place in snapshots stays; once a
//! home has been restored, they are programs of one entry, and this place is empty.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use model::command::{AckStatus, SlotCommand};

/// The commands, in the order in which they were issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotCommands {
    pub(crate) given: VecDeque<GivenForSlot>,
    /// Not used any more.
    looked_at: Option<(i64, usize)>,
}

/// An issued command and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GivenForSlot {
    pub(crate) command: SlotCommand,
    pub(crate) answer: Option<AckStatus>,
    pub(crate) superseded: bool,
}

impl SlotCommands {
    pub(crate) const fn none() -> Self {
        Self {
            given: VecDeque::new(),
            looked_at: None,
        }
    }
}
