//! The spool on disk: order, bounds, crashes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use devices::spool::{Recovered, Spool, SpoolError, SpoolLimits, SpooledRecord};
use schemas::topic::Topic;

const LIMITS: SpoolLimits = SpoolLimits {
    bytes_max: 100_000,
    segment_bytes: 1_000,
};

fn record(i: usize) -> SpooledRecord {
    SpooledRecord {
        topic: [Topic::Telemetry, Topic::Acks, Topic::DeadLetters][i % 3],
        key: i.to_string().into_bytes(),
        value: vec![u8::try_from(i % 251).unwrap(); 10 + i % 40],
    }
}

async fn append(spool: &Spool, i: usize) -> Result<(), SpoolError> {
    spool.append(vec![record(i)]).await.durable().await
}

/// Takes everything out, `window` at a time.
async fn drain(spool: &Spool, window: usize) -> Vec<SpooledRecord> {
    let mut all = Vec::new();
    loop {
        let records = spool.oldest(window, 1 << 20).await.unwrap();
        if records.is_empty() {
            return all;
        }
        spool.release(records.len()).await.unwrap();
        all.extend(records);
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|is| is == "spool"))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_out_in_order_and_their_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, recovered) = Spool::open(dir.path(), LIMITS).unwrap();
    assert_eq!(recovered.records, 0);
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
        (0..200).map(record).collect::<Vec<_>>()
    );
    assert!(spool.is_empty());
    assert_eq!((spool.bytes(), segments(dir.path()).len()), (0, 0));
    append(&spool, 1).await.unwrap();
    assert_eq!(drain(&spool, 7).await, [record(1)]);
    spool.close().await;
    assert!(matches!(append(&spool, 2).await, Err(SpoolError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_at_the_same_time_share_syncs_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), LIMITS).unwrap();
    let mut appending = Vec::new();
    for i in 0..500 {
        appending.push(spool.append(vec![record(i)]).await);
    }
    for appended in appending {
        appended.durable().await.unwrap();
    }
    assert_eq!(
        drain(&spool, 64).await,
        (0..500).map(record).collect::<Vec<_>>()
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
    let many: Vec<_> = (0..100).map(record).collect();
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
        assert_eq!(recovered.records, expected);
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
    assert_eq!((recovered.records, recovered.torn_bytes), (10, 4 + 12));
}

/// Changes one byte of a file.
fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    // In place: a hard link sees it too, as it would on a disk that rots.
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all(&bytes)
        .unwrap();
}

fn damaged_files(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir).unwrap();
    let is_aside = |path: PathBuf| path.extension().is_some_and(|is| is == "damaged");
    files
        .filter(|file| is_aside(file.as_ref().unwrap().path()))
        .count()
}

/// The single one of `count` records that is not among `kept`, which are in order.
fn the_lost_one(kept: &[SpooledRecord], count: usize) -> Option<usize> {
    (0..count).find(|lost| {
        let expected = (0..count).filter(|i| i != lost).map(record);
        expected.eq(kept.iter().cloned())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_rots_while_open_loses_one_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), LIMITS).unwrap();
    for i in 0..100 {
        append(&spool, i).await.unwrap();
    }
    flip(&segments(dir.path())[1], 12);
    let kept = drain(&spool, 1_000).await;
    assert!(the_lost_one(&kept, 100).is_some(), "{}", kept.len());
    assert!(spool.is_empty(), "lost records do not count as waiting");
    assert_eq!((spool.take_damaged(), spool.take_damaged()), (1, 0));
    assert_eq!((spool.bytes(), damaged_files(dir.path())), (0, 1));
    append(&spool, 5).await.unwrap();
    assert_eq!(drain(&spool, 7).await, [record(5)]);
}

/// Each byte of three files in turn: in all but the last, whatever changes costs one record at most and is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_costs_one_record_wherever_it_is() {
    const COUNT: usize = 8;
    let limits = SpoolLimits {
        segment_bytes: 90,
        ..LIMITS
    };
    let origin = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(origin.path(), limits).unwrap();
    for i in 0..COUNT {
        append(&spool, i).await.unwrap();
    }
    spool.close().await;
    let files = segments(origin.path());
    assert!(files.len() >= 3);
    for (number, file) in files.iter().enumerate() {
        for at in 0..std::fs::read(file).unwrap().len() {
            let dir = tempfile::tempdir().unwrap();
            for file in &files {
                std::fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
            }
            flip(&dir.path().join(file.file_name().unwrap()), at);
            let (spool, recovered) = Spool::open(dir.path(), limits).unwrap();
            let kept = drain(&spool, 4).await;
            let lost = the_lost_one(&kept, COUNT);
            assert!(lost.is_some(), "{number} {at}: {} kept", kept.len());
            assert_eq!(recovered.records, kept.len() as u64, "{number} {at}");
            // Only what could be the rest of an interrupted append is cut off in silence.
            if number + 1 < files.len() || lost != Some(COUNT - 1) {
                assert_eq!(
                    (recovered.damaged, recovered.torn_bytes),
                    (1, 0),
                    "{number} {at}"
                );
            } else {
                assert!(
                    recovered.damaged + recovered.torn_bytes > 0,
                    "{number} {at}"
                );
            }
            assert_eq!(damaged_files(dir.path()) as u64, recovered.damaged);
            assert_eq!((spool.is_empty(), spool.bytes()), (true, 0));
            spool.close().await;
        }
    }
}

