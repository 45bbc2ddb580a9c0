//! Decodes a payload into records for the log, each with what to count once it is durable.

use model::asset::AssetKind;
use model::reading::Kind;
use model::units::HouseholdId;
use prometheus::IntCounter;
use schemas::codec::{Codec, CodecError, Message};
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::mqtt::{self, PAYLOAD_BYTES_MAX, Parsed, Refusal, TimeWindow};
use schemas::telemetry::Telemetry;
use schemas::topic::Topic;
use tracing::error;

use super::outcome::{Payload, RefusalNotice};
use crate::spool::SpooledRecord;
use platform::clock::Clock;
use platform::log::NewRecord;
use platform::metrics::Metrics;
use platform::trace::{Span, Tracer};

/// Most elements of one payload that are refused one by one; with more, the payload is refused as a whole.
const REFUSALS_MAX: usize = 64;
/// How many bytes are kept of a record that the log refuses.
const REFUSED_KEPT_BYTES: usize = 16 * 1024;
/// Most records of one payload that go on with its trace: a backlog has thousands.
const TRACED_MAX: usize = 16;
/// Attribute of a span.
pub(super) const STORED_IN: &str = "hearth.stored_in";
/// Longest key of a dead letter whose topic names no home.
const KEY_BYTES_MAX: usize = 256;

/// One record of a payload.
#[derive(Debug)]
pub(super) struct DecodedRecord {
    /// Index of its payload among those accepted together.
    pub(super) payload: usize,
    pub(super) record: SpooledRecord,
    pub(super) counted: Counted,
    /// Its way into the log.
    pub(super) span: Span,
}

impl DecodedRecord {
    /// Returns it in the form that the log takes.
    pub(super) fn as_new_record(&self) -> NewRecord<'_> {
        NewRecord {
            trace: self.span.context(),
            ..self.record.as_new_record()
        }
    }
}

/// What a record counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Reading(Kind),
    Asset(AssetKind),
    Ack,
    DeadLetter(Reason),
}

/// Where a record became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredIn {
    Log,
    Spool,
}

impl StoredIn {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Spool => "spool",
        }
    }
}

/// Counters of incoming records, looked up once.
#[derive(Debug)]
pub(super) struct Counters {
    metrics: Metrics,
    /// By kind: received, then spooled.
    readings: [[IntCounter; 2]; Kind::ALL.len()],
    assets: [[IntCounter; 2]; AssetKind::ALL.len()],
}

impl Counters {
    pub(super) fn new(metrics: Metrics) -> Self {
        let of = |kind: &str| {
            ["received", "spooled"].map(|outcome| {
                let labels = [kind, outcome];
                metrics.readings_total.with_label_values(&labels)
            })
        };
        let readings = Kind::ALL.map(|kind| of(kind.as_str()));
        let assets = AssetKind::ALL.map(|kind| of(kind.as_str()));
        Self {
            metrics,
            readings,
            assets,
        }
    }

    /// Counts a record that is durable.
    pub(super) fn count(&self, counted: Counted, stored_in: StoredIn) {
        match counted {
            Counted::Reading(kind) => self.readings[kind as usize][stored_in as usize].inc(),
            Counted::Asset(kind) => self.assets[kind as usize][stored_in as usize].inc(),
            Counted::Ack => {}
            Counted::DeadLetter(reason) => {
                let labels = [reason.as_str()];
                let letters = &self.metrics.dead_letters_total;
                letters.with_label_values(&labels).inc();
            }
        }
    }
}

/// Decodes payloads into records. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    codec: Codec,
    clock: Clock,
    age_ms_max: i64,
    skew_ms: i64,
    tracer: Tracer,
}

impl Decoder {
    pub(super) const fn new(codec: Codec, clock: Clock, age_ms_max: i64, skew_ms: i64) -> Self {
        Self {
            codec,
            clock,
            age_ms_max,
            skew_ms,
            tracer: Tracer::off(),
        }
    }

    /// Goes on with the traces of payloads.
    pub(super) fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Returns the records of `payloads` in order, and notices for homes with refused readings.
    pub(super) fn decode(&self, payloads: &[Payload]) -> (Vec<DecodedRecord>, Vec<RefusalNotice>) {
        let (mut records, mut notices) = (Vec::with_capacity(payloads.len()), Vec::new());
        for (number, payload) in payloads.iter().enumerate() {
            let first = records.len();
            notices.extend(self.decode_one(number, &payload.topic, &payload.bytes, &mut records));
            if payload.trace.is_some() {
                for decoded in records[first..].iter_mut().take(TRACED_MAX) {
                    decoded.span = self.tracer.publish(payload.trace, decoded.record.topic);
                }
            }
        }
        (records, notices)
    }

