//! The files of a spool. Written at the end, read from the start, deleted whole; never changed in between.
//!
//! A frame is the length of its body and the body's CRC-32 (both 32 bits, little endian), then the body: topic name and
//! key, each behind its length, and the value.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use schemas::topic::Topic;
use tracing::error;

use super::{Entry, SpoolError, SpoolLimits, io_error, segment_path};

const HEADER_BYTES: usize = 8;

/// What an earlier process left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Entries that wait for the log.
    pub entries: u64,
    /// Bytes at ends of segments that were no whole entry, and were cut off: appends that a crash interrupted.
    pub torn_bytes: u64,
}

/// One file.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    /// Length of its whole frames.
    bytes: u64,
    /// How much of that would survive a crash.
    durable_bytes: u64,
    /// Entries in it that have not been released.
    entries: u64,
    durable_entries: u64,
}

#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    limits: SpoolLimits,
    /// Held so that no other process takes the folder.
    _lock: File,
    /// Oldest first.
    list: VecDeque<Segment>,
    /// Whether the last of the list takes more.
    is_newest_open: bool,
    next_number: u64,
    /// Where the oldest unreleased entry begins in the first segment.
    cursor: u64,
    /// Lengths of the frames that were handed out last, from the cursor on.
    handed_out: VecDeque<u64>,
    /// Set by a refusal until a quarter is free again, so that nobody behind the one who was refused slips in.
    is_full: bool,
    /// Entries that turned out unreadable since `take_lost`.
    lost: u64,
}

impl Segments {
    pub(super) fn open(dir: &Path, limits: SpoolLimits) -> Result<(Self, Recovered), SpoolError> {
        let io = |error: &std::io::Error| io_error(dir, error);
        std::fs::create_dir_all(dir).map_err(|error| io(&error))?;
        let lock = File::create(dir.join("lock")).map_err(|error| io(&error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::Locked {
                dir: dir.display().to_string(),
            },
            TryLockError::Error(error) => io(&error),
        })?;
        let mut segments = Self {
            dir: dir.to_owned(),
            limits,
            _lock: lock,
            list: VecDeque::new(),
            is_newest_open: false,
            next_number: 0,
            cursor: 0,
            handed_out: VecDeque::new(),
            is_full: false,
            lost: 0,
        };
        let mut recovered = Recovered::default();
        for number in numbers(dir).map_err(|error| io(&error))? {
            segments.next_number = number + 1;
            let path = segment_path(dir, number);
            segments
                .recover(path, &mut recovered)
                .map_err(|error| io(&error))?;
        }
        Ok((segments, recovered))
    }

