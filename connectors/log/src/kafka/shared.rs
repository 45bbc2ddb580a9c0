//! State shared by the polling thread, librdkafka's callbacks and the owner's control.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use schemas::topic::Topic;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, warn};

use super::brokers::Brokers;
use platform::log::{LogEvent, TopicPartition};

/// Pause between two attempts at a full channel.
pub(super) const NAP: Duration = Duration::from_millis(1);

/// The shared state of one subscription.
pub(super) struct Shared {
    prefix: String,
    /// Topics whose partitions follow those of the topic that the group shares.
    followers: Vec<Topic>,
    /// `None` once the subscription is over, so that the owner notices.
    sender: Mutex<Option<mpsc::Sender<LogEvent>>>,
    /// Events that the owner must get before any further record.
    announcements: Mutex<VecDeque<LogEvent>>,
    owned: Mutex<BTreeSet<TopicPartition>>,
    paused: Mutex<BTreeSet<TopicPartition>>,
    ends: Mutex<BTreeMap<TopicPartition, i64>>,
    /// Partitions that a rebalance assigned, until the poller takes them.
    given: Mutex<Option<Vec<TopicPartition>>>,
    /// Set by each rebalance, cleared by the poller.
    pub(super) rebalanced: AtomicBool,
    /// Notified of each rebalance.
    pub(super) joined: Notify,
    /// Longest wait for the owner to give up revoked partitions.
    pub(super) patience: Duration,
    pub(super) wake: Arc<Wake>,
    /// Set when the log closes.
    pub(super) closing: Arc<AtomicBool>,
    pub(super) brokers: Arc<Brokers>,
}

/// Lets the polling thread sleep until there is something to poll.
#[derive(Default)]
pub(super) struct Wake {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Wake {
    pub(super) fn ring(&self) {
        *lock(&self.rung) = true;
        self.bell.notify_one();
    }

    pub(super) fn wait(&self, at_most: Duration) {
        let rung = lock(&self.rung);
        let waited = self.bell.wait_timeout_while(rung, at_most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        prefix: String,
        followers: Vec<Topic>,
        sender: mpsc::Sender<LogEvent>,
        patience: Duration,
        closing: Arc<AtomicBool>,
        brokers: Arc<Brokers>,
    ) -> Self {
        Self {
            prefix,
            followers,
            sender: Mutex::new(Some(sender)),
            announcements: Mutex::default(),
            owned: Mutex::default(),
            paused: Mutex::default(),
            ends: Mutex::default(),
            given: Mutex::default(),
            rebalanced: AtomicBool::new(false),
            joined: Notify::new(),
            patience,
            wake: Arc::default(),
            closing,
            brokers,
        }
    }

    pub(super) fn sender(&self) -> Option<mpsc::Sender<LogEvent>> {
        lock(&self.sender).clone()
    }

    /// Returns whether the owner has dropped its consumer or the log is closing.
    pub(super) fn is_over(&self) -> bool {
        let held = self.sender().is_some_and(|sender| !sender.is_closed());
        !held || self.closing.load(Ordering::Relaxed)
    }

    /// Tells the owner that nothing more will come.
    pub(super) fn end(&self) {
        lock(&self.owned).clear();
        lock(&self.sender).take();
    }

    pub(super) fn name(&self, topic: Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    pub(super) fn topic(&self, name: &str) -> Option<Topic> {
        Topic::parse(name.strip_prefix(&self.prefix)?)
    }

    pub(super) fn owned(&self) -> BTreeSet<TopicPartition> {
        lock(&self.owned).clone()
    }

    pub(super) fn is_paused(&self, of: TopicPartition) -> bool {
        lock(&self.paused).contains(&of)
    }

    pub(super) fn pause(&self, of: TopicPartition) {
        lock(&self.paused).insert(of);
    }

    pub(super) fn resume(&self, of: TopicPartition) {
        lock(&self.paused).remove(&of);
        self.wake.ring();
    }

    pub(super) fn end_offset(&self, of: TopicPartition) -> Option<i64> {
        lock(&self.ends).get(&of).copied()
    }

    pub(super) fn say(&self, event: LogEvent) {
        lock(&self.announcements).push_back(event);
    }

    /// Returns the partitions that a rebalance assigned, if any. librdkafka waits until they are taken.
    pub(super) fn given(&self) -> Option<Vec<TopicPartition>> {
        lock(&self.given).take()
    }

    pub(super) fn assign(&self, partitions: Vec<TopicPartition>) {
        if !partitions.is_empty() {
            lock(&self.owned).extend(partitions.iter().copied());
            self.say(LogEvent::Assigned(partitions));
        }
    }

    /// Hands over the announcements; returns false while some must wait for room.
    pub(super) fn hand_over(&self) -> bool {
        let Some(sender) = self.sender() else {
            return true;
        };
        let mut announcements = lock(&self.announcements);
        while let Some(event) = announcements.pop_front() {
            match sender.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    announcements.push_front(event);
                    return false;
                }
                Err(TrySendError::Closed(_)) => return true,
            }
        }
        true
    }

