//! Where a payload comes from, and the times that it may contain.

use model::units::HouseholdId;

use super::ranges::TimeWindow;

/// The kind of a home's payload, by the last level of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Meter,
    Pv,
    Battery,
    Ack,
}

/// The origin of a payload, and the times that it may contain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) household_id: HouseholdId,
    pub(super) channel: Channel,
    pub(super) times: TimeWindow,
}
