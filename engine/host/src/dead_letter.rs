//! Records that cannot be handled, as dead letters.

use platform::clock::wall_ms;
use platform::log::{Record, TopicPartition};
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::topic::Topic;
use tracing::{error, warn};

use crate::outgoing::Outgoing;
use platform::role_context::RoleContext;

/// A dead letter for a record of the log, counted.
pub(crate) fn dead_letter(
    context: &RoleContext,
    origin: TopicPartition,
    record: &Record,
    reason: Reason,
    detail: String,
) -> Option<Outgoing> {
    let TopicPartition { topic, partition } = origin;
    context
        .metrics
        .dead_letters_total
        .with_label_values(&[reason.as_str()])
        .inc();
    warn!(%topic, partition, offset = record.offset, reason = reason.as_str(), detail, "dead letter");
    let letter = DeadLetter {
        source: topic.to_string(),
        partition: Some(partition),
        offset: Some(record.offset),
        reason,
        detail,
        refused_ms: wall_ms(),
        payload_bytes: i64::try_from(record.value.len()).expect("a record's length fits"),
        payload: record.value.to_vec(),
    };
    match context.codec.encode(&letter) {
        Ok(value) => Some(Outgoing {
            topic: Topic::DeadLetters,
            key: record.key.as_deref().unwrap_or_default().to_vec(),
            value,
            span: context.tracer.publish(record.trace, Topic::DeadLetters),
        }),
        Err(reason) => {
            error!(%topic, partition, offset = record.offset, %reason, "could not encode a dead letter");
            None
        }
    }
}
