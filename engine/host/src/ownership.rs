//! The order of what an owner of a partition writes. It is claimed from the store, so an owner that sleeps past its
//! session and wakes again can write nothing over what the next owner wrote.
//!
//! Store and group see to it together. Whoever claims asks the group before it writes: a sleeper that wakes may claim
//! after the next owner did, but the group tells it that the partition has gone, and it writes nothing. The next owner
//! then finds its claim superseded, asks the group, and claims again.

use std::sync::Arc;
use std::time::Duration;

use platform::log::{ConsumerControl, LogError, TopicPartition};
use platform::parts::Parts;
use platform::retry::Backoff;
use platform::store::{Epoch, StoreError, WriteOrder};
use schemas::snapshot::SHARD_TOPICS;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::fence::{Fence, Fenced};

/// An owner claims again after so long: its orders stay near the time, and one that slept learns that it was followed
/// before it says anything in the log.
const CLAIM_EVERY: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What an owner may order its writes by.
pub(crate) struct Ownership {
    parts: Parts,
    control: Arc<dyn ConsumerControl>,
    committing: Arc<Mutex<()>>,
    partition: i32,
    fence: Fence,
    /// `None` before the first claim.
    held: Option<Epoch>,
    claimed: Instant,
}

impl Ownership {
    /// Of an owner that has written nothing yet.
    pub(crate) fn new(
        parts: Parts,
        control: Arc<dyn ConsumerControl>,
        committing: Arc<Mutex<()>>,
        partition: i32,
        fence: Fence,
    ) -> Self {
        Self {
            parts,
            control,
            committing,
            partition,
            fence,
            held: None,
            claimed: Instant::now(),
        }
    }

    /// The order of the next write.
    pub(crate) async fn draw(&mut self) -> Result<WriteOrder, Fenced> {
        let mut backoff = self.backoff();
        loop {
            self.confirm().await?;
            if let Some(order) = self.held.as_mut().and_then(Epoch::draw) {
                return Ok(order);
            }
            self.claim().await?;
            if let Some(order) = self.held.as_mut().and_then(Epoch::draw) {
                return Ok(order);
            }
            backoff.pause().await;
        }
    }

    /// Gives up where another owner has followed, as far as the store can tell: it was asked a moment ago, or is asked now.
    pub(crate) async fn confirm(&mut self) -> Result<(), Fenced> {
        self.fence.check()?;
        if self.held.is_some() && self.claimed.elapsed() >= CLAIM_EVERY {
            // While the store does not answer, what is left of the stretch is still ours: nobody else was given it.
            self.claim().await?;
        }
        Ok(())
    }

    /// Somebody else has claimed the partition: claims it again, unless the group says that it has gone.
    pub(crate) async fn claim_again(&mut self) -> Result<(), Fenced> {
        self.held = None;
        self.claim().await
    }

    /// Asks the store once.
    async fn claim(&mut self) -> Result<(), Fenced> {
        loop {
            let asked = Instant::now();
            match self.parts.store.claim(self.partition, self.held).await {
                Ok(epoch) => {
                    if self.held.is_none() {
                        self.ask_group().await?;
                    }
                    self.held = Some(epoch);
                    self.claimed = asked;
                    return Ok(());
                }
                Err(StoreError::Superseded { partition }) => {
                    info!(
                        partition,
                        "somebody else has claimed the partition, asking the group"
                    );
                    self.held = None;
                }
                Err(reason) => {
                    warn!(partition = self.partition, %reason, "cannot claim the partition, trying again");
                    return Ok(());
                }
            }
        }
    }

    /// Commits what is committed already: the group takes it from the owner alone.
    async fn ask_group(&self) -> Result<(), Fenced> {
        let mut backoff = self.backoff();
        loop {
            self.fence.check()?;
            match self.commit_again().await {
                Ok(()) => return Ok(()),
                Err(reason) if reason.is_retryable() => backoff.pause().await,
                Err(reason) => {
                    warn!(partition = self.partition, %reason, "partition is no longer ours");
                    self.fence.raise();
                    return Err(Fenced);
                }
            }
        }
    }

    async fn commit_again(&self) -> Result<(), LogError> {
        let _one = self.committing.lock().await;
        let mut offsets = Vec::new();
        for topic in SHARD_TOPICS {
            let partition = self.partition;
            let of = TopicPartition { topic, partition };
            if let Some(next) = self.control.committed(of).await? {
                offsets.push((of, next));
            } else if topic == SHARD_TOPICS[0] {
                // Nothing is committed: the beginning says the same.
                offsets.push((of, 0));
            }
        }
        self.control.commit(offsets).await
    }

    /// Pauses that differ between partitions, and are the same in every run.
    fn backoff(&self) -> Backoff {
        Backoff::seeded(
            PAUSE_MIN,
            PAUSE_MAX,
            u64::from(self.partition.unsigned_abs()),
        )
    }
}
