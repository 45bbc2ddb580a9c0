//! The embedded store of a single machine: tables in fjall, in one folder, for one process. A write resolves once it is
//! durable; writes that wait together share one fsync. It never reads a clock.

mod schedule_v1;
mod tables;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::asset::{AssetKind, AssetReading};
use model::command::{Command, CommandProgress, CommandState};
use model::metadata::Metadata;
use model::reading::{Kind, Reading};
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::{PricePeriod, Tariff};
use model::units::HouseholdId;
use tokio::sync::{mpsc, oneshot};

use self::tables::{
    Answer, Table, Tables, body, changes_of, corrupt, from_fjall, get, household_key, look,
    named_key, reading_of, schedule_prefix, tariff_key, timed_key, unpacked, unpacked_command,
    unpacked_schedule,
};
use self::writer::{Claim, Job, Write, closed};
use crate::retention::{Retention, check_range, in_order, without_overlaps};
use platform::metrics::Metrics;
use platform::order::{Epoch, Order};
use platform::reopen::Reopened;
use platform::store::{Row, Store, StoreError};

platform::settings! {
    /// Settings of the embedded store.
    pub struct EmbeddedStoreConfig {
        /// Block cache, MiB.
        #[range(1..=1_048_576)]
        cache_mb: u64 = 64,
        /// Most write calls in the writer's queue; further calls wait for room.
        #[range(1..=1_000_000)]
        writes_waiting_max: usize = 256,
        /// Number of changes after which a shared commit takes no further write call.
        #[range(1..=10_000_000)]
        commit_changes_max: usize = 20_000,
        /// Pause between two passes that remove old rows, real seconds.
        #[range(1..=31_536_000)]
        expire_every_s: u64 = 3600,
        /// How long rows are kept.
        #[section]
        retention: Retention = Retention::default(),
    }
}

/// The embedded store.
pub struct EmbeddedStore {
    tables: Arc<Reopened<Tables>>,
    config: EmbeddedStoreConfig,
    metrics: Option<Metrics>,
    running: Mutex<Option<Running>>,
}

/// The threads that end when the store is closed.
struct Running {
    writes: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
    stop_expiry: std::sync::mpsc::SyncSender<()>,
    expiry: JoinHandle<()>,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the tables in `dir`, and creates those that are missing. Only one process at a time may have them open.
    pub fn open(dir: &Path, config: EmbeddedStoreConfig) -> Result<Self, StoreError> {
        let tables = Tables::open(dir, config.cache_mb).map_err(|error| {
            if matches!(error, fjall::Error::Locked) {
                let dir = dir.display();
                StoreError::Refused(format!("{dir} is in use by another process"))
            } else {
                from_fjall(&error)
            }
        })?;
        let tables = Arc::new(Reopened::new("embedded store", tables));

        let (writes, taken) = mpsc::channel(config.writes_waiting_max.max(1));
        let changes_max = config.commit_changes_max.max(1);
        let writer = thread("store-writer", {
            let tables = Arc::clone(&tables);
            let (dir, cache_mb) = (dir.to_owned(), config.cache_mb);
            let open = move || tables::open_again(&dir, cache_mb);
            move || writer::run(&tables, taken, changes_max, open)
        })?;
        let (stop_expiry, stop) = std::sync::mpsc::sync_channel(1);
        let period = Duration::from_secs(config.expire_every_s.max(1));
        let retention = config.retention;
        let expiry = thread("store-expiry", {
            let (tables, writes) = (Arc::clone(&tables), writes.clone());
            move || writer::run_expiry(&tables, writes, retention, period, stop)
        })?;
        Ok(Self {
            tables,
            config,
            metrics: None,
            running: Mutex::new(Some(Running {
                writes,
                writer,
                stop_expiry,
                expiry,
            })),
        })
    }

    /// Sets the metrics in which writes are counted.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Removes rows past their retention now; returns how many.
    pub async fn expire(&self) -> Result<usize, StoreError> {
        let writes = self.writes()?;
        let (tables, retention) = (Arc::clone(&self.tables), self.config.retention);
        tokio::task::spawn_blocking(move || writer::expire(&tables, &writes, retention))
            .await
            .map_err(|error| StoreError::Unavailable(format!("expire: {error}")))?
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writes(&self) -> Result<mpsc::Sender<Job>, StoreError> {
        let running = self.running();
        let running = running.as_ref().ok_or_else(closed)?;
        Ok(running.writes.clone())
    }

    async fn set_epoch(
        &self,
        partition: i32,
        held: Option<Epoch>,
    ) -> Result<Option<Epoch>, StoreError> {
        let (done, answer) = oneshot::channel();
        let claim = Job::Claim(Claim {
            partition,
            held,
            done,
        });
        let sent = self.writes()?.send(claim).await;
        sent.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Reads on a blocking thread, since a read may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Tables) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tables = Arc::clone(&self.tables);
        tokio::task::spawn_blocking(move || look(&tables, question))
            .await
            .map_err(|error| StoreError::Unavailable(format!("read: {error}")))?
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| StoreError::Unavailable(format!("start {name}: {error}")))
}

