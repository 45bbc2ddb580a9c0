//! Converts rows to CQL values and back. Each row has its statement, its partition and its key within the partition, so
//! that rows of one partition can share a batch and the last of several writes to a row wins.

use std::collections::BTreeMap;

use model::asset::{AssetReading, AssetState};
use model::command::{Command, CommandAnswer, CommandProgress, CommandState, SlotCommand};
use model::reading::{Kind, Measurement, Reading};
use model::schedule::Schedule;
use model::slot::{Slot, Stat};
use model::units::{DAY_MS, HouseholdId};
use scylla::DeserializeRow;
use scylla::value::{CqlDate, CqlTimestamp, CqlValue, MaybeUnset};

use super::statements::Insert;
use platform::store::{Row, StoreError, snapshot_bucket};

/// A value or unset. Unset writes no tombstone.
pub(super) type Cell = MaybeUnset<CqlValue>;

/// The partition key of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PartitionKey {
    Home(i64),
    HomeDay(i64, i32),
    /// Of snapshots.
    Bucket(i32),
    Text(String),
}

/// A row's clustering key: its position within its partition.
pub(super) type RowKey = (i64, String);

/// The rows of one write by partition, each row once. Tables with the same partition key share batches.
pub(super) type Grouped = BTreeMap<PartitionKey, BTreeMap<(Insert, RowKey), Vec<Cell>>>;

/// Adds the CQL rows of `row`. On an error, which says what is wrong with the row, the whole write is given up.
pub(super) fn group(row: &Row, grouped: &mut Grouped) -> Result<(), String> {
    match row {
        Row::Reading(reading) => group_reading(reading, grouped)?,
        Row::Asset(reading) => group_asset(reading, grouped)?,
        Row::Slot { household_id, slot } => group_slot(*household_id, slot, grouped)?,
        Row::Schedule(schedule) => group_schedule(schedule, grouped)?,
        Row::Command(command) => group_command(command, grouped)?,
        Row::CommandAnswer(answer) => group_answer(answer, grouped)?,
        Row::Household(metadata) => {
            let id = metadata.household_id.get();
            let cells = vec![
                big(id),
                text(&metadata.name),
                text(&metadata.location),
                double(metadata.pv_capacity_kw),
                text(&metadata.tariff),
                json(metadata.as_ref())?,
            ];
            put(
                grouped,
                Insert::Household,
                PartitionKey::Home(id),
                (0, String::new()),
                cells,
            );
        }
        Row::Tariff(tariff) => {
            for period in &tariff.periods {
                let cells = vec![
                    text(&tariff.name),
                    time(period.start_ms),
                    time(period.end_ms),
                    double(period.buy_per_kwh),
                    double(period.sell_per_kwh),
                ];
                let partition = PartitionKey::Text(tariff.name.clone());
                put(
                    grouped,
                    Insert::Tariff,
                    partition,
                    (period.start_ms, String::new()),
                    cells,
                );
            }
        }
        Row::Snapshot {
            household_id,
            state,
        } => {
            let (id, bucket) = (household_id.get(), snapshot_bucket(*household_id));
            let cells = vec![
                MaybeUnset::Set(CqlValue::Int(bucket)),
                big(id),
                MaybeUnset::Set(CqlValue::Blob(state.clone())),
            ];
            put(
                grouped,
                Insert::Snapshot,
                PartitionKey::Bucket(bucket),
                (id, String::new()),
                cells,
            );
        }
    }
    Ok(())
}

fn put(
    grouped: &mut Grouped,
    insert: Insert,
    partition: PartitionKey,
    row_key: RowKey,
    cells: Vec<Cell>,
) {
    grouped
        .entry(partition)
        .or_default()
        .insert((insert, row_key), cells);
}

fn group_reading(reading: &Reading, grouped: &mut Grouped) -> Result<(), String> {
    let id = reading.household_id.get();
    let day = row_day(reading.household_id, "ts", reading.ts_ms)?;
    let mut cells = vec![big(id), date(day), time(reading.ts_ms)];
    let insert = match reading.measurement {
        Measurement::Meter { consumption_w } => {
            cells.push(double(consumption_w));
            Insert::Meter
        }
        Measurement::Pv { pv_w } => {
            cells.push(double(pv_w));
            Insert::Pv
        }
        Measurement::Battery { soc_pct, power_w } => {
            cells.extend([double(soc_pct), double(power_w)]);
            Insert::Battery
        }
    };
    let row_key = (reading.ts_ms, String::new());
    put(
        grouped,
        insert,
        PartitionKey::HomeDay(id, day),
        row_key,
        cells,
    );
    Ok(())
}

