use std::path::PathBuf;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use model::alert::{Alert, AlertKind};
use model::asset::{AssetReading, AssetState};
use model::command::{Ack, AckStatus, Command};
use model::metadata::Metadata;
use model::problem::{Ev, HeatStore, Problem, Scenario, Stability};
use model::reading::{Measurement, Reading};
use model::request::OptimizeRequest;
use model::schedule::Schedule;
use model::slot::{HouseholdSlot, Slot};
use model::tariff::{PricePeriod, Tariff};
use model::units::HouseholdId;
use proptest::prelude::*;

use self::homes::{metadata, metadata_v1, metadata_v2};
use self::samples::{
    command, command_v1, request, request_v1, request_v2, request_v3, schedule, schedule_v1,
    schedule_v2,
};
use super::fingerprints::{Fingerprint, hex};
use super::{Codec, CodecError, Message, SchemaIds, known, older_schemas_json, schema_json};
use crate::dead_letter::{DeadLetter, Reason};
use crate::telemetry::Telemetry;
use crate::time::TS_MS_MAX;
use crate::topic::Topic;
use crate::weather::{WeatherForecast, WeatherPeriod};

mod homes;
mod refusals;
mod samples;

const START_MS: i64 = 1_757_671_200_000;

fn id() -> HouseholdId {
    HouseholdId::new(42).unwrap()
}

fn meter() -> Reading {
    reading(Measurement::Meter {
        consumption_w: 450.5,
    })
}

fn asset(id_text: &str, state: AssetState) -> AssetReading {
    AssetReading {
        household_id: id(),
        id: id_text.to_owned(),
        ts_ms: START_MS,
        state,
    }
}

fn reading(measurement: Measurement) -> Reading {
    Reading {
        household_id: id(),
        ts_ms: START_MS,
        measurement,
    }
}

/// What the first version of the schema could express.
fn tariff_v1() -> Tariff {
    Tariff {
        stated: Vec::new(),
        name: "dynamic".to_owned(),
        periods: vec![PricePeriod {
            start_ms: START_MS,
            end_ms: START_MS + 3_600_000,
            buy_per_kwh: -0.05,
            sell_per_kwh: 0.01,
        }],
    }
}

fn tariff() -> Tariff {
    Tariff {
        stated: vec![17],
        ..tariff_v1()
    }
}

fn weather() -> WeatherForecast {
    WeatherForecast {
        location: "48.14,11.58".to_owned(),
        issued_ms: START_MS,
        periods: vec![WeatherPeriod {
            start_ms: START_MS,
            end_ms: START_MS + 3_600_000,
            ghi_w_per_m2: 612.5,
            temperature_c: -3.25,
        }],
    }
}

fn ack() -> Ack {
    Ack {
        household_id: id(),
        command_id: "42-1757671200000-1-0".to_owned(),
        ts_ms: START_MS,
        status: AckStatus::Rejected,
        reason: "manual override".to_owned(),
    }
}

fn dead_letter(reason: Reason) -> DeadLetter {
    DeadLetter {
        source: "home/42/meter".to_owned(),
        partition: None,
        offset: Some(7),
        reason,
        detail: "consumption_w is missing".to_owned(),
        refused_ms: START_MS,
        payload_bytes: 4,
        payload: vec![0, 159, 146, 150],
    }
}

/// What the first version of the schema could express.
fn alert_v1() -> Alert {
    Alert {
        household_id: id(),
        ts_ms: START_MS,
        kind: AlertKind::SocLimit,
        detail: "SoC is 2 percent".to_owned(),
    }
}

fn alert() -> Alert {
    Alert {
        kind: AlertKind::CommandRejected,
        detail: "the device rejected command 42-1757671200000-1-0".to_owned(),
        ..alert_v1()
    }
}

fn slot() -> HouseholdSlot {
    let mut slot = Slot::empty(START_MS, 15);
    slot.add(
        START_MS,
        &Measurement::Meter {
            consumption_w: 450.5,
        },
    );
    slot.add(
        START_MS + 60_000,
        &Measurement::Meter {
            consumption_w: 50.0,
        },
    );
    let battery = Measurement::Battery {
        soc_pct: 57.5,
        power_w: -800.0,
    };
    slot.add(START_MS + 61_000, &battery);
    HouseholdSlot {
        household_id: id(),
        slot,
    }
}

