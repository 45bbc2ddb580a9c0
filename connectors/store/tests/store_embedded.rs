//! The embedded store against the contract of every store, and what only it promises: everything is there after it is
//! opened again, writes that wait together share a commit, old rows go.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use hearth_store::contract;
use hearth_store::embedded::{EmbeddedStore, EmbeddedStoreConfig};
use hearth_store::retention::Retention;
use model::reading::{Measurement, Reading};
use model::slot::Slot;
use model::units::{DAY_MS, HouseholdId};
use platform::metrics::Metrics;
use platform::store::{Row, Store, StoreError};

fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(dir, EmbeddedStoreConfig::default()).unwrap()
}

fn meter(id: i64, ts_ms: i64) -> Row {
    Row::Reading(Reading {
        household_id: HouseholdId::new(id).unwrap(),
        ts_ms,
        measurement: Measurement::Meter {
            consumption_w: 450.0,
        },
    })
}

#[tokio::test]
async fn passes_the_contract_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let store = open(dir.path());
        contract::run(&store, 1).await.unwrap();
        contract::run(&store, i64::MAX - contract::HOUSEHOLDS_COUNT)
            .await
            .unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn keeps_everything_that_was_answered_without_being_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    contract::write(&store, vec![meter(1, 1000)]).await.unwrap();
    drop(store);
    let store = open(dir.path());
    let home = HouseholdId::new(1).unwrap();
    assert_eq!(store.readings(home, 0, 2000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = EmbeddedStore::open(dir.path(), EmbeddedStoreConfig::default()).unwrap_err();
    assert!(error.to_string().contains("in use by another process"));
    store.close().await;
    let refused = contract::write(&store, vec![meter(1, 1000)])
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_are_all_answered_and_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let config = EmbeddedStoreConfig {
        writes_waiting_max: 4,
        commit_changes_max: 50,
        ..EmbeddedStoreConfig::default()
    };
    let store = EmbeddedStore::open(dir.path(), config)
        .unwrap()
        .with_metrics(metrics.clone());
    let store = Arc::new(store);
    let writers: Vec<_> = (1..=16)
        .map(|id| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for minute in 0..20 {
                    contract::write(store.as_ref(), vec![meter(id, minute * 60_000)])
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(metrics.store_write_seconds.get_sample_count(), 16 * 20);
    for id in 1..=16 {
        let home = HouseholdId::new(id).unwrap();
        let found = store.readings(home, 0, DAY_MS).await.unwrap();
        assert_eq!(found.len(), 20, "household {id}");
    }
}

#[tokio::test]
async fn old_rows_go_counted_back_from_the_newest_of_each_household() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedStoreConfig {
        retention: Retention {
            readings_days: 10,
            slots_days: 0,
            ..Retention::default()
        },
        ..EmbeddedStoreConfig::default()
    };
    let store = EmbeddedStore::open(dir.path(), config).unwrap();
    let rows = (0..20)
        .flat_map(|day| {
            let slot = Row::Slot {
                household_id: HouseholdId::new(1).unwrap(),
                slot: Slot::empty(day * DAY_MS, 15),
            };
            // The second household fell silent on its fifth day.
            let silent = (day < 5).then(|| meter(2, day * DAY_MS));
            [Some(meter(1, day * DAY_MS)), Some(slot), silent]
        })
        .flatten()
        .collect();
    contract::write(&store, rows).await.unwrap();
    assert_eq!(store.expire().await.unwrap(), 9);
    assert_eq!(store.expire().await.unwrap(), 0);
    let (one, two) = (HouseholdId::new(1).unwrap(), HouseholdId::new(2).unwrap());
    let found = store.readings(one, 0, 20 * DAY_MS).await.unwrap();
    let days: Vec<i64> = found.iter().map(|reading| reading.ts_ms / DAY_MS).collect();
    assert_eq!(days, (9..20).collect::<Vec<_>>());
    assert_eq!(store.readings(two, 0, 20 * DAY_MS).await.unwrap().len(), 5);
    assert_eq!(store.slots(one, 0, 20 * DAY_MS).await.unwrap().len(), 20);
}

#[tokio::test]
async fn expiry_runs_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedStoreConfig {
        expire_every_s: 1,
        retention: Retention {
            readings_days: 1,
            ..Retention::default()
        },
        ..EmbeddedStoreConfig::default()
    };
    let store = EmbeddedStore::open(dir.path(), config).unwrap();
    let home = HouseholdId::new(1).unwrap();
    contract::write(&store, vec![meter(1, 0), meter(1, 3 * DAY_MS)])
        .await
        .unwrap();
    while store.readings(home, 0, DAY_MS).await.unwrap().len() == 1 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(store.readings(home, 0, 4 * DAY_MS).await.unwrap().len(), 1);
}
