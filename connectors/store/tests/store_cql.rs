//! The CQL store without a server; with one, the stack tests run the contract of every store.

use hearth_store::cql::{CqlConfig, CqlStore};
use platform::metrics::Metrics;

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
