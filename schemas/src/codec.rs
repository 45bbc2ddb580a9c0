//! Records as Avro bytes, in one of two framings: Confluent's (magic byte 0, schema id, datum) where a registry hands
//! out ids, else Avro single-object encoding (marker C3 01, Rabin fingerprint, datum). Reading takes either.
//!
//! Writing takes a topic's newest schema. Reading takes the older ones too: a record names the schema it was written
//! with, the codec knows every one since the first, and Avro's rules resolve it to the newest, whose defaults stand in
//! for what it lacks. Single objects are found by their fingerprint. A Confluent id is known if the registry, asked at
//! the start, held that schema under the topic's subject.
//!
//! A record with a schema that is none of these was most likely written by a newer build. That is no damage, and its
//! error is one of its own, [`CodecError::Newer`]: whoever reads the log stops there, since to go on would lose it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{AvroResult, Schema};
use model::limits::LimitError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::topic::Topic;

mod checks;
mod fingerprints;

use fingerprints::Fingerprint;
#[cfg(test)]
mod tests;

/// Longest array, map, string or byte field that is read; a length in a damaged record must not take memory.
const FIELD_BYTES_MAX: usize = 16 << 20;
const CONFLUENT_MAGIC: u8 = 0;
const SINGLE_OBJECT_MARKER: [u8; 2] = [0xC3, 0x01];

/// A value of one of our topics.
pub trait Message: Serialize + DeserializeOwned {
    /// Where it is written.
    const TOPIC: Topic;

    /// Says what breaks the rules that a schema cannot state: an id of 0, a time before 1970 or after 9999, a number
    /// that is not finite or beyond its range.
    ///
    /// # Errors
    /// The first field that breaks its limit.
    fn check(&self) -> Result<(), LimitError>;
}

/// Why bytes and value do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("{bytes} bytes hold no framing")]
    Framing { bytes: usize },
    /// The record is whole as far as anyone here can tell: a newer build may read it.
    #[error("{topic} record has schema {schema}, which is newer than this build")]
    Newer { topic: Topic, schema: String },
    #[error("{topic} record has a schema of topic {of}")]
    WrongTopic { topic: Topic, of: Topic },
    #[error("{topic} record has schema id {id}, and registry.url is not set")]
    NoRegistry { topic: Topic, id: u32 },
    #[error("{topic} record does not decode: {reason}")]
    Decode { topic: Topic, reason: String },
    #[error("{topic} record has {bytes} bytes behind its end")]
    Trailing { topic: Topic, bytes: usize },
    #[error("{topic} record breaks a rule: {rule}")]
    Rule { topic: Topic, rule: LimitError },
    #[error("{topic} record does not encode: {reason}")]
    Encode { topic: Topic, reason: String },
}

impl CodecError {
    /// Whether the record comes from a newer build than this. Whoever goes on past it loses it.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        match self {
            Self::Newer { .. } => true,
            Self::Framing { .. }
            | Self::WrongTopic { .. }
            | Self::NoRegistry { .. }
            | Self::Decode { .. }
            | Self::Trailing { .. }
            | Self::Rule { .. }
            | Self::Encode { .. } => false,
        }
    }
}

/// What the registry calls the schemas of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaIds {
    /// Of [`schema_json`].
    pub newest: u32,
    /// Of [`older_schemas_json`], in the same order; `None` where the registry does not hold it.
    pub older: Vec<Option<u32>>,
}

/// Encodes and decodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Codec {
    /// Ids that the registry gave, by topic; none for single-object encoding.
    ids: Option<Arc<BTreeMap<Topic, SchemaIds>>>,
}

impl Codec {
    /// Writes single-object encoding, which needs no registry.
    #[must_use]
    pub const fn single_object() -> Self {
        Self { ids: None }
    }

    /// Writes the Confluent wire format with these ids.
    ///
    /// # Panics
    /// Where a topic has no ids, or not one entry for each of its older schemas.
    #[must_use]
    pub fn confluent(ids: BTreeMap<Topic, SchemaIds>) -> Self {
        for topic in Topic::ALL {
            let ids = ids.get(&topic);
            let older_count = ids.map(|ids| ids.older.len());
            assert_eq!(
                older_count,
                Some(older_schemas_json(topic).len()),
                "the registry was not asked for every schema of {topic}"
            );
        }
        Self {
            ids: Some(Arc::new(ids)),
        }
    }

