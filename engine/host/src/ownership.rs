//! The claim on a partition, and the order of what its owner writes. A claim comes before anything is read from the store:
//! what an owner before wrote and committed is then there, and what it writes later loses.

use std::sync::Arc;
use std::time::Duration;

use platform::order::{Epoch, ORDERS_PER_EPOCH, Order};
use platform::store::Store;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::deliver::read_patiently;
use crate::fence::{Fence, Fenced};

/// An epoch is claimed again so often, so that orders keep near the store's time.
const RENEW_AFTER: Duration = Duration::from_secs(3600);
/// One that has so few orders left is claimed again too, long before writes would wait for it.
const ORDERS_LEFT_MIN: i64 = ORDERS_PER_EPOCH / 2;

/// A partition's owner, as the store sees it; a cheap handle.
#[derive(Clone)]
pub(crate) struct Ownership {
    store: Arc<dyn Store>,
    partition: i32,
    fence: Fence,
    hold: Arc<Mutex<Option<Hold>>>,
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
    pub(crate) fn new(store: Arc<dyn Store>, partition: i32, fence: Fence) -> Self {
        Self {
            store,
            partition,
            fence,
            hold: Arc::default(),
        }
    }

    /// Claims the partition, unless that has been done.
    pub(crate) async fn claim(&self) -> Result<(), Fenced> {
        let mut hold = self.hold.lock().await;
        self.held(&mut hold).await.map(drop)
    }

    /// The order of the next write; higher each time.
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

    /// Whether the partition is still ours; false where the store does not say. What was durable before is what the next
    /// owner finds, so offsets may be committed after this and not before.
    pub(crate) async fn is_confirmed(&self) -> Result<bool, Fenced> {
        let mut hold = self.hold.lock().await;
        let held = self.held(&mut hold).await?;
        self.fence.check()?;
        if held.is_due() {
            self.renew(held).await?;
            return Ok(true);
        }
        match self.store.newest_epoch(self.partition).await {
            Ok(newest) if newest == Some(held.epoch) => Ok(true),
            Ok(_) => Err(self.lost()),
            Err(reason) => {
                let partition = self.partition;
                warn!(partition, %reason, "cannot tell whether the partition is ours, commit later");
                Ok(false)
            }
        }
    }

    async fn held<'a>(&self, hold: &'a mut Option<Hold>) -> Result<&'a mut Hold, Fenced> {
        if hold.is_none() {
            let claim = || self.store.claim(self.partition);
            let epoch = read_patiently("epoch", &self.fence, claim).await?;
            info!(partition = self.partition, epoch = epoch.get(), "claimed");
            *hold = Some(Hold::begin(epoch));
        }
        Ok(hold.as_mut().expect("it was just claimed"))
    }

    async fn renew(&self, held: &mut Hold) -> Result<(), Fenced> {
        let renew = || self.store.renew(self.partition, held.epoch);
        let renewed = read_patiently("epoch", &self.fence, renew).await?;
        *held = Hold::begin(renewed.ok_or_else(|| self.lost())?);
        Ok(())
    }

    fn lost(&self) -> Fenced {
        warn!(
            partition = self.partition,
            "another owner has claimed the partition"
        );
        self.fence.raise();
        Fenced
    }
}
