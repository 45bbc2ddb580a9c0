//! Records of a shard as events. What is no event becomes a dead letter.

use std::sync::Arc;

use household::event::Event;
use model::command::Ack;
use model::metadata::Metadata;
use model::schedule::Schedule;
use model::units::HouseholdId;
use platform::log::{Record, TopicPartition};
use schemas::codec::{Codec, CodecError};
use schemas::dead_letter::Reason;
use schemas::telemetry::Telemetry;
use schemas::topic::Topic;

use crate::dead_letter::dead_letter;
use crate::outgoing::Outgoing;
use platform::role_context::RoleContext;

/// What a record tells a home.
#[derive(Debug)]
pub(crate) struct HomeEvent {
    pub(crate) household_id: HouseholdId,
    pub(crate) event: Event,
    /// Index of the record in its batch.
    pub(crate) index: usize,
}

/// A record that tells no home anything.
#[derive(Debug)]
pub(crate) struct Undecoded {
    reason: Reason,
    detail: String,
    index: usize,
}

/// A record that only a newer build can read.
#[derive(Debug, thiserror::Error)]
#[error("record {offset} of {topic}: {why}")]
pub(crate) struct Newer {
    topic: Topic,
    offset: i64,
    why: CodecError,
}

/// The events of `records`, in their order, and the records that have none. Fails on a record that is newer than this
/// build: it is no damage, and whoever passed over it would lose it.
pub(crate) fn home_events(
    codec: &Codec,
    topic: Topic,
    records: &[Record],
) -> Result<(Vec<HomeEvent>, Vec<Undecoded>), Newer> {
    let mut events = Vec::with_capacity(records.len());
    let mut undecoded = Vec::new();
    for (index, record) in records.iter().enumerate() {
        // A tombstone: an operator withdrew it. There is nothing to tell the household.
        if record.value.is_empty() {
            continue;
        }
        let (reason, detail) = match event(codec, topic, &record.value) {
            Ok((household_id, event)) if is_key_of(record, household_id) => {
                events.push(HomeEvent {
                    household_id,
                    event,
                    index,
                });
                continue;
            }
            Ok((household_id, _)) => (
                Reason::HouseholdMismatch,
                format!("the record's key is not its household_id {household_id}"),
            ),
            Err(why) if why.is_newer() => {
                let offset = record.offset;
                return Err(Newer { topic, offset, why });
            }
            Err(why) => (Reason::Undecodable, why.to_string()),
        };
        undecoded.push(Undecoded {
            reason,
            detail,
            index,
        });
    }
    Ok((events, undecoded))
}

/// Dead letters for what could not be decoded of `records`.
pub(crate) fn dead_letters(
    context: &RoleContext,
    from: TopicPartition,
    records: &[Record],
    undecoded: Vec<Undecoded>,
) -> Vec<Outgoing> {
    let letters = undecoded.into_iter().filter_map(|refused| {
        let record = &records[refused.index];
        dead_letter(context, from, record, refused.reason, refused.detail)
    });
    letters.collect()
}

fn is_key_of(record: &Record, household_id: HouseholdId) -> bool {
    let text = record
        .key
        .as_deref()
        .and_then(|key| std::str::from_utf8(key).ok());
    text.and_then(HouseholdId::parse) == Some(household_id)
}

/// What a record of one of a shard's topics says, and to whom.
fn event(codec: &Codec, topic: Topic, value: &[u8]) -> Result<(HouseholdId, Event), CodecError> {
    Ok(match topic {
        Topic::Telemetry => match codec.decode(value)? {
            Telemetry::Reading(reading) => (reading.household_id, Event::ReadingArrived(reading)),
            Telemetry::Asset(reading) => (reading.household_id, Event::AssetRead(reading)),
        },
        Topic::Households => {
            let metadata: Metadata = codec.decode(value)?;
            let id = metadata.household_id;
            (id, Event::MetadataChanged(Arc::new(metadata)))
        }
        Topic::Schedules => {
            let schedule: Schedule = codec.decode(value)?;
            let id = schedule.household_id;
            (id, Event::ScheduleReady(Arc::new(schedule)))
        }
        Topic::Acks => {
            let ack: Ack = codec.decode(value)?;
            (ack.household_id, Event::AckArrived(ack))
        }
        Topic::Tariffs
        | Topic::WeatherForecast
        | Topic::OptimizeRequests
        | Topic::Commands
        | Topic::DeadLetters
        | Topic::Alerts
        | Topic::Slots => unreachable!("a shard does not read {topic}"),
    })
}
