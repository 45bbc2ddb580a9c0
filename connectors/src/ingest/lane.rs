//! A lane: the payloads of some homes, tried in the log together and settled in order, so that what goes to the spool
//! goes there in the order in which it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::timeout;
use tracing::warn;

use super::parts::Part;
use super::{NotDurable, Shared, stopped};
use crate::log::LogError;
use crate::spool::{Appending, Entry, SpoolError};

/// One payload on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) parts: Vec<Part>,
    pub(super) done: oneshot::Sender<Result<(), NotDurable>>,
    /// Gives its memory back when the job ends.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Runs until the ingest stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut inbox: mpsc::Receiver<Job>,
    mut stop: watch::Receiver<bool>,
) {
    // Jobs that are bound for the spool and not yet counted there: what comes after them goes there too.
    let bound = AtomicUsize::new(0);
    let mut trying = FuturesOrdered::new();
    let mut appending = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(tried) = trying.next() => {
                let (job, rest): (Job, Vec<Part>) = tried;
                let is_bound = !rest.is_empty();
                if let Some(appended) = settle(&shared, job, rest).await {
                    appending.push(appended);
                }
                bound.fetch_sub(usize::from(is_bound), Ordering::SeqCst);
            }
            Some(()) = appending.next() => {}
            job = inbox.recv() => match job {
                Some(job) => trying.push_back(attempt(&shared, &bound, job)),
                None => return,
            },
            // Only sent once every job has been answered.
            () = stopped(&mut stop) => return,
        }
    }
}

/// Tries the log, or not while it is away. Returns with the parts that are not durable.
async fn attempt(shared: &Shared, bound: &AtomicUsize, mut job: Job) -> (Job, Vec<Part>) {
    let mut rest = std::mem::take(&mut job.parts);
    if !shared.must_spool() && bound.load(Ordering::SeqCst) == 0 {
        let tried = join_all(rest.into_iter().map(|part| attempt_part(shared, part))).await;
        rest = tried.into_iter().flatten().collect();
    }
    bound.fetch_add(usize::from(!rest.is_empty()), Ordering::SeqCst);
    (job, rest)
}

async fn attempt_part(shared: &Shared, part: Part) -> Option<Part> {
    let error = match produce(shared, &part.entry).await {
        Ok(()) => {
            part.counted.count(&shared.metrics, "received");
            return None;
        }
        Err(error) => error,
    };
    let Some(letter) = dead_letter_for(shared, &part.entry, error) else {
        return Some(part);
    };
    match produce(shared, &letter.entry).await {
        Ok(()) => {
            letter.counted.count(&shared.metrics, "received");
            None
        }
        Err(_) => Some(letter),
    }
}

/// Appends one record, within a bounded time. Notes whether the log is there.
pub(super) async fn produce(shared: &Shared, entry: &Entry) -> Result<(), LogError> {
    let produced = shared
        .log
        .produce(entry.topic, &entry.key, entry.value.clone());
    // Unconstrained: a future made to yield before it has its place in the log would lose it to those behind it.
    let produced = timeout(shared.produce_timeout, unconstrained(produced))
        .await
        .unwrap_or_else(|_| Err(LogError::Unavailable("no answer in time".to_owned())));
    match &produced {
        Ok(()) | Err(LogError::Refused(_)) => {}
        Err(LogError::Unavailable(_) | LogError::Setup(_) | LogError::Closed) => {
            shared.set_away(true);
        }
    }
    produced
}

/// What stands for a record that the log will never take; `None` where it may take it later.
pub(super) fn dead_letter_for(shared: &Shared, entry: &Entry, error: LogError) -> Option<Part> {
    match error {
        LogError::Refused(detail) => {
            warn!(topic = %entry.topic, detail, "the log refused a record");
            shared.maker.refused_by_log(entry, detail)
        }
        LogError::Unavailable(_) | LogError::Setup(_) | LogError::Closed => None,
    }
}

/// Answers a job, or gives its rest a place in the spool and returns what then answers it.
async fn settle(
    shared: &Arc<Shared>,
    job: Job,
    rest: Vec<Part>,
) -> Option<impl Future<Output = ()> + use<>> {
    if rest.is_empty() {
        answer(job, Ok(()));
        return None;
    }
    let (entries, counted): (Vec<_>, Vec<_>) = rest
        .into_iter()
        .map(|part| (part.entry, part.counted))
        .unzip();
    let appending: Appending = shared.spool.append(entries).await;
    let shared = Arc::clone(shared);
    Some(async move {
        let appended = appending.durable().await;
        shared.show_spool();
        match appended {
            Ok(()) => {
                for counted in counted {
                    counted.count(&shared.metrics, "spooled");
                }
                answer(job, Ok(()));
            }
            Err(error) => answer(job, Err(not_durable(error))),
        }
    })
}

fn not_durable(error: SpoolError) -> NotDurable {
    match error {
        SpoolError::Closed => NotDurable::Closed,
        SpoolError::Full { .. }
        | SpoolError::TooLarge { .. }
        | SpoolError::Io { .. }
        | SpoolError::Locked { .. } => NotDurable::Spool(error),
    }
}

fn answer(job: Job, outcome: Result<(), NotDurable>) {
    // The caller may have gone; what it sent is kept all the same.
    let _ = job.done.send(outcome);
    drop(job.permit);
}
