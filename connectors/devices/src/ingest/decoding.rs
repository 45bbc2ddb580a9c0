//! Payloads on their way through the decoder: small ones at once, large ones on a thread of their own, so that nobody
//! else waits for the thread that serves connections.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tracing::error;

use super::decoder::{DecodedRecord, Decoder};
use super::outcome::{Payload, RefusalNotice};

/// Payloads that are decoded at once: a hundred readings or so, well below a millisecond.
const AT_ONCE_BYTES_MAX: usize = 16 * 1_024;

#[derive(Debug)]
pub(super) enum Decoding {
    Done(Vec<DecodedRecord>),
    UnderWay(JoinHandle<Vec<DecodedRecord>>),
}

impl Decoding {
    /// Begins. Whoever listens to `notices` hears what is refused.
    pub(super) fn start(
        decoder: &Decoder,
        notices: &broadcast::Sender<RefusalNotice>,
        payloads: &[Payload],
    ) -> Self {
        let bytes: usize = payloads.iter().map(|payload| payload.bytes.len()).sum();
        if bytes <= AT_ONCE_BYTES_MAX {
            return Self::Done(decode(decoder, notices, payloads));
        }
        let (decoder, notices, payloads) = (decoder.clone(), notices.clone(), payloads.to_vec());
        Self::UnderWay(tokio::task::spawn_blocking(move || {
            decode(&decoder, &notices, &payloads)
        }))
    }

    /// The records; `None` where the process is ending.
    pub(super) async fn records(self) -> Option<Vec<DecodedRecord>> {
        match self {
            Self::Done(records) => Some(records),
            Self::UnderWay(decoding) => decoding.await.ok(),
        }
    }
}

/// A payload that the decoder panics on is a dead letter like others; its sender would repeat it for ever.
fn decode(
    decoder: &Decoder,
    notices: &broadcast::Sender<RefusalNotice>,
    payloads: &[Payload],
) -> Vec<DecodedRecord> {
    let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(payloads)));
    let Ok((records, refused)) = decoded else {
        error!(payloads = payloads.len(), "the decoder panicked");
        return decoder.give_up(payloads);
    };
    for notice in refused {
        // Nobody listens where there is no gateway.
        let _ = notices.send(notice);
    }
    records
}