fn confluent() -> Codec {
    let ids = Topic::ALL.into_iter().zip(100..).map(|(topic, newest)| {
        let older = (200..).zip(older_schemas_json(topic));
        let older = older.map(|(id, _)| Some(id)).collect();
        (topic, SchemaIds { newest, older })
    });
    Codec::confluent(ids.collect())
}

/// Checks that the value survives a round trip in both framings with the same datum, and that the stored bytes of `file`
/// still decode to it and are still what is written. `GOLDEN={file}` writes the file of a new version.
#[track_caller]
fn check<T: Message + PartialEq + std::fmt::Debug>(file: &str, value: &T) {
    let single = Codec::single_object().encode(value).unwrap();
    let framed = confluent().encode(value).unwrap();
    assert_eq!(single[10..], framed[5..], "one datum under two framings");
    assert_eq!(framed[0], 0);
    for codec in [Codec::single_object(), confluent()] {
        assert_eq!(&codec.decode::<T>(&single).unwrap(), value);
    }
    assert_eq!(&confluent().decode::<T>(&framed).unwrap(), value);

    if option_env!("GOLDEN") == Some(file) {
        std::fs::write(golden(file), &single).unwrap();
    }
    let stored = stored(file);
    for codec in [Codec::single_object(), confluent()] {
        assert_eq!(&codec.decode::<T>(&stored).unwrap(), value);
    }
    // The fingerprint before the datum may be the former one; both are tested below.
    assert_eq!(stored[10..], single[10..], "today's bytes of {file}");
}

/// Checks that the stored bytes of `file`, written by an older version, still decode to the value, also under an older id.
#[track_caller]
fn check_older<T: Message + PartialEq + std::fmt::Debug>(file: &str, value: &T) {
    let stored = stored(file);
    for codec in [Codec::single_object(), confluent()] {
        assert_eq!(&codec.decode::<T>(&stored).unwrap(), value);
    }
    let today = Codec::single_object().encode(value).unwrap();
    assert_ne!(stored[..10], today[..10], "{file} has today's schema");
    let framed = |id: u32| [&[0], id.to_be_bytes().as_slice(), &stored[10..]].concat();
    let older = older_schemas_json(T::TOPIC);
    let named: [u8; 8] = stored[2..10].try_into().unwrap();
    let wrote = |json: &&str| Fingerprint::of(json).is(named);
    let of = |index: usize| 200 + u32::try_from(index).unwrap();
    let id = of(older.iter().position(wrote).unwrap());
    assert_eq!(&confluent().decode::<T>(&framed(id)).unwrap(), value);
    assert!(matches!(
        confluent().decode::<T>(&framed(999)),
        Err(CodecError::Newer { .. })
    ));
}

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{file}.bin"))
}

#[expect(clippy::disallowed_methods, reason = "golden samples are files")]
fn stored(file: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(golden(file))
        .and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut bytes));
    read.unwrap_or_else(|error| panic!("read {file}: {error}"));
    bytes
}

#[test]
fn every_value_survives_and_golden_samples_decode() {
    check("v2-meter", &Telemetry::Reading(meter()));
    let ev = AssetState::Ev {
        plugged: true,
        soc_pct: Some(41.5),
        power_w: 7_200.0,
        departure_ms: Some(START_MS + 3_600_000),
        goal_pct: None,
    };
    check("v2-ev", &Telemetry::Asset(asset("zoé", ev)));
    let heat = AssetState::Heat {
        temperature_c: 48.5,
        power_w: 900.0,
    };
    check("v2-heat", &Telemetry::Asset(asset("tank", heat)));
    check("v3-household", &metadata());
    check("v2-tariff", &tariff());
    check("v1-weather", &weather());
    check("v4-request", &request());
    check("v3-schedule", &schedule());
    check("v2-command", &command());
    check("v1-ack", &ack());
    check("v2-dead-letter", &dead_letter(Reason::PastTime));
    check("v2-alert", &alert());
    check("v1-slot", &slot());
}

