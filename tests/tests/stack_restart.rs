//! The harness itself: services that are killed, stopped or paused come back with all acknowledged data. Apart from
//! the shared stack, because it starts nodes of its own.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::Duration;

use tests::harness::{
    Cassandra, CassandraFor, Kafka, kafka_create_topic, kafka_produce, kafka_records,
};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn killed_services_come_back_with_what_they_acknowledged() {
    tokio::join!(kafka_comes_back(), cassandra_comes_back());
}

async fn kafka_comes_back() {
    let kafka = Kafka::start().await.unwrap();
    let brokers = kafka.brokers();
    kafka_create_topic(&brokers, "kept", 1).await.unwrap();
    let sent: Vec<_> = (0..1_000)
        .map(|n| (n.to_string(), b"value".to_vec()))
        .collect();
    kafka_produce(&brokers, "kept", &sent).await.unwrap();
    kafka.kill();
    assert!(!kafka.process().is_running());
    kafka.start_again().await.unwrap();
    assert_eq!(
        kafka_records(&brokers, "kept", LIMIT).await.unwrap().len(),
        sent.len()
    );
    kafka.pause().unwrap();
    assert!(
        kafka_records(&brokers, "kept", Duration::from_secs(1))
            .await
            .is_err()
    );
    kafka.resume().unwrap();
    kafka.stop().await.unwrap();
    kafka.start_again().await.unwrap();
    assert_eq!(
        kafka_records(&brokers, "kept", LIMIT).await.unwrap().len(),
        sent.len()
    );
}

async fn cassandra_comes_back() {
    let cassandra = Cassandra::start(CassandraFor::Tests).await.unwrap();
    let point = cassandra.contact_point();
    let session = connect(&point).await;
    for statement in [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE k.t (id int PRIMARY KEY)",
    ] {
        session.query_unpaged(statement, &[]).await.unwrap();
    }
    for id in 0..200_i32 {
        session
            .query_unpaged("INSERT INTO k.t (id) VALUES (?)", (id,))
            .await
            .unwrap();
    }
    cassandra.kill();
    cassandra.start_again().await.unwrap();
    let rows = connect(&point)
        .await
        .query_unpaged("SELECT id FROM k.t", &[])
        .await
        .unwrap();
    assert_eq!(rows.into_rows_result().unwrap().rows_num(), 200);
}

async fn connect(point: &str) -> scylla::client::session::Session {
    let session = scylla::client::session_builder::SessionBuilder::new().known_node(point);
    session.build().await.unwrap()
}
