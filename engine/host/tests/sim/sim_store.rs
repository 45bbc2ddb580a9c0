//! The store of the simulation, as one owner sees it. Of two writes of a row the one with the higher order holds,
//! whichever lands later.

use std::sync::Arc;

use model::asset::AssetReading;
use model::command::CommandProgress;
use model::metadata::Metadata;
use model::reading::{Kind, Reading};
use model::schedule::Schedule;
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::{HOUR_MS, HouseholdId};
use platform::order::{Epoch, Order};
use platform::store::{Row, Store, StoreError};

use super::faults::{Fate, Fault, late};
use super::rows::{RowKey, reading_of};
use super::state::{State, snapshot_of};
use super::world::Life;

/// Clocks are off by so much at most, either way.
const CLOCKS_APART_MS: i64 = 12 * HOUR_MS;

/// One owner's way to the rows.
#[derive(Debug)]
pub struct SimStore(pub Arc<Life>);

impl SimStore {
    /// A claim that is made and not answered is a claim, too.
    async fn set_epoch(
        &self,
        partition: i32,
        held: Option<Epoch>,
    ) -> Result<Option<Epoch>, StoreError> {
        // Clocks of hosts are hours apart.
        let event_ms = self.0.world.event_ms();
        let set = self.read(|state| {
            let off_ms = state.draws.within(-CLOCKS_APART_MS, CLOCKS_APART_MS);
            let now_us = (event_ms + off_ms) * 1_000;
            let last = state.epochs.get(&partition).copied();
            if held.is_some() && held != last {
                return None;
            }
            let next = Epoch::after(last, now_us)?;
            state.epochs.insert(partition, next);
            Some(next)
        });
        let set = set.await?;
        let (life, world) = (&self.0, &self.0.world);
        life.point().await;
        let state = &mut *world.state();
        if held.is_some() || state.faults.of_read(&mut state.draws) == Fate::Done {
            Ok(set)
        } else {
            Err(unavailable())
        }
    }

    async fn read<T>(&self, read: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let world = &self.0.world;
        self.0.point().await;
        tokio::time::sleep(world.delay(Fault::StoreSlow)).await;
        self.0.point().await;
        let state = &mut *world.state();
        if state.faults.of_read(&mut state.draws) == Fate::Done {
            Ok(read(state))
        } else {
            Err(unavailable())
        }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("simulated".to_owned())
}

#[async_trait::async_trait]
impl Store for SimStore {
    async fn init(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim(&self, partition: i32) -> Result<Epoch, StoreError> {
        let claimed = self.set_epoch(partition, None).await?;
        Ok(claimed.expect("a claim asks for no epoch to stand"))
    }

    async fn renew(&self, partition: i32, held: Epoch) -> Result<Option<Epoch>, StoreError> {
        self.set_epoch(partition, Some(held)).await
    }

    async fn newest_epoch(&self, partition: i32) -> Result<Option<Epoch>, StoreError> {
        self.read(|state| state.epochs.get(&partition).copied())
            .await
    }

    async fn write(&self, order: Order, mut rows: Vec<Row>) -> Result<(), StoreError> {
        let (life, world) = (&self.0, &self.0.world);
        life.point().await;
        let (mut fate, after) = {
            let state = &mut *world.state();
            let fate = state.faults.of_write(&mut state.draws);
            let outlives = state.draws.permille(500);
            let after = outlives.then(|| late(&mut state.draws));
            state.writes_count += 1;
            if life.has_slept() && !state.owners.values().any(|owner| *owner == life.number) {
                state.faults.count(Fault::WriteByFormerOwner);
            }
            (fate, after)
        };
        tokio::time::sleep(world.delay(Fault::StoreSlow)).await;
        // What is on its way when its process dies may still arrive.
        if life.is_over() {
            match after {
                Some(after) => {
                    world.count(Fault::StoreWriteOutlivesProcess);
                    fate = Fate::LandsLate(after);
                }
                None => life.point().await,
            }
        }
        match fate {
            Fate::Unavailable => return Err(unavailable()),
            Fate::Refused => return Err(StoreError::Refused("simulated".to_owned())),
            Fate::LandsLate(after) => {
                let world = Arc::clone(world);
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    world.land(rows, order);
                });
                return Err(unavailable());
            }
            Fate::InPart => {
                let mut state = world.state();
                rows.retain(|_| state.draws.permille(500));
            }
            Fate::Done | Fate::AnswerLost => {}
        }
        world.land(rows, order);
        life.point().await;
        tokio::time::sleep(world.delay(Fault::StoreSlow)).await;
        life.point().await;
        if fate == Fate::Done {
            Ok(())
        } else {
            Err(unavailable())
        }
    }

    async fn readings(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Reading>, StoreError> {
        let range = RowKey::Reading(household_id, from_ms, Kind::Meter)
            ..RowKey::Reading(household_id, to_ms, Kind::Meter);
        self.read(move |state| {
            let rows = state.rows.range(range);
            rows.filter_map(|(_, stored)| reading_of(&stored.row))
                .collect()
        })
        .await
    }

    async fn assets(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<AssetReading>, StoreError> {
        self.read(move |state| {
            let rows = state.rows.values().filter_map(|stored| {
                let Row::Asset(reading) = &stored.row else {
                    return None;
                };
                Some(reading.clone())
            });
            let mut readings: Vec<AssetReading> = rows
                .filter(|reading| {
                    reading.household_id == household_id
                        && (from_ms..to_ms).contains(&reading.ts_ms)
                })
                .collect();
            readings
                .sort_by_key(|reading| (reading.ts_ms, reading.state.kind(), reading.id.clone()));
            readings
        })
        .await
    }

    async fn slots(
        &self,
        household_id: HouseholdId,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Slot>, StoreError> {
        let range = RowKey::Slot(household_id, from_ms)..RowKey::Slot(household_id, to_ms);
        self.read(move |state| {
            let rows = state.rows.range(range);
            rows.filter_map(|(_, stored)| slot_of(&stored.row))
                .collect()
        })
        .await
    }

    async fn latest_schedule(&self, _: HouseholdId) -> Result<Option<Schedule>, StoreError> {
        Err(not_read())
    }

    async fn schedule(&self, _: &str) -> Result<Option<Schedule>, StoreError> {
        Err(not_read())
    }

    async fn commands(
        &self,
        _: HouseholdId,
        _: i64,
        _: i64,
    ) -> Result<Vec<CommandProgress>, StoreError> {
        Err(not_read())
    }

    async fn household(&self, _: HouseholdId) -> Result<Option<Metadata>, StoreError> {
        Err(not_read())
    }

    async fn households(
        &self,
        _: Option<HouseholdId>,
        _: usize,
    ) -> Result<Vec<Metadata>, StoreError> {
        Err(not_read())
    }

    async fn tariff(&self, _: &str, _: i64, _: i64) -> Result<Option<Tariff>, StoreError> {
        Err(not_read())
    }

    async fn snapshot(&self, household_id: HouseholdId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |state| snapshot_of(state, household_id))
            .await
    }

    async fn close(&self) {}
}

/// What a partition has no business to read.
fn not_read() -> StoreError {
    StoreError::Refused("a partition does not read this".to_owned())
}

fn slot_of(row: &Row) -> Option<Slot> {
    let Row::Slot { slot, .. } = row else {
        return None;
    };
    Some(*slot)
}
