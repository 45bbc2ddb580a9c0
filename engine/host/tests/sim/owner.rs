//! Who owns a partition: one life after the other, each ended by a crash, a sleep, a fence, or a clean leave. Each life is
//! an engine of one partition: the router and its shard, fed as a consumer feeds them, with records of topics in an order
//! that the seed decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use host::lag::LagBoard;
use host::router::{Router, RouterError};
use host::setup::Setup;
use host::tariffs;
use platform::clock::Clock;
use platform::log::{Consumer, ConsumerControl, LogEvent, TopicPartition};
use platform::metrics::Metrics;
use platform::role_context::RoleContext;
use platform::trace::Tracer;
use schemas::codec::Codec;
use schemas::snapshot::SHARD_TOPICS;
use schemas::topic::Topic;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::draws::Draws;
use super::faults::Fault;
use super::poison;
use super::sim_log::{SimControl, SimLog};
use super::sim_store::SimStore;
use super::state::{end_of, records};
use super::world::{Life, World, present_clock_ms};

/// How long the group waits for an owner that leaves. The engine uses four fifths of it.
const PATIENCE: Duration = Duration::from_secs(25);
const TARIFFS_MAX: Duration = Duration::from_secs(30);
/// Batches on their way to the router.
const EVENTS_MAX: usize = 2;

/// What the world does to the owner of a partition.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// The process dies at its n-th call from now.
    Crash(u64),
    /// The partition goes to another owner while this one is in the midst of something.
    Fence,
    /// The process stands still for so long, and the partition goes to another owner meanwhile. It wakes in the midst of
    /// what it did, and learns of the other owner only some time after.
    Sleep(Duration),
    /// The partition goes to another owner in peace.
    Leave,
    /// It is over.
    Finish,
}

