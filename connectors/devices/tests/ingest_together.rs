//! Payloads that are taken in together: one answer for all, order, and memory that is short.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory_log;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use devices::ingest::{NotDurable, Payload};
use memory_log::{Bench, T0, reading, until};
use schemas::dead_letter::{DeadLetter, Reason};

fn payload(household: i64, number: i64) -> (String, Bytes) {
    let (topic, payload) = reading(household, T0 + number);
    (topic, Bytes::from(payload))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_payload_spoils_no_other() {
    let bench = Bench::new();
    let mut payloads: Vec<_> = (0..100).map(|number| payload(1, number)).collect();
    payloads[50].1 = Bytes::from_static(b"not json");
    payloads[60].1 = Bytes::from_static(b"[]");
    let together: Vec<_> = payloads
        .iter()
        .map(|(topic, bytes)| Payload {
            topic: topic.clone(),
            bytes: bytes.clone(),
            trace: None,
        })
        .collect();
    assert!(bench.ingest.accept_all(&together).await.is_empty());
    assert!(bench.ingest.accept_all(&[]).await.is_empty());
    let good = (0..100).filter(|number| ![50, 60].contains(number));
    assert_eq!(
        bench.log.times_of(1),
        good.map(|number| T0 + number).collect::<Vec<_>>()
    );
    assert_eq!(bench.log.read::<DeadLetter>()[0].reason, Reason::BadJson);
    assert_eq!(bench.counted("meter", "received"), 98);
    bench.ingest.close().await;
    let closed = bench.ingest.accept_all(&together[..2]).await;
    let [(0, NotDurable::Closed), (1, NotDurable::Closed)] = closed.as_slice() else {
        panic!("{closed:?}")
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_the_spool_takes_what_it_can_and_the_rest_is_named() {
    let bench = Bench::with(|config| config.spool_bytes_max = 2_000);
    bench.log.switch_off(true);
    let payloads: Vec<_> = (0..100).map(|number| payload(1, number)).collect();
    let together: Vec<_> = payloads
        .iter()
        .map(|(topic, bytes)| Payload {
            topic: topic.clone(),
            bytes: bytes.clone(),
            trace: None,
        })
        .collect();
    let failed = bench.ingest.accept_all(&together).await;
    let first = failed[0].0;
    assert!(first > 0, "the first ones fit");
    let named: Vec<usize> = failed.iter().map(|(index, _)| *index).collect();
    assert_eq!(named, (first..100).collect::<Vec<_>>(), "and nobody behind");
    bench.log.switch_off(false);
    until("it drains", || !bench.ingest.is_spooling()).await;
    let taken = i64::try_from(first).unwrap();
    assert_eq!(
        bench.log.times_of(1),
        (T0..T0 + taken).collect::<Vec<_>>(),
        "what was acknowledged is there, and nothing else"
    );
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_answered_in_order_through_an_outage_without_room() {
    const COUNT: i64 = 1_000;
    let bench = Bench::with(|config| config.spool_bytes_max = 4_000);
    let mut in_turn = bench.ingest.in_turn(Duration::from_secs(60));
    bench.log.switch_off(true);
    for number in 0..COUNT {
        let (topic, payload) = payload(1, number);
        in_turn.push(topic, payload, number);
    }
    let mut answered = Vec::new();
    let outage = tokio::time::timeout(Duration::from_millis(700), async {
        while let Some((tag, outcome)) = in_turn.next().await {
            outcome.unwrap();
            answered.push(tag);
        }
    });
    assert!(outage.await.is_err(), "the spool cannot hold them all");
    assert!(!answered.is_empty());
    // Those that come in the meantime stay behind.
    let (topic, later) = payload(1, COUNT);
    in_turn.push(topic, later, COUNT);
    in_turn.push_done(COUNT + 1);
    bench.log.switch_off(false);
    while let Some((tag, outcome)) = in_turn.next().await {
        outcome.unwrap();
        answered.push(tag);
        while let Some((tag, outcome)) = in_turn.next_answered() {
            outcome.unwrap();
            answered.push(tag);
        }
    }
    assert!(in_turn.is_empty());
    assert_eq!(answered, (0..=COUNT + 1).collect::<Vec<_>>());
    let mut seen = std::collections::BTreeSet::new();
    let mut times = bench.log.times_of(1);
    times.retain(|ts_ms| seen.insert(*ts_ms));
    assert_eq!(times, (T0..=T0 + COUNT).collect::<Vec<_>>());
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_senders_share_little_memory() {
    const SENDERS: i64 = 16;
    const EACH: i64 = 200;
    for in_flight_bytes_max in [1_024, 10_240] {
        let bench = Bench::with(|config| config.in_flight_bytes_max = in_flight_bytes_max);
        let sending = (1..=SENDERS).map(|home| {
            let ingest = Arc::clone(&bench.ingest);
            tokio::spawn(async move {
                let mut in_turn = ingest.in_turn(Duration::from_secs(60));
                for number in 0..EACH {
                    let (topic, payload) = payload(home, number);
                    in_turn.push(topic, payload, number);
                    if number % 7 == 0 {
                        in_turn.next().await.unwrap().1.unwrap();
                    }
                }
                while let Some((_, outcome)) = in_turn.next().await {
                    outcome.unwrap();
                }
            })
        });
        let sent = futures::future::try_join_all(sending);
        let sent = tokio::time::timeout(Duration::from_secs(60), sent).await;
        sent.expect("nobody waits for ever").unwrap();
        for home in 1..=SENDERS {
            assert_eq!(
                bench.log.times_of(home),
                (T0..T0 + EACH).collect::<Vec<_>>(),
                "home {home}"
            );
        }
        bench.ingest.close().await;
    }
}
