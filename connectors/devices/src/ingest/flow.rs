//! The flow of payloads into the log: what waits is tried together as one wave, and waves are settled in order, so that
//! what goes to the spool goes there in the order in which it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::unconstrained;
use tracing::warn;

use super::parts::{Counted, Outcome, Part};
use super::{NotDurable, Shared, stopped};
use crate::spool::{Appending, SpoolError};
use platform::log::{LogError, NewRecord};

/// Most jobs in one wave; each is bounded itself.
const WAVE_JOBS_MAX: usize = 64;

/// Payloads on their way, as they were accepted together.
#[derive(Debug)]
pub(super) struct Job {
    /// Of all its payloads, in their order.
    pub(super) parts: Vec<Part>,
    /// Takes those payloads that are not durable.
    pub(super) done: oneshot::Sender<Vec<(usize, NotDurable)>>,
    /// Gives its memory back when the job ends.
    pub(super) permit: OwnedSemaphorePermit,
}

/// What became of a record that did not simply go into the log.
#[derive(Debug)]
pub(super) enum Fate {
    /// The log refuses it for good and has a dead letter instead.
    Replaced,
    /// The log refuses it for good, and is away for its dead letter.
    Letter(Part),
    /// The log is away.
    Open,
}

/// Runs until the ingest stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut inbox: mpsc::Receiver<Job>,
    mut stop: watch::Receiver<bool>,
) {
    // Waves with something bound for the spool that is not yet counted there: what comes after them goes there too.
    let bound = AtomicUsize::new(0);
    let mut trying = FuturesOrdered::new();
    let mut appending = FuturesUnordered::new();
    let mut waiting = Vec::with_capacity(WAVE_JOBS_MAX);
    loop {
        tokio::select! {
            biased;
            Some(tried) = trying.next() => {
                let wave: Vec<Job> = tried;
                let is_bound = is_bound(&wave);
                for job in wave {
                    if let Some(appended) = settle(&shared, job).await {
                        appending.push(appended);
                    }
                }
                bound.fetch_sub(usize::from(is_bound), Ordering::SeqCst);
            }
            Some(()) = appending.next() => {}
            count = inbox.recv_many(&mut waiting, WAVE_JOBS_MAX) => {
                if count == 0 {
                    return;
                }
                let wave = std::mem::replace(&mut waiting, Vec::with_capacity(WAVE_JOBS_MAX));
                trying.push_back(attempt(&shared, &bound, wave));
            }
            // Only sent once every job has been answered.
            () = stopped(&mut stop) => return,
        }
    }
}

fn is_bound(wave: &[Job]) -> bool {
    wave.iter().any(|job| !job.parts.is_empty())
}

/// Tries the log, or not while it is away. Leaves in each job the parts that are not durable.
async fn attempt(shared: &Shared, bound: &AtomicUsize, mut wave: Vec<Job>) -> Vec<Job> {
    if !shared.must_spool() && bound.load(Ordering::SeqCst) == 0 {
        let parts = wave.iter().flat_map(|job| &job.parts);
        let records: Vec<NewRecord<'_>> = parts.map(|part| part.record.as_new_record()).collect();
        let fates = into_log(shared, &records).await;
        drop(records);
        let mut fates = fates.into_iter().peekable();
        let mut index = 0;
        for job in &mut wave {
            job.parts.retain_mut(|part| {
                let fate = fates.next_if(|(of, _)| *of == index);
                index += 1;
                match fate {
                    None => {
                        shared.counters.count(part.counted, Outcome::Received);
                        false
                    }
                    Some((_, Fate::Replaced)) => false,
                    Some((_, Fate::Letter(letter))) => {
                        (part.record, part.counted) = (letter.record, letter.counted);
                        true
                    }
                    Some((_, Fate::Open)) => true,
                }
            });
        }
    }
    bound.fetch_add(usize::from(is_bound(&wave)), Ordering::SeqCst);
    wave
}

/// Appends records in their order, within a bounded time. Returns those that did not simply go in, by their index,
/// ascending, and notes whether the log is there.
pub(super) async fn into_log(shared: &Shared, records: &[NewRecord<'_>]) -> Vec<(usize, Fate)> {
    let mut fates = Vec::new();
    for (index, error) in produce(shared, records).await {
        let LogError::Refused(detail) = error else {
            fates.push((index, Fate::Open));
            continue;
        };
        let record = &records[index];
        warn!(topic = %record.topic, detail, "the log refused a record");
        let Some(letter) = shared.maker.refused_by_log(record, detail) else {
            fates.push((index, Fate::Open));
            continue;
        };
        let failed = produce(shared, &[letter.record.as_new_record()]).await;
        if failed.is_empty() {
            shared.counters.count(letter.counted, Outcome::Received);
            fates.push((index, Fate::Replaced));
        } else {
            fates.push((index, Fate::Letter(letter)));
        }
    }
    fates
}

async fn produce(shared: &Shared, records: &[NewRecord<'_>]) -> Vec<(usize, LogError)> {
    // Unconstrained: a future made to yield before it has its place in the log would lose it to those behind it.
    let produced = shared.log.produce_all(records, shared.produce_timeout);
    let failed = unconstrained(produced).await;
    let is_away = failed.iter().any(|(_, error)| match error {
        LogError::Refused(_) => false,
        LogError::Unavailable(_) | LogError::Setup(_) | LogError::Closed => true,
    });
    if is_away {
        shared.set_away(true);
    }
    failed
}

/// A payload whose records have their place in the spool.
struct Spooled {
    payload: usize,
    counted: Vec<Counted>,
    appending: Appending,
}

/// Answers a job, or gives its rest a place in the spool, payload by payload, and returns what then answers it.
async fn settle(shared: &Arc<Shared>, job: Job) -> Option<impl Future<Output = ()> + use<>> {
    let Job {
        parts,
        done,
        permit,
    } = job;
    if parts.is_empty() {
        // The caller may have gone; what it sent is kept all the same.
        let _ = done.send(Vec::new());
        return None;
    }
    let mut spooled = Vec::new();
    let mut parts = parts.into_iter().peekable();
    while let Some(first) = parts.next() {
        let payload = first.payload;
        let (mut records, mut counted) = (vec![first.record], vec![first.counted]);
        while let Some(next) = parts.next_if(|next| next.payload == payload) {
            records.push(next.record);
            counted.push(next.counted);
        }
        spooled.push(Spooled {
            payload,
            counted,
            appending: shared.spool.append(records).await,
        });
    }
    let shared = Arc::clone(shared);
    Some(async move {
        let mut failed = Vec::new();
        for spooled in spooled {
            match spooled.appending.durable().await {
                Ok(()) => {
                    for counted in spooled.counted {
                        shared.counters.count(counted, Outcome::Spooled);
                    }
                }
                Err(error) => failed.push((spooled.payload, not_durable(error))),
            }
        }
        shared.show_spool();
        // The caller may have gone; what is in the spool stays there all the same.
        let _ = done.send(failed);
        drop(permit);
    })
}

fn not_durable(error: SpoolError) -> NotDurable {
    match error {
        SpoolError::Closed => NotDurable::Closed,
        SpoolError::Full { .. }
        | SpoolError::TooLarge { .. }
        | SpoolError::Io { .. }
        | SpoolError::Locked { .. }
        | SpoolError::Newer { .. } => NotDurable::Spool(error),
    }
}
