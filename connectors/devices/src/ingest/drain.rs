//! Detects when the log is back, and then moves the spool's records into it, oldest first. Never releases a record before
//! the log has it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use super::sink::{Remainder, Sink};
use crate::spool::{SpoolError, SpooledRecord};
use platform::lifetime::stopped;
use platform::log::NewRecord;
use platform::report::Outage;
use platform::retry::Backoff;

/// Most records appended together. They are appended in order and released up to the first that failed.
const WINDOW_ENTRIES_MAX: usize = 2_048;
const WINDOW_BYTES_MAX: usize = 4 << 20;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Runs until the ingest stops.
pub(super) async fn run(sink: Arc<Sink>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = drain(&sink) => {}
        () = stopped(&mut stop) => {}
    }
}

async fn drain(sink: &Sink) {
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    let spool = Outage::of("spool");
    let mut away = sink.away();
    let mut drained = 0_u64;
    loop {
        if !sink.must_spool() {
            if drained > 0 {
                info!(records = drained, "the spool is empty again");
                drained = 0;
            }
            tokio::select! {
                () = sink.spool.appended() => {}
                _ = away.changed() => {}
            }
            continue;
        }
        match step(sink).await {
            Ok((released, is_all)) => {
                drained += released;
                spool.succeeded();
                if is_all {
                    backoff.reset();
                    continue;
                }
            }
            Err(error) => spool.failed(error),
        }
        backoff.pause().await;
    }
}

/// Moves one window into the log, or pings the log if the spool is empty. Returns how many records were released, and
/// whether the log took all that it was given.
async fn step(sink: &Sink) -> Result<(u64, bool), SpoolError> {
    let window = sink
        .spool
        .oldest(WINDOW_ENTRIES_MAX, WINDOW_BYTES_MAX)
        .await?;
    if window.is_empty() {
        let answers = matches!(
            timeout(sink.produce_timeout, sink.log.ping()).await,
            Ok(Ok(()))
        );
        if answers {
            sink.set_back();
        }
        // Do not retry at once: an append may still be on its way to the disk.
        return Ok((0, false));
    }
    let records: Vec<NewRecord<'_>> = window.iter().map(SpooledRecord::as_new_record).collect();
    let remainders = sink.append(&records).await;
    let first_open = remainders.iter().find(|(_, remainder)| match remainder {
        Remainder::Nothing => false,
        Remainder::Letter(_) | Remainder::Record => true,
    });
    let taken = first_open.map_or(window.len(), |(index, _)| *index);
    let all = taken == window.len();
    if all {
        sink.set_back();
    }
    sink.spool.release(taken).await?;
    sink.show_spool();
    Ok((taken as u64, all))
}
