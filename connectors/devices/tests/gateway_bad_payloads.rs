//! Every bad payload of the corpus through the gateway into the embedded log: acknowledged, a dead letter with the right
//! reason, and the next good reading is processed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod raw_mqtt;

use std::sync::Arc;

use devices::gateway::{Gateway, GatewayConfig};
use devices::ingest::{Ingest, IngestConfig};
use hearth_log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use model::reading::Reading;
use platform::clock::Clock;
use platform::log::{Consumer, Log, LogEvent, Start, Subscription};
use platform::metrics::Metrics;
use platform::trace::Tracer;
use raw_mqtt::{BOTH, Raw};
use schemas::codec::{Codec, Message};
use schemas::corpus::{BadPayload, bad_payloads};
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::mqtt::PAYLOAD_BYTES_MAX;
use schemas::topic::Topic;

async fn read(log: &EmbeddedLog, topic: Topic) -> Consumer {
    log.subscribe(Subscription {
        group: None,
        member: None,
        topics: vec![topic],
        start: Start::Earliest,
        batch_max: 100,
    })
    .await
    .unwrap()
}

/// The next record of a topic.
async fn next<T: Message>(consumer: &mut Consumer) -> T {
    loop {
        match consumer.events.recv().await.unwrap() {
            LogEvent::Records { records, .. } => {
                let [record] = records.as_slice() else {
                    panic!("{} records", records.len())
                };
                return Codec::single_object().decode(&record.value).unwrap();
            }
            LogEvent::Assigned(_) | LogEvent::Revoked { .. } | LogEvent::CaughtUp(_) => {}
        }
    }
}

