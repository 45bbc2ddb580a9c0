//! The writer thread takes every waiting write, commits them as one batch with one fsync, and only then answers. A
//! second thread removes rows past their retention, through the first.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use fjall::PersistMode;
use model::tariff::{PricePeriod, Tariff};
use platform::order::{Epoch, Order};
use platform::reopen::{self, Reopened};
use platform::store::StoreError;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::tables::{
    self, Change, Table, Tables, WORD, from_fjall, get, look, number, ordered, ordered_value,
    packed, split_order, tariff_key, unpacked,
};
use crate::retention::Retention;

/// Most rows that the expiry removes at once.
const EXPIRED_MAX: usize = 4096;
const DAY_MS: i64 = model::units::DAY_MS;

/// A request to the writer.
#[derive(Debug)]
pub(super) enum Job {
    Write(Write),
    Claim(Claim),
}

/// Changes that become durable together.
#[derive(Debug)]
pub(super) struct Write {
    /// Order of the write; a stored row with a higher one stays.
    pub(super) order: Order,
    pub(super) changes: Vec<Change>,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

/// A claim of a higher epoch for a partition. If `held` is given, it must be the current one.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) partition: i32,
    pub(super) held: Option<Epoch>,
    pub(super) done: oneshot::Sender<Result<Option<Epoch>, StoreError>>,
}

/// The refusal of a job that no writer will take any more.
pub(super) fn closed() -> StoreError {
    StoreError::Refused("the store is closed".to_owned())
}

/// Runs until every sender is gone. Tables that take no write any more are opened again with `open`.
pub(super) fn run(
    tables: &Reopened<Tables>,
    mut jobs: mpsc::Receiver<Job>,
    changes_max: usize,
    mut open: impl FnMut() -> Result<Tables, String>,
) {
    let mut pauses = reopen::pauses();
    let mut next = jobs.blocking_recv();
    while let Some(job) = next {
        let (other, failure) = match job {
            Job::Claim(claim) => {
                let outcome = look(tables, |tables| {
                    set_epoch(tables, claim.partition, claim.held)
                });
                let failure = outcome.as_ref().err().filter(|error| error.is_retryable());
                let failure = failure.map(ToString::to_string);
                // A caller that stopped waiting needs no answer.
                let _ = claim.done.send(outcome);
                (None, failure)
            }
            Job::Write(first) => write_together(tables, first, &mut jobs, changes_max),
        };
        match failure {
            None => {
                tables.succeeded(&mut pauses);
                next = other.or_else(|| jobs.blocking_recv());
            }
            Some(failure) => {
                let reason = || StoreError::Unavailable(failure.clone());
                if let Some(other) = other {
                    other.refuse(reason());
                }
                let turn = || loop {
                    match jobs.try_recv() {
                        Ok(job) => job.refuse(reason()),
                        Err(mpsc::error::TryRecvError::Empty) => return true,
                        Err(mpsc::error::TryRecvError::Disconnected) => return false,
                    }
                };
                if !tables.reopen(&failure, &mut pauses, &mut open, turn) {
                    return;
                }
                next = jobs.blocking_recv();
            }
        }
    }
}

impl Job {
    fn refuse(self, error: StoreError) {
        match self {
            Self::Write(write) => drop(write.done.send(Err(error))),
            Self::Claim(claim) => drop(claim.done.send(Err(error))),
        }
    }
}