    /// Returns dead letters for payloads on which the decoder failed.
    pub(super) fn give_up(&self, payloads: &[Payload]) -> Vec<DecodedRecord> {
        let payloads = payloads.iter().enumerate();
        let letters = payloads.filter_map(|(number, payload)| {
            let detail = "the decoder failed".to_owned();
            let refusal = refusal(Reason::Undecodable, detail, &payload.bytes);
            let (record, counted) = self.dead_letter(&payload.topic, refusal)?;
            Some(DecodedRecord {
                payload: number,
                record,
                counted,
                span: Span::none(),
            })
        });
        letters.collect()
    }

    fn decode_one(
        &self,
        number: usize,
        topic: &str,
        payload: &[u8],
        records: &mut Vec<DecodedRecord>,
    ) -> Option<RefusalNotice> {
        let times = TimeWindow::around(self.clock.now_ms(), self.age_ms_max, self.skew_ms);
        let Parsed {
            readings,
            assets,
            acks,
            refusals,
        } = mqtt::parse(topic, payload, times);
        let notice = refusals.last().and_then(|last| {
            Some(RefusalNotice {
                household_id: mqtt::household_of_topic(topic)?,
                refused: refusals.len() as u64,
                reason: last.reason,
                detail: last.detail.clone(),
            })
        });
        let mut add = |made: Option<(SpooledRecord, Counted)>| {
            records.extend(made.map(|(record, counted)| DecodedRecord {
                payload: number,
                record,
                counted,
                span: Span::none(),
            }));
        };
        for reading in &readings {
            let counted = Counted::Reading(reading.measurement.kind());
            add(self.record(topic, reading.household_id, reading, counted));
        }
        for reading in assets {
            let (id, counted) = (reading.household_id, Counted::Asset(reading.state.kind()));
            add(self.record(topic, id, &Telemetry::Asset(reading), counted));
        }
        for ack in &acks {
            add(self.record(topic, ack.household_id, ack, Counted::Ack));
        }
        for refusal in bounded(refusals, payload) {
            add(self.dead_letter(topic, refusal));
        }
        notice
    }

    /// Returns the dead letter of a record that the log refused permanently, under the same key.
    pub(super) fn refused_by_log(
        &self,
        record: &NewRecord<'_>,
        detail: String,
    ) -> Option<DecodedRecord> {
        let source = record.topic.as_str();
        // Much shorter than the refused record, so that the log accepts this one.
        let kept_bytes = record.value.len().min(REFUSED_KEPT_BYTES);
        let mut refusal = refusal(Reason::Oversized, detail, &record.value[..kept_bytes]);
        refusal.payload_bytes = record.value.len();
        let (mut letter, counted) = self.dead_letter(source, refusal)?;
        letter.key = record.key.to_vec();
        Some(DecodedRecord {
            payload: 0,
            record: letter,
            counted,
            span: Span::none(),
        })
    }

    fn record<T: Message>(
        &self,
        topic: &str,
        household_id: HouseholdId,
        message: &T,
        counted: Counted,
    ) -> Option<(SpooledRecord, Counted)> {
        match self.codec.encode(message) {
            Ok(value) => {
                let record = SpooledRecord {
                    topic: T::TOPIC,
                    key: household_id.to_string().into_bytes(),
                    value,
                };
                Some((record, counted))
            }
            Err(error) => {
                let detail = format!("cannot be encoded: {error}");
                self.dead_letter(topic, refusal(Reason::Undecodable, detail, &[]))
            }
        }
    }

    fn dead_letter(&self, source: &str, refusal: Refusal) -> Option<(SpooledRecord, Counted)> {
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
            Ok(value) => {
                let record = SpooledRecord {
                    topic: Topic::DeadLetters,
                    key,
                    value,
                };
                Some((record, Counted::DeadLetter(reason)))
            }
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

/// Returns the refusals, or one for the whole payload if they are many, so that a small payload cannot flood the log.
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

    use super::{Counted, Decoder};
    use crate::ingest::Payload;
    use platform::clock::Clock;

    #[test]
    fn a_flood_of_bad_elements_is_one_dead_letter() {
        let decoder = Decoder::new(Codec::single_object(), Clock::wall(), i64::MAX, 0);
        let payload = Payload {
            topic: "home/7/meter".to_owned(),
            bytes: Bytes::from(format!("[{}1]", "1,".repeat(100_000))),
            trace: None,
        };
        let (records, notices) = decoder.decode(std::slice::from_ref(&payload));
        assert_eq!(notices[0].refused, 100_001);
        let [record] = records.as_slice() else {
            panic!("{} records", records.len())
        };
        assert!(matches!(record.counted, Counted::DeadLetter(_)));
        assert_eq!(record.record.key, b"7");
        let letter: DeadLetter = Codec::single_object().decode(&record.record.value).unwrap();
        assert_eq!(letter.payload, payload.bytes);
        assert_ne!(letter.reason, Reason::Oversized);
    }
}
