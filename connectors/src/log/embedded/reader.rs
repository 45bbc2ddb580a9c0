//! Consumers of the embedded log: each reads its partitions in turn and waits for commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tracing::error;

use super::{
    Consumer, ConsumerControl, LogError, LogEvent, Record, Shared, Subscription, TopicPartition,
    Work, offset_of_key, parse_record, record_key, unavailable,
};

/// Batches that wait for the owner.
const EVENTS_MAX: usize = 16;

/// A group's one member. Leaves when dropped.
#[derive(Debug)]
pub(super) struct Membership {
    shared: Arc<Shared>,
    group: String,
}

impl Membership {
    pub(super) fn join(shared: &Arc<Shared>, group: &str) -> Result<Self, LogError> {
        let mut groups = shared.groups.lock().expect("no holder panics");
        if !groups.insert(group.to_owned()) {
            let reason =
                format!("group {group} has a member, and the embedded log gives it all partitions");
            return Err(LogError::Setup(reason));
        }
        Ok(Self {
            shared: Arc::clone(shared),
            group: group.to_owned(),
        })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Ok(mut groups) = self.shared.groups.lock() {
            groups.remove(&self.group);
        }
    }
}

struct Control {
    shared: Arc<Shared>,
    group: Option<String>,
    work: mpsc::WeakSender<Work>,
    paused: Mutex<BTreeSet<TopicPartition>>,
}

#[async_trait::async_trait]
impl ConsumerControl for Control {
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        let Some(group) = self.group.clone() else {
            return Err(LogError::Setup(
                "a consumer without a group commits nowhere".to_owned(),
            ));
        };
        let work = self.work.upgrade().ok_or(LogError::Closed)?;
        let (done, durable) = tokio::sync::oneshot::channel();
        let commit = Work::Commit {
            group,
            offsets: next_offsets,
            done,
        };
        work.send(commit).await.map_err(|_| LogError::Closed)?;
        drop(work);
        durable.await.unwrap_or(Err(LogError::Closed))
    }

    fn pause(&self, partition: TopicPartition) {
        self.paused
            .lock()
            .expect("no holder panics")
            .insert(partition);
    }

    fn resume(&self, partition: TopicPartition) {
        self.paused
            .lock()
            .expect("no holder panics")
            .remove(&partition);
        // Wakes the reader up.
        self.shared.commits.send_modify(|commits| *commits += 1);
    }

    fn end_offset(&self, partition: TopicPartition) -> Option<i64> {
        Some(self.shared.end(partition))
    }
}

pub(super) fn start(
    shared: &Arc<Shared>,
    work: mpsc::Sender<Work>,
    subscription: Subscription,
    membership: Option<Membership>,
    positions: BTreeMap<TopicPartition, i64>,
) -> Consumer {
    let control = Arc::new(Control {
        shared: Arc::clone(shared),
        group: subscription.group.clone(),
        work: work.downgrade(),
        paused: Mutex::default(),
    });
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let catching_up = if membership.is_none() {
        positions.keys().map(|of| (*of, shared.end(*of))).collect()
    } else {
        BTreeMap::new()
    };
    let reader = Reader {
        shared: Arc::clone(shared),
        control: Arc::clone(&control),
        sender,
        batch_max: subscription.batch_max,
        positions,
        catching_up,
        _membership: membership,
    };
    tokio::spawn(reader.run());
    Consumer { events, control }
}

struct Reader {
    shared: Arc<Shared>,
    control: Arc<Control>,
    sender: mpsc::Sender<LogEvent>,
    batch_max: usize,
    positions: BTreeMap<TopicPartition, i64>,
    /// Ends as they were at the start, of partitions that have not reached them.
    catching_up: BTreeMap<TopicPartition, i64>,
    _membership: Option<Membership>,
}

impl Reader {
    /// Ends when the owner drops its consumer, or the log fails.
    async fn run(mut self) {
        let mut commits = self.shared.commits.subscribe();
        let all: Vec<TopicPartition> = self.positions.keys().copied().collect();
        if self
            .sender
            .send(LogEvent::Assigned(all.clone()))
            .await
            .is_err()
        {
            return;
        }
        loop {
            commits.mark_unchanged();
            let mut found = false;
            for of in &all {
                match self.hand_out(*of).await {
                    Ok(more) => found |= more,
                    Err(None) => return,
                    Err(Some(reason)) => {
                        error!(topic = %of.topic, partition = of.partition, %reason, "read the log");
                        return;
                    }
                }
            }
            if found {
                continue;
            }
            tokio::select! {
                changed = commits.changed() => if changed.is_err() { return; },
                () = self.sender.closed() => return,
            }
        }
    }

    /// Hands out one batch of a partition; true where there was one. `Err(None)` when nobody listens any more.
    async fn hand_out(&mut self, of: TopicPartition) -> Result<bool, Option<LogError>> {
        let position = self.positions[&of];
        let end = self.shared.end(of);
        let paused = self
            .control
            .paused
            .lock()
            .expect("no holder panics")
            .contains(&of);
        let mut found = false;
        if position < end && !paused {
            let (shared, batch_max) = (Arc::clone(&self.shared), self.batch_max);
            let read =
                tokio::task::spawn_blocking(move || shared.read(of, position, end, batch_max));
            let records = read
                .await
                .map_err(|error| Some(unavailable(error)))?
                .map_err(Some)?;
            // Trimmed records leave gaps; a partition of gaps alone is at its end.
            let next = records.last().map_or(end, |last| last.offset + 1);
            self.positions.insert(of, next);
            if !records.is_empty() {
                found = true;
                let event = LogEvent::Records { from: of, records };
                self.sender.send(event).await.map_err(|_| None)?;
            }
        }
        if self
            .catching_up
            .get(&of)
            .is_some_and(|end| self.positions[&of] >= *end)
        {
            self.catching_up.remove(&of);
            self.sender
                .send(LogEvent::CaughtUp(of))
                .await
                .map_err(|_| None)?;
        }
        Ok(found)
    }
}

impl Shared {
    fn read(
        &self,
        of: TopicPartition,
        from: i64,
        end: i64,
        records_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        for guard in self
            .records
            .range(record_key(of, from)..record_key(of, end))
            .take(records_max)
        {
            let (key, value) = guard.into_inner().map_err(unavailable)?;
            let record = offset_of_key(&key).and_then(|offset| parse_record(offset, &value));
            records.push(record.ok_or_else(|| unavailable("a stored record is damaged"))?);
        }
        Ok(records)
    }
}