#[test]
fn records_of_older_versions_decode() {
    check_older("v1-meter", &Telemetry::Reading(meter()));
    check_older("v1-meter", &meter());
    check_older("v1-pv", &reading(Measurement::Pv { pv_w: 1_200.0 }));
    let battery = Measurement::Battery {
        soc_pct: 57.5,
        power_w: -800.0,
    };
    check_older("v1-battery", &Telemetry::Reading(reading(battery)));
    check_older("v1-household", &metadata_v1());
    check_older("v2-household", &metadata_v2());
    check_older("v1-request", &request_v1());
    check_older("v2-request", &request_v2());
    check_older("v3-request", &request_v3());
    check_older("v1-schedule", &schedule_v1());
    check_older("v2-schedule", &schedule_v2());
    check_older("v1-command", &command_v1());
    check_older("v1-dead-letter", &dead_letter(Reason::MissingField));
    check_older("v1-tariff", &tariff_v1());
    check_older("v1-alert", &alert_v1());
}

/// Load and PV that both flow come back as what is left of them, to the nearest 10 W.
#[test]
fn a_scenario_travels_as_its_net_load() {
    let mut request = request_v1();
    request.problem.scenarios = vec![Scenario {
        weight: 1.0,
        load_kw: vec![1.0, 0.304, 0.0],
        pv_kw: vec![0.25, 2.0, 0.004],
    }];
    let codec = Codec::single_object();
    let bytes = codec.encode(&request).unwrap();
    request.problem.scenarios = vec![Scenario {
        weight: 1.0,
        load_kw: vec![0.75, 0.0, 0.0],
        pv_kw: vec![0.0, 1.7, 0.0],
    }];
    assert_eq!(codec.decode::<OptimizeRequest>(&bytes).unwrap(), request);
}

#[test]
fn a_request_with_thirty_scenarios_of_a_day_is_short() {
    let mut request = request_v1();
    let problem = &mut request.problem;
    // Neighbouring slots differ by up to 2 kW.
    let uneven = |slot: usize, of: usize| ((slot * 37 + of * 11) % 100) as f64 / 50.0;
    let series = |of: usize| (0..96).map(|slot| uneven(slot, of)).collect::<Vec<_>>();
    let scenario = |of: usize| Scenario {
        weight: 1.0,
        load_kw: series(of),
        pv_kw: vec![0.0; 96],
    };
    problem.scenarios = (0..30).map(scenario).collect();
    problem.load_kw = series(30);
    problem.pv_kw = series(31);
    problem.buy_price = series(32);
    problem.sell_price = series(33);
    let bytes = Codec::single_object().encode(&request).unwrap();
    assert!(bytes.len() < 9_500, "{}", bytes.len());
}

#[test]
fn every_schema_reads_what_the_others_wrote() {
    for topic in Topic::ALL {
        let newest = Schema::parse_str(schema_json(topic)).unwrap();
        for older in older_schemas_json(topic) {
            let older = Schema::parse_str(older).unwrap();
            let reads = SchemaCompatibility::can_read(&older, &newest);
            assert_eq!(reads.unwrap(), Compatibility::Full, "{topic}");
            // The first dead letters and alerts had no symbol to fall back on, the first telemetry no branch for assets.
            if !matches!(topic, Topic::DeadLetters | Topic::Alerts | Topic::Telemetry) {
                let both_ways = SchemaCompatibility::mutual_read(&older, &newest);
                assert_eq!(both_ways.unwrap(), Compatibility::Full, "{topic}");
            }
        }
    }
}

#[test]
fn what_is_optional_may_be_absent() {
    let codec = Codec::single_object();
    let mut metadata = metadata();
    metadata.battery = None;
    metadata.appliances.clear();
    let bytes = codec.encode(&metadata).unwrap();
    assert_eq!(codec.decode::<Metadata>(&bytes).unwrap(), metadata);
    let mut command = command();
    command.battery = None;
    command.program.pop();
    command.program[0].policy.as_mut().unwrap().battery = None;
    command.program[0].appliances.clear();
    command.program[0].evs.clear();
    command.program[0].heat.clear();
    let bytes = codec.encode(&command).unwrap();
    assert_eq!(codec.decode::<Command>(&bytes).unwrap(), command);
}

