//! Keys, values and tables of the embedded store. A key is the household's id, then the time, both in a form that sorts
//! like the numbers. A value is a marker byte, the order of its write, a version byte and the row. Values from before
//! orders existed begin with the version byte. Schedules and commands have version 2, everything else version 1.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use model::asset::AssetKind;
use model::command::{Command, CommandState, SlotCommand};
use model::reading::{Kind, Measurement, Reading};
use model::schedule::Schedule;
use model::tariff::Tariff;
use model::units::HouseholdId;
use schemas::codec::{Codec, CodecError, Message};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::schedule_v1;
use platform::order::Order;
use platform::reopen::{Reopened, write_again};
use platform::store::{Row, StoreError};

/// Extension of the journals in the folder.
const JOURNAL: &str = "jnl";
/// First byte of a value that has its order in the eight bytes behind. No version of what follows has this number.
const ORDERED: u8 = 0x80;
/// Version byte of most values; another number means another layout.
const VERSION: u8 = 1;
/// Version byte of a schedule or command as an Avro single object, which names its schema.
const RECORD_VERSION: u8 = 2;
/// Length of a household's id or of a time in a key, bytes.
pub(super) const WORD: usize = 8;

/// The tables, by their public names, and some that serve lookups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    MeterReadings,
    PvGeneration,
    BatteryState,
    EvState,
    HeatState,
    Slots,
    Schedules,
    /// From a schedule's id to its key in `schedules`.
    SchedulesById,
    Commands,
    /// Answers of devices, apart from the commands, so that writing a command again does not undo its answer.
    CommandAnswers,
    Households,
    Tariffs,
    WeatherForecast,
    Snapshots,
    /// From a partition of the log to the epoch that was claimed last.
    PartitionEpochs,
}

impl Table {
    pub(super) const ALL: [Self; 15] = [
        Self::MeterReadings,
        Self::PvGeneration,
        Self::BatteryState,
        Self::EvState,
        Self::HeatState,
        Self::Slots,
        Self::Schedules,
        Self::SchedulesById,
        Self::Commands,
        Self::CommandAnswers,
        Self::Households,
        Self::Tariffs,
        Self::WeatherForecast,
        Self::Snapshots,
        Self::PartitionEpochs,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::MeterReadings => "meter_readings",
            Self::PvGeneration => "pv_generation",
            Self::BatteryState => "battery_state",
            Self::EvState => "ev_state",
            Self::HeatState => "heat_state",
            Self::Slots => "slots",
            Self::Schedules => "schedules",
            Self::SchedulesById => "schedules_by_id",
            Self::Commands => "commands",
            Self::CommandAnswers => "command_answers",
            Self::Households => "households",
            Self::Tariffs => "tariffs",
            Self::WeatherForecast => "weather_forecast",
            Self::Snapshots => "snapshots",
            Self::PartitionEpochs => "partition_epochs",
        }
    }

    pub(super) const fn of_asset(kind: AssetKind) -> Self {
        match kind {
            AssetKind::Ev => Self::EvState,
            AssetKind::Heat => Self::HeatState,
        }
    }

    pub(super) const fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Meter => Self::MeterReadings,
            Kind::Pv => Self::PvGeneration,
            Kind::Battery => Self::BatteryState,
        }
    }
}

/// The open tables. The folder is locked for as long as they are.
pub(super) struct Tables {
    pub(super) database: Database,
    keyspaces: Vec<Keyspace>,
}

impl Tables {
    pub(super) fn open(dir: &Path, cache_mb: u64) -> Result<Self, fjall::Error> {
        let database = Database::builder(dir)
            .cache_size(cache_mb * 1024 * 1024)
            .worker_threads(1)
            .open()?;
        let keyspaces = Table::ALL
            .iter()
            .map(|table| database.keyspace(table.as_str(), KeyspaceCreateOptions::default))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            database,
            keyspaces,
        })
    }

    pub(super) fn get(&self, table: Table) -> &Keyspace {
        &self.keyspaces[table as usize]
    }
}

/// Opens the tables after a write that failed; the error for people.
pub(super) fn open_again(dir: &Path, cache_mb: u64) -> Result<Tables, String> {
    let rewritten = write_again(dir, JOURNAL).map_err(fjall::Error::Io);
    let opened = rewritten.and_then(|()| Tables::open(dir, cache_mb));
    opened.map_err(|error| error.to_string())
}

