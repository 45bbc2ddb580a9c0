//! The seam to the wide-column store, with two implementations that ship: CQL (Scylla, Cassandra), and an embedded one.
//!
//! Writes are upserts: the same row again changes nothing. A write resolves only once its rows are durable. Each write
//! has an [`Order`], and a row never replaces one of a higher order.

use std::sync::Arc;

use model::command::CommandProgress;
use model::metadata::Metadata;
use model::reading::Reading;
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::{DAY_MS, HouseholdId};

use crate::order::{Epoch, Order};

/// One row of one table.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// `meter_readings`, `pv_generation` or `battery_state`, by its kind.
    Reading(Reading),
    /// `slots`
    Slot {
        household_id: HouseholdId,
        slot: Slot,
    },
    /// `schedules`, by household and by schedule
    Schedule(Arc<Schedule>),
    /// `commands`
    Command(CommandProgress),
    /// `households`
    Household(Arc<Metadata>),
    /// `tariffs`
    Tariff(Arc<Tariff>),
    /// `snapshots`: a household's state, opaque bytes.
    Snapshot {
        household_id: HouseholdId,
        state: Vec<u8>,
    },
}

/// Which rows a store holds together, and takes together for little more than one of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// What a household has of one UTC day, in days since 1970.
    Day(HouseholdId, i64),
    /// What a household has of no day.
    Household(HouseholdId),
    /// A tariff, by its name.
    Tariff(String),
}

impl Row {
    /// Where it belongs.
    #[must_use]
    pub fn place(&self) -> Place {
        let day = |ts_ms: i64| ts_ms.div_euclid(DAY_MS);
        match self {
            Self::Reading(reading) => Place::Day(reading.household_id, day(reading.ts_ms)),
            Self::Slot { household_id, slot } => Place::Day(*household_id, day(slot.start_ms)),
            Self::Command(progress) => {
                let command = &progress.command;
                Place::Day(command.household_id, day(command.not_before_ms))
            }
            Self::Schedule(schedule) => Place::Household(schedule.household_id),
            Self::Household(metadata) => Place::Household(metadata.household_id),
            Self::Snapshot { household_id, .. } => Place::Household(*household_id),
            Self::Tariff(tariff) => Place::Tariff(tariff.name.clone()),
        }
    }

    /// Bytes that it takes in memory and on the wire, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        const SMALL: usize = 128;
        match self {
            Self::Reading(_) => SMALL,
            Self::Slot { .. } => 2 * SMALL,
            Self::Command(_) => 4 * SMALL,
            Self::Household(_) => 16 * SMALL,
            Self::Schedule(schedule) => SMALL * (4 + 3 * schedule.plan.slots.len()),
            Self::Tariff(tariff) => SMALL * (1 + tariff.periods.len()),
            Self::Snapshot { state, .. } => SMALL + state.len(),
        }
    }
}

/// Why the store could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not now (timeout, overload, no node); the same call may succeed later.
    #[error("store is not available: {0}")]
    Unavailable(String),
    /// The store refuses this call for good.
    #[error("store refused: {0}")]
    Refused(String),
    /// A row that no store could hold, for instance because its time is beyond every calendar. Without it the rest of
    /// the write may succeed.
    #[error("row cannot be stored: {0}")]
    BadRow(String),
    /// A stored value does not decode.
    #[error("stored {table} row does not decode: {detail}")]
    Corrupt { table: &'static str, detail: String },
}

impl StoreError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused(_) | Self::BadRow(_) | Self::Corrupt { .. } => false,
        }
    }
}

/// The store.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Creates the keyspace and the tables that are missing. Safe to repeat.
    async fn init(&self) -> Result<(), StoreError>;
    /// Whether the store answers now.
    async fn ping(&self) -> Result<(), StoreError>;
    /// Claims a partition of the log: a higher epoch each time, whoever claims at the same time. After an error the
    /// claim may have been made; the next one is higher still.
    async fn claim(&self, partition: i32) -> Result<Epoch, StoreError>;
    /// Claims again for the owner who holds `held`; `None` if somebody has claimed since, who then is the owner.
    async fn renew(&self, partition: i32, held: Epoch) -> Result<Option<Epoch>, StoreError>;
    /// The epoch that was claimed last, as everybody sees it; `None` if nobody has claimed yet.
    async fn newest_epoch(&self, partition: i32) -> Result<Option<Epoch>, StoreError>;
    /// Writes rows of any tables and households; resolves once all are durable. After an error some may be there.
    /// A row stays as it is where one of a higher order stands already; of two rows for one place in this write the later
    /// holds. Rows are grouped by partition inside; concurrency is bounded.
    async fn write(&self, order: Order, rows: Vec<Row>) -> Result<(), StoreError>;
    /// Readings of every kind in `[from_ms, to_ms)`, ascending by (time, kind).
    async fn readings(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Reading>, StoreError>;
    /// Slots whose start lies in `[from_ms, to_ms)`, ascending.
    async fn slots(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Slot>, StoreError>;
    /// The adopted schedule that was requested last.
    async fn latest_schedule(
        &self,
        household_id: HouseholdId,
    ) -> Result<Option<Schedule>, StoreError>;
    /// A schedule by its id; the household's id stands before the id's first dash.
    async fn schedule(&self, schedule_id: &str) -> Result<Option<Schedule>, StoreError>;
    /// Commands whose `not_before_ms` lies in `[from_ms, to_ms)`, ascending.
    async fn commands(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<CommandProgress>, StoreError>;
    /// One household's metadata.
    async fn household(&self, household_id: HouseholdId) -> Result<Option<Metadata>, StoreError>;
    /// At most `count_max` households with ids above `after`. The embedded store gives them by ascending id; CQL in
    /// token order, where `after` is the last id of the page before.
    async fn households(
        &self,
        after: Option<HouseholdId>,
        count_max: usize,
    ) -> Result<Vec<Metadata>, StoreError>;
    /// A tariff with the periods that touch `[from_ms, to_ms)`; `None` where none do.
    async fn tariff(
        &self,
        name: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Option<Tariff>, StoreError>;
    /// A household's last snapshot.
    async fn snapshot(&self, household_id: HouseholdId) -> Result<Option<Vec<u8>>, StoreError>;
    /// Makes everything durable and closes.
    async fn close(&self);
}
