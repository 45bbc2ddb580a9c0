//! Writes, produces and reads until it succeeds, or until the fence is raised.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use model::units::HouseholdId;
use platform::log::{LogError, NewRecord};
use platform::retry::Backoff;
use platform::store::{Row, StoreError, WriteOrder};
use schemas::topic::Topic;
use tracing::{error, warn};

use crate::fence::{Fence, Fenced};
use crate::outgoing::Outgoing;
use crate::ownership::Ownership;
use platform::parts::Parts;

/// Most rows in one write, and most writes of a partition at the same time.
const ROWS_MAX: usize = 2_000;
const WRITES_MAX: usize = 4;
/// Longest wait for records to be durable before they are produced again.
const PRODUCE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Writes rows until all are durable, a home's rows together. Of two rows for one place the later holds.
pub(crate) async fn write_patiently(
    ownership: &mut Ownership,
    parts: &Parts,
    rows: Vec<Row>,
    fence: &Fence,
) -> Result<(), Fenced> {
    let mut rows = rows;
    while !rows.is_empty() {
        let mut writes = Vec::new();
        for chunk in chunks(std::mem::take(&mut rows), ROWS_MAX) {
            writes.push((chunk, ownership.draw().await?));
        }
        let write = |(chunk, order)| write_chunk(parts, chunk, order, fence);
        let outcomes = stream::iter(writes.into_iter().map(write)).buffered(WRITES_MAX);
        rows = outcomes.try_concat().await?;
        if !rows.is_empty() {
            ownership.claim_again().await?;
        }
    }
    Ok(())
}

/// Writes the rows of a record of a topic that every process reads as a whole, as the record orders them.
pub(crate) async fn write_of_record(
    parts: &Parts,
    row: Row,
    offset: i64,
    fence: &Fence,
) -> Result<(), Fenced> {
    let order = WriteOrder::of_record(offset);
    write_chunk(parts, vec![row], order, fence).await.map(drop)
}

/// The rows by home, each home's in their order, in chunks of about `rows_max`. Only a home with more rows than that is
/// in several chunks.
fn chunks(mut rows: Vec<Row>, rows_max: usize) -> Vec<Vec<Row>> {
    rows.sort_by_key(Row::household_id);
    let mut chunks: Vec<Vec<Row>> = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while let Some(first) = rows.next() {
        let home = first.household_id();
        let mut of_home = vec![first];
        while of_home.len() < rows_max
            && let Some(next) = rows.next_if(|row| row.household_id() == home)
        {
            of_home.push(next);
        }
        match chunks.last_mut() {
            Some(last) if last.len() + of_home.len() <= rows_max => last.extend(of_home),
            Some(_) | None => chunks.push(of_home),
        }
    }
    chunks
}

/// Writes rows until all are durable. Returns those that the store does not take since somebody else has claimed the
/// partition.
async fn write_chunk(
    parts: &Parts,
    rows: Vec<Row>,
    order: WriteOrder,
    fence: &Fence,
) -> Result<Vec<Row>, Fenced> {
    let seed = order.number().unsigned_abs();
    let mut backoff = Backoff::seeded(PAUSE_MIN, PAUSE_MAX, seed);
    loop {
        fence.check()?;
        match parts.store.write(rows.clone(), order).await {
            Ok(()) => return Ok(Vec::new()),
            Err(reason @ StoreError::Unavailable(_)) => {
                warn!(%reason, rows_count = rows.len(), "store does not take rows, trying again");
            }
            Err(StoreError::Superseded { .. }) => return Ok(rows),
            // Going on would lose readings, so the partition waits for a person, and says so.
            Err(reason @ (StoreError::Refused(_) | StoreError::Corrupt { .. })) => {
                error!(%reason, rows_count = rows.len(), "store refuses rows");
            }
        }
        backoff.pause().await;
    }
}

/// Produces records until all are durable. Of a key's records in one topic the last stays the last: where one fails, those
/// behind it are produced again after it.
pub(crate) async fn produce_patiently(
    parts: &Parts,
    outgoing: Vec<Outgoing>,
    fence: &Fence,
) -> Result<(), Fenced> {
    let seed = outgoing.first().map_or(0, |first| seed_of(&first.key));
    let mut left = outgoing;
    let mut backoff = Backoff::seeded(PAUSE_MIN, PAUSE_MAX, seed);
    while !left.is_empty() {
        fence.check()?;
        let failed = produce_once(parts, &left).await?;
        if failed.is_empty() {
            return Ok(());
        }
        left = from_failures(left, &failed);
        backoff.pause().await;
    }
    Ok(())
}

