//! The one thread that writes: it takes every write that waits, commits them as one batch with one fsync, and only
//! then answers. A second thread removes what is past its retention, through the first.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use fjall::PersistMode;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::tables::{Change, Table, Tables, WORD, number, ordered};
use super::{StoreError, from_fjall};
use crate::retention::Retention;

/// Most removals that the expiry asks for at once.
const EXPIRED_MAX: usize = 4096;
const DAY_MS: i64 = model::units::DAY_MS;

/// Changes that become durable together.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) changes: Vec<Change>,
    /// Partition and epoch of the owner that writes, or that claims the partition with this.
    pub(super) owner: Option<(i32, i64)>,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

/// Runs until every sender is gone.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the thread owns what it works on"
)]
pub(super) fn run(tables: Tables, mut writes: mpsc::Receiver<Write>, changes_max: usize) {
    // The newest epoch that was seen of each partition: one process has the store, and this is the one thread.
    let mut owners: BTreeMap<i32, i64> = BTreeMap::new();
    while let Some(first) = writes.blocking_recv() {
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(write) = next {
            match superseded(&mut owners, write.owner) {
                None => {
                    changes.extend(write.changes);
                    waiting.push(write.done);
                }
                Some(error) => {
                    let _ = write.done.send(Err(error));
                }
            }
            next = if changes.len() < changes_max {
                writes.try_recv().ok()
            } else {
                None
            };
        }
        let outcome = commit(&tables, changes);
        for done in waiting {
            let answer = match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(from_fjall(error)),
            };
            // A caller that stopped waiting needs no answer.
            let _ = done.send(answer);
        }
    }
}

/// Why a write of `owner` comes too late, if it does. A later owner is remembered from its claim on.
fn superseded(owners: &mut BTreeMap<i32, i64>, owner: Option<(i32, i64)>) -> Option<StoreError> {
    let (partition, epoch) = owner?;
    let newest = owners.entry(partition).or_insert(epoch);
    if epoch < *newest {
        return Some(StoreError::Superseded { partition });
    }
    *newest = epoch;
    None
}

/// One batch, one fsync. All changes of a batch get the same sequence number, so each key may occur once: the last
/// change of a key holds.
fn commit(tables: &Tables, changes: Vec<Change>) -> Result<(), fjall::Error> {
    let mut last: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Put { table, key, value } => {
                last.insert((table, key), Some(value));
            }
            Change::Remove { table, key } => {
                last.insert((table, key), None);
            }
            Change::RemoveRange { table, from, to } => {
                for (_, value) in last.range_mut((table, from.clone())..(table, to.clone())) {
                    *value = None;
                }
                for guard in tables.get(table).range(from..to) {
                    last.insert((table, guard.key()?.to_vec()), None);
                }
            }
        }
    }
    let mut batch = tables
        .database
        .batch()
        .durability(Some(PersistMode::SyncAll));
    for ((table, key), value) in last {
        match value {
            Some(value) => batch.insert(tables.get(table), key, value),
            None => batch.remove(tables.get(table), key),
        }
    }
    batch.commit()
}

/// Removes what is past its retention each `period`, until `stop` is closed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the thread owns what it works on"
)]
pub(super) fn run_expiry(
    tables: Tables,
    writes: mpsc::Sender<Write>,
    retention: Retention,
    period: Duration,
    stop: Receiver<()>,
) {
    while matches!(stop.recv_timeout(period), Err(RecvTimeoutError::Timeout)) {
        match expire(&tables, &writes, retention) {
            Ok(0) => {}
            Ok(rows_count) => debug!(rows_count, "removed rows past their retention"),
            Err(error) => warn!(%error, "remove rows past their retention"),
        }
    }
}

/// One pass over every table with a retention. Resolves to the number of rows removed.
pub(super) fn expire(
    tables: &Tables,
    writes: &mpsc::Sender<Write>,
    retention: Retention,
) -> Result<usize, StoreError> {
    // The time of a key stands behind the household's id, in `schedules` behind the mark of adoption.
    let mut removed_count = 0;
    for (table, days, prefix_len) in [
        (Table::MeterReadings, retention.readings_days, WORD),
        (Table::PvGeneration, retention.readings_days, WORD),
        (Table::BatteryState, retention.readings_days, WORD),
        (Table::Slots, retention.slots_days, WORD),
        (Table::Schedules, retention.schedules_days, WORD + 1),
        (Table::Commands, retention.commands_days, WORD),
        (Table::CommandAnswers, retention.commands_days, WORD),
    ] {
        if days > 0 {
            removed_count += expire_table(tables, writes, table, days, prefix_len)?;
        }
    }
    Ok(removed_count)
}

/// Jumps from household to household, so that the cost is one seek a home and one removal a row.
fn expire_table(
    tables: &Tables,
    writes: &mpsc::Sender<Write>,
    table: Table,
    days: u32,
    prefix_len: usize,
) -> Result<usize, StoreError> {
    let keyspace = tables.get(table);
    let corrupt = || super::tables::corrupt(table, &"key without a time");
    let mut removed_count = 0;
    let mut cursor = Vec::new();
    while let Some(first) = keyspace.range(cursor..).next() {
        let first = first.key().map_err(|error| from_fjall(&error))?;
        let prefix = first.get(..prefix_len).ok_or_else(corrupt)?.to_vec();
        let newest = keyspace.prefix(&prefix).next_back();
        let newest = newest.map_or(Ok(first), |guard| {
            guard.key().map_err(|error| from_fjall(&error))
        })?;
        let newest_ms = newest
            .get(prefix_len..prefix_len + WORD)
            .and_then(number)
            .ok_or_else(corrupt)?;
        let oldest_ms = newest_ms.saturating_sub(i64::from(days) * DAY_MS);
        let end = [prefix.as_slice(), &ordered(oldest_ms)].concat();

        let mut changes = Vec::new();
        for guard in keyspace.range(prefix.clone()..end) {
            let key = guard.key().map_err(|error| from_fjall(&error))?.to_vec();
            if table == Table::Schedules {
                changes.push(Change::Remove {
                    table: Table::SchedulesById,
                    key: key[prefix_len + WORD..].to_vec(),
                });
            }
            changes.push(Change::Remove { table, key });
            removed_count += 1;
            if changes.len() >= EXPIRED_MAX {
                write_blocking(writes, std::mem::take(&mut changes))?;
            }
        }
        if !changes.is_empty() {
            write_blocking(writes, changes)?;
        }
        match successor(prefix) {
            Some(next) => cursor = next,
            None => break,
        }
    }
    Ok(removed_count)
}

fn write_blocking(writes: &mpsc::Sender<Write>, changes: Vec<Change>) -> Result<(), StoreError> {
    let (done, answer) = oneshot::channel();
    writes
        .blocking_send(Write {
            changes,
            owner: None,
            done,
        })
        .map_err(|_| super::closed())?;
    answer.blocking_recv().map_err(|_| super::closed())?
}

/// The smallest key behind every key that begins with `prefix`.
fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::successor;

    #[test]
    fn a_successor_stands_behind_every_key_of_its_prefix() {
        assert_eq!(successor(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(successor(vec![1, 255]), Some(vec![2]));
        assert_eq!(successor(vec![255]), None);
    }
}
