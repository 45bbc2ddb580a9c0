//! The payloads of one sender, a connection for instance: taken in together, answered in order. While one is safe
//! nowhere it is tried again, and those behind it wait, so that nothing is dropped and no home's order changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::time::{Instant, sleep};

use super::{Ingest, NotDurable};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Payloads on their way, each with a tag that comes back with its answer.
pub struct InTurn<T> {
    ingest: Arc<Ingest>,
    patience: Duration,
    /// Not set going yet.
    fresh: VecDeque<Tried<T>>,
    /// Batches on their way, and how many they hold.
    trying: FuturesOrdered<BoxFuture<'static, Vec<Tried<T>>>>,
    trying_count: usize,
    /// Answered and not handed out yet.
    answered: VecDeque<Tried<T>>,
    /// The first of these was safe nowhere; the others came behind it.
    held: VecDeque<Tried<T>>,
    /// The first of the held ones on its way again.
    again: Option<BoxFuture<'static, Result<(), NotDurable>>>,
}

struct Tried<T> {
    tag: T,
    topic: String,
    payload: Bytes,
    /// `None` where it waits to be tried.
    outcome: Option<Result<(), NotDurable>>,
}

impl<T> std::fmt::Debug for InTurn<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InTurn")
            .field("fresh", &self.fresh.len())
            .field("trying", &self.trying_count)
            .field("answered", &self.answered.len())
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> InTurn<T> {
    /// Nothing on its way yet. A payload that is safe nowhere is given up after `patience`.
    #[must_use]
    pub fn new(ingest: Arc<Ingest>, patience: Duration) -> Self {
        Self {
            ingest,
            patience,
            fresh: VecDeque::new(),
            trying: FuturesOrdered::new(),
            trying_count: 0,
            answered: VecDeque::new(),
            held: VecDeque::new(),
            again: None,
        }
    }

    /// How many have not been handed out. The caller bounds it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fresh.len() + self.trying_count + self.answered.len() + self.held.len()
    }

    /// Whether everything has been handed out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a payload behind the others; `next` sets it going.
    pub fn push(&mut self, topic: String, payload: Bytes, tag: T) {
        self.fresh.push_back(Tried {
            tag,
            topic,
            payload,
            outcome: None,
        });
    }

    /// Puts something behind the others that has its answer already.
    pub fn push_done(&mut self, tag: T) {
        self.fresh.push_back(Tried {
            tag,
            topic: String::new(),
            payload: Bytes::new(),
            outcome: Some(Ok(())),
        });
    }

    /// The next answer, in the order of the pushes; `None` where nothing is on its way. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<(T, Result<(), NotDurable>)> {
        if self.held.is_empty() {
            self.set_going();
            if self.answered.is_empty() {
                self.take_batch().await;
            }
            let tried = self.answered.pop_front()?;
            match tried.outcome {
                Some(outcome @ (Ok(()) | Err(NotDurable::Closed))) => {
                    return Some((tried.tag, outcome));
                }
                Some(Err(NotDurable::Spool(_))) | None => self.held.push_back(tried),
            }
        }
        // Whatever came behind it is answered before it is tried again, or it would be overtaken.
        self.held.append(&mut self.answered);
        while self.trying_count > 0 {
            self.take_batch().await;
            self.held.append(&mut self.answered);
        }
        let first = self.held.front()?;
        if matches!(first.outcome, Some(Ok(()))) {
            return self.held.pop_front().map(|done| (done.tag, Ok(())));
        }
        let again = self.again.get_or_insert_with(|| {
            let (topic, payload) = (first.topic.clone(), first.payload.clone());
            persist(Arc::clone(&self.ingest), topic, payload, self.patience)
        });
        let outcome = again.await;
        self.again = None;
        let first = self.held.pop_front()?;
        if outcome.is_ok() {
            // In front of what came in the meantime.
            self.held.append(&mut self.fresh);
            std::mem::swap(&mut self.held, &mut self.fresh);
        }
        Some((first.tag, outcome))
    }

    /// The next answer where there is one already.
    pub fn next_answered(&mut self) -> Option<(T, Result<(), NotDurable>)> {
        let is_good = |tried: &Tried<T>| matches!(tried.outcome, Some(Ok(())));
        if !self.held.is_empty() || !self.answered.front().is_some_and(is_good) {
            return None;
        }
        let done = self.answered.pop_front()?;
        Some((done.tag, Ok(())))
    }

    /// Sets going what was pushed, in batches that the ingest takes together.
    fn set_going(&mut self) {
        while !self.fresh.is_empty() {
            let lengths = self.fresh.iter().map(|tried| tried.payload.len());
            let count = self.ingest.together(lengths);
            let batch: Vec<Tried<T>> = self.fresh.drain(..count).collect();
            self.trying_count += batch.len();
            self.trying
                .push_back(attempt(Arc::clone(&self.ingest), batch));
        }
    }

    /// Waits for the oldest batch on its way, where there is one.
    async fn take_batch(&mut self) {
        if let Some(batch) = self.trying.next().await {
            self.trying_count -= batch.len();
            self.answered.extend(batch);
        }
    }
}

/// Tries those of a batch that have not been taken in yet.
fn attempt<T: Send + 'static>(
    ingest: Arc<Ingest>,
    mut batch: Vec<Tried<T>>,
) -> BoxFuture<'static, Vec<Tried<T>>> {
    let open = |tried: &Tried<T>| !matches!(tried.outcome, Some(Ok(())));
    Box::pin(async move {
        let tried = batch.iter().filter(|tried| open(tried));
        let payloads: Vec<(&str, &Bytes)> = tried
            .map(|tried| (tried.topic.as_str(), &tried.payload))
            .collect();
        let failed = if payloads.is_empty() {
            Vec::new()
        } else {
            ingest.accept_all(&payloads).await
        };
        drop(payloads);
        let mut failed = failed.into_iter().peekable();
        let tried = batch.iter_mut().filter(|tried| open(tried));
        for (index, tried) in tried.enumerate() {
            let failure = failed.next_if(|(of, _)| *of == index);
            tried.outcome = Some(failure.map_or(Ok(()), |(_, error)| Err(error)));
        }
        batch
    })
}

fn persist(
    ingest: Arc<Ingest>,
    topic: String,
    payload: Bytes,
    patience: Duration,
) -> BoxFuture<'static, Result<(), NotDurable>> {
    Box::pin(async move {
        let deadline = Instant::now() + patience;
        let mut backoff = BACKOFF_MIN;
        loop {
            match ingest.accept(&topic, payload.clone()).await {
                Ok(()) => return Ok(()),
                Err(NotDurable::Spool(_)) if Instant::now() < deadline => {}
                Err(error @ (NotDurable::Spool(_) | NotDurable::Closed)) => return Err(error),
            }
            sleep(backoff).await;
            backoff = BACKOFF_MAX.min(backoff * 2);
        }
    })
}
