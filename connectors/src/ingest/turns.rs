//! What a sender does while its payloads are safe nowhere: it tries again, in order, instead of dropping or reordering.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::{Ingest, NotDurable};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The turns of one sender, one connection for instance.
#[derive(Debug, Default)]
pub struct Turns {
    /// Payloads that wait for their turn or are being tried again; while there are any, new ones queue behind them.
    waiting: AtomicUsize,
    turn: Mutex<()>,
}

/// Counts one that waits for its turn, however it ends.
struct Waiting<'a>(&'a Turns);

impl<'a> Waiting<'a> {
    fn new(turns: &'a Turns) -> Self {
        turns.waiting.fetch_add(1, Ordering::SeqCst);
        Self(turns)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ingest {
    /// As `accept`, and tries again for `patience` while neither log nor spool takes the payload. Payloads of one
    /// sender stay in order, as long as their futures are first polled in that order.
    pub async fn accept_in_turn(
        &self,
        turns: &Turns,
        topic: &str,
        payload: Bytes,
        patience: Duration,
    ) -> Result<(), NotDurable> {
        if turns.waiting.load(Ordering::SeqCst) == 0 {
            match self.accept(topic, payload.clone()).await {
                Ok(()) => return Ok(()),
                Err(NotDurable::Closed) => return Err(NotDurable::Closed),
                Err(NotDurable::Spool(_)) => {}
            }
        }
        let _waiting = Waiting::new(turns);
        let _turn = turns.turn.lock().await;
        let deadline = Instant::now() + patience;
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.accept(topic, payload.clone()).await {
                Ok(()) => return Ok(()),
                Err(NotDurable::Spool(_)) if Instant::now() < deadline => {}
                Err(error @ (NotDurable::Spool(_) | NotDurable::Closed)) => return Err(error),
            }
            sleep(backoff).await;
            backoff = BACKOFF_MAX.min(backoff * 2);
        }
    }
}
