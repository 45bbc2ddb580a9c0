//! A queue for the payloads of one sender, such as a connection: they are taken in together and answered in the order in
//! which they came. A payload that is not durable is retried, and later ones wait for its answer.
//!
//! Each payload has a slot, which is waiting, under way or answered. The answer of the first slot is the next to be handed
//! out. After a failure one slot at a time is tried, with pauses; after a success all continue.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use platform::retry::Backoff;
use platform::trace::{Caller, Span, SpanKind, Tracer};
use schemas::mqtt;
use tokio::time::{Instant, Sleep, sleep};

use super::config::permits_of;
use super::outcome::{NotDurable, Payload};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Most payloads that are accepted together.
const TOGETHER_MAX: usize = 256;
/// What stands behind `home/{id}/` in topics that homes publish to.
const KINDS: [&str; 6] = ["meter", "pv", "battery", "ack", "ev", "heat"];

/// Takes in payloads; returns them together with those that are not durable.
pub(super) type Accept = Arc<dyn Fn(Vec<Payload>) -> BoxFuture<'static, Accepted> + Send + Sync>;

/// The outcome of payloads that were accepted together.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) payloads: Vec<Payload>,
    /// By index, ascending.
    pub(super) failed: Vec<(usize, NotDurable)>,
}

/// Payloads on their way, each with a tag that comes back with its answer.
pub struct InTurn<T> {
    accept: Accept,
    patience: Duration,
    /// Most permits for payloads accepted together.
    together_max: u32,
    slots: VecDeque<Slot<T>>,
    /// Number of the first slot. Slots are numbered from the first push on.
    first: u64,
    /// No slot before this number is waiting. `None` after a failure, until something succeeds.
    untried: Option<u64>,
    under_way: FuturesUnordered<BoxFuture<'static, Batch>>,
    /// Set while the last answer was a failure; ends when it is time to try again.
    pause: Option<Pin<Box<Sleep>>>,
    backoff: Backoff,
    tracer: Tracer,
}

struct Slot<T> {
    tag: T,
    state: State,
    /// From its push until its answer is handed out.
    _span: Span,
    /// Since when it has been failing.
    failing_since: Option<Instant>,
}

enum State {
    Waiting(Payload),
    UnderWay,
    Answered(Result<(), NotDurable>),
}

/// The answer to slots that were tried together.
struct Batch {
    numbers: Vec<u64>,
    accepted: Accepted,
}

impl<T> std::fmt::Debug for InTurn<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InTurn")
            .field("slots", &self.slots.len())
            .field("is_failing", &self.pause.is_some())
            .finish_non_exhaustive()
    }
}

impl<T> InTurn<T> {
    /// Makes an empty queue. A payload that is not durable is given up after `patience`.
    pub(super) fn new(accept: Accept, together_max: u32, patience: Duration) -> Self {
        Self {
            accept,
            patience,
            together_max,
            slots: VecDeque::new(),
            first: 0,
            untried: Some(0),
            under_way: FuturesUnordered::new(),
            pause: None,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            tracer: Tracer::off(),
        }
    }

    /// Begins traces with `tracer`.
    pub(super) fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Returns how many payloads have no answer handed out yet. The caller bounds this.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether all answers have been handed out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Appends a payload; `next` starts it.
    pub fn push(&mut self, topic: String, bytes: Bytes, tag: T) {
        self.push_from(Caller::Unknown, topic, bytes, tag);
    }

    /// Does the same with what the sender says of its trace.
    pub fn push_from(&mut self, caller: Caller, topic: String, bytes: Bytes, tag: T) {
        let span = received(&self.tracer, caller, &topic, bytes.len());
        let trace = span.context();
        self.push_slot(
            tag,
            State::Waiting(Payload {
                topic,
                bytes,
                trace,
            }),
            span,
        );
    }

    /// Appends a tag that needs no answer from the ingest.
    pub fn push_done(&mut self, tag: T) {
        self.push_slot(tag, State::Answered(Ok(())), Span::none());
    }

    fn push_slot(&mut self, tag: T, state: State, span: Span) {
        self.slots.push_back(Slot {
            tag,
            state,
            _span: span,
            failing_since: None,
        });
    }

