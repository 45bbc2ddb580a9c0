//! The harness itself: every service of the real stack does what the other tests rely on.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use apache_avro::types::Value;
use serde_json::json;
use tests::harness::{
    HOMES, Stack, Subscription, cql, cql_do, decode_confluent, http, kafka_create_topic,
    kafka_produce, kafka_records, mosquitto_pub, mosquitto_pub_whole, unique, unique_home,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn kafka_keeps_a_record() {
    let brokers = Stack::shared().await.kafka.brokers();
    let topic = unique("smoke");
    kafka_create_topic(&brokers, &topic, 3).await.unwrap();
    let sent = [
        ("1".to_owned(), b"one".to_vec()),
        ("2".to_owned(), b"two".to_vec()),
    ];
    kafka_produce(&brokers, &topic, &sent).await.unwrap();
    let read = kafka_records(&brokers, &topic, LIMIT).await.unwrap();
    let read: BTreeMap<_, _> = read
        .into_iter()
        .map(|record| (record.key_text(), record.value.unwrap()))
        .collect();
    assert_eq!(read, BTreeMap::from(sent));
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn cassandra_keeps_a_row() {
    let stack = Stack::shared().await;
    let keyspace = unique("smoke");
    create_table(stack, &keyspace).await;
    cql_do(
        stack,
        &format!("INSERT INTO {keyspace}.t (id, w) VALUES (7, 450.5)"),
    )
    .await
    .unwrap();
    let rows = cql(stack, &format!("SELECT id, w FROM {keyspace}.t"))
        .await
        .unwrap();
    let rows: Vec<_> = rows
        .rows::<(i64, f64)>()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows, [(7, 450.5)]);
}

async fn create_table(stack: &Stack, keyspace: &str) {
    let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
    cql_do(
        stack,
        &format!("CREATE KEYSPACE {keyspace} WITH replication = {replication}"),
    )
    .await
    .unwrap();
    cql_do(
        stack,
        &format!("CREATE TABLE {keyspace}.t (id bigint PRIMARY KEY, w double)"),
    )
    .await
    .unwrap();
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn registry_keeps_schemas_that_old_readers_understand() {
    let url = Stack::shared().await.registry.url();
    let versions = format!("{url}/subjects/{}-value/versions", unique("smoke"));
    let field = json!({"name": "w", "type": "double"});
    let schema = json!({"type": "record", "name": "Smoke", "fields": [field]}).to_string();
    let answer = http()
        .post(&versions)
        .json(&json!({"schema": schema}))
        .send()
        .await
        .unwrap();
    let answer: serde_json::Value = answer.error_for_status().unwrap().json().await.unwrap();
    let id = u32::try_from(answer["id"].as_u64().unwrap()).unwrap();

    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(450.5_f64.to_le_bytes());
    let value = decode_confluent(&url, &bytes).await.unwrap();
    assert_eq!(
        value,
        Value::Record(vec![("w".to_owned(), Value::Double(450.5))])
    );
    bytes.push(0);
    assert!(
        decode_confluent(&url, &bytes).await.is_err(),
        "a byte too many"
    );

    // A new field without a default cannot be read from old records.
    let fields = json!([field, {"name": "more", "type": "double"}]);
    let schema = json!({"type": "record", "name": "Smoke", "fields": fields}).to_string();
    let answer = http()
        .post(&versions)
        .json(&json!({"schema": schema}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 409);
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn mosquitto_keeps_homes_apart() {
    let broker = &Stack::shared().await.mosquitto;
    let (mine, other) = (unique_home(), unique_home());
    let own_topic = format!("home/{mine}/meter");
    let all = format!("home/{mine}/#");
    let others = format!("home/{other}/#");
    let cloud = Subscription::start(&broker.bridge(), &[&all, &others])
        .await
        .unwrap();
    let shared = format!("$share/smoke/{own_topic}");
    let shared = Subscription::start(&broker.bridge().v5(), &[&shared])
        .await
        .unwrap();
    let device = Subscription::start(&broker.home(mine), &["home/#"])
        .await
        .unwrap();

    let stolen = [String::from("stolen")];
    mosquitto_pub(&broker.home(mine), &format!("home/{other}/meter"), &stolen)
        .await
        .unwrap();
    mosquitto_pub(&broker.home(mine), &format!("home/{mine}/cmd"), &stolen)
        .await
        .unwrap();
    let lines: Vec<_> = (0..5_000).map(|number| format!("line {number}")).collect();
    mosquitto_pub(&broker.home(mine), &own_topic, &lines)
        .await
        .unwrap();
    let binary = [0, 10, 255, b' '];
    mosquitto_pub_whole(&broker.home(mine), &own_topic, &binary)
        .await
        .unwrap();
    let command = format!("home/{mine}/cmd");
    mosquitto_pub(&broker.bridge(), &format!("home/{other}/cmd"), &stolen)
        .await
        .unwrap();
    mosquitto_pub(&broker.bridge(), &command, &["go".to_owned()])
        .await
        .unwrap();

    let got = device.wait_messages(1, LIMIT).await;
    assert_eq!(got.len(), 1, "a home hears its own commands only: {got:?}");
    assert_eq!(
        (got[0].topic.as_str(), got[0].payload.as_slice()),
        (command.as_str(), &b"go"[..])
    );
    // Its own readings, and the two commands by the bridge itself.
    let got = cloud.wait_messages(lines.len() + 3, LIMIT).await;
    assert!(
        got.iter()
            .all(|m| m.topic.ends_with("/cmd") || m.topic == own_topic),
        "{got:?}"
    );
    assert_eq!(got.len(), lines.len() + 3);
    assert_eq!(got[4_999].payload, b"line 4999");
    assert_eq!(got[5_000].payload, binary);
    assert_eq!(
        shared.wait_messages(lines.len() + 1, LIMIT).await.len(),
        lines.len() + 1
    );

    let mut wrong = broker.home(HOMES);
    wrong.credentials = Some((HOMES.to_string(), "wrong".to_owned()));
    assert!(
        mosquitto_pub(&wrong, "home/1/meter", &stolen)
            .await
            .is_err()
    );
    // A client without TLS: CONNECT of MQTT 3.1.1 with an empty client id. What comes back is no CONNACK (0x20).
    let mut plain = tokio::net::TcpStream::connect(("127.0.0.1", broker.port()))
        .await
        .unwrap();
    plain
        .write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        .await
        .unwrap();
    assert_ne!(plain.read_u8().await.ok(), Some(0x20), "TLS only");
}
