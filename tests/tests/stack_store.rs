//! The CQL store against the contract of every store, on a real Cassandra.

use hearth_store::contract;
use hearth_store::cql::{CqlConfig, CqlStore};
use model::units::HouseholdId;
use platform::metrics::Metrics;
use platform::store::{Row, Store, StoreError};
use tests::harness::{Stack, cql_session, unique};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn cassandra_passes_the_contract_twice() {
    let stack = Stack::shared().await;
    let config = CqlConfig {
        nodes: vec![stack.cassandra.contact_point()],
        keyspace: unique("contract"),
        ..CqlConfig::default()
    };
    let store = CqlStore::connect(config, Metrics::new()).await.unwrap();
    let before_init = store.snapshot(HouseholdId::new(1).unwrap());
    let error = before_init.await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    contract::run(&store, 1).await.unwrap();
    contract::run(&store, 1).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn a_snapshot_of_an_early_build_is_read_until_there_is_another() {
    let stack = Stack::shared().await;
    let keyspace = unique("early");
    let config = CqlConfig {
        nodes: vec![stack.cassandra.contact_point()],
        keyspace: keyspace.clone(),
        ..CqlConfig::default()
    };
    let store = CqlStore::connect(config, Metrics::new()).await.unwrap();
    store.init().await.unwrap();
    let early =
        format!("INSERT INTO {keyspace}.snapshots (household_id, state) VALUES (7, 0x0102)");
    let session = cql_session(stack).await.unwrap();
    session.query_unpaged(early, ()).await.unwrap();
    let home = HouseholdId::new(7).unwrap();
    assert_eq!(store.snapshot(home).await.unwrap(), Some(vec![1, 2]));
    let epoch = store.claim(0).await.unwrap();
    let row = Row::Snapshot {
        household_id: home,
        state: vec![3],
    };
    store
        .write(epoch.order(0).unwrap(), vec![row])
        .await
        .unwrap();
    assert_eq!(store.snapshot(home).await.unwrap(), Some(vec![3]));
    store.close().await;
}
