//! The prepared statements and the tables that they need.

use futures::TryStreamExt;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::deserialize::value::DeserializeValue;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};

use super::config::CqlConfig;
use super::failures::refused_or_unavailable;
use platform::store::StoreError;

const KEYSPACE: &str = include_str!("../../../../schemas/cql/keyspace.cql");
const TABLES: &str = include_str!("../../../../schemas/cql/tables.cql");
const DAY_S: u32 = 86_400;

/// The kinds of rows that are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Insert {
    Meter,
    Pv,
    Battery,
    Ev,
    Heat,
    Slot,
    Schedule,
    ScheduleId,
    Command,
    CommandAnswer,
    Household,
    Tariff,
    Snapshot,
}

impl Insert {
    const ALL: [Self; 13] = [
        Self::Meter,
        Self::Pv,
        Self::Battery,
        Self::Ev,
        Self::Heat,
        Self::Slot,
        Self::Schedule,
        Self::ScheduleId,
        Self::Command,
        Self::CommandAnswer,
        Self::Household,
        Self::Tariff,
        Self::Snapshot,
    ];

    /// Returns table and columns, in the order of the values.
    const fn columns(self) -> (&'static str, &'static str) {
        match self {
            Self::Meter => ("meter_readings", "household_id, day, ts, consumption_w"),
            Self::Pv => ("pv_generation", "household_id, day, ts, pv_w"),
            Self::Battery => ("battery_state", "household_id, day, ts, soc_pct, power_w"),
            Self::Ev => (
                "ev_state",
                "household_id, day, ts, ev, plugged, soc_pct, power_w, departure, goal_pct",
            ),
            Self::Heat => (
                "heat_state",
                "household_id, day, ts, heat_store, temperature_c, power_w",
            ),
            Self::Slot => (
                "slots",
                "household_id, day, start, slot_minutes, \
                 load_w_mean, load_w_min, load_w_max, load_w_sum, load_w_count, \
                 pv_w_mean, pv_w_min, pv_w_max, pv_w_sum, pv_w_count, \
                 battery_w_mean, battery_w_min, battery_w_max, battery_w_sum, battery_w_count, \
                 soc_pct, soc_ts, samples",
            ),
            Self::Schedule => (
                "schedules",
                "household_id, adopt, requested, schedule_id, start, slot_minutes, status, \
                 objective, gap, solver, solve_us, cost, cost_baseline, body",
            ),
            Self::ScheduleId => (
                "schedules_by_id",
                "schedule_id, household_id, adopt, requested",
            ),
            Self::Command => (
                "commands",
                "household_id, day, not_before, command_id, schedule_id, requested, expires, \
                 body",
            ),
            Self::CommandAnswer => (
                "commands",
                "household_id, day, not_before, command_id, state, acked, reason",
            ),
            Self::Household => (
                "households",
                "household_id, name, location, pv_capacity_kw, tariff, body",
            ),
            Self::Tariff => ("tariffs", "name, start, end, buy_per_kwh, sell_per_kwh"),
            Self::Snapshot => ("household_snapshots", "bucket, household_id, state"),
        }
    }

    /// Returns the table that it inserts into.
    pub(super) const fn table(self) -> &'static str {
        self.columns().0
    }

    fn cql(self, keyspace: &str) -> String {
        let (table, columns) = self.columns();
        let marks = vec!["?"; columns.split(',').count()].join(", ");
        format!("INSERT INTO {keyspace}.{table} ({columns}) VALUES ({marks})")
    }
}

