//! A log and a store in memory that do as a test says, and a group that gives and takes partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::lag::LagBoard;
use host::setup::Setup;
use host::tariffs::Tariffs;
use household::household::Household;
use household::settings::Settings;
use model::asset::AssetReading;
use model::command::CommandProgress;
use model::metadata::Metadata;
use model::reading::{Measurement, Reading};
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::{HouseholdId, MINUTE_MS, SlotLength};
use platform::clock::Clock;
use platform::log::{
    Consumer, ConsumerControl, Log, LogError, LogEvent, NewRecord, Record, Subscription,
    TopicPartition,
};
use platform::metrics::Metrics;
use platform::order::{Epoch, Order};
use platform::role_context::RoleContext;
use platform::store::{Row, Store, StoreError};
use platform::trace::Tracer;
use schemas::codec::{Codec, Message};
use schemas::topic::Topic;
use tokio::sync::mpsc;

/// A Tuesday, 05:00 UTC.
pub const MORNING_MS: i64 = 1_757_394_000_000;

/// A store in memory.
#[derive(Debug, Default)]
pub struct FakeStore {
    pub rows: Mutex<Vec<Row>>,
    /// Writes find nobody there.
    pub is_away: AtomicBool,
    /// Readings of this time cannot be stored.
    pub bad_ms: Mutex<Option<i64>>,
    /// Whoever asks for the snapshot of this home panics.
    pub deadly: Mutex<Option<HouseholdId>>,
}

#[async_trait::async_trait]
impl Store for FakeStore {
    async fn init(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim(&self, _: i32) -> Result<Epoch, StoreError> {
        Ok(Epoch::new(0))
    }

    async fn renew(&self, _: i32, held: Epoch) -> Result<Option<Epoch>, StoreError> {
        Ok(Some(held))
    }

    async fn newest_epoch(&self, _: i32) -> Result<Option<Epoch>, StoreError> {
        Ok(Some(Epoch::new(0)))
    }

    async fn write(&self, _: Order, rows: Vec<Row>) -> Result<(), StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        let bad_ms = *self.bad_ms.lock().expect("no holder panics");
        let is_bad =
            |row: &Row| matches!(row, Row::Reading(reading) if Some(reading.ts_ms) == bad_ms);
        if rows.iter().any(is_bad) {
            return Err(StoreError::BadRow("beyond every calendar".to_owned()));
        }
        self.rows.lock().expect("no holder panics").extend(rows);
        Ok(())
    }