fn group_asset(reading: &AssetReading, grouped: &mut Grouped) -> Result<(), String> {
    let id = reading.household_id.get();
    let day = row_day(reading.household_id, "ts", reading.ts_ms)?;
    let known = |value: Option<f64>| value.map_or(MaybeUnset::Unset, double);
    let mut cells = vec![big(id), date(day), time(reading.ts_ms), text(&reading.id)];
    let insert = match reading.state {
        AssetState::Ev {
            plugged,
            soc_pct,
            power_w,
            departure_ms,
            goal_pct,
        } => {
            let departure = departure_ms.map_or(MaybeUnset::Unset, time);
            let (soc_pct, goal_pct) = (known(soc_pct), known(goal_pct));
            cells.extend([
                boolean(plugged),
                soc_pct,
                double(power_w),
                departure,
                goal_pct,
            ]);
            Insert::Ev
        }
        AssetState::Heat {
            temperature_c,
            power_w,
        } => {
            cells.extend([double(temperature_c), double(power_w)]);
            Insert::Heat
        }
    };
    let row_key = (reading.ts_ms, reading.id.clone());
    let partition = PartitionKey::HomeDay(id, day);
    put(grouped, insert, partition, row_key, cells);
    Ok(())
}

fn group_slot(household_id: HouseholdId, slot: &Slot, grouped: &mut Grouped) -> Result<(), String> {
    let id = household_id.get();
    let day = row_day(household_id, "start", slot.start_ms)?;
    let mut cells = vec![
        big(id),
        date(day),
        time(slot.start_ms),
        int(slot.slot_minutes),
    ];
    for stat in [&slot.load_w, &slot.pv_w, &slot.battery_w] {
        let seen = |value| {
            if stat.count == 0 {
                MaybeUnset::Unset
            } else {
                double(value)
            }
        };
        cells.extend([
            stat.mean().map_or(MaybeUnset::Unset, double),
            seen(stat.min),
            seen(stat.max),
            seen(stat.sum),
            int(stat.count),
        ]);
    }
    match slot.soc_pct {
        Some(soc_pct) => cells.extend([double(soc_pct), time(slot.soc_ts_ms)]),
        None => cells.extend([MaybeUnset::Unset, MaybeUnset::Unset]),
    }
    cells.push(int(slot.samples_count()));
    let row_key = (slot.start_ms, String::new());
    put(
        grouped,
        Insert::Slot,
        PartitionKey::HomeDay(id, day),
        row_key,
        cells,
    );
    Ok(())
}

fn group_schedule(schedule: &Schedule, grouped: &mut Grouped) -> Result<(), String> {
    let id = schedule.household_id.get();
    let plan = &schedule.plan;
    let cells = vec![
        big(id),
        boolean(schedule.adopt),
        time(schedule.requested_ms),
        text(&schedule.schedule_id),
        time(schedule.start_ms),
        int(schedule.slot_minutes),
        text(plan.status.as_str()),
        double(plan.objective),
        double(plan.gap),
        text(&plan.solver),
        big(schedule.solve_us),
        double(plan.metrics.cost),
        double(plan.baseline.cost),
        json(schedule)?,
    ];
    let row_key = (schedule.requested_ms, schedule.schedule_id.clone());
    put(
        grouped,
        Insert::Schedule,
        PartitionKey::Home(id),
        row_key,
        cells,
    );
    let cells = vec![
        text(&schedule.schedule_id),
        big(id),
        boolean(schedule.adopt),
        time(schedule.requested_ms),
    ];
    let partition = PartitionKey::Text(schedule.schedule_id.clone());
    put(
        grouped,
        Insert::ScheduleId,
        partition,
        (0, String::new()),
        cells,
    );
    Ok(())
}

/// Adds the row of a command. Its answer is written by another statement with its own columns, so that writing the
/// command again does not undo the answer.
fn group_command(command: &Command, grouped: &mut Grouped) -> Result<(), String> {
    let body = serde_json::to_string(command)
        .map_err(|error| format!("encode command {}: {error}", command.command_id))?;
    let values = [
        text(&command.schedule_id),
        time(command.requested_ms),
        time(command.expires_ms),
        text(&body),
    ];
    let key = CommandKey {
        household_id: command.household_id,
        from_ms: command.from_ms(),
        command_id: &command.command_id,
    };
    put_command(grouped, Insert::Command, key, &values)
}

fn group_answer(answer: &CommandAnswer, grouped: &mut Grouped) -> Result<(), String> {
    let values = [
        text(CommandState::from(answer.status).as_str()),
        time(answer.acked_ms),
        text(&answer.reason),
    ];
    let key = CommandKey {
        household_id: answer.household_id,
        from_ms: answer.from_ms,
        command_id: &answer.command_id,
    };
    put_command(grouped, Insert::CommandAnswer, key, &values)
}

