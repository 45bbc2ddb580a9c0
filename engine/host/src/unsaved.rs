//! Which homes have changed since their snapshot, and from where the log would have to be read again if all of them
//! were lost. Pure: no clock, no IO.

use std::collections::VecDeque;
use std::time::Duration;

use model::units::HouseholdId;
use tokio::time::Instant;

use schemas::snapshot::NextOffsets;

/// The homes of a shard whose snapshot is older than their state, in the order in which they first changed.
///
/// A shard's offsets only grow, so what the oldest of them needs is what all of them need.
#[derive(Debug, Default)]
pub(crate) struct Unsaved {
    epochs: VecDeque<Epoch>,
    count: usize,
}

/// Homes that changed first in the same batch.
#[derive(Debug)]
struct Epoch {
    /// The shard's offsets before the batch.
    since: NextOffsets,
    at: Instant,
    homes: Vec<HouseholdId>,
}

impl Unsaved {
    /// `home` has changed and was not among these. `since` are the shard's offsets before it did.
    pub(crate) fn note(&mut self, home: HouseholdId, since: &NextOffsets, now: Instant) {
        self.count += 1;
        if let Some(newest) = self.epochs.back_mut()
            && newest.since == *since
        {
            newest.homes.push(home);
            return;
        }
        self.epochs.push_back(Epoch {
            since: *since,
            at: now,
            homes: vec![home],
        });
    }

    /// Takes the oldest `count_max` homes out.
    pub(crate) fn take(&mut self, count_max: usize) -> Vec<HouseholdId> {
        let mut taken = Vec::with_capacity(count_max.min(self.count));
        while taken.len() < count_max
            && let Some(oldest) = self.epochs.front_mut()
        {
            let rest = count_max - taken.len();
            taken.extend(
                oldest
                    .homes
                    .drain(oldest.homes.len().saturating_sub(rest)..),
            );
            if oldest.homes.is_empty() {
                self.epochs.pop_front();
            }
        }
        self.count -= taken.len();
        taken
    }

    /// From where on the log is not covered by snapshots; `None` where it is.
    pub(crate) fn since(&self) -> Option<NextOffsets> {
        self.epochs.front().map(|oldest| oldest.since)
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// How many homes changed longer ago than `age`.
    pub(crate) fn overdue(&self, age: Duration, now: Instant) -> usize {
        let old = self
            .epochs
            .iter()
            .take_while(|epoch| now.duration_since(epoch.at) >= age);
        old.map(|epoch| epoch.homes.len()).sum()
    }

    /// How many homes changed before the shard stood `records_max` records short of `now`.
    pub(crate) fn beyond(&self, records_max: u64, now: &NextOffsets) -> usize {
        let old = self
            .epochs
            .iter()
            .take_while(|epoch| epoch.since.records_until(now) > records_max);
        old.map(|epoch| epoch.homes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use schemas::topic::Topic;

    use super::*;

    fn at(telemetry: i64, acks: i64) -> NextOffsets {
        let mut offsets = NextOffsets::default();
        offsets.advance(Topic::Telemetry, telemetry);
        offsets.advance(Topic::Acks, acks);
        offsets
    }

    fn home(id: i64) -> HouseholdId {
        HouseholdId::new(id).unwrap()
    }

    #[test]
    fn the_oldest_change_says_from_where_to_read_again() {
        let mut unsaved = Unsaved::default();
        let now = Instant::now();
        assert_eq!(unsaved.since(), None);
        unsaved.note(home(1), &at(0, 0), now);
        unsaved.note(home(2), &at(0, 0), now);
        unsaved.note(home(3), &at(10, 0), now + Duration::from_secs(5));
        unsaved.note(home(4), &at(10, 3), now + Duration::from_secs(6));
        assert_eq!((unsaved.count(), unsaved.since()), (4, Some(at(0, 0))));
        let later = now + Duration::from_secs(8);
        assert_eq!(unsaved.overdue(Duration::from_secs(3), later), 3);
        assert_eq!(unsaved.overdue(Duration::from_secs(9), later), 0);
        assert_eq!(unsaved.beyond(12, &at(15, 3)), 2);
        assert_eq!(unsaved.take(1).len(), 1);
        assert_eq!(unsaved.since(), Some(at(0, 0)));
        assert_eq!(unsaved.take(2).len(), 2);
        assert_eq!((unsaved.count(), unsaved.since()), (1, Some(at(10, 3))));
        assert_eq!(unsaved.take(9), [home(4)]);
        assert_eq!((unsaved.count(), unsaved.since()), (0, None));
    }
}