/// Every statement, prepared once.
#[derive(Debug)]
pub(super) struct Statements {
    inserts: Vec<PreparedStatement>,
    pub(super) remove_periods: PreparedStatement,
    pub(super) epoch: PreparedStatement,
    pub(super) first_epoch: PreparedStatement,
    pub(super) next_epoch: PreparedStatement,
    pub(super) now: PreparedStatement,
    pub(super) meter: PreparedStatement,
    pub(super) pv: PreparedStatement,
    pub(super) battery: PreparedStatement,
    pub(super) evs: PreparedStatement,
    pub(super) heat: PreparedStatement,
    pub(super) slots: PreparedStatement,
    pub(super) schedule_latest: PreparedStatement,
    pub(super) schedule_place: PreparedStatement,
    pub(super) schedule: PreparedStatement,
    pub(super) commands: PreparedStatement,
    pub(super) household: PreparedStatement,
    pub(super) households_first: PreparedStatement,
    pub(super) households_after: PreparedStatement,
    pub(super) period_before: PreparedStatement,
    pub(super) periods: PreparedStatement,
    pub(super) snapshot: PreparedStatement,
    pub(super) early_snapshot: PreparedStatement,
}

impl Statements {
    /// Prepares every statement. Fails with a retryable error if the tables do not exist yet.
    pub(super) async fn prepare(session: &Session, config: &CqlConfig) -> Result<Self, StoreError> {
        let keyspace = &config.keyspace;
        let mut inserts = Vec::with_capacity(Insert::ALL.len());
        for insert in Insert::ALL {
            inserts.push(one(session, &insert.cql(keyspace)).await?);
        }
        let select = async |columns: &str, rest: &str| {
            one(session, &format!("SELECT {columns} FROM {keyspace}.{rest}")).await
        };
        let day = "household_id = ? AND day = ?";
        let readings = async |columns: &str, table: &str| {
            let times = "ts >= ? AND ts < ?";
            select(columns, &format!("{table} WHERE {day} AND {times}")).await
        };
        let epoch = select("epoch, holder", "partition_epochs WHERE log_partition = ?").await?;
        Ok(Self {
            inserts,
            remove_periods: one(
                session,
                &format!(
                    "DELETE FROM {keyspace}.tariffs WHERE name = ? AND start >= ? AND start < ?"
                ),
            )
            .await?,
            epoch: agreed(epoch, config),
            first_epoch: conditional(one(session, &first_epoch(keyspace)).await?, config),
            next_epoch: conditional(one(session, &next_epoch(keyspace)).await?, config),
            now: one(session, "SELECT toUnixTimestamp(now()) FROM system.local").await?,
            meter: readings("ts, consumption_w", "meter_readings").await?,
            pv: readings("ts, pv_w", "pv_generation").await?,
            battery: readings("ts, soc_pct, power_w", "battery_state").await?,
            evs: readings(
                "ts, ev, plugged, soc_pct, power_w, departure, goal_pct",
                "ev_state",
            )
            .await?,
            heat: readings("ts, heat_store, temperature_c, power_w", "heat_state").await?,
            slots: select(
                "start, slot_minutes, load_w_min, load_w_max, load_w_sum, load_w_count, \
                 pv_w_min, pv_w_max, pv_w_sum, pv_w_count, \
                 battery_w_min, battery_w_max, battery_w_sum, battery_w_count, soc_pct, soc_ts",
                &format!("slots WHERE {day} AND start >= ? AND start < ?"),
            )
            .await?,
            schedule_latest: select(
                "body",
                "schedules WHERE household_id = ? AND adopt = true LIMIT 1",
            )
            .await?,
            schedule_place: select(
                "household_id, adopt, requested",
                "schedules_by_id WHERE schedule_id = ?",
            )
            .await?,
            schedule: select(
                "body",
                "schedules WHERE household_id = ? AND adopt = ? AND requested = ? \
                 AND schedule_id = ?",
            )
            .await?,
            commands: select(
                "not_before, command_id, schedule_id, requested, expires, battery_w, appliances, \
                 body, state, acked, reason",
                &format!("commands WHERE {day} AND not_before >= ? AND not_before < ?"),
            )
            .await?,
            household: select("body", "households WHERE household_id = ?").await?,
            households_first: select("body", "households LIMIT ?").await?,
            households_after: select(
                "body",
                "households WHERE token(household_id) > token(?) LIMIT ?",
            )
            .await?,
            period_before: select(
                "start, end, buy_per_kwh, sell_per_kwh",
                "tariffs WHERE name = ? AND start < ? ORDER BY start DESC LIMIT 1",
            )
            .await?,
            periods: select(
                "start, end, buy_per_kwh, sell_per_kwh",
                "tariffs WHERE name = ? AND start >= ? AND start < ?",
            )
            .await?,
            snapshot: select(
                "state",
                "household_snapshots WHERE bucket = ? AND household_id = ?",
            )
            .await?,
            early_snapshot: select("state", "snapshots WHERE household_id = ?").await?,
        })
    }

