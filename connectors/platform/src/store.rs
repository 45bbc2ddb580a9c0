//! The seam to the wide-column store, with two implementations that ship: CQL (Scylla, Cassandra), and an embedded one.
//!
//! Writes are upserts: the same row again changes nothing. A write resolves only once its rows are durable.

use std::sync::Arc;

use model::command::CommandProgress;
use model::metadata::Metadata;
use model::reading::Reading;
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::HouseholdId;
use serde::{Deserialize, Serialize};

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

impl Row {
    /// Whose row it is; `None` where it is of no home.
    #[must_use]
    pub fn household_id(&self) -> Option<HouseholdId> {
        match self {
            Self::Reading(reading) => Some(reading.household_id),
            Self::Slot { household_id, .. } | Self::Snapshot { household_id, .. } => {
                Some(*household_id)
            }
            Self::Schedule(schedule) => Some(schedule.household_id),
            Self::Command(progress) => Some(progress.command.household_id),
            Self::Household(metadata) => Some(metadata.household_id),
            Self::Tariff(_) => None,
        }
    }
}

/// How many writes an owner may order before it claims again: microseconds of a minute.
const EPOCH_ORDERS: i64 = 60_000_000;
/// Orders of writes that belong to no partition begin here, above every microsecond before the year 2255.
const RECORD_ORDERS_FIRST: i64 = 1 << 53;

/// The place of a write among all writes of a row. No host's clock decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOrder {
    number: i64,
    owner: Option<(i32, i64)>,
}

impl WriteOrder {
    /// For rows that follow from the record at `offset` of a topic that every process reads as a whole. The rows of one
    /// table must all come from one such topic.
    #[must_use]
    pub const fn of_record(offset: i64) -> Self {
        Self {
            number: RECORD_ORDERS_FIRST.saturating_add(offset),
            owner: None,
        }
    }

    /// What is compared: 1 or more. Stands for microseconds where a store wants a timestamp.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.number
    }

    /// Partition and number of the epoch in which it was drawn; `None` where no partition is behind it.
    #[must_use]
    pub const fn owner(self) -> Option<(i32, i64)> {
        self.owner
    }
}

/// The stretch of orders that one owner of a partition may use.
///
/// Numbers are taken near the time of the claim, in microseconds, so that a store that sorts its files by the time of
/// writing (as time-window compaction does) goes on doing so. That is all the clock is for: a stretch begins where the
/// one before ended, or later, whatever a clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Whose it is.
    pub partition: i32,
    /// 1 for the first owner, and one more for each that follows.
    pub number: i64,
    /// Next order to use.
    next: i64,
    /// First order that is not part of it.
    end: i64,
}

impl Epoch {
    /// The stretch of an owner of `partition` that follows `before`, claimed at `now_us`; as the same owner where
    /// `goes_on`.
    #[must_use]
    pub fn after(partition: i32, before: Option<Self>, goes_on: bool, now_us: i64) -> Self {
        let (number, end) = before.map_or((0, 1), |before| (before.number, before.end));
        let next = end.max(now_us);
        Self {
            partition,
            number: if goes_on { number } else { number + 1 },
            next,
            end: next.saturating_add(EPOCH_ORDERS),
        }
    }

    /// As it stands in a store: the number of the owner, and where its stretch ends.
    #[must_use]
    pub const fn stored(&self) -> (i64, i64) {
        (self.number, self.end)
    }

    /// From what stands in a store. Of it nothing can be drawn; another stretch can follow it.
    #[must_use]
    pub const fn from_stored(partition: i32, number: i64, end: i64) -> Self {
        Self {
            partition,
            number,
            next: end,
            end,
        }
    }

    /// The next order; `None` where all are used, and another stretch must be claimed.
    pub fn draw(&mut self) -> Option<WriteOrder> {
        let number = self.next;
        if number >= self.end {
            return None;
        }
        self.next += 1;
        Some(WriteOrder {
            number,
            owner: Some((self.partition, self.number)),
        })
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
    /// A stored value does not decode.
    #[error("stored {table} row does not decode: {detail}")]
    Corrupt { table: &'static str, detail: String },
    /// A later owner has claimed the partition. Never succeeds: the later owner does the work.
    #[error("partition {partition} has a later owner")]
    Superseded { partition: i32 },
}

impl StoreError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused(_) | Self::Corrupt { .. } | Self::Superseded { .. } => false,
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
    /// Writes rows of any tables and households; resolves once all are durable. After an error some may be there.
    /// Rows are grouped by partition inside; concurrency is bounded.
    ///
    /// Of two writes of a row the one of the higher `order` holds, whichever lands later. A store that can tell answers
    /// a write of an owner that another has followed with [`StoreError::Superseded`].
    async fn write(&self, rows: Vec<Row>, order: WriteOrder) -> Result<(), StoreError>;
    /// Takes the orders that an owner of `partition` may use next, by compare and set: no two owners ever have one in
    /// common, and those of a later owner are higher.
    ///
    /// Without `held` the caller becomes the owner, and whoever was it before is superseded. With `held` it goes on as
    /// the owner, if it still is; else [`StoreError::Superseded`].
    async fn claim(&self, partition: i32, held: Option<Epoch>) -> Result<Epoch, StoreError>;
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

#[cfg(test)]
mod tests {
    use super::{EPOCH_ORDERS, Epoch, WriteOrder};

    #[test]
    fn a_later_owner_orders_above_an_earlier_one_whatever_clocks_say() {
        for (first_us, second_us) in [(0, 0), (1_000, 5), (5, i64::MAX / 2), (i64::MAX / 2, 0)] {
            let mut first = Epoch::after(3, None, false, first_us);
            let mut second = Epoch::after(3, Some(first), false, second_us);
            let mut latest = first.draw().expect("a fresh stretch has orders");
            for _ in 1..1_000 {
                let next = first.draw().expect("a stretch has more orders");
                assert!(next.number() > latest.number());
                latest = next;
            }
            let later = second.draw().expect("a fresh stretch has orders");
            assert!(later.number() > latest.number());
            assert!(later.number() >= first.stored().1);
            assert_eq!((first.number, second.number), (1, 2));
        }
    }

    #[test]
    fn a_stretch_ends_and_the_next_goes_on_as_the_same_owner() {
        let mut epoch = Epoch::after(0, None, false, 10);
        let drawn = std::iter::from_fn(|| epoch.draw()).count();
        assert_eq!(i64::try_from(drawn), Ok(EPOCH_ORDERS));
        let mut next = Epoch::after(0, Some(epoch), true, 0);
        assert_eq!(next.number, epoch.number);
        let order = next.draw().expect("a fresh stretch has orders");
        assert_eq!(order.number(), epoch.stored().1);
        assert_eq!(order.owner(), Some((0, 1)));
    }

    #[test]
    fn records_order_above_every_time_of_our_days() {
        let in_2200_us = 7_258_118_400_000_000;
        assert!(WriteOrder::of_record(0).number() > in_2200_us);
        assert!(WriteOrder::of_record(1).number() > WriteOrder::of_record(0).number());
    }
}
