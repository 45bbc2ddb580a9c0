//! What homes want done and is not durable yet. One task makes it durable, while the partition goes on with the next
//! records.
//!
//! Of each delivery rows come before records, so that whoever reads a record finds its rows; snapshots come last, so that
//! one that is durable says that all before it is. Records are produced, and deliveries end, in the order in which they
//! came. Their rows wait together ([`Backlog`]), and are written as the store takes them.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use platform::store::Row;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::backlog::{Backlog, Receipt, Ticket, Window};
use crate::deliver::{produce_patiently, write_patiently};
use crate::fence::{Fence, Fenced};
use crate::outgoing::Outgoing;
use crate::ownership::Ownership;
use platform::role_context::RoleContext;
use platform::trace::Span;

/// Deliveries that wait to be taken in; a partition that is further ahead waits itself.
const DELIVERIES_MAX: usize = 8;
/// Most deliveries under way.
const UNDER_WAY_MAX: usize = 500;
/// Records produced together, about.
const TOGETHER_MAX: usize = 4_000;

/// What must become durable, in this order.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Snapshots as they were read, written again before anything of their homes.
    pub(crate) restored: Vec<Row>,
    pub(crate) rows: Vec<Row>,
    /// Of traces, until the rows are written.
    pub(crate) writing: Vec<Span>,
    pub(crate) outgoing: Vec<Outgoing>,
    /// States that have seen everything above, and whatever came before.
    pub(crate) snapshots: Vec<Row>,
    /// When the log took the readings that this is of, wall clock.
    pub(crate) readings_ms: Vec<i64>,
    /// Records of the log that this is of.
    pub(crate) records_count: usize,
}

/// When nothing more is taken in, besides what bounds memory. What is under way is read again after a crash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Longest that a delivery may have been under way.
    pub(crate) longest: Duration,
    /// Records of the log in deliveries under way.
    pub(crate) records_max: u64,
}

impl Delivery {
    fn size(&self) -> usize {
        self.restored.len() + self.rows.len() + self.outgoing.len() + self.snapshots.len()
    }

