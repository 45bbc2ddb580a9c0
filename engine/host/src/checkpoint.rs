//! How far the records of a partition are handled, saved and committed.
//!
//! Each home is saved once in a checkpoint interval, the one that changed first before the others, so that snapshots
//! come evenly, and the interval bounds the stretch of the log that is read again after a crash. An offset is committed
//! once everything before it is durable and covered by snapshots.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::assignment::Assignment;
use crate::fence::Fenced;
use crate::outbox::{Delivery, Outbox};
use crate::resident::Residents;
use crate::unsaved::Unsaved;
use schemas::snapshot::NextOffsets;

/// Most snapshots in one delivery.
pub(crate) const SAVES_TOGETHER_MAX: usize = 1_000;

/// Offsets to commit.
#[derive(Debug, Clone, Copy)]
struct Commit {
    /// The delivery that must be durable before.
    sent: u64,
    offsets: NextOffsets,
}

/// What is handled, and what of it is saved and committed.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// First offset not handled yet, by topic.
    pub(crate) next_offsets: NextOffsets,
    pub(crate) unsaved: Unsaved,
    /// Commits that wait, oldest first.
    commits: VecDeque<Commit>,
    committed: NextOffsets,
    /// Part of a home that is due to be saved.
    credit: f64,
    /// When homes became due last.
    ticked: Instant,
}

impl Checkpoint {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next_offsets: NextOffsets::default(),
            unsaved: Unsaved::default(),
            commits: VecDeque::new(),
            committed: NextOffsets::default(),
            credit: 0.0,
            ticked: now,
        }
    }

    /// How many homes are due to be saved when each is saved once in `every`.
    pub(crate) fn due(&mut self, every: Duration, now: Instant) -> usize {
        let share = now.duration_since(self.ticked).as_secs_f64()
            / every.as_secs_f64().max(f64::MIN_POSITIVE);
        self.ticked = now;
        self.share_due(share).max(self.unsaved.overdue(every, now))
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of homes, 0 or more"
    )]
    fn share_due(&mut self, share: f64) -> usize {
        let count = self.unsaved.count() as f64;
        self.credit = (self.credit + count * share).min(count);
        let whole = self.credit.floor();
        self.credit -= whole;
        whole as usize
    }

    /// Sends the snapshots of the `count` homes that changed first, and notes what may be committed behind them.
    pub(crate) async fn save(
        &mut self,
        count: usize,
        partition: i32,
        residents: &mut Residents,
        outbox: &mut Outbox,
    ) -> Result<(), Fenced> {
        let mut left = count.min(self.unsaved.count());
        while left > 0 {
            let homes = self.unsaved.take(left.min(SAVES_TOGETHER_MAX));
            left -= homes.len();
            let mut delivery = Delivery::default();
            let saved_in = outbox.sent() + 1;
            for id in homes {
                let Some(home) = residents.get_mut(&id) else {
                    continue;
                };
                home.is_unsaved = false;
                home.saved_in = saved_in;
                delivery.snapshots.push(home.snapshot(partition));
            }
            outbox.send(delivery).await?;
        }
        if count > 0 {
            self.note_commit(outbox);
        }
        Ok(())
    }

    /// Notes that what is handled and saved so far may be committed when all that was sent is durable.
    pub(crate) fn note_commit(&mut self, outbox: &Outbox) {
        let offsets = self.unsaved.since().unwrap_or(self.next_offsets);
        let newest = self.commits.back();
        let newest = newest.map_or(self.committed, |newest| newest.offsets);
        if offsets != newest {
            let sent = outbox.sent();
            self.commits.push_back(Commit { sent, offsets });
        }
    }

    /// Commits what has become durable.
    pub(crate) async fn commit(
        &mut self,
        assignment: &Assignment,
        outbox: &Outbox,
    ) -> Result<(), Fenced> {
        let durable = outbox.durable();
        let mut ready = None;
        while let Some(commit) = self.commits.front()
            && commit.sent <= durable
        {
            ready = self.commits.pop_front();
        }
        let Some(ready) = ready else { return Ok(()) };
        let offsets = ready.offsets.iter();
        let offsets = offsets.map(|(topic, next)| (assignment.of(topic), next));
        if assignment.ownership.commit(offsets.collect()).await? {
            self.committed = ready.offsets;
        } else {
            // Until then a restart reads a little more.
            self.commits.push_front(ready);
        }
        Ok(())
    }

    /// Whether everything that may be committed is.
    pub(crate) fn is_committed(&self) -> bool {
        self.commits.is_empty()
    }
}