    pub(super) fn insert(&self, insert: Insert) -> &PreparedStatement {
        &self.inserts[insert as usize]
    }
}

fn first_epoch(keyspace: &str) -> String {
    format!(
        "INSERT INTO {keyspace}.partition_epochs (log_partition, epoch, holder) \
         VALUES (?, ?, ?) IF NOT EXISTS"
    )
}

fn next_epoch(keyspace: &str) -> String {
    format!(
        "UPDATE {keyspace}.partition_epochs SET epoch = ?, holder = ? \
         WHERE log_partition = ? IF epoch = ?"
    )
}

async fn one(session: &Session, cql: &str) -> Result<PreparedStatement, StoreError> {
    let mut statement = session.prepare(cql).await.map_err(|error| {
        // Another process may create the tables a moment later, so a retry may succeed.
        StoreError::Unavailable(format!("prepare `{cql}`: {error}"))
    })?;
    // Rows are upserts, so every statement may be repeated.
    statement.set_is_idempotent(true);
    Ok(statement)
}

/// Makes a conditional statement, which the driver must not repeat: a second run would not meet its condition.
fn conditional(mut statement: PreparedStatement, config: &CqlConfig) -> PreparedStatement {
    let serial = if config.consistency.is_local() {
        SerialConsistency::LocalSerial
    } else {
        SerialConsistency::Serial
    };
    statement.set_serial_consistency(Some(serial));
    statement.set_is_idempotent(false);
    statement
}

/// Makes a query with serial consistency: it sees every conditional statement that was answered before.
fn agreed(mut statement: PreparedStatement, config: &CqlConfig) -> PreparedStatement {
    statement.set_consistency(if config.consistency.is_local() {
        Consistency::LocalSerial
    } else {
        Consistency::Serial
    });
    statement
}

/// Returns every row that the query finds, page by page.
pub(super) async fn select<R>(
    session: &Session,
    statement: &PreparedStatement,
    values: impl SerializeRow,
) -> Result<Vec<R>, StoreError>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + 'static,
{
    let unavailable =
        |error: &dyn std::error::Error| StoreError::Unavailable(format!("read: {error}"));
    Box::pin(session.execute_iter(statement.clone(), values))
        .await
        .map_err(|error| unavailable(&error))?
        .rows_stream::<R>()
        .map_err(|error| StoreError::Refused(format!("the tables are of another kind: {error}")))?
        .try_collect()
        .await
        .map_err(|error| unavailable(&error))
}

/// Columns that tables had not from the start: table, column and type.
const ADDED_COLUMNS: [(&str, &str, &str); 1] = [("commands", "body", "text")];

/// Creates the tables and columns that are missing, and sets each table's default TTL to the configured one.
pub(super) async fn init(session: &Session, config: &CqlConfig) -> Result<(), StoreError> {
    let keyspace = KEYSPACE
        .replace("{keyspace}", &config.keyspace)
        .replace("{replication}", &config.replication);
    run(session, keyspace.trim()).await?;
    let keyspace = &config.keyspace;
    for (table, create) in tables(config) {
        run(session, &create).await?;
        let ttl_s = ttl_s(config, &table);
        let found_s: Option<i32> = schema(
            session,
            "SELECT default_time_to_live FROM system_schema.tables \
             WHERE keyspace_name = ? AND table_name = ?",
            (keyspace, &table),
        )
        .await?;
        if found_s.is_none_or(|found_s| found_s.cast_unsigned() != ttl_s) {
            let alter =
                format!("ALTER TABLE {keyspace}.{table} WITH default_time_to_live = {ttl_s}");
            run(session, &alter).await?;
        }
    }
    for (table, column, kind) in ADDED_COLUMNS {
        let found: Option<String> = schema(
            session,
            "SELECT type FROM system_schema.columns \
             WHERE keyspace_name = ? AND table_name = ? AND column_name = ?",
            (keyspace, table, column),
        )
        .await?;
        if found.is_none() {
            let alter = format!("ALTER TABLE {keyspace}.{table} ADD {column} {kind}");
            run(session, &alter).await?;
        }
    }
    Ok(())
}

