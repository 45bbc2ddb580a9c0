//! The embedded log of a single machine, on fjall: the same topics, partitions and offsets as Kafka, in one folder.
//!
//! One thread appends. It takes every waiting record, writes them as one batch with one fsync, and only then resolves
//! the produces. Consumers get only durable records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use schemas::topic::Topic;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::warn;

use platform::log::{
    Consumer, ConsumerControl, Log, LogError, LogEvent, Record, Start, Subscription,
    TopicPartition, partition_of,
};
use platform::reopen::{self, Reopened};
use platform::retry::Backoff;
use platform::settings::Settings as _;

mod reader;
mod tables;
mod trim;

use self::tables::Tables;

/// Most records in one commit.
const COMMIT_RECORDS_MAX: usize = 8_192;
/// Largest record, key and value together: a whole MQTT payload as a dead letter, with room to spare.
const RECORD_BYTES_MAX: usize = 2 << 20;
/// A group whose consumer has not come by then, counted from the start without the wall clock, holds no records any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// Most bytes that wait to be written; more wait before they get in.
const QUEUE_BYTES_MAX: usize = 64 << 20;

platform::settings! {
    /// Settings of the embedded log.
    pub struct EmbeddedLogConfig {
        /// Partitions of every topic. Fixed when the folder is created.
        #[range(1..=256)]
        partitions: u32 = 4,
        /// Hours that records are kept after their arrival, in topics that delete; 0 keeps them for ever.
        #[range(0..=876_000)]
        retention_hours: u32 = 168,
        /// Most records in the writer's queue; further produces wait for room.
        #[range(1..=1_000_000)]
        queue_records_max: usize = 16_384,
    }
}

/// The embedded log.
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    config: EmbeddedLogConfig,
    room: Arc<Semaphore>,
    appends: Mutex<Option<mpsc::Sender<Work>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    readers: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

struct Shared {
    dir: PathBuf,
    tables: Reopened<Tables>,
    partitions: u32,
    ends: Mutex<BTreeMap<TopicPartition, i64>>,
    /// Number of commits so far, so that readers notice new records.
    commits: watch::Sender<u64>,
    closed: watch::Sender<bool>,
    groups: reader::Groups,
    opened: Instant,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

enum Work {
    Append(Append),
    /// Stores offsets of a group.
    Commit {
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
        done: oneshot::Sender<Result<(), LogError>>,
    },
    /// Removes the records with these keys.
    Trim {
        keys: Vec<Vec<u8>>,
        done: oneshot::Sender<Result<(), LogError>>,
    },
}

struct Append {
    to: TopicPartition,
    key: Vec<u8>,
    value: Vec<u8>,
    done: oneshot::Sender<Result<(), LogError>>,
    /// Returned once the record is written.
    room: OwnedSemaphorePermit,
}

fn unavailable(error: impl std::fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

/// What the disk or the number of open files refuses now may go later; damage stays.
fn from_fjall(error: fjall::Error) -> LogError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return unavailable(error);
        }
        cause = error.source();
    }
    if matches!(error, fjall::Error::Poisoned) {
        unavailable(error)
    } else {
        LogError::Setup(error.to_string())
    }
}

/// The number of a topic on disk. A number is never given to another topic, whatever the order of [`Topic::ALL`].
const fn topic_number(topic: Topic) -> u8 {
    match topic {
        Topic::Telemetry => 0,
        Topic::Households => 1,
        Topic::Tariffs => 2,
        Topic::WeatherForecast => 3,
        Topic::OptimizeRequests => 4,
        Topic::Schedules => 5,
        Topic::Commands => 6,
        Topic::Acks => 7,
        Topic::DeadLetters => 8,
        Topic::Alerts => 9,
        Topic::Slots => 10,
    }
}

/// Returns a record's key. Records sort by topic, partition and offset.
fn record_key(from: TopicPartition, offset: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(topic_number(from.topic));
    key.extend(from.partition.to_be_bytes());
    key.extend(offset.to_be_bytes());
    key
}