/// Makes `first` and the writes that wait behind it durable with one fsync. Gives back the claim that ended the batch, since
/// the writes before a claim are made before it, and why the commit failed.
fn write_together(
    tables: &Reopened<Tables>,
    first: Write,
    jobs: &mut mpsc::Receiver<Job>,
    changes_max: usize,
) -> (Option<Job>, Option<String>) {
    let mut waiting = Vec::new();
    let mut other = None;
    let outcome = tables.with(|tables| {
        let mut batch = CommitBatch::default();
        let mut next = Some(first);
        while let Some(write) = next.take() {
            let outcome = batch.add(tables, write.order, write.changes);
            waiting.push((write.done, outcome));
            if batch.rows.len() < changes_max {
                match jobs.try_recv() {
                    Ok(Job::Write(more)) => next = Some(more),
                    Ok(claim @ Job::Claim(_)) => other = Some(claim),
                    Err(_) => {}
                }
            }
        }
        batch.commit(tables)
    });
    let outcome = outcome.unwrap_or(Err(fjall::Error::Poisoned));
    for (done, added) in waiting {
        let committed = outcome.as_ref().map_err(from_fjall);
        let _ = done.send(added.and(committed.copied()));
    }
    (other, outcome.err().map(|error| error.to_string()))
}

fn set_epoch(
    tables: &Tables,
    partition: i32,
    held: Option<Epoch>,
) -> Result<Option<Epoch>, StoreError> {
    let last = newest_epoch(tables, partition)?;
    if held.is_some() && held != last {
        return Ok(None);
    }
    // Only one process has the tables open, so the time does not matter, and the store reads no clock.
    let next = Epoch::after(last, 0)
        .ok_or_else(|| StoreError::Refused("epochs have come to their end".to_owned()))?;
    let mut batch = tables
        .database
        .batch()
        .durability(Some(PersistMode::SyncAll));
    let table = tables.get(Table::PartitionEpochs);
    batch.insert(table, partition.to_be_bytes(), next.get().to_be_bytes());
    batch.commit().map_err(|error| from_fjall(&error))?;
    Ok(Some(next))
}

/// Returns the epoch that was claimed last.
pub(super) fn newest_epoch(tables: &Tables, partition: i32) -> Result<Option<Epoch>, StoreError> {
    let found = get(tables, Table::PartitionEpochs, &partition.to_be_bytes())?;
    let found = found.map(|value| {
        let number = value
            .as_ref()
            .try_into()
            .map_err(|_| tables::corrupt(Table::PartitionEpochs, &"an epoch has eight bytes"))?;
        Ok(Epoch::new(i64::from_be_bytes(number)))
    });
    found.transpose()
}

/// A value and the order of its write.
type Ordered = (Order, Vec<u8>);

/// The changes of one fsync. All changes of a batch get the same sequence number, so each key may occur only once: the
/// change with the highest order wins, and the last of equal ones. `None` removes.
#[derive(Debug, Default)]
struct CommitBatch {
    rows: BTreeMap<(Table, Vec<u8>), Option<Ordered>>,
}

