//! The tariffs as the log has them, merged as the engine merges them. A PUT produces the whole series with its own periods
//! over it: what it does not speak of stays as it was, also what another PUT states at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use model::limits::PERIODS_MAX;
use model::tariff::{PRICES_KEPT_MS, PriceSeries, Tariff};
use platform::log::{Consumer, LogError, LogEvent, Record, Start, Subscription};
use platform::retry::Backoff;
use platform::role_context::RoleContext;
use schemas::topic::Topic;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::problem::Refused;

/// How long a PUT waits until it reads in the log what it wrote there.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// How often a PUT says the whole series again, because somebody else's record says less.
const MENDS_MAX: usize = 8;
/// Records that a PUT which waits may be behind.
const SEEN_MAX: usize = 1_024;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Follows the topic. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Prices {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Prices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prices").finish_non_exhaustive()
    }
}

struct Shared {
    context: RoleContext,
    by_name: RwLock<BTreeMap<String, Held>>,
    /// Whether the topic has been read to its end once.
    is_whole: watch::Sender<bool>,
    /// Each record once it is merged in, so that a PUT can wait for its own.
    seen: broadcast::Sender<Bytes>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// One tariff.
#[derive(Default)]
struct Held {
    series: PriceSeries,
    /// The series as it is handed out.
    tariff: Option<Arc<Tariff>>,
    /// Whether the newest record does not say all that is known. The log may keep that record alone.
    record_lacks: bool,
}

impl Prices {
    /// Starts to read, and goes on trying while the log is away. Must be called inside a runtime.
    pub(crate) fn start(context: &RoleContext) -> Self {
        let shared = Arc::new(Shared {
            context: context.clone(),
            by_name: RwLock::default(),
            is_whole: watch::Sender::new(false),
            seen: broadcast::Sender::new(SEEN_MAX),
            task: std::sync::Mutex::new(None),
        });
        let task = tokio::spawn(follow(Arc::clone(&shared)));
        *shared.task.lock().expect("no holder panics") = Some(task);
        Self { shared }
    }

    pub(crate) fn close(&self) {
        let task = self.shared.task.lock().expect("no holder panics").take();
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Every tariff, by name.
    pub(crate) fn all(&self) -> Result<Vec<Arc<Tariff>>, Refused> {
        self.check_whole()?;
        let by_name = self.shared.by_name.read().expect("no writer panics");
        let tariffs = by_name.values().filter_map(|held| held.tariff.clone());
        Ok(tariffs.collect())
    }

    /// What is in force under `name`.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Arc<Tariff>>, Refused> {
        self.check_whole()?;
        let by_name = self.shared.by_name.read().expect("no writer panics");
        Ok(by_name.get(name).and_then(|held| held.tariff.clone()))
    }

    /// Puts the periods of `newer` over those that hold, and returns what holds then. Without periods nothing changes.
    pub(crate) async fn put(&self, newer: &Tariff, now_ms: i64) -> Result<Arc<Tariff>, Refused> {
        let (name, before) = (&newer.name, self.get(&newer.name)?);
        if newer.periods.is_empty() {
            let unknown = || {
                let detail = format!("there is no tariff {name:?}, and no period is given");
                Refused::invalid(Some("periods".to_owned()), detail)
            };
            return before.ok_or_else(unknown);
        }
        let whole = {
            let by_name = self.shared.by_name.read().expect("no writer panics");
            let known = by_name.get(name).map(|held| held.series.clone());
            known
                .unwrap_or_default()
                .with(newer, now_ms - PRICES_KEPT_MS)
        };
        let end_ms = |of: &Tariff| of.periods.last().map(|last| last.end_ms);
        if whole.periods.len() == PERIODS_MAX && end_ms(&whole) < end_ms(newer) {
            let detail = format!("with these the tariff has more than {PERIODS_MAX} periods");
            return Err(Refused::invalid(Some("periods".to_owned()), detail));
        }
        let mut held = Arc::new(whole);
        let mut is_seen = self.produce(&held).await?;
        // Somebody else's record may have come between, and may say less than is known now.
        for _ in 0..MENDS_MAX {
            let Some((merged, record_lacks)) = self.merged(name).filter(|_| is_seen) else {
                break;
            };
            held = merged;
            if !record_lacks {
                break;
            }
            is_seen = self.produce(&held).await?;
        }
        Ok(held)
    }

