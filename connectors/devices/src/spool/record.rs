//! The spool's records, limits and errors.

use std::path::Path;

use schemas::topic::Topic;

use platform::log::NewRecord;

/// How large a spool may grow.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Most bytes on disk, all segments together.
    pub bytes_max: u64,
    /// Bytes after which a new segment begins. Space is freed segment by segment.
    pub segment_bytes: u64,
}

/// A record on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledRecord {
    pub topic: Topic,
    pub key: Vec<u8>,
    /// Encoded for its topic.
    pub value: Vec<u8>,
}

impl SpooledRecord {
    /// Returns it in the form that the log takes.
    #[must_use]
    pub fn as_new_record(&self) -> NewRecord<'_> {
        NewRecord {
            topic: self.topic,
            key: &self.key,
            value: &self.value,
            // A record that has waited on disk goes on without its trace.
            trace: None,
        }
    }
}

/// What was found in the spool of an earlier process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that wait for the log.
    pub records: u64,
    /// Bytes of an interrupted append at the end of the last file; they were removed.
    pub torn_bytes: u64,
    /// Places in files where at least one record cannot be read. These files are kept.
    pub damaged: u64,
}

/// Why an operation on the spool failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// It is full of records that wait for the log.
    #[error("spool is full: {bytes_max} bytes")]
    Full { bytes_max: u64 },
    /// Larger than a spool can ever hold.
    #[error("record of {bytes} bytes does not fit the spool")]
    TooLarge { bytes: u64 },
    /// The disk failed.
    #[error("spool in {dir}: {detail}")]
    Io { dir: String, detail: String },
    /// Another process has it.
    #[error("spool in {dir} is in use by another process")]
    Locked { dir: String },
    /// A later version of Hearth wrote it. Nothing was changed.
    #[error(
        "{file} is newer than this version of Hearth: {detail}; start the newer version until the spool is drained, \
         or move the file away"
    )]
    Newer { file: String, detail: String },
    /// It was closed.
    #[error("spool is closed")]
    Closed,
}

impl SpoolError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Io { .. } | Self::Locked { .. } => true,
            Self::TooLarge { .. } | Self::Newer { .. } | Self::Closed => false,
        }
    }

    pub(super) fn io(dir: &Path, error: &std::io::Error) -> Self {
        Self::Io {
            dir: dir.display().to_string(),
            detail: error.to_string(),
        }
    }
}
