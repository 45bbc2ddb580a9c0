//! What stands in for a record or a row of ours that the log or the store refuse for good: a dead letter that is small
//! enough, and for a home that waits, the answer that nothing will come.

use model::command::{Ack, AckStatus, Command};
use model::request::OptimizeRequest;
use model::slot::HouseholdSlot;
use model::units::HouseholdId;
use platform::clock::wall_ms;
use platform::role_context::RoleContext;
use platform::store::Row;
use platform::trace::Span;
use schemas::codec::Message;
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::telemetry::Telemetry;
use schemas::topic::Topic;
use tracing::error;

use crate::outgoing::{Outgoing, outgoing};
use crate::unsolved::unsolved;

/// What a dead letter keeps of a payload that was refused with it: little, so that this one is not refused.
const KEPT_BYTES: usize = 16 * 1024;

/// What is produced instead of `record`, which the log refuses because of `detail`.
pub(crate) fn instead_of_record(
    context: &RoleContext,
    record: &Outgoing,
    detail: &str,
) -> Vec<Outgoing> {
    let topic = record.topic;
    let bytes = record.value.len();
    error!(%topic, detail, bytes, "log refuses a record");
    let refused = &context.metrics.records_refused_total;
    refused.with_label_values(&[topic.as_str()]).inc();
    if topic == Topic::DeadLetters {
        return shorter(context, record).into_iter().collect();
    }
    let letter = letter(context, &record.key, topic.as_str(), &record.value, detail);
    let instead = letter.into_iter().chain(answer(context, record));
    let traced = instead.map(|mut instead| {
        instead.span = context.tracer.publish(record.span.context(), instead.topic);
        instead
    });
    traced.collect()
}

/// A dead letter for `row`, which the store cannot hold because of `detail`. Its payload is the record that says the same,
/// where there is one.
pub(crate) fn instead_of_row(context: &RoleContext, row: &Row, detail: &str) -> Option<Outgoing> {
    let codec = &context.codec;
    let (source, household_id, payload) = match row {
        Row::Reading(reading) => (
            Topic::Telemetry.as_str(),
            Some(reading.household_id),
            codec.encode(reading).ok(),
        ),
        Row::Asset(reading) => (
            Topic::Telemetry.as_str(),
            Some(reading.household_id),
            codec.encode(&Telemetry::Asset(reading.clone())).ok(),
        ),
        Row::Slot { household_id, slot } => {
            let slot = HouseholdSlot {
                household_id: *household_id,
                slot: *slot,
            };
            let payload = codec.encode(&slot).ok();
            (Topic::Slots.as_str(), Some(*household_id), payload)
        }
        Row::Schedule(schedule) => (
            Topic::Schedules.as_str(),
            Some(schedule.household_id),
            codec.encode(schedule.as_ref()).ok(),
        ),
        Row::Command(command) => (
            Topic::Commands.as_str(),
            Some(command.household_id),
            codec.encode(command).ok(),
        ),
        Row::CommandAnswer(answer) => {
            let ack = Ack {
                household_id: answer.household_id,
                command_id: answer.command_id.clone(),
                ts_ms: answer.acked_ms,
                status: answer.status,
                reason: answer.reason.clone(),
            };
            let payload = codec.encode(&ack).ok();
            (Topic::Acks.as_str(), Some(answer.household_id), payload)
        }
        Row::Household(metadata) => (
            Topic::Households.as_str(),
            Some(metadata.household_id),
            codec.encode(metadata.as_ref()).ok(),
        ),
        Row::Tariff(tariff) => (
            Topic::Tariffs.as_str(),
            None,
            codec.encode(tariff.as_ref()).ok(),
        ),
        Row::Snapshot {
            household_id,
            state,
        } => ("snapshots", Some(*household_id), Some(state.clone())),
    };
    error!(source, household = ?household_id, detail, "store cannot hold a row");
    let refused = &context.metrics.rows_refused_total;
    refused.with_label_values(&[source]).inc();
    let key = household_id.map_or_else(String::new, |id| id.to_string());
    let payload = payload.unwrap_or_else(|| format!("{row:?}").into_bytes());
    letter(context, key.as_bytes(), source, &payload, detail)
}

fn letter(
    context: &RoleContext,
    key: &[u8],
    source: &str,
    payload: &[u8],
    detail: &str,
) -> Option<Outgoing> {
    let letter = DeadLetter {
        source: source.to_owned(),
        partition: None,
        offset: None,
        reason: Reason::Oversized,
        detail: detail.to_owned(),
        refused_ms: wall_ms(),
        payload_bytes: i64::try_from(payload.len()).expect("a payload's length fits"),
        payload: payload[..payload.len().min(KEPT_BYTES)].to_vec(),
    };
    let counted = &context.metrics.dead_letters_total;
    counted.with_label_values(&[letter.reason.as_str()]).inc();
    encode(context, key, &letter)
}

/// The same dead letter with less of its payload; `None` if there is no less.
fn shorter(context: &RoleContext, record: &Outgoing) -> Option<Outgoing> {
    let mut letter: DeadLetter = context.codec.decode(&record.value).ok()?;
    if letter.payload.len() <= KEPT_BYTES {
        return None;
    }
    letter.payload.truncate(KEPT_BYTES);
    encode(context, &record.key, &letter)
}

fn encode(context: &RoleContext, key: &[u8], letter: &DeadLetter) -> Option<Outgoing> {
    match context.codec.encode(letter) {
        Ok(value) => Some(Outgoing {
            topic: Topic::DeadLetters,
            key: key.to_vec(),
            value,
            span: Span::none(),
        }),
        Err(reason) => {
            error!(%reason, "could not encode a dead letter");
            None
        }
    }
}

/// What a home hears that believes its command given, or waits for a plan.
fn answer(context: &RoleContext, record: &Outgoing) -> Option<Outgoing> {
    match record.topic {
        Topic::Commands => {
            let command: Command = context.codec.decode(&record.value).ok()?;
            let ack = Ack {
                household_id: command.household_id,
                command_id: command.command_id,
                // Event time: what follows from the log must not depend on a clock.
                ts_ms: command.requested_ms,
                status: AckStatus::Rejected,
                reason: "the log refused the command".to_owned(),
            };
            told(context, ack.household_id, &ack)
        }
        Topic::OptimizeRequests => {
            let request: OptimizeRequest = context.codec.decode(&record.value).ok()?;
            let household_id = request.household_id;
            told(context, household_id, &unsolved(request, "refused"))
        }
        Topic::Telemetry
        | Topic::Households
        | Topic::Tariffs
        | Topic::WeatherForecast
        | Topic::Schedules
        | Topic::Acks
        | Topic::DeadLetters
        | Topic::Alerts
        | Topic::Slots => None,
    }
}

fn told<T: Message>(
    context: &RoleContext,
    household_id: HouseholdId,
    value: &T,
) -> Option<Outgoing> {
    outgoing(context, household_id, value)
}
