//! The worker pool: takes optimize requests in batches, has workers solve them, and produces schedules. Offsets are committed once the
//! schedules are durable, so a killed worker's requests are solved again under the same ids.

use std::sync::Arc;

use anyhow::{Context, Result};
use platform::log::{
    Consumer, ConsumerControl, LogEvent, Record, Start, Subscription, TopicPartition,
};
use schemas::topic::Topic;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::OptimizerConfig;
use crate::deliver::produce_patiently;
use crate::fence::Fence;
use crate::workers::Workers;
use platform::parts::Parts;

/// A running pool.
#[derive(Debug)]
pub struct Optimizer {
    stop: watch::Sender<bool>,
    fence: Fence,
    pool: JoinHandle<()>,
}

impl Optimizer {
    /// Joins the group and starts.
    pub async fn start(parts: Parts, config: &OptimizerConfig) -> Result<Self> {
        let consumer = parts
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
        let workers = Workers::start(&parts, config.workers)?;
        let fence = Fence::open();
        let (stop, stopped) = watch::channel(false);
        let control = Arc::clone(&consumer.control);
        let pool = Pool {
            parts,
            workers,
            fence: fence.clone(),
            control,
        };
        let pool = tokio::spawn(pool.run(consumer, stopped));
        Ok(Self { stop, fence, pool })
    }

    /// Finishes the requests in hand, commits, and leaves the group.
    pub async fn close(self) {
        self.stop.send_replace(true);
        let mut pool = self.pool;
        if tokio::time::timeout(std::time::Duration::from_secs(20), &mut pool)
            .await
            .is_err()
        {
            self.fence.raise();
            // Behind the fence it ends by itself.
            let _ = pool.await;
        }
    }

    /// Whether it still works; false after a failure that only a restart mends.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.pool.is_finished()
    }
}

struct Pool {
    parts: Parts,
    workers: Workers,
    fence: Fence,
    control: Arc<dyn ConsumerControl>,
}

impl Pool {
    async fn run(self, mut consumer: Consumer, mut stopped: watch::Receiver<bool>) {
        loop {
            let event = tokio::select! {
                biased;
                _ = stopped.changed() => break,
                event = consumer.events.recv() => event,
            };
            match event {
                Some(LogEvent::Records { from, records }) => {
                    if let Err(reason) = self.answer(from, records).await {
                        info!(%reason, "the optimizer stops");
                        break;
                    }
                }
                Some(LogEvent::Assigned(partitions)) => {
                    info!(partitions_count = partitions.len(), "assigned");
                }
                // Requests are answered one batch at a time, so nothing of these partitions is under way.
                Some(LogEvent::Revoked { done, .. }) => {
                    let _ = done.send(());
                }
                Some(LogEvent::CaughtUp(_)) => {}
                None => {
                    error!("the log ended the optimizer's subscription");
                    break;
                }
            }
        }
    }

    async fn answer(&self, from: TopicPartition, records: Vec<Record>) -> Result<()> {
        let Some(last) = records.last().map(|record| record.offset) else {
            return Ok(());
        };
        let queued = &self.parts.metrics.requests_queued;
        queued.add(i64::try_from(records.len()).expect("a batch's length fits"));
        let outgoing = self.workers.answer(from, records).await?;
        produce_patiently(&self.parts, outgoing, &self.fence).await?;
        match self.control.commit(vec![(from, last + 1)]).await {
            Ok(()) => {}
            Err(reason) => warn!(partition = from.partition, %reason, "commit later"),
        }
        Ok(())
    }
}
