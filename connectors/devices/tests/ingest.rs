//! The way in, with a log that fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory_log;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use memory_log::{Bench, MemoryLog, T0, reading, until};
use model::command::{Ack, AckStatus};
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::topic::Topic;

async fn accept(bench: &Bench, household: i64, ts_ms: i64) -> bool {
    let (topic, payload) = reading(household, ts_ms);
    bench
        .ingest
        .accept(&topic, Bytes::from(payload))
        .await
        .is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_acks_and_refusals_go_to_their_topics() {
    let bench = Bench::new();
    assert!(accept(&bench, 5, T0).await);
    let ack = r#"{"command_id":"5-1-1-0","ts":"2025-09-12T10:00:00Z","status":"applied"}"#;
    bench
        .ingest
        .accept("home/5/ack", Bytes::from(ack))
        .await
        .unwrap();
    let mut refusals = bench.ingest.refusals();
    let mixed = br#"[{"household_id":5,"ts":"2025-09-12T10:00:00Z","pv_w":1},{"household_id":6,"ts":"2025-09-12T10:00:00Z","pv_w":1}]"#;
    bench
        .ingest
        .accept("home/5/pv", Bytes::from_static(mixed))
        .await
        .unwrap();
    bench
        .ingest
        .accept("nowhere", Bytes::from_static(b"{}"))
        .await
        .unwrap();

    assert_eq!(bench.log.times_of(5).len(), 2);
    assert_eq!(bench.log.read::<Ack>()[0].status, AckStatus::Applied);
    let letters = bench.log.read::<DeadLetter>();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [Reason::HouseholdMismatch, Reason::UnknownTopic]);
    let keys: Vec<_> = bench
        .log
        .records()
        .into_iter()
        .map(|record| record.key)
        .collect();
    assert_eq!(keys.iter().filter(|key| *key == b"5").count(), 4);
    assert_eq!(keys.iter().filter(|key| *key == b"nowhere").count(), 1);
    let notice = refusals.recv().await.unwrap();
    assert_eq!(
        (notice.household_id.to_string(), notice.refused),
        ("5".to_owned(), 1)
    );
    assert_eq!(bench.counted("pv", "received"), 1);
    assert_eq!(bench.counted("meter", "received"), 1);
    bench.ingest.close().await;
    assert!(
        !accept(&bench, 5, T0).await,
        "a closed ingest takes nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_home_keeps_its_order_through_an_outage() {
    const HOMES: i64 = 20;
    const EACH: i64 = 120;
    let bench = Bench::with(|config| config.spool_segment_bytes = 4_096);
    let mut accepting = FuturesOrdered::new();
    for i in 0..EACH {
        if i == 40 {
            bench.log.switch_off(true);
        }
        if i == 80 {
            until("something is spooled", || bench.ingest.is_spooling()).await;
            bench.log.switch_off(false);
        }
        for home in 1..=HOMES {
            let (topic, payload) = reading(home, T0 + i * 60_000);
            let ingest = Arc::clone(&bench.ingest);
            accepting.push_back(async move { ingest.accept(&topic, Bytes::from(payload)).await });
        }
        if i % 10 == 9 {
            while let Some(accepted) = accepting.next().await {
                accepted.unwrap();
            }
        }
    }
    until("the spool is empty", || !bench.ingest.is_spooling()).await;
    let expected: Vec<_> = (0..EACH).map(|i| T0 + i * 60_000).collect();
    for home in 1..=HOMES {
        let mut seen = std::collections::BTreeSet::new();
        let mut times = bench.log.times_of(home);
        times.retain(|ts_ms| seen.insert(*ts_ms));
        assert_eq!(times, expected, "home {home}");
    }
    assert!(bench.counted("meter", "spooled") >= 40 * 20);
    assert_eq!(bench.metrics.spool_bytes.get(), 0);
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_stops_acknowledging_and_recovers() {
    let bench = Bench::with(|config| config.spool_bytes_max = 2_000);
    bench.log.switch_off(true);
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for i in 0..200 {
        let ts_ms = T0 + i * 1_000;
        if accept(&bench, 9, ts_ms).await {
            assert_eq!(refused, 0, "taken after one was refused");
            acknowledged.push(ts_ms);
        } else {
            refused += 1;
        }
    }
    assert!(refused > 0 && !acknowledged.is_empty());
    assert!(bench.metrics.spool_bytes.get() <= 2_000);
    bench.log.switch_off(false);
    until("it drains", || !bench.ingest.is_spooling()).await;
    assert_eq!(
        bench.log.times_of(9),
        acknowledged,
        "nothing acknowledged is lost, in order"
    );
    assert!(accept(&bench, 9, T0 + 999_000).await);
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spool_outlives_the_process() {
    let bench = Bench::new();
    bench.log.switch_off(true);
    for i in 0..50 {
        assert!(accept(&bench, 3, T0 + i).await);
    }
    let Bench {
        log, ingest, dir, ..
    } = bench;
    ingest.close().await;
    assert!(log.records().is_empty());
    log.switch_off(false);
    let again = Bench::on(log, dir, |_| ());
    until("the next start drains it", || !again.ingest.is_spooling()).await;
    assert_eq!(
        again.log.times_of(3),
        (0..50).map(|i| T0 + i).collect::<Vec<_>>()
    );
    again.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_does_not_answer_counts_as_away() {
    let bench = Bench::new();
    bench.log.stick(true);
    assert!(accept(&bench, 4, T0).await, "it is in the spool");
    assert!(bench.log.records().is_empty());
    assert_eq!(bench.counted("meter", "spooled"), 1);
    bench.log.stick(false);
    until("it drains", || !bench.ingest.is_spooling()).await;
    assert!(bench.log.times_of(4).contains(&T0));
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_refuses_is_a_dead_letter_and_holds_up_nothing() {
    let bench = Bench::new();
    // A backlog of one home: the dead letter of the whole is too large for this log, the readings are not.
    bench.log.refuse_above(40_000);
    let garbage = vec![b'x'; 100_000];
    bench
        .ingest
        .accept("home/8/meter", Bytes::from(garbage.clone()))
        .await
        .unwrap();
    assert!(accept(&bench, 8, T0).await);
    let letters = bench.log.read::<DeadLetter>();
    assert_eq!((letters.len(), letters[0].reason), (1, Reason::Oversized));
    assert!(letters[0].payload_bytes > 100_000 && letters[0].payload.len() < 40_000);

    // And the same from the spool.
    bench.log.switch_off(true);
    bench
        .ingest
        .accept("home/8/meter", Bytes::from(garbage))
        .await
        .unwrap();
    assert!(accept(&bench, 8, T0 + 1).await);
    bench.log.switch_off(false);
    until("it drains", || !bench.ingest.is_spooling()).await;
    assert_eq!(bench.log.times_of(8), [T0, T0 + 1]);
    assert_eq!(bench.log.read::<DeadLetter>().len(), 2);
    let key = bench
        .log
        .records()
        .into_iter()
        .rfind(|record| record.topic == Topic::DeadLetters);
    assert_eq!(key.unwrap().key, b"8");
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_not_given_up_while_it_may_still_arrive() {
    // The bench's own limit is 300 ms; the log still delivers what it was given until an hour is over.
    let log = Arc::new(MemoryLog::default());
    log.give_up_after(Duration::from_secs(3_600));
    let bench = Bench::on(log, tempfile::tempdir().unwrap(), |_| ());
    bench.log.stick(true);
    let ingest = Arc::clone(&bench.ingest);
    let (topic, payload) = reading(4, T0);
    let accepting =
        tokio::spawn(async move { ingest.accept(&topic, Bytes::from(payload)).await.is_ok() });
    // Long after the bench's limit.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(!accepting.is_finished() && !bench.ingest.is_spooling());
    bench.log.stick(false);
    assert!(accepting.await.unwrap());
    assert_eq!(bench.log.times_of(4), [T0], "once");
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_while_the_spool_has_room_and_its_end_is_seen() {
    let bench = Bench::with(|config| config.spool_bytes_max = 2_000);
    assert_eq!(bench.ingest.readiness(), Ok(()));
    bench.log.switch_off(true);
    assert!(accept(&bench, 9, T0).await);
    assert!(bench.ingest.is_spooling());
    assert_eq!(bench.ingest.readiness(), Ok(()), "the log is away");
    let mut count = 1;
    while accept(&bench, 9, T0 + count).await {
        count += 1;
    }
    let full = bench.ingest.readiness().unwrap_err();
    assert!(full.contains("2000 bytes"), "{full}");
    bench.log.switch_off(false);
    until("it drains", || !bench.ingest.is_spooling()).await;
    assert_eq!(bench.ingest.readiness(), Ok(()));
    assert!(!bench.ingest.ended().is_over());
    bench.ingest.close().await;
    bench.ingest.ended().wait().await;
    assert!(bench.ingest.readiness().is_err());
}