    fn is_nothing(&self) -> bool {
        self.size() == 0 && self.records_count == 0
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
    /// Starts the task. It ends with this, when everything sent is durable, or behind the fence. Nothing more is taken in
    /// while what is under way is beyond `bounds`.
    pub(crate) fn open(
        context: RoleContext,
        ownership: Ownership,
        fence: Fence,
        bounds: Bounds,
    ) -> Self {
        let (deliveries, waiting) = mpsc::channel(DELIVERIES_MAX);
        let (done, durable) = watch::channel(0);
        let writer = Writer {
            context,
            fence,
            ownership,
            bounds,
            records_count: 0,
            waiting: Some(waiting),
            done,
            backlog: Backlog::default(),
            window: Window::new(),
            writes: FuturesUnordered::new(),
            storing: VecDeque::new(),
            producing: VecDeque::new(),
            saving: VecDeque::new(),
            produce: None,
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

/// A delivery on its way.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    since: Instant,
    /// Of its rows; later, of its snapshots.
    ticket: Ticket,
    /// Whether the ticket is of snapshots that are written again. Nothing is taken in meanwhile, and its own rows wait.
    is_restoring: bool,
    rows: Vec<Row>,
    writing: Vec<Span>,
    outgoing: Vec<Outgoing>,
    snapshots: Vec<Row>,
    readings_ms: Vec<i64>,
    records_count: u64,
}

/// A write that is done.
struct Written {
    receipt: Receipt,
    latency: Duration,
}

struct Writer {
    context: RoleContext,
    fence: Fence,
    ownership: Ownership,
    bounds: Bounds,
    /// Records of all deliveries under way.
    records_count: u64,
    /// Gone once the partition's end is.
    waiting: Option<mpsc::Receiver<(u64, Delivery)>>,
    done: watch::Sender<u64>,
    backlog: Backlog,
    window: Window,
    writes: FuturesUnordered<BoxFuture<'static, Result<Written, Fenced>>>,
    /// Deliveries whose rows are not written yet, then those whose records are not produced, then those whose snapshots
    /// are not written; the oldest first.
    storing: VecDeque<UnderWay>,
    producing: VecDeque<UnderWay>,
    saving: VecDeque<UnderWay>,
    /// Records of the first so many of `producing`.
    produce: Option<(usize, BoxFuture<'static, Result<(), Fenced>>)>,
}

impl Writer {
    async fn run(mut self) {
        while let Ok(true) = self.turn().await {}
    }

    /// Starts what can be started and waits for something to happen. False once all is done.
    async fn turn(&mut self) -> Result<bool, Fenced> {
        self.move_on();
        self.start_writes().await?;
        let is_open = self.waiting.is_some();
        if !is_open && self.oldest().is_none() && self.produce.is_none() {
            return Ok(false);
        }
        let takes_in = is_open && self.has_room();
        let waiting = async {
            match self.waiting.as_mut().filter(|_| takes_in) {
                Some(waiting) => waiting.recv().await,
                None => std::future::pending().await,
            }
        };
        let produced = async {
            match self.produce.as_mut() {
                Some((_, produce)) => produce.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(written) = self.writes.next() => self.note_written(&written?),
            outcome = produced => {
                outcome?;
                self.note_produced();
            }
            delivery = waiting => match delivery {
                Some((number, delivery)) => self.take_in(number, delivery),
                None => self.waiting = None,
            },
        }
        Ok(true)
    }

    fn oldest(&self) -> Option<&UnderWay> {
        let stages = [&self.saving, &self.producing, &self.storing];
        stages.into_iter().find_map(VecDeque::front)
    }

    fn has_room(&self) -> bool {
        let count = self.storing.len() + self.producing.len() + self.saving.len();
        let is_blocked = self.storing.back().is_some_and(|last| last.is_restoring);
        let oldest = self.oldest().map(|oldest| oldest.since.elapsed());
        self.backlog.has_room()
            && count < UNDER_WAY_MAX
            && !is_blocked
            && self.records_count < self.bounds.records_max
            && oldest.is_none_or(|age| age < self.bounds.longest)
    }

    fn take_in(&mut self, number: u64, delivery: Delivery) {
        let is_restoring = !delivery.restored.is_empty();
        let (first, then) = if is_restoring {
            (delivery.restored, delivery.rows)
        } else {
            (delivery.rows, Vec::new())
        };
        let records_count = u64::try_from(delivery.records_count).unwrap_or(u64::MAX);
        self.records_count += records_count;
        self.storing.push_back(UnderWay {
            number,
            since: Instant::now(),
            ticket: self.backlog.push(first),
            is_restoring,
            rows: then,
            writing: delivery.writing,
            outgoing: delivery.outgoing,
            snapshots: delivery.snapshots,
            readings_ms: delivery.readings_ms,
            records_count,
        });
    }

    /// Hands deliveries on whose turn has come.
    fn move_on(&mut self) {
        while let Some(first) = self.storing.front_mut()
            && self.backlog.is_written(first.ticket)
        {
            if first.is_restoring {
                first.is_restoring = false;
                first.ticket = self.backlog.push(std::mem::take(&mut first.rows));
                continue;
            }
            let mut stored = self.storing.pop_front().expect("it is there");
            stored.writing.clear();
            self.context.metrics.observe_stored(&stored.readings_ms);
            self.producing.push_back(stored);
        }
        if self.produce.is_none() && !self.producing.is_empty() {
            self.start_producing();
        }
        let mut durable = None;
        while let Some(first) = self.saving.front()
            && self.backlog.is_written(first.ticket)
        {
            self.records_count -= first.records_count;
            durable = self.saving.pop_front();
        }
        if let Some(durable) = durable {
            self.done.send_replace(durable.number);
        }
    }

    fn start_producing(&mut self) {
        let mut outgoing = Vec::new();
        let mut count = 0;
        for delivery in &mut self.producing {
            if outgoing.len() >= TOGETHER_MAX {
                break;
            }
            outgoing.append(&mut delivery.outgoing);
            count += 1;
        }
        if outgoing.is_empty() {
            self.save(count);
            return;
        }
        let (context, fence) = (self.context.clone(), self.fence.clone());
        let produce = async move { produce_patiently(&context, outgoing, &fence).await };
        self.produce = Some((count, produce.boxed()));
    }

    fn note_produced(&mut self) {
        if let Some((count, _)) = self.produce.take() {
            self.save(count);
        }
    }

    /// The records of the first `count` deliveries are durable: their snapshots follow.
    fn save(&mut self, count: usize) {
        for mut delivery in self.producing.drain(..count) {
            delivery.ticket = self.backlog.push(std::mem::take(&mut delivery.snapshots));
            self.saving.push_back(delivery);
        }
    }

    async fn start_writes(&mut self) -> Result<(), Fenced> {
        while self.writes.len() < self.window.limit()
            && let Some(batch) = self.backlog.next(self.window.limit())
        {
            let order = self.ownership.order().await?;
            let (rows, receipt) = batch.split();
            let (context, fence) = (self.context.clone(), self.fence.clone());
            let write = async move {
                let begun = Instant::now();
                write_patiently(&context, order, rows, &fence).await?;
                Ok(Written {
                    receipt,
                    latency: begun.elapsed(),
                })
            };
            self.writes.push(write.boxed());
        }
        Ok(())
    }

    fn note_written(&mut self, written: &Written) {
        let is_waiting = self.backlog.is_waiting();
        self.window.observe(written.latency, is_waiting);
        self.backlog.written(&written.receipt);
    }
}
