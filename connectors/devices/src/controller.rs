//! Sends each slot's command to its device over MQTT: not before its time, again until the device answers, never once
//! it has expired or a later one holds. Reads `commands` and `acks`; writes nothing to the log.

mod outbox;
mod publisher;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use model::command::{Ack, Command};
use schemas::codec::Codec;
use schemas::mqtt::{command_json, command_topic};
use schemas::topic::Topic;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, error, info, warn};

use self::outbox::{Outbox, Outcome};
use self::publisher::{Handed, Message, Publisher};
use crate::mqtt_client::{EndpointError, MqttEndpoint};
use platform::clock::Clock;
use platform::log::{
    Consumer, ConsumerControl, Log, LogError, LogEvent, Record, Start, Subscription, TopicPartition,
};
use platform::metrics::Metrics;

/// Longest real time between two looks at what is to be done.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// Most commands handed over before the log is looked at again.
const SENDS_MAX: usize = 500;
/// Pauses between attempts to subscribe.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Settings of the controller.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControllerConfig {
    /// Brokers and gateways; each command goes to all of them, as any may hold the device.
    pub endpoints: Vec<MqttEndpoint>,
    /// Consumer group.
    pub group: String,
    /// Stable name of this member of the group, so that a restart moves no partitions.
    pub member: Option<String>,
    /// Time until an unanswered command is sent again, ms of Hearth's clock.
    pub retry_ms: i64,
    /// Most commands in memory; beyond it the log waits.
    pub pending_max: usize,
    /// Most records taken from the log at once.
    pub batch_max: usize,
    /// Real time between two commits, ms.
    pub commit_every_ms: u64,
    /// Real time after which a partition from which nothing comes counts as read to its end, ms. It matters only where
    /// the log has deleted everything up to that end.
    pub quiet_ms: u64,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            endpoints: vec![MqttEndpoint::default()],
            group: "controller".to_owned(),
            member: None,
            retry_ms: 30_000,
            pending_max: 500_000,
            batch_max: 500,
            commit_every_ms: 1000,
            quiet_ms: 15_000,
        }
    }
}

impl ControllerConfig {
    /// Adds the gateway of this process; it replaces the default endpoint where no other was configured.
    pub fn reach_gateway(&mut self, address: SocketAddr) {
        let gateway = MqttEndpoint::local(address);
        if self.endpoints == [MqttEndpoint::default()] {
            self.endpoints.clear();
        }
        let same = |known: &MqttEndpoint| known.host == gateway.host && known.port == gateway.port;
        if !self.endpoints.iter().any(same) {
            self.endpoints.push(gateway);
        }
    }
}

/// Why the controller cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// An endpoint cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nobody to send commands to.
    #[error("controller.endpoints is empty")]
    NoEndpoint,
    /// The log refuses the subscription.
    #[error("subscribe to commands: {0}")]
    Log(#[from] LogError),
}

impl ControllerError {
    /// Whether starting again may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Endpoint(_) | Self::NoEndpoint => false,
            Self::Log(error) => error.is_retryable(),
        }
    }
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Controller {
    /// Subscribes and runs in the background. Brokers may be away; the log must answer.
    pub async fn start(
        log: Arc<dyn Log>,
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        config: ControllerConfig,
    ) -> Result<Self, ControllerError> {
        if config.endpoints.is_empty() {
            return Err(ControllerError::NoEndpoint);
        }
        let consumer = subscribe(log.as_ref(), &config).await?;
        let changed = Arc::new(Notify::new());
        let publishers = config
            .endpoints
            .iter()
            .map(|endpoint| Publisher::start(endpoint, Arc::clone(&changed)))
            .collect::<Result<_, _>>()?;
        let (stop, stopped) = watch::channel(false);
        let desk = Desk {
            codec,
            clock,
            metrics,
            publishers,
            partitions: BTreeMap::new(),
            is_full: false,
            config,
        };
        Ok(Self {
            stop,
            task: tokio::spawn(run(desk, log, consumer, changed, stopped)),
        })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    /// Commits what is settled, leaves the group and says farewell to the brokers.
    pub async fn close(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            error!(%error, "the controller failed");
        }
    }
}

async fn subscribe(log: &dyn Log, config: &ControllerConfig) -> Result<Consumer, LogError> {
    log.subscribe(Subscription {
        group: Some(config.group.clone()),
        member: config.member.clone(),
        topics: vec![Topic::Commands, Topic::Acks],
        start: Start::Earliest,
        batch_max: config.batch_max.max(1),
    })
    .await
}

async fn run(
    mut desk: Desk,
    log: Arc<dyn Log>,
    mut consumer: Consumer,
    changed: Arc<Notify>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let over = desk.serve(&mut consumer, &changed, &mut stopped).await;
        drop(consumer);
        desk.partitions.clear();
        if over {
            break;
        }
        warn!("the subscription to commands ended; opening another");
        match subscribe_again(log.as_ref(), &desk.config, &mut stopped).await {
            Some(next) => consumer = next,
            None => break,
        }
    }
    for publisher in desk.publishers {
        publisher.close().await;
    }
}

