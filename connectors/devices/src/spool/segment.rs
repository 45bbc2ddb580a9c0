//! One file of a spool: written at its end, read from its start, never changed in between.
//!
//! A file that is found damaged is kept aside under a second name, and read on from the next whole frame.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use tracing::{error, warn};

use super::disk::{Disk, read_at};
use super::frame::{self, Found, HEADER_BYTES};
use super::record::{Recovered, SpoolError, SpooledRecord};

const EXTENSION: &str = ".spool";
const DAMAGED_EXTENSION: &str = ".damaged";
/// Most damaged files that are kept aside; of further ones what is whole is read, and the rest goes with them.
const DAMAGED_MAX: usize = 64;

/// What a file's name says. Files of the first release have no salt, and their names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) number: u64,
    salt: Option<u32>,
}

impl Name {
    fn path(self, dir: &Path) -> PathBuf {
        let number = self.number;
        dir.join(match self.salt {
            None => format!("{number:016}{EXTENSION}"),
            Some(salt) => format!("{number:016}-{salt:08x}{EXTENSION}"),
        })
    }

    fn parse(stem: &str) -> Option<Self> {
        let Some((number, salt)) = stem.split_once('-') else {
            let number = stem.parse().ok()?;
            return Some(Self { number, salt: None });
        };
        Some(Self {
            number: number.parse().ok()?,
            salt: Some(u32::from_str_radix(salt, 16).ok()?),
        })
    }
}

/// The spool's files in `dir`, oldest first.
pub(super) fn names(dir: &Path) -> Result<Vec<Name>, SpoolError> {
    let io = |error: io::Error| SpoolError::io(dir, &error);
    let mut names = Vec::new();
    for file in std::fs::read_dir(dir).map_err(io)? {
        let file = file.map_err(io)?.file_name();
        let Some(stem) = file.to_str().and_then(|name| name.strip_suffix(EXTENSION)) else {
            continue;
        };
        let name = Name::parse(stem).ok_or_else(|| SpoolError::Newer {
            file: dir.join(&file).display().to_string(),
            detail: "its name is not known".to_owned(),
        })?;
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    file: File,
    salt: u32,
    /// Length of what was written.
    pub(super) bytes: u64,
    /// How much of that would survive a crash.
    durable_bytes: u64,
    /// Records in it that have not been released.
    pub(super) records: u64,
    durable_records: u64,
    /// Where damaged places were found in it.
    damaged_at: BTreeSet<u64>,
}

/// Records that were read together.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) records: Vec<SpooledRecord>,
    /// The lengths of their frames.
    pub(super) frames_bytes: Vec<u64>,
    /// Bytes before the first of them that belong to no whole frame.
    pub(super) damaged_bytes: u64,
    /// Whether nobody knew of that.
    pub(super) is_newly_damaged: bool,
}