    /// What is in force, and whether the newest record lacks some of it.
    fn merged(&self, name: &str) -> Option<(Arc<Tariff>, bool)> {
        let by_name = self.shared.by_name.read().expect("no writer panics");
        let held = by_name.get(name)?;
        Some((held.tariff.clone()?, held.record_lacks))
    }

    /// Produces a record and waits until it is merged in here; false where that takes too long. It is in the log in any
    /// case.
    async fn produce(&self, tariff: &Tariff) -> Result<bool, Refused> {
        let context = &self.shared.context;
        let bytes = context.codec.encode(tariff);
        let bytes = bytes.map_err(|error| Refused::bad_request(error.to_string()))?;
        let mut seen = self.shared.seen.subscribe();
        let key = tariff.name.as_bytes();
        let produced = context.log.produce(Topic::Tariffs, key, bytes.clone());
        produced.await?;
        let is_seen = async {
            loop {
                match seen.recv().await {
                    Ok(value) if value == bytes => return true,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return false,
                }
            }
        };
        let is_seen = tokio::time::timeout(SEEN_WITHIN, is_seen).await;
        Ok(is_seen.unwrap_or(false))
    }

    fn check_whole(&self) -> Result<(), Refused> {
        if *self.shared.is_whole.borrow() {
            return Ok(());
        }
        Err(Refused::unavailable(
            "the tariffs are still being read".to_owned(),
        ))
    }
}

async fn follow(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    loop {
        match subscribe(&shared.context).await {
            Ok(consumer) => {
                backoff.reset();
                read(&shared, consumer).await;
                info!("the subscription to tariffs ended, subscribe again");
            }
            Err(reason) => warn!(%reason, "cannot subscribe to tariffs"),
        }
        backoff.pause().await;
    }
}

async fn subscribe(context: &RoleContext) -> Result<Consumer, LogError> {
    let subscription = Subscription {
        group: None,
        member: None,
        topics: vec![Topic::Tariffs],
        start: Start::Earliest,
        batch_max: 100,
    };
    context.log.subscribe(subscription).await
}

async fn read(shared: &Shared, mut consumer: Consumer) {
    let mut behind = BTreeSet::new();
    while let Some(event) = consumer.events.recv().await {
        match event {
            LogEvent::Assigned(partitions) => behind.extend(partitions),
            LogEvent::Records { records, .. } => {
                for record in &records {
                    take(shared, record);
                }
            }
            LogEvent::Revoked { done, .. } => {
                let _ = done.send(());
            }
            LogEvent::CaughtUp(partition) => {
                behind.remove(&partition);
                if behind.is_empty() {
                    shared.is_whole.send_replace(true);
                }
            }
        }
    }
}

/// What does not decode is the engine's to refuse.
fn take(shared: &Shared, record: &Record) {
    let Ok(tariff) = shared.context.codec.decode::<Tariff>(&record.value) else {
        return;
    };
    let keep_from_ms = shared.context.clock.now_ms() - PRICES_KEPT_MS;
    {
        let mut by_name = shared.by_name.write().expect("no writer panics");
        let held = by_name.entry(tariff.name.clone()).or_default();
        let merged = held.series.merge(&tariff, record.offset, keep_from_ms);
        held.record_lacks = merged.record_lacks;
        held.tariff = Some(Arc::new(held.series.tariff(&tariff.name)));
    }
    // Nobody may be waiting.
    let _ = shared.seen.send(record.value.clone());
}
