//! Snapshots: a household's state as bytes, with the offset up to which it has seen each topic. `H` is the state.

use model::metadata::{ApplianceSpec, BatterySpec, Metadata};
use model::problem::{Grid, Weights};
use model::units::HouseholdId;
use model::zone::UTC;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::next;
use crate::topic::Topic;

/// Version of the layout that is written. Versions 1 to 4 are read as well, others are not.
const VERSION: u8 = 5 + next::SNAPSHOT_VERSIONS;

/// The topics that a shard reads, in the order of [`NextOffsets`].
pub const SHARD_TOPICS: [Topic; 4] = [
    Topic::Telemetry,
    Topic::Households,
    Topic::Schedules,
    Topic::Acks,
];

/// For each topic of a shard, the first offset not yet seen; 0 if nothing was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextOffsets([i64; SHARD_TOPICS.len()]);

impl NextOffsets {
    fn index(topic: Topic) -> usize {
        SHARD_TOPICS
            .iter()
            .position(|ours| *ours == topic)
            .expect("a shard reads its own topics only")
    }

    /// Returns the first offset of `topic` not yet seen.
    ///
    /// # Panics
    /// If `topic` is not in [`SHARD_TOPICS`].
    #[must_use]
    pub fn get(&self, topic: Topic) -> i64 {
        self.0[Self::index(topic)]
    }

    /// Moves the offset of `topic` forward to `offset`; never back.
    ///
    /// # Panics
    /// If `topic` is not in [`SHARD_TOPICS`].
    pub fn advance(&mut self, topic: Topic, offset: i64) {
        let next = &mut self.0[Self::index(topic)];
        *next = (*next).max(offset);
    }

    /// Returns the number of records between this and `later`, a later state of the same shard.
    #[must_use]
    pub fn records_until(&self, later: &Self) -> u64 {
        let topics = self.0.iter().zip(&later.0);
        topics.map(|(from, to)| to.abs_diff(*from)).sum()
    }

    /// Iterates over the topics of which something was seen, with their offsets.
    pub fn iter(&self) -> impl Iterator<Item = (Topic, i64)> + '_ {
        SHARD_TOPICS
            .into_iter()
            .zip(self.0)
            .filter(|(_, offset)| *offset > 0)
    }
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// A newer build wrote it. This is not damage, and the snapshot must not be overwritten.
    #[error(
        "its layout has version {0}, which is newer than this build, which reads 1 to {VERSION}"
    )]
    Newer(u8),
    /// The version is 0, which was never written.
    #[error("its layout has version {0}, this build reads 1 to {VERSION}")]
    Version(u8),
    /// It belongs to another partition.
    #[error("it was taken on partition {0}: the number of partitions has changed")]
    Partition(i32),
    /// The bytes are damaged.
    #[error("it does not decode: {0}")]
    Undecodable(#[from] postcard::Error),
}

impl SnapshotError {
    /// Returns whether a newer build wrote the snapshot. To continue without the snapshot would lose its state.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        match self {
            Self::Newer(_) => true,
            Self::Empty | Self::Version(_) | Self::Partition(_) | Self::Undecodable(_) => false,
        }
    }
}

/// Encodes a state, taken on `partition`.
#[must_use]
pub fn encode<H: Serialize>(partition: i32, next_offsets: &NextOffsets, household: &H) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let body = postcard::to_stdvec(&(partition, next_offsets, household))
        .expect("a household has nothing that postcard cannot write");
    bytes.extend(body);
    bytes.extend_from_slice(next::SNAPSHOT_FIELD);
    bytes
}

/// Decodes a state for use on `partition`.
///
/// # Errors
/// `Partition` if it was taken on another partition, `Newer` if a newer build wrote it, otherwise what is damaged.
pub fn decode<H: DeserializeOwned>(
    bytes: &[u8],
    partition: i32,
) -> Result<(NextOffsets, H), SnapshotError> {
    let (taken_on, next_offsets, household) = read(bytes)?;
    if taken_on != partition {
        return Err(SnapshotError::Partition(taken_on));
    }
    Ok((next_offsets, household))
}

/// Decodes a state, whatever partition it was taken on, for reading only.
///
/// # Errors
/// `Newer` if a newer build wrote it, otherwise what is damaged.
pub fn household<H: DeserializeOwned>(bytes: &[u8]) -> Result<H, SnapshotError> {
    let (_, _, household) = read(bytes)?;
    Ok(household)
}

