//! What a household can be told.

use std::sync::Arc;

use model::command::Ack;
use model::metadata::Metadata;
use model::reading::Reading;
use model::schedule::Schedule;
use model::slot::Slot;

/// The input of `Household::handle`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A reading came out of the log.
    ReadingArrived(Reading),
    /// The operator said what the home is.
    MetadataChanged(Arc<Metadata>),
    /// A worker solved a problem of this home.
    ScheduleReady(Arc<Schedule>),
    /// A device answered a command.
    AckArrived(Ack),
    /// A closed slot was aggregated again from the stored readings, after `Effect::RepairSlot`.
    SlotRepaired(Slot),
    /// The host's clock; it closes slots that no later reading closes, and asks for a plan where one is missing.
    ClockTicked { now_ms: i64 },
}
