//! The one way in for everything that homes send: taken apart, encoded, and into the log, or into the spool while the
//! log is away. What cannot be read becomes a dead letter. Nothing is acknowledged here; `accept` says when it may be.
//!
//! A home's payloads go into the log in the order in which they were accepted, and behind the spool while it holds any.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use household::units::HouseholdId;
use schemas::codec::Codec;
use schemas::dead_letter::Reason;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::clock::Clock;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::spool::{Spool, SpoolError, SpoolLimits};

mod drain;
mod in_turn;
mod lane;
mod parts;

use lane::Job;
use parts::Maker;

pub use in_turn::InTurn;

/// Homes are spread over so many lanes; a lane keeps order.
const LANES_COUNT: usize = 64;
/// One permit of the semaphore stands for so many bytes in memory.
const PERMIT_BYTES: usize = 1_024;
/// Notices that wait for a slow listener; older ones are dropped.
const NOTICES_MAX: usize = 1_024;

/// Settings of the ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Folder of the spool; each process needs its own.
    pub spool_dir: PathBuf,
    /// Most bytes in the spool; when it is full nothing is acknowledged.
    pub spool_bytes_max: u64,
    /// Bytes after which the spool begins a new file.
    pub spool_segment_bytes: u64,
    /// How far in the future a reading's time may lie, milliseconds.
    pub future_skew_ms: i64,
    /// Most bytes of payloads that are on their way into the log; more wait.
    pub in_flight_bytes_max: usize,
    /// How long the log may take for one record before it counts as away, milliseconds.
    pub produce_timeout_ms: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            spool_dir: PathBuf::from("hearth-data/spool"),
            spool_bytes_max: 1 << 30,
            spool_segment_bytes: 8 << 20,
            future_skew_ms: 300_000,
            in_flight_bytes_max: 64 << 20,
            produce_timeout_ms: 5_000,
        }
    }
}

/// Why an ingest cannot start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("open the spool")]
    Spool(#[from] SpoolError),
    /// A setting is out of its range.
    #[error("ingest.{key}: {expected}")]
    Config {
        key: &'static str,
        expected: &'static str,
    },
}

impl IngestError {
    /// Whether the same start may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Spool(error) => error.is_retryable(),
            Self::Config { .. } => false,
        }
    }
}

/// The payload, or a part of it, is safe nowhere: it must not be acknowledged, and the sender keeps it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotDurable {
    /// The log is away and the spool takes no more.
    #[error("neither log nor spool took it: {0}")]
    Spool(#[source] SpoolError),
    /// The ingest is closing.
    #[error("ingest is closed")]
    Closed,
}

impl NotDurable {
    /// Always: the sender tries again, here or at another process.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Spool(_) | Self::Closed => true,
        }
    }
}

/// A home's payload was refused: what its status topic tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalNotice {
    pub household_id: HouseholdId,
    /// Parts of the payload that became dead letters.
    pub refused: u64,
    /// Of the last of them.
    pub reason: Reason,
    /// For people: names the field and the limit.
    pub detail: String,
}

/// A running ingest.
#[derive(Debug)]
pub struct Ingest {
    maker: Maker,
    lanes: Vec<tokio::sync::Mutex<mpsc::Sender<Job>>>,
    in_flight: Arc<Semaphore>,
    in_flight_max: u32,
    notices: broadcast::Sender<RefusalNotice>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What lanes and drainer share.
struct Shared {
    log: Arc<dyn Log>,
    spool: Spool,
    maker: Maker,
    metrics: Metrics,
    produce_timeout: Duration,
    /// Whether the log did not answer last time; then payloads go straight to the spool.
    away: watch::Sender<bool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("spool", &self.spool)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    fn set_away(&self, away: bool) {
        let changed = self
            .away
            .send_if_modified(|now| std::mem::replace(now, away) != away);
        if changed && away {
            warn!("the log is away, readings go to the spool");
        } else if changed {
            warn!(spool_bytes = self.spool.bytes(), "the log is back");
        }
    }

    /// Whether a new payload goes behind the spool rather than into the log.
    fn must_spool(&self) -> bool {
        self.is_away() || !self.spool.is_empty()
    }

    fn show_spool(&self) {
        let bytes = i64::try_from(self.spool.bytes()).unwrap_or(i64::MAX);
        self.metrics.spool_bytes.set(bytes);
    }
}

/// Resolves when the ingest stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An ingest that was dropped has stopped too.
    let _ = stop.wait_for(|stopped| *stopped).await;
}

