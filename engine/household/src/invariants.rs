//! Invariants of a home after every event, numbered as in ARCHITECTURE.md.

use crate::closed_slots::ClosedSlot;
use crate::commanding::COMMANDS_MAX;
use crate::household::Household;
use crate::settings::Settings;
use crate::windows::{NEWEST_NUMBERS_MAX, RAW_NUMBERS_MAX};
use model::units::DAY_MS;

/// Checks one state.
///
/// # Errors
/// Returns the first invariant that does not hold.
pub fn check(home: &Household, settings: &Settings) -> Result<(), String> {
    closed_slots(home)?;
    raw_readings(home)?;
    ended_slots(home, settings)?;
    commands(home)
}

/// Checks the state `after` an event against the state `before` it. `now_ms` is the host's clock, if known. A state that
/// was ahead of the clock may have been brought back, so anything may follow it.
///
/// # Errors
/// Returns the first invariant that does not hold.
pub fn check_step(
    before: &Household,
    after: &Household,
    now_ms: Option<i64>,
    settings: &Settings,
) -> Result<(), String> {
    if now_ms.is_some_and(|now_ms| before.lies_ahead(now_ms, settings)) {
        return Ok(());
    }
    let adopted_ms = |home: &Household| home.adopted.as_ref().map(|adopted| adopted.requested_ms);
    holds(
        adopted_ms(before) <= adopted_ms(after),
        "I4: an older schedule replaced the adopted one",
    )?;
    holds(
        before.requested_ms <= after.requested_ms,
        "I4: a request is older than the one before",
    )?;
    holds(
        before.watermark_ms() <= after.watermark_ms(),
        "I5: the watermark went back",
    )
}

/// I1: closed slots ascend, are aligned, do not overlap, and span at most 24 hours.
fn closed_slots(home: &Household) -> Result<(), String> {
    let windows = &home.windows;
    let starts = || windows.closed.iter().map(|slot| slot.start_ms);
    holds(
        starts().is_sorted_by(|one, next| one < next),
        "I1: closed slots do not ascend",
    )?;
    holds(
        starts().all(|ms| windows.length.start_of_ms(ms) == ms),
        "I1: a closed slot is not aligned",
    )?;
    let span_ms = starts().last().unwrap_or(0) - starts().next().unwrap_or(0);
    holds(span_ms < DAY_MS, "I1: closed slots span more than 24 hours")
}

/// I2: raw readings are bounded, lie in their slot, ascend, and each (kind, time) appears once.
fn raw_readings(home: &Household) -> Result<(), String> {
    let windows = &home.windows;
    holds(
        // Each slot has room for the newest of each kind.
        windows.numbers_count() <= RAW_NUMBERS_MAX + windows.open.len() * NEWEST_NUMBERS_MAX,
        "I2: too many raw readings",
    )?;
    let starts = windows.open.iter().map(|slot| slot.start_ms);
    holds(
        starts.is_sorted_by(|one, next| one < next),
        "I2: open slots do not ascend",
    )?;
    for slot in &windows.open {
        let keys = slot.readings.iter().map(|reading| reading.key());
        holds(
            keys.is_sorted_by(|one, next| one < next),
            "I2: raw readings do not ascend",
        )?;
        let inside = slot
            .readings
            .iter()
            .all(|reading| i64::from(reading.offset_ms) < windows.length.ms());
        holds(inside, "I2: a raw reading lies outside its slot")?;
    }
    Ok(())
}

/// I3: if a slot has ended and all its readings are here, the closed slots hold their aggregate.
fn ended_slots(home: &Household, settings: &Settings) -> Result<(), String> {
    let windows = &home.windows;
    let Some(newest_ms) = windows.closed.newest_ms() else {
        return Ok(());
    };
    for (index, slot) in windows.open.iter().enumerate() {
        let is_recent = slot.start_ms > newest_ms - DAY_MS;
        // If readings are not stored, `is_whole` cannot tell that some were dropped.
        let is_held = settings.stores_readings || !windows.is_late(slot.start_ms, settings);
        if !slot.ended || !is_recent || !is_held || !windows.is_whole(index, settings) {
            continue;
        }
        let aggregate = windows.aggregate(index, i64::MAX, settings);
        holds(
            aggregate.samples_count() == 0
                || windows.closed.get(slot.start_ms) == Some(ClosedSlot::of(&aggregate)),
            "I3: an ended slot is not the aggregate of its raw readings",
        )?;
    }
    Ok(())
}

/// I6: commands are bounded, issued one after the other, and at most one is in force at any time.
fn commands(home: &Household) -> Result<(), String> {
    let given = &home.commands.given;
    holds(given.len() <= COMMANDS_MAX, "I6: too many commands")?;
    let issued = given.iter().map(|one| one.issued_ms);
    holds(
        issued.is_sorted(),
        "I6: a command was issued before the one before it",
    )?;
    // One that was replaced before it began is never in force.
    let begin = || given.iter().filter(|one| one.from_ms < one.until_ms);
    for (index, one) in begin().enumerate() {
        let overlaps = begin()
            .skip(index + 1)
            .any(|other| one.from_ms < other.until_ms && other.from_ms < one.until_ms);
        holds(!overlaps, "I6: two commands are in force at once")?;
    }
    Ok(())
}

fn holds(condition: bool, invariant: &str) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err(invariant.to_owned())
    }
}