/// One change of one table.
#[derive(Debug)]
pub(super) enum Change {
    Put {
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Remove {
        table: Table,
        key: Vec<u8>,
    },
    /// Prices that replace all known ones from the first period to the last.
    Tariff(Arc<Tariff>),
}

/// A device's answer: a row of `command_answers`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) state: CommandState,
    pub(super) acked_ms: Option<i64>,
    pub(super) reason: String,
}

/// Returns a number as eight bytes that sort like the numbers.
pub(super) const fn ordered(number: i64) -> [u8; WORD] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Returns the number from which [`ordered`] made these bytes.
pub(super) fn number(bytes: &[u8]) -> Option<i64> {
    let bytes: [u8; WORD] = bytes.try_into().ok()?;
    Some((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

pub(super) fn household_key(household_id: HouseholdId) -> Vec<u8> {
    ordered(household_id.get()).to_vec()
}

pub(super) fn timed_key(household_id: HouseholdId, ts_ms: i64) -> Vec<u8> {
    [ordered(household_id.get()), ordered(ts_ms)].concat()
}

/// Returns the key of one of several rows with the same time.
fn key_with_id(household_id: HouseholdId, ts_ms: i64, id: &str) -> Vec<u8> {
    let mut key = timed_key(household_id, ts_ms);
    key.extend_from_slice(id.as_bytes());
    key
}

/// Returns id and time of a key with an id.
pub(super) fn named_key(table: Table, key: &[u8]) -> Result<(String, i64), StoreError> {
    let parts = || {
        let (ts, id) = key.get(WORD..)?.split_at_checked(WORD)?;
        Some((String::from_utf8(id.to_vec()).ok()?, number(ts)?))
    };
    parts().ok_or_else(|| corrupt(table, &"key without a time and an id"))
}

/// Returns the prefix of a home's keys in `schedules`. Adopted schedules are together, the one requested last at the end.
pub(super) fn schedule_prefix(household_id: HouseholdId, adopt: bool) -> Vec<u8> {
    let mut key = household_key(household_id);
    key.push(u8::from(adopt));
    key
}

/// Returns the key of a tariff's period. The name's length comes first, so that no name is the prefix of another.
pub(super) fn tariff_key(name: &str, start_ms: i64) -> Result<Vec<u8>, StoreError> {
    let length = u16::try_from(name.len())
        .map_err(|_| StoreError::BadRow("a tariff's name is at most 65,535 bytes".to_owned()))?;
    let mut key = length.to_be_bytes().to_vec();
    key.extend_from_slice(name.as_bytes());
    key.extend_from_slice(&ordered(start_ms));
    Ok(key)
}

/// Encodes a value: the version byte, then postcard.
pub(super) fn packed<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(value, vec![VERSION])
        .map_err(|error| StoreError::BadRow(format!("encode a row: {error}")))
}

/// Reads what [`packed`] wrote.
pub(super) fn unpacked<T: DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(body(table, value)?).map_err(|error| corrupt(table, &error))
}

/// Encodes a schedule or command behind its version byte.
pub(super) fn packed_record<T: Message>(record: &T) -> Result<Vec<u8>, StoreError> {
    let record = Codec::single_object()
        .encode(record)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    Ok([&[RECORD_VERSION], record.as_slice()].concat())
}

/// Reads what [`packed_record`] writes, and schedules from before version 2.
pub(super) fn unpacked_schedule(value: &[u8]) -> Result<Schedule, StoreError> {
    let corrupt = |error: &dyn std::fmt::Display| corrupt(Table::Schedules, error);
    if let Some(schedule) = record(value) {
        return schedule.map_err(|error| corrupt(&error));
    }
    schedule_v1::read(body(Table::Schedules, value)?).map_err(|error| corrupt(&error))
}

/// Reads what [`packed_record`] writes, and commands from before programs.
pub(super) fn unpacked_command(value: &[u8]) -> Result<Command, StoreError> {
    match record(value) {
        Some(command) => command.map_err(|error| corrupt(Table::Commands, &error)),
        None => unpacked::<SlotCommand>(Table::Commands, value).map(Command::from),
    }
}

/// Returns the value of version 2; `None` if it has another version.
fn record<T: Message>(value: &[u8]) -> Option<Result<T, CodecError>> {
    match split_order(value).1.split_first() {
        Some((&RECORD_VERSION, record)) => Some(Codec::single_object().decode(record)),
        Some(_) | None => None,
    }
}

/// Puts the order in front of a value.
pub(super) fn ordered_value(order: Order, value: &[u8]) -> Vec<u8> {
    [&[ORDERED], order.get().to_be_bytes().as_slice(), value].concat()
}

/// Splits a stored value into its order and the value itself. Values from before orders existed have [`Order::NONE`].
pub(super) fn split_order(value: &[u8]) -> (Order, &[u8]) {
    if let Some((&ORDERED, rest)) = value.split_first()
        && let Some((order, rest)) = rest.split_first_chunk()
    {
        return (Order::new(i64::from_be_bytes(*order)), rest);
    }
    (Order::NONE, value)
}

/// Returns the bytes that follow the version byte.
pub(super) fn body(table: Table, value: &[u8]) -> Result<&[u8], StoreError> {
    match split_order(value).1.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((version, _)) => Err(corrupt(table, &format!("unknown version {version}"))),
        None => Err(corrupt(table, &"empty value")),
    }
}

