//! The embedded log when the disk takes no more, by a limit on the size of files: a process of its own, in which every
//! write fails with a real error until the limit is lifted.

#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::process::Command;
use std::time::Duration;

use hearth_log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use platform::log::{Log, LogError, LogEvent, Start, Subscription};
use schemas::topic::Topic;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes; a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(60);
const CHILD: &str = "FULL_DISK_CHILD";

/// Bytes that do not get smaller when they are compressed.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.push(state.to_be_bytes()[0]);
    }
    bytes
}

fn limit_files(bytes_max: Option<u64>) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, bytes_max.unwrap_or(hard), hard).unwrap();
}

#[tokio::test]
async fn the_log_goes_on_by_itself_once_there_is_room_again() {
    if std::env::var_os(CHILD).is_some() {
        timeout(LIMIT, fill_up()).await.unwrap();
        return;
    }
    // The shell lets a write beyond the limit fail, where it would end the process.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg("the_log_goes_on_by_itself_once_there_is_room_again")
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}");
}

async fn fill_up() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedLogConfig::default()).unwrap();
    let produce = |value: &[u8]| log.produce(Topic::Telemetry, b"1", value.to_vec());
    let mut consumer = log
        .subscribe(Subscription {
            group: Some("g".to_owned()),
            member: None,
            topics: vec![Topic::Telemetry],
            start: Start::Earliest,
            batch_max: 10,
        })
        .await
        .unwrap();
    produce(b"first").await.unwrap();

    // A folder that cannot be made on a full disk is refused in the disk's words.
    limit_files(Some(0));
    let new = EmbeddedLog::open(&dir.path().join("new"), EmbeddedLogConfig::default());
    let said = new.unwrap_err().to_string();
    assert!(said.contains("File too large"), "{said}");
    assert!(
        !said.contains("Fjall") && !said.contains("Custom"),
        "{said}"
    );
    limit_files(None);

    // No write succeeds: not the record's, and not those of opening the folder again.
    limit_files(Some(0));
    assert!(matches!(
        produce(b"lost").await,
        Err(LogError::Unavailable(_))
    ));
    while log.ping().await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
    let refused = produce(b"lost").await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    limit_files(None);
    while log.ping().await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    produce(b"second").await.unwrap();

    // A record that is written in part.
    limit_files(Some(64 << 10));
    assert!(produce(&noise(300 << 10)).await.is_err());
    limit_files(None);
    while produce(b"third").await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }

    // Whoever reads goes on too. What was refused may be there all the same, but not what was acknowledged twice.
    let mut read = Vec::new();
    while read.last().is_none_or(|last: &Vec<u8>| last != b"third") {
        match consumer.events.recv().await.unwrap() {
            LogEvent::Records { records, .. } => {
                read.extend(records.iter().map(|record| record.value.to_vec()));
            }
            LogEvent::Assigned(_) | LogEvent::CaughtUp(_) => {}
            LogEvent::Revoked { .. } => panic!("nothing is revoked here"),
        }
    }
    read.retain(|value| value != b"lost");
    assert_eq!(read, [&b"first"[..], b"second", b"third"]);
    log.close().await;
    drop((consumer, log));
    let log = EmbeddedLog::open(dir.path(), EmbeddedLogConfig::default()).unwrap();
    log.ping().await.unwrap();
}