/// Tries until it succeeds; `None` when asked to stop or when the log refuses for good.
async fn subscribe_again(
    log: &dyn Log,
    config: &ControllerConfig,
    stopped: &mut watch::Receiver<bool>,
) -> Option<Consumer> {
    let mut backoff = BACKOFF_FIRST;
    loop {
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            _ = stopped.changed() => return None,
        }
        match subscribe(log, config).await {
            Ok(consumer) => return Some(consumer),
            Err(error) if error.is_retryable() => debug!(%error, "subscribe to commands"),
            Err(LogError::Closed) => return None,
            Err(error) => {
                error!(%error, "subscribe to commands");
                return None;
            }
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One partition index: `commands` and `acks` together.
#[derive(Debug)]
struct Partition {
    outbox: Outbox,
    /// What `commands` and `acks` held when the partition was taken over, once the log has said so.
    found: Option<(Range<i64>, Range<i64>)>,
    /// When each topic's last record came, or `found` was learnt.
    commands_heard: Instant,
    acks_heard: Instant,
    /// What was committed last.
    committed: (Option<i64>, Option<i64>),
}

/// The controller's state while it runs.
struct Desk {
    codec: Codec,
    clock: Clock,
    metrics: Metrics,
    publishers: Vec<Publisher>,
    partitions: BTreeMap<i32, Partition>,
    is_full: bool,
    config: ControllerConfig,
}

impl Desk {
    /// Runs one subscription; whether it ended because it was asked to.
    async fn serve(
        &mut self,
        consumer: &mut Consumer,
        changed: &Notify,
        stopped: &mut watch::Receiver<bool>,
    ) -> bool {
        let control = Arc::clone(&consumer.control);
        let mut commits =
            tokio::time::interval(Duration::from_millis(self.config.commit_every_ms.max(1)));
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.learn_ends(control.as_ref()).await;
            let pause = self.work(control.as_ref());
            tokio::select! {
                _ = stopped.changed() => {
                    self.commit(control.as_ref(), None).await;
                    return true;
                }
                event = consumer.events.recv() => match event {
                    Some(event) => self.take(control.as_ref(), event).await,
                    None => return *stopped.borrow(),
                },
                _ = commits.tick() => self.commit(control.as_ref(), None).await,
                () = changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn take(&mut self, control: &dyn ConsumerControl, event: LogEvent) {
        match event {
            LogEvent::Assigned(partitions) => {
                for TopicPartition { partition, .. } in partitions {
                    let now = Instant::now();
                    self.partitions
                        .entry(partition)
                        .or_insert_with(|| Partition {
                            outbox: Outbox::new(self.config.retry_ms),
                            found: None,
                            commands_heard: now,
                            acks_heard: now,
                            committed: (None, None),
                        });
                }
                if std::mem::take(&mut self.is_full) {
                    // Begins anew with all of them; the next turn pauses them where it is still too much.
                    for &partition in self.partitions.keys() {
                        control.resume(TopicPartition {
                            topic: Topic::Commands,
                            partition,
                        });
                    }
                }
            }
            LogEvent::Records { from, records } => self.take_records(from, &records),
            LogEvent::Revoked { partitions, done } => self.release(control, partitions, done).await,
            // Only without a group.
            LogEvent::CaughtUp(_) => {}
        }
    }

    fn take_records(&mut self, from: TopicPartition, records: &[Record]) {
        // Records that were on their way when the partition was taken from us are another member's.
        let Some(held) = self.partitions.get_mut(&from.partition) else {
            return;
        };
        let now_ms = self.clock.now_ms();
        let is_command = from.topic == Topic::Commands;
        for record in records {
            let outbox = &mut held.outbox;
            let taken = if is_command {
                self.codec
                    .decode::<Command>(&record.value)
                    .map(|command| outbox.take_command(record.offset, command, now_ms))
                    .inspect_err(|_| outbox.skip_command(record.offset))
            } else {
                self.codec
                    .decode::<Ack>(&record.value)
                    .map(|ack| outbox.take_ack(record.offset, &ack))
                    .inspect_err(|_| outbox.skip_ack(record.offset))
            };
            match taken {
                Ok(None) => {}
                Ok(Some(outcome)) => count(&self.metrics, outcome, 1),
                Err(error) => {
                    // The engine writes the dead letter of an answer; a command comes from the engine itself.
                    warn!(topic = %from.topic, partition = from.partition, offset = record.offset,
                        %error, "record does not decode");
                }
            }
        }
        let heard = if is_command {
            &mut held.commands_heard
        } else {
            &mut held.acks_heard
        };
        *heard = Instant::now();
    }

    /// Commits what may be committed of the partitions that are taken away, and lets go of them.
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

    /// Does what is due now; the real time until something else may be due.
    fn work(&mut self, control: &dyn ConsumerControl) -> Duration {
        self.catch_up();
        self.bound_memory(control);
        let now_ms = self.clock.now_ms();
        for held in self.partitions.values_mut() {
            let expired_count = held.outbox.expire(now_ms);
            count(&self.metrics, Outcome::Expired, expired_count);
        }
        let mut sends_left = SENDS_MAX;
        for held in self.partitions.values_mut() {
            while let Some(command) = held.outbox.due(now_ms) {
                if sends_left == 0 {
                    return Duration::ZERO;
                }
                sends_left -= 1;
                let left_ms = command.expires_ms - now_ms;
                if !hand(&self.publishers, &command, self.clock.real(left_ms)) {
                    // Woken when there is room again, or a connection.
                    return LOOK_MAX;
                }
                let outcome = held.outbox.sent(&command, now_ms);
                count(&self.metrics, outcome, 1);
            }
        }
        self.partitions
            .values()
            .filter_map(|held| held.outbox.wake_ms())
            .min()
            .map_or(LOOK_MAX, |wake_ms| self.clock.until(wake_ms).min(LOOK_MAX))
    }

    /// Asks where the partitions that were taken over end, in the order of their numbers, until the log does not answer.
    async fn learn_ends(&mut self, control: &dyn ConsumerControl) {
        for (&partition, held) in &mut self.partitions {
            if held.found.is_some() {
                continue;
            }
            let at = |topic| TopicPartition { topic, partition };
            let commands = control.offsets_now(at(Topic::Commands)).await;
            let acks = control.offsets_now(at(Topic::Acks)).await;
            match (commands, acks) {
                (Ok(commands), Ok(acks)) => {
                    held.found = Some((commands, acks));
                    held.commands_heard = Instant::now();
                    held.acks_heard = Instant::now();
                }
                (Err(error), _) | (_, Err(error)) => {
                    debug!(%error, partition, "ask where a partition ends");
                    return;
                }
            }
        }
    }

    /// Sees which partitions have been read to the ends that they had when they were taken over.
    fn catch_up(&mut self) {
        let quiet = Duration::from_millis(self.config.quiet_ms);
        for (&partition, held) in &mut self.partitions {
            let Some((commands, acks)) = &held.found else {
                continue;
            };
            if held.outbox.is_ready() {
                continue;
            }
            let at_end = |found: &Range<i64>, last: Option<i64>, heard: Instant| {
                found.is_empty()
                    || last.is_some_and(|last| last + 1 >= found.end)
                    || heard.elapsed() >= quiet
            };
            let (last, caught_up) = held.outbox.commands_read();
            if !caught_up && at_end(commands, last, held.commands_heard) {
                held.outbox.commands_caught_up();
            }
            let (last, caught_up) = held.outbox.acks_read();
            if !caught_up && at_end(acks, last, held.acks_heard) {
                held.outbox.acks_caught_up();
            }
            if held.outbox.is_ready() {
                let (commands, acks) = held.outbox.positions();
                info!(partition, commands, acks, "controller has caught up");
            }
        }
    }

    /// Lets the log wait while too much is in memory.
    fn bound_memory(&mut self, control: &dyn ConsumerControl) {
        let held_count: usize = self.partitions.values().map(|held| held.outbox.len()).sum();
        let is_full = if self.is_full {
            // Not at every command back and forth.
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
                if !held.outbox.commands_read().1 {
                    // Waiting for the rest would be waiting for ever. A command that is read later, and that
                    // a device answered before this start, may be sent to it once more.
                    held.outbox.commands_caught_up();
                }
            } else {
                control.resume(commands);
            }
        }
        if is_full {
            warn!(
                held_count,
                "too many commands in memory, the log has to wait"
            );
        }
    }

    /// Commits the positions that moved, of these partitions or of all.
    async fn commit(&mut self, control: &dyn ConsumerControl, only: Option<&[i32]>) {
        let mut offsets = Vec::new();
        let mut moved = Vec::new();
        for (&partition, held) in &self.partitions {
            let positions = held.outbox.positions();
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
            // What is not committed is read again, which does no harm; the next turn tries again.
            Err(error) => debug!(%error, "commit what the controller has settled"),
        }
    }
}

/// Hands the command to every peer that is connected; whether any took it.
fn hand(publishers: &[Publisher], command: &Command, expires_in: Duration) -> bool {
    let message = Message {
        topic: command_topic(command.household_id),
        payload: command_json(command).into_bytes(),
        expires_in,
    };
    let mut taken = false;
    for publisher in publishers {
        match publisher.hand(&message) {
            Handed::Over => taken = true,
            Handed::Busy | Handed::Away => {}
        }
    }
    taken
}

fn count(metrics: &Metrics, outcome: Outcome, number: u64) {
    if number > 0 {
        metrics
            .commands_total
            .with_label_values(&[outcome.as_str()])
            .inc_by(number);
    }
}
