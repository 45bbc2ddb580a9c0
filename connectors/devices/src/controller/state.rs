//! The controller's state and its turns: take records, send due commands, commit settled records. A turn never waits for
//! the log or a broker, except for commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use model::command::{Ack, Command};
use schemas::codec::Codec;
use schemas::topic::Topic;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use super::catch_up::{Asker, CatchUp, Extents};
use super::config::ControllerConfig;
use super::deliveries::Deliveries;
use super::pending::{Outcome, Pending};
use super::send::Peers;
use platform::clock::Clock;
use platform::log::{Consumer, ConsumerControl, LogError, LogEvent, Record, TopicPartition};
use platform::metrics::Metrics;
use platform::trace::Tracer;

/// Longest real time between two turns.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// Most commands handed over before the log is read again.
const SENDS_MAX: usize = 500;

/// The state of one partition of `commands` and the same one of `acks`.
#[derive(Debug)]
struct PartitionState {
    pending: Pending,
    catch_up: CatchUp,
    /// Positions that were committed last.
    committed: (Option<i64>, Option<i64>),
}

impl PartitionState {
    /// Checks whether it has been read to the ends that it had when it was taken over.
    fn check(&mut self, partition: i32) {
        if self.pending.is_ready() {
            return;
        }
        self.catch_up.check(&mut self.pending);
        if self.pending.is_ready() {
            let (commands, acks) = self.pending.positions();
            info!(partition, commands, acks, "controller has caught up");
        }
    }
}

/// The log's answer about a partition, or its error.
struct Answer {
    partition: i32,
    /// Number of the take-over for which it was asked.
    number: u64,
    extents: Result<Extents, LogError>,
}

/// The controller's state while it runs.
pub(super) struct ControllerState {
    codec: Codec,
    clock: Clock,
    metrics: Metrics,
    peers: Arc<Peers>,
    partitions: BTreeMap<i32, PartitionState>,
    take_overs: u64,
    asker: Asker,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    is_full: bool,
    config: ControllerConfig,
    deliveries: Deliveries,
}

impl ControllerState {
    pub(super) fn new(
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        tracer: Tracer,
        peers: Arc<Peers>,
        config: ControllerConfig,
    ) -> Self {
        Self {
            codec,
            clock,
            metrics,
            peers,
            partitions: BTreeMap::new(),
            take_overs: 0,
            asker: Asker::new(),
            answers: FuturesUnordered::new(),
            is_full: false,
            config,
            deliveries: Deliveries::new(tracer),
        }
    }

