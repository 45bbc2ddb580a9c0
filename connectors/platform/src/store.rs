//! The seam to the wide-column store, with two implementations that ship: CQL (Scylla, Cassandra), and an embedded one.
//!
//! Writes are upserts: the same row again changes nothing. A write resolves only once its rows are durable. Each write
//! has an [`Order`], and a row never replaces one of a higher order.

use std::sync::Arc;

use model::asset::AssetReading;
use model::command::{Command, CommandAnswer, CommandProgress};
use model::metadata::Metadata;
use model::reading::Reading;
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::{DAY_MS, HouseholdId};

use crate::log::partition_of;
use crate::order::{Epoch, Order};

/// Snapshots are stored in so many groups.
const SNAPSHOT_BUCKETS: u32 = 1_024;

/// One row of one table.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// `meter_readings`, `pv_generation` or `battery_state`, by its kind.
    Reading(Reading),
    /// `ev_state` or `heat_state`, by its kind.
    Asset(AssetReading),
    /// `slots`.
    Slot {
        /// Whose slot it is.
        household_id: HouseholdId,
        /// The closed slot.
        slot: Slot,
    },
    /// `schedules`, by household and by schedule.
    Schedule(Arc<Schedule>),
    /// `commands`, as issued. Writing it again does not undo its answer.
    Command(Command),
    /// `commands`, what the device answered.
    CommandAnswer(CommandAnswer),
    /// `households`.
    Household(Arc<Metadata>),
    /// `tariffs`.
    Tariff(Arc<Tariff>),
    /// `household_snapshots`.
    Snapshot {
        /// Whose state it is.
        household_id: HouseholdId,
        /// The household's state, opaque bytes.
        state: Vec<u8>,
    },
}

/// A group of rows that a store keeps together. Writing several rows of a group costs little more than writing one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A household's rows of one UTC day, in days since 1970.
    Day(HouseholdId, i64),
    /// A household's rows that belong to no day.
    Household(HouseholdId),
    /// A tariff's rows, by its name.
    Tariff(String),
    /// Snapshots of households of one [`snapshot_bucket`].
    Snapshots(i32),
}

/// Returns the group in which the snapshot of a household is stored, below 1,024.
///
/// Every home changes, and so is saved, once in a checkpoint interval. Stored by itself, each snapshot would cost a store as
/// much as a group of them. The group follows from the key's hash, as the partition of the log does: where the number of
/// partitions divides 1,024, the homes of a group all have the same owner, which saves many of them at once.
#[must_use]
pub fn snapshot_bucket(household_id: HouseholdId) -> i32 {
    partition_of(household_id.to_string().as_bytes(), SNAPSHOT_BUCKETS)
}

impl Row {
    /// Returns the group that the row belongs to.
    #[must_use]
    pub fn place(&self) -> Place {
        let day = |ts_ms: i64| ts_ms.div_euclid(DAY_MS);
        match self {
            Self::Reading(reading) => Place::Day(reading.household_id, day(reading.ts_ms)),
            Self::Asset(reading) => Place::Day(reading.household_id, day(reading.ts_ms)),
            Self::Slot { household_id, slot } => Place::Day(*household_id, day(slot.start_ms)),
            Self::Command(command) => Place::Day(command.household_id, day(command.from_ms())),
            Self::CommandAnswer(answer) => Place::Day(answer.household_id, day(answer.from_ms)),
            Self::Schedule(schedule) => Place::Household(schedule.household_id),
            Self::Household(metadata) => Place::Household(metadata.household_id),
            Self::Snapshot { household_id, .. } => Place::Snapshots(snapshot_bucket(*household_id)),
            Self::Tariff(tariff) => Place::Tariff(tariff.name.clone()),
        }
    }

