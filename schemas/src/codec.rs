//! Records as Avro bytes, in one of two framings: Confluent's (magic byte 0, schema id, datum) where a registry hands
//! out ids, else Avro single-object encoding (marker C3 01, Rabin fingerprint, datum). Reading takes either.
//!
//! Writing takes a topic's newest schema. Reading takes the older ones too: a record names the schema it was written
//! with, the codec knows every one since the first, and Avro's rules resolve it to the newest, whose defaults stand in
//! for what it lacks. Single objects are found by their fingerprint. A Confluent id is known where the registry, asked
//! at the start, held that schema under the topic's subject; one that it gives out later, or under another subject, is
//! not, and neither is any schema newer than the newest here: such records are refused with the id or as unknown.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{AvroResult, Schema};
use model::alert::Alert;
use model::command::{Ack, Command};
use model::metadata::Metadata;
use model::problem::{Battery, Ev, Grid, HeatStore};
use model::reading::{Measurement, Reading};
use model::request::OptimizeRequest;
use model::schedule::{PlannedSlot, Schedule};
use model::slot::HouseholdSlot;
use model::tariff::Tariff;
use model::units::HouseholdId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dead_letter::DeadLetter;
use crate::topic::Topic;
use crate::weather::WeatherForecast;

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

    /// Says what breaks the rules that a schema cannot state, such as a household id of 0.
    fn check(&self) -> Result<(), &'static str>;
}

/// Why bytes and value do not go together.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{bytes} bytes hold no framing")]
    Framing { bytes: usize },
    #[error("schema id {id} is none of topic {topic}")]
    UnknownId { topic: Topic, id: u32 },
    #[error("fingerprint is none of topic {topic}")]
    UnknownFingerprint { topic: Topic },
    #[error("{topic} record does not decode: {reason}")]
    Decode { topic: Topic, reason: String },
    #[error("{topic} record has {bytes} bytes behind its end")]
    Trailing { topic: Topic, bytes: usize },
    #[error("{topic} record breaks a rule: {rule}")]
    Rule { topic: Topic, rule: &'static str },
    #[error("{topic} record does not encode: {reason}")]
    Encode { topic: Topic, reason: String },
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
                bytes.extend_from_slice(&known.newest.fingerprint);
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
        value
            .check()
            .map_err(|rule| CodecError::Rule { topic, rule })?;
        Ok(value)
    }

    /// The version that `bytes` name, and the datum behind.
    fn framed<'b>(
        &self,
        topic: Topic,
        bytes: &'b [u8],
    ) -> Result<(&'static Version, &'b [u8]), CodecError> {
        let known = known(topic);
        let framing = CodecError::Framing { bytes: bytes.len() };
        if let Some(rest) = bytes.strip_prefix(&SINGLE_OBJECT_MARKER) {
            let (fingerprint, datum) = rest.split_first_chunk::<8>().ok_or(framing)?;
            let named = known
                .versions()
                .find(|version| version.fingerprint == *fingerprint);
            let version = named.ok_or(CodecError::UnknownFingerprint { topic })?;
            return Ok((version, datum));
        }
        let Some(rest) = bytes.strip_prefix(&[CONFLUENT_MAGIC]) else {
            return Err(framing);
        };
        let (id, datum) = rest.split_first_chunk::<4>().ok_or(framing)?;
        let id = u32::from_be_bytes(*id);
        let ours = self.ids.as_ref().map(|ids| &ids[&topic]);
        let named = ours.and_then(|ids| {
            let ids = std::iter::once(Some(ids.newest)).chain(ids.older.iter().copied());
            let mut named = ids.zip(known.versions()).filter(|(of, _)| *of == Some(id));
            named.next().map(|(_, version)| version)
        });
        let version = named.ok_or(CodecError::UnknownId { topic, id })?;
        Ok((version, datum))
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
        Topic::Telemetry
        | Topic::Tariffs
        | Topic::WeatherForecast
        | Topic::Commands
        | Topic::Acks
        | Topic::DeadLetters
        | Topic::Alerts
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
    fingerprint: [u8; 8],
    reader: GenericDatumReader<'static>,
    is_newest: bool,
}

