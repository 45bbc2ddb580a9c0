//! Rows by what makes two of them the same row.

use model::asset::AssetKind;
use model::reading::{Kind, Reading};
use model::units::HouseholdId;
use platform::order::Order;
use platform::store::Row;

/// Identity of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    Reading(HouseholdId, i64, Kind),
    Asset(HouseholdId, i64, AssetKind, String),
    Slot(HouseholdId, i64),
    Schedule(HouseholdId, i64, String),
    Command(HouseholdId, i64, String),
    CommandAnswer(HouseholdId, i64, String),
    Household(HouseholdId),
    Tariff(String),
    Snapshot(HouseholdId),
}

impl RowKey {
    pub fn of(row: &Row) -> Self {
        match row {
            Row::Reading(reading) => Self::Reading(
                reading.household_id,
                reading.ts_ms,
                reading.measurement.kind(),
            ),
            Row::Asset(reading) => Self::Asset(
                reading.household_id,
                reading.ts_ms,
                reading.state.kind(),
                reading.id.clone(),
            ),
            Row::Slot { household_id, slot } => Self::Slot(*household_id, slot.start_ms),
            Row::Schedule(schedule) => Self::Schedule(
                schedule.household_id,
                schedule.requested_ms,
                schedule.schedule_id.clone(),
            ),
            Row::Command(command) => Self::Command(
                command.household_id,
                command.from_ms(),
                command.command_id.clone(),
            ),
            Row::CommandAnswer(answer) => Self::CommandAnswer(
                answer.household_id,
                answer.from_ms,
                answer.command_id.clone(),
            ),
            Row::Household(metadata) => Self::Household(metadata.household_id),
            Row::Tariff(tariff) => Self::Tariff(tariff.name.clone()),
            Row::Snapshot { household_id, .. } => Self::Snapshot(*household_id),
        }
    }
}

/// A row, and the order of the write that it came with.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub row: Row,
    pub order: Order,
}

impl Stored {
    /// Another write of the same row lands.
    pub fn take(&mut self, row: Row, order: Order) {
        if order < self.order {
            return;
        }
        self.order = order;
        self.row = row;
    }
}

/// The reading that the row is, where it is one.
pub fn reading_of(row: &Row) -> Option<Reading> {
    let Row::Reading(reading) = row else {
        return None;
    };
    Some(*reading)
}
