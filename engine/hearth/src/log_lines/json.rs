//! Log lines as JSON, one object a line. `docs/reference/logs.md` says what is in them; names there are public.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::repeats::held_back;

/// What lines of the crate `log` have beside what they say.
const BRIDGED: [&str; 4] = ["log.target", "log.module_path", "log.file", "log.line"];

/// The format.
#[derive(Debug)]
pub(super) struct JsonLine {
    /// What the process runs.
    pub(super) role: &'static str,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    level: &'a str,
    target: &'a str,
    role: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_back: Option<u64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let target = said.target.as_deref();
        let trace = platform::trace::current();
        let held_back = held_back();
        let line = Line {
            ts: format!("{:.6}", Timestamp::now()),
            level: event.metadata().level().as_str(),
            target: target.unwrap_or_else(|| event.metadata().target()),
            role: self.role,
            message: said.message,
            trace_id: trace.map(|trace| trace.trace_id()),
            span_id: trace.map(|trace| trace.span_id()),
            held_back: (held_back > 0).then_some(held_back),
            fields: said.fields,
        };
        let text = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{text}")
    }
}

/// The fields of a line.
#[derive(Default)]
struct Said {
    message: String,
    /// Of a line of the crate `log`.
    target: Option<String>,
    fields: Map<String, Value>,
}

impl Said {
    fn note(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", value) => self.message = value.to_string(),
            ("log.target", Value::String(target)) => self.target = Some(target),
            (name, _) if BRIDGED.contains(&name) => {}
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no number for what is none.
        let number = serde_json::Number::from_f64(value);
        let value = number.map_or_else(|| Value::String(value.to_string()), Value::Number);
        self.note(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