fn read<H: DeserializeOwned>(bytes: &[u8]) -> Result<(i32, NextOffsets, H), SnapshotError> {
    let (version, body) = bytes.split_first().ok_or(SnapshotError::Empty)?;
    let upgraded = match *version {
        // What the next version adds stands behind the household.
        5..=VERSION => return Ok(postcard::from_bytes(body)?),
        4 => from_version_4(body),
        3 => from_version_4(&from_version_3(body)?),
        2 => from_version_4(&from_version_3(&from_version_2(body))?),
        1 => from_version_4(&from_version_3(&from_version_2(&from_version_1(body)?))?),
        newer if newer > VERSION => return Err(SnapshotError::Newer(newer)),
        other => return Err(SnapshotError::Version(other)),
    };
    Ok(postcard::from_bytes(&upgraded)?)
}

/// The beginning of a snapshot of version 3, up to the end of the metadata.
#[derive(Deserialize)]
struct BeginningV3 {
    partition: i32,
    next_offsets: NextOffsets,
    household_id: HouseholdId,
    metadata: Option<MetadataV3>,
}

#[derive(Deserialize)]
struct MetadataV3 {
    household_id: HouseholdId,
    name: String,
    location: String,
    pv_capacity_kw: f64,
    battery: Option<BatterySpec>,
    grid: Grid,
    pv_curtailable: bool,
    appliances: Vec<ApplianceSpec>,
    tariff: String,
    weights: Weights,
}

impl From<MetadataV3> for Metadata {
    fn from(before: MetadataV3) -> Self {
        Self {
            household_id: before.household_id,
            name: before.name,
            location: before.location,
            time_zone: UTC.to_owned(),
            position: None,
            pv_capacity_kw: before.pv_capacity_kw,
            pv_mounting: None,
            battery: before.battery,
            grid: before.grid,
            pv_curtailable: before.pv_curtailable,
            appliances: before.appliances,
            evs: Vec::new(),
            heat_stores: Vec::new(),
            groups: Vec::new(),
            tariff: before.tariff,
            weights: before.weights,
        }
    }
}

/// Converts a body of version 4 to version 5, which adds what the last plan was asked for. Since then readings and ended
/// slots are packed, and a past without weather forecasts has no tables of them; both ways are read.
fn from_version_4(body: &[u8]) -> Vec<u8> {
    const NONE: u8 = 0;
    [body, &[NONE]].concat()
}

/// Converts a body of version 3 to version 4. That adds the home's time zone and place, its EVs, heat stores and groups
/// to the metadata; the programs issued; the slot that was last looked at for one; the state of assets; and the past for
/// forecasts. Since then the times of ended slots are told by their distances; both ways are read.
fn from_version_3(body: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    const NO_PROGRAMS: u8 = 0;
    const NONE: u8 = 0;
    const NO_ASSETS: [u8; 3] = [0; 3];
    const NO_PAST: u8 = 0;
    let (beginning, rest): (BeginningV3, _) = postcard::take_from_bytes(body)?;
    let metadata = beginning.metadata.map(Metadata::from);
    let (partition, next_offsets) = (beginning.partition, beginning.next_offsets);
    let beginning = (partition, next_offsets, beginning.household_id, metadata);
    let mut upgraded = postcard::to_stdvec(&beginning)?;
    upgraded.extend_from_slice(rest);
    upgraded.extend([NO_PROGRAMS, NONE]);
    upgraded.extend(NO_ASSETS);
    upgraded.push(NO_PAST);
    Ok(upgraded)
}

/// Converts a body of version 2 to version 3, which adds the newest load, the newest PV reading, and the time since when
/// readings have come without a break.
fn from_version_2(body: &[u8]) -> Vec<u8> {
    const NONE: u8 = 0;
    [body, &[NONE; 3]].concat()
}

/// The beginning of a snapshot of version 1, up to the end of the metadata's grid.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only its end matters")]
struct BeginningV1 {
    partition: i32,
    next_offsets: NextOffsets,
    household_id: HouseholdId,
    metadata: Option<MetadataBeginningV1>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only its end matters")]
struct MetadataBeginningV1 {
    household_id: HouseholdId,
    name: String,
    location: String,
    pv_capacity_kw: f64,
    battery: Option<BatterySpec>,
    import_limit_kw: Option<f64>,
    export_limit_kw: Option<f64>,
}

/// Converts a body of version 1, whose grid had no price on the peak, to version 2.
fn from_version_1(body: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    let (beginning, rest): (BeginningV1, _) = postcard::take_from_bytes(body)?;
    let (before, _) = body.split_at(body.len() - rest.len());
    let mut upgraded = before.to_vec();
    if beginning.metadata.is_some() {
        let (peak_price_per_kw, peak_kw) = (0.0_f64, 0.0_f64);
        upgraded.extend(peak_price_per_kw.to_le_bytes());
        upgraded.extend(peak_kw.to_le_bytes());
    }
    upgraded.extend_from_slice(rest);
    Ok(upgraded)
}
