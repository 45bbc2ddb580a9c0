//! What a payload is made of: records for the log, each with what is to be counted once it is durable.

use bytes::Bytes;
use household::reading::Kind;
use schemas::codec::{Codec, CodecError, Message};
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::mqtt::{self, PAYLOAD_BYTES_MAX, Parsed, Refusal};
use schemas::topic::Topic;
use tracing::error;

use super::RefusalNotice;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::spool::Entry;

/// Parts of one payload that are refused one by one; where there are more, the payload is refused as a whole.
const REFUSALS_MAX: usize = 64;
/// How much is kept of a record that the log refuses.
const REFUSED_KEPT_BYTES: usize = 16 * 1024;
/// Longest key of a dead letter whose topic names no home.
const KEY_BYTES_MAX: usize = 256;

/// One record of a payload.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) entry: Entry,
    pub(super) counted: Counted,
}

/// What a record counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Reading(Kind),
    Ack,
    DeadLetter(Reason),
}

impl Counted {
    /// Counts one that is durable.
    pub(super) fn count(self, metrics: &Metrics, outcome: &str) {
        match self {
            Self::Reading(kind) => {
                let labels = [kind.as_str(), outcome];
                metrics.readings_total.with_label_values(&labels).inc();
            }
            Self::Ack => {}
            Self::DeadLetter(reason) => {
                metrics
                    .dead_letters_total
                    .with_label_values(&[reason.as_str()])
                    .inc();
            }
        }
    }
}

/// Makes records of payloads.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    codec: Codec,
    clock: Clock,
    skew_ms: i64,
}

impl Maker {
    pub(super) const fn new(codec: Codec, clock: Clock, skew_ms: i64) -> Self {
        Self {
            codec,
            clock,
            skew_ms,
        }
    }

    /// The records of a payload, in its order, and what to tell the home where something was refused.
    pub(super) fn parts(&self, topic: &str, payload: &Bytes) -> (Vec<Part>, Option<RefusalNotice>) {
        let now_ms = self.clock.now_ms();
        let Parsed {
            readings,
            acks,
            refusals,
        } = mqtt::parse(topic, payload, now_ms, self.skew_ms);
        let notice = refusals.last().and_then(|last| {
            Some(RefusalNotice {
                household_id: mqtt::household_of_topic(topic)?,
                refused: refusals.len() as u64,
                reason: last.reason,
                detail: last.detail.clone(),
            })
        });
        let mut parts = Vec::with_capacity(readings.len() + acks.len() + refusals.len());
        for reading in &readings {
            let counted = Counted::Reading(reading.measurement.kind());
            let encoded = self.record(topic, reading.household_id.to_string(), reading, counted);
            parts.extend(encoded);
        }
        for ack in &acks {
            parts.extend(self.record(topic, ack.household_id.to_string(), ack, Counted::Ack));
        }
        for refusal in bounded(refusals, payload) {
            parts.extend(self.dead_letter(topic, refusal));
        }
        (parts, notice)
    }

    /// The dead letter of a record that the log refuses for good, whose key was `key`.
    pub(super) fn refused_by_log(&self, entry: &Entry, detail: String) -> Option<Part> {
        let source = entry.topic.as_str();
        // Much shorter than what was refused, so that this one is not.
        let kept_bytes = entry.value.len().min(REFUSED_KEPT_BYTES);
        let mut refusal = refusal(Reason::Oversized, detail, &entry.value[..kept_bytes]);
        refusal.payload_bytes = entry.value.len();
        let mut part = self.dead_letter(source, refusal)?;
        part.entry.key.clone_from(&entry.key);
        Some(part)
    }

    fn record<T: Message>(
        &self,
        topic: &str,
        key: String,
        message: &T,
        counted: Counted,
    ) -> Option<Part> {
        match self.codec.encode(message) {
            Ok(value) => Some(Part {
                entry: Entry {
                    topic: T::TOPIC,
                    key: key.into_bytes(),
                    value,
                },
                counted,
            }),
            Err(error) => {
                let detail = format!("cannot be encoded: {error}");
                self.dead_letter(topic, refusal(Reason::Undecodable, detail, &[]))
            }
        }
    }

    fn dead_letter(&self, source: &str, refusal: Refusal) -> Option<Part> {
        let key = mqtt::household_of_topic(source).map_or_else(
            || source.as_bytes()[..source.len().min(KEY_BYTES_MAX)].to_vec(),
            |household_id| household_id.to_string().into_bytes(),
        );
        let reason = refusal.reason;
        let letter = DeadLetter {
            source: source.to_owned(),
            partition: None,
            offset: None,
            reason,
            detail: refusal.detail,
            refused_ms: self.clock.now_ms(),
            payload_bytes: i64::try_from(refusal.payload_bytes).unwrap_or(i64::MAX),
            payload: refusal.payload,
        };
        let encoded: Result<Vec<u8>, CodecError> = self.codec.encode(&letter);
        match encoded {
            Ok(value) => Some(Part {
                entry: Entry {
                    topic: Topic::DeadLetters,
                    key,
                    value,
                },
                counted: Counted::DeadLetter(reason),
            }),
            Err(error) => {
                error!(%error, source, "a dead letter cannot be encoded");
                None
            }
        }
    }
}

fn refusal(reason: Reason, detail: String, payload: &[u8]) -> Refusal {
    Refusal {
        reason,
        detail,
        payload: payload[..payload.len().min(PAYLOAD_BYTES_MAX)].to_vec(),
        payload_bytes: payload.len(),
    }
}

/// The refusals themselves, or one for the whole payload, so that a small payload cannot become a flood of records.
fn bounded(refusals: Vec<Refusal>, payload: &[u8]) -> Vec<Refusal> {
    let count = refusals.len();
    if count <= REFUSALS_MAX {
        return refusals;
    }
    let first = refusals.into_iter().next();
    let whole = |first: Refusal| {
        let detail = format!("{count} elements refused, the first: {}", first.detail);
        refusal(first.reason, detail, payload)
    };
    first.map(whole).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use schemas::codec::Codec;
    use schemas::dead_letter::{DeadLetter, Reason};

    use super::{Counted, Maker};
    use crate::clock::Clock;

    #[test]
    fn a_flood_of_bad_elements_is_one_dead_letter() {
        let maker = Maker::new(Codec::single_object(), Clock::wall(), 0);
        let payload = Bytes::from(format!("[{}1]", "1,".repeat(100_000)));
        let (parts, notice) = maker.parts("home/7/meter", &payload);
        assert_eq!(notice.unwrap().refused, 100_001);
        let [part] = parts.as_slice() else {
            panic!("{} parts", parts.len())
        };
        assert!(matches!(part.counted, Counted::DeadLetter(_)));
        assert_eq!(part.entry.key, b"7");
        let letter: DeadLetter = Codec::single_object().decode(&part.entry.value).unwrap();
        assert_eq!(letter.payload, payload);
        assert_ne!(letter.reason, Reason::Oversized);
    }
}
