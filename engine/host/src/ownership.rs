//! The claim on a partition, and the order of what its owner writes.
//!
//! An owner claims the partition before it reads anything from the store. What owners before it wrote and committed is
//! there by then, and what they write later loses.
//!
//! Anyone can claim, also a process that was asleep while its partition went elsewhere. So whoever has made a claim asks
//! the group before it writes: the group takes commits from the partition's owner alone. An owner that finds its claim
//! superseded asks too, and claims again if the partition is still its own.

use std::sync::Arc;
use std::time::Duration;

use platform::log::{ConsumerControl, LogError, TopicPartition};
use platform::order::{Epoch, ORDERS_PER_EPOCH, Order};
use platform::store::Store;
use schemas::snapshot::SHARD_TOPICS;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::deliver::{read_patiently, retry_pauses};
use crate::fence::{Fence, Fenced};

/// An epoch is claimed again so often, so that orders keep near the store's time.
const RENEW_AFTER: Duration = Duration::from_secs(3600);
/// One that has so few orders left is claimed again too, long before writes would wait for it.
const ORDERS_LEFT_MIN: i64 = ORDERS_PER_EPOCH / 2;

/// A partition's owner, as store and group see it; a cheap handle.
#[derive(Clone)]
pub(crate) struct Ownership {
    store: Arc<dyn Store>,
    control: Arc<dyn ConsumerControl>,
    partition: i32,
    fence: Fence,
    hold: Arc<Mutex<Option<Hold>>>,
    /// Locked while offsets are committed, so that none goes back. Never waits for `hold`.
    committing: Arc<Mutex<()>>,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    epoch: Epoch,
    /// Sequence of the next order.
    next: i64,
    since: Instant,
}

impl std::fmt::Debug for Ownership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let partition = &self.partition;
        f.debug_struct("Ownership")
            .field("partition", partition)
            .finish_non_exhaustive()
    }
}

impl Hold {
    fn begin(epoch: Epoch) -> Self {
        Self {
            epoch,
            next: 0,
            since: Instant::now(),
        }
    }

    fn is_due(&self) -> bool {
        self.since.elapsed() >= RENEW_AFTER || ORDERS_PER_EPOCH - self.next < ORDERS_LEFT_MIN
    }
}

impl Ownership {
    /// Nothing is claimed yet.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        control: Arc<dyn ConsumerControl>,
        partition: i32,
        fence: Fence,
    ) -> Self {
        Self {
            store,
            control,
            partition,
            fence,
            hold: Arc::default(),
            committing: Arc::default(),
        }
    }

    /// Claims the partition, unless that has been done.
    pub(crate) async fn claim(&self) -> Result<(), Fenced> {
        let mut hold = self.hold.lock().await;
        self.held(&mut hold).await.map(drop)
    }

    /// Returns the order of the next write; higher each time.
    pub(crate) async fn order(&self) -> Result<Order, Fenced> {
        let mut hold = self.hold.lock().await;
        loop {
            let held = self.held(&mut hold).await?;
            if let Some(order) = held.epoch.order(held.next) {
                held.next += 1;
                return Ok(order);
            }
            self.renew(held).await?;
        }
    }

    /// Commits `next_offsets`, if the partition is still ours; returns false if it should be tried again later.
    pub(crate) async fn commit(
        &self,
        next_offsets: Vec<(TopicPartition, i64)>,
    ) -> Result<bool, Fenced> {
        let partition = self.partition;
        if !self.is_confirmed().await? {
            return Ok(false);
        }
        let _alone = self.committing.lock().await;
        match self.control.commit(next_offsets).await {
            Ok(()) => Ok(true),
            Err(reason) if reason.is_retryable() => {
                warn!(partition, %reason, "commit later");
                Ok(false)
            }
            Err(reason) => Err(self.gone(&reason)),
        }
    }

    /// Returns whether the partition is still ours; false if the store does not say. The next owner finds what was
    /// durable before this, so that offsets may be committed after it.
    async fn is_confirmed(&self) -> Result<bool, Fenced> {
        let epoch = {
            let mut hold = self.hold.lock().await;
            let held = self.held(&mut hold).await?;
            self.fence.check()?;
            if held.is_due() {
                self.renew(held).await?;
                return Ok(true);
            }
            held.epoch
        };
        // Writes go on meanwhile.
        let newest = match self.store.newest_epoch(self.partition).await {
            Ok(newest) => newest,
            Err(reason) => {
                let partition = self.partition;
                warn!(partition, %reason, "cannot tell whether the partition is ours, commit later");
                return Ok(false);
            }
        };
        if newest == Some(epoch) {
            return Ok(true);
        }
        let mut hold = self.hold.lock().await;
        let held = self.held(&mut hold).await?;
        // Claimed anew since, it is asked about with the next commit.
        let is_ours = held.epoch == epoch;
        if is_ours {
            self.claim_again(held).await?;
        }
        Ok(is_ours)
    }

    async fn held<'a>(&self, hold: &'a mut Option<Hold>) -> Result<&'a mut Hold, Fenced> {
        if hold.is_none() {
            *hold = Some(self.begin().await?);
        }
        Ok(hold.as_mut().expect("it was just claimed"))
    }

    async fn renew(&self, held: &mut Hold) -> Result<(), Fenced> {
        let renew = || self.store.renew(self.partition, held.epoch);
        match read_patiently("epoch", &self.fence, renew).await? {
            Some(epoch) => *held = Hold::begin(epoch),
            None => self.claim_again(held).await?,
        }
        Ok(())
    }

    async fn claim_again(&self, held: &mut Hold) -> Result<(), Fenced> {
        let partition = self.partition;
        info!(
            partition,
            "somebody else has claimed the partition, asking the group"
        );
        *held = self.begin().await?;
        Ok(())
    }

    /// Claims the partition, and makes sure that it is ours.
    async fn begin(&self) -> Result<Hold, Fenced> {
        let claim = || self.store.claim(self.partition);
        let epoch = read_patiently("epoch", &self.fence, claim).await?;
        self.ask_group().await?;
        info!(partition = self.partition, epoch = epoch.get(), "claimed");
        Ok(Hold::begin(epoch))
    }

    /// Asks the group whether the partition is ours, by committing what is committed already.
    async fn ask_group(&self) -> Result<(), Fenced> {
        let mut pauses = retry_pauses();
        loop {
            self.fence.check()?;
            match self.commit_again().await {
                // The group may have moved on to a generation in which the partition is not ours; then the fence is up.
                Ok(()) => return self.fence.check(),
                Err(reason) if reason.is_retryable() => pauses.pause().await,
                Err(reason) => return Err(self.gone(&reason)),
            }
        }
    }

    async fn commit_again(&self) -> Result<(), LogError> {
        let _alone = self.committing.lock().await;
        let mut committed = Vec::new();
        for topic in SHARD_TOPICS {
            let partition = self.partition;
            let of = TopicPartition { topic, partition };
            if let Some(next) = self.control.committed(of).await? {
                committed.push((of, next));
            }
        }
        if committed.is_empty() {
            let (topic, partition) = (SHARD_TOPICS[0], self.partition);
            // Reads from the beginning either way.
            committed.push((TopicPartition { topic, partition }, 0));
        }
        self.control.commit(committed).await
    }

    fn gone(&self, reason: &LogError) -> Fenced {
        warn!(partition = self.partition, %reason, "partition is no longer ours");
        self.fence.raise();
        Fenced
    }
}