impl Running {
    /// Stops the threads. The writer finishes its queue first.
    fn stop(self) {
        drop(self.stop_expiry);
        let expiry = self.expiry.join();
        drop(self.writes);
        let writer = self.writer.join();
        if expiry.is_err() || writer.is_err() {
            tracing::error!("a thread of the embedded store panicked");
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        let running = self.running().take();
        if let Some(running) = running {
            running.stop();
        }
    }
}

#[async_trait::async_trait]
impl Store for EmbeddedStore {
    async fn init(&self) -> Result<(), StoreError> {
        self.writes().map(|_| ())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.writes()?;
        look(&self.tables, |_| Ok(()))
    }

    async fn claim(&self, partition: i32) -> Result<Epoch, StoreError> {
        let claimed = self.set_epoch(partition, None).await?;
        claimed.ok_or_else(|| StoreError::Unavailable("claim: another was first".to_owned()))
    }

    async fn renew(&self, partition: i32, held: Epoch) -> Result<Option<Epoch>, StoreError> {
        self.set_epoch(partition, Some(held)).await
    }

    async fn newest_epoch(&self, partition: i32) -> Result<Option<Epoch>, StoreError> {
        self.read(move |tables| writer::newest_epoch(tables, partition))
            .await
    }

    async fn write(&self, order: Order, rows: Vec<Row>) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows {
            changes_of(row, &mut changes)?;
        }
        if changes.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let writes = self.writes()?;
        writes
            .send(Job::Write(Write {
                order,
                changes,
                done,
            }))
            .await
            .map_err(|_| closed())?;
        drop(writes);
        let outcome = answer.await.map_err(|_| closed())?;
        if let Some(metrics) = &self.metrics {
            metrics
                .store_write_seconds
                .observe(started.elapsed().as_secs_f64());
        }
        outcome
    }