    /// Tells the owner and waits until it has given the partitions up, or until `patience` is over.
    fn revoke(&self, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        let gone: BTreeSet<TopicPartition> = partitions.iter().copied().collect();
        let deadline = Instant::now() + self.patience;
        let (done, mut let_go) = oneshot::channel();
        self.say(LogEvent::Revoked { partitions, done });
        while !self.hand_over() && Instant::now() < deadline {
            std::thread::sleep(NAP);
        }
        // An owner that has dropped its consumer has dropped `done` as well.
        while !self.is_over() && let_go.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            if Instant::now() >= deadline {
                warn!("revoked partitions were not given up in time");
                break;
            }
            std::thread::sleep(NAP);
        }
        lock(&self.owned).retain(|of| !gone.contains(of));
        lock(&self.paused).retain(|of| !gone.contains(of));
        lock(&self.ends).retain(|of, _| !gone.contains(of));
    }

    /// Returns these partitions of the shared topic, and the same partitions of the topics that follow it.
    fn with_followers(&self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        let all = partitions.iter().flat_map(|of| {
            let followers = self.followers.iter().map(|topic| TopicPartition {
                topic: *topic,
                partition: of.partition,
            });
            std::iter::once(*of).chain(followers)
        });
        all.collect()
    }

    pub(super) fn list(&self, partitions: &[TopicPartition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for of in partitions {
            list.add_partition(&self.name(of.topic), of.partition);
        }
        list
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        let elements = list.elements();
        let ours = elements.iter().filter_map(|element| {
            Some(TopicPartition {
                topic: self.topic(element.topic())?,
                partition: element.partition(),
            })
        });
        ours.collect()
    }
}

/// The callbacks that librdkafka calls from within a poll.
pub(super) struct Events(pub(super) Arc<Shared>);

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.brokers.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let owned = self.0.owned();
        let mut ends = lock(&self.0.ends);
        for (name, topic_statistics) in &statistics.topics {
            let Some(topic) = self.0.topic(name) else {
                continue;
            };
            for (partition, statistics) in &topic_statistics.partitions {
                let of = TopicPartition {
                    topic,
                    partition: *partition,
                };
                if statistics.hi_offset >= 0 && owned.contains(&of) {
                    ends.insert(of, statistics.hi_offset);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.brokers.error(&error, reason);
    }
}

impl ConsumerContext for Events {
    /// Handles a rebalance. Kafka moves partitions of the shared topic; here the same partitions of its followers move
    /// too. Partitions that stay are worked on meanwhile.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = self.0.with_followers(&self.0.partitions(list));
        let list = self.0.list(&partitions);
        let done = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if self.0.is_over() {
                // Nobody takes them any more, but librdkafka needs an answer before it closes.
                consumer.incremental_assign(&list)
            } else {
                *lock(&self.0.given) = Some(partitions);
                Ok(())
            }
        } else if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS {
            self.0.revoke(partitions);
            consumer.incremental_unassign(&list)
        } else {
            let error = KafkaError::Rebalance(code.into());
            warn!(%error, "rebalance");
            self.0.revoke(self.0.owned().into_iter().collect());
            consumer.unassign()
        };
        if let Err(error) = done {
            error!(%error, "rebalance");
        }
        self.0.rebalanced.store(true, Ordering::Relaxed);
        self.0.joined.notify_one();
    }
}
