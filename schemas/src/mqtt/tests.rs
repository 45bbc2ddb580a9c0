use model::asset::AssetState;
use model::command::{BatteryRating, Command, EvOrder, HeatOrder, ProgramEntry};
use model::policy::{self, BatteryPolicy, Mode, SlotPolicy};
use model::reading::Kind;

use super::*;
use crate::corpus::bad_payloads;

const NOW_MS: i64 = 1_757_672_000_000;
const SKEW_MS: i64 = 60_000;
const AGE_MS: i64 = 90 * 86_400_000;
const TIMES: TimeWindow = TimeWindow::around(NOW_MS, AGE_MS, SKEW_MS);

fn id(id: i64) -> HouseholdId {
    HouseholdId::new(id).unwrap()
}

#[track_caller]
fn check(topic: &str, payload: &str, expected: Reading) {
    let parsed = parse(topic, payload.as_bytes(), TIMES);
    assert_eq!(parsed.refusals, []);
    assert_eq!(parsed.readings, [expected]);
}

#[test]
fn good_payloads_are_taken() {
    let reading = |measurement| Reading {
        household_id: id(1),
        ts_ms: 1_757_671_200_000,
        measurement,
    };
    let meter = Measurement::Meter {
        consumption_w: 450.0,
    };
    check(
        "home/1/meter",
        r#"{"household_id":1,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        reading(meter),
    );
    check(
        "home/1/meter",
        r#"[{"household_id":1,"ts":"2025-09-12T12:00:00+02:00","consumption_w":450.0,"x":{}}]"#,
        reading(meter),
    );
    check(
        "home/1/pv",
        r#"{"household_id":1,"ts":"2025-09-12T10:00:00Z","pv_w":-3}"#,
        reading(Measurement::Pv { pv_w: -3.0 }),
    );
    let battery = Measurement::Battery {
        soc_pct: 57.5,
        power_w: -800.0,
    };
    check(
        "home/1/battery",
        r#"{"household_id":1,"ts":"2025-09-12T10:00:00.000Z","soc_pct":57.5,"power_w":-800}"#,
        reading(battery),
    );
}

#[test]
fn readings_of_assets_are_taken() {
    let check = |topic: &str, payload: &str, id_text: &str, state| {
        let parsed = parse(topic, payload.as_bytes(), TIMES);
        let expected = AssetReading {
            household_id: id(1),
            id: id_text.to_owned(),
            ts_ms: 1_757_671_200_000,
            state,
        };
        assert_eq!(parsed.refusals, []);
        assert_eq!(parsed.assets, std::slice::from_ref(&expected));
        assert_eq!(asset_topic(&expected), topic);
        let again = parse(topic, asset_json(&expected).as_bytes(), TIMES);
        assert_eq!(again.assets, [expected]);
    };
    let ev = |soc_pct, departure_ms, goal_pct| AssetState::Ev {
        plugged: true,
        soc_pct,
        power_w: 7_200.0,
        departure_ms,
        goal_pct,
    };
    check(
        "home/1/ev/car",
        r#"{"household_id":1,"ts":"2025-09-12T10:00:00Z","plugged":true,"soc_pct":41.5,"power_w":7200,
            "departure":"2025-09-13T08:00:00+02:00","goal_pct":80}"#,
        "car",
        ev(Some(41.5), Some(1_757_743_200_000), Some(80.0)),
    );
    check(
        "home/1/ev/zoé",
        r#"[{"household_id":1,"ts":"2025-09-12T10:00:00Z","plugged":true,"power_w":7200,"goal_pct":null}]"#,
        "zoé",
        ev(None, None, None),
    );
    check(
        "home/1/heat/tank",
        r#"{"household_id":1,"ts":"2025-09-12T10:00:00Z","temperature_c":48.5,"power_w":900}"#,
        "tank",
        AssetState::Heat {
            temperature_c: 48.5,
            power_w: 900.0,
        },
    );
}

