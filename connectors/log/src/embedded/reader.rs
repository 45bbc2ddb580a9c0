//! Consumers of the embedded log. Each reads its partitions in turn and waits for new commits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform::log::{
    Consumer, ConsumerControl, LogError, LogEvent, Record, Subscription, TopicPartition,
};
use platform::report::Throttle;
use platform::retry::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::failures::unavailable;
use super::shared::Shared;
use super::work::Work;

/// Batches that wait for the owner.
const EVENTS_MAX: usize = 16;
/// Records read at once while searching for those of one key.
const READ_RECORDS_MAX: usize = 2_000;
/// Pauses before a read that failed is tried again.
const READ_PAUSE_MIN: Duration = Duration::from_millis(100);
const READ_PAUSE_MAX: Duration = Duration::from_secs(5);

struct Control {
    shared: Arc<Shared>,
    /// Group and number of the member.
    membership: Option<(String, u64)>,
    owned: BTreeSet<TopicPartition>,
    work: mpsc::WeakSender<Work>,
    paused: Mutex<BTreeSet<TopicPartition>>,
}

#[async_trait::async_trait]
impl ConsumerControl for Control {
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        let Some((group, number)) = &self.membership else {
            return Err(LogError::Setup(
                "a consumer without a group commits nowhere".to_owned(),
            ));
        };
        let ours = self.shared.groups.is_member(group, *number)
            && next_offsets.iter().all(|(of, _)| self.owned.contains(of));
        if !ours {
            return Err(LogError::Refused(format!(
                "offsets of partitions that group {group} has given to another"
            )));
        }
        let work = self.work.upgrade().ok_or(LogError::Closed)?;
        let (done, durable) = tokio::sync::oneshot::channel();
        let commit = Work::Commit {
            group: group.clone(),
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

    async fn read(
        &self,
        partition: TopicPartition,
        offsets: Range<i64>,
        key: &[u8],
    ) -> Result<Vec<Record>, LogError> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_vec());
        let reading = tokio::task::spawn_blocking(move || {
            let (mut records, mut from) = (Vec::new(), offsets.start);
            loop {
                let batch = shared.read(partition, from, offsets.end, READ_RECORDS_MAX)?;
                let Some(last) = batch.last() else {
                    return Ok(records);
                };
                from = last.offset + 1;
                let of_key = |record: &Record| record.key.as_deref() == Some(&key[..]);
                records.extend(batch.into_iter().filter(of_key));
            }
        });
        reading.await.map_err(unavailable)?
    }

    async fn committed(&self, partition: TopicPartition) -> Result<Option<i64>, LogError> {
        let Some((group, _)) = &self.membership else {
            return Ok(None);
        };
        self.shared.committed(group, partition)
    }

    async fn offsets_now(&self, partition: TopicPartition) -> Result<Range<i64>, LogError> {
        let end = self.shared.end(partition);
        let oldest = self.shared.read(partition, 0, end, 1)?;
        Ok(oldest.first().map_or(end, |record| record.offset)..end)
    }

    fn end_offset(&self, partition: TopicPartition) -> Option<i64> {
        self.owned
            .contains(&partition)
            .then(|| self.shared.end(partition))
    }
}

pub(super) fn start(
    shared: &Arc<Shared>,
    work: &mpsc::Sender<Work>,
    subscription: Subscription,
    positions: BTreeMap<TopicPartition, i64>,
) -> Result<(Consumer, JoinHandle<()>), LogError> {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let membership = match subscription.group {
        Some(group) => {
            let number = shared.groups.join(&group, &sender, &positions)?;
            Some((group, number))
        }
        None => None,
    };
    let catching_up = if membership.is_none() {
        positions.keys().map(|of| (*of, shared.end(*of))).collect()
    } else {
        BTreeMap::new()
    };
    let control = Arc::new(Control {
        shared: Arc::clone(shared),
        membership,
        owned: positions.keys().copied().collect(),
        work: work.downgrade(),
        paused: Mutex::default(),
    });
    let reader = Reader {
        shared: Arc::clone(shared),
        control: Arc::clone(&control),
        sender,
        batch_max: subscription.batch_max.max(1),
        positions,
        catching_up,
    };
    let reader = tokio::spawn(reader.run());
    Ok((Consumer { events, control }, reader))
}

struct Reader {
    shared: Arc<Shared>,
    control: Arc<Control>,
    sender: mpsc::Sender<LogEvent>,
    batch_max: usize,
    positions: BTreeMap<TopicPartition, i64>,
    /// Partitions that have not yet been read to the end they had at the start, with that end.
    catching_up: BTreeMap<TopicPartition, i64>,
}

impl Reader {
    /// Runs until the owner drops its consumer, or the log is closed or fails.
    async fn run(self) {
        let mut closed = self.shared.closed.subscribe();
        let closed = async move {
            // An error means that the log is gone.
            drop(closed.wait_for(|closed| *closed).await);
        };
        tokio::select! {
            biased;
            () = closed => {}
            () = self.follow() => {}
        }
    }

    async fn follow(mut self) {
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
        let (away, mut pauses) = (
            Throttle::default(),
            Backoff::new(READ_PAUSE_MIN, READ_PAUSE_MAX),
        );
        loop {
            commits.mark_unchanged();
            let mut found = false;
            for of in &all {
                match self.hand_out(*of).await {
                    Ok(more) => {
                        found |= more;
                        pauses.reset();
                    }
                    Err(None) => return,
                    // The log is being opened again, or the disk refuses.
                    Err(Some(reason)) if reason.is_retryable() => {
                        if let Some(held_back) = away.pass() {
                            warn!(topic = %of.topic, partition = of.partition, held_back, %reason, "read the log again");
                        }
                        pauses.pause().await;
                        found = true;
                    }
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

    /// Hands out one batch of a partition; returns whether there was one. `Err(None)` if nobody listens any more.
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
            // Trimmed records leave gaps; without any record left, the position is the end.
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
