//! Our own records on their way into the log.

use model::units::HouseholdId;
use schemas::codec::Message;
use schemas::topic::Topic;
use tracing::error;

use platform::role_context::RoleContext;

/// A record that waits to be produced.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) topic: Topic,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
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
        }),
        Err(reason) => {
            error!(topic = %T::TOPIC, %household_id, %reason, "could not encode a record");
            None
        }
    }
}
