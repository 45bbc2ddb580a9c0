//! The tables of the embedded log: records, offsets, and what is fixed when the folder is made.

use std::collections::BTreeMap;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use platform::clock::wall_ms;
use platform::log::TopicPartition;
use schemas::topic::Topic;

use super::encoding::{offset_key, offset_of_key, record_key, record_value};
use super::work::Work;

/// Extension of the journals in the folder.
pub(super) const JOURNAL: &str = "jnl";

/// The open tables. The folder is locked for as long as they are.
pub(super) struct Tables {
    database: Database,
    pub(super) records: Keyspace,
    pub(super) offsets: Keyspace,
    meta: Keyspace,
}

impl Tables {
    pub(super) fn open(dir: &Path) -> Result<Self, fjall::Error> {
        let database = Database::builder(dir).open()?;
        let table = |name| database.keyspace(name, KeyspaceCreateOptions::default);
        Ok(Self {
            records: table("records")?,
            offsets: table("offsets")?,
            meta: table("meta")?,
            database,
        })
    }

    /// Partitions of every topic: those of the folder, or `wanted` for a new one. `None` where the number is damaged.
    pub(super) fn partitions(&self, wanted: u32) -> Result<Option<u32>, fjall::Error> {
        if let Some(bytes) = self.meta.get("partitions")? {
            return Ok(bytes.as_ref().try_into().ok().map(u32::from_be_bytes));
        }
        self.meta.insert("partitions", wanted.to_be_bytes())?;
        self.database.persist(PersistMode::SyncAll)?;
        Ok(Some(wanted))
    }

    /// Where each partition ends.
    pub(super) fn ends(
        &self,
        partitions: u32,
    ) -> Result<BTreeMap<TopicPartition, i64>, fjall::Error> {
        let mut ends = BTreeMap::new();
        for topic in Topic::ALL {
            for partition in 0..partitions {
                let of = TopicPartition {
                    topic,
                    partition: i32::try_from(partition).expect("at most 256"),
                };
                let range = record_key(of, 0)..=record_key(of, i64::MAX);
                let end = match self.records.range(range).next_back() {
                    Some(guard) => offset_of_key(&guard.key()?).unwrap_or(-1) + 1,
                    None => 0,
                };
                // Trimmed to nothing: the offsets must go on, or a group would wait for ever.
                let kept = self.committed("", of)?.unwrap_or(0);
                ends.insert(of, end.max(kept));
            }
        }
        Ok(ends)
    }

    /// The offset that a group has committed.
    pub(super) fn committed(
        &self,
        group: &str,
        of: TopicPartition,
    ) -> Result<Option<i64>, fjall::Error> {
        let bytes = self.offsets.get(offset_key(group, of))?;
        Ok(bytes
            .and_then(|bytes| bytes.as_ref().try_into().ok())
            .map(i64::from_be_bytes))
    }

    /// What each group has committed in a partition.
    pub(super) fn offsets_of(
        &self,
        of: TopicPartition,
    ) -> Result<Vec<(String, i64)>, fjall::Error> {
        let suffix = offset_key("", of);
        let mut found = Vec::new();
        for guard in self.offsets.iter() {
            let (key, value) = guard.into_inner()?;
            // Without a group: where the partition ends.
            let group = key
                .strip_suffix(&suffix[..])
                .filter(|group| !group.is_empty());
            let group = group.and_then(|group| String::from_utf8(group.to_vec()).ok());
            if let (Some(group), Ok(offset)) = (group, value.as_ref().try_into()) {
                found.push((group, i64::from_be_bytes(offset)));
            }
        }
        Ok(found)
    }

    /// Writes with one fsync, and moves `ends` on.
    pub(super) fn commit(
        &self,
        work: &[Work],
        ends: &mut BTreeMap<TopicPartition, i64>,
    ) -> Result<(), fjall::Error> {
        let now_ms = wall_ms();
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        let mut committed: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for piece in work {
            match piece {
                Work::Append(append) => {
                    let end = ends.entry(append.to).or_default();
                    let key = record_key(append.to, *end);
                    batch.insert(
                        &self.records,
                        key,
                        record_value(&append.key, &append.value, append.trace, now_ms),
                    );
                    *end += 1;
                }
                Work::Commit { group, offsets, .. } => {
                    for (of, offset) in offsets {
                        committed.insert(offset_key(group, *of), *offset);
                    }
                }
                Work::Trim { keys, .. } => {
                    for key in keys {
                        batch.remove(&self.records, key.clone());
                    }
                    for (of, end) in &*ends {
                        committed.insert(offset_key("", *of), *end);
                    }
                }
            }
        }
        for (key, offset) in committed {
            batch.insert(&self.offsets, key, offset.to_be_bytes());
        }
        batch.commit()
    }
}
