//! The CQL store against the contract of every store. Needs a Cassandra or Scylla at `HEARTH_TEST_CQL` (`host:port`)
//! and `STACK=1`; the stack tests run the same contract against the server that they start.

use hearth_store::contract;
use hearth_store::cql::{CqlConfig, CqlStore};
use platform::metrics::Metrics;
use platform::store::{Store, StoreError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_contract_twice() {
    let node = std::env::var("HEARTH_TEST_CQL").ok();
    let Some(node) = node.filter(|_| std::env::var("STACK").as_deref() == Ok("1")) else {
        return;
    };
    let config = CqlConfig {
        nodes: vec![node],
        keyspace: format!("contract_{}", std::process::id()),
        ..CqlConfig::default()
    };
    let store = CqlStore::connect(config, Metrics::new()).await.unwrap();
    let before_init = store.snapshot(model::units::HouseholdId::new(1).unwrap());
    let error = before_init.await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    contract::run(&store, 1).await.unwrap();
    contract::run(&store, 1).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_a_bad_keyspace_refused() {
    let config = CqlConfig {
        // The discard port of the loopback: nothing listens there.
        nodes: vec!["127.0.0.1:9".to_owned()],
        connect_timeout_ms: 500,
        ..CqlConfig::default()
    };
    let error = CqlStore::connect(config.clone(), Metrics::new())
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let config = CqlConfig {
        keyspace: "a; DROP KEYSPACE b".to_owned(),
        ..config
    };
    let error = CqlStore::connect(config, Metrics::new()).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
}
