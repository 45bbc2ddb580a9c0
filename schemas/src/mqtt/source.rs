//! Where a payload comes from, and the times that it may contain.

use model::units::HouseholdId;

use super::ranges::TimeWindow;

/// The kind of a home's payload, by the level of its topic behind the home's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Meter,
    Pv,
    Battery,
    Ack,
    Ev,
    Heat,
}

/// The origin of a payload, and the times that it may contain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) household_id: HouseholdId,
    pub(super) channel: Channel,
    /// The last level of an asset's topic; empty for all others.
    pub(super) asset: &'a str,
    pub(super) times: TimeWindow,
}
