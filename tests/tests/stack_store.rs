//! The CQL store against the contract of every store, on a real Cassandra.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use hearth_store::contract;
use hearth_store::cql::{CqlConfig, CqlStore};
use model::units::HouseholdId;
use platform::metrics::Metrics;
use platform::store::{Store, StoreError};
use tests::harness::{Stack, unique};

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