    /// Runs one subscription; returns whether it ended because it was asked to.
    pub(super) async fn serve(
        &mut self,
        consumer: &mut Consumer,
        changed: &Notify,
        stopped: &mut watch::Receiver<bool>,
    ) -> bool {
        let control = Arc::clone(&consumer.control);
        let mut commits =
            tokio::time::interval(Duration::from_millis(self.config.commit_every_ms.max(1)));
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let is_over = loop {
            let pause = self.work(control.as_ref());
            tokio::select! {
                _ = stopped.changed() => {
                    self.commit(control.as_ref(), None).await;
                    break true;
                }
                event = consumer.events.recv() => match event {
                    Some(event) => self.take_event(&control, event).await,
                    None => break *stopped.borrow(),
                },
                Some(answer) = self.answers.next() => self.learn(&control, answer),
                _ = commits.tick() => self.commit(control.as_ref(), None).await,
                () = changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        self.partitions.clear();
        self.deliveries.clear();
        self.answers.clear();
        is_over
    }

    async fn take_event(&mut self, control: &Arc<dyn ConsumerControl>, event: LogEvent) {
        match event {
            LogEvent::Assigned(partitions) => {
                for TopicPartition { partition, .. } in partitions {
                    self.take_over(control, partition);
                }
                if std::mem::take(&mut self.is_full) {
                    // Resume all of them; the next turn pauses them if there are still too many commands.
                    for &partition in self.partitions.keys() {
                        control.resume(TopicPartition {
                            topic: Topic::Commands,
                            partition,
                        });
                    }
                }
            }
            LogEvent::Records { from, records } => self.take_records(from, &records),
            LogEvent::Revoked { partitions, done } => {
                self.release(control.as_ref(), partitions, done).await;
            }
            // Sent only without a group.
            LogEvent::CaughtUp(_) => {}
        }
    }

    /// Starts with a partition, unless it has it already: the partition is assigned once for each of its topics.
    fn take_over(&mut self, control: &Arc<dyn ConsumerControl>, partition: i32) {
        if self.partitions.contains_key(&partition) {
            return;
        }
        self.take_overs += 1;
        let number = self.take_overs;
        let held = PartitionState {
            pending: Pending::new(self.config.retry_ms),
            catch_up: CatchUp::new(number),
            committed: (None, None),
        };
        self.partitions.insert(partition, held);
        self.ask(control, partition, number, Duration::ZERO);
    }

    fn take_records(&mut self, from: TopicPartition, records: &[Record]) {
        // Records that were under way when the partition was revoked belong to another member.
        let Some(held) = self.partitions.get_mut(&from.partition) else {
            return;
        };
        let now_ms = self.clock.now_ms();
        let is_command = from.topic == Topic::Commands;
        for record in records {
            let pending = &mut held.pending;
            let deliveries = &mut self.deliveries;
            let taken = if is_command {
                self.codec
                    .decode::<Command>(&record.value)
                    .map(|command| {
                        deliveries.begin(&command, record.trace);
                        pending.take_command(record.offset, command, now_ms)
                    })
                    .inspect_err(|_| pending.skip_command(record.offset))
            } else {
                self.codec
                    .decode::<Ack>(&record.value)
                    .map(|ack| {
                        let outcome = pending.take_ack(record.offset, &ack);
                        deliveries.answered(&ack, outcome, record.trace);
                        outcome
                    })
                    .inspect_err(|_| pending.skip_ack(record.offset))
            };
            match taken {
                Ok(None) => {}
                Ok(Some(outcome)) => count(&self.metrics, outcome, 1),
                Err(error) => {
                    // The engine writes a dead letter for an answer. A command comes from the engine itself.
                    warn!(topic = %from.topic, partition = from.partition, offset = record.offset,
                        %error, "record does not decode");
                }
            }
        }
        held.check(from.partition);
    }

    /// Commits what may be committed of the revoked partitions, and gives them up.
    async fn release(
        &mut self,
        control: &dyn ConsumerControl,
        partitions: Vec<TopicPartition>,
        done: oneshot::Sender<()>,
    ) {
        let gone: Vec<i32> = partitions.iter().map(|at| at.partition).collect();
        self.commit(control, Some(&gone)).await;
        for partition in gone {
            self.partitions.remove(&partition);
        }
        // The consumer may have stopped waiting.
        let _ = done.send(());
    }

    /// Expires and sends commands; returns the real time until something else may be due.
    fn work(&mut self, control: &dyn ConsumerControl) -> Duration {
        self.bound_memory(control);
        let now_ms = self.clock.now_ms();
        for held in self.partitions.values_mut() {
            let expired_count = held.pending.expire(now_ms);
            count(&self.metrics, Outcome::Expired, expired_count);
        }
        self.deliveries.expire(now_ms);
        let mut sends_left = SENDS_MAX;
        for held in self.partitions.values_mut() {
            while let Some(command) = held.pending.due(now_ms) {
                if sends_left == 0 {
                    return Duration::ZERO;
                }
                sends_left -= 1;
                let left_ms = command.expires_ms - now_ms;
                let trace = self.deliveries.sending(&command);
                if !self.peers.hand(&command, self.clock.real(left_ms), trace) {
                    // A peer notifies when it has room again or is connected.
                    return LOOK_MAX;
                }
                let outcome = held.pending.sent(&command, now_ms);
                self.deliveries.sent(&command, outcome);
                count(&self.metrics, outcome, 1);
            }
        }
        self.partitions
            .values()
            .filter_map(|held| held.pending.wake_ms())
            .min()
            .map_or(LOOK_MAX, |wake_ms| self.clock.until(wake_ms).min(LOOK_MAX))
    }

    /// Asks where a partition ends, after a pause. The answer comes in a later turn.
    fn ask(
        &self,
        control: &Arc<dyn ConsumerControl>,
        partition: i32,
        number: u64,
        pause: Duration,
    ) {
        let asked = self
            .asker
            .clone()
            .ask(Arc::clone(control), partition, pause);
        self.answers.push(Box::pin(async move {
            Answer {
                partition,
                number,
                extents: asked.await,
            }
        }));
    }

    /// Takes an answer about where a partition ends, or asks again.
    fn learn(&mut self, control: &Arc<dyn ConsumerControl>, answer: Answer) {
        let partition = answer.partition;
        let Some(held) = self.partitions.get_mut(&partition) else {
            return;
        };
        if held.catch_up.number != answer.number {
            return;
        }
        match answer.extents {
            Ok(extents) => held.catch_up.learn(&extents),
            Err(error) => debug!(%error, partition, "ask where a partition ends"),
        }
        held.check(partition);
        if !held.pending.is_ready() {
            let (number, pause) = (answer.number, held.catch_up.next_pause());
            self.ask(control, partition, number, pause);
        }
    }

    /// Pauses reading while too much is in memory.
    fn bound_memory(&mut self, control: &dyn ConsumerControl) {
        let held_count: usize = self
            .partitions
            .values()
            .map(|held| held.pending.len())
            .sum();
        let is_full = if self.is_full {
            // Some hysteresis, so that not every command switches back and forth.
            held_count >= self.config.pending_max / 5 * 4
        } else {
            held_count >= self.config.pending_max
        };
        if is_full == self.is_full {
            return;
        }
        self.is_full = is_full;
        for (&partition, held) in &mut self.partitions {
            let commands = TopicPartition {
                topic: Topic::Commands,
                partition,
            };
            if is_full {
                control.pause(commands);
                if !held.pending.commands().caught_up {
                    // Waiting for the rest would take for ever. A command that is read later may be sent once more,
                    // even if a device answered it before this start.
                    held.pending.commands_caught_up();
                }
            } else {
                control.resume(commands);
            }
        }
        if is_full {
            warn!(held_count, "too many commands in memory, reading pauses");
        }
    }

    /// Commits the positions that moved, of these partitions or of all.
    async fn commit(&mut self, control: &dyn ConsumerControl, only: Option<&[i32]>) {
        let mut offsets = Vec::new();
        let mut moved = Vec::new();
        for (&partition, held) in &self.partitions {
            let positions = held.pending.positions();
            if only.is_some_and(|only| !only.contains(&partition)) || positions == held.committed {
                continue;
            }
            for (topic, position) in [(Topic::Commands, positions.0), (Topic::Acks, positions.1)] {
                if let Some(offset) = position {
                    offsets.push((TopicPartition { topic, partition }, offset));
                }
            }
            moved.push((partition, positions));
        }
        if offsets.is_empty() {
            return;
        }
        match control.commit(offsets).await {
            Ok(()) => {
                for (partition, positions) in moved {
                    if let Some(held) = self.partitions.get_mut(&partition) {
                        held.committed = positions;
                    }
                }
            }
            // Uncommitted records are read again, which does no harm. The next turn tries again.
            Err(error) => debug!(%error, "commit what the controller has settled"),
        }
    }
}

fn count(metrics: &Metrics, outcome: Outcome, number: u64) {
    if number > 0 {
        metrics
            .commands_total
            .with_label_values(&[outcome.as_str()])
            .inc_by(number);
    }
}