#[test]
fn bad_readings_of_assets_name_the_field() {
    let ev = |fields: &str| {
        format!(
            r#"{{"household_id":1,"ts":"2025-09-12T10:00:00Z","plugged":true,"power_w":0{fields}}}"#
        )
    };
    let whole = ev("");
    for (topic, payload, reason, detail) in [
        (
            "home/1/ev",
            whole.as_str(),
            Reason::UnknownTopic,
            "topic is not",
        ),
        ("home/1/ev/", &whole, Reason::UnknownTopic, "topic is not"),
        (
            "home/1/ev/a/b",
            &whole,
            Reason::UnknownTopic,
            "topic is not",
        ),
        (
            "home/1/ev/a b",
            &whole,
            Reason::UnknownTopic,
            "topic is not",
        ),
        (
            "home/1/meter/a",
            &whole,
            Reason::UnknownTopic,
            "topic is not",
        ),
        (
            "home/2/ev/car",
            &whole,
            Reason::HouseholdMismatch,
            "household_id is 1",
        ),
        (
            "home/1/heat/tank",
            &whole,
            Reason::MissingField,
            "temperature_c is missing",
        ),
        (
            "home/1/ev/car",
            &ev(r#","soc_pct":103"#),
            Reason::OutOfRange,
            "soc_pct is 103",
        ),
        (
            "home/1/ev/car",
            &ev(r#","soc_pct":"NaN""#),
            Reason::NotFinite,
            "soc_pct",
        ),
        (
            "home/1/ev/car",
            &ev(r#","departure":"8:00""#),
            Reason::BadTime,
            "departure is \"8:00\"",
        ),
        (
            "home/1/ev/car",
            &ev(r#","departure":7"#),
            Reason::WrongType,
            "departure is a number",
        ),
        (
            "home/1/ev/car",
            &ev(r#","goal_pct":-3"#),
            Reason::OutOfRange,
            "goal_pct is -3",
        ),
        (
            "home/1/ev/car",
            r#"{"household_id":1,"ts":"2025-09-12T10:00:00Z","plugged":1,"power_w":0}"#,
            Reason::WrongType,
            "plugged is a number, not true or false",
        ),
        (
            "home/1/heat/tank",
            r#"{"household_id":1,"ts":"2025-09-12T10:00:00Z","temperature_c":1001,"power_w":0}"#,
            Reason::OutOfRange,
            "temperature_c is 1001",
        ),
    ] {
        let parsed = parse(topic, payload.as_bytes(), TIMES);
        assert!(parsed.assets.is_empty(), "{topic} {payload}");
        let [refusal] = parsed.refusals.as_slice() else {
            panic!("{topic} {payload}")
        };
        assert_eq!(refusal.reason, reason, "{topic} {payload}");
        assert!(refusal.detail.starts_with(detail), "{}", refusal.detail);
    }
}

#[test]
fn each_bad_payload_has_its_reason() {
    let corpus = bad_payloads();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    for bad in corpus {
        let parsed = parse(bad.topic, &bad.payload, TIMES);
        let reasons: Vec<Reason> = parsed
            .refusals
            .iter()
            .map(|refusal| refusal.reason)
            .collect();
        assert_eq!(reasons, [bad.reason], "{}: {:?}", bad.name, parsed.refusals);
        assert!(
            parsed.readings.is_empty() && parsed.acks.is_empty(),
            "{}",
            bad.name
        );
        assert!(
            parsed.refusals[0].payload.len() <= PAYLOAD_BYTES_MAX,
            "{}",
            bad.name
        );
    }
}

#[test]
fn every_reason_of_a_payload_is_in_the_corpus() {
    let corpus = bad_payloads();
    for reason in Reason::ALL {
        let of_records = matches!(
            reason,
            Reason::Undecodable | Reason::Poison | Reason::Implausible
        );
        assert!(
            of_records || corpus.iter().any(|bad| bad.reason == reason),
            "{reason:?}"
        );
    }
}

#[test]
fn a_bad_element_spoils_no_other() {
    let payload = r#"[{"household_id":1,"ts":"2025-09-12T10:00:00Z","consumption_w":1},
        {"household_id":1,"ts":"2025-09-12T10:01:00Z","consumption_w":"x"},
        {"household_id":1,"ts":"2025-09-12T10:02:00Z","consumption_w":3}]"#;
    let parsed = parse("home/1/meter", payload.as_bytes(), TIMES);
    assert_eq!(parsed.readings.len(), 2);
    assert_eq!(parsed.refusals.len(), 1);
    assert_eq!(parsed.refusals[0].reason, Reason::WrongType);
}

#[test]
fn the_skew_is_exact() {
    let at = |ts_ms: i64| format!(r#"{{"household_id":1,"ts":"{}","pv_w":1}}"#, rfc3339(ts_ms));
    let parsed = parse("home/1/pv", at(NOW_MS + SKEW_MS).as_bytes(), TIMES);
    assert_eq!(parsed.readings.len(), 1);
    let parsed = parse("home/1/pv", at(NOW_MS + SKEW_MS + 1).as_bytes(), TIMES);
    assert_eq!(parsed.refusals[0].reason, Reason::FutureTime);
}

#[test]
fn what_hearth_writes_it_reads() {
    for measurement in [
        Measurement::Meter {
            consumption_w: 450.25,
        },
        Measurement::Pv { pv_w: 0.0 },
        Measurement::Battery {
            soc_pct: 12.5,
            power_w: -1.0,
        },
    ] {
        let reading = Reading {
            household_id: id(42),
            ts_ms: NOW_MS - 1,
            measurement,
        };
        let payload = reading_json(&reading);
        check(&reading_topic(&reading), &payload, reading);
        assert!(Kind::ALL.contains(&measurement.kind()));
    }
    let ack = Ack {
        household_id: id(42),
        command_id: "42-0-1-0".to_owned(),
        ts_ms: NOW_MS,
        status: AckStatus::Rejected,
        reason: "no battery".to_owned(),
    };
    let parsed = parse(&ack_topic(id(42)), ack_json(&ack).as_bytes(), TIMES);
    assert_eq!(parsed.acks, [ack]);
}

#[test]
fn a_program_survives_the_way_to_the_device() {
    let policy = SlotPolicy {
        battery: Some(BatteryPolicy {
            mode: Mode::Hold,
            charge_from_grid_to_kwh: None,
            charge_from_pv_to_kwh: Some(8.0),
            discharge_to_home_to_kwh: Some(0.8),
            discharge_to_grid_to_kwh: None,
            charge_from_excess_to_kwh: Some(7.6),
            discharge_to_excess_to_kwh: None,
            setpoint_kw: None,
            expected_kw: -0.3,
        }),
        import_max_kw: None,
        export_max_kw: Some(2.5),
        value_per_kwh: 0.21,
        reason: policy::Reason::DearLater,
    };
    let ev = EvOrder {
        charge_kw: 0.0,
        surplus: true,
        discharge_max_kw: 0.0,
    };
    let entry = ProgramEntry {
        from_ms: 1_764_244_800_000,
        policy: Some(policy),
        appliances: [("dishwasher".to_owned(), true)].into(),
        evs: [("car".to_owned(), ev)].into(),
        heat: [("tank".to_owned(), HeatOrder { power_kw: 1.2 })].into(),
    };
    let holds = ProgramEntry {
        from_ms: entry.from_ms + 900_000,
        policy: Some(SlotPolicy::setpoint(-1.5)),
        ..entry.clone()
    };
    let says_nothing = ProgramEntry {
        from_ms: entry.from_ms + 1_800_000,
        policy: None,
        ..entry.clone()
    };
    let command = Command {
        command_id: "42-0-1-0".to_owned(),
        household_id: id(42),
        schedule_id: "42-0-1".to_owned(),
        requested_ms: 0,
        issued_ms: entry.from_ms + 1_000,
        expires_ms: entry.from_ms + 2_700_000,
        battery: Some(BatteryRating {
            capacity_kwh: 8.0,
            charge_kw: 5.0,
            discharge_kw: 4.6,
        }),
        program: vec![entry, holds, says_nothing],
    };
    let json = command_json(&command);
    expect_test::expect![[r#"{"version":2,"command_id":"42-0-1-0","household_id":42,"schedule_id":"42-0-1","issued":"2025-11-27T12:00:01Z","expires":"2025-11-27T12:45:00Z","fallback":"self_consumption","program":[{"from":"2025-11-27T12:00:00Z","battery":{"mode":"hold","charge_from_grid_to_pct":null,"charge_from_pv_to_pct":100.0,"discharge_to_home_to_pct":10.0,"discharge_to_grid_to_pct":null,"charge_from_excess_to_pct":95.0,"discharge_to_excess_to_pct":null,"charge_w_max":5000.0,"discharge_w_max":4600.0,"expected_w":-300.0},"grid":{"import_w_max":null,"export_w_max":2500.0},"appliances":{"dishwasher":true},"evs":{"car":{"charge_w":0.0,"surplus":true,"discharge_w_max":0.0}},"heat":{"tank":{"power_w":1200.0}},"value_per_kwh":0.21,"reason":"dear_later"},{"from":"2025-11-27T12:15:00Z","battery":{"mode":"setpoint","charge_from_grid_to_pct":null,"charge_from_pv_to_pct":null,"discharge_to_home_to_pct":null,"discharge_to_grid_to_pct":null,"charge_from_excess_to_pct":null,"discharge_to_excess_to_pct":null,"setpoint_w":-1500.0,"charge_w_max":5000.0,"discharge_w_max":4600.0,"expected_w":-1500.0},"grid":{"import_w_max":null,"export_w_max":null},"appliances":{"dishwasher":true},"evs":{"car":{"charge_w":0.0,"surplus":true,"discharge_w_max":0.0}},"heat":{"tank":{"power_w":1200.0}},"value_per_kwh":0.0,"reason":"fixed"},{"from":"2025-11-27T12:30:00Z","battery":null,"grid":{"import_w_max":null,"export_w_max":null},"appliances":{"dishwasher":true},"evs":{"car":{"charge_w":0.0,"surplus":true,"discharge_w_max":0.0}},"heat":{"tank":{"power_w":1200.0}},"value_per_kwh":null,"reason":null}]}"#]].assert_eq(&json);
    assert_eq!(parse_command(json.as_bytes(), 8.0), Ok(command));
}

/// A device refuses what it cannot carry out.
#[test]
fn a_bad_program_is_refused() {
    let good = r#"{"version":2,"command_id":"42-0-1-0","household_id":42,"schedule_id":"42-0-1",
        "issued":"2025-11-27T12:00:01Z","expires":"2025-11-27T12:15:00Z","fallback":"self_consumption",
        "program":[{"from":"2025-11-27T12:00:00Z","battery":{"mode":"idle","expected_w":0}}]}"#;
    let command = parse_command(good.as_bytes(), 8.0).unwrap();
    let battery = command.program[0].policy.as_ref().unwrap().battery.unwrap();
    assert_eq!(
        (battery.mode, battery.charge_from_pv_to_kwh),
        (Mode::Idle, None)
    );
    for (from, to, error) in [
        ("\"version\":2", "\"version\":1", "version is 1, not 2"),
        (
            "\"idle\"",
            "\"idle\",\"charge_from_pv_to_pct\":101",
            "charge_from_pv_to_pct is 101, 0 to 100",
        ),
        (
            "\"expected_w\":0",
            "\"expected_w\":1e9",
            "expected_w is 1000000000, at most 10000000 either way",
        ),
        (
            "12:15:00Z",
            "11:45:00Z",
            "program is empty or does not ascend up to expires",
        ),
        (
            "2025-11-27T12:00:00Z",
            "noon",
            "from is not an RFC 3339 time with an offset",
        ),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert_eq!(parse_command(bad.as_bytes(), 8.0), Err(error.to_owned()));
    }
    assert!(parse_command(b"[]", 8.0).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(topic in "home/[0-9a-z]{0,3}/(meter|pv|battery|ack|x)", payload: Vec<u8>) {
        let _ = parse(&topic, &payload, TIMES);
    }

    #[test]
    fn no_text_makes_it_panic(payload in "[\\[\\]{}\":,a-zN0-9. \\\\-]{0,80}") {
        let _ = parse("home/7/meter", payload.as_bytes(), TIMES);
    }

    #[test]
    fn the_work_is_bounded_for_any_mix(
        pieces in proptest::collection::vec(
            (0..HOSTILE.len(), 0_usize..2_000), 1..6),
    ) {
        let payload: Vec<u8> = pieces
            .iter()
            .flat_map(|&(kind, bytes)| (HOSTILE[kind].1)(bytes))
            .collect();
        let (_, looked_bytes) = parse_counting("home/7/meter", &payload, TIMES);
        proptest::prop_assert!(looked_bytes <= LOOKS_MAX * payload.len());
    }

    #[test]
    fn the_short_way_takes_only_what_the_long_way_takes_alike(
        channel in proptest::sample::select(vec![Channel::Meter, Channel::Pv, Channel::Battery, Channel::Ack]),
        fields in proptest::collection::vec((field_name(), field_value()), 0..5),
        (open, close) in proptest::sample::select(vec![("{", "}"), (" {", "} "), ("[", "]"), ("{", "},")]),
    ) {
        let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        let text = format!("{open}{}{close}", pairs.join(","));
        check_ways(&text, channel)?;
    }
}

/// Makes payloads of one kind, with about the given number of bytes.
type Hostile = (&'static str, fn(usize) -> Vec<u8>);

const HOSTILE: [Hostile; 28] = [
    ("colons", |bytes| vec![b':'; bytes]),
    ("colons and spaces", |bytes| repeated(": ", bytes)),
    ("spaces", |bytes| vec![b' '; bytes]),
    ("spaces before a word", |bytes| {
        wrapped(":", " ", "x", bytes)
    }),
    ("opening brackets", |bytes| vec![b'['; bytes]),
    ("opening braces", |bytes| vec![b'{'; bytes]),
    ("closing brackets", |bytes| vec![b']'; bytes]),
    ("objects in objects", |bytes| repeated(r#"{"a":"#, bytes)),
    ("arrays in objects in arrays", |bytes| {
        repeated(r#"[{"a":"#, bytes)
    }),
    ("closed arrays in arrays", |bytes| {
        [vec![b'['; bytes / 2], vec![b']'; bytes / 2]].concat()
    }),
    ("closed arrays in an array", |bytes| {
        wrapped("[", "[],", "[]]", bytes)
    }),
    ("quotes", |bytes| vec![b'"'; bytes]),
    ("backslashes", |bytes| vec![b'\\'; bytes]),
    ("escapes in a string", |bytes| {
        wrapped(r#"{"a":""#, r"\\", r#""}"#, bytes)
    }),
    ("escaped quotes, left open", |bytes| {
        wrapped("\"", "\\\"", "", bytes)
    }),
    ("surrogates", |bytes| {
        wrapped("{\"a\":\"", r"\ud800", "\"}", bytes)
    }),
    ("commas", |bytes| vec![b','; bytes]),
    ("bare words", |bytes| repeated("NaN", bytes)),
    ("almost bare words", |bytes| repeated(":nano", bytes)),
    ("signs", |bytes| wrapped(":", "-", "inf", bytes)),
    ("signs in a text", |bytes| {
        wrapped(
            r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","pv_w":""#,
            "-",
            "inf\"}",
            bytes,
        )
    }),
    ("a long number", |bytes| {
        wrapped(r#"{"household_id":7,"pv_w":"#, "9", "}", bytes)
    }),
    ("a long fraction", |bytes| {
        wrapped(r#"{"pv_w":0."#, "0", "1}", bytes)
    }),
    ("a long exponent", |bytes| {
        wrapped(r#"{"pv_w":1e"#, "9", "}", bytes)
    }),
    ("one key again and again", |bytes| {
        wrapped("{", r#""ts":1,"#, "\"ts\":1}", bytes)
    }),
    ("invalid UTF-8", |bytes| vec![0xFF; bytes]),
    ("a long time", |bytes| {
        wrapped(
            r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z"#,
            "[a=b]",
            "\",\"pv_w\":1}",
            bytes,
        )
    }),
    ("objects that lack everything", |bytes| {
        wrapped("[", "{},", "{}]", bytes)
    }),
];

fn repeated(piece: &str, bytes: usize) -> Vec<u8> {
    wrapped("", piece, "", bytes)
}

fn wrapped(before: &str, piece: &str, behind: &str, bytes: usize) -> Vec<u8> {
    let count = bytes.saturating_sub(before.len() + behind.len()) / piece.len();
    [before, &piece.repeat(count), behind].concat().into_bytes()
}

/// Most examinations per byte: five passes, and a search for a word after every second byte.
const LOOKS_MAX: usize = 12;

#[test]
fn the_work_grows_with_the_payload_and_no_faster() {
    for (name, payload) in HOSTILE {
        for bytes in [1 << 10, 8 << 10, 64 << 10, PAYLOAD_BYTES_MAX] {
            let payload = payload(bytes);
            for channel in ["meter", "pv", "battery", "ack"] {
                let topic = format!("home/7/{channel}");
                let (parsed, looked_bytes) = parse_counting(&topic, &payload, TIMES);
                assert_eq!(parsed.readings, [], "{name}");
                assert!(!parsed.refusals.is_empty(), "{name}");
                let count = payload.len();
                assert!(
                    looked_bytes <= LOOKS_MAX * count,
                    "{name}: {looked_bytes} looks at {count} bytes"
                );
                let longest = parsed.refusals.iter().map(|refusal| refusal.detail.len());
                assert!(longest.max() < Some(1_000), "{name}: a detail is short");
            }
        }
    }
}

#[test]
fn a_backlog_of_many_readings_is_taken_in_one_pass_for_each() {
    let one = r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","pv_w":1}"#;
    let payload = wrapped(
        "[",
        &format!("{one},"),
        &format!("{one}]"),
        PAYLOAD_BYTES_MAX,
    );
    let (parsed, looked_bytes) = parse_counting("home/7/pv", &payload, TIMES);
    assert_eq!(parsed.readings.len(), 4_681);
    assert_eq!(parsed.refusals, []);
    assert!(looked_bytes <= 3 * payload.len(), "{looked_bytes}");
}

#[test]
fn ten_thousand_objects_are_refused_each() {
    let payload = ["[", &"{\"x\":[[1]]},".repeat(9_999), "{}]"].concat();
    let (parsed, looked_bytes) = parse_counting("home/7/pv", payload.as_bytes(), TIMES);
    assert_eq!(parsed.refusals.len(), 10_000);
    assert!(looked_bytes <= LOOKS_MAX * payload.len());
}

#[test]
fn times_outside_of_the_window_are_refused() {
    let meter = |ts_ms: i64| {
        format!(
            r#"{{"household_id":1,"ts":"{}","consumption_w":1}}"#,
            rfc3339(ts_ms)
        )
    };
    let reason = |times: TimeWindow, ts_ms: i64| {
        let parsed = parse("home/1/meter", meter(ts_ms).as_bytes(), times);
        parsed.refusals.first().map(|refusal| refusal.reason)
    };
    assert_eq!(reason(TIMES, NOW_MS - AGE_MS), None);
    assert_eq!(reason(TIMES, NOW_MS - AGE_MS - 1), Some(Reason::PastTime));
    assert_eq!(reason(TIMES, i64::MIN), Some(Reason::PastTime));
    assert_eq!(
        reason(TIMES, 4_000_000_000_000_000_000),
        Some(Reason::FutureTime)
    );
    // Readings are kept for ever: only a clock that was never set is refused.
    let for_ever = TimeWindow::around(NOW_MS, i64::MAX, SKEW_MS);
    assert_eq!(reason(for_ever, DEVICE_TS_MS_MIN), None);
    assert_eq!(
        reason(for_ever, DEVICE_TS_MS_MIN - 1),
        Some(Reason::PastTime)
    );
    let parsed = parse("home/1/meter", meter(DEVICE_TS_MS_MIN).as_bytes(), TIMES);
    assert_eq!(
        parsed.refusals[0].detail,
        "ts is 2000-01-01T00:00:00Z, at least 2025-06-14T10:13:20Z: older readings are not kept"
    );
    // The receiver's own clock is absurd.
    for now_ms in [i64::MIN, i64::MAX] {
        let times = TimeWindow::around(now_ms, AGE_MS, SKEW_MS);
        assert!(reason(times, NOW_MS).is_some());
    }
}

fn field_name() -> impl proptest::strategy::Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        r#""household_id""#,
        r#""ts""#,
        r#""consumption_w""#,
        r#""pv_w""#,
        r#""soc_pct""#,
        r#""power_w""#,
        r#""t\u0073""#,
        r#""further""#,
    ])
}

fn field_value() -> impl proptest::strategy::Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "7",
        "8",
        "7.0",
        "-0",
        "-3",
        "99.99999999999999999",
        "1e3",
        "1e999",
        "null",
        "NaN",
        r#""7""#,
        r#""2025-09-12T10:00:00Z""#,
        r#""2025-09-12t12:00:00.5+02:00""#,
        r#""2025-09-12T10:00:00""#,
        r#""2025-09-12T10:00:00\u005a""#,
        r#""1999-01-01T00:00:00Z""#,
        r#""2099-01-01T00:00:00Z""#,
        "[1]",
        r#"{"a":1}"#,
    ])
}

fn source(channel: Channel) -> Source<'static> {
    Source {
        household_id: id(7),
        channel,
        asset: "",
        times: TIMES,
    }
}

/// If the fast path accepts a payload, the full parser must give the same result.
fn check_ways(text: &str, channel: Channel) -> Result<(), proptest::test_runner::TestCaseError> {
    let source = source(channel);
    let Some(short) = plain::reading(text, source) else {
        return Ok(());
    };
    let mut long = Parsed::default();
    let taken = source.take_any(text, &mut long, &mut 0);
    proptest::prop_assert_eq!(taken, Ok(()));
    proptest::prop_assert_eq!(long.readings, [short]);
    Ok(())
}

#[test]
fn what_devices_send_goes_the_short_way() {
    for (channel, text) in [
        (
            Channel::Meter,
            r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450.25}"#,
        ),
        (
            Channel::Pv,
            r#" { "pv_w": -3, "ts": "2025-09-12T12:00:00.5+02:00", "household_id": 7 } "#,
        ),
        (
            Channel::Battery,
            r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","soc_pct":57.5,"power_w":-800}"#,
        ),
    ] {
        assert!(plain::reading(text, source(channel)).is_some(), "{text}");
        check_ways(text, channel).unwrap();
    }
}
