//! The store over CQL, for Scylla and Cassandra. Rows of one write are sent in batches, and partitions share a batch only
//! if the same nodes hold them. Every statement is idempotent, and is repeated with growing pauses until the write's time
//! limit.

mod batches;
mod config;
mod epochs;
mod failures;
mod rows;
mod statements;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use model::asset::AssetReading;
use model::command::CommandProgress;
use model::metadata::Metadata;
use model::reading::{Kind, Reading};
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::{PricePeriod, Tariff};
use model::units::HouseholdId;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

pub use self::config::{CqlConfig, ReplicasAsked};

use self::batches::{Limits, Replicas, RowBatch, batches};
use self::config::{WITHOUT_TLS, is_keyspace};
use self::epochs::Epochs;
use self::failures::{pauses, refused_or_unavailable};
use self::rows::{
    Cell, CommandRow, EvRow, Grouped, HeatRow, SlotRow, cql_date, day_of, group, measurement,
};
use self::statements::{Insert, Statements};
use crate::retention::{check_range, in_order, without_overlaps};
use platform::metrics::Metrics;
use platform::order::{Epoch, Order};
use platform::store::{Row, Store, StoreError, snapshot_bucket};

/// Partitions that one query reads at the same time.
const PARTITIONS_READ_MAX: usize = 8;
/// The CQL store.
#[derive(Debug)]
pub struct CqlStore {
    session: Session,
    statements: OnceCell<Statements>,
    slots_free: Semaphore,
    metrics: Metrics,
    config: CqlConfig,
}