    /// Returns roughly how many bytes it takes in memory and on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        const SMALL: usize = 128;
        match self {
            Self::Reading(_) => SMALL,
            Self::Asset(reading) => 2 * SMALL + reading.id.len(),
            Self::Slot { .. } => 2 * SMALL,
            Self::Command(command) => SMALL * (2 + 2 * command.program.len()),
            Self::CommandAnswer(_) => 2 * SMALL,
            Self::Household(_) => 16 * SMALL,
            Self::Schedule(schedule) => SMALL * (4 + 3 * schedule.plan.slots.len()),
            Self::Tariff(tariff) => SMALL * (1 + tariff.periods.len()),
            Self::Snapshot { state, .. } => SMALL + state.len(),
        }
    }
}

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot do it now (timeout, overload, no node). The same call may succeed later.
    #[error("store is not available: {0}")]
    Unavailable(String),
    /// The store refuses this call. Repeating it never succeeds.
    #[error("store refused: {0}")]
    Refused(String),
    /// A row that no store can hold, for example because its time is outside the calendar. The rest of the write may
    /// succeed without it.
    #[error("row cannot be stored: {0}")]
    BadRow(String),
    /// A stored value does not decode.
    #[error("stored {table} row does not decode: {detail}")]
    Corrupt {
        /// Name of its table.
        table: &'static str,
        /// What is wrong, for people.
        detail: String,
    },
}

impl StoreError {
    /// Returns whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused(_) | Self::BadRow(_) | Self::Corrupt { .. } => false,
        }
    }
}

/// A wide-column store with one table per kind of row.
///
/// Every call may fail with [`StoreError::Unavailable`] (no answer in time) and with [`StoreError::Refused`] (the store
/// is closed, or rejects the call). Reads may also fail with [`StoreError::Corrupt`]. A read over a longer time than
/// stores allow is [`StoreError::Refused`]; ranges of time are half open, in UTC epoch milliseconds.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Creates the keyspace and the tables that are missing. Safe to repeat.
    async fn init(&self) -> Result<(), StoreError>;
    /// Checks that the store answers now.
    async fn ping(&self) -> Result<(), StoreError>;
    /// Claims a partition of the log. Each claim gets a higher epoch, even if several claim at the same time. After an
    /// error the claim may have been made; the next one is higher still.
    async fn claim(&self, partition: i32) -> Result<Epoch, StoreError>;
    /// Claims again for the owner that holds `held`. Returns `None` if another owner has claimed the partition since.
    async fn renew(&self, partition: i32, held: Epoch) -> Result<Option<Epoch>, StoreError>;
    /// Returns the epoch that was claimed last by anybody; `None` if nobody has claimed yet.
    async fn newest_epoch(&self, partition: i32) -> Result<Option<Epoch>, StoreError>;
    /// Writes rows of any tables and households; resolves once all are durable. After an error some may be stored.
    /// A stored row with a higher order stays as it is. If this write has the same row twice, the later one wins.
    /// Fails with [`StoreError::BadRow`] if the store cannot hold one of the rows.
    async fn write(&self, order: Order, rows: Vec<Row>) -> Result<(), StoreError>;
    /// Returns the readings of every kind in `[from_ms, to_ms)`, ascending by (time, kind).
    async fn readings(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Reading>, StoreError>;
    /// Returns the readings of every asset in `[from_ms, to_ms)`, ascending by (time, kind, id).
    async fn assets(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<AssetReading>, StoreError>;
    /// Returns the slots whose start lies in `[from_ms, to_ms)`, ascending.
    async fn slots(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Slot>, StoreError>;
    /// Returns the adopted schedule that was requested last.
    async fn latest_schedule(
        &self,
        household_id: HouseholdId,
    ) -> Result<Option<Schedule>, StoreError>;
    /// Returns a schedule by its id, which begins with the household's id and a dash.
    async fn schedule(&self, schedule_id: &str) -> Result<Option<Schedule>, StoreError>;
    /// Returns the commands whose first entry begins in `[from_ms, to_ms)`, ascending.
    async fn commands(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<CommandProgress>, StoreError>;
    /// Returns one household's metadata.
    async fn household(&self, household_id: HouseholdId) -> Result<Option<Metadata>, StoreError>;
    /// Returns a page of at most `count_max` households that follow `after`, the last id of the previous page. The
    /// embedded store orders them by ascending id, CQL by token.
    async fn households(
        &self,
        after: Option<HouseholdId>,
        count_max: usize,
    ) -> Result<Vec<Metadata>, StoreError>;
    /// Returns a tariff with the periods that touch `[from_ms, to_ms)`; `None` if none do.
    async fn tariff(
        &self,
        name: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Option<Tariff>, StoreError>;
    /// Returns a household's last snapshot.
    async fn snapshot(&self, household_id: HouseholdId) -> Result<Option<Vec<u8>>, StoreError>;
    /// Makes everything durable and closes.
    async fn close(&self);
}
