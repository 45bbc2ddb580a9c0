//! What must hold: at each record, row and commit, and when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use household::household::Household;
use model::command::Command;
use model::metadata::Metadata;
use model::reading::{Kind, Reading};
use model::request::OptimizeRequest;
use model::schedule::Schedule;
use model::slot::{HouseholdSlot, Slot};
use model::units::HouseholdId;
use platform::log::TopicPartition;
use platform::store::Row;
use schemas::codec::{Codec, Message};
use schemas::dead_letter::DeadLetter;
use schemas::snapshot;
use schemas::topic::Topic;

use super::poison;
use super::rows::{RowKey, reading_of};
use super::scenario::Scenario;
use super::state::{Due, Kept, State, end_of, snapshot_of};

fn decode<T: Message>(kept: &Kept) -> Option<T> {
    Codec::single_object().decode(&kept.value).ok()
}

/// A record takes its place in the log.
pub fn on_append(state: &mut State, at: TopicPartition, kept: &Kept) {
    match at.topic {
        Topic::Telemetry => {
            let due = reading_due(state, kept);
            state.due.entry(at).or_default().push(due);
        }
        Topic::Households => {
            let metadata: Metadata = decode(kept).expect("it is valid");
            let id = metadata.household_id;
            state.due.entry(at).or_default().push(Due {
                seen_by: Some(id),
                row: Some(RowKey::Household(id)),
                dead_letter: false,
            });
        }
        Topic::Schedules => {
            let schedule: Schedule = decode(kept).expect("it is valid");
            let (id, requested_ms) = (schedule.household_id, schedule.requested_ms);
            state.due.entry(at).or_default().push(Due {
                seen_by: Some(id),
                row: Some(RowKey::Schedule(
                    id,
                    requested_ms,
                    schedule.schedule_id.clone(),
                )),
                dead_letter: false,
            });
            let identity = (id, requested_ms, schedule.schedule_id.clone());
            state.schedules.insert(identity, schedule);
        }
        Topic::Acks => {
            let ack: model::command::Ack = decode(kept).expect("it is valid");
            state.due.entry(at).or_default().push(Due {
                seen_by: Some(ack.household_id),
                ..Due::default()
            });
        }
        Topic::DeadLetters => {
            let letter: DeadLetter = decode(kept).expect("it is valid");
            // What the log refused of the engine's own has no place in the log.
            if let Some((partition, offset)) = letter.partition.zip(letter.offset) {
                let place = (letter.source, partition, offset);
                state.dead_letters.insert(place);
            }
        }
        Topic::Tariffs
        | Topic::WeatherForecast
        | Topic::OptimizeRequests
        | Topic::Commands
        | Topic::Alerts
        | Topic::Slots => {}
    }
}

fn reading_due(state: &mut State, kept: &Kept) -> Due {
    if kept.value.is_empty() {
        return Due::default();
    }
    let reading = decode::<Reading>(kept)
        .filter(|reading| kept.key == reading.household_id.to_string().as_bytes());
    let Some(reading) = reading else {
        return Due {
            dead_letter: true,
            ..Due::default()
        };
    };
    if reading.measurement == poison::ALWAYS {
        return Due {
            seen_by: Some(reading.household_id),
            row: None,
            dead_letter: true,
        };
    }
    let accepted = state.offline.take_in(reading);
    let is_row = state.offline.settings.stores_readings;
    Due {
        seen_by: Some(reading.household_id),
        row: (is_row && accepted).then(|| RowKey::of(&Row::Reading(reading))),
        dead_letter: !accepted,
    }
}

/// Life `by` produces a record. A command follows from a schedule that is there, has entries for slots of it alone, is
/// stored, and, unless it is produced again because that failed before, is not older than the one before of the same life.
/// A life that was replaced in its sleep may restore a home from what its successor has saved so far, and sends older
/// commands until it learns of it; the controller passes over them, for a newer schedule's command has their time.
pub fn on_produce(state: &mut State, topic: Topic, value: &[u8], by: u64) {
    if topic != Topic::Commands {
        return;
    }
    let command: Command = Codec::single_object().decode(value).expect("it is valid");
    let (id, requested_ms) = (command.household_id, command.requested_ms);
    let partition = platform::log::partition_of(id.to_string().as_bytes(), state.partitions_count);
    let is_owner = state.is_owner(partition, by);
    let mut violations = Vec::new();
    let mut broken = |reason: &str| {
        violations.push(format!("command {} of {id} {reason}", command.command_id));
    };
    let identity = (id, requested_ms, command.schedule_id.clone());
    let schedule = state.schedules.get(&identity);
    match schedule.filter(|schedule| schedule.adopt) {
        None => broken("follows from no schedule"),
        Some(schedule) => {
            // Not the plan's own slots: a question asked again after a crash may have been answered otherwise.
            let length_ms = i64::from(schedule.slot_minutes) * 60_000;
            let horizon = i64::from(state.offline.settings.horizon_slots);
            let is_slot = |from_ms: i64, end_ms: i64| {
                let past_ms = from_ms - schedule.start_ms;
                let is_inside = (0..horizon).contains(&past_ms.div_euclid(length_ms));
                is_inside && past_ms % length_ms == 0 && end_ms == from_ms + length_ms
            };
            let mut spans = command.spans();
            if !spans.all(|(entry, end_ms)| is_slot(entry.from_ms, end_ms)) {
                broken("has entries that are not its schedule's slots");
            }
            let slots_max = state.offline.settings.program_slots as usize;
            if command.program.len() > slots_max || command.program.is_empty() {
                broken("has too many entries, or none");
            }
        }
    }
    let row = RowKey::Command(id, command.from_ms(), command.command_id.clone());
    if !state.rows.contains_key(&row) {
        broken("is not stored");
    }
    let commanded = state.commanded.entry((by, id)).or_default();
    let is_again = !commanded.1.insert(command.command_id.clone());
    if !is_again
        && is_owner
        && commanded
            .0
            .is_some_and(|newest_ms| newest_ms > requested_ms)
    {
        broken("is stale");
    }
    commanded.0 = commanded.0.max(Some(requested_ms));
    state.violations.append(&mut violations);
}