#[test]
fn every_reason_has_its_symbol() {
    let codec = Codec::single_object();
    for reason in Reason::ALL {
        let bytes = codec.encode(&dead_letter(reason)).unwrap();
        assert_eq!(codec.decode::<DeadLetter>(&bytes).unwrap().reason, reason);
        let symbol = reason.first_symbol().as_str();
        assert!(schema_json(Topic::DeadLetters).contains(&format!("\"{symbol}\"")));
    }
}

/// One line per schema: file, standard fingerprint, fingerprint of earlier builds. The standard fingerprints were computed
/// with other libraries, as the head of the file says. Before a schema changes, its old version must join the history.
#[test]
fn fingerprints_are_those_of_other_libraries() {
    let golden = include_str!("../../golden/fingerprints.txt");
    let golden: Vec<&str> = golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let mut ours = Vec::new();
    for topic in Topic::ALL {
        let older = older_schemas_json(topic).iter().enumerate();
        let files = older.map(|(index, json)| (format!("history/v{}/{topic}", index + 1), *json));
        let newest = (topic.to_string(), schema_json(topic));
        for (file, json) in files.chain([newest]) {
            let fingerprint = Fingerprint::of(json);
            let (standard, former) = (hex(fingerprint.standard), hex(fingerprint.former));
            ours.push(format!("{file} {standard} {former}"));
        }
    }
    ours.sort();
    assert_eq!(ours, golden);
}

#[test]
fn records_with_a_former_fingerprint_are_read() {
    let value = reading(Measurement::Pv { pv_w: 1.0 });
    let mut bytes = Codec::single_object().encode(&value).unwrap();
    let fingerprint = Fingerprint::of(schema_json(Topic::Telemetry));
    assert_ne!(fingerprint.standard, fingerprint.former);
    assert_eq!(bytes[2..10], fingerprint.standard);
    bytes[2..10].copy_from_slice(&fingerprint.former);
    assert_eq!(
        Codec::single_object().decode::<Reading>(&bytes).unwrap(),
        value
    );
}

#[test]
fn what_a_newer_build_wrote_is_no_damage() {
    let single = Codec::single_object().encode(&request()).unwrap();
    let mut newer = single.clone();
    newer[2] ^= 1;
    for codec in [Codec::single_object(), confluent()] {
        let error = codec.decode::<OptimizeRequest>(&newer).unwrap_err();
        assert!(error.is_newer(), "{error}");
    }
    let framed = |id: u32| [&[0], id.to_be_bytes().as_slice(), &single[10..]].concat();
    let decode = |codec: Codec, id| codec.decode::<OptimizeRequest>(&framed(id));
    let error = decode(confluent(), 999).unwrap_err();
    assert!(error.is_newer());
    assert_eq!(
        error.to_string(),
        "optimize-requests record has schema id 999, which is newer than this build"
    );
    // Damage, and records of other topics.
    let topic = Topic::OptimizeRequests;
    let of = Topic::Telemetry;
    assert_eq!(
        decode(confluent(), 100),
        Err(CodecError::WrongTopic { topic, of })
    );
    assert_eq!(
        decode(Codec::single_object(), 104),
        Err(CodecError::NoRegistry { topic, id: 104 })
    );
    assert!(matches!(
        decode(confluent(), 0),
        Err(CodecError::Framing { .. })
    ));
    let cut = &single[..single.len() - 1];
    let error = confluent().decode::<OptimizeRequest>(cut).unwrap_err();
    assert!(!error.is_newer(), "{error}");
    let error = confluent().decode::<Ack>(&single).unwrap_err();
    let topic = Topic::Acks;
    let of = Topic::OptimizeRequests;
    assert_eq!(error, CodecError::WrongTopic { topic, of });
}

