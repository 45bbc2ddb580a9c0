//! The header that carries the context of a trace, as W3C `traceparent`.

use platform::trace::{TRACEPARENT, TraceContext};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

/// Headers looked at; a producer of another program may add any number.
const LOOKED_AT_MAX: usize = 64;

pub(super) fn of(trace: TraceContext) -> OwnedHeaders {
    let text = trace.to_string();
    OwnedHeaders::new_with_capacity(1).insert(Header {
        key: TRACEPARENT,
        value: Some(&text),
    })
}

/// Returns the context of a record, if its trace is recorded.
pub(super) fn trace(message: &BorrowedMessage<'_>) -> Option<TraceContext> {
    let headers = message.headers()?;
    // Of several the last counts, as for Kafka's own clients: whoever passes a record on appends.
    let first = headers.count().saturating_sub(LOOKED_AT_MAX);
    let mut found = (first..headers.count())
        .rev()
        .map(|index| headers.get(index));
    let header = found.find(|header| header.key == TRACEPARENT)?;
    TraceContext::parse(header.value?)
}