    /// Returns the next answer, in the order of the pushes; `None` if the queue is empty. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<(T, Result<(), NotDurable>)> {
        loop {
            if let Some(answered) = self.next_answered() {
                return Some(answered);
            }
            if self.slots.is_empty() {
                return None;
            }
            self.set_going();
            let is_idle = self.under_way.is_empty();
            tokio::select! {
                Some(batch) = self.under_way.next() => self.settle(batch),
                () = until(self.pause.as_mut()), if is_idle => self.try_first(),
            }
        }
    }

    /// Returns the next answer if it is there already.
    pub fn next_answered(&mut self) -> Option<(T, Result<(), NotDurable>)> {
        let first = self.slots.front()?;
        if !matches!(first.state, State::Answered(_)) {
            return None;
        }
        let slot = self.slots.pop_front()?;
        self.first += 1;
        match slot.state {
            State::Answered(outcome) => Some((slot.tag, outcome)),
            State::Waiting(_) | State::UnderWay => None,
        }
    }

    /// Starts waiting slots, in batches that leave room for other senders. Does nothing while something is failing.
    fn set_going(&mut self) {
        let Some(untried) = self.untried else {
            return;
        };
        let end = self.first + self.slots.len() as u64;
        let mut number = untried.max(self.first);
        self.untried = Some(end);
        while number < end {
            let (mut numbers, mut payloads, mut permits) = (Vec::new(), Vec::new(), 0_u32);
            while number < end && payloads.len() < TOGETHER_MAX {
                let state = &mut self.slots[index(self.first, number)].state;
                if let State::Waiting(payload) = state {
                    permits = permits.saturating_add(permits_of(payload.bytes.len()));
                    if permits > self.together_max && !payloads.is_empty() {
                        break;
                    }
                    if let State::Waiting(payload) = std::mem::replace(state, State::UnderWay) {
                        payloads.push(payload);
                        numbers.push(number);
                    }
                }
                number += 1;
            }
            self.send(numbers, payloads);
        }
    }

    /// Tries the first waiting slot after a pause. All slots before it have their answers.
    fn try_first(&mut self) {
        self.pause = None;
        for (slot, number) in self.slots.iter_mut().zip(self.first..) {
            if matches!(slot.state, State::Waiting(_))
                && let State::Waiting(payload) = std::mem::replace(&mut slot.state, State::UnderWay)
            {
                return self.send(vec![number], vec![payload]);
            }
        }
    }

    fn send(&self, numbers: Vec<u64>, payloads: Vec<Payload>) {
        if payloads.is_empty() {
            return;
        }
        let accepting = (self.accept)(payloads);
        self.under_way.push(Box::pin(async move {
            Batch {
                numbers,
                accepted: accepting.await,
            }
        }));
    }

    fn settle(&mut self, batch: Batch) {
        let Accepted { payloads, failed } = batch.accepted;
        let mut failed = failed.into_iter().peekable();
        let mut is_failing = false;
        for (at, (number, payload)) in batch.numbers.into_iter().zip(payloads).enumerate() {
            let slot = &mut self.slots[index(self.first, number)];
            slot.state = match failed.next_if(|(of, _)| *of == at) {
                None => State::Answered(Ok(())),
                Some((_, error @ NotDurable::Closed)) => State::Answered(Err(error)),
                Some((_, error @ NotDurable::Spool(_))) => {
                    is_failing = true;
                    let since = *slot.failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < self.patience {
                        State::Waiting(payload)
                    } else {
                        State::Answered(Err(error))
                    }
                }
            };
        }
        if is_failing {
            self.untried = None;
            let pause = self.backoff.next_pause();
            self.pause.get_or_insert_with(|| Box::pin(sleep(pause)));
        } else if self.pause.is_none() {
            // Slots that failed earlier may be waiting anywhere.
            self.backoff.reset();
            self.untried = self.untried.or(Some(self.first));
        }
    }
}

/// Begins the span of a message, up to its acknowledgement.
fn received(tracer: &Tracer, caller: Caller, topic: &str, bytes: usize) -> Span {
    let household_id = mqtt::household_of_topic(topic);
    let mut span = tracer.head(SpanKind::Consumer, caller, || {
        // What kind of topic, and not which one: names of spans are few.
        let kind = topic.split('/').nth(2).filter(|_| household_id.is_some());
        let kind = kind.filter(|kind| KINDS.contains(kind));
        kind.map_or_else(|| "receive".to_owned(), |kind| format!("receive {kind}"))
    });
    if span.is_recorded() {
        span.set("messaging.system", "mqtt");
        span.set("messaging.operation.type", "receive");
        span.set("messaging.destination.name", topic.to_owned());
        span.set(
            "messaging.message.body.size",
            i64::try_from(bytes).unwrap_or(i64::MAX),
        );
        if let Some(household_id) = household_id {
            span.set("hearth.household_id", household_id.get());
        }
    }
    span
}

/// Returns the index of a slot.
fn index(first: u64, number: u64) -> usize {
    usize::try_from(number - first).expect("as many slots as memory holds")
}

/// Resolves at the end of the pause; never, if there is none.
async fn until(pause: Option<&mut Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "in_turn_tests.rs"]
mod tests;