/// Produces each record once. Answers with the places of those that are to be tried again.
async fn produce_once(parts: &Parts, outgoing: &[Outgoing]) -> Result<BTreeSet<usize>, Fenced> {
    let mut again = BTreeSet::new();
    let records = outgoing.iter().map(|record| NewRecord {
        topic: record.topic,
        key: &record.key,
        value: &record.value,
    });
    let records: Vec<NewRecord<'_>> = records.collect();
    for (place, reason) in parts.log.produce_all(&records, PRODUCE_MAX).await {
        let topic = outgoing[place].topic;
        match reason {
            LogError::Unavailable(_) => {
                warn!(%topic, %reason, "log does not take a record, trying again");
            }
            LogError::Closed => return Err(Fenced),
            LogError::Refused(_) => {
                let bytes = outgoing[place].value.len();
                error!(%topic, %reason, bytes, "log refuses a record");
                continue;
            }
            LogError::Setup(_) => error!(%topic, %reason, "log is not set up"),
        }
        again.insert(place);
    }
    Ok(again)
}

/// Pauses follow from what is tried, so that they differ between partitions and are the same in every run.
fn seed_of(key: &[u8]) -> u64 {
    key.iter()
        .fold(0, |seed, byte| seed * 31 + u64::from(*byte) & 0xffff_ffff)
}

/// Of each key's records in one topic, the first that failed and all behind it.
fn from_failures(records: Vec<Outgoing>, failed: &BTreeSet<usize>) -> Vec<Outgoing> {
    let mut broken: BTreeSet<(Topic, Vec<u8>)> = BTreeSet::new();
    let numbered = records.into_iter().enumerate();
    let again = numbered.filter(|(index, record)| {
        let place = (record.topic, record.key.clone());
        if failed.contains(index) {
            broken.insert(place);
            return true;
        }
        broken.contains(&place)
    });
    again.map(|(_, record)| record).collect()
}

/// Reads through `read` until it succeeds, or the fence is raised.
pub(crate) async fn read_patiently<T, E, F>(
    what: &str,
    of: HouseholdId,
    fence: &Fence,
    read: impl Fn() -> F,
) -> Result<T, Fenced>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::seeded(PAUSE_MIN, PAUSE_MAX, of.get().unsigned_abs());
    loop {
        fence.check()?;
        match read().await {
            Ok(value) => return Ok(value),
            Err(reason) => warn!(what, %reason, "cannot be read, trying again"),
        }
        backoff.pause().await;
    }
}

/// Runs `work` for each of `keys`, at most `concurrency_max` at a time.
pub(crate) async fn each<K, T, F>(
    keys: impl IntoIterator<Item = K>,
    concurrency_max: usize,
    work: impl Fn(K) -> F,
) -> Result<Vec<T>, Fenced>
where
    F: Future<Output = Result<T, Fenced>>,
{
    stream::iter(keys.into_iter().map(work))
        .buffer_unordered(concurrency_max)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::units::HouseholdId;
    use platform::store::Row;

    use super::chunks;

    /// Snapshots of homes; the state of each says which row of its home it is.
    fn rows(homes: &[i64]) -> Vec<Row> {
        let mut counts: BTreeMap<i64, u8> = BTreeMap::new();
        let row = |home: &i64| {
            let count = counts.entry(*home).or_default();
            *count += 1;
            Row::Snapshot {
                household_id: HouseholdId::new(*home).expect("a home"),
                state: vec![*count],
            }
        };
        homes.iter().map(row).collect()
    }

    #[track_caller]
    fn check(homes: &[i64], rows_max: usize, expected: &[&[(i64, u8)]]) {
        let place = |row: &Row| match row {
            Row::Snapshot {
                household_id,
                state,
            } => (household_id.get(), state[0]),
            other => panic!("no snapshot: {other:?}"),
        };
        let found = chunks(rows(homes), rows_max);
        let found: Vec<Vec<(i64, u8)>> = found
            .iter()
            .map(|chunk| chunk.iter().map(place).collect())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_rows_of_a_home_travel_together_and_in_order() {
        check(&[], 4, &[]);
        check(&[2, 1, 2, 1], 4, &[&[(1, 1), (1, 2), (2, 1), (2, 2)]]);
        check(&[2, 1, 2, 1], 3, &[&[(1, 1), (1, 2)], &[(2, 1), (2, 2)]]);
        check(
            &[3, 1, 3, 2, 3],
            3,
            &[&[(1, 1), (2, 1)], &[(3, 1), (3, 2), (3, 3)]],
        );
        check(
            &[7, 7, 7, 7, 7],
            2,
            &[&[(7, 1), (7, 2)], &[(7, 3), (7, 4)], &[(7, 5)]],
        );
    }
}
