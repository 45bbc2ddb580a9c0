//! The worker pool: takes optimize requests, has workers solve them, and produces schedules as they are solved. The
//! offset that is committed follows the oldest request without a durable answer, so a killed pool's requests are solved
//! again under the same ids.
//!
//! The pool never waits for a worker: requests beyond a limit pause their partition in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::{BoxFuture, Shared};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use platform::log::{
    Consumer, ConsumerControl, LogError, LogEvent, Record, Start, Subscription, TopicPartition,
};
use platform::role_context::RoleContext;
use schemas::topic::Topic;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::OptimizerConfig;
use crate::deliver::produce_patiently;
use crate::fence::{Fence, Fenced};
use crate::outgoing::Outgoing;
use crate::progress::Progress;
use crate::superseded::superseded;
use crate::workers::{Workers, WorkersError};

/// Longest wait for the requests in hand when the pool closes.
const CLOSE_MAX: Duration = Duration::from_secs(20);
/// Pause after a commit that failed.
const COMMIT_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Batches of requests taken and not answered; beyond, partitions are paused.
const BATCHES_MAX: usize = 4;

/// Why a pool has ended, if nobody told it to. Only a restart mends it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OptimizerError {
    #[error("the log ended the optimizer's subscription")]
    SubscriptionEnded,
    #[error(transparent)]
    Workers(#[from] WorkersError),
    #[error("the log is closed")]
    LogClosed,
    #[error("the pool panicked: {0}")]
    Panicked(String),
}

/// A running pool.
pub struct Optimizer {
    stop: watch::Sender<bool>,
    fence: Fence,
    pool: Shared<BoxFuture<'static, Result<(), OptimizerError>>>,
}

impl std::fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Optimizer").finish_non_exhaustive()
    }
}

impl Optimizer {
    /// Joins the group and starts.
    pub async fn start(context: RoleContext, config: &OptimizerConfig) -> Result<Self> {
        let consumer = context
            .log
            .subscribe(Subscription {
                group: Some(config.group.clone()),
                member: (!config.member.is_empty()).then(|| config.member.clone()),
                topics: vec![Topic::OptimizeRequests],
                start: Start::Earliest,
                batch_max: config.batch_records_max,
            })
            .await
            .context("join the optimizer's group")?;
        Self::over(context, consumer, config)
    }

    /// Starts on a subscription that is there.
    pub fn over(
        context: RoleContext,
        consumer: Consumer,
        config: &OptimizerConfig,
    ) -> Result<Self> {
        let workers = Workers::start(&context, config.workers)?;
        let fence = Fence::open();
        let (stop, stopped) = watch::channel(false);
        let pool = Pool {
            context,
            control: Arc::clone(&consumer.control),
            workers,
            fence: fence.clone(),
            open_max: BATCHES_MAX * config.batch_records_max,
            partitions: BTreeMap::new(),
            paused: BTreeSet::new(),
            answering: FuturesUnordered::new(),
            committing: FuturesUnordered::new(),
        };
        let pool = tokio::spawn(pool.run(consumer, stopped));
        Ok(Self {
            stop,
            fence,
            pool: pool_ended(pool).boxed().shared(),
        })
    }

    /// Finishes the requests in hand, commits, and leaves the group.
    pub async fn close(self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(CLOSE_MAX, self.pool.clone())
            .await
            .is_err()
        {
            self.fence.raise();
        }
        // Behind the fence it ends by itself.
        if let Err(reason) = self.pool.await {
            error!(%reason, "the optimizer failed");
        }
    }

    /// Resolves when the pool has ended; with an error after a failure that only a restart mends.
    pub fn ended(&self) -> impl Future<Output = Result<(), OptimizerError>> + Send + use<> {
        self.pool.clone()
    }
}

async fn pool_ended(pool: JoinHandle<Result<(), OptimizerError>>) -> Result<(), OptimizerError> {
    match pool.await {
        Ok(ended) => ended,
        Err(panicked) => Err(OptimizerError::Panicked(panicked.to_string())),
    }
}

/// Offsets that were to be committed, and what came of it.
type Committed = (Vec<(TopicPartition, i64)>, Result<(), LogError>);

struct Pool {
    context: RoleContext,
    control: Arc<dyn ConsumerControl>,
    workers: Workers,
    fence: Fence,
    /// Most requests taken and not answered.
    open_max: usize,
    partitions: BTreeMap<TopicPartition, Progress>,
    paused: BTreeSet<TopicPartition>,
    answering: FuturesUnordered<BoxFuture<'static, Result<Durable, OptimizerError>>>,
    /// One at a time; what becomes durable meanwhile is committed with the next.
    committing: FuturesUnordered<BoxFuture<'static, Committed>>,
}

