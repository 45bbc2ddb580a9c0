//! Writes, produces and reads until it succeeds, or until the fence is raised.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use platform::log::{LogError, NewRecord};
use platform::store::{Row, StoreError};
use schemas::topic::Topic;
use tracing::{error, warn};

use crate::fence::{Fence, Fenced};
use crate::outgoing::Outgoing;
use platform::parts::Parts;

/// Most rows in one write.
const ROWS_MAX: usize = 2_000;
/// Longest wait for records to be durable before they are produced again.
const PRODUCE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Writes rows until all are durable.
pub(crate) async fn write_patiently(
    parts: &Parts,
    rows: Vec<Row>,
    fence: &Fence,
) -> Result<(), Fenced> {
    let mut rows = rows;
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS_MAX));
        write_chunk(parts, rows, fence).await?;
        rows = rest;
    }
    Ok(())
}

async fn write_chunk(parts: &Parts, rows: Vec<Row>, fence: &Fence) -> Result<(), Fenced> {
    let mut pause = PAUSE_MIN;
    loop {
        fence.check()?;
        match parts.store.write(rows.clone()).await {
            Ok(()) => return Ok(()),
            Err(reason @ StoreError::Unavailable(_)) => {
                warn!(%reason, rows_count = rows.len(), "store does not take rows, trying again");
            }
            // Going on would lose readings, so the partition waits for a person, and says so.
            Err(reason @ (StoreError::Refused(_) | StoreError::Corrupt { .. })) => {
                error!(%reason, rows_count = rows.len(), "store refuses rows");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Produces records until all are durable. Of a key's records in one topic the last stays the last: where one fails, those
/// behind it are produced again after it.
pub(crate) async fn produce_patiently(
    parts: &Parts,
    outgoing: Vec<Outgoing>,
    fence: &Fence,
) -> Result<(), Fenced> {
    let mut left = outgoing;
    let mut pause = PAUSE_MIN;
    while !left.is_empty() {
        fence.check()?;
        let failed = produce_once(parts, &left).await?;
        if failed.is_empty() {
            return Ok(());
        }
        left = from_failures(left, &failed);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
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
    fence: &Fence,
    read: impl Fn() -> F,
) -> Result<T, Fenced>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = PAUSE_MIN;
    loop {
        fence.check()?;
        match read().await {
            Ok(value) => return Ok(value),
            Err(reason) => warn!(what, %reason, "cannot be read, trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
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
