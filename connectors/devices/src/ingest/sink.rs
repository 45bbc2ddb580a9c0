//! Decides where records go: into the log, or into the spool while the log is away or the spool is not empty.

use std::sync::Arc;
use std::time::Duration;

use platform::log::{Log, LogError, NewRecord};
use platform::metrics::Metrics;
use platform::report::Outage;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tracing::warn;

use super::decoder::{Counters, DecodedRecord, Decoder, StoredIn};
use crate::spool::Spool;

pub(super) struct Sink {
    pub(super) log: Arc<dyn Log>,
    pub(super) spool: Spool,
    decoder: Decoder,
    pub(super) counters: Counters,
    metrics: Metrics,
    pub(super) produce_timeout: Duration,
    /// Whether the log did not answer last time.
    away: watch::Sender<bool>,
    outage: Outage,
}

/// What is left to do for a record that was not appended to the log.
#[derive(Debug)]
pub(super) enum Remainder {
    /// Nothing: the log refused it permanently and has its dead letter.
    Nothing,
    /// The log refused it permanently, and is away for the dead letter.
    Letter(DecodedRecord),
    /// Everything: the log is away.
    Record,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("spool", &self.spool)
            .finish_non_exhaustive()
    }
}

impl Sink {
    pub(super) fn new(
        log: Arc<dyn Log>,
        spool: Spool,
        decoder: Decoder,
        metrics: Metrics,
        produce_timeout: Duration,
    ) -> Self {
        Self {
            // A record that was given up here must not arrive later.
            produce_timeout: produce_timeout.max(log.gives_up_after()),
            log,
            spool,
            decoder,
            counters: Counters::new(metrics.clone()),
            metrics,
            away: watch::Sender::new(false),
            outage: Outage::of("log"),
        }
    }

    /// Returns a receiver that is told when the log goes away or comes back.
    pub(super) fn away(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }

    /// Notes that the log has answered.
    pub(super) fn set_back(&self) {
        self.outage.succeeded();
        self.away.send_if_modified(std::mem::take);
    }

    fn set_away(&self, error: &LogError) {
        self.outage
            .failed(format_args!("{error}; records go to the spool"));
        self.away
            .send_if_modified(|away| !std::mem::replace(away, true));
    }

    /// Returns whether a new payload goes to the spool rather than to the log.
    pub(super) fn must_spool(&self) -> bool {
        *self.away.borrow() || !self.spool.is_empty()
    }

    pub(super) fn show_spool(&self) {
        let bytes = i64::try_from(self.spool.bytes()).unwrap_or(i64::MAX);
        self.metrics.spool_bytes.set(bytes);
        let damaged = self.spool.take_damaged();
        self.metrics.spool_damaged_total.inc_by(damaged);
    }

    /// Appends records in order, within a bounded time. Returns those that were not appended, by index, ascending. Notes
    /// whether the log is available.
    pub(super) async fn append(&self, records: &[NewRecord<'_>]) -> Vec<(usize, Remainder)> {
        let mut remainders = Vec::new();
        for (index, error) in self.produce(records).await {
            let remainder = match error {
                LogError::Refused(detail) => self.replace(&records[index], detail).await,
                LogError::Unavailable(_) | LogError::Setup(_) | LogError::Closed => {
                    Remainder::Record
                }
            };
            remainders.push((index, remainder));
        }
        remainders
    }

    /// Writes a dead letter for a record that the log refused.
    async fn replace(&self, record: &NewRecord<'_>, detail: String) -> Remainder {
        warn!(topic = %record.topic, detail, "the log refused a record");
        let Some(letter) = self.decoder.refused_by_log(record, detail) else {
            return Remainder::Record;
        };
        let failed = self.produce(&[letter.as_new_record()]).await;
        if failed.is_empty() {
            self.counters.count(letter.counted, StoredIn::Log);
            Remainder::Nothing
        } else {
            Remainder::Letter(letter)
        }
    }

    async fn produce(&self, records: &[NewRecord<'_>]) -> Vec<(usize, LogError)> {
        // Unconstrained: if tokio made this future yield before it has its place in the log, later ones would overtake it.
        let produced = self.log.produce_all(records, self.produce_timeout);
        let failed = unconstrained(produced).await;
        let is_away = |error: &&LogError| match error {
            LogError::Refused(_) => false,
            LogError::Unavailable(_) | LogError::Setup(_) | LogError::Closed => true,
        };
        if let Some(error) = failed.iter().map(|(_, error)| error).find(is_away) {
            self.set_away(error);
        }
        failed
    }
}
