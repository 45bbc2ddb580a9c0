//! A log in memory that can be switched off, and what tests of the way in need around it. As in the real ones, a record's
//! place is taken when its produce is first polled.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::ingest::{Ingest, IngestConfig};
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;
use platform::clock::Clock;
use platform::log::{Consumer, Log, LogError, NewRecord, Subscription};
use platform::metrics::Metrics;
use platform::trace::Tracer;
use schemas::codec::{Codec, Message};
use schemas::mqtt;
use schemas::topic::Topic;
use tokio::sync::Notify;

/// A record as it was produced.
#[derive(Debug, Clone)]
pub struct Produced {
    pub topic: Topic,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// Keeps what is produced.
#[derive(Debug)]
pub struct MemoryLog {
    records: Mutex<Vec<Produced>>,
    off: AtomicBool,
    /// Neither takes nor refuses while set.
    stuck: AtomicBool,
    unstuck: Notify,
    value_bytes_max: AtomicUsize,
    gives_up_after: Mutex<Duration>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            off: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            unstuck: Notify::new(),
            value_bytes_max: AtomicUsize::new(usize::MAX),
            gives_up_after: Mutex::default(),
        }
    }
}

impl MemoryLog {
    pub fn switch_off(&self, off: bool) {
        self.off.store(off, Ordering::SeqCst);
    }

    pub fn stick(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::SeqCst);
        self.unstuck.notify_waiters();
    }

    pub fn refuse_above(&self, value_bytes_max: usize) {
        self.value_bytes_max
            .store(value_bytes_max, Ordering::SeqCst);
    }

    pub fn give_up_after(&self, limit: Duration) {
        *self.gives_up_after.lock().unwrap() = limit;
    }

    async fn unstuck(&self) {
        loop {
            let unstuck = self.unstuck.notified();
            if !self.stuck.load(Ordering::SeqCst) {
                return;
            }
            unstuck.await;
        }
    }

    fn take(&self, record: &NewRecord<'_>) -> Result<(), LogError> {
        if record.value.len() > self.value_bytes_max.load(Ordering::SeqCst) {
            return Err(LogError::Refused("too large".to_owned()));
        }
        self.records.lock().unwrap().push(Produced {
            topic: record.topic,
            key: record.key.to_vec(),
            value: record.value.to_vec(),
        });
        Ok(())
    }

    pub fn records(&self) -> Vec<Produced> {
        self.records.lock().unwrap().clone()
    }

    /// What is in a topic, decoded.
    pub fn read<T: Message>(&self) -> Vec<T> {
        let codec = Codec::single_object();
        self.records()
            .into_iter()
            .filter(|record| record.topic == T::TOPIC)
            .map(|record| codec.decode(&record.value).unwrap())
            .collect()
    }

    /// Times of a home's readings, in the log's order.
    pub fn times_of(&self, household: i64) -> Vec<i64> {
        let id = HouseholdId::new(household).unwrap();
        let readings = self.read::<Reading>().into_iter();
        readings
            .filter(|reading| reading.household_id == id)
            .map(|reading| reading.ts_ms)
            .collect()
    }
}

#[async_trait::async_trait]
impl Log for MemoryLog {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let record = NewRecord {
            topic,
            key,
            value: &value,
            trace: None,
        };
        let failed = self.produce_all(&[record], Duration::MAX).await;
        failed
            .into_iter()
            .next()
            .map_or(Ok(()), |(_, error)| Err(error))
    }

    /// A batch meets the log either away or there, as it does in one request: tests of an outage compare whole orders.
    async fn produce_all(
        &self,
        records: &[NewRecord<'_>],
        limit: Duration,
    ) -> Vec<(usize, LogError)> {
        let stuck = tokio::time::timeout(limit, self.unstuck()).await.is_err();
        if stuck || self.off.load(Ordering::SeqCst) {
            let away = || LogError::Unavailable("switched off or stuck".to_owned());
            return (0..records.len()).map(|index| (index, away())).collect();
        }
        let failed = records.iter().enumerate().filter_map(|(index, record)| {
            let taken = self.take(record);
            Some((index, taken.err()?))
        });
        let failed = failed.collect();
        // The places are taken; the answer comes later.
        tokio::task::yield_now().await;
        failed
    }

    fn gives_up_after(&self) -> Duration {
        *self.gives_up_after.lock().unwrap()
    }

    async fn subscribe(&self, _: Subscription) -> Result<Consumer, LogError> {
        Err(LogError::Setup("nobody reads this log".to_owned()))
    }

    async fn init(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        if self.off.load(Ordering::SeqCst) {
            return Err(LogError::Unavailable("switched off".to_owned()));
        }
        Ok(())
    }

    async fn close(&self) {}
}

/// An ingest on a log in memory, with a spool of its own.
#[derive(Debug)]
pub struct Bench {
    pub log: Arc<MemoryLog>,
    pub ingest: Arc<Ingest>,
    pub metrics: Metrics,
    pub clock: Clock,
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut IngestConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(Arc::default(), dir, change)
    }

    pub fn on(
        log: Arc<MemoryLog>,
        dir: tempfile::TempDir,
        change: impl FnOnce(&mut IngestConfig),
    ) -> Self {
        let mut config = IngestConfig {
            spool_dir: dir.path().to_owned(),
            produce_timeout_ms: 300,
            past_days_max: 0,
            ..IngestConfig::default()
        };
        change(&mut config);
        let (metrics, clock) = (Metrics::new(), Clock::wall());
        let codec = Codec::single_object();
        let ingest = Ingest::start(
            Arc::clone(&log) as _,
            codec,
            clock,
            metrics.clone(),
            Tracer::off(),
            &config,
        )
        .unwrap();
        Self {
            log,
            ingest,
            metrics,
            clock,
            dir,
        }
    }

    pub fn counted(&self, kind: &str, outcome: &str) -> u64 {
        self.metrics
            .readings_total
            .with_label_values(&[kind, outcome])
            .get()
    }
}

/// A good reading: topic and payload.
pub fn reading(household: i64, ts_ms: i64) -> (String, String) {
    let reading = Reading {
        household_id: HouseholdId::new(household).unwrap(),
        ts_ms,
        measurement: Measurement::Meter {
            consumption_w: 450.0,
        },
    };
    (mqtt::reading_topic(&reading), mqtt::reading_json(&reading))
}

/// Any time in the past.
pub const T0: i64 = 1_757_671_200_000;

/// Waits for something that must come true, and panics where it does not.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(60), waited)
            .await
            .is_ok(),
        "never: {what}"
    );
}
