//! Payloads that must be refused, each with its reason, for the tests of gateway, bridge and ingest.

use crate::dead_letter::Reason;
use crate::mqtt::PAYLOAD_BYTES_MAX;

/// A payload that must become exactly one dead letter.
#[derive(Debug, Clone)]
pub struct BadPayload {
    /// What is wrong with it, for messages of tests.
    pub name: &'static str,
    /// The MQTT topic that it is sent to.
    pub topic: &'static str,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// The reason that its dead letter must have.
    pub reason: Reason,
}

const METER: &str = "home/7/meter";
const PV: &str = "home/7/pv";
const BATTERY: &str = "home/7/battery";
const ACK: &str = "home/7/ack";

/// Returns every payload. Each is sent to a topic of household 7, unless the topic itself is what is wrong.
#[must_use]
pub fn bad_payloads() -> Vec<BadPayload> {
    let mut all: Vec<BadPayload> = TEXTS
        .iter()
        .map(|&(name, topic, text, reason)| BadPayload {
            name,
            topic,
            payload: text.as_bytes().to_vec(),
            reason,
        })
        .collect();
    all.extend(bytes());
    all
}

fn bytes() -> Vec<BadPayload> {
    let good = br#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#;
    let bad = |name, topic, payload, reason| BadPayload {
        name,
        topic,
        payload,
        reason,
    };
    let mut padded = good.to_vec();
    padded.resize(PAYLOAD_BYTES_MAX + 1, b' ');
    let mut latin1 = br#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","name":""#.to_vec();
    latin1.extend([0xFC, b'"', b'}']);
    let mut cut = "{\"household_id\":7,\"name\":\"ü".as_bytes().to_vec();
    cut.pop();
    let deep = ["[".repeat(300), "]".repeat(300)].concat().into_bytes();
    let deep_object = format!("{}1{}", "{\"a\":".repeat(300), "}".repeat(300)).into_bytes();
    vec![
        bad("padded past the limit", METER, padded, Reason::Oversized),
        bad(
            "far past the limit",
            PV,
            vec![b'x'; 2 * PAYLOAD_BYTES_MAX],
            Reason::Oversized,
        ),
        bad(
            "zeros past the limit",
            BATTERY,
            vec![0; PAYLOAD_BYTES_MAX + 4096],
            Reason::Oversized,
        ),
        bad("Latin-1 umlaut", METER, latin1, Reason::BadUtf8),
        bad("cut inside a character", METER, cut, Reason::BadUtf8),
        bad(
            "UTF-16",
            METER,
            vec![0xFF, 0xFE, b'{', 0, b'}', 0],
            Reason::BadUtf8,
        ),
        bad(
            "compressed",
            PV,
            vec![0x1F, 0x8B, 0x08, 0, 0, 0, 0, 0],
            Reason::BadUtf8,
        ),
        bad("overlong slash", PV, vec![0xC0, 0xAF], Reason::BadUtf8),
        bad(
            "surrogate half",
            PV,
            vec![0xED, 0xA0, 0x80],
            Reason::BadUtf8,
        ),
        bad("zero bytes", BATTERY, vec![0; 16], Reason::BadJson),
        bad("arrays in arrays", METER, deep, Reason::BadJson),
        bad("objects in objects", METER, deep_object, Reason::BadJson),
        bad(
            "only a byte order mark",
            METER,
            vec![0xEF, 0xBB, 0xBF],
            Reason::BadJson,
        ),
        bad(
            "a good payload cut short",
            METER,
            good[..40].to_vec(),
            Reason::BadJson,
        ),
    ]
}