fn offset_of_key(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.get(5..13)?.try_into().ok()?))
}

fn offset_key(group: &str, of: TopicPartition) -> Vec<u8> {
    let mut key = group.as_bytes().to_vec();
    key.push(0);
    key.push(topic_number(of.topic));
    key.extend(of.partition.to_be_bytes());
    key
}

/// Returns a record's stored form: time, length of the key, key, value.
fn record_value(append: &Append, now_ms: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + append.key.len() + append.value.len());
    bytes.extend(now_ms.to_be_bytes());
    let key_bytes = u32::try_from(append.key.len()).expect("a key is short");
    bytes.extend(key_bytes.to_be_bytes());
    bytes.extend(&append.key);
    bytes.extend(&append.value);
    bytes
}

fn parse_record(offset: i64, bytes: &[u8]) -> Option<Record> {
    let (timestamp_ms, rest) = bytes.split_first_chunk::<8>()?;
    let (key_bytes, rest) = rest.split_first_chunk::<4>()?;
    let key_bytes = usize::try_from(u32::from_be_bytes(*key_bytes)).ok()?;
    let (key, value) = rest.split_at_checked(key_bytes)?;
    Some(Record {
        offset,
        timestamp_ms: i64::from_be_bytes(*timestamp_ms),
        key: Some(bytes::Bytes::copy_from_slice(key)),
        value: bytes::Bytes::copy_from_slice(value),
    })
}

impl EmbeddedLog {
    /// Opens or creates the log in `dir`.
    pub fn open(dir: &Path, config: EmbeddedLogConfig) -> Result<Self, LogError> {
        config
            .checked("log.embedded")
            .map_err(|bad| LogError::Setup(bad.to_string()))?;
        let tables = Tables::open(dir).map_err(|error| {
            let dir = dir.display();
            LogError::Setup(if matches!(error, fjall::Error::Locked) {
                format!("{dir} is in use by another process")
            } else {
                format!("open {dir}: {error}")
            })
        })?;
        let setup =
            |error: fjall::Error| LogError::Setup(format!("read {}: {error}", dir.display()));
        let kept = tables.partitions(config.partitions).map_err(setup)?;
        let partitions = kept.ok_or_else(|| {
            let dir = dir.display();
            LogError::Setup(format!("{dir}: the number of partitions is damaged"))
        })?;
        if partitions != config.partitions {
            warn!(
                partitions,
                wanted = config.partitions,
                "the folder keeps its number of partitions"
            );
        }
        let ends = tables.ends(partitions).map_err(setup)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            tables: Reopened::new("embedded log", tables),
            partitions,
            ends: Mutex::new(ends),
            commits: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            groups: reader::Groups::default(),
            opened: Instant::now(),
        });
        let (appends, work) = mpsc::channel(config.queue_records_max);
        let writing = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writing.write(work))
            .map_err(unavailable)?;
        trim::start(&shared, &appends, config.retention_hours)?;
        Ok(Self {
            shared,
            config,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            appends: Mutex::new(Some(appends)),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::default(),
        })
    }

    /// Removes what is past its retention at `now_ms` and read by every group, and what a newer record of the same key replaces; the number of
    /// records removed. The log does the same by itself once a minute.
    pub async fn trim(&self, now_ms: i64) -> Result<usize, LogError> {
        let (shared, work) = (Arc::clone(&self.shared), self.work()?);
        let before_ms = trim::before_ms(now_ms, self.config.retention_hours);
        tokio::task::spawn_blocking(move || {
            trim::pass(&shared, &work, before_ms, &mut BTreeMap::new())
        })
        .await
        .map_err(unavailable)?
    }

    fn work(&self) -> Result<mpsc::Sender<Work>, LogError> {
        self.appends
            .lock()
            .expect("no holder panics")
            .clone()
            .ok_or(LogError::Closed)
    }
}