/// The disk gives back a closed file without its end, or with zeros instead of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_segment_without_its_end_is_damaged_not_torn() {
    for zeros in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), LIMITS).unwrap();
        for i in 0..60 {
            append(&spool, i).await.unwrap();
        }
        spool.close().await;
        let first = &segments(dir.path())[0];
        let length = std::fs::metadata(first).unwrap().len();
        let file = OpenOptions::new().write(true).open(first).unwrap();
        file.set_len(length - 20).unwrap();
        if zeros {
            file.set_len(length).unwrap();
        }
        let (spool, recovered) = Spool::open(dir.path(), LIMITS).unwrap();
        assert_eq!((recovered.damaged, recovered.torn_bytes), (1, 0));
        assert!(the_lost_one(&drain(&spool, 50).await, 60).is_some());
        spool.close().await;
        // What was read is gone, what was damaged stays; the next start knows nothing of it.
        let (spool, recovered) = Spool::open(dir.path(), LIMITS).unwrap();
        assert_eq!(recovered, Recovered::default());
        assert_eq!(damaged_files(dir.path()), 1);
        spool.close().await;
    }
}

/// As the first release wrote it: a name without a salt, and a CRC that starts from nothing.
fn old_frame(topic: &str, value: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    let body = [
        &[u8::try_from(topic.len()).unwrap()],
        topic.as_bytes(),
        &length(1),
        b"7",
        value,
    ]
    .concat();
    let crc = crc32fast::hash(&body).to_le_bytes();
    [length(body.len()).as_slice(), &crc, &body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_first_release_are_read_and_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let old = [old_frame("telemetry", b"a"), old_frame("acks", b"b")].concat();
    std::fs::write(dir.path().join("0000000000000003.spool"), old).unwrap();
    let (spool, recovered) = Spool::open(dir.path(), LIMITS).unwrap();
    assert_eq!((recovered.records, recovered.damaged), (2, 0));
    append(&spool, 1).await.unwrap();
    let of = |topic, value: &[u8]| SpooledRecord {
        topic,
        key: b"7".to_vec(),
        value: value.to_vec(),
    };
    let expected = [of(Topic::Telemetry, b"a"), of(Topic::Acks, b"b"), record(1)];
    assert_eq!(drain(&spool, 10).await, expected);
    // The first release takes none of the new files for its own, so it cannot cut them.
    append(&spool, 2).await.unwrap();
    let name = segments(dir.path())[0].file_stem().unwrap().to_owned();
    assert!(name.to_str().unwrap().parse::<u64>().is_err(), "{name:?}");
}

/// What a later version wrote is no damage: nothing starts, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_build_wrote_stops_the_start_and_stays() {
    let newer: [(&str, Vec<u8>); 3] = [
        (
            "0000000000000000.spool",
            [old_frame("telemetry", b"a"), old_frame("weather", b"b")].concat(),
        ),
        ("0000000000000000-v3-1.spool", b"anything".to_vec()),
        ("0000000000000000.spool", {
            let body = [7; 20];
            let crc = crc32fast::hash(&body).to_le_bytes();
            [&[20, 0, 0, 0], crc.as_slice(), &body].concat()
        }),
    ];
    for (name, bytes) in newer {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, &bytes).unwrap();
        std::fs::write(dir.path().join("0000000000000001.spool"), b"torn").unwrap();
        let error = Spool::open(dir.path(), LIMITS).unwrap_err();
        assert!(matches!(error, SpoolError::Newer { .. }) && !error.is_retryable());
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
        assert_eq!(segments(dir.path()).len(), 2, "nothing was deleted");
        std::fs::remove_file(file).unwrap();
        assert!(Spool::open(dir.path(), LIMITS).is_ok(), "moved away");
    }
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