type Text = (&'static str, &'static str, &'static str, Reason);

const TEXTS: &[Text] = &[
    ("empty", METER, "", Reason::BadJson),
    ("blank", METER, "   \n", Reason::BadJson),
    ("a word", METER, "hello", Reason::BadJson),
    ("CSV", METER, "7,2025-09-12T10:00:00Z,450", Reason::BadJson),
    (
        "single quotes",
        METER,
        "{'household_id':7}",
        Reason::BadJson,
    ),
    (
        "a comma too many",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450,}"#,
        Reason::BadJson,
    ),
    (
        "something behind the end",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450} x"#,
        Reason::BadJson,
    ),
    (
        "an array left open",
        METER,
        r#"[{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::BadJson,
    ),
    (
        "hexadecimal",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":0x1C2}"#,
        Reason::BadJson,
    ),
    (
        "a lone surrogate in an escape",
        METER,
        r#"{"household_id":7,"ts":"\ud800"}"#,
        Reason::BadJson,
    ),
    ("XML", PV, "<pv>1200</pv>", Reason::BadJson),
    ("a number", METER, "450", Reason::NotAnObject),
    ("a string", METER, r#""450""#, Reason::NotAnObject),
    ("null", METER, "null", Reason::NotAnObject),
    ("true", PV, "true", Reason::NotAnObject),
    ("an array of a number", METER, "[450]", Reason::NotAnObject),
    ("an array in an array", METER, "[[]]", Reason::NotAnObject),
    ("an empty object", METER, "{}", Reason::MissingField),
    (
        "no household",
        METER,
        r#"{"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::MissingField,
    ),
    (
        "no time",
        METER,
        r#"{"household_id":7,"consumption_w":450}"#,
        Reason::MissingField,
    ),
    (
        "no load",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z"}"#,
        Reason::MissingField,
    ),
    (
        "load is null",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":null}"#,
        Reason::MissingField,
    ),
    (
        "time is null",
        METER,
        r#"{"household_id":7,"ts":null,"consumption_w":450}"#,
        Reason::MissingField,
    ),
    (
        "household is null",
        METER,
        r#"{"household_id":null,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::MissingField,
    ),
    (
        "a meter's field on the PV topic",
        PV,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::MissingField,
    ),
    (
        "a name in capitals",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","Consumption_W":450}"#,
        Reason::MissingField,
    ),
    (
        "battery without power",
        BATTERY,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","soc_pct":50}"#,
        Reason::MissingField,
    ),
    (
        "battery without SoC",
        BATTERY,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","power_w":50}"#,
        Reason::MissingField,
    ),
    (
        "ack without a command",
        ACK,
        r#"{"ts":"2025-09-12T10:00:00Z","status":"applied"}"#,
        Reason::MissingField,
    ),
    (
        "ack without a status",
        ACK,
        r#"{"command_id":"7-1-0","ts":"2025-09-12T10:00:00Z"}"#,
        Reason::MissingField,
    ),
    (
        "load as text",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":"450"}"#,
        Reason::WrongType,
    ),
    (
        "load with a unit",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":"450 W"}"#,
        Reason::WrongType,
    ),
    (
        "load as a boolean",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":true}"#,
        Reason::WrongType,
    ),
    (
        "load as an array",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":[450]}"#,
        Reason::WrongType,
    ),
    (
        "load as an object",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":{"value":450}}"#,
        Reason::WrongType,
    ),
    (
        "household as text",
        METER,
        r#"{"household_id":"7","ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::WrongType,
    ),
    (
        "time in seconds",
        METER,
        r#"{"household_id":7,"ts":1757671200,"consumption_w":450}"#,
        Reason::WrongType,
    ),
    (
        "command as a number",
        ACK,
        r#"{"command_id":7,"ts":"2025-09-12T10:00:00Z","status":"applied"}"#,
        Reason::WrongType,
    ),
    (
        "status as a boolean",
        ACK,
        r#"{"command_id":"7-1-0","ts":"2025-09-12T10:00:00Z","status":true}"#,
        Reason::WrongType,
    ),
    (
        "NaN",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":NaN}"#,
        Reason::NotFinite,
    ),
    (
        "nan with a space",
        PV,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","pv_w": nan }"#,
        Reason::NotFinite,
    ),
    (
        "Infinity",
        PV,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","pv_w":Infinity}"#,
        Reason::NotFinite,
    ),
    (
        "-Infinity",
        BATTERY,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","soc_pct":50,"power_w":-Infinity}"#,
        Reason::NotFinite,
    ),
    (
        "beyond a double",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":1e999}"#,
        Reason::NotFinite,
    ),
    (
        "NaN as text",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":"NaN"}"#,
        Reason::NotFinite,
    ),
    (
        "negative load",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":-450}"#,
        Reason::OutOfRange,
    ),
    (
        "load of a power station",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":1e12}"#,
        Reason::OutOfRange,
    ),
    (
        "PV as export",
        PV,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","pv_w":-1200}"#,
        Reason::OutOfRange,
    ),
    (
        "SoC above full",
        BATTERY,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","soc_pct":102.5,"power_w":0}"#,
        Reason::OutOfRange,
    ),
    (
        "SoC below empty",
        BATTERY,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","soc_pct":-2.5,"power_w":0}"#,
        Reason::OutOfRange,
    ),
    (
        "a clock that was never set",
        METER,
        r#"{"household_id":7,"ts":"1970-01-01T00:00:10Z","consumption_w":450}"#,
        Reason::PastTime,
    ),
    (
        "a clock that was never set",
        PV,
        r#"{"household_id":7,"ts":"2000-01-01T00:00:00Z","pv_w":450}"#,
        Reason::PastTime,
    ),
    (
        "the last moment of year 0",
        METER,
        r#"{"household_id":7,"ts":"0000-12-31T23:59:59Z","consumption_w":450}"#,
        Reason::PastTime,
    ),
    (
        "an answer from before everything",
        ACK,
        r#"{"command_id":"7-1-1-0","ts":"0001-01-01T00:00:00Z","status":"applied"}"#,
        Reason::PastTime,
    ),
    (
        "a year that has no four digits",
        METER,
        r#"{"household_id":7,"ts":"10000-01-01T00:00:00Z","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "almost the end of year 9999",
        BATTERY,
        r#"{"household_id":7,"ts":"9999-12-30T22:00:00Z","soc_pct":50,"power_w":1}"#,
        Reason::FutureTime,
    ),
    (
        "an unknown status",
        ACK,
        r#"{"command_id":"7-1-0","ts":"2025-09-12T10:00:00Z","status":"done"}"#,
        Reason::OutOfRange,
    ),
    (
        "an empty command id",
        ACK,
        r#"{"command_id":"","ts":"2025-09-12T10:00:00Z","status":"applied"}"#,
        Reason::OutOfRange,
    ),
    (
        "a date",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "local time",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "month 13",
        METER,
        r#"{"household_id":7,"ts":"2025-13-12T10:00:00Z","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "30 February",
        METER,
        r#"{"household_id":7,"ts":"2025-02-30T10:00:00Z","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "hour 25",
        METER,
        r#"{"household_id":7,"ts":"2025-09-12T25:00:00Z","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "time as words",
        METER,
        r#"{"household_id":7,"ts":"yesterday","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "an empty time",
        METER,
        r#"{"household_id":7,"ts":"","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "seconds as text",
        METER,
        r#"{"household_id":7,"ts":"1757671200","consumption_w":450}"#,
        Reason::BadTime,
    ),
    (
        "the far future",
        METER,
        r#"{"household_id":7,"ts":"9000-01-01T00:00:00Z","consumption_w":450}"#,
        Reason::FutureTime,
    ),
    (
        "the next century",
        PV,
        r#"{"household_id":7,"ts":"2125-09-12T10:00:00Z","pv_w":450}"#,
        Reason::FutureTime,
    ),
    (
        "an ack from the future",
        ACK,
        r#"{"command_id":"7-1-0","ts":"2125-09-12T10:00:00Z","status":"applied"}"#,
        Reason::FutureTime,
    ),
    (
        "household 0",
        METER,
        r#"{"household_id":0,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::BadHousehold,
    ),
    (
        "a negative household",
        METER,
        r#"{"household_id":-7,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::BadHousehold,
    ),
    (
        "half a household",
        METER,
        r#"{"household_id":7.5,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::BadHousehold,
    ),
    (
        "household of 64 bits",
        METER,
        r#"{"household_id":9223372036854775808,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::BadHousehold,
    ),
    (
        "a name in the topic",
        "home/seven/meter",
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::BadHousehold,
    ),
    (
        "a leading zero in the topic",
        "home/07/meter",
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::BadHousehold,
    ),
    (
        "another household",
        METER,
        r#"{"household_id":8,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::HouseholdMismatch,
    ),
    (
        "another household's PV",
        PV,
        r#"{"household_id":70,"ts":"2025-09-12T10:00:00Z","pv_w":450}"#,
        Reason::HouseholdMismatch,
    ),
    (
        "an ack for another household",
        ACK,
        r#"{"household_id":8,"command_id":"8-1-0","ts":"2025-09-12T10:00:00Z","status":"applied"}"#,
        Reason::HouseholdMismatch,
    ),
    (
        "another household in an array",
        METER,
        r#"[{"household_id":8,"ts":"2025-09-12T10:00:00Z","consumption_w":450}]"#,
        Reason::HouseholdMismatch,
    ),
    (
        "an unknown channel",
        "home/7/gas",
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","gas_m3":1}"#,
        Reason::UnknownTopic,
    ),
    (
        "a level too many",
        "home/7/meter/1",
        r#"{"household_id":7,"ts":"2025-09-12T10:00:00Z","consumption_w":450}"#,
        Reason::UnknownTopic,
    ),
];
