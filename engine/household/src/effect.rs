//! What a household orders. Effects have stable ids: carrying one out twice changes nothing.

use std::sync::Arc;

use crate::plausible::Implausible;
use model::alert::Alert;
use model::command::{Command, CommandProgress};
use model::metadata::Metadata;
use model::reading::{Kind, Reading, ReadingOutcome};
use model::request::OptimizeRequest;
use model::schedule::Schedule;
use model::slot::Slot;
use model::units::HouseholdId;

/// An order to the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    StoreReading(Reading),
    StoreSlot {
        household_id: HouseholdId,
        slot: Slot,
    },
    StoreMetadata(Arc<Metadata>),
    StoreSchedule(Arc<Schedule>),
    StoreCommand(CommandProgress),
    RequestOptimize(Box<OptimizeRequest>),
    SendCommand(Command),
    RaiseAlert(Alert),
    /// A reading came too late for the window: aggregate the slot anew from the store, once the reading is there.
    RepairSlot {
        household_id: HouseholdId,
        start_ms: i64,
    },
    /// The home does not take the reading: its record becomes a dead letter, and there is no row of it.
    RefuseReading {
        reading: Reading,
        refusal: Refusal,
    },
    /// One reading was handled, with this outcome.
    CountReading {
        kind: Kind,
        outcome: ReadingOutcome,
    },
}

/// Why a home could not take a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refusal {
    /// A value that cannot be true of this home.
    Implausible(Implausible),
    /// Its slot ended longer ago than the grace, and there is no store to aggregate the slot from.
    Late,
    /// It lies further ahead of the host's clock than a reading may.
    Future,
    /// It is older than what is kept.
    TooOld,
    /// The home holds as many raw readings as it may.
    Full,
}
