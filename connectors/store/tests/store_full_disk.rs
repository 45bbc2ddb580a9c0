//! The embedded store when the disk takes no more, by a limit on the size of files: a process of its own, in which every
//! write fails with a real error until the limit is lifted.

#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::process::Command;
use std::time::Duration;

use hearth_store::embedded::{EmbeddedStore, EmbeddedStoreConfig};
use model::units::HouseholdId;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use platform::order::Order;
use platform::store::{Row, Store, StoreError};
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
async fn the_store_goes_on_by_itself_once_there_is_room_again() {
    if std::env::var_os(CHILD).is_some() {
        timeout(LIMIT, fill_up()).await.unwrap();
        return;
    }
    // The shell lets a write beyond the limit fail, where it would end the process.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg("the_store_goes_on_by_itself_once_there_is_room_again")
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}");
}

async fn fill_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), EmbeddedStoreConfig::default()).unwrap();
    let home = |id| HouseholdId::new(id).unwrap();
    let write = |id, order, state: Vec<u8>| {
        let household_id = home(id);
        let rows = vec![Row::Snapshot {
            household_id,
            state,
        }];
        store.write(Order::new(order), rows)
    };
    write(1, 1, b"first".to_vec()).await.unwrap();
    let epoch = store.claim(0).await.unwrap();

    // No write succeeds: not the row's, and not those of opening the folder again.
    limit_files(Some(0));
    let failed = write(2, 2, b"second".to_vec()).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))));
    while store.ping().await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
    for refused in [
        write(2, 2, b"second".to_vec()).await.unwrap_err(),
        store.claim(0).await.unwrap_err(),
        store.snapshot(home(1)).await.unwrap_err(),
    ] {
        assert!(refused.is_retryable(), "{refused}");
    }
    limit_files(None);
    while store.ping().await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    write(2, 2, b"second".to_vec()).await.unwrap();

    // A row that is written in part.
    limit_files(Some(64 << 10));
    assert!(write(3, 3, noise(300 << 10)).await.is_err());
    limit_files(None);
    while write(3, 4, b"third".to_vec()).await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }

    let check = async |store: &EmbeddedStore| {
        for (id, state) in [(1, "first"), (2, "second"), (3, "third")] {
            let found = store.snapshot(home(id)).await.unwrap().unwrap();
            assert_eq!(found, state.as_bytes());
        }
        assert_eq!(store.newest_epoch(0).await.unwrap(), Some(epoch));
    };
    check(&store).await;
    store.close().await;
    drop(store);
    let store = EmbeddedStore::open(dir.path(), EmbeddedStoreConfig::default()).unwrap();
    check(&store).await;
}
