//! The files of a spool in their order. Written at the end of the newest, read from the start of the oldest, deleted
//! whole.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use tracing::error;

use super::disk::Disk;
use super::frame::frame_bytes;
use super::record::{Recovered, SpoolError, SpoolLimits, SpooledRecord};
use super::segment::{Segment, names};

#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    limits: SpoolLimits,
    disk: Box<dyn Disk>,
    /// Held so that no other process takes the folder.
    _lock: File,
    /// Oldest first.
    list: VecDeque<Segment>,
    /// Whether the last of the list takes more.
    is_newest_open: bool,
    next_number: u64,
    /// Where the oldest unreleased record begins in the first segment.
    cursor: u64,
    /// Lengths of the frames that were handed out last, from the cursor on.
    handed_out: VecDeque<u64>,
    /// Set by a refusal until a quarter is free again, so that nobody behind the one who was refused slips in.
    is_full: bool,
    /// Records that turned out unreadable since `take_lost`, and places where that was found since `take_damaged`.
    lost: u64,
    damaged: u64,
}

impl Segments {
    pub(super) fn open(
        dir: &Path,
        limits: SpoolLimits,
        disk: Box<dyn Disk>,
    ) -> Result<(Self, Recovered), SpoolError> {
        let io = |error: &std::io::Error| SpoolError::io(dir, error);
        std::fs::create_dir_all(dir).map_err(|error| io(&error))?;
        let lock = File::create(dir.join("lock")).map_err(|error| io(&error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::Locked {
                dir: dir.display().to_string(),
            },
            TryLockError::Error(error) => io(&error),
        })?;
        let names = names(dir)?;
        let mut recovered = Recovered::default();
        let mut list = VecDeque::new();
        for name in &names {
            let is_last = Some(name) == names.last();
            list.extend(Segment::recover(
                disk.as_ref(),
                dir,
                *name,
                is_last,
                &mut recovered,
            )?);
        }
        let segments = Self {
            dir: dir.to_owned(),
            limits,
            disk,
            _lock: lock,
            list,
            is_newest_open: false,
            next_number: names.last().map_or(0, |name| name.number + 1),
            cursor: 0,
            handed_out: VecDeque::new(),
            is_full: false,
            lost: 0,
            damaged: recovered.damaged,
        };
        Ok((segments, recovered))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn is_newest_full(&self) -> bool {
        let newest = self.list.back();
        self.is_newest_open
            && newest.is_some_and(|segment| segment.bytes >= self.limits.segment_bytes)
    }

    /// Writes all records or none; durable after `sync`.
    pub(super) fn write(&mut self, records: &[SpooledRecord]) -> Result<(), SpoolError> {
        let bytes = records.iter().map(frame_bytes).sum::<u64>();
        let bytes_max = self.limits.bytes_max;
        if bytes > bytes_max {
            return Err(SpoolError::TooLarge { bytes });
        }
        let used_bytes = self.bytes();
        self.is_full &= used_bytes > bytes_max / 4 * 3;
        self.is_full |= used_bytes + bytes > bytes_max;
        if self.is_full {
            return Err(SpoolError::Full { bytes_max });
        }
        let written = self.write_to_newest(records);
        written.map_err(|error| SpoolError::io(&self.dir, &error))
    }

    fn write_to_newest(&mut self, records: &[SpooledRecord]) -> std::io::Result<()> {
        if !self.is_newest_open {
            self.list
                .push_back(Segment::create(&self.dir, self.next_number)?);
            self.next_number += 1;
            self.is_newest_open = true;
        }
        let newest = self.list.back_mut().expect("a segment was just opened");
        let frames = newest.frames(records);
        newest.write(self.disk.as_ref(), &frames, records.len() as u64)
    }

    /// Makes everything written durable, or takes back what was written since the last time.
    pub(super) fn sync(&mut self) -> Result<(), SpoolError> {
        let is_full = self.is_newest_full();
        let Some(newest) = self.list.back_mut().filter(|_| self.is_newest_open) else {
            return Ok(());
        };
        let synced = newest.sync(self.disk.as_ref());
        self.is_newest_open = synced.is_ok() && !is_full;
        synced.map_err(|error| SpoolError::io(&self.dir, &error))
    }

    /// The oldest durable records, within both limits but at least one. Passes over what is damaged.
    pub(super) fn oldest(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<SpooledRecord>, SpoolError> {
        self.handed_out.clear();
        self.delete_released();
        while let Some(first) = self.list.front_mut() {
            let window = first.read(self.disk.as_ref(), self.cursor, records_max, bytes_max)?;
            self.damaged += u64::from(window.is_newly_damaged);
            self.cursor += window.damaged_bytes;
            if !window.records.is_empty() {
                self.handed_out.extend(window.frames_bytes);
                return Ok(window.records);
            }
            if self.cursor < first.bytes || first.records == 0 {
                return Ok(Vec::new());
            }
            // Read to its end, and what is left of its records was damaged.
            self.is_newest_open &= self.list.len() > 1;
            self.delete_released();
        }
        Ok(Vec::new())
    }

    /// Records found unreadable since the last call.
    pub(super) const fn take_lost(&mut self) -> u64 {
        std::mem::replace(&mut self.lost, 0)
    }

    /// Damaged places found since the last call.
    pub(super) const fn take_damaged(&mut self) -> u64 {
        std::mem::replace(&mut self.damaged, 0)
    }

    /// Lets go of the `count` oldest records of those handed out last.
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
            .expect("records were handed out of it");
        self.cursor += self.handed_out.drain(..count).sum::<u64>();
        first.release(count as u64);
        if first.records == 0 {
            // What follows, if anything does, is damaged.
            self.cursor = first.bytes;
            self.is_newest_open &= !is_only;
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
            self.lost += first.records;
            // A segment that stays is read again after a restart, which repeats records and loses none.
            if let Err(error) = std::fs::remove_file(&first.path) {
                error!(segment = %first.path.display(), %error, "delete a drained spool segment");
            }
            self.list.pop_front();
            self.cursor = 0;
        }
    }
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
