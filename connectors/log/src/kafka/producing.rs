//! Producing to Kafka. Records enter librdkafka's queue in the order given. A call gets one answer for all its records,
//! once the last of them is delivered or has failed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep};

use super::brokers::Brokers;
use super::headers;
use platform::log::NewRecord;

/// Pause before a full queue is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// A producer with one answer for each wave of records.
pub(super) type WaveProducer = ThreadedProducer<Answering>;

/// Receives librdkafka's delivery reports.
#[derive(Debug)]
pub(super) struct Answering(pub(super) Arc<Brokers>);

impl ClientContext for Answering {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl ProducerContext for Answering {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Self::DeliveryOpaque) {
        let failure = result.as_ref().err().map(|(error, _)| error.clone());
        if failure.is_none() {
            self.0.heard();
        }
        ticket.wave.answer(ticket.index, failure);
    }
}

/// A record's wave and index, which come back with its delivery report.
#[derive(Debug)]
pub(super) struct Ticket {
    wave: Arc<Wave>,
    index: usize,
}

/// Records that were produced together.
#[derive(Debug)]
pub(super) struct Wave(Mutex<State>);

#[derive(Debug)]
struct State {
    answered: Vec<bool>,
    left: usize,
    failed: Vec<(usize, KafkaError)>,
    /// Notified when no record is left.
    done: Option<oneshot::Sender<()>>,
}

impl Wave {
    fn answer(&self, index: usize, failure: Option<KafkaError>) {
        let mut state = self.0.lock().expect("no holder panics");
        state.answered[index] = true;
        state.left -= 1;
        state.failed.extend(failure.map(|error| (index, error)));
        if state.left == 0
            && let Some(done) = state.done.take()
        {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// Waits until every record is answered or `deadline` has passed. Returns the failed and the unanswered ones.
    async fn outcome(
        &self,
        done: oneshot::Receiver<()>,
        deadline: Instant,
    ) -> (Vec<(usize, KafkaError)>, Vec<usize>) {
        // After the deadline, what is known by then counts.
        let _ = tokio::time::timeout_at(deadline, done).await;
        let mut state = self.0.lock().expect("no holder panics");
        let failed = std::mem::take(&mut state.failed);
        let unanswered = if state.left == 0 {
            Vec::new()
        } else {
            let answered = state.answered.iter().enumerate();
            let unanswered = answered.filter(|(_, answered)| !**answered);
            unanswered.map(|(index, _)| index).collect()
        };
        (failed, unanswered)
    }
}

/// Gives records to `producer` and waits for the answers. Returns those that failed and those without an answer by
/// `deadline`. Keeps its turn while the queue is full, so that no later call overtakes it.
pub(super) async fn produce<'a>(
    producer: &WaveProducer,
    turn: &tokio::sync::Mutex<()>,
    records: &[NewRecord<'a>],
    name: impl Fn(&NewRecord<'a>) -> &'a str,
    deadline: Instant,
) -> (Vec<(usize, KafkaError)>, Vec<usize>) {
    let (tell, done) = oneshot::channel();
    let wave = Arc::new(Wave(Mutex::new(State {
        answered: vec![false; records.len()],
        left: records.len(),
        failed: Vec::new(),
        done: Some(tell),
    })));
    // Unconstrained: if tokio made this future yield before it has its turn, a later call would overtake it.
    let Ok(in_turn) = tokio::time::timeout_at(deadline, unconstrained(turn.lock())).await else {
        return (Vec::new(), (0..records.len()).collect());
    };
    for (index, record) in records.iter().enumerate() {
        let wave = Arc::clone(&wave);
        let ticket = Box::new(Ticket { wave, index });
        let mut sending = BaseRecord::with_opaque_to(name(record), ticket)
            .key(record.key)
            .payload(record.value);
        if let Some(trace) = record.trace {
            sending = sending.headers(headers::of(trace));
        }
        while let Err((error, back)) = producer.send(sending) {
            let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if !is_full || Instant::now() >= deadline {
                back.delivery_opaque.wave.answer(index, Some(error));
                break;
            }
            sleep(FULL_PAUSE).await;
            sending = back;
        }
    }
    drop(in_turn);
    if records.is_empty() {
        return (Vec::new(), Vec::new());
    }
    wave.outcome(done, deadline).await
}