impl Ingest {
    /// Opens the spool and starts. Needs a tokio runtime.
    pub fn start(
        log: Arc<dyn Log>,
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        config: IngestConfig,
    ) -> Result<Arc<Self>, IngestError> {
        let in_flight_max = check(&config)?;
        let limits = SpoolLimits {
            bytes_max: config.spool_bytes_max,
            segment_bytes: config.spool_segment_bytes,
        };
        let spool_dir = config.spool_dir;
        let (spool, recovered) = Spool::open(&spool_dir, limits)?;
        if recovered.entries > 0 || recovered.torn_bytes > 0 {
            let (entries, torn_bytes) = (recovered.entries, recovered.torn_bytes);
            warn!(
                entries,
                torn_bytes, "the spool holds records of an earlier run"
            );
        }
        let maker = Maker::new(codec, clock, config.future_skew_ms);
        let shared = Arc::new(Shared {
            log,
            spool,
            maker: maker.clone(),
            metrics,
            produce_timeout: Duration::from_millis(config.produce_timeout_ms),
            away: watch::Sender::new(false),
        });
        shared.show_spool();
        let stop = watch::Sender::new(false);
        let mut tasks = vec![tokio::spawn(drain::run(
            Arc::clone(&shared),
            stop.subscribe(),
        ))];
        let mut lanes = Vec::with_capacity(LANES_COUNT);
        for _ in 0..LANES_COUNT {
            let (jobs, inbox) = mpsc::channel(in_flight_max as usize);
            tasks.push(tokio::spawn(lane::run(
                Arc::clone(&shared),
                inbox,
                stop.subscribe(),
            )));
            lanes.push(tokio::sync::Mutex::new(jobs));
        }
        Ok(Arc::new(Self {
            maker,
            lanes,
            in_flight: Arc::new(Semaphore::new(in_flight_max as usize)),
            in_flight_max,
            notices: broadcast::Sender::new(NOTICES_MAX),
            shared,
            stop,
            tasks: Mutex::new(tasks),
        }))
    }

    /// Takes one payload in. Resolves once every part of it is durable, in the log or in the spool; only then may it be
    /// acknowledged. Calls whose futures are first polled one after the other keep that order per home. Dropping the
    /// future does not take the payload back.
    pub async fn accept(&self, topic: &str, payload: Bytes) -> Result<(), NotDurable> {
        // Unconstrained: a future made to yield here would lose its place to those behind it.
        let wait = tokio::task::unconstrained(self.enqueue(topic, payload)).await?;
        match wait {
            Some(wait) => wait.await.unwrap_or(Err(NotDurable::Closed)),
            None => Ok(()),
        }
    }

    /// Gives a payload its place in the lane of its home; `None` where there was nothing in it.
    async fn enqueue(
        &self,
        topic: &str,
        payload: Bytes,
    ) -> Result<Option<oneshot::Receiver<Result<(), NotDurable>>>, NotDurable> {
        // Held while memory is waited for, so that nobody who comes later goes first.
        let lane = self.lanes[lane_of(topic)].lock().await;
        let weight = u32::try_from(1 + payload.len() / PERMIT_BYTES).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.in_flight)
            .acquire_many_owned(weight.min(self.in_flight_max))
            .await
            .map_err(|_| NotDurable::Closed)?;
        let (parts, notice) = self.maker.parts(topic, &payload);
        drop(payload);
        if let Some(notice) = notice {
            // Nobody listens where there is no gateway.
            let _ = self.notices.send(notice);
        }
        if parts.is_empty() {
            return Ok(None);
        }
        let (done, wait) = oneshot::channel();
        let job = Job {
            parts,
            done,
            permit,
        };
        lane.send(job).await.map_err(|_| NotDurable::Closed)?;
        Ok(Some(wait))
    }

    /// What is refused from now on, home by home. A listener that is too slow misses the oldest.
    #[must_use]
    pub fn refusals(&self) -> broadcast::Receiver<RefusalNotice> {
        self.notices.subscribe()
    }

    /// Whether new payloads go to the spool.
    #[must_use]
    pub fn is_spooling(&self) -> bool {
        self.shared.must_spool()
    }

    /// Takes nothing more, waits until what was accepted is durable, and closes the spool, which keeps what it holds.
    pub async fn close(&self) {
        // Fair: everybody who came before has been answered when this is granted.
        let all = self.in_flight.acquire_many(self.in_flight_max).await;
        self.in_flight.close();
        drop(all);
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("no panic while it is held"));
        for task in tasks {
            if let Err(error) = task.await {
                warn!(%error, "a task of the ingest ended badly");
            }
        }
        self.shared.spool.close().await;
    }
}

/// Permits of the semaphore, where the settings are sound.
fn check(config: &IngestConfig) -> Result<u32, IngestError> {
    let wrong = |key, expected| Err(IngestError::Config { key, expected });
    if config.spool_bytes_max == 0 {
        return wrong("spool_bytes_max", "more than 0");
    }
    if config.spool_segment_bytes == 0 {
        return wrong("spool_segment_bytes", "more than 0");
    }
    if config.future_skew_ms < 0 {
        return wrong("future_skew_ms", "0 or more");
    }
    if config.produce_timeout_ms == 0 {
        return wrong("produce_timeout_ms", "more than 0");
    }
    match u32::try_from(config.in_flight_bytes_max / PERMIT_BYTES) {
        Ok(permits @ 1..=1_048_576) => Ok(permits),
        Ok(_) | Err(_) => wrong("in_flight_bytes_max", "1024 to 1073741824"),
    }
}

/// The lane of a topic's home, so that everything of a home is in one.
fn lane_of(topic: &str) -> usize {
    let home = topic.split('/').nth(1).unwrap_or(topic);
    crc32fast::hash(home.as_bytes()) as usize % LANES_COUNT
}
