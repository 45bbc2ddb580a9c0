//! The engine's consumer: reads the co-partitioned topics and hands each partition to its shard.
//!
//! Partition p of every topic belongs to shard p. A shard that is full stops the reading; the consumer group's
//! heartbeat goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix::dev::SendError;
use actix::{Actor, Addr, Arbiter};
use anyhow::{Context, Result};
use household::household::Household;
use platform::log::{Consumer, LogEvent, Start, Subscription, TopicPartition};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::config::EngineConfig;
use crate::fence::Fence;
use crate::lag::LagBoard;
use crate::setup::Setup;
use crate::shard::{Batch, Leave, Shard, Tick};
use crate::tariffs;
use platform::parts::Parts;
use schemas::snapshot::SHARD_TOPICS;

/// Batches that wait before a shard.
const MAILBOX_MAX: usize = 4;
/// Longest wait for a shard that hands its partition over; below the session timeout of a group.
const LEAVE_MAX: Duration = Duration::from_secs(20);
/// Longest wait for the tariffs at the start.
const TARIFFS_MAX: Duration = Duration::from_secs(30);

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    stop: watch::Sender<bool>,
    router: JoinHandle<()>,
    tariffs: JoinHandle<()>,
}

impl Engine {
    /// Joins the group and starts. Must be called inside an actix system.
    pub async fn start(parts: Parts, config: &EngineConfig) -> Result<Self> {
        let (tariffs, follower) = tariffs::follow(parts.clone(), TARIFFS_MAX)
            .await
            .context("read the tariffs")?;
        let subscription = Subscription {
            group: Some(config.group.clone()),
            member: (!config.member.is_empty()).then(|| config.member.clone()),
            topics: SHARD_TOPICS.to_vec(),
            start: Start::Earliest,
            batch_max: config.batch_records_max,
        };
        // Whoever joins is given partitions that stand still until it works on them.
        if let Err(reason) = parts.store.ping().await {
            warn!(%reason, "the store does not answer yet");
        }
        let consumer = parts
            .log
            .subscribe(subscription)
            .await
            .context("join the engine's group")?;
        let lag = LagBoard::new(parts.metrics.clone());
        let setup = Setup {
            settings: config.settings(),
            tariffs,
            control: consumer.control.clone(),
            lag,
            checkpoint_every: Duration::from_millis(config.checkpoint_ms),
            checkpoint_records_max: config.checkpoint_records_max,
            passivate_after: Duration::from_secs(config.passivate_minutes * 60),
            live_homes_max: config.live_homes_max,
            rows_wait: config.rows_wait,
            store_slots: config.store_slots,
            publish_slots: config.publish_slots,
            handle: Household::handle,
            parts,
        };
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let router = Router {
            setup,
            arbiters: (0..threads).map(|_| Arbiter::new()).collect(),
            hosts: BTreeMap::new(),
            tick_every: Duration::from_millis(config.tick_ms),
        };
        let (stop, stopped) = watch::channel(false);
        let router = tokio::spawn(router.run(consumer, stopped));
        Ok(Self {
            stop,
            router,
            tariffs: follower,
        })
    }

    /// Finishes what is in memory, commits, and leaves the group.
    pub async fn close(self) {
        self.stop.send_replace(true);
        if let Err(reason) = self.router.await {
            error!(%reason, "the engine's consumer failed");
        }
        self.tariffs.abort();
    }

    /// Whether it still works; false after a failure that only a restart mends.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.router.is_finished()
    }
}

struct Host {
    address: Addr<Shard>,
    fence: Fence,
    /// The topics of this partition that are ours.
    owned: BTreeSet<TopicPartition>,
}

struct Router {
    setup: Setup,
    arbiters: Vec<Arbiter>,
    hosts: BTreeMap<i32, Host>,
    tick_every: Duration,
}

impl Router {
    async fn run(mut self, mut consumer: Consumer, mut stopped: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(self.tick_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                _ = ticks.tick() => self.tick(),
                event = consumer.events.recv() => match event {
                    Some(event) => {
                        if self.take(event, &mut stopped).await.is_err() {
                            break;
                        }
                    }
                    None => {
                        error!("the log ended the engine's subscription");
                        break;
                    }
                },
            }
        }
        let partitions: Vec<i32> = self.hosts.keys().copied().collect();
        self.leave(partitions).await;
        drop(consumer);
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }

    async fn take(
        &mut self,
        event: LogEvent,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), ()> {
        match event {
            LogEvent::Assigned(partitions) => {
                info!(partitions_count = partitions.len(), "assigned");
                for from in partitions {
                    self.host(from.partition).owned.insert(from);
                }
            }
            LogEvent::Records { from, records } => {
                let host = self.host(from.partition);
                let (address, fence) = (host.address.clone(), host.fence.clone());
                match address.try_send(Batch {
                    topic: from.topic,
                    records,
                }) {
                    Ok(()) => {}
                    Err(SendError::Full(batch)) => tokio::select! {
                        sent = address.send(batch) => if sent.is_err() {
                            error!(partition = from.partition, "shard is gone");
                        },
                        _ = stopped.changed() => {
                            // The batch in hand is not committed, so the next owner reads it.
                            fence.raise();
                            return Err(());
                        }
                    },
                    Err(SendError::Closed(_)) => {
                        error!(partition = from.partition, "shard is gone");
                    }
                }
            }
            LogEvent::Revoked { partitions, done } => {
                info!(partitions_count = partitions.len(), "revoked");
                // A shard needs all its topics; when one goes, it lets go of all.
                let leaving: BTreeSet<i32> = partitions.iter().map(|from| from.partition).collect();
                self.leave(leaving.into_iter().collect()).await;
                // The consumer may have stopped waiting.
                let _ = done.send(());
            }
            LogEvent::CaughtUp(_) => {}
        }
        Ok(())
    }

    fn host(&mut self, partition: i32) -> &mut Host {
        let (setup, arbiters) = (&self.setup, &self.arbiters);
        self.hosts.entry(partition).or_insert_with(|| {
            let fence = Fence::open();
            let index = usize::try_from(partition).expect("a partition is not negative");
            let arbiter = &arbiters[index % arbiters.len()];
            let (setup, shard_fence) = (setup.clone(), fence.clone());
            let address = Shard::start_in_arbiter(&arbiter.handle(), move |_context| {
                Shard::new(setup, partition, shard_fence, MAILBOX_MAX)
            });
            Host {
                address,
                fence,
                owned: BTreeSet::new(),
            }
        })
    }

    fn tick(&self) {
        let now_ms = self.setup.parts.clock.now_ms();
        for host in self.hosts.values() {
            // A shard that is busy hears the next tick.
            match host.address.try_send(Tick { now_ms }) {
                Ok(()) | Err(SendError::Full(_)) => {}
                Err(SendError::Closed(_)) => warn!("a shard is gone"),
            }
        }
        self.setup.lag.publish();
    }

    async fn leave(&mut self, partitions: Vec<i32>) {
        let leaving = partitions.into_iter().filter_map(|partition| {
            let host = self.hosts.remove(&partition)?;
            Some(async move {
                let left = tokio::time::timeout(LEAVE_MAX, host.address.send(Leave)).await;
                host.fence.raise();
                if left.is_err() {
                    warn!(partition, "shard did not finish in time and is fenced off");
                }
            })
        });
        futures::future::join_all(leaving).await;
    }
}