/// What makes two rows of `commands` the same.
#[derive(Clone, Copy)]
struct CommandKey<'a> {
    household_id: HouseholdId,
    from_ms: i64,
    command_id: &'a str,
}

fn put_command(
    grouped: &mut Grouped,
    insert: Insert,
    key: CommandKey<'_>,
    values: &[Cell],
) -> Result<(), String> {
    let id = key.household_id.get();
    let day = row_day(key.household_id, "not_before", key.from_ms)?;
    let mut cells = vec![big(id), date(day), time(key.from_ms), text(key.command_id)];
    cells.extend_from_slice(values);
    put(
        grouped,
        insert,
        PartitionKey::HomeDay(id, day),
        (key.from_ms, key.command_id.to_owned()),
        cells,
    );
    Ok(())
}

/// Returns roughly how many bytes a row takes on the wire.
pub(super) fn size_of(cells: &[Cell]) -> usize {
    cells
        .iter()
        .map(|cell| match cell {
            MaybeUnset::Set(CqlValue::Text(text)) => text.len() + 4,
            MaybeUnset::Set(CqlValue::Blob(blob)) => blob.len() + 4,
            MaybeUnset::Set(_) | MaybeUnset::Unset => 12,
        })
        .sum()
}

/// Returns the UTC day of `ts_ms`, in days since 1970.
pub(super) fn day_of(ts_ms: i64) -> Result<i32, StoreError> {
    i32::try_from(ts_ms.div_euclid(DAY_MS))
        .map_err(|_| StoreError::BadRow(format!("{ts_ms} ms is outside the calendar")))
}

/// Returns the day of a row; an error names its home and the field.
fn row_day(home: HouseholdId, field: &str, ts_ms: i64) -> Result<i32, String> {
    day_of(ts_ms)
        .map_err(|_| format!("household {home}: {field} of {ts_ms} ms is outside the calendar"))
}

/// Converts a day to CQL's count, where 1970 is in the middle of the unsigned range.
pub(super) const fn cql_date(day: i32) -> CqlDate {
    CqlDate(day.cast_unsigned() ^ (1 << 31))
}

fn big(value: i64) -> Cell {
    MaybeUnset::Set(CqlValue::BigInt(value))
}

fn int(value: u32) -> Cell {
    MaybeUnset::Set(CqlValue::Int(value.cast_signed()))
}

fn double(value: f64) -> Cell {
    MaybeUnset::Set(CqlValue::Double(value))
}

fn boolean(value: bool) -> Cell {
    MaybeUnset::Set(CqlValue::Boolean(value))
}

fn text(value: &str) -> Cell {
    MaybeUnset::Set(CqlValue::Text(value.to_owned()))
}

fn time(ts_ms: i64) -> Cell {
    MaybeUnset::Set(CqlValue::Timestamp(CqlTimestamp(ts_ms)))
}

fn date(day: i32) -> Cell {
    MaybeUnset::Set(CqlValue::Date(cql_date(day)))
}

fn json<T: serde::Serialize>(value: &T) -> Result<Cell, String> {
    serde_json::to_string(value)
        .map(|json| MaybeUnset::Set(CqlValue::Text(json)))
        .map_err(|error| format!("encode a row: {error}"))
}

/// Returns the values of a reading from one or two columns.
pub(super) fn measurement(kind: Kind, first: f64, second: f64) -> Measurement {
    match kind {
        Kind::Meter => Measurement::Meter {
            consumption_w: first,
        },
        Kind::Pv => Measurement::Pv { pv_w: first },
        Kind::Battery => Measurement::Battery {
            soc_pct: first,
            power_w: second,
        },
    }
}

/// A row of `ev_state`.
#[derive(Debug, DeserializeRow)]
pub(super) struct EvRow {
    ts: CqlTimestamp,
    ev: String,
    plugged: bool,
    soc_pct: Option<f64>,
    power_w: f64,
    departure: Option<CqlTimestamp>,
    goal_pct: Option<f64>,
}

impl EvRow {
    pub(super) fn into_reading(self, household_id: HouseholdId) -> AssetReading {
        AssetReading {
            household_id,
            id: self.ev,
            ts_ms: self.ts.0,
            state: AssetState::Ev {
                plugged: self.plugged,
                soc_pct: self.soc_pct,
                power_w: self.power_w,
                departure_ms: self.departure.map(|departure| departure.0),
                goal_pct: self.goal_pct,
            },
        }
    }
}

/// A row of `heat_state`.
#[derive(Debug, DeserializeRow)]
pub(super) struct HeatRow {
    ts: CqlTimestamp,
    heat_store: String,
    temperature_c: f64,
    power_w: f64,
}