impl Shared {
    fn partitions_of(&self, topics: &[Topic]) -> Vec<TopicPartition> {
        let mut all = Vec::new();
        for partition in 0..i32::try_from(self.partitions).expect("at most 256") {
            all.extend(topics.iter().map(|topic| TopicPartition {
                topic: *topic,
                partition,
            }));
        }
        all
    }

    fn end(&self, of: TopicPartition) -> i64 {
        self.ends
            .lock()
            .expect("no holder panics")
            .get(&of)
            .copied()
            .unwrap_or(0)
    }

    fn write(&self, mut work: mpsc::Receiver<Work>) {
        let mut pauses = reopen::pauses();
        while let Some(first) = work.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < COMMIT_RECORDS_MAX
                && let Ok(next) = work.try_recv()
            {
                batch.push(next);
            }
            match self.commit(batch) {
                Ok(()) => self.tables.succeeded(&mut pauses),
                Err(failure) => {
                    if !self.reopen(&failure, &mut work, &mut pauses) {
                        return;
                    }
                }
            }
        }
    }

    /// Opens the tables again after a failed commit, since they take no further one. What comes meanwhile is refused, and may
    /// come again. False when the log was closed.
    fn reopen(&self, failure: &str, work: &mut mpsc::Receiver<Work>, pauses: &mut Backoff) -> bool {
        let open = || {
            let opened = reopen::write_again(&self.dir, tables::JOURNAL).map_err(fjall::Error::Io);
            let opened = opened.and_then(|()| Tables::open(&self.dir));
            let opened = opened.and_then(|tables| Ok((tables.ends(self.partitions)?, tables)));
            let (found, tables) = opened.map_err(|error| error.to_string())?;
            // A record whose commit failed may be there all the same. No offset is given twice.
            let mut ends = self.ends.lock().expect("no holder panics");
            for (of, end) in found {
                let known = ends.entry(of).or_default();
                *known = end.max(*known);
            }
            Ok(tables)
        };
        let turn = || loop {
            match work.try_recv() {
                Ok(piece) => piece.answer(Err(unavailable(failure))),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        };
        let reopened = self.tables.reopen(failure, pauses, open, turn);
        if reopened {
            self.commits.send_modify(|commits| *commits += 1);
        }
        reopened
    }

    /// Writes all of it or nothing; the error for people.
    fn commit(&self, work: Vec<Work>) -> Result<(), String> {
        let mut ends = self.ends.lock().expect("no holder panics").clone();
        let outcome = self
            .tables
            .with(|tables| tables.commit(&work, &mut ends))
            .unwrap_or(Err(fjall::Error::Poisoned))
            .map_err(|error| error.to_string());
        if outcome.is_ok() {
            *self.ends.lock().expect("no holder panics") = ends;
            self.commits.send_modify(|commits| *commits += 1);
        }
        for piece in work {
            piece.answer(outcome.clone().map_err(unavailable));
        }
        outcome
    }

    /// Reads from the tables; not now while they are opened again.
    fn look<T>(
        &self,
        question: impl FnOnce(&Tables) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let answer = self.tables.with(question);
        answer.unwrap_or_else(|| Err(unavailable("the embedded log is being opened again")))
    }

    /// The first offset that some group has yet to read; `None` where no group reads the partition. A group that has committed
    /// and has no member counts as long as it may still come.
    fn unread_from(&self, of: TopicPartition) -> Result<Option<i64>, LogError> {
        let mut unread = self.groups.starts(of);
        let offsets = self.look(|tables| tables.offsets_of(of).map_err(from_fjall))?;
        for (group, offset) in offsets {
            if unread.contains_key(&group) || self.opened.elapsed() < ABANDONED_AFTER {
                unread.insert(group, offset);
            }
        }
        Ok(unread.into_values().min())
    }

    fn committed(&self, group: &str, of: TopicPartition) -> Result<Option<i64>, LogError> {
        self.look(|tables| tables.committed(group, of).map_err(from_fjall))
    }
}