impl CqlStore {
    /// Connects. Fails with `Unavailable` if no node answers yet; the caller decides how long to retry.
    pub async fn connect(config: CqlConfig, metrics: Metrics) -> Result<Self, StoreError> {
        if !is_keyspace(&config.keyspace) {
            return Err(StoreError::Refused(format!(
                "a keyspace is made of letters, digits and underscores, not `{}`",
                config.keyspace
            )));
        }
        let profile = ExecutionProfile::builder()
            .consistency(config.consistency.into())
            .request_timeout(Some(Duration::from_millis(config.request_timeout_ms)))
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&config.nodes)
            .connection_timeout(Duration::from_millis(config.connect_timeout_ms))
            .default_execution_profile_handle(profile.into_handle());
        if !config.username.is_empty() {
            builder = builder.user(&config.username, config.password.expose());
        }
        if config.ca_file.is_some() && !cfg!(feature = "cql-tls") {
            return Err(StoreError::Refused(WITHOUT_TLS.to_owned()));
        }
        #[cfg(feature = "cql-tls")]
        if let Some(ca_file) = &config.ca_file {
            let tls = platform::tls::client_config(
                ca_file,
                config.cert_file.as_deref(),
                config.key_file.as_deref(),
            )
            .map_err(|error| StoreError::Refused(error.to_string()))?;
            builder = builder.tls_context(Some(std::sync::Arc::new(tls)));
        }
        let session = Box::pin(builder.build()).await.map_err(|error| {
            StoreError::Unavailable(format!("connect to {}: {error}", config.nodes.join(", ")))
        })?;
        Ok(Self {
            session,
            statements: OnceCell::new(),
            slots_free: Semaphore::new(config.concurrency_max.max(1)),
            metrics,
            config,
        })
    }

    async fn statements(&self) -> Result<&Statements, StoreError> {
        self.statements
            .get_or_try_init(|| Box::pin(Statements::prepare(&self.session, &self.config)))
            .await
    }

    const fn limits(&self) -> Limits {
        Limits {
            rows_max: self.config.batch_rows_max,
            partitions_max: self.config.batch_partitions_max,
            bytes_max: self.config.batch_bytes_max,
        }
    }

    /// Returns who holds a partition, by one of its rows: nodes, and their shards where they have some.
    fn replicas(&self, statements: &Statements, insert: Insert, row: &[Cell]) -> Replicas {
        let token = statements.insert(insert).calculate_token(&row);
        // Without a token the driver asks any node, as it does where it knows no replicas.
        let Ok(Some(token)) = token else {
            return Replicas::default();
        };
        let cluster = self.session.get_cluster_state();
        let held = cluster.get_token_endpoints(&self.config.keyspace, insert.table(), token);
        let mut replicas: Replicas = held
            .into_iter()
            .map(|(node, shard)| (node.host_id.as_u128(), shard))
            .collect();
        replicas.sort_unstable();
        replicas
    }

    async fn send(
        &self,
        RowBatch { inserts, rows }: RowBatch,
        order: Order,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let statements = self.statements().await?;
        if let ([insert], [row]) = (inserts.as_slice(), rows.as_slice()) {
            let mut statement = statements.insert(*insert).clone();
            statement.set_timestamp(Some(order.get()));
            return self
                .persist(deadline, || self.session.execute_unpaged(&statement, row))
                .await;
        }
        let copies = inserts.into_iter().map(|insert| {
            let statement = statements.insert(insert).clone();
            BatchStatement::PreparedStatement(statement)
        });
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, copies.collect());
        batch.set_is_idempotent(true);
        batch.set_timestamp(Some(order.get()));
        self.persist(deadline, || self.session.batch(&batch, &rows))
            .await
    }

    /// Repeats `attempt` while a retry may help and time is left.
    async fn persist<T, F>(
        &self,
        deadline: Instant,
        attempt: impl Fn() -> F,
    ) -> Result<(), StoreError>
    where
        F: Future<Output = Result<T, ExecutionError>>,
    {
        let _free = self
            .slots_free
            .acquire()
            .await
            .map_err(|_| StoreError::Refused("the store is closed".to_owned()))?;
        let mut backoff = pauses();
        let mut attempts_count = 0;
        loop {
            let error = match tokio::time::timeout_at(deadline, Box::pin(attempt())).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => refused_or_unavailable("write", &error),
                Err(_) => {
                    return Err(StoreError::Unavailable(format!(
                        "write: no answer within {} ms",
                        self.config.write_timeout_ms
                    )));
                }
            };
            attempts_count += 1;
            let pause = backoff.next_pause();
            let over = attempts_count >= self.config.attempts_max.max(1)
                || Instant::now() + pause >= deadline;
            if !error.is_retryable() || over {
                return Err(error);
            }
            self.metrics.store_retries_total.inc();
            tokio::time::sleep(pause).await;
        }
    }

    /// Removes the prices known for the time that a series covers, with an order just below that of the series.
    async fn forget_replaced(
        &self,
        tariff: &Tariff,
        order: Order,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (tariff.periods.first(), tariff.periods.last()) else {
            return Ok(());
        };
        let mut statement = self.statements().await?.remove_periods.clone();
        // If a removal and a row have the same order, the removal wins.
        statement.set_timestamp(Some(order.get() - 1));
        let span = (
            &tariff.name,
            CqlTimestamp(first.start_ms),
            CqlTimestamp(last.end_ms),
        );
        self.persist(deadline, || self.session.execute_unpaged(&statement, span))
            .await
    }

    async fn epochs(&self) -> Result<Epochs<'_>, StoreError> {
        let deadline = Instant::now() + Duration::from_millis(self.config.write_timeout_ms);
        Ok(Epochs {
            session: &self.session,
            statements: self.statements().await?,
            metrics: &self.metrics,
            deadline,
        })
    }

    /// Returns every row that the query finds, page by page.
    async fn select<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + 'static,
    {
        statements::select(&self.session, statement, values).await
    }

    /// Returns the rows of a table by household and day in `[from_ms, to_ms)`, ascending.
    async fn select_days<R>(
        &self,
        statement: &PreparedStatement,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + Send + 'static,
    {
        let days = day_of(from_ms)?..=day_of(to_ms - 1)?;
        let days: Vec<Vec<R>> = stream::iter(days)
            .map(|day| {
                let span = (
                    household_id.get(),
                    cql_date(day),
                    CqlTimestamp(from_ms),
                    CqlTimestamp(to_ms),
                );
                self.select(statement, span)
            })
            .buffered(PARTITIONS_READ_MAX)
            .try_collect()
            .await?;
        Ok(days.into_iter().flatten().collect())
    }

    async fn select_body<T: serde::de::DeserializeOwned>(
        &self,
        table: &'static str,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<T>, StoreError> {
        let rows: Vec<(Option<String>,)> = self.select(statement, values).await?;
        rows.into_iter()
            .filter_map(|(body,)| body)
            .map(|body| {
                serde_json::from_str(&body).map_err(|error| StoreError::Corrupt {
                    table,
                    detail: error.to_string(),
                })
            })
            .collect()
    }
}

