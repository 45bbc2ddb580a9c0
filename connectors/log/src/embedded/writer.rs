//! The thread that appends. It takes every waiting piece of work and commits it at once, with one fsync.

use platform::reopen;
use platform::retry::Backoff;
use tokio::sync::mpsc;

use super::failures::unavailable;
use super::shared::Shared;
use super::tables::{self, Tables};
use super::work::Work;

/// Most records in one commit.
const COMMIT_RECORDS_MAX: usize = 8_192;

/// Runs until every sender is gone.
pub(super) fn run(shared: &Shared, mut work: mpsc::Receiver<Work>) {
    let mut pauses = reopen::pauses();
    while let Some(first) = work.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < COMMIT_RECORDS_MAX
            && let Ok(next) = work.try_recv()
        {
            batch.push(next);
        }
        match commit(shared, batch) {
            Ok(()) => shared.tables.succeeded(&mut pauses),
            Err(failure) => {
                if !reopen(shared, &failure, &mut work, &mut pauses) {
                    return;
                }
            }
        }
    }
}

/// Opens the tables again after a failed commit, since they take no further one. What comes meanwhile is refused, and may
/// come again. False when the log was closed.
fn reopen(
    shared: &Shared,
    failure: &str,
    work: &mut mpsc::Receiver<Work>,
    pauses: &mut Backoff,
) -> bool {
    let open = || {
        let opened = reopen::write_again(&shared.dir, tables::JOURNAL).map_err(fjall::Error::Io);
        let opened = opened.and_then(|()| Tables::open(&shared.dir));
        let opened = opened.and_then(|tables| Ok((tables.ends(shared.partitions)?, tables)));
        let (found, tables) = opened.map_err(|error| error.to_string())?;
        // A record whose commit failed may be there all the same. No offset is given twice.
        let mut ends = shared.ends.lock().expect("no holder panics");
        for (of, end) in found {
            let known = ends.entry(of).or_default();
            *known = end.max(*known);
        }
        Ok(tables)
    };
    let turn = || loop {
        match work.try_recv() {
            Ok(piece) => piece.answer(Err(unavailable(failure))),
            Err(mpsc::error::TryRecvError::Empty) => return true,
            Err(mpsc::error::TryRecvError::Disconnected) => return false,
        }
    };
    let reopened = shared.tables.reopen(failure, pauses, open, turn);
    if reopened {
        shared.commits.send_modify(|commits| *commits += 1);
    }
    reopened
}

/// Writes all of it or nothing; the error for people.
fn commit(shared: &Shared, work: Vec<Work>) -> Result<(), String> {
    let mut ends = shared.ends.lock().expect("no holder panics").clone();
    let outcome = shared
        .tables
        .with(|tables| tables.commit(&work, &mut ends))
        .unwrap_or(Err(fjall::Error::Poisoned))
        .map_err(|error| error.to_string());
    if outcome.is_ok() {
        *shared.ends.lock().expect("no holder panics") = ends;
        shared.commits.send_modify(|commits| *commits += 1);
    }
    for piece in work {
        piece.answer(outcome.clone().map_err(unavailable));
    }
    outcome
}
