use std::io::Write;
use std::sync::{Arc, Mutex};

use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use platform::trace::{Caller, Sampling, SpanKind, Tracer};
use serde_json::{Value, json};
use tracing::{info, warn};
use tracing_subscriber::layer::SubscriberExt as _;

use super::JsonLine;
use crate::log_lines::repeats::Repeats;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no holder panics").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines that are written meanwhile, without their times, which are checked.
fn written(write: impl Fn()) -> Vec<Value> {
    let lines = Lines::default();
    let writer = lines.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || writer.clone())
        .event_format(JsonLine { role: "engine" });
    let subscriber = tracing_subscriber::registry()
        .with(Arc::new(Repeats::default()).layer())
        .with(layer);
    tracing::subscriber::with_default(subscriber, write);
    let text = lines.0.lock().expect("no holder panics").clone();
    let text = String::from_utf8(text).expect("text");
    let line = |text: &str| {
        let mut line: Value = serde_json::from_str(text).expect("JSON");
        let ts = line["ts"].take();
        let ts = ts.as_str().expect("a time");
        let form = "0000-00-00T00:00:00.000000Z";
        let is_digit =
            |(found, form): (char, char)| found == form || form == '0' && found.is_ascii_digit();
        assert!(
            ts.len() == form.len() && ts.chars().zip(form.chars()).all(is_digit),
            "{ts}"
        );
        line.as_object_mut().expect("an object").remove("ts");
        line
    };
    text.lines().map(line).collect()
}

#[test]
fn a_line_is_an_object_with_the_documented_fields() {
    let lines = written(|| {
        warn!(target: "host::x", topic = "acks", offset = 7_u64, share = 0.5, is_late = true,
            none = f64::NAN, detail = ?Some("a \"quoted\"\nline"), message_id = -1, "record refused");
        info!(target: "hearth::roles", "drained");
    });
    let expected = json!({
        "level": "WARN", "target": "host::x", "role": "engine", "message": "record refused",
        "fields": {
            "topic": "acks", "offset": 7, "share": 0.5, "is_late": true, "none": "NaN",
            "detail": "Some(\"a \\\"quoted\\\"\\nline\")", "message_id": -1,
        },
    });
    assert_eq!(lines[0], expected);
    let expected = json!({
        "level": "INFO", "target": "hearth::roles", "role": "engine", "message": "drained",
    });
    assert_eq!(lines[1], expected);
}

/// A field of a program must never pass for one of the documented ones.
#[test]
fn fields_never_stand_among_the_documented_ones() {
    let lines = written(|| {
        info!(target: "host::x", level = "ERROR", trace_id = "forged", role = "api", ts = 1, "here");
    });
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["role"], "engine");
    assert_eq!(lines[0].get("trace_id"), None);
    assert_eq!(lines[0]["fields"]["trace_id"], "forged");
}

#[test]
fn a_line_of_another_logger_names_its_own_target() {
    let lines = written(|| {
        let (target, file) = ("rumqttc::state", "state.rs");
        warn!(target: "log", { log.target = target, log.file = file, log.line = 7_u64 }, "refused");
    });
    let expected = json!({
        "level": "WARN", "target": "rumqttc::state", "role": "engine", "message": "refused",
    });
    assert_eq!(lines, [expected]);
}

#[test]
fn a_line_within_a_span_names_its_trace() {
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .build();
    let boxed = BoxedTracer::new(Box::new(provider.tracer("test")));
    let sampling = Sampling {
        share: 1.0,
        followed_per_s_max: 10,
    };
    let tracer = Tracer::new(boxed, sampling, "kafka");
    let span = tracer.head(SpanKind::Internal, Caller::Unknown, || "one".to_owned());
    let other = tracer.head(SpanKind::Internal, Caller::Unknown, || "other".to_owned());
    let lines = written(|| {
        let outer = span.enter();
        info!(target: "x", "within");
        {
            let _inner = other.enter();
            info!(target: "x", "further within");
        }
        info!(target: "x", "within again");
        drop(outer);
        info!(target: "x", "behind");
    });
    let ids = |line: &Value| (line["trace_id"].clone(), line["span_id"].clone());
    let of = |context: platform::trace::TraceContext| {
        (
            Value::from(context.trace_id()),
            Value::from(context.span_id()),
        )
    };
    let (one, two) = (
        of(span.context().expect("it is recorded")),
        of(other.context().expect("it is")),
    );
    assert_ne!(one, two);
    let found: Vec<_> = lines.iter().map(ids).collect();
    assert_eq!(found, [one.clone(), two, one, (Value::Null, Value::Null)]);
}

#[test]
fn what_was_held_back_is_a_number() {
    let lines = written(|| {
        for attempt in 0..30 {
            warn!(target: "host::x", attempt, "again");
        }
    });
    assert_eq!(lines.len(), 20);
    assert!(lines.iter().all(|line| line.get("held_back").is_none()));
}
