//! What homes want done and is not durable yet. One task makes it durable in the order in which it came, while the
//! partition goes on with the next records.

use platform::store::Row;
use tokio::sync::{mpsc, watch};

use crate::deliver::{produce_patiently, write_patiently};
use crate::fence::{Fence, Fenced};
use crate::outgoing::Outgoing;
use platform::parts::Parts;

/// Deliveries that wait; a partition that is further ahead waits itself.
const DELIVERIES_MAX: usize = 8;
/// Rows and records delivered together: deliveries are put together up to about this.
const TOGETHER_MAX: usize = 4_000;

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
    deliveries: mpsc::Sender<(u64, Delivery)>,
    durable: watch::Receiver<u64>,
    sent: u64,
}

impl Outbox {
    /// Starts the task. It ends with this, when everything sent is durable, or behind the fence.
    pub(crate) fn open(parts: Parts, fence: Fence) -> Self {
        let (deliveries, waiting) = mpsc::channel(DELIVERIES_MAX);
        let (done, durable) = watch::channel(0);
        let writer = Writer {
            parts,
            fence,
            waiting,
            done,
        };
        tokio::spawn(writer.run());
        Self {
            deliveries,
            durable,
            sent: 0,
        }
    }

    /// Hands `delivery` over; waits while too much waits already.
    pub(crate) async fn send(&mut self, delivery: Delivery) -> Result<(), Fenced> {
        if delivery.is_nothing() {
            return Ok(());
        }
        self.sent += 1;
        let sent = self.deliveries.send((self.sent, delivery)).await;
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

struct Writer {
    parts: Parts,
    fence: Fence,
    waiting: mpsc::Receiver<(u64, Delivery)>,
    done: watch::Sender<u64>,
}

impl Writer {
    async fn run(mut self) {
        while let Some((mut number, mut delivery)) = self.waiting.recv().await {
            while delivery.size() < TOGETHER_MAX
                && let Ok((next_number, next)) = self.waiting.try_recv()
            {
                number = next_number;
                delivery.append(next);
            }
            if self.deliver(delivery).await.is_err() {
                return;
            }
            self.done.send_replace(number);
        }
    }

    /// Rows come before records, so that whoever reads a record finds its rows. Snapshots come last: one that is
    /// durable says that all before it is.
    async fn deliver(&self, delivery: Delivery) -> Result<(), Fenced> {
        let (parts, fence) = (&self.parts, &self.fence);
        write_patiently(parts, delivery.restored, fence).await?;
        write_patiently(parts, delivery.rows, fence).await?;
        produce_patiently(parts, delivery.outgoing, fence).await?;
        write_patiently(parts, delivery.snapshots, fence).await?;
        parts.metrics.observe_stored(&delivery.readings_ms);
        Ok(())
    }
}