/// Sees to it that a partition has an owner.
pub async fn supervise(
    world: Arc<World>,
    partition: i32,
    metrics: Metrics,
    mut orders: mpsc::Receiver<Order>,
) {
    loop {
        let mut engine = Engine::start(&world, partition, &metrics);
        let order = loop {
            let order = tokio::select! {
                biased;
                end = &mut engine.running => {
                    if let Err(failed) = end {
                        world.violation(format!("the engine of {partition} failed: {failed}"));
                    }
                    break None;
                }
                order = orders.recv() => order.expect("it is told when it is over"),
            };
            let Order::Crash(calls) = order else {
                break Some(order);
            };
            engine.life.end_after(calls);
        };
        match order {
            None | Some(Order::Crash(_)) => {}
            Some(Order::Fence) => {
                world.count(Fault::FenceInTheMidst);
                engine.control.wait_for(Duration::ZERO);
                drop(engine.revoke().await);
                engine.stop();
            }
            Some(Order::Sleep(span)) => {
                world.count(Fault::OwnerSleeps);
                engine.life.sleep(span);
                let unaware = Duration::from_millis(world.draw() % 10_000);
                tokio::task::spawn_local(engine.wake(span + unaware));
            }
            Some(Order::Leave) => {
                world.count(Fault::Leave);
                let begun = Instant::now();
                engine.leave().await;
                if begun.elapsed() >= PATIENCE * 4 / 5 {
                    world.count(Fault::LeaveFenced);
                }
            }
            Some(Order::Finish) => {
                engine.leave().await;
                return;
            }
        }
        let pause_ms = world.draw() % 3_000;
        if pause_ms > 1_000 {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

/// One life.
struct Engine {
    life: Arc<Life>,
    at: TopicPartition,
    control: Arc<SimControl>,
    events: mpsc::Sender<LogEvent>,
    stopped: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Engine {
    fn start(world: &Arc<World>, partition: i32, metrics: &Metrics) -> Self {
        let life = Life::begin(world, partition);
        let control = Arc::new(SimControl::new(Arc::clone(&life), partition));
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let (stopped, stops) = watch::channel(false);
        let feed = Feed::new(&life, partition, Arc::clone(&control), events.clone());
        let consumer = Consumer {
            events: received,
            control: Arc::clone(&control) as Arc<dyn ConsumerControl>,
        };
        let engine = run(
            Arc::clone(&life),
            partition,
            metrics.clone(),
            consumer,
            stops,
        );
        let ended = Arc::clone(&life);
        let running = tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = ended.ended() => {}
                () = engine => {}
                // Fed for as long as it runs.
                () = feed.run() => unreachable!("it goes on for ever"),
            }
        });
        Self {
            life,
            at: TopicPartition {
                topic: SHARD_TOPICS[0],
                partition,
            },
            control,
            events,
            stopped,
            running,
        }
    }

    /// The group takes the partition away. Resolves when the engine has heard; the answer when it has left.
    async fn revoke(&self) -> oneshot::Receiver<()> {
        let (done, left) = oneshot::channel();
        let partitions = vec![self.at];
        // It may have ended.
        let _ = self
            .events
            .send(LogEvent::Revoked { partitions, done })
            .await;
        left
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn leave(self) {
        self.control.wait_for(PATIENCE);
        let left = self.revoke().await;
        // Not, if it has ended.
        let _ = left.await;
        self.stop();
    }

    /// It is told after `unaware` that its partition has gone. What it has begun may go on for a while.
    async fn wake(self, unaware: Duration) {
        let world = Arc::clone(&self.life.world);
        world.state().sleepers_count += 1;
        tokio::time::sleep(unaware).await;
        self.control.wait_for(Duration::ZERO);
        drop(self.revoke().await);
        self.stop();
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.life.end();
        world.state().sleepers_count -= 1;
    }
}

/// The engine, until it is stopped or finds that the partition has gone.
async fn run(
    life: Arc<Life>,
    partition: i32,
    metrics: Metrics,
    consumer: Consumer,
    stops: watch::Receiver<bool>,
) {
    let world = Arc::clone(&life.world);
    let context = RoleContext {
        clock: Clock::asked(present_clock_ms),
        metrics,
        codec: Codec::single_object(),
        log: Arc::new(SimLog(Arc::clone(&life))),
        store: Arc::new(SimStore(Arc::clone(&life))),
        tracer: Tracer::off(),
    };
    let (tariffs, _) = tariffs::follow(context.clone(), TARIFFS_MAX)
        .await
        .expect("the log takes subscriptions");
    let hosting = world.scenario.hosting;
    let setup = Setup {
        settings: world.scenario.settings,
        tariffs,
        control: Arc::clone(&consumer.control),
        lag: LagBoard::new(context.metrics.clone()),
        context,
        checkpoint_every: hosting.checkpoint_every,
        checkpoint_records_max: hosting.checkpoint_records_max,
        passivate_after: hosting.passivate_after,
        live_homes_max: hosting.live_homes_max,
        store_slots: hosting.store_slots,
        publish_slots: hosting.publish_slots,
        handle: poison::handle,
    };
    let router = Router::new(setup, vec![Arbiter::current()], hosting.tick_every);
    match router.run(consumer, stops).await {
        // A commit was refused: another owner has the partition.
        Ok(()) | Err(RouterError::ShardFenced(_)) => {}
        Err(reason) => world.violation(format!("partition {partition}: {reason}")),
    }
}

/// What a consumer does: reads each topic of the partition on, from where it was committed, unless it is paused.
struct Feed {
    life: Arc<Life>,
    partition: i32,
    control: Arc<SimControl>,
    events: mpsc::Sender<LogEvent>,
    draws: Draws,
    /// Next record to hand over, by topic.
    next: BTreeMap<Topic, i64>,
    /// A topic of which nothing comes for a while.
    stalled: Option<(Topic, Instant)>,
}

impl Feed {
    fn new(
        life: &Arc<Life>,
        partition: i32,
        control: Arc<SimControl>,
        events: mpsc::Sender<LogEvent>,
    ) -> Self {
        let world = &life.world;
        let mut draws = Draws::new(world.draw());
        let mut stalled = None;
        if !world.is_calm() && draws.permille(250) {
            world.count(Fault::TopicStalled);
            let until = Instant::now() + Duration::from_millis(draws.next() % 60_000);
            stalled = Some((draws.one_of(&SHARD_TOPICS), until));
        }
        let state = world.state();
        let committed = SHARD_TOPICS.map(|topic| {
            let at = TopicPartition { topic, partition };
            (topic, state.committed.get(&at).copied().unwrap_or(0))
        });
        drop(state);
        Self {
            life: Arc::clone(life),
            partition,
            control,
            events,
            draws,
            next: committed.into(),
            stalled,
        }
    }

    async fn run(mut self) {
        let assigned = SHARD_TOPICS.map(|topic| self.at(topic)).to_vec();
        let mut event = Some(LogEvent::Assigned(assigned));
        loop {
            match event {
                Some(event) => {
                    if self.events.send(event).await.is_err() {
                        // The engine has ended, and nobody takes any more.
                        return std::future::pending().await;
                    }
                }
                None => {
                    let pause_ms = 20 + self.draws.next() % 480;
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            }
            self.life.point().await;
            event = self.batch();
        }
    }

    /// Some records of one topic, if there are any.
    fn batch(&mut self) -> Option<LogEvent> {
        let topic = self.next_topic()?;
        let batch_max = self.life.world.scenario.hosting.batch_max;
        let count_max = 1 + self.draws.index(batch_max);
        let from = self.at(topic);
        let next = self.next.entry(topic).or_default();
        let mut state = self.life.world.state();
        let records = records(&state, from, *next, count_max);
        *next += i64::try_from(records.len()).expect("a batch is small");
        state.handed_count += records.len();
        Some(LogEvent::Records { from, records })
    }

    fn next_topic(&mut self) -> Option<Topic> {
        let state = self.life.world.state();
        let stalled = self
            .stalled
            .filter(|(_, until)| !state.faults.calm && Instant::now() < *until);
        let waiting = SHARD_TOPICS.into_iter().filter(|topic| {
            let at = self.at(*topic);
            stalled.is_none_or(|(stalled, _)| stalled != *topic)
                && !self.control.is_paused(at)
                && self.next[topic] < end_of(&state, at)
        });
        let waiting: Vec<Topic> = waiting.collect();
        drop(state);
        (!waiting.is_empty()).then(|| self.draws.one_of(&waiting))
    }

    const fn at(&self, topic: Topic) -> TopicPartition {
        TopicPartition {
            topic,
            partition: self.partition,
        }
    }
}
