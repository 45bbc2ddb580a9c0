//! Removes old records: those past their retention in topics that delete, and those replaced by a newer record with the
//! same key in topics that compact. Offsets are never reused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::topic::{Cleanup, Topic};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::encoding::{offset_of_key, parse_record, record_key};
use super::failures::{from_fjall, unavailable};
use super::shared::Shared;
use super::work::Work;
use platform::clock::wall_ms;
use platform::log::{LogError, TopicPartition};

/// Most records removed in one commit.
const REMOVALS_MAX: usize = 10_000;
const EVERY: Duration = Duration::from_secs(60);
/// How often the thread checks whether the log is still open.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The state of a partition after its last compaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compacted {
    end: i64,
    kept: usize,
}

impl Compacted {
    /// Returns whether a compaction is worth it: it reads the whole partition.
    fn is_outgrown(self, end: i64) -> bool {
        let new = usize::try_from(end - self.end).unwrap_or(0);
        new > 0 && new >= self.kept / 2
    }
}

/// Returns the time of the oldest record to keep.
pub(super) fn before_ms(now_ms: i64, retention_hours: u32) -> i64 {
    match retention_hours {
        0 => i64::MIN,
        hours => now_ms - i64::from(hours) * model::units::HOUR_MS,
    }
}

/// Starts the thread that makes a pass every minute. It ends with the log.
pub(super) fn start(
    shared: &Arc<Shared>,
    work: &mpsc::Sender<Work>,
    retention_hours: u32,
) -> Result<(), LogError> {
    let (shared, work) = (Arc::downgrade(shared), work.downgrade());
    let run = move || {
        let mut compacted = BTreeMap::new();
        let mut waited = Duration::ZERO;
        loop {
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
            if work.strong_count() == 0 {
                return;
            }
            if waited < EVERY {
                continue;
            }
            waited = Duration::ZERO;
            let (Some(shared), Some(work)) = (shared.upgrade(), work.upgrade()) else {
                return;
            };
            match pass(
                &shared,
                &work,
                before_ms(wall_ms(), retention_hours),
                &mut compacted,
            ) {
                Ok(0) => {}
                Ok(records_count) => info!(records_count, "trimmed the log"),
                Err(LogError::Closed) => return,
                Err(error) => warn!(%error, "trim the log"),
            }
        }
    };
    std::thread::Builder::new()
        .name("log-trimmer".to_owned())
        .spawn(run)
        .map(drop)
        .map_err(unavailable)
}

/// Makes one pass over every partition; returns the number of records removed.
pub(super) fn pass(
    shared: &Shared,
    work: &mpsc::Sender<Work>,
    before_ms: i64,
    compacted: &mut BTreeMap<TopicPartition, Compacted>,
) -> Result<usize, LogError> {
    let mut removed = 0;
    for of in shared.partitions_of(&Topic::ALL) {
        let end = shared.end(of);
        let (deletes, compacts) = match of.topic.cleanup() {
            Cleanup::Delete => (true, false),
            Cleanup::Compact => (false, true),
            Cleanup::CompactDelete => (true, true),
        };
        if deletes {
            removed += expire(shared, work, of, before_ms)?;
        }
        if compacts && compacted.get(&of).is_none_or(|last| last.is_outgrown(end)) {
            let (kept, replaced) = compact(shared, work, of, end)?;
            compacted.insert(of, Compacted { end, kept });
            removed += replaced;
        }
    }
    Ok(removed)
}

/// Removes what is older and read by every group, from the front. A clock that is wrong makes everything old, so time alone
/// removes nothing that a group has yet to read.
fn expire(
    shared: &Shared,
    work: &mpsc::Sender<Work>,
    of: TopicPartition,
    before_ms: i64,
) -> Result<usize, LogError> {
    let floor = shared.unread_from(of)?.unwrap_or(i64::MAX);
    let mut removed = 0;
    loop {
        let keys = shared.look(|tables| {
            let mut keys = Vec::new();
            for guard in tables
                .records
                .range(record_key(of, 0)..record_key(of, floor))
            {
                let (key, value) = guard.into_inner().map_err(from_fjall)?;
                let timestamp_ms = value
                    .first_chunk::<8>()
                    .map(|bytes| i64::from_be_bytes(*bytes));
                let young = timestamp_ms.is_none_or(|timestamp_ms| timestamp_ms >= before_ms);
                if young || keys.len() == REMOVALS_MAX {
                    break;
                }
                keys.push(key.to_vec());
            }
            Ok(keys)
        })?;
        let count = keys.len();
        removed += count;
        remove(work, keys)?;
        if count < REMOVALS_MAX {
            return Ok(removed);
        }
    }
}

/// Keeps the newest record of each key before `end`. Returns how many were kept and how many removed.
fn compact(
    shared: &Shared,
    work: &mpsc::Sender<Work>,
    of: TopicPartition,
    end: i64,
) -> Result<(usize, usize), LogError> {
    let mut newest: BTreeMap<bytes::Bytes, Vec<u8>> = BTreeMap::new();
    let mut removed = 0;
    let mut from = 0;
    let replaced = loop {
        // A removal waits for the writer, which must not wait for this reader.
        let (replaced, next) = shared.look(|tables| {
            let mut replaced = Vec::new();
            let range = record_key(of, from)..record_key(of, end);
            for guard in tables.records.range(range) {
                let (key, value) = guard.into_inner().map_err(from_fjall)?;
                let offset = offset_of_key(&key);
                let record = offset.and_then(|offset| parse_record(offset, &value));
                let Some(name) = record.and_then(|record| record.key) else {
                    continue;
                };
                replaced.extend(newest.insert(name, key.to_vec()));
                if replaced.len() == REMOVALS_MAX {
                    return Ok((replaced, offset.map(|offset| offset + 1)));
                }
            }
            Ok((replaced, None))
        })?;
        let Some(next) = next else {
            break replaced;
        };
        from = next;
        removed += replaced.len();
        remove(work, replaced)?;
    };
    removed += replaced.len();
    remove(work, replaced)?;
    Ok((newest.len(), removed))
}

/// Asks the writer to remove records; the writer also remembers where partitions end.
fn remove(work: &mpsc::Sender<Work>, keys: Vec<Vec<u8>>) -> Result<(), LogError> {
    if keys.is_empty() {
        return Ok(());
    }
    let (done, removed) = oneshot::channel();
    work.blocking_send(Work::Trim { keys, done })
        .map_err(|_| LogError::Closed)?;
    removed.blocking_recv().unwrap_or(Err(LogError::Closed))
}
