//! The spool on disk: order, bounds, crashes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use devices::spool::{Entry, Spool, SpoolError, SpoolLimits};
use schemas::topic::Topic;

const LIMITS: SpoolLimits = SpoolLimits {
    bytes_max: 100_000,
    segment_bytes: 1_000,
};

fn entry(i: usize) -> Entry {
    Entry {
        topic: [Topic::Telemetry, Topic::Acks, Topic::DeadLetters][i % 3],
        key: i.to_string().into_bytes(),
        value: vec![u8::try_from(i % 251).unwrap(); 10 + i % 40],
    }
}

async fn append(spool: &Spool, i: usize) -> Result<(), SpoolError> {
    spool.append(vec![entry(i)]).await.durable().await
}

/// Takes everything out, `window` at a time.
async fn drain(spool: &Spool, window: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    loop {
        let entries = spool.oldest(window, 1 << 20).await.unwrap();
        if entries.is_empty() {
            return all;
        }
        spool.release(entries.len()).await.unwrap();
        all.extend(entries);
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some()).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_come_out_in_order_and_their_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, recovered) = Spool::open(dir.path(), LIMITS).unwrap();
    assert_eq!(recovered.entries, 0);
    assert!(spool.is_empty());
    for i in 0..200 {
        append(&spool, i).await.unwrap();
    }
    assert!(!spool.is_empty() && spool.bytes() > 5_000);
    assert!(segments(dir.path()).len() > 5);
    let first = spool.oldest(3, 1 << 20).await.unwrap();
    assert_eq!(
        spool.oldest(3, 1 << 20).await.unwrap(),
        first,
        "kept until released"
    );
    assert_eq!(spool.oldest(100, 1).await.unwrap().len(), 1, "at least one");
    assert_eq!(
        drain(&spool, 7).await,
        (0..200).map(entry).collect::<Vec<_>>()
    );
    assert!(spool.is_empty());
    assert_eq!((spool.bytes(), segments(dir.path()).len()), (0, 0));
    append(&spool, 1).await.unwrap();
    assert_eq!(drain(&spool, 7).await, [entry(1)]);
    spool.close().await;
    assert!(matches!(append(&spool, 2).await, Err(SpoolError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_at_the_same_time_share_syncs_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), LIMITS).unwrap();
    let mut appending = Vec::new();
    for i in 0..500 {
        appending.push(spool.append(vec![entry(i)]).await);
    }
    for appended in appending {
        appended.durable().await.unwrap();
    }
    assert_eq!(
        drain(&spool, 64).await,
        (0..500).map(entry).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_refuses_whole_appends_and_takes_again_once_drained() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SpoolLimits {
        bytes_max: 1_000,
        segment_bytes: 400,
    };
    let (spool, _) = Spool::open(dir.path(), limits).unwrap();
    let mut taken = 0;
    while append(&spool, taken).await.is_ok() {
        taken += 1;
    }
    assert!(taken > 5 && spool.bytes() <= 1_000);
    let many: Vec<_> = (0..100).map(entry).collect();
    let too_large = spool.append(many).await.durable().await;
    assert!(matches!(too_large, Err(SpoolError::TooLarge { .. })));
    let full = append(&spool, 39).await;
    assert!(
        full.as_ref().is_err_and(SpoolError::is_retryable),
        "{full:?}"
    );
    assert_eq!(
        drain(&spool, 3).await.len(),
        taken,
        "refused appends left nothing"
    );
    append(&spool, 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_cut_off_and_the_rest_kept() {
    let dir = tempfile::tempdir().unwrap();
    for torn in 0..5_usize {
        let (spool, recovered) = Spool::open(dir.path(), LIMITS).unwrap();
        let expected = if torn == 0 { 0 } else { 10 };
        assert_eq!(recovered.entries, expected);
        assert_eq!(drain(&spool, 100).await.len() as u64, expected);
        for i in 0..10 {
            append(&spool, i).await.unwrap();
        }
        spool.close().await;
        // What a crash in the middle of an append leaves behind.
        let last = segments(dir.path()).pop().unwrap();
        let mut file = OpenOptions::new().append(true).open(last).unwrap();
        file.write_all(&[[0_u8, 0, 0, 40].as_slice(), &vec![7; torn * 3]].concat())
            .unwrap();
    }
    let (_spool, recovered) = Spool::open(dir.path(), LIMITS).unwrap();
    assert_eq!((recovered.entries, recovered.torn_bytes), (10, 4 + 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_rots_while_open_loses_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), LIMITS).unwrap();
    for i in 0..100 {
        append(&spool, i).await.unwrap();
    }
    let second = segments(dir.path()).remove(1);
    let mut file = OpenOptions::new().write(true).open(second).unwrap();
    file.seek(SeekFrom::Start(12)).unwrap();
    file.write_all(b"rot").unwrap();
    let kept = drain(&spool, 1_000).await;
    assert!(kept.len() < 100 && kept.len() > 50, "{}", kept.len());
    assert_eq!(kept.last(), Some(&entry(99)));
    assert!(spool.is_empty(), "lost entries do not count as waiting");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), LIMITS).unwrap();
    assert!(matches!(
        Spool::open(dir.path(), LIMITS),
        Err(SpoolError::Locked { .. })
    ));
    spool.close().await;
}
