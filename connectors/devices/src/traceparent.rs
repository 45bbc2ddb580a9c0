//! The user property of MQTT 5 that carries the context of a trace, as W3C `traceparent`.

use mqtt_protocol_core::mqtt::packet::{Property, UserProperty};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use platform::trace::{Caller, TRACEPARENT, TraceContext};

/// Reads what a message says of its trace.
pub(crate) fn caller(props: &[Property]) -> Caller {
    let values = props.iter().filter_map(|property| {
        let Property::UserProperty(property) = property else {
            return None;
        };
        (property.key() == TRACEPARENT).then(|| property.val())
    });
    let mut values = values.map(str::as_bytes);
    // With two of them nobody knows which one is meant.
    match (values.next(), values.next()) {
        (Some(value), None) => Caller::read(value),
        (None, _) | (Some(_), Some(_)) => Caller::Unknown,
    }
}

/// Makes the properties of a message that a span sends.
pub(crate) fn properties(trace: Option<TraceContext>) -> Result<Vec<Property>, MqttError> {
    let property = |trace: TraceContext| UserProperty::new(TRACEPARENT, trace.to_string());
    let property = trace.map(property).transpose()?;
    Ok(property.into_iter().map(Property::from).collect())
}