    async fn readings(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Reading>, StoreError> {
        let rows = self.rows.lock().expect("no holder panics");
        let readings = rows.iter().filter_map(|row| match row {
            Row::Reading(reading)
                if reading.household_id == household_id
                    && (from_ms..to_ms).contains(&reading.ts_ms) =>
            {
                Some(((reading.ts_ms, reading.measurement.kind()), *reading))
            }
            _ => None,
        });
        // The same reading again is the same row.
        let newest: BTreeMap<_, Reading> = readings.collect();
        Ok(newest.into_values().collect())
    }

    async fn assets(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<AssetReading>, StoreError> {
        let rows = self.rows.lock().expect("no holder panics");
        let readings = rows.iter().filter_map(|row| match row {
            Row::Asset(reading)
                if reading.household_id == household_id
                    && (from_ms..to_ms).contains(&reading.ts_ms) =>
            {
                let key = (reading.ts_ms, reading.state.kind(), reading.id.clone());
                Some((key, reading.clone()))
            }
            _ => None,
        });
        let newest: BTreeMap<_, AssetReading> = readings.collect();
        Ok(newest.into_values().collect())
    }

    async fn slots(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Slot>, StoreError> {
        let rows = self.rows.lock().expect("no holder panics");
        let slots = rows.iter().filter_map(|row| match row {
            Row::Slot {
                household_id: id,
                slot,
            } if *id == household_id && (from_ms..to_ms).contains(&slot.start_ms) => {
                Some((slot.start_ms, *slot))
            }
            _ => None,
        });
        let newest: BTreeMap<_, Slot> = slots.collect();
        Ok(newest.into_values().collect())
    }

    async fn latest_schedule(&self, _: HouseholdId) -> Result<Option<Schedule>, StoreError> {
        Ok(None)
    }

    async fn schedule(&self, _: &str) -> Result<Option<Schedule>, StoreError> {
        Ok(None)
    }

    async fn commands(
        &self,
        _: HouseholdId,
        _: i64,
        _: i64,
    ) -> Result<Vec<CommandProgress>, StoreError> {
        Ok(Vec::new())
    }

    async fn household(&self, _: HouseholdId) -> Result<Option<Metadata>, StoreError> {
        Ok(None)
    }

    async fn households(
        &self,
        _: Option<HouseholdId>,
        _: usize,
    ) -> Result<Vec<Metadata>, StoreError> {
        Ok(Vec::new())
    }

    async fn tariff(&self, _: &str, _: i64, _: i64) -> Result<Option<Tariff>, StoreError> {
        Ok(None)
    }

    async fn snapshot(&self, household_id: HouseholdId) -> Result<Option<Vec<u8>>, StoreError> {
        let deadly = *self.deadly.lock().expect("no holder panics");
        assert!(deadly != Some(household_id), "a store that kills");
        let rows = self.rows.lock().expect("no holder panics");
        let mut snapshots = rows.iter().filter_map(|row| match row {
            Row::Snapshot {
                household_id: id,
                state,
            } if *id == household_id => Some(state.clone()),
            _ => None,
        });
        Ok(snapshots.next_back())
    }

    async fn close(&self) {}
}

/// A log in memory: what is produced, and what its consumers are handed.
#[derive(Debug, Default)]
pub struct FakeLog {
    pub produced: Mutex<Vec<(Topic, Vec<u8>)>>,
    /// Topics of which every record is refused.
    pub refusing: Mutex<BTreeSet<Topic>>,
    /// Longer records are refused.
    pub bytes_max: Mutex<Option<usize>>,
    /// What the next subscription is handed.
    pub subscription: Mutex<Option<Consumer>>,
}

impl FakeLog {
    pub fn values<T: Message>(&self) -> Vec<T> {
        let produced = self.produced.lock().expect("no holder panics");
        let ours = produced.iter().filter(|(topic, _)| *topic == T::TOPIC);
        ours.map(|(_, value)| Codec::single_object().decode(value).expect("it is ours"))
            .collect()
    }
}

#[async_trait::async_trait]
impl Log for FakeLog {
    async fn produce(&self, topic: Topic, _: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let refusing = self.refusing.lock().expect("no holder panics");
        let bytes_max = *self.bytes_max.lock().expect("no holder panics");
        if refusing.contains(&topic) || bytes_max.is_some_and(|max| value.len() > max) {
            return Err(LogError::Refused("too large".to_owned()));
        }
        drop(refusing);
        let mut produced = self.produced.lock().expect("no holder panics");
        produced.push((topic, value));
        Ok(())
    }

    async fn produce_all(&self, records: &[NewRecord<'_>], _: Duration) -> Vec<(usize, LogError)> {
        let mut failures = Vec::new();
        for (index, record) in records.iter().enumerate() {
            if let Err(reason) = self
                .produce(record.topic, record.key, record.value.to_vec())
                .await
            {
                failures.push((index, reason));
            }
        }
        failures
    }

    async fn subscribe(&self, _: Subscription) -> Result<Consumer, LogError> {
        let mut subscription = self.subscription.lock().expect("no holder panics");
        Ok(subscription.take().expect("a test hands it over"))
    }

    async fn init(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn close(&self) {}
}

/// The group, as the test has it.
#[derive(Debug, Default)]
pub struct FakeGroup {
    pub records: Mutex<BTreeMap<TopicPartition, Vec<Record>>>,
    pub committed: Mutex<BTreeMap<TopicPartition, i64>>,
    pub paused: Mutex<BTreeSet<TopicPartition>>,
    /// Every commit is refused.
    pub refuses: AtomicBool,
}

#[async_trait::async_trait]
impl ConsumerControl for FakeGroup {
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(LogError::Refused("another has it".to_owned()));
        }
        let mut committed = self.committed.lock().expect("no holder panics");
        committed.extend(next_offsets);
        Ok(())
    }

    async fn committed(&self, partition: TopicPartition) -> Result<Option<i64>, LogError> {
        let committed = self.committed.lock().expect("no holder panics");
        Ok(committed.get(&partition).copied())
    }

    fn pause(&self, partition: TopicPartition) {
        let mut paused = self.paused.lock().expect("no holder panics");
        paused.insert(partition);
    }

    fn resume(&self, partition: TopicPartition) {
        let mut paused = self.paused.lock().expect("no holder panics");
        paused.remove(&partition);
    }

    fn end_offset(&self, partition: TopicPartition) -> Option<i64> {
        let records = self.records.lock().expect("no holder panics");
        let count = records.get(&partition).map_or(0, Vec::len);
        Some(i64::try_from(count).expect("a short log"))
    }

    fn revoke_patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn read(
        &self,
        partition: TopicPartition,
        offsets: Range<i64>,
        key: &[u8],
    ) -> Result<Vec<Record>, LogError> {
        let records = self.records.lock().expect("no holder panics");
        let held = records.get(&partition).into_iter().flatten();
        let wanted = held.filter(|record| {
            offsets.contains(&record.offset) && record.key.as_deref() == Some(key)
        });
        Ok(wanted.cloned().collect())
    }
}

/// One engine's surroundings.
#[derive(Debug)]
pub struct World {
    pub store: Arc<FakeStore>,
    pub log: Arc<FakeLog>,
    pub group: Arc<FakeGroup>,
    pub metrics: Metrics,
    pub events: mpsc::Sender<LogEvent>,
    received: Option<mpsc::Receiver<LogEvent>>,
}

impl World {
    pub fn new() -> Self {
        let (events, received) = mpsc::channel(16);
        Self {
            store: Arc::default(),
            log: Arc::default(),
            group: Arc::default(),
            metrics: Metrics::new(),
            events,
            received: Some(received),
        }
    }

    pub fn consumer(&mut self) -> Consumer {
        let control: Arc<dyn ConsumerControl> = self.group.clone();
        Consumer {
            events: self.received.take().expect("one consumer a world"),
            control,
        }
    }

    pub fn setup(&self) -> Setup {
        Setup {
            context: RoleContext {
                clock: Clock::wall(),
                metrics: self.metrics.clone(),
                codec: Codec::single_object(),
                log: self.log.clone(),
                store: self.store.clone(),
                tracer: Tracer::off(),
            },
            settings: Settings {
                slot: SlotLength::QUARTER_HOUR,
                horizon_slots: 4,
                program_slots: 3,
                grace_ms: 0,
                hold_ms: 0,
                ahead_ms: i64::MAX / 4,
                kept_ms: i64::MAX / 4,
                stores_readings: true,
                stale_after_ms: 60 * MINUTE_MS,
                load_kw_max: 100.0,
                pv_kw_max: 100.0,
                battery_kw_max: 100.0,
                switching_cost_per_kwh: 0.0,
                switching_cost_per_start: 0.0,
            },
            tariffs: Tariffs::default(),
            control: self.group.clone(),
            lag: LagBoard::new(self.metrics.clone()),
            checkpoint_every: Duration::from_secs(30),
            checkpoint_records_max: 1_000,
            passivate_after: Duration::from_secs(3_600),
            live_homes_max: 1_000,
            store_slots: true,
            publish_slots: false,
            handle: Household::handle,
        }
    }

    /// Appends a value to partition `partition` of its topic; the record as a consumer is handed it.
    pub fn append<T: Message>(&self, partition: i32, household: HouseholdId, value: &T) -> Record {
        let value = Codec::single_object().encode(value).expect("it is valid");
        self.append_bytes(T::TOPIC, partition, household, value)
    }

    pub fn append_bytes(
        &self,
        topic: Topic,
        partition: i32,
        household: HouseholdId,
        value: Vec<u8>,
    ) -> Record {
        let mut records = self.group.records.lock().expect("no holder panics");
        let held = records
            .entry(TopicPartition { topic, partition })
            .or_default();
        let record = Record {
            offset: i64::try_from(held.len()).expect("a short log"),
            timestamp_ms: platform::clock::wall_ms() - 1_000,
            key: Some(household.to_string().into_bytes().into()),
            value: value.into(),
            trace: None,
        };
        held.push(record.clone());
        record
    }
}

pub fn home(id: i64) -> HouseholdId {
    HouseholdId::new(id).expect("a positive number")
}

pub fn meter(household_id: HouseholdId, ts_ms: i64, consumption_w: f64) -> Reading {
    Reading {
        household_id,
        ts_ms,
        measurement: Measurement::Meter { consumption_w },
    }
}

pub const fn telemetry(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: Topic::Telemetry,
        partition,
    }
}

/// Waits until `is_so`, for a minute at most.
#[track_caller]
pub fn until(is_so: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        for _ in 0..60_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it did not come to pass: {caller}");
    }
}
