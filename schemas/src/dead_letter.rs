//! Dead letters: what was refused, and why.

use serde::{Deserialize, Serialize};

/// Refused input with the reason, the value of the `dead-letters` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "DeadLetterRecord", into = "DeadLetterRecord")]
pub struct DeadLetter {
    /// The MQTT topic or Kafka topic that it came from.
    pub source: String,
    /// Its partition in the log; `None` for MQTT.
    pub partition: Option<i32>,
    /// Its offset in the log; `None` for MQTT.
    pub offset: Option<i64>,
    /// Why it was refused.
    pub reason: Reason,
    /// The details, for people: names the field and the limit.
    pub detail: String,
    /// When it was refused, by the clock of the process that refused it, UTC epoch milliseconds.
    pub refused_ms: i64,
    /// Length of the original, bytes: more than `payload` has if the payload was cut at 256 KiB.
    pub payload_bytes: i64,
    /// The original bytes, at most 256 KiB.
    pub payload: Vec<u8>,
}

/// A dead letter as it stands in a record. Readers with the first schema cannot read new symbols of an Avro enum. So
/// newer reasons are written as one of the first symbols, with the exact reason in `code`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename = "DeadLetter")]
struct DeadLetterRecord {
    source: String,
    partition: Option<i32>,
    offset: Option<i64>,
    reason: Reason,
    code: String,
    detail: String,
    refused_ms: i64,
    payload_bytes: i64,
    #[serde(with = "apache_avro::serde::bytes")]
    payload: Vec<u8>,
}

impl From<DeadLetter> for DeadLetterRecord {
    fn from(letter: DeadLetter) -> Self {
        let reason = letter.reason.first_symbol();
        let code = if reason == letter.reason {
            String::new()
        } else {
            letter.reason.as_str().to_owned()
        };
        Self {
            source: letter.source,
            partition: letter.partition,
            offset: letter.offset,
            reason,
            code,
            detail: letter.detail,
            refused_ms: letter.refused_ms,
            payload_bytes: letter.payload_bytes,
            payload: letter.payload,
        }
    }
}

impl From<DeadLetterRecord> for DeadLetter {
    fn from(record: DeadLetterRecord) -> Self {
        let mut known = Reason::ALL.into_iter();
        // The code of a newer build is unknown here. Fall back to the symbol.
        let exact = known.find(|reason| reason.as_str() == record.code);
        Self {
            source: record.source,
            partition: record.partition,
            offset: record.offset,
            reason: exact.unwrap_or(record.reason),
            detail: record.detail,
            refused_ms: record.refused_ms,
            payload_bytes: record.payload_bytes,
            payload: record.payload,
        }
    }
}

/// Why something became a dead letter; the label `reason` of `hearth_dead_letters_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Larger than 256 KiB.
    Oversized,
    /// Not UTF-8.
    BadUtf8,
    /// Not JSON.
    BadJson,
    /// JSON, but neither an object nor an array of objects.
    NotAnObject,
    /// A required field is missing or null.
    MissingField,
    /// A field has the wrong type.
    WrongType,
    /// NaN or infinite.
    NotFinite,
    /// A number outside the range of its field.
    OutOfRange,
    /// A time that cannot be parsed.
    BadTime,
    /// A time further in the future than the settings allow.
    FutureTime,
    /// A time further in the past than readings are kept, for instance from a clock that was never set.
    PastTime,
    /// A household id that is not a positive 63-bit integer, in the topic or the payload.
    BadHousehold,
    /// The ids in topic and payload differ.
    HouseholdMismatch,
    /// A topic that Hearth does not use.
    UnknownTopic,
    /// A record whose bytes cannot be decoded.
    Undecodable,
    /// A record that made its household's code panic twice.
    Poison,
    /// A value that this home cannot have, judged by its metadata.
    Implausible,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::Oversized,
        Self::BadUtf8,
        Self::BadJson,
        Self::NotAnObject,
        Self::MissingField,
        Self::WrongType,
        Self::NotFinite,
        Self::OutOfRange,
        Self::BadTime,
        Self::FutureTime,
        Self::PastTime,
        Self::BadHousehold,
        Self::HouseholdMismatch,
        Self::UnknownTopic,
        Self::Undecodable,
        Self::Poison,
        Self::Implausible,
    ];

    /// Returns the symbol of the first schema under which this reason is written.
    #[must_use]
    pub const fn first_symbol(self) -> Self {
        match self {
            Self::PastTime => Self::BadTime,
            Self::Implausible => Self::OutOfRange,
            Self::Oversized
            | Self::BadUtf8
            | Self::BadJson
            | Self::NotAnObject
            | Self::MissingField
            | Self::WrongType
            | Self::NotFinite
            | Self::OutOfRange
            | Self::BadTime
            | Self::FutureTime
            | Self::BadHousehold
            | Self::HouseholdMismatch
            | Self::UnknownTopic
            | Self::Undecodable
            | Self::Poison => self,
        }
    }

    /// Returns the metric label, which is also the symbol or code in Avro.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::BadUtf8 => "bad_utf8",
            Self::BadJson => "bad_json",
            Self::NotAnObject => "not_an_object",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::NotFinite => "not_finite",
            Self::OutOfRange => "out_of_range",
            Self::BadTime => "bad_time",
            Self::FutureTime => "future_time",
            Self::PastTime => "past_time",
            Self::BadHousehold => "bad_household",
            Self::HouseholdMismatch => "household_mismatch",
            Self::UnknownTopic => "unknown_topic",
            Self::Undecodable => "undecodable",
            Self::Poison => "poison",
            Self::Implausible => "implausible",
        }
    }
}
