//! Puts payloads into the flow in the order in which they come, within a limit on memory.

use std::sync::Arc;

use tokio::sync::{Semaphore, TryAcquireError, broadcast, mpsc, oneshot};

use super::config::permits_of;
use super::decoder::Decoder;
use super::decoding::Decoding;
use super::flow::Job;
use super::outcome::{NotDurable, Payload, RefusalNotice};

/// Most notices that wait for a slow listener; older ones are dropped.
const NOTICES_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Acceptor {
    decoder: Decoder,
    flow: tokio::sync::Mutex<mpsc::Sender<Job>>,
    in_flight: Arc<Semaphore>,
    in_flight_max: u32,
    notices: broadcast::Sender<RefusalNotice>,
}

impl Acceptor {
    pub(super) fn new(decoder: Decoder, flow: mpsc::Sender<Job>, in_flight_max: u32) -> Self {
        Self {
            decoder,
            flow: tokio::sync::Mutex::new(flow),
            in_flight: Arc::new(Semaphore::new(in_flight_max as usize)),
            in_flight_max,
            notices: broadcast::Sender::new(NOTICES_MAX),
        }
    }

    /// Takes in payloads. Returns those that are not durable, by index, ascending.
    pub(super) async fn accept(&self, payloads: &[Payload]) -> Vec<(usize, NotDurable)> {
        let all = |error: NotDurable| {
            let each = (0..payloads.len()).map(|index| (index, error.clone()));
            each.collect()
        };
        // Unconstrained: if tokio made this future yield here, later calls would overtake it.
        match tokio::task::unconstrained(self.enqueue(payloads)).await {
            Ok(wait) => wait.await.unwrap_or_else(|_| all(NotDurable::Closed)),
            Err(error) => all(error),
        }
    }

    /// Puts payloads into the flow. If memory is available immediately, they are decoded before they take their place, so
    /// that senders decode in parallel.
    async fn enqueue(
        &self,
        payloads: &[Payload],
    ) -> Result<oneshot::Receiver<Vec<(usize, NotDurable)>>, NotDurable> {
        let permits = payloads
            .iter()
            .map(|payload| permits_of(payload.bytes.len()));
        let permits = permits
            .fold(0_u32, u32::saturating_add)
            .min(self.in_flight_max);
        let mut permit = match Arc::clone(&self.in_flight).try_acquire_many_owned(permits) {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::NoPermits) => None,
            Err(TryAcquireError::Closed) => return Err(NotDurable::Closed),
        };
        let early = permit.as_ref().map(|_| self.decode(payloads));
        let flow = match self.flow.try_lock() {
            Ok(flow) => flow,
            Err(_) => {
                // The holder of the flow may be waiting for this memory.
                permit = None;
                self.flow.lock().await
            }
        };
        // Keep the flow while waiting for memory, so that no later call overtakes this one.
        let permit = match permit {
            Some(permit) => permit,
            None => Arc::clone(&self.in_flight)
                .acquire_many_owned(permits)
                .await
                .map_err(|_| NotDurable::Closed)?,
        };
        let (done, wait) = oneshot::channel();
        let job = Job {
            decoding: early.unwrap_or_else(|| self.decode(payloads)),
            done,
            permit,
        };
        flow.send(job).await.map_err(|_| NotDurable::Closed)?;
        Ok(wait)
    }

    fn decode(&self, payloads: &[Payload]) -> Decoding {
        Decoding::start(&self.decoder, &self.notices, payloads)
    }

    /// Returns notices of refusals from now on.
    pub(super) fn refusals(&self) -> broadcast::Receiver<RefusalNotice> {
        self.notices.subscribe()
    }

    /// Stops taking payloads, and waits until all earlier calls are answered.
    pub(super) async fn close(&self) {
        let all = self.in_flight.acquire_many(self.in_flight_max).await;
        self.in_flight.close();
        drop(all);
    }
}
