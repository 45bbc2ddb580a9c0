//! Encodes values as Avro bytes, in one of two framings: the Confluent wire format (magic byte 0, schema id, datum) with
//! a schema registry, Avro single-object encoding (marker C3 01, Rabin fingerprint, datum) without one. Both are read.
//!
//! Values are written with their topic's newest schema and read with any since the first. A record names the schema it
//! was written with, and Avro's rules resolve it to the newest; defaults fill the missing fields. Single objects are
//! found by their fingerprint. A Confluent id is known if the registry, queried at startup, held that schema under the
//! topic's subject.
//!
//! A record with any other schema was most likely written by a newer build. That is not damage, and it has an error of
//! its own, [`CodecError::Newer`]. A reader of the log must stop there: to continue would lose the record.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{AvroResult, Schema};
use model::limits::LimitError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::next;
use crate::topic::Topic;

mod checks;
mod fingerprints;

use fingerprints::Fingerprint;
#[cfg(test)]
mod tests;

/// Longest array, map, string or byte field that is read, so that a wrong length in a damaged record cannot exhaust
/// memory.
const FIELD_BYTES_MAX: usize = 16 << 20;
const CONFLUENT_MAGIC: u8 = 0;
const SINGLE_OBJECT_MARKER: [u8; 2] = [0xC3, 0x01];

/// A value of one of our topics.
pub trait Message: Serialize + DeserializeOwned {
    /// The topic that it is written to.
    const TOPIC: Topic;

    /// Checks the rules that a schema cannot express: ids are positive, times lie between 1970 and 9999, numbers are
    /// finite and within their range.
    ///
    /// # Errors
    /// Returns the first field that breaks its limit.
    fn check(&self) -> Result<(), LimitError>;
}

/// Why a value could not be encoded or bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes begin with neither framing.
    #[error("{bytes} bytes hold no framing")]
    Framing {
        /// How many there are.
        bytes: usize,
    },
    /// The schema is unknown. The record may be intact: a newer build may read it.
    #[error("{topic} record has schema {schema}, which is newer than this build")]
    Newer {
        /// The topic that was read.
        topic: Topic,
        /// The schema's id or fingerprint.
        schema: String,
    },
    /// The record was written for another topic.
    #[error("{topic} record has a schema of topic {of}")]
    WrongTopic {
        /// The topic that was read.
        topic: Topic,
        /// The topic that the schema belongs to.
        of: Topic,
    },
    /// The record has a Confluent id, but this codec has no registry.
    #[error("{topic} record has schema id {id}, and registry.url is not set")]
    NoRegistry {
        /// The topic that was read.
        topic: Topic,
        /// The schema's id.
        id: u32,
    },
    /// The datum does not fit its schema.
    #[error("{topic} record does not decode: {reason}")]
    Decode {
        /// The topic that was read.
        topic: Topic,
        /// What the Avro library said.
        reason: String,
    },
    /// There are bytes after the datum.
    #[error("{topic} record has {bytes} bytes after its end")]
    Trailing {
        /// The topic that was read.
        topic: Topic,
        /// How many.
        bytes: usize,
    },
    /// The value breaks a limit.
    #[error("{topic} record breaks a rule: {rule}")]
    Rule {
        /// The topic that was read.
        topic: Topic,
        /// The field and its limit.
        rule: LimitError,
    },
    /// The value does not fit its topic's schema.
    #[error("{topic} record does not encode: {reason}")]
    Encode {
        /// The topic that was written.
        topic: Topic,
        /// What the Avro library said.
        reason: String,
    },
}

impl CodecError {
    /// Returns whether a newer build wrote the record. To continue past such a record would lose it.
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

/// The registry's ids for the schemas of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaIds {
    /// Id of [`schema_json`].
    pub newest: u32,
    /// Ids of [`older_schemas_json`], in the same order; `None` if the registry does not have that schema.
    pub older: Vec<Option<u32>>,
}

/// An encoder and decoder of all topics' values. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Codec {
    /// Ids that the registry gave, by topic; none for single-object encoding, empty until the registry has answered.
    ids: Option<Arc<OnceLock<BTreeMap<Topic, SchemaIds>>>>,
}

impl Codec {
    /// Returns a codec that writes single-object encoding, which needs no registry.
    #[must_use]
    pub const fn single_object() -> Self {
        Self { ids: None }
    }

