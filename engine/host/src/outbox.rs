//! What homes want done and is not durable yet. One task makes it durable in the order in which it came, while the
//! partition goes on with the next records. While the store is slower than the partition, more and more waits, and is
//! written together: a home's rows in one batch, which a store takes many times faster than row by row. Once it has
//! caught up, each delivery is written at once.

use std::sync::Arc;

use platform::store::Row;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::deliver::{produce_patiently, write_patiently};
use crate::fence::{Fence, Fenced};
use crate::outgoing::Outgoing;
use crate::ownership::Ownership;
use platform::parts::Parts;

/// Rows and records that wait or are being delivered; a partition that is further ahead waits itself.
const WAITING_MAX: u32 = 32_768;
/// Deliveries that wait: enough for small ones to come to as many rows.
const DELIVERIES_MAX: usize = 4_096;

/// What must become durable, in this order.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Snapshots as they were read, written again before anything of their homes.
    pub(crate) restored: Vec<Row>,
    pub(crate) rows: Vec<Row>,
    pub(crate) outgoing: Vec<Outgoing>,
    /// States that have seen everything above, and whatever came before.
    pub(crate) snapshots: Vec<Row>,
    /// When the log took the readings that this is of, wall clock.
    pub(crate) readings_ms: Vec<i64>,
}

impl Delivery {
    fn size(&self) -> usize {
        self.restored.len() + self.rows.len() + self.outgoing.len() + self.snapshots.len()
    }

    fn is_nothing(&self) -> bool {
        self.size() == 0 && self.readings_ms.is_empty()
    }

    fn append(&mut self, next: Self) {
        self.restored.extend(next.restored);
        self.rows.extend(next.rows);
        self.outgoing.extend(next.outgoing);
        self.snapshots.extend(next.snapshots);
        self.readings_ms.extend(next.readings_ms);
    }
}

/// The partition's end.
#[derive(Debug)]
pub(crate) struct Outbox {
    deliveries: mpsc::Sender<Waiting>,
    /// A permit for each row and record that may wait.
    room: Arc<Semaphore>,
    durable: watch::Receiver<u64>,
    sent: u64,
}

impl Outbox {
    /// Starts the task. It ends with this, when everything sent is durable, or behind the fence.
    pub(crate) fn open(parts: Parts, ownership: Ownership, fence: Fence) -> Self {
        let (deliveries, waiting) = mpsc::channel(DELIVERIES_MAX);
        let (done, durable) = watch::channel(0);
        let writer = Writer {
            ownership,
            parts,
            fence,
            waiting,
            done,
        };
        tokio::spawn(writer.run());
        Self {
            deliveries,
            room: Arc::new(Semaphore::new(WAITING_MAX as usize)),
            durable,
            sent: 0,
        }
    }

    /// Hands `delivery` over; waits while too much waits already.
    pub(crate) async fn send(&mut self, delivery: Delivery) -> Result<(), Fenced> {
        if delivery.is_nothing() {
            return Ok(());
        }
        let size = u32::try_from(delivery.size()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(size.min(WAITING_MAX));
        // The room closes with the writer, which ends behind the fence.
        let room = tokio::select! {
            room = room => room.map_err(|_| Fenced)?,
            () = self.deliveries.closed() => return Err(Fenced),
        };
        self.sent += 1;
        let waiting = Waiting {
            number: self.sent,
            delivery,
            room,
        };
        let sent = self.deliveries.send(waiting).await;
        sent.map_err(|_| Fenced)
    }

    /// How much has been sent: a place to compare [`Outbox::durable`] with.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Up to where everything that was sent is durable.
    pub(crate) fn durable(&self) -> u64 {
        *self.durable.borrow()
    }

    /// Waits until everything sent is durable.
    pub(crate) async fn settled(&mut self) -> Result<(), Fenced> {
        let sent = self.sent;
        let reached = self.durable.wait_for(|durable| *durable >= sent).await;
        reached.map(drop).map_err(|_| Fenced)
    }
}

/// A delivery that waits, with the room it takes up.
#[derive(Debug)]
struct Waiting {
    number: u64,
    delivery: Delivery,
    room: OwnedSemaphorePermit,
}

struct Writer {
    ownership: Ownership,
    parts: Parts,
    fence: Fence,
    waiting: mpsc::Receiver<Waiting>,
    done: watch::Sender<u64>,
}

impl Writer {
    async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            let mut together = first;
            while let Ok(next) = self.waiting.try_recv() {
                together.number = next.number;
                together.delivery.append(next.delivery);
                together.room.merge(next.room);
            }
            if self.deliver(together.delivery).await.is_err() {
                return;
            }
            drop(together.room);
            self.done.send_replace(together.number);
        }
    }

    /// Rows come before records, so that whoever reads a record finds its rows. Snapshots come last: one that is
    /// durable says that all before it is.
    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Fenced> {
        let (parts, fence) = (&self.parts, &self.fence);
        let owner = &mut self.ownership;
        write_patiently(owner, parts, delivery.restored, fence).await?;
        write_patiently(owner, parts, delivery.rows, fence).await?;
        owner.confirm().await?;
        produce_patiently(parts, delivery.outgoing, fence).await?;
        write_patiently(owner, parts, delivery.snapshots, fence).await?;
        parts.metrics.observe_stored(&delivery.readings_ms);
        Ok(())
    }
}