/// A row becomes durable.
pub fn on_row(state: &mut State, row: &Row) {
    let Row::Snapshot {
        household_id,
        state: bytes,
    } = row
    else {
        return;
    };
    let partition =
        platform::log::partition_of(household_id.to_string().as_bytes(), state.partitions_count);
    let checked = snapshot::decode(bytes, partition)
        .map_err(|reason| reason.to_string())
        .and_then(|(_, home)| household::invariants::check(&home, &state.offline.settings));
    if let Err(reason) = checked {
        state
            .violations
            .push(format!("snapshot of {household_id}: {reason}"));
    }
}

/// Offsets are committed: nothing before them may be lost.
pub fn on_commit(state: &mut State, partition: i32, next_offsets: &[(TopicPartition, i64)]) {
    let mut broken = Vec::new();
    let mut committed = state.committed.clone();
    for (at, next) in next_offsets {
        let before = committed.insert(*at, *next).unwrap_or(0);
        if before > *next {
            broken.push(format!(
                "commit of {at:?} went back from {before} to {next}"
            ));
        }
        if *next > end_of(state, *at) {
            broken.push(format!("commit of {at:?} is {next}, behind the end"));
        }
    }
    let mut seen: BTreeMap<HouseholdId, Option<snapshot::NextOffsets>> = BTreeMap::new();
    for (at, next) in committed.iter().filter(|(at, _)| at.partition == partition) {
        let durable = state.committed.get(at).copied().unwrap_or(0);
        let dues = state.due.get(at).into_iter().flatten().zip(0_i64..*next);
        for (due, offset) in dues {
            if let Some(id) = due.seen_by {
                let seen = seen.entry(id).or_insert_with(|| {
                    let bytes = snapshot_of(state, id)?;
                    Some(snapshot::decode::<Household>(&bytes, partition).ok()?.0)
                });
                if seen.is_none_or(|seen| seen.get(at.topic) <= offset) {
                    let seen = seen.map(|seen| seen.get(at.topic));
                    broken.push(format!(
                        "{at:?} is committed up to {next}; the snapshot of {id} has seen {seen:?}, not {offset}"
                    ));
                }
            }
            // Rows and records stay, so what was there at the commit before is there.
            if offset >= durable {
                let lacking = lacking(due, state, *at, offset);
                broken.extend(
                    lacking.map(|what| format!("{at:?} is committed up to {next}: {what}")),
                );
            }
        }
    }
    state.violations.append(&mut broken);
}

/// What is not durable of the record at `offset`.
fn lacking(due: &Due, state: &State, at: TopicPartition, offset: i64) -> Option<String> {
    if let Some(row) = due.row.as_ref().filter(|row| !state.rows.contains_key(row)) {
        return Some(format!("{row:?} of {offset} is no row"));
    }
    let letter = (at.topic.to_string(), at.partition, offset);
    let lacks_letter = due.dead_letter && !state.dead_letters.contains(&letter);
    lacks_letter.then(|| format!("{offset} is no dead letter"))
}

/// Everything has come to rest.
pub fn at_end(state: &State, scenario: &Scenario) -> Vec<String> {
    let mut broken = Vec::new();
    slots(state, scenario, &mut broken);
    readings(state, &mut broken);
    letters(state, &mut broken);
    for at in state.due.keys() {
        let (end, committed) = (end_of(state, *at), state.committed.get(at));
        if committed != Some(&end) {
            broken.push(format!(
                "{at:?} ends at {end} and is committed up to {committed:?}"
            ));
        }
    }
    requests(state, scenario, &mut broken);
    broken
}