impl Version {
    /// The schema that values are `written` with, read as a value of `newest`.
    fn of(written: &'static Schema, newest: &'static Schema) -> Self {
        let is_newest = std::ptr::eq(written, newest);
        let reader = GenericDatumReader::builder(written)
            .maybe_reader_schema((!is_newest).then_some(newest))
            .build();
        let fingerprint = written.fingerprint::<Rabin>().bytes;
        Self {
            fingerprint: fingerprint
                .try_into()
                .expect("a Rabin fingerprint has eight bytes"),
            reader: reader.expect("our own schema resolves"),
            is_newest,
        }
    }

    fn read<T: DeserializeOwned>(&self, datum: &mut &[u8]) -> AvroResult<T> {
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
            let older = older.iter().map(|written| Version::of(written, newest));
            let known = Known {
                writer: writer.expect("our own schema resolves"),
                newest: Version::of(newest, newest),
                older: older.collect(),
            };
            (*topic, known)
        };
        schemas.iter().map(resolve).collect()
    });
    &known[&topic]
}

const BAD_ID: &str = "household_id is not positive";

fn check_id(id: HouseholdId) -> Result<(), &'static str> {
    if id.get() > 0 { Ok(()) } else { Err(BAD_ID) }
}

fn check_finite(numbers: &[f64]) -> Result<(), &'static str> {
    if numbers.iter().all(|number| number.is_finite()) {
        Ok(())
    } else {
        Err("a number is not finite")
    }
}

impl Message for Reading {
    const TOPIC: Topic = Topic::Telemetry;

    fn check(&self) -> Result<(), &'static str> {
        check_id(self.household_id)?;
        match self.measurement {
            Measurement::Meter { consumption_w } => check_finite(&[consumption_w]),
            Measurement::Pv { pv_w } => check_finite(&[pv_w]),
            Measurement::Battery { soc_pct, power_w } => check_finite(&[soc_pct, power_w]),
        }
    }
}

impl Message for Metadata {
    const TOPIC: Topic = Topic::Households;

    fn check(&self) -> Result<(), &'static str> {
        check_id(self.household_id)?;
        check_finite(&[self.pv_capacity_kw])?;
        check_grid(self.grid)?;
        self.battery.as_ref().map_or(Ok(()), |battery| {
            check_finite(&[
                battery.capacity_kwh,
                battery.min_soc_kwh,
                battery.max_soc_kwh,
                battery.charge_kw,
                battery.discharge_kw,
                battery.charge_efficiency,
                battery.discharge_efficiency,
                battery.wear_cost_per_kwh,
            ])
        })
    }
}

impl Message for Tariff {
    const TOPIC: Topic = Topic::Tariffs;

    fn check(&self) -> Result<(), &'static str> {
        for period in &self.periods {
            check_finite(&[period.buy_per_kwh, period.sell_per_kwh])?;
            if period.start_ms >= period.end_ms {
                return Err("a period ends before it starts");
            }
        }
        let ascends = self
            .periods
            .windows(2)
            .all(|pair| pair[0].end_ms <= pair[1].start_ms);
        if ascends {
            Ok(())
        } else {
            Err("periods overlap or do not ascend")
        }
    }
}

impl Message for WeatherForecast {
    const TOPIC: Topic = Topic::WeatherForecast;

    fn check(&self) -> Result<(), &'static str> {
        for period in &self.periods {
            check_finite(&[period.ghi_w_per_m2, period.temperature_c])?;
        }
        Ok(())
    }
}

impl Message for OptimizeRequest {
    const TOPIC: Topic = Topic::OptimizeRequests;

    fn check(&self) -> Result<(), &'static str> {
        check_id(self.household_id)?;
        let problem = &self.problem;
        for series in [
            &problem.load_kw,
            &problem.pv_kw,
            &problem.buy_price,
            &problem.sell_price,
        ] {
            check_finite(series)?;
        }
        if let Some(battery) = &problem.battery {
            check_battery(battery)?;
        }
        check_grid(problem.grid)?;
        for appliance in &problem.appliances {
            check_finite(&appliance.profile_kw)?;
        }
        problem.evs.iter().try_for_each(check_ev)?;
        problem.heat_stores.iter().try_for_each(check_heat_store)?;
        if let Some(stability) = &problem.stability {
            check_finite(&[stability.battery_cost_per_kwh, stability.start_cost])?;
            check_finite(&stability.soc_change_kwh)?;
        }
        let weights = problem.weights;
        check_finite(&[weights.cost, weights.autarky, weights.revenue])
    }
}