#[test]
fn damage_gives_an_error() {
    let codec = Codec::single_object();
    let value = reading(Measurement::Pv { pv_w: 1.0 });
    let bytes = codec.encode(&value).unwrap();
    let decode = |bytes: &[u8]| codec.decode::<Reading>(bytes);

    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(
        decode(&longer),
        Err(CodecError::Trailing { bytes: 1, .. })
    ));
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(matches!(
        decode(b"{\"household_id\":1}"),
        Err(CodecError::Framing { .. })
    ));
    // The id is the datum's first field: 0 in zigzag is 0.
    let mut nobody = codec.encode(&value).unwrap();
    nobody[10] = 0;
    assert!(matches!(decode(&nobody), Err(CodecError::Rule { .. })));
}

#[test]
fn a_length_in_a_damaged_record_takes_no_memory() {
    let codec = Codec::single_object();
    let mut bytes = codec.encode(&alert()).unwrap();
    // The text's length becomes 2^62.
    let text = bytes.len() - alert().detail.len() - 1;
    bytes.splice(
        text..=text,
        [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    );
    assert!(codec.decode::<Alert>(&bytes).is_err());
}

/// Counts what a decoder reads.
struct Counting<'a> {
    rest: &'a [u8],
    reads_count: usize,
}

impl std::io::Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reads_count += 1;
        self.rest.read(buffer)
    }
}

/// Lengths, in Avro's zigzag encoding, that no record has: large, negative with a size after it, smallest, one too long.
const HOSTILE_LENGTHS: [&[u8]; 7] = [
    &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
    &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
    &[0x80, 0x80, 0x80, 0x10],
    &[0xFF, 0xFF, 0xFF, 0x0F, 0x00],
    &[0x01, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F],
    &[0xFF; 11],
    &[0x80; 64],
];

fn reads_of(topic: Topic, datum: &[u8]) -> usize {
    let mut counting = Counting {
        rest: datum,
        reads_count: 0,
    };
    let version = &known(topic).newest;
    // Another test checks whether it is damage.
    match topic {
        Topic::Telemetry => drop(version.read::<Reading>(&mut counting)),
        Topic::Households => drop(version.read::<Metadata>(&mut counting)),
        Topic::Tariffs => drop(version.read::<Tariff>(&mut counting)),
        Topic::WeatherForecast => drop(version.read::<WeatherForecast>(&mut counting)),
        Topic::OptimizeRequests => drop(version.read::<OptimizeRequest>(&mut counting)),
        Topic::Schedules => drop(version.read::<Schedule>(&mut counting)),
        Topic::Commands => drop(version.read::<Command>(&mut counting)),
        Topic::Acks => drop(version.read::<Ack>(&mut counting)),
        Topic::DeadLetters => drop(version.read::<DeadLetter>(&mut counting)),
        Topic::Alerts => drop(version.read::<Alert>(&mut counting)),
        Topic::Slots => drop(version.read::<HouseholdSlot>(&mut counting)),
    }
    counting.reads_count
}

#[test]
fn hostile_lengths_cost_no_more_than_their_bytes() {
    for sample in samples() {
        let named: [u8; 8] = sample[2..10].try_into().unwrap();
        let topic = Topic::ALL
            .into_iter()
            .find(|topic| known(*topic).newest.fingerprint.is(named));
        let Some(topic) = topic else { continue };
        let datum = &sample[10..];
        for at in 0..datum.len() {
            for length in HOSTILE_LENGTHS {
                let hostile = [&datum[..at], length, &datum[at..]].concat();
                let reads = reads_of(topic, &hostile);
                // A number of eight bytes may be read byte by byte, and the end is met once.
                assert!(
                    reads <= hostile.len() + 1,
                    "{topic}: {reads} of {} at {at}",
                    hostile.len()
                );
            }
        }
    }
}

fn decode_all(codec: &Codec, bytes: &[u8]) -> usize {
    let outcomes = [
        codec.decode::<Reading>(bytes).is_ok(),
        codec.decode::<Metadata>(bytes).is_ok(),
        codec.decode::<Tariff>(bytes).is_ok(),
        codec.decode::<WeatherForecast>(bytes).is_ok(),
        codec.decode::<OptimizeRequest>(bytes).is_ok(),
        codec.decode::<Schedule>(bytes).is_ok(),
        codec.decode::<Command>(bytes).is_ok(),
        codec.decode::<Ack>(bytes).is_ok(),
        codec.decode::<DeadLetter>(bytes).is_ok(),
        codec.decode::<Alert>(bytes).is_ok(),
        codec.decode::<HouseholdSlot>(bytes).is_ok(),
    ];
    outcomes.into_iter().filter(|good| *good).count()
}