/// The original bytes are there: all of them, or of an array the bad element.
#[track_caller]
fn assert_original(letter: &DeadLetter, bad: &BadPayload) {
    let (name, bytes) = (bad.name, bad.payload.len());
    let kept = bytes.min(PAYLOAD_BYTES_MAX);
    if letter.payload_bytes == i64::try_from(bytes).unwrap() {
        assert!(
            letter.payload == bad.payload[..kept],
            "{name}: the original bytes"
        );
    } else {
        let element = &letter.payload;
        assert!(
            bad.payload.starts_with(b"[") && !element.is_empty(),
            "{name}: an element"
        );
        let mut places = bad.payload.windows(element.len());
        assert!(
            places.any(|place| place == element),
            "{name}: the element's bytes"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gets_a_dead_letter_with_its_reason_and_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(&dir.path().join("log"), EmbeddedLogConfig::default()).unwrap();
    let log = Arc::new(log);
    let (metrics, clock) = (Metrics::new(), Clock::wall());
    let config = IngestConfig {
        spool_dir: dir.path().join("spool"),
        produce_timeout_ms: 60_000,
        // The corpus speaks of one day in 2025, and of clocks that were never set.
        past_days_max: 3_650,
        ..IngestConfig::default()
    };
    let codec = Codec::single_object();
    let shared: Arc<dyn Log> = Arc::clone(&log) as _;
    let off = Tracer::off();
    let ingest = Ingest::start(shared, codec, clock, metrics.clone(), off, &config).unwrap();
    let config = GatewayConfig {
        listen: "127.0.0.1:0".to_owned(),
        ..GatewayConfig::default()
    };
    let gateway = Gateway::start(Arc::clone(&ingest), clock, metrics.clone(), config)
        .await
        .unwrap();
    let mut letters = read(&log, Topic::DeadLetters).await;
    let mut readings = read(&log, Topic::Telemetry).await;

    let corpus = bad_payloads();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    let mut good_count = 0_i64;
    for level in BOTH {
        let mut device = Raw::connect(gateway.local_addr(), level, "device").await;
        for bad in &corpus {
            let name = bad.name;
            device.publish(bad.topic, 1, &bad.payload).await;
            assert_eq!(device.receive().await.unwrap().puback(), (1, 0), "{name}");
            let letter: DeadLetter = next(&mut letters).await;
            assert_eq!(letter.reason, bad.reason, "{name}: {}", letter.detail);
            assert_eq!(letter.source, bad.topic, "{name}");
            assert_original(&letter, bad);

            good_count += 1;
            let ts_ms = 1_757_671_200_000 + good_count * 1_000;
            let ts = schemas::mqtt::rfc3339(ts_ms);
            let good = format!(r#"{{"household_id":7,"ts":"{ts}","consumption_w":450}}"#);
            device.publish("home/7/meter", 2, good.as_bytes()).await;
            assert_eq!(device.receive().await.unwrap().puback(), (2, 0), "{name}");
            let reading: Reading = next(&mut readings).await;
            assert_eq!(reading.ts_ms, ts_ms, "the good one after {name}");
        }
    }
    let counted: u64 = Reason::ALL
        .iter()
        .map(|reason| {
            metrics
                .dead_letters_total
                .with_label_values(&[reason.as_str()])
                .get()
        })
        .sum();
    assert_eq!(counted, 2 * corpus.len() as u64);
    gateway.close().await;
    ingest.close().await;
    log.close().await;
}

/// As large as a payload may be, and made to be slow.
fn hostile_payloads() -> Vec<Vec<u8>> {
    let repeated = |part: &str| part.repeat(PAYLOAD_BYTES_MAX / part.len()).into_bytes();
    vec![
        repeated(":"),
        repeated(":n"),
        repeated("["),
        repeated("{\"a\":"),
        repeated("\"\\u0000"),
        repeated("1,"),
        repeated("\u{feff}"),
        vec![0xff; PAYLOAD_BYTES_MAX],
    ]
}

/// On one thread, so that whoever holds it holds up everybody: others are answered, and each hostile payload is a dead
/// letter. A parser that reads each byte for each byte takes longer than the test may.
#[tokio::test]
async fn hostile_payloads_hold_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(&dir.path().join("log"), EmbeddedLogConfig::default()).unwrap();
    let log = Arc::new(log);
    let (metrics, clock) = (Metrics::new(), Clock::wall());
    let config = IngestConfig {
        spool_dir: dir.path().join("spool"),
        produce_timeout_ms: 60_000,
        past_days_max: 0,
        ..IngestConfig::default()
    };
    let shared: Arc<dyn Log> = Arc::clone(&log) as _;
    let codec = Codec::single_object();
    let off = Tracer::off();
    let ingest = Ingest::start(shared, codec, clock, metrics.clone(), off, &config).unwrap();
    let config = GatewayConfig {
        listen: "127.0.0.1:0".to_owned(),
        ..GatewayConfig::default()
    };
    let gateway = Gateway::start(Arc::clone(&ingest), clock, metrics.clone(), config)
        .await
        .unwrap();
    for level in BOTH {
        let mut hostile = Raw::connect(gateway.local_addr(), level, "hostile").await;
        let mut other = Raw::connect(gateway.local_addr(), level, "other").await;
        for (id, payload) in (1..).zip(hostile_payloads()) {
            hostile.publish("home/7/meter", id, &payload).await;
            // Answered however long the payload before takes.
            other.ping().await;
            assert_eq!(other.receive().await.unwrap().kind, raw_mqtt::PINGRESP);
            let good = r#"{"household_id":8,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#;
            other.publish("home/8/meter", id, good.as_bytes()).await;
            assert_eq!(other.receive().await.unwrap().puback(), (id, 0));
            assert_eq!(hostile.receive().await.unwrap().puback(), (id, 0));
        }
    }
    let letters = metrics.dead_letters_total.clone();
    let counted = |reason: &Reason| letters.with_label_values(&[reason.as_str()]).get();
    let counted: u64 = Reason::ALL.iter().map(counted).sum();
    assert_eq!(counted, 2 * hostile_payloads().len() as u64);
    gateway.close().await;
    ingest.close().await;
    log.close().await;
}
