//! Forgetting: old records of topics that delete, superseded ones of topics that compact. The newest record of a
//! partition always stays, because it says which offset comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use schemas::topic::{Cleanup, Topic};
use tracing::{debug, warn};

use super::tables::{Stored, Tables, from_fjall, offset_of, record_key};
use super::{EmbeddedLogConfig, Shared};
use crate::clock::wall_ms;
use crate::log::{LogError, TopicPartition};

/// Most removals in one batch.
const BATCH_REMOVALS_MAX: usize = 4096;
/// Most records that one pass trims from a partition; the next pass goes on.
const TRIM_MAX: usize = 1 << 20;

/// What a partition looked like after its last compaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compacted {
    end: i64,
    kept: usize,
}

/// What a pass needs.
#[derive(Clone)]
pub(super) struct Cleaner {
    pub(super) tables: Tables,
    pub(super) shared: Arc<Shared>,
    pub(super) config: EmbeddedLogConfig,
}

impl Cleaner {
    /// A pass each `cleanup_every_s`, until `stop` is closed.
    #[expect(clippy::needless_pass_by_value, reason = "the thread owns what it works on")]
    pub(super) fn run(self, stop: Receiver<()>) {
        let period = Duration::from_secs(self.config.cleanup_every_s.max(1));
        let mut compacted = BTreeMap::new();
        while matches!(stop.recv_timeout(period), Err(RecvTimeoutError::Timeout)) {
            match self.pass(wall_ms(), &mut compacted) {
                Ok(0) => {}
                Ok(records_count) => debug!(records_count, "removed old records from the log"),
                Err(error) => warn!(%error, "remove old records from the log"),
            }
        }
    }

    /// One pass over every partition as of `now_ms`; the number of records removed.
    pub(super) fn pass(
        &self,
        now_ms: i64,
        compacted: &mut BTreeMap<TopicPartition, Compacted>,
    ) -> Result<usize, LogError> {
        let mut removed = 0;
        for topic in Topic::ALL {
            for at in self.shared.partitions(topic) {
                let end = self.shared.end(at);
                if matches!(topic.cleanup(), Cleanup::Delete | Cleanup::CompactDelete) {
                    removed += self.trim(at, end, now_ms)?;
                }
                if matches!(topic.cleanup(), Cleanup::Compact | Cleanup::CompactDelete)
                    && compacted.get(&at).is_none_or(|last| last.is_outgrown(end))
                {
                    let (kept, gone) = self.compact(at, end)?;
                    compacted.insert(at, Compacted { end, kept });
                    removed += gone;
                }
            }
        }
        Ok(removed)
    }

    /// Removes from the front what is too old or too much.
    fn trim(&self, at: TopicPartition, end: i64, now_ms: i64) -> Result<usize, LogError> {
        let keyspace = self.tables.topic(at.topic);
        let oldest_ms = now_ms - self.config.retention_hours * household::units::HOUR_MS;
        let bytes_max = self.config.retention_mb_per_partition * 1024 * 1024;
        let bytes_end = self.tables.end(at)?.bytes_so_far;
        let mut offsets = Vec::new();
        for guard in keyspace.range(all_but_newest(at, end)) {
            let (key, value) = guard.into_inner().map_err(|error| from_fjall(&error))?;
            let stored = Stored::read(value)?;
            let fits = bytes_end.saturating_sub(stored.bytes_so_far) < bytes_max;
            if stored.timestamp_ms >= oldest_ms && fits {
                break;
            }
            offsets.push(offset_of(&key)?);
            if offsets.len() == TRIM_MAX {
                break;
            }
        }
        self.remove(at, &offsets)
    }

    /// Keeps the newest record of each key; how many were kept and how many removed.
    fn compact(&self, at: TopicPartition, end: i64) -> Result<(usize, usize), LogError> {
        let mut seen: BTreeSet<Bytes> = BTreeSet::new();
        let mut offsets = Vec::new();
        let all = record_key(at.partition, 0)..record_key(at.partition, end);
        for guard in self.tables.topic(at.topic).range(all).rev() {
            let (key, value) = guard.into_inner().map_err(|error| from_fjall(&error))?;
            let stored = Stored::read(value)?;
            if !seen.insert(Bytes::copy_from_slice(&stored.key)) {
                offsets.push(offset_of(&key)?);
            }
        }
        Ok((seen.len(), self.remove(at, &offsets)?))
    }

    /// Need not be durable at once: what comes back after a crash goes again.
    fn remove(&self, at: TopicPartition, offsets: &[i64]) -> Result<usize, LogError> {
        for some in offsets.chunks(BATCH_REMOVALS_MAX) {
            let mut batch = self.tables.database.batch();
            for offset in some {
                batch.remove(self.tables.topic(at.topic), record_key(at.partition, *offset));
            }
            batch.commit().map_err(|error| from_fjall(&error))?;
        }
        Ok(offsets.len())
    }
}

impl Compacted {
    /// A pass reads the whole partition, so it waits until a third of it may be superseded.
    fn is_outgrown(&self, end: i64) -> bool {
        let new = usize::try_from(end - self.end).unwrap_or(0);
        new > 0 && new >= self.kept / 2
    }
}

fn all_but_newest(at: TopicPartition, end: i64) -> Range<[u8; 12]> {
    record_key(at.partition, 0)..record_key(at.partition, (end - 1).max(0))
}