fn check_grid(grid: Grid) -> Result<(), &'static str> {
    let limits = [grid.import_limit_kw, grid.export_limit_kw];
    let limits = limits.map(|limit| limit.unwrap_or(0.0));
    check_finite(&limits)?;
    check_finite(&[grid.peak_price_per_kw, grid.peak_kw])
}

fn check_battery(battery: &Battery) -> Result<(), &'static str> {
    check_finite(&[
        battery.capacity_kwh,
        battery.soc_kwh,
        battery.min_soc_kwh,
        battery.max_soc_kwh,
        battery.charge_kw,
        battery.discharge_kw,
        battery.charge_efficiency,
        battery.discharge_efficiency,
        battery.end_soc_min_kwh,
        battery.end_value_per_kwh,
        battery.wear_cost_per_kwh,
    ])
}

fn check_ev(ev: &Ev) -> Result<(), &'static str> {
    check_finite(&[
        ev.capacity_kwh,
        ev.soc_kwh,
        ev.min_soc_kwh,
        ev.goal_soc_kwh,
        ev.charge_kw,
        ev.min_charge_kw,
        ev.discharge_kw,
        ev.charge_efficiency,
        ev.discharge_efficiency,
        ev.end_value_per_kwh,
        ev.wear_cost_per_kwh,
    ])
}

fn check_heat_store(store: &HeatStore) -> Result<(), &'static str> {
    check_finite(&[
        store.power_kw,
        store.kwh_per_k,
        store.loss_kw_per_k,
        store.temperature_c,
        store.min_c,
        store.max_c,
        store.end_value_per_kwh,
    ])?;
    for series in [&store.cop, &store.ambient_c, &store.draw_kw] {
        check_finite(series)?;
    }
    Ok(())
}

impl Message for Schedule {
    const TOPIC: Topic = Topic::Schedules;

    fn check(&self) -> Result<(), &'static str> {
        check_id(self.household_id)?;
        check_finite(&[self.plan.objective, self.plan.gap])?;
        self.plan.slots.iter().try_for_each(check_slot)
    }
}

fn check_slot(slot: &PlannedSlot) -> Result<(), &'static str> {
    check_finite(&[
        slot.load_kw,
        slot.pv_kw,
        slot.grid_import_kw,
        slot.grid_export_kw,
        slot.battery_charge_kw,
        slot.battery_discharge_kw,
        slot.soc_kwh,
        slot.shadow_price,
    ])?;
    for ev in slot.evs.values() {
        check_finite(&[ev.charge_kw, ev.discharge_kw, ev.soc_kwh])?;
    }
    for store in slot.heat.values() {
        check_finite(&[store.power_kw, store.temperature_c])?;
    }
    Ok(())
}

impl Message for Command {
    const TOPIC: Topic = Topic::Commands;

    fn check(&self) -> Result<(), &'static str> {
        check_id(self.household_id)
    }
}

impl Message for Ack {
    const TOPIC: Topic = Topic::Acks;

    fn check(&self) -> Result<(), &'static str> {
        check_id(self.household_id)
    }
}

impl Message for DeadLetter {
    const TOPIC: Topic = Topic::DeadLetters;

    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

impl Message for Alert {
    const TOPIC: Topic = Topic::Alerts;

    fn check(&self) -> Result<(), &'static str> {
        check_id(self.household_id)
    }
}

impl Message for HouseholdSlot {
    const TOPIC: Topic = Topic::Slots;

    fn check(&self) -> Result<(), &'static str> {
        check_id(self.household_id)?;
        let slot = &self.slot;
        for stat in [slot.load_w, slot.pv_w, slot.battery_w] {
            check_finite(&[stat.sum, stat.min, stat.max])?;
        }
        check_finite(&[slot.soc_pct.unwrap_or(0.0)])
    }
}
