//! A disk that fails: full, unable to sync, unable to read a block.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use schemas::topic::Topic;

use super::Segments;
use crate::spool::disk::Disk;
use crate::spool::{Recovered, SpoolError, SpoolLimits, SpooledRecord};

const LIMITS: SpoolLimits = SpoolLimits {
    bytes_max: 1 << 20,
    segment_bytes: 9_000,
};
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

#[derive(Debug, Default)]
struct Faults {
    /// Bytes that may still be written before the disk is full.
    room: Option<usize>,
    fails_to_sync: bool,
    /// Offsets that cannot be read, in whatever file.
    unreadable: Option<Range<u64>>,
}

#[derive(Debug, Default, Clone)]
struct FaultyDisk(Arc<Mutex<Faults>>);

impl FaultyDisk {
    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Disk for FaultyDisk {
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut faults = self.0.lock().unwrap();
        let room = faults.room.unwrap_or(usize::MAX);
        let fit = bytes.len().min(room);
        faults.room = faults.room.map(|room| room - fit);
        file.write_all_at(&bytes[..fit], offset)?;
        if fit < bytes.len() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.0.lock().unwrap().fails_to_sync {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        file.sync_data()
    }

    fn read_exact_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let faults = self.0.lock().unwrap();
        let read = offset..offset + bytes.len() as u64;
        let meets = |bad: &Range<u64>| bad.start < read.end && read.start < bad.end;
        if faults.unreadable.as_ref().is_some_and(meets) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        file.read_exact_at(bytes, offset)
    }
}

fn record(i: usize) -> SpooledRecord {
    SpooledRecord {
        topic: Topic::Telemetry,
        key: i.to_string().into_bytes(),
        value: vec![u8::try_from(i % 251).unwrap(); 100],
    }
}

fn open(dir: &Path, disk: &FaultyDisk) -> (Segments, Recovered) {
    Segments::open(dir, LIMITS, Box::new(disk.clone())).unwrap()
}

fn append(segments: &mut Segments, numbers: Range<usize>) -> Result<(), SpoolError> {
    let records: Vec<_> = numbers.map(record).collect();
    segments.write(&records)?;
    segments.sync()
}

fn drain(segments: &mut Segments) -> Vec<SpooledRecord> {
    let mut all = Vec::new();
    loop {
        let records = segments.oldest(7, 2_000).unwrap();
        if records.is_empty() {
            return all;
        }
        segments.release(records.len());
        all.extend(records);
    }
}

fn records(numbers: impl Iterator<Item = usize>) -> Vec<SpooledRecord> {
    numbers.map(record).collect()
}

#[test]
fn a_full_disk_refuses_whole_appends_and_takes_again_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let (mut segments, _) = open(dir.path(), &disk);
    append(&mut segments, 0..3).unwrap();
    for room in [0, 1, 7, 8, 150, 300] {
        disk.set(|faults| faults.room = Some(room));
        let refused = append(&mut segments, 3..6).unwrap_err();
        assert!(refused.is_retryable(), "{refused}");
    }
    disk.set(|faults| faults.room = None);
    append(&mut segments, 6..9).unwrap();
    // The process ends here: what was refused has left nothing behind that a start could trip over.
    drop(segments);
    let (mut segments, recovered) = open(dir.path(), &disk);
    let expected = Recovered {
        records: 6,
        ..Recovered::default()
    };
    assert_eq!(recovered, expected);
    assert_eq!(drain(&mut segments), records((0..3).chain(6..9)));
}

#[test]
fn after_a_failed_sync_nothing_is_kept_of_it_and_a_new_file_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let (mut segments, _) = open(dir.path(), &disk);
    append(&mut segments, 0..3).unwrap();
    disk.set(|faults| faults.fails_to_sync = true);
    for numbers in [3..6, 6..9] {
        let refused = append(&mut segments, numbers).unwrap_err();
        assert!(refused.is_retryable(), "{refused}");
    }
    disk.set(|faults| faults.fails_to_sync = false);
    append(&mut segments, 9..12).unwrap();
    assert_eq!(segments.oldest(4, 1 << 20).unwrap(), records(0..3));
    drop(segments);
    let (mut segments, recovered) = open(dir.path(), &disk);
    assert_eq!((recovered.records, recovered.damaged), (6, 0));
    assert_eq!(drain(&mut segments), records((0..3).chain(9..12)));
    assert_eq!(segments.bytes(), 0);
}

#[test]
fn a_block_that_cannot_be_read_costs_what_is_in_it() {
    for bad_before_start in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let (mut segments, _) = open(dir.path(), &disk);
        append(&mut segments, 0..80).unwrap();
        append(&mut segments, 80..160).unwrap();
        // One block in the middle of the first file. Of the second, too, which is as long.
        disk.set(|faults| faults.unreadable = Some(5_000..5_001));
        if bad_before_start {
            drop(segments);
            let recovered;
            (segments, recovered) = open(dir.path(), &disk);
            assert_eq!(recovered.damaged, 2);
        }
        let kept = drain(&mut segments);
        // A frame has 8 + 1 + 9 + 4 + 100 bytes and its key's one to three: about 33 share bytes with a block.
        let lost = 160 - kept.len();
        assert!((60..=72).contains(&lost), "{lost}");
        assert_eq!((&kept[0], kept.last()), (&record(0), Some(&record(159))));
        assert_eq!(segments.take_damaged(), 2);
        assert_eq!(segments.bytes(), 0);
    }
}

#[test]
fn a_damaged_file_is_kept_aside_again_and_again_but_not_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let limits = SpoolLimits {
        segment_bytes: 100_000,
        ..LIMITS
    };
    let (mut segments, _) = Segments::open(dir.path(), limits, Box::new(disk.clone())).unwrap();
    for _ in 0..70 {
        append(&mut segments, 0..80).unwrap();
        disk.set(|faults| faults.unreadable = Some(0..1));
        let kept = drain(&mut segments).len();
        disk.set(|faults| faults.unreadable = None);
        // The file takes more, but no record of it is left.
        assert_eq!(segments.take_lost() + kept as u64, 80);
        assert_eq!((segments.take_damaged(), segments.bytes()), (1, 0));
    }
    let files = std::fs::read_dir(dir.path()).unwrap();
    let name = |file: io::Result<std::fs::DirEntry>| file.unwrap().file_name();
    let names = files.map(|file| name(file).to_string_lossy().into_owned());
    assert_eq!(names.filter(|name| name.ends_with(".damaged")).count(), 64);
}
