//! Our own records on their way into the log.

use model::units::HouseholdId;
use schemas::codec::Message;
use schemas::topic::Topic;
use tracing::error;

use platform::log::NewRecord;
use platform::role_context::RoleContext;
use platform::trace::Span;

/// A record that waits to be produced.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) topic: Topic,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Its way into the log.
    pub(crate) span: Span,
}

impl Outgoing {
    /// Returns it in the form that the log takes.
    pub(crate) fn as_new_record(&self) -> NewRecord<'_> {
        NewRecord {
            topic: self.topic,
            key: &self.key,
            value: &self.value,
            trace: self.span.context(),
        }
    }
}

/// One record of ours, keyed by its household. `None`, with an error in the log, if a value does not fit its schema:
/// that is a fault of ours, and no reason to stop a partition.
pub(crate) fn outgoing<T: Message>(
    context: &RoleContext,
    household_id: HouseholdId,
    value: &T,
) -> Option<Outgoing> {
    match context.codec.encode(value) {
        Ok(bytes) => Some(Outgoing {
            topic: T::TOPIC,
            key: household_id.to_string().into_bytes(),
            value: bytes,
            span: Span::none(),
        }),
        Err(reason) => {
            error!(topic = %T::TOPIC, %household_id, %reason, "could not encode a record");
            None
        }
    }
}

/// The same, because of `cause`.
pub(crate) fn outgoing_of<T: Message>(
    cause: &Span,
    context: &RoleContext,
    household_id: HouseholdId,
    value: &T,
) -> Option<Outgoing> {
    let mut record = outgoing(context, household_id, value)?;
    record.span = context.tracer.publish(cause.context(), T::TOPIC);
    Some(record)
}