pub(super) fn get(
    tables: &Tables,
    table: Table,
    key: &[u8],
) -> Result<Option<fjall::Slice>, StoreError> {
    tables
        .get(table)
        .get(key)
        .map_err(|error| from_fjall(&error))
}

/// Reads from the tables; not now while they are opened again.
pub(super) fn look<T>(
    tables: &Reopened<Tables>,
    question: impl FnOnce(&Tables) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let answer = tables.with(question);
    answer.unwrap_or_else(|| {
        let reason = "the embedded store is being opened again".to_owned();
        Err(StoreError::Unavailable(reason))
    })
}

/// What the disk or the number of open files refuses now may go later, and so may a write after one that failed: the
/// writer opens the tables again. Damage stays.
pub(super) fn from_fjall(error: &fjall::Error) -> StoreError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return StoreError::Unavailable(error.to_string());
        }
        cause = error.source();
    }
    if matches!(error, fjall::Error::Poisoned) {
        StoreError::Unavailable(error.to_string())
    } else {
        StoreError::Refused(error.to_string())
    }
}

pub(super) fn corrupt(table: Table, detail: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        table: table.as_str(),
        detail: detail.to_string(),
    }
}

/// Adds the changes of one row.
pub(super) fn changes_of(row: Row, changes: &mut Vec<Change>) -> Result<(), StoreError> {
    match row {
        Row::Reading(reading) => changes.push(reading_change(&reading)?),
        Row::Asset(reading) => changes.push(Change::Put {
            table: Table::of_asset(reading.state.kind()),
            key: key_with_id(reading.household_id, reading.ts_ms, &reading.id),
            value: packed(&reading.state)?,
        }),
        Row::Slot { household_id, slot } => changes.push(Change::Put {
            table: Table::Slots,
            key: timed_key(household_id, slot.start_ms),
            value: packed(&slot)?,
        }),
        Row::Schedule(schedule) => {
            let mut key = schedule_prefix(schedule.household_id, schedule.adopt);
            key.extend_from_slice(&ordered(schedule.requested_ms));
            key.extend_from_slice(schedule.schedule_id.as_bytes());
            changes.push(Change::Put {
                table: Table::SchedulesById,
                key: schedule.schedule_id.as_bytes().to_vec(),
                value: [&[VERSION], key.as_slice()].concat(),
            });
            changes.push(Change::Put {
                table: Table::Schedules,
                key,
                value: packed_record(schedule.as_ref())?,
            });
        }
        Row::Command(command) => changes.push(Change::Put {
            table: Table::Commands,
            key: key_with_id(command.household_id, command.from_ms(), &command.command_id),
            value: packed_record(&command)?,
        }),
        Row::CommandAnswer(answer) => changes.push(Change::Put {
            table: Table::CommandAnswers,
            key: key_with_id(answer.household_id, answer.from_ms, &answer.command_id),
            value: packed(&Answer {
                state: answer.status.into(),
                acked_ms: Some(answer.acked_ms),
                reason: answer.reason,
            })?,
        }),
        Row::Household(metadata) => {
            let mut value = vec![VERSION];
            serde_json::to_writer(&mut value, metadata.as_ref())
                .map_err(|error| StoreError::BadRow(format!("encode metadata: {error}")))?;
            changes.push(Change::Put {
                table: Table::Households,
                key: household_key(metadata.household_id),
                value,
            });
        }
        Row::Tariff(tariff) => {
            // Its name must fit into a key.
            tariff_key(&tariff.name, 0)?;
            changes.push(Change::Tariff(tariff));
        }
        Row::Snapshot {
            household_id,
            state,
        } => changes.push(Change::Put {
            table: Table::Snapshots,
            key: household_key(household_id),
            value: [&[VERSION], state.as_slice()].concat(),
        }),
    }
    Ok(())
}