/// Returns the one value that a query on the schema finds.
async fn schema<T>(
    session: &Session,
    query: &str,
    values: impl SerializeRow,
) -> Result<Option<T>, StoreError>
where
    T: for<'frame, 'metadata> DeserializeValue<'frame, 'metadata>,
{
    let found = session
        .query_unpaged(query, values)
        .await
        .map_err(|error| refused_or_unavailable("read the schema", &error))?
        .into_rows_result()
        .map_err(|error| StoreError::Refused(format!("read the schema: {error}")))?
        .maybe_first_row::<(T,)>()
        .map_err(|error| StoreError::Refused(format!("read the schema: {error}")))?;
    Ok(found.map(|(value,)| value))
}

/// Returns each table's name and the statement that creates it.
fn tables(config: &CqlConfig) -> Vec<(String, String)> {
    let plain: String = TABLES
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default().trim_end())
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n");
    plain
        .split(';')
        .map(str::trim)
        .filter(|create| !create.is_empty())
        .map(|create| {
            let table = create
                .split_once("{keyspace}.")
                .and_then(|(_, rest)| rest.split_whitespace().next())
                .expect("every statement in tables.cql names its table");
            let ttl_s = ttl_s(config, table);
            // About thirty windows; Cassandra recommends 20 to 50.
            let window_days = (ttl_s / DAY_S / 30).max(1);
            let filled = create
                .replace("{keyspace}", &config.keyspace)
                .replace("{ttl}", &ttl_s.to_string())
                .replace("{window}", &window_days.to_string());
            (table.to_owned(), filled)
        })
        .collect()
}

fn ttl_s(config: &CqlConfig, table: &str) -> u32 {
    let retention = &config.retention;
    let days = match table {
        "meter_readings" | "pv_generation" | "battery_state" | "ev_state" | "heat_state" => {
            retention.readings_days
        }
        "slots" => retention.slots_days,
        "schedules" | "schedules_by_id" => retention.schedules_days,
        "commands" => retention.commands_days,
        "weather_forecast" => retention.weather_days,
        _ => 0,
    };
    // CQL allows at most twenty years.
    days.min(20 * 365) * DAY_S
}

async fn run(session: &Session, cql: &str) -> Result<(), StoreError> {
    session
        .query_unpaged(cql, ())
        .await
        .map(|_| ())
        .map_err(|error| refused_or_unavailable("create the tables", &error))
}

#[cfg(test)]
mod tests {
    use super::{CqlConfig, Insert, tables};

    #[test]
    fn every_table_is_filled_in_and_has_the_columns_that_are_written() {
        let tables = tables(&CqlConfig::default());
        assert_eq!(tables.len(), 15);
        for (table, create) in &tables {
            assert!(!create.contains("{keyspace}"), "{table}");
            assert!(
                !create.contains("{ttl}") && !create.contains("{window}"),
                "{table}"
            );
        }
        for insert in Insert::ALL {
            let (name, columns) = insert.columns();
            let (_, create) = tables.iter().find(|(table, _)| table == name).unwrap();
            for column in columns.split(',') {
                let column = format!("\n  {} ", column.trim());
                assert!(create.contains(&column), "{name}:{column}");
            }
        }
        let (_, readings) = tables.iter().find(|(t, _)| t == "meter_readings").unwrap();
        assert!(readings.contains("default_time_to_live = 7776000"));
        assert!(readings.contains("'compaction_window_size': 3}"));
    }
}
