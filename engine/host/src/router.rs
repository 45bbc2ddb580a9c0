//! Hands each partition's records to its shard, and tells shards the time.
//!
//! The router never waits for a shard. What a shard has no room for waits here, and its topic is paused in the log; so
//! the router hears at once of partitions that go, and tells the others the time, whatever one shard waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle, MailboxError};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use platform::log::{Consumer, LogEvent, Record, TopicPartition};
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::fence::{Fence, Fenced};
use crate::setup::Setup;
use crate::shard::{Batch, Leave, Shard, Tick};

/// Batches that a shard has at a time, the one that it works on included.
const BATCHES_MAX: usize = 4;
/// Messages that a shard can have: its batches, a tick, and that it is to leave.
const MAILBOX_MAX: usize = BATCHES_MAX + 2;

/// Why the router has ended, if nobody told it to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    #[error("the log ended the engine's subscription")]
    SubscriptionEnded,
    /// It panicked.
    #[error("the shard of partition {0} died")]
    ShardDied(i32),
    /// The log, or the fence, took the partition away without the group's word.
    #[error("the shard of partition {0} is fenced off, and the partition is still assigned to it")]
    ShardFenced(i32),
    /// What it reads is newer than this build.
    #[error("the shard of partition {partition} cannot go on: {reason}")]
    ShardGaveUp { partition: i32, reason: String },
}

/// A partition that is ours.
struct Owned {
    address: Addr<Shard>,
    fence: Fence,
    /// Tells answers of this shard from those of one that had the partition before.
    number: u64,
    /// Batches that the shard has.
    batches_count: usize,
    /// Batches that the shard has no room for. Bounded: their topics are paused.
    waiting: VecDeque<(TopicPartition, Vec<Record>)>,
    paused: BTreeSet<TopicPartition>,
    /// Whether a tick is with the shard; one that is busy hears the next.
    is_ticking: bool,
    /// Whether it has answered yet: until then it may be bringing homes back.
    has_answered: bool,
}

/// What a shard has answered.
struct Answer {
    partition: i32,
    number: u64,
    question: Question,
    outcome: Result<Result<(), Fenced>, MailboxError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Batch,
    Tick,
}

/// The engine's consumer.
pub struct Router {
    setup: Setup,
    arbiters: Vec<ArbiterHandle>,
    owned: BTreeMap<i32, Owned>,
    /// Of partitions that have gone, until somebody has them again.
    gone: BTreeMap<i32, Fence>,
    shards_count: u64,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    leaves: FuturesUnordered<BoxFuture<'static, ()>>,
    tick_every: Duration,
    /// How many of the owned have not answered yet.
    taken_over: watch::Sender<usize>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl Router {
    /// A router whose shards run in `arbiters`, at least one.
    #[must_use]
    pub fn new(setup: Setup, arbiters: Vec<ArbiterHandle>, tick_every: Duration) -> Self {
        assert!(!arbiters.is_empty(), "shards need an arbiter");
        Self {
            setup,
            arbiters,
            owned: BTreeMap::new(),
            gone: BTreeMap::new(),
            shards_count: 0,
            answers: FuturesUnordered::new(),
            leaves: FuturesUnordered::new(),
            tick_every,
            taken_over: watch::channel(0).0,
        }
    }

    /// How many partitions are ours and not worked on yet, from now on.
    #[must_use]
    pub fn taking_over(&self) -> watch::Receiver<usize> {
        self.taken_over.subscribe()
    }

    /// Runs until it is told to stop, or until it cannot go on. In the end every shard has left.
    pub async fn run(
        mut self,
        mut consumer: Consumer,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), RouterError> {
        let mut ticks = tokio::time::interval(self.tick_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            // Events come before answers: a shard that is fenced off after its partition was revoked is no fault. Events
            // cannot keep answers waiting for long, since without answers every topic is soon paused.
            tokio::select! {
                biased;
                _ = stopped.changed() => break Ok(()),
                _ = ticks.tick() => self.tick(),
                Some(()) = self.leaves.next() => {}
                event = consumer.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => break Err(RouterError::SubscriptionEnded),
                },
                Some(answer) = self.answers.next() => if let Err(reason) = self.answered(&answer) {
                    break Err(reason);
                },
            }
            self.count_taken_over();
        };
        let all: Vec<i32> = self.owned.keys().copied().collect();
        self.leave(all, None);
        while let Some(()) = self.leaves.next().await {}
        ended
    }

    fn count_taken_over(&self) {
        let owned = self.owned.values();
        let left = owned.filter(|owned| !owned.has_answered).count();
        self.taken_over.send_if_modified(|before| {
            let is_new = *before != left;
            *before = left;
            is_new
        });
    }

    fn take(&mut self, event: LogEvent) {
        match event {
            LogEvent::Assigned(partitions) => {
                info!(partitions_count = partitions.len(), "assigned");
                for from in partitions {
                    self.own(from.partition);
                }
            }
            LogEvent::Records { from, records } => self.pass_on(from, records),
            LogEvent::Revoked { partitions, done } => {
                info!(partitions_count = partitions.len(), "revoked");
                // A shard needs all its topics; when one goes, it lets go of all.
                let leaving: BTreeSet<i32> = partitions.iter().map(|from| from.partition).collect();
                self.leave(leaving.into_iter().collect(), Some(done));
            }
            LogEvent::CaughtUp(_) => {}
        }
    }