    async fn readings(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Reading>, StoreError> {
        if !check_range(from_ms, to_ms)? {
            return Ok(Vec::new());
        }
        self.read(move |tables| {
            let mut readings = Vec::new();
            for kind in Kind::ALL {
                let range = timed_key(household_id, from_ms)..timed_key(household_id, to_ms);
                for guard in tables.get(Table::of_kind(kind)).range(range) {
                    let (key, value) = guard.into_inner().map_err(|error| from_fjall(&error))?;
                    readings.push(reading_of(household_id, kind, &key, &value)?);
                }
            }
            readings.sort_by_key(|reading| (reading.ts_ms, reading.measurement.kind()));
            Ok(readings)
        })
        .await
    }

    async fn assets(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<AssetReading>, StoreError> {
        if !check_range(from_ms, to_ms)? {
            return Ok(Vec::new());
        }
        self.read(move |tables| {
            let mut readings = Vec::new();
            for kind in AssetKind::ALL {
                let table = Table::of_asset(kind);
                let range = timed_key(household_id, from_ms)..timed_key(household_id, to_ms);
                for guard in tables.get(table).range(range) {
                    let (key, value) = guard.into_inner().map_err(|error| from_fjall(&error))?;
                    let (id, ts_ms) = named_key(table, &key)?;
                    readings.push(AssetReading {
                        household_id,
                        id,
                        ts_ms,
                        state: unpacked(table, &value)?,
                    });
                }
            }
            Ok(in_order(readings))
        })
        .await
    }

    async fn slots(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Slot>, StoreError> {
        if !check_range(from_ms, to_ms)? {
            return Ok(Vec::new());
        }
        self.read(move |tables| {
            let range = timed_key(household_id, from_ms)..timed_key(household_id, to_ms);
            let rows = tables.get(Table::Slots).range(range);
            rows.map(|guard| {
                let value = guard.value().map_err(|error| from_fjall(&error))?;
                unpacked(Table::Slots, &value)
            })
            .collect()
        })
        .await
    }

    async fn latest_schedule(
        &self,
        household_id: HouseholdId,
    ) -> Result<Option<Schedule>, StoreError> {
        self.read(move |tables| {
            let adopted = schedule_prefix(household_id, true);
            let Some(guard) = tables.get(Table::Schedules).prefix(adopted).next_back() else {
                return Ok(None);
            };
            let value = guard.value().map_err(|error| from_fjall(&error))?;
            unpacked_schedule(&value).map(Some)
        })
        .await
    }

    async fn schedule(&self, schedule_id: &str) -> Result<Option<Schedule>, StoreError> {
        let id = schedule_id.as_bytes().to_vec();
        self.read(move |tables| {
            let Some(key) = get(tables, Table::SchedulesById, &id)? else {
                return Ok(None);
            };
            let key = body(Table::SchedulesById, &key)?;
            let schedule = get(tables, Table::Schedules, key)?;
            schedule.map(|value| unpacked_schedule(&value)).transpose()
        })
        .await
    }

    async fn commands(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<CommandProgress>, StoreError> {
        if !check_range(from_ms, to_ms)? {
            return Ok(Vec::new());
        }
        self.read(move |tables| {
            let range = timed_key(household_id, from_ms)..timed_key(household_id, to_ms);
            let rows = tables.get(Table::Commands).range(range);
            rows.map(|guard| {
                let (key, value) = guard.into_inner().map_err(|error| from_fjall(&error))?;
                let command = unpacked_command(&value)?;
                let answer = get(tables, Table::CommandAnswers, &key)?
                    .map(|value| unpacked::<Answer>(Table::CommandAnswers, &value))
                    .transpose()?;
                Ok(progress(command, answer))
            })
            .collect()
        })
        .await
    }

    async fn household(&self, household_id: HouseholdId) -> Result<Option<Metadata>, StoreError> {
        self.read(move |tables| {
            get(tables, Table::Households, &household_key(household_id))?
                .map(|value| metadata(&value))
                .transpose()
        })
        .await
    }

    async fn households(
        &self,
        after: Option<HouseholdId>,
        count_max: usize,
    ) -> Result<Vec<Metadata>, StoreError> {
        self.read(move |tables| {
            // The next key after this one is the key with a zero byte appended.
            let from = after.map_or_else(Vec::new, |after| {
                let mut key = household_key(after);
                key.push(0);
                key
            });
            let rows = tables.get(Table::Households).range(from..);
            rows.take(count_max)
                .map(|guard| metadata(&guard.value().map_err(|error| from_fjall(&error))?))
                .collect()
        })
        .await
    }

    async fn tariff(
        &self,
        name: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Option<Tariff>, StoreError> {
        if to_ms <= from_ms {
            return Ok(None);
        }
        let name = name.to_owned();
        self.read(move |tables| {
            let table = tables.get(Table::Tariffs);
            let first = tariff_key(&name, i64::MIN)?;
            let from = tariff_key(&name, from_ms)?;
            let to = tariff_key(&name, to_ms)?;
            let before = table.range(first..from.clone()).next_back();
            let periods: Vec<PricePeriod> = before
                .into_iter()
                .chain(table.range(from..to))
                .map(|guard| {
                    let value = guard.value().map_err(|error| from_fjall(&error))?;
                    unpacked(Table::Tariffs, &value)
                })
                .collect::<Result<_, StoreError>>()?;
            let periods = without_overlaps(periods, from_ms);
            Ok((!periods.is_empty()).then_some(Tariff {
                name,
                periods,
                stated: Vec::new(),
            }))
        })
        .await
    }

    async fn snapshot(&self, household_id: HouseholdId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |tables| {
            get(tables, Table::Snapshots, &household_key(household_id))?
                .map(|value| body(Table::Snapshots, &value).map(<[u8]>::to_vec))
                .transpose()
        })
        .await
    }

    async fn close(&self) {
        let running = self.running().take();
        if let Some(running) = running {
            // Every answered write is durable already; only the threads must end.
            if let Err(error) = tokio::task::spawn_blocking(move || running.stop()).await {
                tracing::error!(%error, "close the embedded store");
            }
        }
    }
}

fn metadata(value: &[u8]) -> Result<Metadata, StoreError> {
    serde_json::from_slice(body(Table::Households, value)?)
        .map_err(|error| corrupt(Table::Households, &error))
}

fn progress(command: Command, answer: Option<Answer>) -> CommandProgress {
    let answer = answer.unwrap_or(Answer {
        state: CommandState::Issued,
        acked_ms: None,
        reason: String::new(),
    });
    CommandProgress {
        command,
        state: answer.state,
        acked_ms: answer.acked_ms,
        reason: answer.reason,
    }
}
