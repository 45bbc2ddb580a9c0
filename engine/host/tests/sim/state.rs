//! What outlives every crash of a run: the log, the committed offsets, the rows of the store, and what they are held
//! against. It checks nothing by itself.

use std::collections::{BTreeMap, BTreeSet};

use model::schedule::Schedule;
use model::units::HouseholdId;
use platform::log::{Record, TopicPartition};
use platform::order::Epoch;
use platform::store::Row;

use super::draws::Draws;
use super::faults::Faults;
use super::offline::Offline;
use super::rows::{RowKey, Stored};

/// A record as it stands in the log.
#[derive(Debug, Clone)]
pub struct Kept {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub timestamp_ms: i64,
    /// From an owner that slept, woke, and has not heard yet that another followed. The log takes it: whoever reads the
    /// topic `slots` may see an older aggregate once more.
    pub is_of_former_owner: bool,
}

/// All that is shared.
#[derive(Debug)]
pub struct State {
    pub draws: Draws,
    pub faults: Faults,
    pub partitions_count: u32,
    pub log: BTreeMap<TopicPartition, Vec<Kept>>,
    pub committed: BTreeMap<TopicPartition, i64>,
    /// Number of the life that owns each partition.
    pub owners: BTreeMap<i32, u64>,
    pub rows: BTreeMap<RowKey, Stored>,
    /// Writes issued so far.
    pub writes_count: u64,
    /// The epoch that was claimed last, by partition.
    pub epochs: BTreeMap<i32, Epoch>,
    pub offline: Offline,
    /// What must be durable before each record of a shard's topics is committed, by offset.
    pub due: BTreeMap<TopicPartition, Vec<Due>>,
    /// The answers that were ever in the log.
    pub schedules: BTreeMap<(HouseholdId, i64, String), Schedule>,
    /// Source topic, partition and offset of each dead letter.
    pub dead_letters: BTreeSet<(String, i32, i64)>,
    /// Newest `requested_ms` of a command, and all their ids, by life and home.
    pub commanded: BTreeMap<(u64, HouseholdId), (Option<i64>, BTreeSet<String>)>,
    pub violations: Vec<String>,
    pub lives_count: u64,
    /// Former owners that sleep, or have woken and are not over.
    pub sleepers_count: u64,
    /// Records handed to owners.
    pub handed_count: usize,
    /// How far the engine's clock is off, ms.
    pub clock_off_ms: i64,
    /// Set once the clock stands still.
    pub stands_at_ms: Option<i64>,
}

/// What must be durable before a record's offset is committed.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// The home whose snapshot has seen it.
    pub seen_by: Option<HouseholdId>,
    pub row: Option<RowKey>,
    pub dead_letter: bool,
}

impl State {
    pub fn is_owner(&self, partition: i32, life: u64) -> bool {
        self.owners.get(&partition) == Some(&life)
    }
}

/// Up to `count_max` records from `offset` on.
pub fn records(state: &State, at: TopicPartition, offset: i64, count_max: usize) -> Vec<Record> {
    let from = usize::try_from(offset).expect("an offset is not negative");
    let kept = state.log.get(&at).into_iter().flatten().zip(0_i64..);
    kept.skip(from)
        .take(count_max)
        .map(|(kept, offset)| Record {
            offset,
            timestamp_ms: kept.timestamp_ms,
            key: Some(kept.key.clone().into()),
            value: kept.value.clone().into(),
            trace: None,
        })
        .collect()
}

/// First offset that does not exist yet.
pub fn end_of(state: &State, at: TopicPartition) -> i64 {
    let count = state.log.get(&at).map_or(0, Vec::len);
    i64::try_from(count).expect("a log of a run is short")
}

/// The stored snapshot of a home.
pub fn snapshot_of(state: &State, household_id: HouseholdId) -> Option<Vec<u8>> {
    let stored = state.rows.get(&RowKey::Snapshot(household_id))?;
    let Row::Snapshot { state, .. } = &stored.row else {
        return None;
    };
    Some(state.clone())
}
