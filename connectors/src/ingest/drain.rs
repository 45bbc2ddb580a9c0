//! Brings the spool's records into the log once it is back, oldest first, and finds out when it is back. Never lets go
//! of a record before the log has it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info};

use super::lane::{dead_letter_for, produce};
use super::{Shared, stopped};
use crate::spool::{Entry, SpoolError};

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
    let mut tried: FuturesOrdered<_> = window.iter().map(|entry| into_log(shared, entry)).collect();
    let mut taken = 0;
    let mut all = true;
    while let Some(durable) = tried.next().await {
        all &= durable;
        taken += usize::from(all);
    }
    if all {
        shared.set_away(false);
    }
    shared.spool.release(taken).await?;
    shared.show_spool();
    Ok((taken as u64, all))
}

/// Whether the record, or the dead letter that stands for it, is in the log.
async fn into_log(shared: &Shared, entry: &Entry) -> bool {
    let error = match produce(shared, entry).await {
        Ok(()) => return true,
        Err(error) => error,
    };
    let Some(letter) = dead_letter_for(shared, entry, error) else {
        return false;
    };
    let durable = produce(shared, &letter.entry).await.is_ok();
    if durable {
        letter.counted.count(&shared.metrics, "received");
    }
    durable
}