impl CommitBatch {
    /// Adds changes, except those for which a row with a higher order exists.
    fn add(
        &mut self,
        tables: &Tables,
        order: Order,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        for change in changes {
            match change {
                Change::Put { table, key, value } => {
                    self.put(tables, order, (table, key), value)?;
                }
                Change::Remove { table, key } => {
                    self.rows.insert((table, key), None);
                }
                Change::Tariff(tariff) => self.put_tariff(tables, order, &tariff)?,
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        tables: &Tables,
        order: Order,
        place: (Table, Vec<u8>),
        value: Vec<u8>,
    ) -> Result<(), StoreError> {
        let stands = match self.rows.get(&place) {
            Some(row) => row.as_ref().map(|(stands, _)| *stands),
            None => get(tables, place.0, &place.1)?.map(|stored| split_order(&stored).0),
        };
        if stands.is_none_or(|stands| stands <= order) {
            self.rows.insert(place, Some((order, value)));
        }
        Ok(())
    }

    /// Adds a series, which replaces the prices known for the time it covers, except those with a higher order.
    fn put_tariff(
        &mut self,
        tables: &Tables,
        order: Order,
        tariff: &Tariff,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (tariff.periods.first(), tariff.periods.last()) else {
            return Ok(());
        };
        let mut later: Vec<PricePeriod> = Vec::new();
        for (key, stands, period) in self.periods(tables, &tariff.name, last.end_ms)? {
            if stands > order {
                later.push(period);
            } else if period.start_ms >= first.start_ms {
                self.rows.insert((Table::Tariffs, key), None);
            }
        }
        for period in &tariff.periods {
            let known = later
                .iter()
                .any(|later| later.start_ms < period.end_ms && period.start_ms < later.end_ms);
            if !known {
                let key = tariff_key(&tariff.name, period.start_ms)?;
                let value = Some((order, packed(period)?));
                self.rows.insert((Table::Tariffs, key), value);
            }
        }
        Ok(())
    }

    /// Returns the periods of a tariff that begin before `to_ms`, as they will be after this batch.
    fn periods(
        &self,
        tables: &Tables,
        name: &str,
        to_ms: i64,
    ) -> Result<Vec<(Vec<u8>, Order, PricePeriod)>, StoreError> {
        let (from, to) = (tariff_key(name, i64::MIN)?, tariff_key(name, to_ms)?);
        let mut found = BTreeMap::new();
        for guard in tables.get(Table::Tariffs).range(from.clone()..to.clone()) {
            let (key, value) = guard.into_inner().map_err(|error| from_fjall(&error))?;
            let period = unpacked(Table::Tariffs, &value)?;
            found.insert(key.to_vec(), (split_order(&value).0, period));
        }
        let batched = self
            .rows
            .range((Table::Tariffs, from)..(Table::Tariffs, to));
        for ((_, key), row) in batched {
            match row {
                Some((order, value)) => {
                    let period = unpacked(Table::Tariffs, value)?;
                    found.insert(key.clone(), (*order, period));
                }
                None => {
                    found.remove(key);
                }
            }
        }
        let found = found.into_iter();
        Ok(found
            .map(|(key, (order, period))| (key, order, period))
            .collect())
    }

    fn commit(self, tables: &Tables) -> Result<(), fjall::Error> {
        let mut batch = tables
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        for ((table, key), row) in self.rows {
            match row {
                Some((order, value)) => {
                    batch.insert(tables.get(table), key, ordered_value(order, &value));
                }
                None => batch.remove(tables.get(table), key),
            }
        }
        batch.commit()
    }
}

/// Removes rows past their retention every `period`, until `stop` is closed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the thread owns what it works on"
)]
pub(super) fn run_expiry(
    tables: &Reopened<Tables>,
    writes: mpsc::Sender<Job>,
    retention: Retention,
    period: Duration,
    stop: Receiver<()>,
) {
    while matches!(stop.recv_timeout(period), Err(RecvTimeoutError::Timeout)) {
        match expire(tables, &writes, retention) {
            Ok(0) => {}
            Ok(rows_count) => debug!(rows_count, "removed rows past their retention"),
            Err(error) => warn!(%error, "remove rows past their retention"),
        }
    }
}

