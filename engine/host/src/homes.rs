//! The homes of a partition that are in memory: brings them back from their snapshots, and lets them go.

use std::collections::BTreeMap;
use std::time::Duration;

use model::units::HouseholdId;
use platform::metrics::Metrics;
use tokio::time::Instant;
use tracing::warn;

use crate::assignment::Assignment;
use crate::checkpoint::Checkpoint;
use crate::deliver::{each, read_patiently};
use crate::fence::Fenced;
use crate::outbox::{Delivery, Outbox};
use crate::resident::{Resident, Residents};

/// Most snapshots read at once.
const RESTORES_MAX: usize = 64;
/// Pause between two questions to the log.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The homes in memory.
#[derive(Debug)]
pub(crate) struct Homes {
    pub(crate) residents: Residents,
    /// The watermarks of homes that left memory since they were silent, ms.
    asleep: BTreeMap<HouseholdId, i64>,
    /// Whether the log holds this partition from its very beginning, nothing was committed, and no home was let go:
    /// then replaying the log makes snapshots unnecessary. `None` until somebody asks.
    is_whole: Option<bool>,
    metrics: Metrics,
}

impl Homes {
    /// None in memory yet.
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            residents: Residents::new(),
            asleep: BTreeMap::new(),
            is_whole: None,
            metrics,
        }
    }

    /// Brings the households back that are not in memory: from their snapshot, or new.
    pub(crate) async fn restore(
        &mut self,
        ids: impl Iterator<Item = HouseholdId>,
        assignment: &Assignment,
        checkpoint: &mut Checkpoint,
        outbox: &mut Outbox,
    ) -> Result<(), Fenced> {
        let mut wanted: Vec<HouseholdId> = ids.collect();
        wanted.sort_unstable();
        wanted.dedup();
        let is_absent = |id: &HouseholdId| !self.residents.contains_key(id);
        let absent: Vec<HouseholdId> = wanted.iter().copied().filter(is_absent).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let max = assignment.setup.live_homes_max.max(wanted.len());
        let excess = (self.residents.len() + absent.len()).saturating_sub(max);
        if excess > 0 {
            // A tenth more than asked, so that not every batch comes here.
            let leaving = (excess + max / 10).min(self.residents.len());
            if self.that_may_go(&wanted, outbox).count() < leaving {
                let partition = assignment.partition;
                checkpoint
                    .save(leaving, partition, &mut self.residents, outbox)
                    .await?;
                outbox.settled().await?;
            }
            self.make_room(leaving, &wanted, outbox);
        }
        self.bring_back(absent, assignment, outbox).await
    }

    /// Reads snapshots, and makes homes of them that stand where the snapshots were taken.
    pub(crate) async fn bring_back(
        &mut self,
        absent: Vec<HouseholdId>,
        assignment: &Assignment,
        outbox: &mut Outbox,
    ) -> Result<(), Fenced> {
        let restored_count = absent.len();
        for id in &absent {
            self.asleep.remove(id);
        }
        // A claim commits.
        let is_whole = self.is_whole(assignment).await?;
        assignment.ownership.claim().await?;
        if is_whole {
            let newborn = absent
                .into_iter()
                .map(|id| (id, Box::new(Resident::newborn(id))));
            self.residents.extend(newborn);
        } else {
            let (context, fence) = (&assignment.setup.context, &assignment.fence);
            let mut restored = each(absent, RESTORES_MAX, |id| async move {
                let begun = Instant::now();
                let snapshot =
                    read_patiently("snapshot", fence, || context.store.snapshot(id)).await?;
                let settings = &assignment.setup.settings;
                let resident = Resident::from_snapshot(
                    id,
                    assignment.partition,
                    snapshot.as_deref(),
                    settings,
                )
                .map_err(|newer| fence.give_up(format!("snapshot of {id}: {newer}")))?;
                let elapsed = begun.elapsed().as_secs_f64();
                context.metrics.restore_seconds.observe(elapsed);
                Ok((id, Box::new(resident)))
            })
            .await?;
            write_again(&mut restored, assignment.partition, outbox).await?;
            self.residents.extend(restored);
        }
        self.live(count(restored_count));
        Ok(())
    }

    /// Whether nobody before can have saved a home of this partition. If so, the beginning is committed before anything
    /// is written, and the next owner then looks for snapshots. An owner that does not would write old rows again.
    async fn is_whole(&mut self, assignment: &Assignment) -> Result<bool, Fenced> {
        if let Some(is_whole) = self.is_whole {
            return Ok(is_whole);
        }
        let topics = assignment.of_all();
        let beginning = || topics.map(|of| (of, 0)).to_vec();
        let control = &assignment.setup.control;
        let is_whole = loop {
            assignment.fence.check()?;
            let reason = match control.is_unread_and_whole(&topics).await {
                Ok(false) => break false,
                Ok(true) => match control.commit(beginning()).await {
                    Ok(()) => break true,
                    Err(reason) => reason,
                },
                Err(reason) => reason,
            };
            let partition = assignment.partition;
            warn!(partition, %reason, "cannot tell whether the log is whole");
            if !reason.is_retryable() {
                return Err(Fenced);
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        };
        self.is_whole = Some(is_whole);
        Ok(is_whole)
    }

    /// Homes whose snapshot is durable, without those of `wanted`, which ascend.
    fn that_may_go<'a>(
        &'a self,
        wanted: &'a [HouseholdId],
        outbox: &Outbox,
    ) -> impl Iterator<Item = &'a Resident> {
        let durable = outbox.durable();
        let homes = self.residents.values().map(Box::as_ref);
        homes.filter(move |home| home.is_durable(durable) && !is_among(wanted, home))
    }

    /// Lets `leaving` homes go, those that have been silent for longest. Homes of `wanted` stay, and those whose
    /// snapshot is not durable.
    fn make_room(&mut self, leaving: usize, wanted: &[HouseholdId], outbox: &Outbox) {
        let may_go = self.that_may_go(wanted, outbox);
        let mut touched: Vec<Instant> = may_go.map(|home| home.touched).collect();
        if touched.is_empty() {
            return;
        }
        let last = leaving.min(touched.len()).saturating_sub(1);
        let (_, until, _) = touched.select_nth_unstable(last);
        let (until, mut left) = (*until, leaving);
        self.let_go(outbox, |home| {
            let goes = left > 0 && home.touched <= until && !is_among(wanted, home);
            left -= usize::from(goes);
            goes
        });
    }

    /// Lets the silent homes go of which `is_over` says so, and remembers how old their readings are.
    pub(crate) fn fall_asleep(&mut self, outbox: &Outbox, is_over: impl Fn(&Resident) -> bool) {
        let mut asleep = std::mem::take(&mut self.asleep);
        self.let_go(outbox, |home| {
            let goes = is_over(home);
            if goes {
                let household = &home.household;
                asleep.insert(household.id(), household.watermark_ms());
            }
            goes
        });
        self.asleep = asleep;
    }

    /// How many homes out of memory had their newest reading before `from_ms`.
    pub(crate) fn asleep_since(&self, from_ms: i64) -> usize {
        let watermarks_ms = self.asleep.values();
        watermarks_ms.filter(|ms| **ms < from_ms).count()
    }

    /// How many homes are in memory or have left it since they were silent.
    pub(crate) fn known_count(&self) -> usize {
        self.residents.len() + self.asleep.len()
    }

    /// Lets the homes go whose snapshot is durable and of which `is_over` says so.
    fn let_go(&mut self, outbox: &Outbox, mut is_over: impl FnMut(&Resident) -> bool) {
        let (before, durable) = (self.residents.len(), outbox.durable());
        self.residents
            .retain(|_, home| !home.is_durable(durable) || !is_over(home));
        let left = before - self.residents.len();
        if left > 0 {
            // They come back from their snapshots, not from the log.
            self.is_whole = Some(false);
        }
        self.live(-count(left));
    }

    /// Takes one home out of memory, which comes back from its snapshot.
    pub(crate) fn take_out(&mut self, id: HouseholdId) -> Option<Box<Resident>> {
        let home = self.residents.swap_remove(&id)?;
        // What was in the log may have been committed since: its snapshot is the truth.
        self.is_whole = Some(false);
        self.live(-1);
        Some(home)
    }

    /// Lets every home go, saved or not.
    pub(crate) fn clear(&mut self) {
        self.live(-count(self.residents.len()));
        self.residents.clear();
        self.asleep.clear();
    }

    fn live(&self, change: i64) {
        self.metrics.live_households.add(change);
    }
}

/// Rewrites each snapshot that was read; a dead owner's late write then loses. If it won, the next owner would believe
/// it, and pass over records whose effects are not all durable.
async fn write_again(
    homes: &mut [(HouseholdId, Box<Resident>)],
    partition: i32,
    outbox: &mut Outbox,
) -> Result<(), Fenced> {
    let mut delivery = Delivery::default();
    for (_, home) in homes {
        home.saved_in = outbox.sent() + 1;
        delivery.restored.push(home.snapshot(partition));
    }
    outbox.send(delivery).await
}

fn is_among(wanted: &[HouseholdId], home: &Resident) -> bool {
    wanted.binary_search(&home.household.id()).is_ok()
}

fn count(homes: usize) -> i64 {
    i64::try_from(homes).expect("a count fits")
}
