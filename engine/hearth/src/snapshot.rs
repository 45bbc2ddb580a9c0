//! A household's state as bytes, with the offsets up to which it has seen its topics.

use household::household::Household;
use household::metadata::BatterySpec;
use household::units::HouseholdId;
use schemas::topic::Topic;
use serde::{Deserialize, Serialize};

/// Version of the layout. Version 1 is read as well; a snapshot of another version is not.
const VERSION: u8 = 2;

/// The topics of a shard, in the order of `NextOffsets`.
pub const SHARD_TOPICS: [Topic; 4] = [
    Topic::Telemetry,
    Topic::Households,
    Topic::Schedules,
    Topic::Acks,
];

/// The first offset not yet seen, for each topic of a shard; 0 before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextOffsets([i64; SHARD_TOPICS.len()]);

impl NextOffsets {
    fn index(topic: Topic) -> usize {
        SHARD_TOPICS
            .iter()
            .position(|ours| *ours == topic)
            .expect("a shard reads its own topics only")
    }

    /// First offset of `topic` not yet seen.
    #[must_use]
    pub fn get(&self, topic: Topic) -> i64 {
        self.0[Self::index(topic)]
    }

    /// Moves on to `offset`; never back.
    pub fn advance(&mut self, topic: Topic, offset: i64) {
        let next = &mut self.0[Self::index(topic)];
        *next = (*next).max(offset);
    }

    /// How many records lie between this and a later state of the same shard.
    #[must_use]
    pub fn records_until(&self, later: &Self) -> u64 {
        let topics = self.0.iter().zip(&later.0);
        topics.map(|(from, to)| to.abs_diff(*from)).sum()
    }

    /// Topics of which something was seen.
    pub fn iter(&self) -> impl Iterator<Item = (Topic, i64)> + '_ {
        SHARD_TOPICS
            .into_iter()
            .zip(self.0)
            .filter(|(_, offset)| *offset > 0)
    }
}

/// Why a snapshot is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("it is empty")]
    Empty,
    #[error("its layout has version {0}, this build reads 1 to {VERSION}")]
    Version(u8),
    #[error("it was taken on partition {0}: the number of partitions has changed")]
    Partition(i32),
    #[error("it does not decode: {0}")]
    Undecodable(#[from] postcard::Error),
}

/// The state as bytes.
#[must_use]
pub fn encode(partition: i32, next_offsets: &NextOffsets, household: &Household) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let body = postcard::to_stdvec(&(partition, next_offsets, household))
        .expect("a household has nothing that postcard cannot write");
    bytes.extend(body);
    bytes
}

/// The state from bytes, to go on with on `partition`.
pub fn decode(bytes: &[u8], partition: i32) -> Result<(NextOffsets, Household), SnapshotError> {
    let (taken_on, next_offsets, household) = read(bytes)?;
    if taken_on != partition {
        return Err(SnapshotError::Partition(taken_on));
    }
    Ok((next_offsets, household))
}

/// The household alone, to look at.
pub fn household(bytes: &[u8]) -> Result<Household, SnapshotError> {
    let (_, _, household) = read(bytes)?;
    Ok(household)
}

fn read(bytes: &[u8]) -> Result<(i32, NextOffsets, Household), SnapshotError> {
    let (version, body) = bytes.split_first().ok_or(SnapshotError::Empty)?;
    match *version {
        VERSION => Ok(postcard::from_bytes(body)?),
        1 => Ok(postcard::from_bytes(&from_version_1(body)?)?),
        other => Err(SnapshotError::Version(other)),
    }
}

/// The beginning of a snapshot of version 1, up to the end of the metadata's grid.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only where it ends matters")]
struct BeginningV1 {
    partition: i32,
    next_offsets: NextOffsets,
    household_id: HouseholdId,
    metadata: Option<MetadataBeginningV1>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only where it ends matters")]
struct MetadataBeginningV1 {
    household_id: HouseholdId,
    name: String,
    location: String,
    pv_capacity_kw: f64,
    battery: Option<BatterySpec>,
    import_limit_kw: Option<f64>,
    export_limit_kw: Option<f64>,
}

/// Version 2 of a body of version 1, whose grid had no price on the peak.
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

#[cfg(test)]
mod tests {
    use schemas::topic::Topic;

    use super::{SnapshotError, decode, encode};

    /// A snapshot of version 1, taken on partition 3, gives the same home as when it is written again.
    #[track_caller]
    fn check(stored: &[u8], has_metadata: bool, expected: &str) {
        let (next_offsets, household) = decode(stored, 3).unwrap();
        assert_eq!(next_offsets.get(Topic::Telemetry), 5);
        assert_eq!(next_offsets.get(Topic::Households), 6);
        assert_eq!(next_offsets.get(Topic::Schedules), 0);
        assert_eq!(next_offsets.get(Topic::Acks), 7);
        assert_eq!(household.has_metadata(), has_metadata);
        let debug = format!("{household:?}");
        assert!(debug.contains(expected), "{debug}");
        let bytes = encode(3, &next_offsets, &household);
        assert_eq!(bytes[0], 2);
        let added = if has_metadata { 16 } else { 0 };
        assert_eq!(
            bytes.len(),
            stored.len() + added,
            "nothing else has changed"
        );
        assert_eq!(decode(&bytes, 3).unwrap(), (next_offsets, household));
        assert!(matches!(
            decode(stored, 4),
            Err(SnapshotError::Partition(3))
        ));
    }

    #[test]
    fn version_1_is_read() {
        check(
            include_bytes!("../golden/snapshot-v1.bin"),
            true,
            "grid: Grid { import_limit_kw: Some(20.0), export_limit_kw: None, peak_price_per_kw: 0.0, peak_kw: 0.0 }, \
             pv_curtailable: false, appliances: [ApplianceSpec { id: \"dishwasher\"",
        );
        let no_metadata = include_bytes!("../golden/snapshot-v1-no-metadata.bin");
        check(no_metadata, false, "metadata: None");
    }

    #[test]
    fn damage_and_other_versions_are_refused() {
        let stored = include_bytes!("../golden/snapshot-v1.bin");
        for end in 1..stored.len() {
            let outcome = decode(&stored[..end], 3);
            assert!(
                matches!(outcome, Err(SnapshotError::Undecodable(_))),
                "{end}"
            );
        }
        assert!(matches!(decode(&[], 3), Err(SnapshotError::Empty)));
        assert!(matches!(decode(&[3, 0], 3), Err(SnapshotError::Version(3))));
    }
}