    /// Returns a codec that writes the Confluent wire format with these ids.
    ///
    /// # Panics
    /// If a topic has no ids, or not exactly one entry for each of its older schemas.
    #[must_use]
    pub fn confluent(ids: BTreeMap<Topic, SchemaIds>) -> Self {
        let codec = Self::until_registered();
        codec.set_registered(ids);
        codec
    }

    /// Writes single-object encoding, which every reader knows, until [`Codec::set_registered`] is called on it or a clone of it.
    #[must_use]
    pub fn until_registered() -> Self {
        Self {
            ids: Some(Arc::default()),
        }
    }

    /// Writes the Confluent wire format with these ids from now on. Changes nothing where it has ids, or is to have none.
    ///
    /// # Panics
    /// Where a topic has no ids, or not one entry for each of its older schemas.
    pub fn set_registered(&self, ids: BTreeMap<Topic, SchemaIds>) {
        for topic in Topic::ALL {
            let ids = ids.get(&topic);
            let older_count = ids.map(|ids| ids.older.len());
            assert_eq!(
                older_count,
                Some(older_schemas_json(topic).len()),
                "the registry was not asked for every schema of {topic}"
            );
        }
        if let Some(known) = &self.ids {
            // The first answer stays.
            let _ = known.set(ids);
        }
    }

    fn ids(&self) -> Option<&BTreeMap<Topic, SchemaIds>> {
        self.ids.as_ref()?.get()
    }

    /// The value as a record's bytes.
    pub fn encode<T: Message>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        let topic = T::TOPIC;
        let known = known(topic);
        let mut bytes = Vec::with_capacity(64);
        match self.ids() {
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

    /// Decodes the value of a record. Any bytes may be given; damaged ones give an error.
    ///
    /// # Errors
    /// `Newer` if the record was most likely written by a newer build; any other variant but `Encode` if it cannot be
    /// used at all.
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

    /// Returns the schema version that `bytes` name, and the datum that follows.
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
        // Registries assign ids from 1.
        if id == 0 {
            return Err(framing);
        }
        let ids = self.ids().ok_or(CodecError::NoRegistry { topic, id })?;
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

/// Returns the error for a record of `topic` whose schema is none of that topic's.
fn none_of(topic: Topic, schema: String, is_of: impl Fn(Topic) -> bool) -> CodecError {
    match Topic::ALL.into_iter().find(|other| is_of(*other)) {
        Some(of) => CodecError::WrongTopic { topic, of },
        None => CodecError::Newer { topic, schema },
    }
}

/// Returns the newest Avro schema of a topic's values, as it is registered.
#[must_use]
pub const fn schema_json(topic: Topic) -> &'static str {
    match topic {
        Topic::Telemetry => next::TELEMETRY,
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

/// Returns the older Avro schemas of a topic's values, as they were registered, oldest first.
#[must_use]
pub const fn older_schemas_json(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::Households => &[
            include_str!("../avro/history/v1/households.avsc"),
            include_str!("../avro/history/v2/households.avsc"),
        ],
        Topic::OptimizeRequests => &[
            include_str!("../avro/history/v1/optimize-requests.avsc"),
            include_str!("../avro/history/v2/optimize-requests.avsc"),
            include_str!("../avro/history/v3/optimize-requests.avsc"),
        ],
        Topic::Schedules => &[
            include_str!("../avro/history/v1/schedules.avsc"),
            include_str!("../avro/history/v2/schedules.avsc"),
        ],
        Topic::Commands => &[include_str!("../avro/history/v1/commands.avsc")],
        Topic::DeadLetters => &[include_str!("../avro/history/v1/dead-letters.avsc")],
        Topic::Tariffs => &[include_str!("../avro/history/v1/tariffs.avsc")],
        Topic::Alerts => &[include_str!("../avro/history/v1/alerts.avsc")],
        Topic::Telemetry => next::TELEMETRY_BEFORE,
        Topic::WeatherForecast | Topic::Acks | Topic::Slots => &[],
    }
}

/// The writer and the readers of a topic's values.
struct Known {
    writer: GenericDatumWriter<'static>,
    newest: Version,
    /// In the order of [`older_schemas_json`].
    older: Vec<Version>,
}

/// One schema of a topic, for reading.
struct Version {
    fingerprint: Fingerprint,
    reader: GenericDatumReader<'static>,
    is_newest: bool,
}

impl Version {
    /// Returns a reader for values `written` with this schema, which resolves them to `newest`.
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
            // Reading directly into the type is faster, but cannot resolve schemas.
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

/// Returns the writer and readers of a topic. Each schema is parsed and resolved once per process.
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