    /// The value as a record's bytes.
    pub fn encode<T: Message>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        let topic = T::TOPIC;
        let known = known(topic);
        let mut bytes = Vec::with_capacity(64);
        match &self.ids {
            Some(ids) => {
                bytes.push(CONFLUENT_MAGIC);
                bytes.extend_from_slice(&ids[&topic].newest.to_be_bytes());
            }
            None => {
                bytes.extend_from_slice(&SINGLE_OBJECT_MARKER);
                bytes.extend_from_slice(&known.newest.fingerprint.standard);
            }
        }
        let written = known.writer.write_ser(&mut bytes, value);
        written.map_err(|reason| CodecError::Encode {
            topic,
            reason: reason.to_string(),
        })?;
        Ok(bytes)
    }

    /// The value in a record's bytes. Takes any bytes: what is damaged gives an error.
    pub fn decode<T: Message>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        let topic = T::TOPIC;
        let (version, mut datum) = self.framed(topic, bytes)?;
        let read = version.read(&mut datum);
        let value: T = read.map_err(|reason| CodecError::Decode {
            topic,
            reason: reason.to_string(),
        })?;
        if !datum.is_empty() {
            return Err(CodecError::Trailing {
                topic,
                bytes: datum.len(),
            });
        }
        Message::check(&value).map_err(|rule| CodecError::Rule { topic, rule })?;
        Ok(value)
    }

    /// The version that `bytes` name, and the datum behind.
    fn framed<'b>(
        &self,
        topic: Topic,
        bytes: &'b [u8],
    ) -> Result<(&'static Version, &'b [u8]), CodecError> {
        let framing = CodecError::Framing { bytes: bytes.len() };
        if let Some(rest) = bytes.strip_prefix(&SINGLE_OBJECT_MARKER) {
            let (named, datum) = rest.split_first_chunk::<8>().ok_or(framing)?;
            let is_named = |version: &&Version| version.fingerprint.is(*named);
            let find = |topic| known(topic).versions().find(is_named);
            let version = find(topic).ok_or_else(|| {
                let schema = fingerprints::hex(*named);
                none_of(topic, schema, |other| find(other).is_some())
            })?;
            return Ok((version, datum));
        }
        let Some(rest) = bytes.strip_prefix(&[CONFLUENT_MAGIC]) else {
            return Err(framing);
        };
        let (id, datum) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| framing.clone())?;
        let id = u32::from_be_bytes(*id);
        // Registries count from 1.
        if id == 0 {
            return Err(framing);
        }
        let ids = self.ids.as_ref();
        let ids = ids.ok_or(CodecError::NoRegistry { topic, id })?;
        let find = |topic| {
            let ids = &ids[&topic];
            let all = std::iter::once(Some(ids.newest)).chain(ids.older.iter().copied());
            let mut named = all.zip(known(topic).versions());
            named.find_map(|(of, version)| (of == Some(id)).then_some(version))
        };
        let version = find(topic).ok_or_else(|| {
            let schema = format!("id {id}");
            none_of(topic, schema, |other| find(other).is_some())
        })?;
        Ok((version, datum))
    }
}

/// What to say of a record of `topic` whose schema is none of that topic's.
fn none_of(topic: Topic, schema: String, is_of: impl Fn(Topic) -> bool) -> CodecError {
    match Topic::ALL.into_iter().find(|other| is_of(*other)) {
        Some(of) => CodecError::WrongTopic { topic, of },
        None => CodecError::Newer { topic, schema },
    }
}

