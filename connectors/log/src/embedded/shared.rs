//! What the parts of the embedded log share: the tables, where each partition ends, and who reads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use platform::log::{LogError, Record, TopicPartition};
use platform::reopen::Reopened;
use schemas::topic::Topic;
use tokio::sync::watch;

use super::encoding::{offset_of_key, parse_record, record_key};
use super::failures::{from_fjall, unavailable};
use super::groups::Groups;
use super::tables::Tables;

/// A group whose consumer has not come by then, counted from the start without the wall clock, holds no records any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// About as much as one batch holds.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What the log, its readers, its writer and its trimmer share.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) tables: Reopened<Tables>,
    pub(super) partitions: u32,
    pub(super) ends: Mutex<BTreeMap<TopicPartition, i64>>,
    /// Number of commits so far, so that readers notice new records.
    pub(super) commits: watch::Sender<u64>,
    pub(super) closed: watch::Sender<bool>,
    pub(super) groups: Groups,
    pub(super) opened: Instant,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn partitions_of(&self, topics: &[Topic]) -> Vec<TopicPartition> {
        let mut all = Vec::new();
        for partition in 0..i32::try_from(self.partitions).expect("at most 256") {
            all.extend(topics.iter().map(|topic| TopicPartition {
                topic: *topic,
                partition,
            }));
        }
        all
    }

    pub(super) fn end(&self, of: TopicPartition) -> i64 {
        self.ends
            .lock()
            .expect("no holder panics")
            .get(&of)
            .copied()
            .unwrap_or(0)
    }

    /// Reads from the tables; not now while they are opened again.
    pub(super) fn look<T>(
        &self,
        question: impl FnOnce(&Tables) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let answer = self.tables.with(question);
        answer.unwrap_or_else(|| Err(unavailable("the embedded log is being opened again")))
    }

    /// The first offset that some group has yet to read; `None` where no group reads the partition. A group that has committed
    /// and has no member counts as long as it may still come.
    pub(super) fn unread_from(&self, of: TopicPartition) -> Result<Option<i64>, LogError> {
        let mut unread = self.groups.starts(of);
        let offsets = self.look(|tables| tables.offsets_of(of).map_err(from_fjall))?;
        for (group, offset) in offsets {
            if unread.contains_key(&group) || self.opened.elapsed() < ABANDONED_AFTER {
                unread.insert(group, offset);
            }
        }
        Ok(unread.into_values().min())
    }

    pub(super) fn committed(
        &self,
        group: &str,
        of: TopicPartition,
    ) -> Result<Option<i64>, LogError> {
        self.look(|tables| tables.committed(group, of).map_err(from_fjall))
    }

    pub(super) fn read(
        &self,
        of: TopicPartition,
        from: i64,
        end: i64,
        records_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        self.look(|tables| {
            let mut records = Vec::new();
            let mut bytes = 0;
            let range = record_key(of, from)..record_key(of, end);
            for guard in tables.records.range(range).take(records_max) {
                if bytes >= BATCH_BYTES_MAX {
                    break;
                }
                let (key, value) = guard.into_inner().map_err(from_fjall)?;
                bytes += value.len();
                let record = offset_of_key(&key).and_then(|offset| parse_record(offset, &value));
                let damaged = || LogError::Setup("a stored record is damaged".to_owned());
                records.push(record.ok_or_else(damaged)?);
            }
            Ok(records)
        })
    }
}
