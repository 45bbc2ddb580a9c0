//! Decodes small payloads directly and large ones on a blocking thread, so that they do not hold up the thread that
//! serves connections.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tracing::error;

use super::decoder::{DecodedRecord, Decoder};
use super::outcome::{Payload, RefusalNotice};

/// Largest payload that is decoded directly: about a hundred readings, well below a millisecond.
const AT_ONCE_BYTES_MAX: usize = 16 * 1_024;

#[derive(Debug)]
pub(super) enum Decoding {
    Done(Vec<DecodedRecord>),
    UnderWay(JoinHandle<Vec<DecodedRecord>>),
}

impl Decoding {
    /// Starts to decode. Refusals are sent to `notices`.
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

    /// Returns the records; `None` if the process is ending.
    pub(super) async fn records(self) -> Option<Vec<DecodedRecord>> {
        match self {
            Self::Done(records) => Some(records),
            Self::UnderWay(decoding) => decoding.await.ok(),
        }
    }
}

/// Decodes payloads. If the decoder panics they become dead letters, since their sender would repeat them for ever.
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
        // Without a gateway nobody listens.
        let _ = notices.send(notice);
    }
    records
}
