//! The effects that a household asks for. They have stable ids: carrying one out twice changes nothing.

use std::sync::Arc;

use crate::plausible::Implausible;
use model::alert::Alert;
use model::asset::{AssetKind, AssetReading};
use model::command::{Command, CommandAnswer};
use model::metadata::Metadata;
use model::reading::{Kind, Reading, ReadingOutcome};
use model::request::OptimizeRequest;
use model::schedule::Schedule;
use model::slot::Slot;
use model::units::HouseholdId;

/// A task for the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write the reading's row.
    StoreReading(Reading),
    /// Write the row of an asset's reading.
    StoreAsset(AssetReading),
    /// Write the slot's row.
    StoreSlot {
        /// The household.
        household_id: HouseholdId,
        /// The aggregate.
        slot: Slot,
    },
    /// Write the metadata's row.
    StoreMetadata(Arc<Metadata>),
    /// Write the schedule's row.
    StoreSchedule(Arc<Schedule>),
    /// Write the command's row.
    StoreCommand(Command),
    /// Write what the device answered beside its command.
    StoreAnswer(CommandAnswer),
    /// Send the request to the worker pool.
    RequestOptimize(Box<OptimizeRequest>),
    /// Send the command to the devices.
    SendCommand(Command),
    /// Send the alert to the operator.
    RaiseAlert(Alert),
    /// Aggregate the slot again from the store, once the earlier rows are written: the home does not hold all of its
    /// readings.
    RepairSlot {
        /// The household.
        household_id: HouseholdId,
        /// Start of the slot, UTC epoch milliseconds.
        start_ms: i64,
    },
    /// Make the reading's record a dead letter. The reading has no row.
    RefuseReading {
        /// The reading, as received.
        reading: Reading,
        /// Why it is refused.
        refusal: Refusal,
    },
    /// Make the record of an asset's reading a dead letter. The reading has no row.
    RefuseAsset {
        /// Its event time, UTC epoch milliseconds.
        ts_ms: i64,
        /// Why it is refused.
        refusal: Refusal,
    },
    /// Count one handled reading of an asset.
    CountAsset {
        /// Its kind.
        kind: AssetKind,
        /// What became of it.
        outcome: ReadingOutcome,
    },
    /// Count one handled reading.
    CountReading {
        /// Its kind.
        kind: Kind,
        /// What became of it.
        outcome: ReadingOutcome,
    },
}

/// Why a home refuses a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refusal {
    /// This home cannot have such a value.
    Implausible(Implausible),
    /// The grace period of its slot is over, and readings are not stored, so the slot cannot be aggregated again.
    Late,
    /// It is more than `Settings::ahead_ms` ahead of the host's clock.
    Future,
    /// It is more than `Settings::kept_ms` behind the host's clock.
    TooOld,
    /// The home keeps the state of as many assets of this kind as it can, and knows this one not.
    TooManyAssets,
    /// The home holds [`RAW_NUMBERS_MAX`](crate::windows::RAW_NUMBERS_MAX) numbers already, and readings are not stored.
    Full,
}