impl Work {
    fn answer(self, answer: Result<(), LogError>) {
        let done = match self {
            Self::Append(append) => {
                drop(append.room);
                append.done
            }
            Self::Commit { done, .. } | Self::Trim { done, .. } => done,
        };
        // A producer that stopped waiting needs no answer.
        let _ = done.send(answer);
    }
}

#[async_trait::async_trait]
impl Log for EmbeddedLog {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let to = TopicPartition {
            topic,
            partition: partition_of(key, self.shared.partitions),
        };
        let bytes = key.len() + value.len();
        if bytes > RECORD_BYTES_MAX {
            let reason = format!("{bytes} bytes, at most {RECORD_BYTES_MAX}");
            return Err(LogError::Refused(reason));
        }
        let work = self.work()?;
        let bytes = u32::try_from(bytes).expect("the limit fits");
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        let (done, durable) = oneshot::channel();
        let append = Append {
            to,
            key: key.to_vec(),
            value,
            done,
            room: room.map_err(|_| LogError::Closed)?,
        };
        work.send(Work::Append(append))
            .await
            .map_err(|_| LogError::Closed)?;
        drop(work);
        durable.await.unwrap_or(Err(LogError::Closed))
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, LogError> {
        let work = self.work()?;
        let mut positions = BTreeMap::new();
        for of in self.shared.partitions_of(&subscription.topics) {
            let committed = match &subscription.group {
                Some(group) => self.shared.committed(group, of)?,
                None => None,
            };
            let end = self.shared.end(of);
            let start = match subscription.start {
                Start::Earliest => 0,
                Start::Latest => end,
            };
            positions.insert(of, committed.unwrap_or(start).min(end));
        }
        let (consumer, reader) = reader::start(&self.shared, &work, subscription, positions)?;
        let mut readers = self.readers.lock().expect("no holder panics");
        readers.retain(|reader| !reader.is_finished());
        readers.push(reader);
        Ok(consumer)
    }

    async fn init(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        self.work()?;
        self.shared.look(|_| Ok(()))
    }

    async fn close(&self) {
        drop(self.appends.lock().expect("no holder panics").take());
        self.shared.closed.send_replace(true);
        let readers = std::mem::take(&mut *self.readers.lock().expect("no holder panics"));
        for reader in readers {
            if reader.await.is_err() {
                warn!("a reader of the log failed");
            }
        }
        let writer = self.writer.lock().expect("no holder panics").take();
        if let Some(writer) = writer {
            // Consumers hold the queue weakly, so the writer ends once it is empty.
            if tokio::task::spawn_blocking(move || writer.join())
                .await
                .is_err()
            {
                warn!("the log's writer failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders that exist hold these numbers.
    #[test]
    fn numbers_of_topics_on_disk_never_change() {
        let numbers = [
            ("telemetry", 0),
            ("households", 1),
            ("tariffs", 2),
            ("weather-forecast", 3),
            ("optimize-requests", 4),
            ("schedules", 5),
            ("commands", 6),
            ("acks", 7),
            ("dead-letters", 8),
            ("alerts", 9),
            ("slots", 10),
        ];
        for (name, number) in numbers {
            let topic = Topic::parse(name).unwrap();
            assert_eq!(topic_number(topic), number, "{name}");
            let of = TopicPartition {
                topic,
                partition: 258,
            };
            let key = [number, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4];
            assert_eq!(record_key(of, 772), key, "{name}");
            assert_eq!(offset_key("g", of), [b'g', 0, number, 0, 0, 1, 2]);
        }
        let mut all: Vec<u8> = Topic::ALL.into_iter().map(topic_number).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Topic::ALL.len(), "each number is one topic's");
    }
}