impl Segment {
    /// A new file behind all others.
    pub(super) fn create(dir: &Path, number: u64) -> io::Result<Self> {
        let mut salt = RandomState::new().build_hasher();
        salt.write_u64(number);
        let [a, b, c, d, ..] = salt.finish().to_le_bytes();
        let salt = u32::from_le_bytes([a, b, c, d]);
        let path = Name {
            number,
            salt: Some(salt),
        }
        .path(dir);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            path,
            file,
            salt,
            bytes: 0,
            durable_bytes: 0,
            records: 0,
            durable_records: 0,
            damaged_at: BTreeSet::new(),
        })
    }

    /// Opens what an earlier process wrote; `None` where there is nothing in it. Only the last file may end within a
    /// frame: an append was interrupted, and nobody acknowledged it.
    pub(super) fn recover(
        disk: &dyn Disk,
        dir: &Path,
        name: Name,
        is_last: bool,
        recovered: &mut Recovered,
    ) -> Result<Option<Self>, SpoolError> {
        let io = |error: io::Error| SpoolError::io(dir, &error);
        let path = name.path(dir);
        let options = OpenOptions::new().read(true).write(true).clone();
        let file = options.open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        read_at(disk, &file, &mut bytes, 0).map_err(io)?;
        let mut segment = Self {
            path,
            file,
            salt: name.salt.unwrap_or(0),
            bytes: length,
            durable_bytes: length,
            records: 0,
            durable_records: 0,
            damaged_at: BTreeSet::new(),
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match frame::read(rest, segment.salt) {
                Found::Whole { frame_bytes, .. } => {
                    rest = &rest[frame_bytes..];
                    segment.records += 1;
                }
                Found::Newer { topic } => return Err(segment.newer(&topic)),
                Found::Cut | Found::Damaged => {
                    let damaged_bytes = frame::damaged_bytes(rest, segment.salt);
                    if is_last && damaged_bytes == rest.len() && frame::is_torn(rest, segment.salt)
                    {
                        segment.bytes -= rest.len() as u64;
                        recovered.torn_bytes += rest.len() as u64;
                        break;
                    }
                    recovered.damaged += 1;
                    segment.note_damage((bytes.len() - rest.len()) as u64, damaged_bytes as u64);
                    rest = &rest[damaged_bytes..];
                }
            }
        }
        recovered.records += segment.records;
        if segment.records == 0 {
            std::fs::remove_file(&segment.path).map_err(io)?;
            return Ok(None);
        }
        if segment.bytes < length {
            segment.file.set_len(segment.bytes).map_err(io)?;
        }
        // What an earlier process wrote may not have reached the disk before it died.
        segment.file.sync_all().map_err(io)?;
        segment.durable_bytes = segment.bytes;
        segment.durable_records = segment.records;
        Ok(Some(segment))
    }

    /// Appends frames of `records_count` records; durable after `sync`.
    pub(super) fn write(
        &mut self,
        disk: &dyn Disk,
        frames: &[u8],
        records_count: u64,
    ) -> io::Result<()> {
        if let Err(error) = disk.write_all_at(&self.file, frames, self.bytes) {
            // The next write begins at the same place.
            self.cut_to(self.bytes);
            return Err(error);
        }
        self.bytes += frames.len() as u64;
        self.records += records_count;
        Ok(())
    }

    /// The frames of `records`, as this file holds them.
    pub(super) fn frames(&self, records: &[SpooledRecord]) -> Vec<u8> {
        let mut frames = Vec::new();
        for record in records {
            frame::push(record, self.salt, &mut frames);
        }
        frames
    }

    /// Makes everything written durable. After an error what was written since the last time is taken back, and
    /// nothing more may be written: what a file holds after a failed sync is unknown.
    pub(super) fn sync(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if let Err(error) = disk.sync(&self.file) {
            self.cut_to(self.durable_bytes);
            self.bytes = self.durable_bytes;
            self.records = self.durable_records;
            return Err(error);
        }
        self.durable_bytes = self.bytes;
        self.durable_records = self.records;
        Ok(())
    }

    fn cut_to(&self, bytes: u64) {
        // What stays is read at the next start, at worst as damage; nobody was told that it is kept.
        if let Err(error) = self.file.set_len(bytes) {
            warn!(segment = %self.path.display(), %error, "cut a failed write off");
        }
    }

    /// `count` records have been released.
    pub(super) const fn release(&mut self, count: u64) {
        self.records -= count;
        self.durable_records -= count;
    }

    /// The durable records from `offset` on, within both limits but at least one where there is one. Stops at a
    /// damaged place, and begins behind it where it is the first thing found.
    pub(super) fn read(
        &mut self,
        disk: &dyn Disk,
        offset: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Window, SpoolError> {
        let dir = self.path.parent().unwrap_or(&self.path).to_owned();
        let io = |error: io::Error| SpoolError::io(&dir, &error);
        let mut window = Window::default();
        let bytes = self.bytes_from(disk, offset, bytes_max).map_err(io)?;
        self.fill(&mut window, &bytes, records_max)?;
        if window.records.is_empty() && !bytes.is_empty() {
            let rest = self.bytes_from(disk, offset, usize::MAX).map_err(io)?;
            let damaged_bytes = frame::damaged_bytes(&rest, self.salt);
            window.damaged_bytes = damaged_bytes as u64;
            window.is_newly_damaged = self.note_damage(offset, window.damaged_bytes);
            let behind = &rest[damaged_bytes..];
            self.fill(
                &mut window,
                &behind[..behind.len().min(bytes_max)],
                records_max,
            )?;
            if window.records.is_empty() {
                self.fill(&mut window, behind, 1)?;
            }
        }
        Ok(window)
    }

    fn fill(
        &self,
        window: &mut Window,
        bytes: &[u8],
        records_max: usize,
    ) -> Result<(), SpoolError> {
        let mut rest = bytes;
        while !rest.is_empty() && window.records.len() < records_max {
            match frame::read(rest, self.salt) {
                Found::Whole {
                    frame_bytes,
                    record,
                } => {
                    rest = &rest[frame_bytes..];
                    window.frames_bytes.push(frame_bytes as u64);
                    window.records.push(record);
                }
                Found::Newer { topic } => return Err(self.newer(&topic)),
                Found::Cut | Found::Damaged => break,
            }
        }
        Ok(())
    }

    /// Durable bytes from `offset` on: up to `bytes_max`, more where the first frame is longer.
    fn bytes_from(&self, disk: &dyn Disk, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let rest = self.durable_bytes.saturating_sub(offset);
        let rest = usize::try_from(rest).unwrap_or(usize::MAX);
        let mut wanted = bytes_max;
        if rest >= HEADER_BYTES {
            let mut header = [0; HEADER_BYTES];
            read_at(disk, &self.file, &mut header, offset)?;
            wanted = wanted.max(frame::announced_bytes(&header));
        }
        let mut bytes = vec![0; rest.min(wanted)];
        read_at(disk, &self.file, &mut bytes, offset)?;
        Ok(bytes)
    }

    /// Notes a damaged place, unless it is known, and sees to it that the file stays when it has been drained.
    fn note_damage(&mut self, offset: u64, damaged_bytes: u64) -> bool {
        let is_first = self.damaged_at.is_empty();
        if !self.damaged_at.insert(offset) {
            return false;
        }
        let segment = self.path.display();
        error!(%segment, offset, damaged_bytes, "the spool is damaged, a record or more cannot be read");
        if is_first && let Err(error) = self.keep_aside() {
            error!(%segment, %error, "keep the damaged spool file aside");
        }
        true
    }

    /// Gives the file a second name. An earlier process may have done so.
    fn keep_aside(&self) -> io::Result<()> {
        if damaged_count(&self.path)? >= DAMAGED_MAX {
            return Err(io::Error::other("too many are kept already"));
        }
        let mut aside = self.path.clone().into_os_string();
        aside.push(DAMAGED_EXTENSION);
        match std::fs::hard_link(&self.path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            kept => kept,
        }
    }

    fn newer(&self, topic: &str) -> SpoolError {
        SpoolError::Newer {
            file: self.path.display().to_string(),
            detail: match topic {
                "" => "the layout of a record is not known".to_owned(),
                topic => format!("it holds a record for topic {topic:?}, which is not known"),
            },
        }
    }
}

/// How many damaged files stand beside this one.
fn damaged_count(path: &Path) -> io::Result<usize> {
    let mut count = 0;
    for file in std::fs::read_dir(path.parent().unwrap_or(path))? {
        let name = file?.file_name();
        count += usize::from(name.to_string_lossy().ends_with(DAMAGED_EXTENSION));
    }
    Ok(count)
}
