//! Old and new schemas in one registry: records of an earlier Hearth stay readable. Starts its own registry, so that
//! its first schemas are the old ones.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use hearth_log::registry::{Registry, RegistryConfig};
use model::metadata::Metadata;
use model::request::OptimizeRequest;
use model::schedule::Schedule;
use platform::secret::Secret;
use schemas::codec::{Codec, Message, older_schemas_json};
use schemas::topic::Topic;
use serde_json::json;
use tests::harness::{self, decode_confluent, http};

/// Registers `schema` as an earlier Hearth did. What follows must be compatible both ways, but for telemetry: a reader
/// from before EVs and heat stores cannot read theirs, and stops where it meets one.
async fn register(url: &str, topic: Topic, subject: &str, schema: &str) -> u32 {
    let level = if topic == Topic::Telemetry {
        "BACKWARD"
    } else {
        "FULL"
    };
    let answer = http()
        .put(format!("{url}/config/{subject}"))
        .json(&json!({"compatibility": level}))
        .send()
        .await
        .unwrap();
    answer.error_for_status().unwrap();
    let answer = http()
        .post(format!("{url}/subjects/{subject}/versions"))
        .json(&json!({"schema": schema}))
        .send()
        .await
        .unwrap();
    let answer: serde_json::Value = answer.error_for_status().unwrap().json().await.unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

/// Checks that a golden file (an Avro single object) decodes in Confluent's framing, and so does its current encoding.
async fn check<T: Message>(codec: &Codec, url: &str, id: u32, sample: &[u8]) {
    let framed = [&[0], id.to_be_bytes().as_slice(), &sample[10..]].concat();
    let value: T = codec.decode(&framed).unwrap();
    let written = codec.encode(&value).unwrap();
    assert_ne!(written[..5], framed[..5], "written with today's schema");
    decode_confluent(url, &written).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn records_of_older_schemas_are_read() {
    let service = harness::Registry::start().await.unwrap();
    let url = service.url();
    let registry = Registry::new(RegistryConfig {
        url: url.clone(),
        username: String::new(),
        password: Secret::default(),
    })
    .unwrap();
    let mut registered = Vec::new();
    for topic in Topic::ALL {
        for schema in older_schemas_json(topic) {
            let subject = format!("old.{topic}-value");
            registered.push((topic, register(&url, topic, &subject, schema).await));
        }
    }

    let ids = registry.register_all("old.").await.unwrap();
    let learnt: Vec<_> = Topic::ALL
        .into_iter()
        .flat_map(|topic| ids[&topic].older.iter().map(move |id| (topic, id.unwrap())))
        .collect();
    assert_eq!(learnt, registered);
    let codec = Codec::confluent(ids);
    let id = |wanted| {
        registered
            .iter()
            .find(|(topic, _)| *topic == wanted)
            .unwrap()
            .1
    };
    let sample = include_bytes!("../../schemas/golden/v1-household.bin");
    check::<Metadata>(&codec, &url, id(Topic::Households), sample).await;
    let sample = include_bytes!("../../schemas/golden/v1-request.bin");
    check::<OptimizeRequest>(&codec, &url, id(Topic::OptimizeRequests), sample).await;
    let sample = include_bytes!("../../schemas/golden/v1-schedule.bin");
    check::<Schedule>(&codec, &url, id(Topic::Schedules), sample).await;

    // Under subjects that never had the older schemas, no id of theirs is known.
    let ids = registry.register_all("new.").await.unwrap();
    assert!(
        ids.values()
            .all(|ids| ids.older.iter().all(Option::is_none))
    );
}