#[async_trait::async_trait]
impl Store for CqlStore {
    async fn init(&self) -> Result<(), StoreError> {
        Box::pin(statements::init(&self.session, &self.config)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Preparing here also detects missing tables, and the first write need not wait for it.
        self.statements().await?;
        self.session
            .query_unpaged("SELECT release_version FROM system.local", ())
            .await
            .map(|_| ())
            .map_err(|error| refused_or_unavailable("ping", &error))
    }

    async fn claim(&self, partition: i32) -> Result<Epoch, StoreError> {
        self.epochs().await?.claim(partition).await
    }

    async fn renew(&self, partition: i32, held: Epoch) -> Result<Option<Epoch>, StoreError> {
        self.epochs().await?.renew(partition, held).await
    }

    async fn newest_epoch(&self, partition: i32) -> Result<Option<Epoch>, StoreError> {
        let found = self.epochs().await?.newest(partition).await?;
        Ok(found.map(|(epoch, _holder)| epoch))
    }

    async fn write(&self, order: Order, rows: Vec<Row>) -> Result<(), StoreError> {
        let started = Instant::now();
        let deadline = started + Duration::from_millis(self.config.write_timeout_ms);
        let mut grouped = Grouped::new();
        // If a write has a row twice, the later one wins; within a batch that would be left to chance.
        for row in &rows {
            group(row, &mut grouped).map_err(StoreError::BadRow)?;
        }
        for row in &rows {
            if let Row::Tariff(tariff) = row {
                self.forget_replaced(tariff, order, deadline).await?;
            }
        }
        let statements = self.statements().await?;
        let batches = batches(grouped, self.limits(), |insert, row| {
            self.replicas(statements, insert, row)
        });
        let outcome = stream::iter(batches)
            .map(|batch| self.send(batch, order, deadline))
            .buffer_unordered(self.config.concurrency_max.max(1))
            .try_collect()
            .await;
        self.metrics
            .store_write_seconds
            .observe(started.elapsed().as_secs_f64());
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
        let s = self.statements().await?;
        let (meter, pv, battery) = tokio::try_join!(
            self.select_days::<(CqlTimestamp, f64)>(&s.meter, household_id, from_ms, to_ms),
            self.select_days::<(CqlTimestamp, f64)>(&s.pv, household_id, from_ms, to_ms),
            self.select_days::<(CqlTimestamp, f64, f64)>(&s.battery, household_id, from_ms, to_ms),
        )?;
        let one = |kind| move |(ts, value)| (kind, ts, value, 0.0);
        let mut readings: Vec<Reading> = meter
            .into_iter()
            .map(one(Kind::Meter))
            .chain(pv.into_iter().map(one(Kind::Pv)))
            .chain(
                battery
                    .into_iter()
                    .map(|(ts, soc_pct, power_w)| (Kind::Battery, ts, soc_pct, power_w)),
            )
            .map(|(kind, ts, first, second)| Reading {
                household_id,
                ts_ms: ts.0,
                measurement: measurement(kind, first, second),
            })
            .collect();
        readings.sort_by_key(|reading| (reading.ts_ms, reading.measurement.kind()));
        Ok(readings)
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
        let s = self.statements().await?;
        let (evs, heat) = tokio::try_join!(
            self.select_days::<EvRow>(&s.evs, household_id, from_ms, to_ms),
            self.select_days::<HeatRow>(&s.heat, household_id, from_ms, to_ms),
        )?;
        let evs = evs.into_iter().map(|row| row.into_reading(household_id));
        let heat = heat.into_iter().map(|row| row.into_reading(household_id));
        Ok(in_order(evs.chain(heat).collect()))
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
        let statement = &self.statements().await?.slots;
        let rows: Vec<SlotRow> = self
            .select_days(statement, household_id, from_ms, to_ms)
            .await?;
        Ok(rows.into_iter().map(Slot::from).collect())
    }

    async fn latest_schedule(
        &self,
        household_id: HouseholdId,
    ) -> Result<Option<Schedule>, StoreError> {
        let statement = &self.statements().await?.schedule_latest;
        let found = self
            .select_body("schedules", statement, (household_id.get(),))
            .await?;
        Ok(found.into_iter().next())
    }

    async fn schedule(&self, schedule_id: &str) -> Result<Option<Schedule>, StoreError> {
        let statements = self.statements().await?;
        let places: Vec<(i64, bool, CqlTimestamp)> = self
            .select(&statements.schedule_place, (schedule_id,))
            .await?;
        let Some((household_id, adopt, requested)) = places.into_iter().next() else {
            return Ok(None);
        };
        let place = (household_id, adopt, requested, schedule_id);
        let found = self
            .select_body("schedules", &statements.schedule, place)
            .await?;
        Ok(found.into_iter().next())
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
        let statement = &self.statements().await?.commands;
        let rows: Vec<CommandRow> = self
            .select_days(statement, household_id, from_ms, to_ms)
            .await?;
        rows.into_iter()
            .filter_map(|row| row.into_progress(household_id).transpose())
            .collect()
    }

    async fn household(&self, household_id: HouseholdId) -> Result<Option<Metadata>, StoreError> {
        let statement = &self.statements().await?.household;
        let found = self
            .select_body("households", statement, (household_id.get(),))
            .await?;
        Ok(found.into_iter().next())
    }

    async fn households(
        &self,
        after: Option<HouseholdId>,
        count_max: usize,
    ) -> Result<Vec<Metadata>, StoreError> {
        let count_max = i32::try_from(count_max).unwrap_or(i32::MAX);
        if count_max == 0 {
            return Ok(Vec::new());
        }
        let statements = self.statements().await?;
        match after {
            None => {
                let first = &statements.households_first;
                self.select_body("households", first, (count_max,)).await
            }
            Some(after) => {
                let next = &statements.households_after;
                self.select_body("households", next, (after.get(), count_max))
                    .await
            }
        }
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
        type PeriodRow = (CqlTimestamp, CqlTimestamp, f64, f64);
        let statements = self.statements().await?;
        let (from, to) = (CqlTimestamp(from_ms), CqlTimestamp(to_ms));
        let (before, within) = tokio::try_join!(
            self.select::<PeriodRow>(&statements.period_before, (name, from)),
            self.select::<PeriodRow>(&statements.periods, (name, from, to)),
        )?;
        let periods = before
            .into_iter()
            .chain(within)
            .map(|(start, end, buy_per_kwh, sell_per_kwh)| PricePeriod {
                start_ms: start.0,
                end_ms: end.0,
                buy_per_kwh,
                sell_per_kwh,
            })
            .collect();
        let periods = without_overlaps(periods, from_ms);
        Ok((!periods.is_empty()).then(|| Tariff {
            stated: Vec::new(),
            name: name.to_owned(),
            periods,
        }))
    }

    async fn snapshot(&self, household_id: HouseholdId) -> Result<Option<Vec<u8>>, StoreError> {
        type StateRow = (Option<Vec<u8>>,);
        let statements = self.statements().await?;
        let id = household_id.get();
        let place = (snapshot_bucket(household_id), id);
        let mut rows: Vec<StateRow> = self.select(&statements.snapshot, place).await?;
        if rows.is_empty() {
            rows = self.select(&statements.early_snapshot, (id,)).await?;
        }
        Ok(rows.into_iter().next().and_then(|(state,)| state))
    }

    async fn close(&self) {
        // Writes are durable once they resolve; new ones are refused from here on.
        self.slots_free.close();
    }
}
