//! Writes, produces and reads until it succeeds, or until the fence is raised.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use platform::log::{LogError, NewRecord};
use platform::order::Order;
use platform::store::{Row, StoreError};
use schemas::topic::Topic;
use tracing::{error, warn};

use crate::fence::{Fence, Fenced};
use crate::outgoing::Outgoing;
use crate::refused::{instead_of_record, instead_of_row};
use platform::retry::Backoff;
use platform::role_context::RoleContext;

/// Most rows in one write.
const ROWS_MAX: usize = 2_000;
/// Longest wait for records to be durable before they are produced again.
const PRODUCE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The same pauses each time, for the simulation. Partitions do not fail at the same moment.
pub(crate) const fn retry_pauses() -> Backoff {
    Backoff::seeded(PAUSE_MIN, PAUSE_MAX, 1)
}

/// Writes rows until all are durable. A row that no store could hold becomes a dead letter.
pub(crate) async fn write_patiently(
    context: &RoleContext,
    order: Order,
    rows: Vec<Row>,
    fence: &Fence,
) -> Result<(), Fenced> {
    let mut left = rows;
    let mut refused = Vec::new();
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(ROWS_MAX));
        write_chunk(context, order, left, fence, &mut refused).await?;
        left = rest;
    }
    produce_patiently(context, refused, fence).await
}

/// Of a chunk with bad rows the halves are tried by themselves, until each bad row stands alone.
async fn write_chunk(
    context: &RoleContext,
    order: Order,
    rows: Vec<Row>,
    fence: &Fence,
    refused: &mut Vec<Outgoing>,
) -> Result<(), Fenced> {
    let mut chunks = vec![rows];
    let mut pauses = retry_pauses();
    while let Some(mut rows) = chunks.pop() {
        fence.check()?;
        match context.store.write(order, rows.clone()).await {
            Ok(()) => {
                pauses.reset();
                continue;
            }
            Err(StoreError::BadRow(detail)) => {
                let half = rows.split_off(rows.len() / 2);
                if rows.is_empty() {
                    let bad = half.iter();
                    refused.extend(bad.filter_map(|row| instead_of_row(context, row, &detail)));
                } else {
                    chunks.extend([half, rows]);
                }
                continue;
            }
            Err(reason @ StoreError::Unavailable(_)) => {
                warn!(%reason, rows_count = rows.len(), "store does not take rows, trying again");
            }
            // Going on would lose readings, so the partition waits for a person, and says so.
            Err(reason @ (StoreError::Refused(_) | StoreError::Corrupt { .. })) => {
                error!(%reason, rows_count = rows.len(), "store refuses rows");
            }
        }
        chunks.push(rows);
        pauses.pause().await;
    }
    Ok(())
}

/// Produces records until all are durable. Of a key's records in one topic the last stays the last: if one fails, those
/// behind it are produced again after it. What the log refuses for good is replaced by what stands in for it.
pub(crate) async fn produce_patiently(
    context: &RoleContext,
    outgoing: Vec<Outgoing>,
    fence: &Fence,
) -> Result<(), Fenced> {
    let mut left = outgoing;
    let mut pauses = retry_pauses();
    while !left.is_empty() {
        fence.check()?;
        let Produced { again, instead } = produce_once(context, &left).await?;
        let is_stuck = !again.is_empty();
        left = from_failures(left, &again);
        left.extend(instead);
        if is_stuck {
            pauses.pause().await;
        }
    }
    Ok(())
}

/// What is to be produced after an attempt.
#[derive(Default)]
struct Produced {
    /// Indices of the records that are to be tried again.
    again: BTreeSet<usize>,
    /// What stands in for those that were refused.
    instead: Vec<Outgoing>,
}

/// Produces each record once.
async fn produce_once(context: &RoleContext, outgoing: &[Outgoing]) -> Result<Produced, Fenced> {
    let mut produced = Produced::default();
    let records: Vec<NewRecord<'_>> = outgoing.iter().map(Outgoing::as_new_record).collect();
    for (index, reason) in context.log.produce_all(&records, PRODUCE_MAX).await {
        let topic = outgoing[index].topic;
        match reason {
            LogError::Unavailable(_) => {
                warn!(%topic, %reason, "log does not take a record, trying again");
            }
            LogError::Closed => return Err(Fenced),
            LogError::Refused(detail) => {
                let instead = instead_of_record(context, &outgoing[index], &detail);
                produced.instead.extend(instead);
                continue;
            }
            LogError::Setup(_) => error!(%topic, %reason, "log is not set up"),
        }
        produced.again.insert(index);
    }
    Ok(produced)
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
    let mut pauses = retry_pauses();
    loop {
        fence.check()?;
        match read().await {
            Ok(value) => return Ok(value),
            Err(reason) => warn!(what, %reason, "cannot be read, trying again"),
        }
        pauses.pause().await;
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
