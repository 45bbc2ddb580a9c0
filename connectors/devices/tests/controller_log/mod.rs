//! A log in memory with one partition a topic and one consumer at a time, for tests of what reads a log.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use platform::log::{
    Consumer, ConsumerControl, Log, LogError, LogEvent, Record, Subscription, TopicPartition,
};
use schemas::topic::Topic;
use tokio::sync::{Notify, mpsc};

#[derive(Debug, Default)]
struct Kept {
    records: BTreeMap<Topic, Vec<Record>>,
    committed: BTreeMap<Topic, i64>,
    paused: BTreeSet<Topic>,
    pauses_count: usize,
    refuses_commits: bool,
    refuses_subscriptions: bool,
    /// Of which nothing comes, though it holds records.
    stalled: Option<Topic>,
    asks_count: usize,
}

/// The log; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLog {
    kept: Arc<Mutex<Kept>>,
    changed: Arc<Notify>,
}

impl MemoryLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// From here on commits fail, as if the process had died before them.
    pub(crate) fn refuse_commits(&self, refuses: bool) {
        self.kept().refuses_commits = refuses;
    }

    pub(crate) fn committed(&self, topic: Topic) -> Option<i64> {
        self.kept().committed.get(&topic).copied()
    }

    /// Nothing comes of this topic from here on, or of none.
    pub(crate) fn stall(&self, topic: Option<Topic>) {
        self.kept().stalled = topic;
        self.changed.notify_waiters();
    }

    /// Ends the subscription that is open and opens no other.
    pub(crate) fn refuse_subscriptions(&self) {
        self.kept().refuses_subscriptions = true;
        self.changed.notify_waiters();
    }

    /// How often somebody asked what a partition holds.
    pub(crate) fn asks_count(&self) -> usize {
        self.kept().asks_count
    }

    /// How often a consumer paused a partition.
    pub(crate) fn pauses_count(&self) -> usize {
        self.kept().pauses_count
    }

    /// The next records of a topic that is not paused.
    fn next(&self, topic: Topic, from: usize, batch_max: usize) -> Vec<Record> {
        let kept = self.kept();
        if kept.paused.contains(&topic) || kept.stalled == Some(topic) {
            return Vec::new();
        }
        let records = kept.records.get(&topic).map_or(&[][..], Vec::as_slice);
        records.iter().skip(from).take(batch_max).cloned().collect()
    }
}

#[async_trait::async_trait]
impl Log for MemoryLog {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let mut kept = self.kept();
        let records = kept.records.entry(topic).or_default();
        records.push(Record {
            offset: i64::try_from(records.len()).unwrap(),
            timestamp_ms: 0,
            key: Some(Bytes::copy_from_slice(key)),
            value: value.into(),
            trace: None,
        });
        self.changed.notify_waiters();
        Ok(())
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, LogError> {
        let (events, received) = mpsc::channel(4);
        let log = self.clone();
        if log.kept().refuses_subscriptions {
            return Err(LogError::Setup("as told by the test".to_owned()));
        }
        log.kept().paused.clear();
        tokio::spawn(async move {
            let at = |topic| TopicPartition {
                topic,
                partition: 0,
            };
            let topics = subscription.topics;
            let assigned = topics.iter().map(|topic| at(*topic)).collect();
            if events.send(LogEvent::Assigned(assigned)).await.is_err() {
                return;
            }
            let start = |topic: &Topic| log.committed(*topic).map_or(0, |c| c.try_into().unwrap());
            let mut positions: Vec<usize> = topics.iter().map(start).collect();
            loop {
                let changed = log.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if log.kept().refuses_subscriptions {
                    return;
                }
                let mut idle = true;
                for (topic, position) in topics.iter().zip(&mut positions) {
                    let records = log.next(*topic, *position, subscription.batch_max);
                    if records.is_empty() {
                        continue;
                    }
                    idle = false;
                    *position += records.len();
                    let from = at(*topic);
                    let sent = events.send(LogEvent::Records { from, records }).await;
                    if sent.is_err() {
                        return;
                    }
                }
                if idle {
                    tokio::select! {
                        () = changed => {}
                        () = events.closed() => return,
                    }
                }
            }
        });
        Ok(Consumer {
            events: received,
            control: Arc::new(self.clone()),
        })
    }

    async fn init(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn close(&self) {}
}

#[async_trait::async_trait]
impl ConsumerControl for MemoryLog {
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        let mut kept = self.kept();
        if kept.refuses_commits {
            return Err(LogError::Unavailable("as told by the test".to_owned()));
        }
        for (at, offset) in next_offsets {
            kept.committed.insert(at.topic, offset);
        }
        Ok(())
    }

    async fn committed(&self, partition: TopicPartition) -> Result<Option<i64>, LogError> {
        Ok(Self::committed(self, partition.topic))
    }

    fn pause(&self, partition: TopicPartition) {
        let mut kept = self.kept();
        kept.paused.insert(partition.topic);
        kept.pauses_count += 1;
    }

    fn resume(&self, partition: TopicPartition) {
        self.kept().paused.remove(&partition.topic);
        self.changed.notify_waiters();
    }

    async fn read(
        &self,
        partition: TopicPartition,
        offsets: Range<i64>,
        key: &[u8],
    ) -> Result<Vec<Record>, LogError> {
        let kept = self.kept();
        let records = kept.records.get(&partition.topic).into_iter().flatten();
        let wanted = records.filter(|record| {
            offsets.contains(&record.offset) && record.key.as_deref() == Some(key)
        });
        Ok(wanted.cloned().collect())
    }

    async fn offsets_now(&self, partition: TopicPartition) -> Result<Range<i64>, LogError> {
        self.kept().asks_count += 1;
        let end = self.end_offset(partition).expect("always known here");
        Ok(0..end)
    }

    fn end_offset(&self, partition: TopicPartition) -> Option<i64> {
        let kept = self.kept();
        let records = kept.records.get(&partition.topic);
        Some(i64::try_from(records.map_or(0, Vec::len)).unwrap())
    }
}
