//! The one way in for everything that homes send: taken apart, encoded, and into the log, or into the spool while the
//! log is away. What cannot be read becomes a dead letter. Nothing is acknowledged here; `accept` says when it may be.
//!
//! Payloads go into the log in the order in which they were accepted, and behind the spool while it holds any.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::units::{DAY_MS, HouseholdId};
use schemas::codec::Codec;
use schemas::dead_letter::Reason;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, TryAcquireError, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::spool::{Recovered, Spool, SpoolError, SpoolLimits};
use platform::clock::Clock;
use platform::log::Log;
use platform::metrics::Metrics;

mod drain;
mod flow;
mod in_turn;
mod parts;

use flow::Job;
use parts::{Counters, Maker, Part};

pub use in_turn::InTurn;

/// One permit of the semaphore stands for so many bytes in memory.
const PERMIT_BYTES: usize = 1_024;
/// Most payloads that are accepted together.
const TOGETHER_MAX: usize = 256;
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
    /// How old a reading may be, days: no older than what the store keeps (`readings_days`), or it is acknowledged and
    /// gone. 0 takes any age since 2000.
    pub past_days_max: u32,
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
            past_days_max: 90,
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
    flow: tokio::sync::Mutex<mpsc::Sender<Job>>,
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
    counters: Counters,
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
        let damaged = self.spool.take_damaged();
        self.metrics.spool_damaged_total.inc_by(damaged);
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
        if recovered != Recovered::default() {
            let Recovered {
                records,
                torn_bytes,
                damaged,
            } = recovered;
            warn!(
                records,
                torn_bytes, damaged, "the spool holds records of an earlier run"
            );
        }
        let age_ms_max = match config.past_days_max {
            0 => i64::MAX,
            days => i64::from(days) * DAY_MS,
        };
        let maker = Maker::new(codec, clock, age_ms_max, config.future_skew_ms);
        let shared = Arc::new(Shared {
            log,
            spool,
            maker: maker.clone(),
            counters: Counters::new(metrics.clone()),
            metrics,
            produce_timeout: Duration::from_millis(config.produce_timeout_ms),
            away: watch::Sender::new(false),
        });
        shared.show_spool();
        let stop = watch::Sender::new(false);
        let (jobs, inbox) = mpsc::channel(in_flight_max as usize);
        let flowing = flow::run(Arc::clone(&shared), inbox, stop.subscribe());
        let draining = drain::run(Arc::clone(&shared), stop.subscribe());
        let tasks = vec![tokio::spawn(flowing), tokio::spawn(draining)];
        Ok(Arc::new(Self {
            maker,
            flow: tokio::sync::Mutex::new(jobs),
            in_flight: Arc::new(Semaphore::new(in_flight_max as usize)),
            in_flight_max,
            notices: broadcast::Sender::new(NOTICES_MAX),
            shared,
            stop,
            tasks: Mutex::new(tasks),
        }))
    }

    /// Takes one payload in. Resolves once every part of it is durable, in the log or in the spool; only then may it be
    /// acknowledged. Calls whose futures are first polled one after the other keep that order. Dropping the future does
    /// not take the payload back.
    pub async fn accept(&self, topic: &str, payload: Bytes) -> Result<(), NotDurable> {
        let mut failed = self.accept_all(&[(topic, &payload)]).await;
        failed.pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Takes payloads in, each behind its topic, as [`Ingest::accept`] does one by one, but with one answer for all.
    /// Returns those that are not durable, by their index, ascending.
    pub async fn accept_all(&self, payloads: &[(&str, &Bytes)]) -> Vec<(usize, NotDurable)> {
        let all = |error: NotDurable| {
            let each = (0..payloads.len()).map(|index| (index, error.clone()));
            each.collect()
        };
        // Unconstrained: a future made to yield here would lose its place to those behind it.
        match tokio::task::unconstrained(self.enqueue(payloads)).await {
            Ok(Some(wait)) => wait.await.unwrap_or_else(|_| all(NotDurable::Closed)),
            Ok(None) => Vec::new(),
            Err(error) => all(error),
        }
    }

    /// Gives payloads their place in the flow; `None` where there was nothing in them. Where there is memory at once
    /// they are taken apart before the place is taken, so that senders do so side by side.
    async fn enqueue(
        &self,
        payloads: &[(&str, &Bytes)],
    ) -> Result<Option<oneshot::Receiver<Vec<(usize, NotDurable)>>>, NotDurable> {
        let weights = payloads.iter().map(|(_, payload)| weight(payload.len()));
        let weight = weights
            .fold(0_u32, u32::saturating_add)
            .min(self.in_flight_max);
        let mut permit = match Arc::clone(&self.in_flight).try_acquire_many_owned(weight) {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::NoPermits) => None,
            Err(TryAcquireError::Closed) => return Err(NotDurable::Closed),
        };
        let early = permit.as_ref().map(|_| self.take_apart(payloads));
        let flow = match self.flow.try_lock() {
            Ok(flow) => flow,
            Err(_) => {
                // Who holds it may be waiting for this very memory.
                permit = None;
                self.flow.lock().await
            }
        };
        // The flow is held while memory is waited for, so that nobody who comes later goes first.
        let permit = match permit {
            Some(permit) => permit,
            None => Arc::clone(&self.in_flight)
                .acquire_many_owned(weight)
                .await
                .map_err(|_| NotDurable::Closed)?,
        };
        let parts = early.unwrap_or_else(|| self.take_apart(payloads));
        if parts.is_empty() {
            return Ok(None);
        }
        let (done, wait) = oneshot::channel();
        let job = Job {
            parts,
            done,
            permit,
        };
        flow.send(job).await.map_err(|_| NotDurable::Closed)?;
        Ok(Some(wait))
    }

    fn take_apart(&self, payloads: &[(&str, &Bytes)]) -> Vec<Part> {
        let mut parts = Vec::with_capacity(payloads.len());
        for (number, (topic, payload)) in payloads.iter().enumerate() {
            if let Some(notice) = self.maker.parts(number, topic, payload, &mut parts) {
                // Nobody listens where there is no gateway.
                let _ = self.notices.send(notice);
            }
        }
        parts
    }

    /// How many payloads of these lengths may be accepted together: one at least, and no more than leaves room for
    /// other senders.
    fn together(&self, lengths: impl Iterator<Item = usize>) -> usize {
        let weight_max = self.in_flight_max / 4;
        let mut sum = 0_u32;
        let fit = lengths.take(TOGETHER_MAX).take_while(|length| {
            sum = sum.saturating_add(weight(*length));
            sum <= weight_max
        });
        fit.count().max(1)
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

/// Permits that a payload of this length takes.
fn weight(payload_bytes: usize) -> u32 {
    u32::try_from(1 + payload_bytes / PERMIT_BYTES).unwrap_or(u32::MAX)
}
