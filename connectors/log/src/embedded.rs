//! The embedded log of a single machine, on fjall: the same topics, partitions and offsets as Kafka, in one folder.
//!
//! One thread appends. It takes every waiting record, writes them as one batch with one fsync, and only then resolves
//! the produces. Consumers get only durable records.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use schemas::topic::Topic;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::warn;

use platform::log::{
    Consumer, Log, LogError, NewRecord, Start, Subscription, TopicPartition, partition_of,
};
use platform::reopen::Reopened;
use platform::settings::Settings as _;
use platform::trace::TraceContext;

mod encoding;
mod failures;
mod groups;
mod reader;
mod shared;
mod tables;
mod trim;
mod work;
mod writer;

use self::failures::{refused_by_disk, unavailable};
use self::groups::Groups;
use self::shared::Shared;
use self::tables::Tables;
use self::work::{Append, Work};

/// Largest record, key and value together: a whole MQTT payload as a dead letter, with room to spare.
const RECORD_BYTES_MAX: usize = 2 << 20;
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
                let reason = refused_by_disk(&error).unwrap_or_else(|| error.to_string());
                format!("open {dir}: {reason}")
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
            groups: Groups::default(),
            opened: Instant::now(),
        });
        let (appends, work) = mpsc::channel(config.queue_records_max);
        let writing = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer::run(&writing, work))
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

    async fn append(
        &self,
        topic: Topic,
        key: &[u8],
        value: Vec<u8>,
        trace: Option<TraceContext>,
    ) -> Result<(), LogError> {
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
            trace,
            done,
            room: room.map_err(|_| LogError::Closed)?,
        };
        work.send(Work::Append(append))
            .await
            .map_err(|_| LogError::Closed)?;
        drop(work);
        durable.await.unwrap_or(Err(LogError::Closed))
    }

    fn work(&self) -> Result<mpsc::Sender<Work>, LogError> {
        self.appends
            .lock()
            .expect("no holder panics")
            .clone()
            .ok_or(LogError::Closed)
    }
}

#[async_trait::async_trait]
impl Log for EmbeddedLog {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        self.append(topic, key, value, None).await
    }

    async fn produce_traced(&self, record: NewRecord<'_>) -> Result<(), LogError> {
        let NewRecord {
            topic,
            key,
            value,
            trace,
        } = record;
        self.append(topic, key, value.to_vec(), trace).await
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
