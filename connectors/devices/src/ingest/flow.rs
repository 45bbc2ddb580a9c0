//! The flow of payloads into the log. Waiting payloads are tried together as one wave. Waves are settled in order, so that
//! payloads enter the spool in the order in which they came.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use platform::lifetime::stopped;
use platform::log::NewRecord;
use platform::trace::Span;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::decoder::{Counted, DecodedRecord, STORED_IN, StoredIn};
use super::decoding::Decoding;
use super::outcome::NotDurable;
use super::sink::{Remainder, Sink};
use crate::spool::{Appending, SpoolError};

/// Most jobs in one wave. The size of each job is bounded too.
const WAVE_JOBS_MAX: usize = 64;

/// Payloads that were accepted together.
#[derive(Debug)]
pub(super) struct Job {
    /// The records of all its payloads, in order.
    pub(super) decoding: Decoding,
    /// Receives the payloads that are not durable.
    pub(super) done: oneshot::Sender<Vec<(usize, NotDurable)>>,
    /// Frees its share of memory when the job ends.
    pub(super) permit: OwnedSemaphorePermit,
}

/// A job whose payloads have been decoded.
#[derive(Debug)]
struct Decoded {
    records: Vec<DecodedRecord>,
    done: oneshot::Sender<Vec<(usize, NotDurable)>>,
    permit: OwnedSemaphorePermit,
}

/// Runs until the ingest stops.
pub(super) async fn run(
    sink: Arc<Sink>,
    mut inbox: mpsc::Receiver<Job>,
    mut stop: watch::Receiver<bool>,
) {
    // Number of waves with records on their way to the spool. Later waves must go there too.
    let bound = AtomicUsize::new(0);
    let mut trying = FuturesOrdered::new();
    let mut appending = FuturesUnordered::new();
    // The next wave. It is appended when all of it has been decoded, and no other wave overtakes it.
    let mut waiting = Vec::with_capacity(WAVE_JOBS_MAX);
    let mut decoding = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some(tried) = trying.next() => {
                let wave: Vec<Decoded> = tried;
                let is_bound = is_bound(&wave);
                for job in wave {
                    if let Some(appended) = settle(&sink, job).await {
                        appending.push(appended);
                    }
                }
                bound.fetch_sub(usize::from(is_bound), Ordering::SeqCst);
            }
            Some(()) = appending.next() => {}
            Some(decoded) = decoding.next() => trying.push_back(attempt(&sink, &bound, decoded)),
            count = inbox.recv_many(&mut waiting, WAVE_JOBS_MAX), if decoding.is_empty() => {
                if count == 0 {
                    return;
                }
                let wave = std::mem::replace(&mut waiting, Vec::with_capacity(WAVE_JOBS_MAX));
                decoding.push_back(decode(wave));
            }
            // Sent only once every job has been answered.
            () = stopped(&mut stop) => return,
        }
    }
}

fn is_bound(wave: &[Decoded]) -> bool {
    wave.iter().any(|job| !job.records.is_empty())
}

/// Waits until a whole wave is decoded.
async fn decode(wave: Vec<Job>) -> Vec<Decoded> {
    let mut decoded = Vec::with_capacity(wave.len());
    for job in wave {
        // If it is dropped without an answer, the sender is told that the ingest is closed.
        if let Some(records) = job.decoding.records().await {
            decoded.push(Decoded {
                records,
                done: job.done,
                permit: job.permit,
            });
        }
    }
    decoded
}

/// Tries the log, unless it is away. Leaves in each job the records that are not durable.
async fn attempt(sink: &Sink, bound: &AtomicUsize, mut wave: Vec<Decoded>) -> Vec<Decoded> {
    if !sink.must_spool() && bound.load(Ordering::SeqCst) == 0 {
        let decoded = wave.iter().flat_map(|job| &job.records);
        let records: Vec<NewRecord<'_>> = decoded.map(DecodedRecord::as_new_record).collect();
        let remainders = sink.append(&records).await;
        drop(records);
        let mut remainders = remainders.into_iter().peekable();
        let mut index = 0;
        for job in &mut wave {
            job.records.retain_mut(|decoded| {
                let remainder = remainders.next_if(|(of, _)| *of == index);
                index += 1;
                match remainder {
                    None => {
                        sink.counters.count(decoded.counted, StoredIn::Log);
                        decoded.span.set(STORED_IN, StoredIn::Log.as_str());
                        false
                    }
                    Some((_, Remainder::Nothing)) => false,
                    Some((_, Remainder::Letter(letter))) => {
                        (decoded.record, decoded.counted) = (letter.record, letter.counted);
                        true
                    }
                    Some((_, Remainder::Record)) => true,
                }
            });
        }
    }
    bound.fetch_add(usize::from(is_bound(&wave)), Ordering::SeqCst);
    wave
}

/// A payload whose records are queued for the spool.
struct Spooled {
    payload: usize,
    counted: Vec<Counted>,
    spans: Vec<Span>,
    appending: Appending,
}

/// Answers a job, or queues its remaining records for the spool, payload by payload, and returns a future that then
/// answers it.
async fn settle(sink: &Arc<Sink>, job: Decoded) -> Option<impl Future<Output = ()> + use<>> {
    let Decoded {
        records,
        done,
        permit,
    } = job;
    if records.is_empty() {
        // The caller may be gone; the payload is kept nevertheless.
        let _ = done.send(Vec::new());
        return None;
    }
    let mut spooled = Vec::new();
    let mut records = records.into_iter().peekable();
    while let Some(first) = records.next() {
        let payload = first.payload;
        let (mut of_payload, mut counted) = (vec![first.record], vec![first.counted]);
        let mut spans = vec![first.span];
        while let Some(next) = records.next_if(|next| next.payload == payload) {
            of_payload.push(next.record);
            counted.push(next.counted);
            spans.push(next.span);
        }
        spooled.push(Spooled {
            payload,
            counted,
            spans,
            appending: sink.spool.append(of_payload).await,
        });
    }
    let sink = Arc::clone(sink);
    Some(async move {
        let mut failed = Vec::new();
        for spooled in spooled {
            match spooled.appending.durable().await {
                Ok(()) => {
                    for mut span in spooled.spans {
                        span.set(STORED_IN, StoredIn::Spool.as_str());
                    }
                    for counted in spooled.counted {
                        sink.counters.count(counted, StoredIn::Spool);
                    }
                }
                Err(error) => failed.push((spooled.payload, not_durable(error))),
            }
        }
        sink.show_spool();
        // The caller may be gone; records in the spool stay there nevertheless.
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