/// A request whose answer is durable.
struct Durable {
    from: TopicPartition,
    offset: i64,
}

impl Pool {
    async fn run(
        mut self,
        mut consumer: Consumer,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), OptimizerError> {
        loop {
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                Some(committed) = self.committing.next() => self.note_commit(committed),
                Some(durable) = self.answering.next() => self.answered(&durable?),
                event = consumer.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return Err(OptimizerError::SubscriptionEnded),
                },
            }
            if self.committing.is_empty() {
                self.commit();
            }
        }
        // Behind the fence the rest is left to whoever comes next.
        while let Some(Ok(durable)) = self.answering.next().await {
            self.answered(&durable);
        }
        while let Some(committed) = self.committing.next().await {
            self.note_commit(committed);
        }
        self.commit();
        while self.committing.next().await.is_some() {}
        Ok(())
    }

    fn take(&mut self, event: LogEvent) {
        match event {
            LogEvent::Records { from, records } => {
                self.solve(from, records);
                if self.open_count() >= self.open_max && self.paused.insert(from) {
                    self.control.pause(from);
                }
            }
            LogEvent::Assigned(partitions) => {
                info!(partitions_count = partitions.len(), "assigned");
            }
            LogEvent::Revoked { partitions, done } => {
                // What is not committed is solved again by the next owner; an answer that still comes from here is the
                // same.
                for from in partitions {
                    self.partitions.remove(&from);
                    self.paused.remove(&from);
                }
                let _ = done.send(());
            }
            LogEvent::CaughtUp(_) => {}
        }
    }

    fn open_count(&self) -> usize {
        self.partitions.values().map(Progress::open_count).sum()
    }

    /// Hands requests to the workers.
    fn solve(&mut self, from: TopicPartition, records: Vec<Record>) {
        let progress = self.partitions.entry(from).or_default();
        for record in &records {
            progress.begin(record.offset);
        }
        let (newest, answers) = superseded(&self.context, records);
        let queued = &self.context.metrics.requests_queued;
        queued.add(i64::try_from(newest.len()).expect("a batch's length fits"));
        for (offset, answer) in answers {
            let durable = make_durable(
                self.context.clone(),
                self.fence.clone(),
                Durable { from, offset },
                answer.into_iter().collect(),
            );
            self.answering.push(durable.boxed());
        }
        for record in newest {
            let durable = Durable {
                from,
                offset: record.offset,
            };
            let (context, fence) = (self.context.clone(), self.fence.clone());
            let solved = self.workers.solve(from, record);
            let answering =
                async move { make_durable(context, fence, durable, solved.await?).await };
            self.answering.push(answering.boxed());
        }
    }

    fn answered(&mut self, durable: &Durable) {
        if let Some(progress) = self.partitions.get_mut(&durable.from) {
            progress.end(durable.offset);
        }
        if self.open_count() < self.open_max {
            for from in std::mem::take(&mut self.paused) {
                self.control.resume(from);
            }
        }
    }

    /// Begins to commit what is durable with all before it.
    fn commit(&mut self) {
        let partitions = self.partitions.iter();
        let offsets: Vec<_> = partitions
            .filter_map(|(from, progress)| Some((*from, progress.to_commit()?)))
            .collect();
        if offsets.is_empty() {
            return;
        }
        let control = Arc::clone(&self.control);
        let committing = async move {
            let committed = control.commit(offsets.clone()).await;
            if committed.is_err() {
                tokio::time::sleep(COMMIT_AGAIN_AFTER).await;
            }
            (offsets, committed)
        };
        self.committing.push(committing.boxed());
    }

    fn note_commit(&mut self, (offsets, committed): Committed) {
        match committed {
            Ok(()) => {
                for (from, next_offset) in offsets {
                    if let Some(progress) = self.partitions.get_mut(&from) {
                        progress.committed(next_offset);
                    }
                }
            }
            // Until it is committed with the next ones, a restart solves a little more.
            Err(reason) => warn!(%reason, "commit later"),
        }
    }
}

async fn make_durable(
    context: RoleContext,
    fence: Fence,
    durable: Durable,
    outgoing: Vec<Outgoing>,
) -> Result<Durable, OptimizerError> {
    produce_patiently(&context, outgoing, &fence)
        .await
        .map_err(|Fenced| OptimizerError::LogClosed)?;
    Ok(durable)
}
