//! The worker pool: takes optimize requests, solves them, and produces schedules. Offsets are committed once the
//! schedules are durable, so a killed worker's requests are solved again under the same ids.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use connectors::log::{
    Consumer, ConsumerControl, LogEvent, Record, Start, Subscription, TopicPartition,
};
use futures::{StreamExt, stream};
use household::effect::OptimizeRequest;
use household::schedule::{Metrics as Figures, Plan, Schedule, Status};
use schemas::dead_letter::Reason;
use schemas::topic::Topic;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::OptimizerConfig;
use crate::effects::{self, Fence, Fenced, Outgoing};
use crate::parts::Parts;
use crate::shard::dead_letter;

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
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        };
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
    workers: usize,
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
                    if self.answer(from, &records).await.is_err() {
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

    async fn answer(&self, from: TopicPartition, records: &[Record]) -> Result<(), Fenced> {
        let Some(last) = records.last() else {
            return Ok(());
        };
        let queued = &self.parts.metrics.requests_queued;
        queued.add(i64::try_from(records.len()).expect("a batch's length fits"));
        let answers: Vec<Option<Outgoing>> = stream::iter(0..records.len())
            .map(|index| async move {
                let answer = self.answer_one(from, &records[index]).await;
                queued.dec();
                answer
            })
            .buffered(self.workers)
            .collect()
            .await;
        let outgoing = answers.into_iter().flatten().collect();
        effects::produce_patiently(&self.parts, outgoing, &self.fence).await?;
        match self.control.commit(vec![(from, last.offset + 1)]).await {
            Ok(()) => {}
            Err(reason) => warn!(partition = from.partition, %reason, "commit later"),
        }
        Ok(())
    }

    async fn answer_one(&self, from: TopicPartition, record: &Record) -> Option<Outgoing> {
        if record.value.is_empty() {
            return None;
        }
        let request: OptimizeRequest = match self.parts.codec.decode(&record.value) {
            Ok(request) => request,
            Err(why) => {
                let reason = Reason::Undecodable;
                return dead_letter(&self.parts, from, record, reason, why.to_string());
            }
        };
        let household_id = request.household_id;
        let solved = tokio::task::spawn_blocking(move || answer(request)).await;
        match solved {
            Ok(schedule) => {
                self.count(&schedule);
                effects::outgoing(&self.parts, household_id, &schedule)
            }
            Err(panicked) => {
                error!(household = %household_id, %panicked, "solver failed");
                let detail = "the solver failed on this request".to_owned();
                dead_letter(&self.parts, from, record, Reason::Poison, detail)
            }
        }
    }

    fn count(&self, schedule: &Schedule) {
        let metrics = &self.parts.metrics;
        let (status, method) = (schedule.plan.status.as_str(), schedule.plan.solver.as_str());
        metrics
            .schedules_total
            .with_label_values(&[status, method])
            .inc();
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a solve")]
        let seconds = schedule.solve_us as f64 / 1e6;
        metrics
            .solve_seconds
            .with_label_values(&[method])
            .observe(seconds);
        metrics.solve_cpu_seconds_total.inc_by(seconds);
    }
}

/// Solves one request. A problem that breaks its own limits is answered too, as infeasible, so that nobody waits.
fn answer(request: OptimizeRequest) -> Schedule {
    let begun = Instant::now();
    let solved = scheduler::solve(&request.problem);
    let solve_us = i64::try_from(begun.elapsed().as_micros()).expect("a solve's time fits");
    let plan = solved.unwrap_or_else(|reason| {
        warn!(request = request.request_id, %reason, "problem refused");
        refused()
    });
    Schedule {
        schedule_id: request.request_id.clone(),
        request_id: request.request_id,
        household_id: request.household_id,
        requested_ms: request.requested_ms,
        start_ms: request.problem.start_ms,
        slot_minutes: request.problem.slot_minutes,
        adopt: request.adopt,
        solve_us,
        plan,
    }
}

fn refused() -> Plan {
    let nothing = Figures {
        cost: 0.0,
        grid_import_kwh: 0.0,
        grid_export_kwh: 0.0,
        autarky: 0.0,
        self_consumption: 0.0,
    };
    Plan {
        status: Status::Infeasible,
        relaxed: Vec::new(),
        objective: 0.0,
        solver: "none".to_owned(),
        gap: 0.0,
        metrics: nothing,
        baseline: nothing,
        slots: Vec::new(),
    }
}
