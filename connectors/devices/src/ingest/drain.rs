//! Brings the spool's records into the log once it is back, oldest first, and finds out when it is back. Never lets go
//! of a record before the log has it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info};

use super::flow::{Fate, into_log};
use super::{Shared, stopped};
use crate::spool::{SpoolError, SpooledRecord};
use platform::log::NewRecord;

/// Records tried in the log together: they enter it in order, and are released up to the first that failed.
const WINDOW_ENTRIES_MAX: usize = 2_048;
const WINDOW_BYTES_MAX: usize = 4 << 20;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Runs until the ingest stops.
pub(super) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = drain(&shared) => {}
        () = stopped(&mut stop) => {}
    }
}

async fn drain(shared: &Shared) {
    let mut backoff = BACKOFF_MIN;
    let mut away = shared.away.subscribe();
    let mut drained = 0_u64;
    loop {
        if !shared.must_spool() {
            if drained > 0 {
                info!(records = drained, "the spool is empty again");
                drained = 0;
            }
            tokio::select! {
                () = shared.spool.appended() => {}
                _ = away.changed() => {}
            }
            continue;
        }
        match step(shared).await {
            Ok((released, true)) => {
                drained += released;
                backoff = BACKOFF_MIN;
            }
            Ok((released, false)) => {
                drained += released;
                sleep(backoff).await;
                backoff = BACKOFF_MAX.min(backoff * 2);
            }
            Err(error) => {
                error!(%error, "the spool cannot be read");
                sleep(BACKOFF_MAX).await;
            }
        }
    }
}

/// One window into the log, or a question to the log where the spool is empty. Says how many records were released, and
/// whether the log took all it was given.
async fn step(shared: &Shared) -> Result<(u64, bool), SpoolError> {
    let window = shared
        .spool
        .oldest(WINDOW_ENTRIES_MAX, WINDOW_BYTES_MAX)
        .await?;
    if window.is_empty() {
        let answers = matches!(
            timeout(shared.produce_timeout, shared.log.ping()).await,
            Ok(Ok(()))
        );
        if answers {
            shared.set_away(false);
        }
        // Not at once again: an append may still be on its way to the disk.
        return Ok((0, false));
    }
    let records: Vec<NewRecord<'_>> = window.iter().map(SpooledRecord::as_new_record).collect();
    let fates = into_log(shared, &records).await;
    let first_open = fates.iter().find(|(_, fate)| match fate {
        Fate::Replaced => false,
        Fate::Letter(_) | Fate::Open => true,
    });
    let taken = first_open.map_or(window.len(), |(index, _)| *index);
    let all = taken == window.len();
    if all {
        shared.set_away(false);
    }
    shared.spool.release(taken).await?;
    shared.show_spool();
    Ok((taken as u64, all))
}