impl HeatRow {
    pub(super) fn into_reading(self, household_id: HouseholdId) -> AssetReading {
        AssetReading {
            household_id,
            id: self.heat_store,
            ts_ms: self.ts.0,
            state: AssetState::Heat {
                temperature_c: self.temperature_c,
                power_w: self.power_w,
            },
        }
    }
}

/// A row of `slots`, without the columns that follow from the others.
#[derive(Debug, DeserializeRow)]
pub(super) struct SlotRow {
    start: CqlTimestamp,
    slot_minutes: i32,
    load_w_min: Option<f64>,
    load_w_max: Option<f64>,
    load_w_sum: Option<f64>,
    load_w_count: i32,
    pv_w_min: Option<f64>,
    pv_w_max: Option<f64>,
    pv_w_sum: Option<f64>,
    pv_w_count: i32,
    battery_w_min: Option<f64>,
    battery_w_max: Option<f64>,
    battery_w_sum: Option<f64>,
    battery_w_count: i32,
    soc_pct: Option<f64>,
    soc_ts: Option<CqlTimestamp>,
}

impl From<SlotRow> for Slot {
    fn from(row: SlotRow) -> Self {
        let stat = |sum: Option<f64>, count: i32, min: Option<f64>, max: Option<f64>| Stat {
            sum: sum.unwrap_or(0.0),
            count: count.cast_unsigned(),
            min: min.unwrap_or(0.0),
            max: max.unwrap_or(0.0),
        };
        Self {
            start_ms: row.start.0,
            slot_minutes: row.slot_minutes.cast_unsigned(),
            load_w: stat(
                row.load_w_sum,
                row.load_w_count,
                row.load_w_min,
                row.load_w_max,
            ),
            pv_w: stat(row.pv_w_sum, row.pv_w_count, row.pv_w_min, row.pv_w_max),
            battery_w: stat(
                row.battery_w_sum,
                row.battery_w_count,
                row.battery_w_min,
                row.battery_w_max,
            ),
            soc_pct: row.soc_pct,
            soc_ts_ms: row.soc_ts.map_or(0, |ts| ts.0),
        }
    }
}

/// A row of `commands`.
#[derive(Debug, DeserializeRow)]
pub(super) struct CommandRow {
    not_before: CqlTimestamp,
    command_id: String,
    schedule_id: Option<String>,
    requested: Option<CqlTimestamp>,
    expires: Option<CqlTimestamp>,
    battery_w: Option<f64>,
    appliances: Option<BTreeMap<String, bool>>,
    body: Option<String>,
    state: Option<String>,
    acked: Option<CqlTimestamp>,
    reason: Option<String>,
}

impl CommandRow {
    /// Returns `None` for an answer whose command is gone, for example because it expired a moment earlier.
    pub(super) fn into_progress(
        self,
        household_id: HouseholdId,
    ) -> Result<Option<CommandProgress>, StoreError> {
        let (Some(schedule_id), Some(requested), Some(expires)) =
            (self.schedule_id, self.requested, self.expires)
        else {
            return Ok(None);
        };
        let state = match self.state.as_deref() {
            None => CommandState::Issued,
            Some("applied") => CommandState::Applied,
            Some("rejected") => CommandState::Rejected,
            Some(other) => {
                return Err(StoreError::Corrupt {
                    table: "commands",
                    detail: format!("unknown state {other}"),
                });
            }
        };
        let command = match self.body {
            Some(body) => serde_json::from_str(&body).map_err(|error| StoreError::Corrupt {
                table: "commands",
                detail: error.to_string(),
            })?,
            // From before programs.
            None => Command::from(SlotCommand {
                command_id: self.command_id,
                household_id,
                schedule_id,
                requested_ms: requested.0,
                not_before_ms: self.not_before.0,
                expires_ms: expires.0,
                battery_w: self.battery_w,
                appliances: self.appliances.unwrap_or_default(),
            }),
        };
        Ok(Some(CommandProgress {
            command,
            state,
            acked_ms: self.acked.map(|acked| acked.0),
            reason: self.reason.unwrap_or_default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, cql_date, day_of};

    #[test]
    fn days_are_utc_and_known_before_1970_too() {
        assert_eq!(day_of(0).unwrap(), 0);
        assert_eq!(day_of(DAY_MS - 1).unwrap(), 0);
        assert_eq!(day_of(-1).unwrap(), -1);
        assert!(day_of(i64::MAX).is_err());
        assert_eq!(cql_date(0).0, 1 << 31);
        assert_eq!(cql_date(-1).0, (1 << 31) - 1);
    }
}
