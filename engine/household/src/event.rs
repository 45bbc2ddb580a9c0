//! The events that a household handles.

use std::sync::Arc;

use model::asset::AssetReading;
use model::command::Ack;
use model::metadata::Metadata;
use model::reading::Reading;
use model::schedule::Schedule;
use model::slot::Slot;

/// An input of `Household::handle`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A reading was read from the log.
    ReadingArrived(Reading),
    /// A reading of an EV or a heat store was read from the log.
    AssetRead(AssetReading),
    /// The operator set the home's metadata.
    MetadataChanged(Arc<Metadata>),
    /// A worker solved a problem of this home.
    ScheduleReady(Arc<Schedule>),
    /// A device answered a command.
    AckArrived(Ack),
    /// A slot was aggregated again from the stored readings, after `Effect::RepairSlot`.
    SlotRepaired(Slot),
    /// The host's clock ticked. This ends slots that no later reading ends, and requests a plan if none is in force.
    ClockTicked {
        /// The host's clock, UTC epoch milliseconds.
        now_ms: i64,
    },
}
