//! The store of roles that need none: it refuses everything.

use model::asset::AssetReading;
use model::command::CommandProgress;
use model::metadata::Metadata;
use model::reading::Reading;
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::HouseholdId;
use platform::order::{Epoch, Order};
use platform::store::{Row, Store, StoreError};

/// No store.
#[derive(Debug)]
pub(crate) struct NoStore;

fn none<T>() -> Result<T, StoreError> {
    Err(StoreError::Refused("this role has no store".to_owned()))
}

#[async_trait::async_trait]
impl Store for NoStore {
    async fn init(&self) -> Result<(), StoreError> {
        none()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        none()
    }

    async fn claim(&self, _partition: i32) -> Result<Epoch, StoreError> {
        none()
    }

    async fn renew(&self, _partition: i32, _held: Epoch) -> Result<Option<Epoch>, StoreError> {
        none()
    }

    async fn newest_epoch(&self, _partition: i32) -> Result<Option<Epoch>, StoreError> {
        none()
    }

    async fn write(&self, _order: Order, _rows: Vec<Row>) -> Result<(), StoreError> {
        none()
    }

    async fn readings(
        &self,
        _household_id: HouseholdId,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Vec<Reading>, StoreError> {
        none()
    }

    async fn assets(
        &self,
        _household_id: HouseholdId,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Vec<AssetReading>, StoreError> {
        none()
    }

    async fn slots(
        &self,
        _household_id: HouseholdId,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Vec<Slot>, StoreError> {
        none()
    }

    async fn latest_schedule(
        &self,
        _household_id: HouseholdId,
    ) -> Result<Option<Schedule>, StoreError> {
        none()
    }

    async fn schedule(&self, _schedule_id: &str) -> Result<Option<Schedule>, StoreError> {
        none()
    }

    async fn commands(
        &self,
        _household_id: HouseholdId,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Vec<CommandProgress>, StoreError> {
        none()
    }

    async fn household(&self, _household_id: HouseholdId) -> Result<Option<Metadata>, StoreError> {
        none()
    }

    async fn households(
        &self,
        _after: Option<HouseholdId>,
        _count_max: usize,
    ) -> Result<Vec<Metadata>, StoreError> {
        none()
    }

    async fn tariff(
        &self,
        _name: &str,
        _from_ms: i64,
        _to_ms: i64,
    ) -> Result<Option<Tariff>, StoreError> {
        none()
    }

    async fn snapshot(&self, _household_id: HouseholdId) -> Result<Option<Vec<u8>>, StoreError> {
        none()
    }

    async fn close(&self) {}
}
