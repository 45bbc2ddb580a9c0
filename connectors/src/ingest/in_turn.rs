//! The payloads of one sender, a connection for instance: taken in together, answered in order. While one is safe
//! nowhere it is tried again, and those behind it wait, so that nothing is dropped and no home's order changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, ready};
use futures::stream::FuturesOrdered;
use tokio::time::{Instant, sleep};

use super::{Ingest, NotDurable};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Payloads on their way, each with a tag that comes back with its answer.
pub struct InTurn<T> {
    ingest: Arc<Ingest>,
    patience: Duration,
    trying: FuturesOrdered<BoxFuture<'static, Tried<T>>>,
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
            .field("trying", &self.trying.len())
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
            trying: FuturesOrdered::new(),
            held: VecDeque::new(),
            again: None,
        }
    }

    /// How many have not been answered. The caller bounds it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trying.len() + self.held.len()
    }

    /// Whether everything has been answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a payload behind the others; `next` sets it going.
    pub fn push(&mut self, topic: String, payload: Bytes, tag: T) {
        let fresh = Tried {
            tag,
            topic,
            payload,
            outcome: None,
        };
        if self.held.is_empty() {
            let attempt = attempt(Arc::clone(&self.ingest), fresh);
            self.trying.push_back(attempt);
        } else {
            self.trying.push_back(Box::pin(ready(fresh)));
        }
    }

    /// Puts something behind the others that has its answer already.
    pub fn push_done(&mut self, tag: T) {
        let done = Tried {
            tag,
            topic: String::new(),
            payload: Bytes::new(),
            outcome: Some(Ok(())),
        };
        self.trying.push_back(Box::pin(ready(done)));
    }

    /// The next answer, in the order of the pushes; `None` where nothing is on its way. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<(T, Result<(), NotDurable>)> {
        if self.held.is_empty() {
            let tried = self.trying.next().await?;
            match tried.outcome {
                Some(outcome @ (Ok(()) | Err(NotDurable::Closed))) => {
                    return Some((tried.tag, outcome));
                }
                Some(Err(NotDurable::Spool(_))) | None => self.held.push_back(tried),
            }
        }
        // Whatever came behind it is answered before it is tried again, or it would be overtaken.
        while let Some(tried) = self.trying.next().await {
            self.held.push_back(tried);
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
            for tried in self.held.drain(..) {
                self.trying.push_back(match tried.outcome {
                    Some(Ok(())) => Box::pin(ready(tried)),
                    Some(Err(_)) | None => attempt(Arc::clone(&self.ingest), tried),
                });
            }
        }
        Some((first.tag, outcome))
    }
}

fn attempt<T: Send + 'static>(
    ingest: Arc<Ingest>,
    mut fresh: Tried<T>,
) -> BoxFuture<'static, Tried<T>> {
    Box::pin(async move {
        fresh.outcome = Some(ingest.accept(&fresh.topic, fresh.payload.clone()).await);
        fresh
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
