//! Who owns a partition: one life after the other, each ended by a crash, a fence, or a clean leave. The owner takes
//! records and ticks in turn, in an order that the seed decides, as the engine's shard does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host::fence::{Fence, Fenced};
use host::lag::LagBoard;
use host::partition::Partition;
use host::setup::Setup;
use host::tariffs;
use platform::clock::Clock;
use platform::log::TopicPartition;
use platform::metrics::Metrics;
use platform::role_context::RoleContext;
use schemas::codec::Codec;
use schemas::snapshot::SHARD_TOPICS;
use schemas::topic::Topic;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::draws::Draws;
use super::faults::Fault;
use super::poison;
use super::sim_log::{SimControl, SimLog, end_of, records};
use super::sim_store::SimStore;
use super::world::{Life, World};

/// As the engine waits.
const LEAVE_MAX: Duration = Duration::from_secs(20);
const TARIFFS_MAX: Duration = Duration::from_secs(30);

/// What the world does to the owner of a partition.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// The process dies at its n-th call from now.
    Crash(u64),
    /// The partition goes to another owner while this one is in the midst of something.
    Fence,
    /// The partition goes to another owner in peace.
    Leave,
    /// It is over.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Died,
    Fenced,
    Left,
}

/// Sees to it that a partition has an owner.
pub async fn supervise(
    world: Arc<World>,
    partition: i32,
    metrics: Metrics,
    mut orders: mpsc::Receiver<Order>,
) {
    loop {
        let life = Life::begin(&world, partition);
        let fence = Fence::open();
        let (leave, leaving) = watch::channel(None);
        let owner = Owner::new(&life, partition, &metrics);
        let mut owner = tokio::task::spawn_local(owner.own(fence.clone(), leaving));
        loop {
            let order = tokio::select! {
                biased;
                end = &mut owner => {
                    if let Err(failed) = end {
                        world.violation(format!("partition {partition} failed: {failed}"));
                        return;
                    }
                    break;
                }
                order = orders.recv() => order.expect("it is told when it is over"),
            };
            match order {
                Order::Crash(calls) => {
                    life.end_after(calls);
                    continue;
                }
                Order::Fence => {
                    world.count(Fault::FenceInTheMidst);
                    fence.raise();
                }
                Order::Leave | Order::Finish => {
                    world.count(Fault::Leave);
                    let save_max = match order {
                        Order::Finish => Duration::MAX,
                        Order::Crash(_) | Order::Fence | Order::Leave => {
                            Duration::from_millis(world.draw() % 100)
                        }
                    };
                    leave.send_replace(Some(save_max));
                    let left = tokio::time::timeout(LEAVE_MAX, &mut owner).await;
                    fence.raise();
                    if left.is_err() {
                        world.count(Fault::LeaveFenced);
                    }
                    if matches!(order, Order::Finish) {
                        if !matches!(left, Ok(Ok(End::Left))) {
                            world.violation(format!(
                                "partition {partition} did not leave: {left:?}"
                            ));
                        }
                        return;
                    }
                }
            }
            break;
        }
        let pause_ms = world.draw() % 3_000;
        if pause_ms > 1_000 {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

struct Owner {
    life: Arc<Life>,
    number: i32,
    draws: Draws,
    context: RoleContext,
    /// Next record to hand over, by topic.
    next: BTreeMap<Topic, i64>,
    tick_at: Instant,
    /// A topic of which nothing comes for a while.
    stalled: Option<(Topic, Instant)>,
}

impl Owner {
    fn new(life: &Arc<Life>, number: i32, metrics: &Metrics) -> Self {
        let world = &life.world;
        let mut draws = Draws::new(world.draw());
        let mut stalled = None;
        if !world.is_calm() && draws.permille(250) {
            world.count(Fault::TopicStalled);
            let until = Instant::now() + Duration::from_millis(draws.next() % 60_000);
            stalled = Some((draws.one_of(&SHARD_TOPICS), until));
        }
        let context = RoleContext {
            // Of the time of its homes: prices of long ago are forgotten.
            clock: Clock::simulated(world.scenario.begins_ms, 1.0),
            metrics: metrics.clone(),
            codec: Codec::single_object(),
            log: Arc::new(SimLog(Arc::clone(life))),
            store: Arc::new(SimStore(Arc::clone(life))),
        };
        let state = world.state();
        let committed = SHARD_TOPICS.map(|topic| {
            let at = TopicPartition {
                topic,
                partition: number,
            };
            (topic, state.committed.get(&at).copied().unwrap_or(0))
        });
        drop(state);
        Self {
            life: Arc::clone(life),
            number,
            draws,
            context,
            next: committed.into(),
            tick_at: Instant::now(),
            stalled,
        }
    }

    async fn own(mut self, fence: Fence, leaving: watch::Receiver<Option<Duration>>) -> End {
        let life = Arc::clone(&self.life);
        tokio::select! {
            biased;
            () = life.ended() => End::Died,
            end = self.work(fence, leaving) => end,
        }
    }

    async fn work(&mut self, fence: Fence, leaving: watch::Receiver<Option<Duration>>) -> End {
        let (tariffs, _) = tariffs::follow(self.context.clone(), TARIFFS_MAX)
            .await
            .expect("the log takes subscriptions");
        let hosting = self.life.world.scenario.hosting;
        let setup = Setup {
            context: self.context.clone(),
            settings: self.life.world.scenario.settings,
            tariffs,
            control: Arc::new(SimControl {
                life: Arc::clone(&self.life),
                partition: self.number,
            }),
            lag: LagBoard::new(self.context.metrics.clone()),
            checkpoint_every: hosting.checkpoint_every,
            checkpoint_records_max: hosting.checkpoint_records_max,
            passivate_after: hosting.passivate_after,
            live_homes_max: hosting.live_homes_max,
            store_slots: hosting.store_slots,
            publish_slots: hosting.publish_slots,
            handle: poison::handle,
        };
        let mut partition = Partition::new(setup, self.number, fence);
        loop {
            let save_max = *leaving.borrow();
            let done = match save_max {
                Some(save_max) => partition.leave(save_max).await,
                None => self.step(&mut partition).await,
            };
            if done.is_err() {
                partition.forget();
                return End::Fenced;
            }
            if save_max.is_some() {
                partition.forget();
                return End::Left;
            }
        }
    }

    /// Some records, or a tick, or nothing for a moment.
    async fn step(&mut self, partition: &mut Partition) -> Result<(), Fenced> {
        let hosting = self.life.world.scenario.hosting;
        if Instant::now() >= self.tick_at {
            let now_ms = self.life.world.clock_ms();
            partition.tick(now_ms).await?;
            self.tick_at = Instant::now() + hosting.tick_every;
            return Ok(());
        }
        let Some(topic) = self.next_topic() else {
            let pause = self.tick_at.duration_since(Instant::now());
            let pause = pause.min(Duration::from_millis(500));
            tokio::time::sleep(pause).await;
            return Ok(());
        };
        let count_max = 1 + self.draws.index(hosting.batch_max);
        let at = self.at(topic);
        let next = self.next.entry(topic).or_default();
        let batch = records(&self.life.world.state(), at, *next, count_max);
        *next += i64::try_from(batch.len()).expect("a batch is small");
        self.life.world.state().handed_count += batch.len();
        partition.take_in(topic, &batch).await
    }

    fn next_topic(&mut self) -> Option<Topic> {
        let state = self.life.world.state();
        let stalled = self
            .stalled
            .filter(|(_, until)| !state.faults.calm && Instant::now() < *until);
        let waiting = SHARD_TOPICS.into_iter().filter(|topic| {
            stalled.is_none_or(|(stalled, _)| stalled != *topic)
                && self.next[topic] < end_of(&state, self.at(*topic))
        });
        let waiting: Vec<Topic> = waiting.collect();
        drop(state);
        (!waiting.is_empty()).then(|| self.draws.one_of(&waiting))
    }

    const fn at(&self, topic: Topic) -> TopicPartition {
        TopicPartition {
            topic,
            partition: self.number,
        }
    }
}