fn reading_change(reading: &Reading) -> Result<Change, StoreError> {
    Ok(Change::Put {
        table: Table::of_kind(reading.measurement.kind()),
        key: timed_key(reading.household_id, reading.ts_ms),
        value: match reading.measurement {
            Measurement::Meter { consumption_w } => packed(&consumption_w)?,
            Measurement::Pv { pv_w } => packed(&pv_w)?,
            Measurement::Battery { soc_pct, power_w } => packed(&(soc_pct, power_w))?,
        },
    })
}

/// Returns the reading from which [`changes_of`] made this row.
pub(super) fn reading_of(
    household_id: HouseholdId,
    kind: Kind,
    key: &[u8],
    value: &[u8],
) -> Result<Reading, StoreError> {
    let table = Table::of_kind(kind);
    let ts_ms = key
        .get(WORD..)
        .and_then(number)
        .ok_or_else(|| corrupt(table, &"key without a time"))?;
    let measurement = match kind {
        Kind::Meter => Measurement::Meter {
            consumption_w: unpacked(table, value)?,
        },
        Kind::Pv => Measurement::Pv {
            pv_w: unpacked(table, value)?,
        },
        Kind::Battery => {
            let (soc_pct, power_w) = unpacked(table, value)?;
            Measurement::Battery { soc_pct, power_w }
        }
    };
    Ok(Reading {
        household_id,
        ts_ms,
        measurement,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_of_version_1_are_programs_of_one_slot() {
        let before = SlotCommand {
            command_id: "7-0-1-3".to_owned(),
            household_id: HouseholdId::new(7).unwrap(),
            schedule_id: "7-0-1".to_owned(),
            requested_ms: 1_000,
            not_before_ms: 900_000,
            expires_ms: 1_800_000,
            battery_w: Some(-1_500.0),
            appliances: BTreeMap::from([("dishwasher".to_owned(), true)]),
        };
        let row = packed(&before).unwrap();
        for row in [row.clone(), ordered_value(Order::NONE, &row)] {
            let command = unpacked_command(&row).unwrap();
            assert_eq!(command, Command::from(before.clone()));
            let entry = command.entry_at(900_000).unwrap();
            let battery = entry.policy.as_ref().unwrap().battery.unwrap();
            assert_eq!(battery.setpoint_kw, Some(-1.5));
            assert_eq!(command.entry_at(1_800_000), None);
            let row = packed_record(&command).unwrap();
            assert_eq!(unpacked_command(&row).unwrap(), command);
        }
        assert!(unpacked_command(&[RECORD_VERSION, 0]).is_err());
    }

    proptest! {
        #[test]
        fn keys_keep_the_order_of_numbers(a: i64, b: i64) {
            prop_assert_eq!(ordered(a).cmp(&ordered(b)), a.cmp(&b));
            prop_assert_eq!(number(&ordered(a)), Some(a));
        }

        #[test]
        fn names_do_not_mix(a in "[a-c]{0,3}", b in "[a-c]{0,3}", x: i64, y: i64) {
            let (one, other) = (tariff_key(&a, x).unwrap(), tariff_key(&b, y).unwrap());
            prop_assert_eq!(one == other, a == b && x == y);
            if a == b {
                prop_assert_eq!(one.cmp(&other), x.cmp(&y));
            }
        }
    }

    #[test]
    fn another_version_is_corrupt_and_not_misread() {
        let mut value = packed(&450.5_f64).unwrap();
        assert_eq!(unpacked::<f64>(Table::PvGeneration, &value).unwrap(), 450.5);
        value[0] = 2;
        let error = unpacked::<f64>(Table::PvGeneration, &value).unwrap_err();
        assert_eq!(
            error.to_string(),
            "stored pv_generation row does not decode: unknown version 2"
        );
        assert!(!error.is_retryable());
    }
}