/// Makes one pass over every table with a retention. Returns the number of rows removed.
pub(super) fn expire(
    tables: &Reopened<Tables>,
    writes: &mpsc::Sender<Job>,
    retention: Retention,
) -> Result<usize, StoreError> {
    // The time in a key follows the household's id; in `schedules` it follows the mark of adoption.
    let mut removed_count = 0;
    for (table, days, prefix_len) in [
        (Table::MeterReadings, retention.readings_days, WORD),
        (Table::PvGeneration, retention.readings_days, WORD),
        (Table::BatteryState, retention.readings_days, WORD),
        (Table::EvState, retention.readings_days, WORD),
        (Table::HeatState, retention.readings_days, WORD),
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

/// Expires one table. It jumps from household to household, so the cost is one seek per home and one removal per row.
fn expire_table(
    tables: &Reopened<Tables>,
    writes: &mpsc::Sender<Job>,
    table: Table,
    days: u32,
    prefix_len: usize,
) -> Result<usize, StoreError> {
    let mut removed_count = 0;
    let mut cursor = Some(Vec::new());
    while let Some(from) = cursor {
        // A removal waits for the writer, which must not wait for this reader.
        let found = look(tables, |tables| {
            expired(tables, from, table, days, prefix_len)
        })?;
        removed_count += found.rows_count;
        if !found.changes.is_empty() {
            write_blocking(writes, found.changes)?;
        }
        cursor = found.next;
    }
    Ok(removed_count)
}

/// Rows of a table that are past their retention.
struct Expired {
    changes: Vec<Change>,
    rows_count: usize,
    /// Where to look on; `None` at the end of the table.
    next: Option<Vec<u8>>,
}

/// Those of the first homes from the key `from` on, at most about [`EXPIRED_MAX`].
fn expired(
    tables: &Tables,
    from: Vec<u8>,
    table: Table,
    days: u32,
    prefix_len: usize,
) -> Result<Expired, StoreError> {
    let keyspace = tables.get(table);
    let corrupt = || tables::corrupt(table, &"key without a time");
    let (mut changes, mut rows_count) = (Vec::new(), 0);
    let mut cursor = from;
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
        for guard in keyspace.range(prefix.clone()..end) {
            let key = guard.key().map_err(|error| from_fjall(&error))?.to_vec();
            if changes.len() >= EXPIRED_MAX {
                // This home is looked at again, without the rows that are removed by then.
                let next = Some(key);
                return Ok(Expired {
                    changes,
                    rows_count,
                    next,
                });
            }
            if table == Table::Schedules {
                changes.push(Change::Remove {
                    table: Table::SchedulesById,
                    key: key[prefix_len + WORD..].to_vec(),
                });
            }
            changes.push(Change::Remove { table, key });
            rows_count += 1;
        }
        match successor(prefix) {
            Some(next) => cursor = next,
            None => break,
        }
    }
    Ok(Expired {
        changes,
        rows_count,
        next: None,
    })
}

fn write_blocking(writes: &mpsc::Sender<Job>, changes: Vec<Change>) -> Result<(), StoreError> {
    let (done, answer) = oneshot::channel();
    writes
        .blocking_send(Job::Write(Write {
            order: Order::NONE,
            changes,
            done,
        }))
        .map_err(|_| closed())?;
    answer.blocking_recv().map_err(|_| closed())?
}

/// Returns the smallest key after every key that begins with `prefix`.
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
    use model::units::HouseholdId;

    use super::super::tables::timed_key;
    use super::*;

    /// A row from before orders existed is read, and any write replaces it.
    #[test]
    fn rows_without_an_order_are_read_and_lose() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(dir.path(), 8).unwrap();
        let key = timed_key(HouseholdId::new(7).unwrap(), 1_000);
        let old = packed(&450.0_f64).unwrap();
        let table = tables.get(Table::MeterReadings);
        table.insert(key.clone(), old).unwrap();
        let read = || {
            let stored = tables.get(Table::MeterReadings).get(&key).unwrap().unwrap();
            unpacked::<f64>(Table::MeterReadings, &stored).unwrap()
        };
        assert_eq!(read().to_bits(), 450.0_f64.to_bits());
        for (order, watts, holds) in [(5, 460.0, 460.0), (4, 470.0, 460.0), (5, 480.0, 480.0)] {
            let mut batch = CommitBatch::default();
            let change = Change::Put {
                table: Table::MeterReadings,
                key: key.clone(),
                value: packed(&watts).unwrap(),
            };
            batch.add(&tables, Order::new(order), vec![change]).unwrap();
            batch.commit(&tables).unwrap();
            assert_eq!(read().to_bits(), f64::to_bits(holds), "order {order}");
        }
    }

    #[test]
    fn a_successor_stands_behind_every_key_of_its_prefix() {
        assert_eq!(successor(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(successor(vec![1, 255]), Some(vec![2]));
        assert_eq!(successor(vec![255]), None);
    }
}