    /// Starts a shard for a partition that is now ours.
    fn own(&mut self, partition: i32) {
        if self.owned.contains_key(&partition) {
            return;
        }
        // Its shard of before may not have left yet.
        if let Some(fence) = self.gone.remove(&partition) {
            fence.raise();
        }
        let fence = Fence::open();
        let index = usize::try_from(partition).expect("a partition is not negative");
        let arbiter = &self.arbiters[index % self.arbiters.len()];
        let (setup, shard_fence) = (self.setup.clone(), fence.clone());
        let address = Shard::start_in_arbiter(arbiter, move |_context| {
            Shard::new(setup, partition, shard_fence, MAILBOX_MAX)
        });
        self.shards_count += 1;
        let owned = Owned {
            address,
            fence,
            number: self.shards_count,
            batches_count: 0,
            waiting: VecDeque::new(),
            paused: BTreeSet::new(),
            is_ticking: false,
            has_answered: false,
        };
        self.owned.insert(partition, owned);
        self.count_move("assigned");
    }

    fn count_move(&self, event: &str) {
        let metrics = &self.setup.context.metrics;
        let owned_count = i64::try_from(self.owned.len()).expect("partitions are few");
        metrics.owned_partitions.set(owned_count);
        let moves = &metrics.partition_moves_total;
        moves.with_label_values(&[event]).inc();
    }

    fn pass_on(&mut self, from: TopicPartition, records: Vec<Record>) {
        let Some(owned) = self.owned.get_mut(&from.partition) else {
            warn!(%from.topic, from.partition, "records of a partition that is not ours");
            return;
        };
        if let Some(first) = records.first() {
            self.setup.lag.received(from, first);
        }
        if owned.batches_count < BATCHES_MAX && owned.waiting.is_empty() {
            self.answers.push(owned.hand(from, records));
            return;
        }
        owned.waiting.push_back((from, records));
        if owned.paused.insert(from) {
            self.setup.control.pause(from);
        }
    }

    fn tick(&mut self) {
        let now_ms = self.setup.context.clock.now_ms();
        for (partition, owned) in &mut self.owned {
            if !owned.is_ticking {
                owned.is_ticking = true;
                let asked = owned.address.send(Tick { now_ms });
                let answer = answer(*partition, owned.number, Question::Tick, asked);
                self.answers.push(answer);
            }
        }
        self.setup.lag.publish(self.setup.control.as_ref());
    }

    fn answered(&mut self, answer: &Answer) -> Result<(), RouterError> {
        let Answer {
            partition,
            number,
            question,
            ..
        } = *answer;
        let owned = self.owned.get_mut(&partition);
        let Some(owned) = owned.filter(|owned| owned.number == number) else {
            return Ok(());
        };
        match answer.outcome {
            Ok(Ok(())) => owned.has_answered = true,
            Ok(Err(Fenced)) => {
                let reason = owned.fence.reason().map(str::to_owned);
                return Err(
                    reason.map_or(RouterError::ShardFenced(partition), |reason| {
                        RouterError::ShardGaveUp { partition, reason }
                    }),
                );
            }
            Err(_) => return Err(RouterError::ShardDied(partition)),
        }
        match question {
            Question::Tick => owned.is_ticking = false,
            Question::Batch => {
                owned.batches_count -= 1;
                if let Some((from, records)) = owned.waiting.pop_front() {
                    self.answers.push(owned.hand(from, records));
                }
                if owned.waiting.is_empty() {
                    for from in std::mem::take(&mut owned.paused) {
                        self.setup.control.resume(from);
                    }
                }
            }
        }
        Ok(())
    }

    /// Has the shards of `partitions` leave, each fenced off if it does not in time, and then says so through `done`. What
    /// waits for them here is not committed, and the next owner reads it.
    fn leave(&mut self, partitions: Vec<i32>, done: Option<oneshot::Sender<()>>) {
        // The rest of the time is for the group, which goes on without us when it is over.
        let leave_max = self.setup.control.revoke_patience() * 4 / 5;
        let leaving: Vec<_> = partitions
            .into_iter()
            .filter_map(|partition| {
                let owned = self.owned.remove(&partition)?;
                owned.fence.begin_leave();
                self.gone.insert(partition, owned.fence.clone());
                self.setup.lag.clear(partition);
                self.count_move("revoked");
                Some(async move {
                    let left = owned.address.send(Leave);
                    let left = tokio::time::timeout(leave_max, left).await;
                    owned.fence.raise();
                    if left.is_err() {
                        warn!(partition, "shard did not leave in time and is fenced off");
                    }
                })
            })
            .collect();
        let left = async move {
            futures::future::join_all(leaving).await;
            if let Some(done) = done {
                // The consumer may have stopped waiting.
                let _ = done.send(());
            }
        };
        self.leaves.push(left.boxed());
    }
}

impl Owned {
    /// Hands a batch to the shard.
    fn hand(&mut self, from: TopicPartition, records: Vec<Record>) -> BoxFuture<'static, Answer> {
        self.batches_count += 1;
        let topic = from.topic;
        let asked = self.address.send(Batch { topic, records });
        answer(from.partition, self.number, Question::Batch, asked)
    }
}

fn answer(
    partition: i32,
    number: u64,
    question: Question,
    asked: impl Future<Output = Result<Result<(), Fenced>, MailboxError>> + Send + 'static,
) -> BoxFuture<'static, Answer> {
    let answered = asked.map(move |outcome| Answer {
        partition,
        number,
        question,
        outcome,
    });
    answered.boxed()
}