fn slots(state: &State, scenario: &Scenario, broken: &mut Vec<String>) {
    let mut stored: BTreeMap<(HouseholdId, i64), Slot> = BTreeMap::new();
    for (key, row) in &state.rows {
        if let (RowKey::Slot(id, start_ms), Row::Slot { slot, .. }) = (key, &row.row) {
            stored.insert((*id, *start_ms), *slot);
        }
    }
    let expected = state.offline.slots();
    let mut published: BTreeMap<(HouseholdId, i64), Slot> = BTreeMap::new();
    for (at, kept) in &state.log {
        if at.topic == Topic::Slots {
            for kept in kept {
                let Some(HouseholdSlot { household_id, slot }) = decode(kept) else {
                    continue;
                };
                let key = (household_id, slot.start_ms);
                // What a former owner repeats may be older. What it says first may be all there is.
                let is_right = || expected.get(&key) == published.get(&key);
                if !kept.is_of_former_owner || !is_right() {
                    published.insert(key, slot);
                }
            }
        }
    }
    let length_ms = scenario.settings.slot.ms();
    let sides = [
        ("stored", scenario.hosting.store_slots, stored),
        ("published", scenario.hosting.publish_slots, published),
    ];
    for (side, _, actual) in sides.into_iter().filter(|(_, is_on, _)| *is_on) {
        for ((id, start_ms), slot) in &expected {
            let is_over = start_ms + length_ms <= state.offline.watermark_ms(*id);
            match actual.get(&(*id, *start_ms)) {
                Some(actual) if actual == slot => {}
                Some(actual) => broken.push(format!(
                    "slot {start_ms} of {id} is {side} as {actual:?} and not {slot:?}"
                )),
                None if is_over => broken.push(format!("slot {start_ms} of {id} is not {side}")),
                None => {}
            }
        }
        for (id, start_ms) in actual.keys().filter(|key| !expected.contains_key(key)) {
            broken.push(format!(
                "slot {start_ms} of {id} is {side} and has no reading"
            ));
        }
    }
}

/// Each accepted reading is a row with its last value, where readings are stored, and there is no other.
fn readings(state: &State, broken: &mut Vec<String>) {
    let rows = state.rows.values();
    let rows = rows.filter_map(|stored| reading_of(&stored.row));
    let key = |reading: &Reading| -> (HouseholdId, i64, Kind) {
        (
            reading.household_id,
            reading.ts_ms,
            reading.measurement.kind(),
        )
    };
    let rows: BTreeMap<_, Reading> = rows.map(|reading| (key(&reading), reading)).collect();
    let empty = BTreeMap::new();
    let expected = if state.offline.settings.stores_readings {
        &state.offline.accepted
    } else {
        &empty
    };
    for (key, reading) in expected {
        if rows.get(key) != Some(reading) {
            broken.push(format!("{reading:?} is stored as {:?}", rows.get(key)));
        }
    }
    for key in rows.keys().filter(|key| !expected.contains_key(key)) {
        broken.push(format!("row {key:?} was never sent"));
    }
}

/// What must be a dead letter is one, and nothing else is.
fn letters(state: &State, broken: &mut Vec<String>) {
    let mut expected = BTreeSet::new();
    for (at, dues) in &state.due {
        let dead = dues.iter().zip(0_i64..).filter(|(due, _)| due.dead_letter);
        expected.extend(dead.map(|(_, offset)| (at.topic.to_string(), at.partition, offset)));
    }
    for letter in expected.symmetric_difference(&state.dead_letters) {
        broken.push(format!("{letter:?} is a dead letter on one side only"));
    }
}

/// Every request was answered or followed by another, and a home that can be planned is.
fn requests(state: &State, scenario: &Scenario, broken: &mut Vec<String>) {
    let mut newest: BTreeMap<HouseholdId, OptimizeRequest> = BTreeMap::new();
    for (_, kept) in state
        .log
        .iter()
        .filter(|(at, _)| at.topic == Topic::OptimizeRequests)
    {
        for request in kept.iter().filter_map(decode::<OptimizeRequest>) {
            let held_ms = newest
                .get(&request.household_id)
                .map_or(i64::MIN, |held| held.requested_ms);
            if held_ms <= request.requested_ms {
                newest.insert(request.household_id, request);
            }
        }
    }
    for (id, request) in &newest {
        let row = RowKey::Schedule(*id, request.requested_ms, request.request_id.clone());
        if !state.rows.contains_key(&row) {
            broken.push(format!("request {} has no answer", request.request_id));
        }
    }
    let stands_at_ms = scenario.stands_at_ms();
    for id in &scenario.planned {
        let was_read = |wanted: Kind| {
            let mut accepted = state.offline.accepted.keys();
            accepted.any(|(home, _, kind)| home == id && *kind == wanted)
        };
        let partition =
            platform::log::partition_of(id.to_string().as_bytes(), state.partitions_count);
        let home = snapshot_of(state, *id)
            .and_then(|bytes| Some(snapshot::decode::<Household>(&bytes, partition).ok()?.1));
        let Some(home) = home else {
            broken.push(format!("home {id} has no snapshot"));
            continue;
        };
        let plannable =
            was_read(Kind::Pv) && (was_read(Kind::Battery) || !scenario.with_battery.contains(id));
        if plannable && !home.is_planned(stands_at_ms) {
            broken.push(format!(
                "home {id} has no plan in the end: {:?}",
                newest.get(id)
            ));
        }
    }
}
