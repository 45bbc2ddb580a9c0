//! Which homes have panicked, and on what.

use std::collections::{BTreeMap, BTreeSet};

use model::units::HouseholdId;
use schemas::topic::Topic;

/// What has made its home panic so often is poison.
const FAILURES_MAX: u32 = 2;

/// What made a home panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The record at an offset.
    Record(Topic, i64),
    /// A slot that was aggregated again, by its start.
    Repair(i64),
    Tick,
}

/// The failures of one turn. Each cause is tried at most [`FAILURES_MAX`] times, so a turn ends.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    counts: BTreeMap<(HouseholdId, Cause), u32>,
    /// Homes that have not been revived since.
    failed: BTreeSet<HouseholdId>,
}

impl Failures {
    pub(crate) fn note(&mut self, id: HouseholdId, cause: Cause) {
        *self.counts.entry((id, cause)).or_default() += 1;
        self.failed.insert(id);
    }

    /// Whether the home waits for its revival.
    pub(crate) fn has_failed(&self, id: HouseholdId) -> bool {
        self.failed.contains(&id)
    }

    /// Whether the home is not to be told this any more.
    pub(crate) fn is_poison(&self, id: HouseholdId, cause: Cause) -> bool {
        let count = self.counts.get(&(id, cause));
        count.is_some_and(|count| *count >= FAILURES_MAX)
    }

    /// Takes out the next home to revive.
    pub(crate) fn next(&mut self) -> Option<HouseholdId> {
        self.failed.pop_first()
    }
}
