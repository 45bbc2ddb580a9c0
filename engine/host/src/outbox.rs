//! What a shard has ordered and is not durable yet. One task carries it out in the order in which it came, while the
//! shard goes on: rows, then records, and only behind them the snapshots that already hold what led to both.

use platform::store::Row;
use tokio::sync::{mpsc, watch};

use crate::effects::{self, Fence, Fenced, Outgoing};
use platform::parts::Parts;

/// Works that wait; a shard that is further ahead waits itself.
const WORKS_MAX: usize = 8;
/// Rows and records carried out together: works are put together up to about this.
const TOGETHER_MAX: usize = 4_000;

/// What must become durable, in this order.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Snapshots as they were read, written again before their homes order anything.
    pub(crate) restored: Vec<Row>,
    pub(crate) rows: Vec<Row>,
    pub(crate) outgoing: Vec<Outgoing>,
    /// States that have seen everything above, and whatever came before.
    pub(crate) snapshots: Vec<Row>,
    /// When the log took the readings that this is of, wall clock.
    pub(crate) readings_ms: Vec<i64>,
}

impl Work {
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

/// The shard's end.
#[derive(Debug)]
pub(crate) struct Outbox {
    works: mpsc::Sender<(u64, Work)>,
    durable: watch::Receiver<u64>,
    sent: u64,
}

impl Outbox {
    /// Starts the task. It ends with this, when everything sent is durable, or behind the fence.
    pub(crate) fn open(parts: Parts, fence: Fence) -> Self {
        let (works, waiting) = mpsc::channel(WORKS_MAX);
        let (done, durable) = watch::channel(0);
        let writer = Writer {
            parts,
            fence,
            waiting,
            done,
        };
        tokio::spawn(writer.run());
        Self {
            works,
            durable,
            sent: 0,
        }
    }

    /// Hands `work` over; waits while too much waits already.
    pub(crate) async fn send(&mut self, work: Work) -> Result<(), Fenced> {
        if work.is_nothing() {
            return Ok(());
        }
        self.sent += 1;
        let sent = self.works.send((self.sent, work)).await;
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
    waiting: mpsc::Receiver<(u64, Work)>,
    done: watch::Sender<u64>,
}

impl Writer {
    async fn run(mut self) {
        while let Some((mut number, mut work)) = self.waiting.recv().await {
            while work.size() < TOGETHER_MAX
                && let Ok((next_number, next)) = self.waiting.try_recv()
            {
                number = next_number;
                work.append(next);
            }
            if self.carry_out(work).await.is_err() {
                return;
            }
            self.done.send_replace(number);
        }
    }

    async fn carry_out(&self, work: Work) -> Result<(), Fenced> {
        let (parts, fence) = (&self.parts, &self.fence);
        effects::write_patiently(parts, work.restored, fence).await?;
        effects::write_patiently(parts, work.rows, fence).await?;
        effects::produce_patiently(parts, work.outgoing, fence).await?;
        effects::write_patiently(parts, work.snapshots, fence).await?;
        parts.metrics.observe_stored(&work.readings_ms);
        Ok(())
    }
}