/// The Avro schema of a topic's values, as it is registered.
#[must_use]
pub const fn schema_json(topic: Topic) -> &'static str {
    match topic {
        Topic::Telemetry => include_str!("../avro/telemetry.avsc"),
        Topic::Households => include_str!("../avro/households.avsc"),
        Topic::Tariffs => include_str!("../avro/tariffs.avsc"),
        Topic::WeatherForecast => include_str!("../avro/weather-forecast.avsc"),
        Topic::OptimizeRequests => include_str!("../avro/optimize-requests.avsc"),
        Topic::Schedules => include_str!("../avro/schedules.avsc"),
        Topic::Commands => include_str!("../avro/commands.avsc"),
        Topic::Acks => include_str!("../avro/acks.avsc"),
        Topic::DeadLetters => include_str!("../avro/dead-letters.avsc"),
        Topic::Alerts => include_str!("../avro/alerts.avsc"),
        Topic::Slots => include_str!("../avro/slots.avsc"),
    }
}

/// The schemas that a topic's values were written with before, as they were registered, the oldest first.
#[must_use]
pub const fn older_schemas_json(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::Households => &[include_str!("../avro/history/v1/households.avsc")],
        Topic::OptimizeRequests => &[include_str!("../avro/history/v1/optimize-requests.avsc")],
        Topic::Schedules => &[include_str!("../avro/history/v1/schedules.avsc")],
        Topic::DeadLetters => &[include_str!("../avro/history/v1/dead-letters.avsc")],
        Topic::Tariffs => &[include_str!("../avro/history/v1/tariffs.avsc")],
        Topic::Alerts => &[include_str!("../avro/history/v1/alerts.avsc")],
        Topic::Telemetry
        | Topic::WeatherForecast
        | Topic::Commands
        | Topic::Acks
        | Topic::Slots => &[],
    }
}

/// What a topic's values are written with, and what they are read with.
struct Known {
    writer: GenericDatumWriter<'static>,
    newest: Version,
    /// In the order of [`older_schemas_json`].
    older: Vec<Version>,
}

/// One schema of a topic, on the reading side.
struct Version {
    fingerprint: Fingerprint,
    reader: GenericDatumReader<'static>,
    is_newest: bool,
}

impl Version {
    /// The schema that values are `written` with, read as a value of `newest`.
    fn of(json: &str, written: &'static Schema, newest: &'static Schema) -> Self {
        let is_newest = std::ptr::eq(written, newest);
        let reader = GenericDatumReader::builder(written)
            .maybe_reader_schema((!is_newest).then_some(newest))
            .build();
        Self {
            fingerprint: Fingerprint::of(json),
            reader: reader.expect("our own schema resolves"),
            is_newest,
        }
    }

    fn read<T: DeserializeOwned>(&self, datum: &mut impl std::io::Read) -> AvroResult<T> {
        if self.is_newest {
            // The way without a value in between, which cannot resolve.
            self.reader.read_deser(datum)
        } else {
            apache_avro::from_value(&self.reader.read_value(datum)?)
        }
    }
}

impl Known {
    fn versions(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.newest).chain(&self.older)
    }
}

/// Each schema is parsed and resolved once a process.
fn known(topic: Topic) -> &'static Known {
    /// The newest schema of a topic, and the older ones.
    type Schemas = (Schema, Vec<Schema>);
    static SCHEMAS: OnceLock<BTreeMap<Topic, Schemas>> = OnceLock::new();
    static KNOWN: OnceLock<BTreeMap<Topic, Known>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        apache_avro::util::max_allocation_bytes(FIELD_BYTES_MAX);
        let schemas = SCHEMAS.get_or_init(|| {
            let parse = |json: &str| Schema::parse_str(json).expect("our own schema parses");
            let of = |topic| {
                let older = older_schemas_json(topic).iter().map(|json| parse(json));
                (parse(schema_json(topic)), older.collect())
            };
            let topics = Topic::ALL.into_iter();
            topics.map(|topic| (topic, of(topic))).collect()
        });
        let resolve = |(topic, (newest, older)): (&Topic, &'static Schemas)| {
            let writer = GenericDatumWriter::builder(newest).build();
            let older = older_schemas_json(*topic).iter().zip(older);
            let older = older.map(|(json, written)| Version::of(json, written, newest));
            let known = Known {
                writer: writer.expect("our own schema resolves"),
                newest: Version::of(schema_json(*topic), newest, newest),
                older: older.collect(),
            };
            (*topic, known)
        };
        schemas.iter().map(resolve).collect()
    });
    &known[&topic]
}
