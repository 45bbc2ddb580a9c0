//! How the embedded log lies in fjall: a keyspace for each topic, whose keys are partition and offset, and one for the
//! offsets of groups. Bytes in, bytes out; it decides nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Slice};
use schemas::topic::Topic;

use crate::log::{LogError, Record, TopicPartition};

const MEMTABLE_BYTES: u64 = 16 << 20;
const PARTITIONS_KEY: &[u8] = b"partitions";
/// Time, bytes so far, length of the key.
const HEADER_BYTES: usize = 8 + 8 + 4;

/// The keyspaces. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) database: Database,
    topics: BTreeMap<Topic, Keyspace>,
    offsets: Keyspace,
    layout: Keyspace,
}

/// A record as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) timestamp_ms: i64,
    /// Bytes of this record and all before it in its partition, so that the size of any stretch is a difference.
    pub(super) bytes_so_far: u64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// Where a partition stands when it is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct End {
    /// Offset that the next record gets.
    pub(super) next_offset: i64,
    pub(super) bytes_so_far: u64,
}

impl Tables {
    pub(super) fn open(database: Database) -> Result<Self, fjall::Error> {
        let keyspace = |name: &str| {
            database.keyspace(name, || {
                KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
            })
        };
        let topics = Topic::ALL
            .into_iter()
            .map(|topic| Ok((topic, keyspace(topic.as_str())?)))
            .collect::<Result<_, fjall::Error>>()?;
        let offsets = keyspace("group_offsets")?;
        let layout = keyspace("layout")?;
        Ok(Self { database, topics, offsets, layout })
    }

    pub(super) fn topic(&self, topic: Topic) -> &Keyspace {
        &self.topics[&topic]
    }

    pub(super) const fn offsets(&self) -> &Keyspace {
        &self.offsets
    }

    /// The partition count that the folder was made with; `wanted` becomes it where there is none yet.
    pub(super) fn partitions(&self, wanted: u32) -> Result<u32, fjall::Error> {
        if let Some(kept) = self.layout.get(PARTITIONS_KEY)? {
            let kept: [u8; 4] = kept.as_ref().try_into().unwrap_or_default();
            return Ok(u32::from_be_bytes(kept));
        }
        self.layout.insert(PARTITIONS_KEY, wanted.to_be_bytes())?;
        self.database.persist(fjall::PersistMode::SyncAll)?;
        Ok(wanted)
    }

    /// The newest record of a partition is never removed, so it tells where to go on.
    pub(super) fn end(&self, at: TopicPartition) -> Result<End, LogError> {
        let newest = self.topic(at.topic).prefix(at.partition.to_be_bytes()).next_back();
        let Some(newest) = newest else {
            return Ok(End::default());
        };
        let (key, value) = newest.into_inner().map_err(|error| from_fjall(&error))?;
        let stored = Stored::read(value)?;
        Ok(End { next_offset: offset_of(&key)? + 1, bytes_so_far: stored.bytes_so_far })
    }

    /// Records from `from` on and before `end`, at most `records_max` and about `bytes_max`, at least one if there is
    /// one.
    pub(super) fn read(
        &self,
        at: TopicPartition,
        from: i64,
        end: i64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let range = record_key(at.partition, from)..record_key(at.partition, end);
        for guard in self.topic(at.topic).range(range) {
            let (key, value) = guard.into_inner().map_err(|error| from_fjall(&error))?;
            bytes += value.len();
            let stored = Stored::read(value)?;
            records.push(Record {
                offset: offset_of(&key)?,
                timestamp_ms: stored.timestamp_ms,
                key: Some(stored.key),
                value: stored.value,
            });
            if records.len() >= records_max || bytes >= bytes_max {
                break;
            }
        }
        Ok(records)
    }

    pub(super) fn committed(
        &self,
        group: &str,
        at: TopicPartition,
    ) -> Result<Option<i64>, LogError> {
        let kept =
            self.offsets.get(group_key(group, at)).map_err(|error| from_fjall(&error))?;
        kept.map(|kept| {
            let kept = kept.as_ref().try_into().map_err(|_| corrupt("a committed offset"))?;
            Ok(i64::from_be_bytes(kept))
        })
        .transpose()
    }
}

impl Stored {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.key.len() + self.value.len());
        bytes.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        bytes.extend_from_slice(&self.bytes_so_far.to_be_bytes());
        let key_bytes = u32::try_from(self.key.len()).expect("a record's size has been checked");
        bytes.extend_from_slice(&key_bytes.to_be_bytes());
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&self.value);
        bytes
    }

    pub(super) fn read(bytes: Slice) -> Result<Self, LogError> {
        let bytes = Bytes::from_owner(bytes);
        let short = || corrupt("a record");
        let (timestamp_ms, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
        let (bytes_so_far, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (key_bytes, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let key_bytes =
            usize::try_from(u32::from_be_bytes(*key_bytes)).map_err(|_| short())?;
        if rest.len() < key_bytes {
            return Err(short());
        }
        let value_at = HEADER_BYTES + key_bytes;
        Ok(Self {
            timestamp_ms: i64::from_be_bytes(*timestamp_ms),
            bytes_so_far: u64::from_be_bytes(*bytes_so_far),
            key: bytes.slice(HEADER_BYTES..value_at),
            value: bytes.slice(value_at..),
        })
    }
}

pub(super) fn record_key(partition: i32, offset: i64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&partition.to_be_bytes());
    key[4..].copy_from_slice(&offset.to_be_bytes());
    key
}

pub(super) fn offset_of(key: &[u8]) -> Result<i64, LogError> {
    let offset = key.last_chunk::<8>().ok_or_else(|| corrupt("a record's key"))?;
    Ok(i64::from_be_bytes(*offset))
}

pub(super) fn group_key(group: &str, at: TopicPartition) -> Vec<u8> {
    let mut key = Vec::with_capacity(group.len() + 32);
    key.extend_from_slice(group.as_bytes());
    key.push(0);
    key.extend_from_slice(at.topic.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&at.partition.to_be_bytes());
    key
}

pub(super) fn from_fjall(error: &fjall::Error) -> LogError {
    LogError::Unavailable(error.to_string())
}

fn corrupt(what: &str) -> LogError {
    LogError::Setup(format!("{what} in the log's folder is damaged"))
}