fn samples() -> Vec<Vec<u8>> {
    let codec = Codec::single_object();
    vec![
        codec
            .encode(&reading(Measurement::Pv { pv_w: 1.0 }))
            .unwrap(),
        codec.encode(&metadata()).unwrap(),
        codec.encode(&tariff()).unwrap(),
        codec.encode(&weather()).unwrap(),
        codec.encode(&request()).unwrap(),
        codec.encode(&schedule()).unwrap(),
        codec.encode(&command()).unwrap(),
        codec.encode(&ack()).unwrap(),
        codec.encode(&dead_letter(Reason::Poison)).unwrap(),
        codec.encode(&alert()).unwrap(),
        codec.encode(&slot()).unwrap(),
        stored("v1-household"),
        stored("v1-request"),
        stored("v1-schedule"),
        stored("v2-schedule"),
        stored("v1-command"),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&Codec::single_object(), &bytes);
        // With a correct header the bytes reach the decoder.
        for sample in samples() {
            let framed = [&sample[..10], &bytes].concat();
            prop_assert!(decode_all(&Codec::single_object(), &framed) <= 1);
        }
        for (topic, id) in Topic::ALL.into_iter().zip(100_u32..) {
            let mut framed = vec![0];
            framed.extend(id.to_be_bytes());
            framed.extend(&bytes);
            let good = decode_all(&confluent(), &framed);
            prop_assert!(good <= 1, "{topic}: one id, one topic");
        }
    }

    #[test]
    fn no_damage_makes_it_panic(
        sample in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 1..12),
    ) {
        let mut samples = samples();
        let mut bytes = samples.swap_remove(sample.index(samples.len()));
        let at = at.index(bytes.len());
        for (byte, new) in bytes[at..].iter_mut().zip(with) {
            *byte = new;
        }
        prop_assert!(decode_all(&Codec::single_object(), &bytes) <= 1);
    }

    #[test]
    fn any_reading_survives(
        id in 1..=i64::MAX,
        ts_ms in 0..=TS_MS_MAX,
        soc_pct in 0.0..=100.0,
        power_w in -1e7..=1e7,
    ) {
        let reading = Reading {
            household_id: HouseholdId::new(id).unwrap(),
            ts_ms,
            measurement: Measurement::Battery { soc_pct, power_w },
        };
        let codec = confluent();
        prop_assert_eq!(codec.decode::<Reading>(&codec.encode(&reading).unwrap()).unwrap(), reading);
    }

    #[test]
    fn any_stores_survive(
        ids in prop::collection::btree_set(".{0,8}", 0..4),
        numbers in prop::collection::vec(-1e15..=1e15, 6),
        series in prop::collection::vec(-1e15..=1e15, 0..5),
        slot in any::<u32>(),
        time_limit_ms in any::<Option<u32>>(),
    ) {
        let mut request = request();
        let problem = &mut request.problem;
        let (ev, store) = (problem.evs[0].clone(), problem.heat_stores[0].clone());
        problem.evs = ids.iter().map(|id| Ev {
            id: id.clone(),
            departure_slot: slot,
            goal_soc_kwh: numbers[0],
            end_value_per_kwh: numbers[1],
            ..ev.clone()
        }).collect();
        problem.heat_stores = ids.iter().map(|id| HeatStore {
            id: id.clone(),
            temperature_c: numbers[2],
            draw_kw: series.clone(),
            ..store.clone()
        }).collect();
        problem.grid.peak_kw = numbers[3];
        problem.stability = Some(Stability {
            battery_cost_per_kwh: numbers[4],
            start_cost: numbers[5],
            soc_change_kwh: series,
            start_slots: ids.iter().map(|id| (id.clone(), slot)).collect(),
        });
        problem.time_limit_ms = time_limit_ms;
        let codec = confluent();
        let decoded: OptimizeRequest = codec.decode(&codec.encode(&request).unwrap()).unwrap();
        prop_assert_eq!(decoded, request);
    }
}