    fn recover(&mut self, path: PathBuf, recovered: &mut Recovered) -> std::io::Result<()> {
        let bytes = std::fs::read(&path)?;
        let (mut whole_bytes, mut entries) = (0, 0);
        while let Some((frame_bytes, _)) = parse_frame(&bytes[whole_bytes..]) {
            whole_bytes += frame_bytes;
            entries += 1;
        }
        recovered.entries += entries;
        recovered.torn_bytes += (bytes.len() - whole_bytes) as u64;
        if entries == 0 {
            return std::fs::remove_file(path);
        }
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        if whole_bytes < bytes.len() {
            file.set_len(whole_bytes as u64)?;
        }
        // What an earlier process wrote may not have reached the disk before it died.
        file.sync_all()?;
        self.list.push_back(Segment {
            path,
            file,
            bytes: whole_bytes as u64,
            durable_bytes: whole_bytes as u64,
            entries,
            durable_entries: entries,
        });
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn is_newest_full(&self) -> bool {
        let newest = self.list.back();
        self.is_newest_open
            && newest.is_some_and(|segment| segment.bytes >= self.limits.segment_bytes)
    }

    /// Writes all entries or none; durable after `sync`.
    pub(super) fn write(&mut self, entries: &[Entry]) -> Result<(), SpoolError> {
        let mut frames = Vec::new();
        for entry in entries {
            push_frame(entry, &mut frames);
        }
        let (bytes, bytes_max) = (frames.len() as u64, self.limits.bytes_max);
        if bytes > bytes_max {
            return Err(SpoolError::TooLarge { bytes });
        }
        let used_bytes = self.bytes();
        self.is_full &= used_bytes > bytes_max / 4 * 3;
        self.is_full |= used_bytes + bytes > bytes_max;
        if self.is_full {
            return Err(SpoolError::Full { bytes_max });
        }
        self.open_newest()
            .map_err(|error| io_error(&self.dir, &error))?;
        let newest = self.list.back_mut().expect("a segment was just opened");
        // After a failed write the next one begins at the same place.
        newest
            .file
            .write_all_at(&frames, newest.bytes)
            .map_err(|error| io_error(&self.dir, &error))?;
        newest.bytes += bytes;
        newest.entries += entries.len() as u64;
        Ok(())
    }

    fn open_newest(&mut self) -> std::io::Result<()> {
        if self.is_newest_open {
            return Ok(());
        }
        let path = segment_path(&self.dir, self.next_number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        File::open(&self.dir)?.sync_all()?;
        self.next_number += 1;
        self.is_newest_open = true;
        self.list.push_back(Segment {
            path,
            file,
            bytes: 0,
            durable_bytes: 0,
            entries: 0,
            durable_entries: 0,
        });
        Ok(())
    }

    /// Makes everything written durable, or takes back what was written since the last time.
    pub(super) fn sync(&mut self) -> Result<(), SpoolError> {
        let is_full = self.is_newest_full();
        let Some(newest) = self.list.back_mut().filter(|_| self.is_newest_open) else {
            return Ok(());
        };
        match newest.file.sync_data() {
            Ok(()) => {
                newest.durable_bytes = newest.bytes;
                newest.durable_entries = newest.entries;
                self.is_newest_open = !is_full;
                Ok(())
            }
            Err(error) => {
                // What a file holds after a failed sync is unknown: nothing more goes into this one.
                newest.bytes = newest.durable_bytes;
                newest.entries = newest.durable_entries;
                self.is_newest_open = false;
                Err(io_error(&self.dir, &error))
            }
        }
    }

    /// The oldest durable entries, within both limits but at least one.
    pub(super) fn oldest(
        &mut self,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, SpoolError> {
        self.handed_out.clear();
        self.delete_released();
        while let Some(first) = self.list.front_mut() {
            let frames = read_frames(first, self.cursor, bytes_max)
                .map_err(|error| io_error(&self.dir, &error))?;
            let mut entries = Vec::new();
            let mut rest = frames.as_slice();
            while let (true, Some((bytes, entry))) =
                (entries.len() < entries_max, parse_frame(rest))
            {
                rest = &rest[bytes..];
                self.handed_out.push_back(bytes as u64);
                entries.push(entry);
            }
            if !entries.is_empty() || frames.is_empty() {
                return Ok(entries);
            }
            error!(segment = %first.path.display(), entries = first.entries, "spool unreadable, entries lost");
            self.lost += first.entries;
            first.entries = 0;
            first.durable_entries = 0;
            self.cursor = first.bytes;
            self.is_newest_open &= self.list.len() > 1;
            self.delete_released();
        }
        Ok(Vec::new())
    }

    /// Entries found unreadable since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Lets go of the `count` oldest entries of those handed out last.
    pub(super) fn release(&mut self, count: usize) {
        assert!(
            count <= self.handed_out.len(),
            "only what was handed out can be released"
        );
        if count == 0 {
            return;
        }
        let is_only = self.list.len() == 1;
        let first = self
            .list
            .front_mut()
            .expect("entries were handed out of it");
        self.cursor += self.handed_out.drain(..count).sum::<u64>();
        first.entries -= count as u64;
        first.durable_entries -= count as u64;
        if is_only && self.cursor == first.bytes {
            self.is_newest_open = false;
        }
        self.delete_released();
    }

    /// Deletes segments that are read to their end and take no more.
    fn delete_released(&mut self) {
        while let Some(first) = self.list.front() {
            let is_open = self.is_newest_open && self.list.len() == 1;
            if is_open || self.cursor < first.bytes {
                return;
            }
            // A segment that stays is read again after a restart, which repeats records and loses none.
            if let Err(error) = std::fs::remove_file(&first.path) {
                error!(segment = %first.path.display(), %error, "delete a drained spool segment");
            }
            self.list.pop_front();
            self.cursor = 0;
        }
    }
}

/// Numbers of the segments in `dir`, ascending.
fn numbers(dir: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".spool"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Bytes from `offset` on: up to `bytes_max`, more where the first frame is longer.
fn read_frames(segment: &Segment, offset: u64, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let rest = usize::try_from(segment.durable_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
    if rest < HEADER_BYTES {
        return Ok(Vec::new());
    }
    let mut header = [0; HEADER_BYTES];
    segment.file.read_exact_at(&mut header, offset)?;
    let first_bytes = HEADER_BYTES.saturating_add(body_bytes(&header));
    let mut bytes = vec![0; rest.min(bytes_max.max(first_bytes))];
    segment.file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn push_frame(entry: &Entry, frames: &mut Vec<u8>) {
    let start = frames.len();
    frames.extend([0; HEADER_BYTES]);
    let topic = entry.topic.as_str();
    frames.push(u8::try_from(topic.len()).expect("names of topics are short"));
    frames.extend(topic.as_bytes());
    let key_bytes = u32::try_from(entry.key.len()).expect("a key is shorter than 4 GiB");
    frames.extend(key_bytes.to_le_bytes());
    frames.extend(&entry.key);
    frames.extend(&entry.value);
    let body = &frames[start + HEADER_BYTES..];
    let bytes = u32::try_from(body.len()).expect("a record is shorter than 4 GiB");
    let crc = crc32fast::hash(body);
    frames[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
    frames[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The frame at the start of `bytes` and its length; `None` where there is no whole one.
fn parse_frame(bytes: &[u8]) -> Option<(usize, Entry)> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let frame_bytes = HEADER_BYTES.checked_add(body_bytes(header))?;
    let body = bytes.get(HEADER_BYTES..frame_bytes)?;
    let crc = u32::from_le_bytes(*header.last_chunk()?);
    if crc32fast::hash(body) != crc {
        return None;
    }
    let (topic_bytes, body) = body.split_first()?;
    let (topic, body) = body.split_at_checked(usize::from(*topic_bytes))?;
    let (key_bytes, body) = body.split_first_chunk::<4>()?;
    let key_bytes = usize::try_from(u32::from_le_bytes(*key_bytes)).ok()?;
    let (key, value) = body.split_at_checked(key_bytes)?;
    let entry = Entry {
        topic: Topic::parse(std::str::from_utf8(topic).ok()?)?,
        key: key.to_vec(),
        value: value.to_vec(),
    };
    Some((frame_bytes, entry))
}

fn body_bytes(header: &[u8; HEADER_BYTES]) -> usize {
    let bytes = *header.first_chunk::<4>().expect("a header has eight bytes");
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}
