//! Readings that make a home's code panic, each after it has changed the home: some every time, some the first time only;
//! and ticks and repaired slots that do so the first time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::resume_unwind;

use household::effect::Effect;
use household::event::Event;
use household::household::{Env, Household};
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;

use super::draws::Draws;

/// What these readings say; no other says so.
pub const ALWAYS: Measurement = Measurement::Meter {
    consumption_w: 1_111.015_625,
};
pub const FIRST_TIME: Measurement = Measurement::Meter {
    consumption_w: 2_222.015_625,
};

thread_local! {
    /// Readings that have failed, in this run.
    static FAILED: RefCell<BTreeSet<(HouseholdId, i64)>> = const { RefCell::new(BTreeSet::new()) };
}

/// A new run begins in this thread.
pub fn begin() {
    FAILED.with_borrow_mut(BTreeSet::clear);
}

/// What a home does with an event.
pub fn handle(household: &mut Household, event: Event, env: &Env<'_>, effects: &mut Vec<Effect>) {
    let fails = match &event {
        Event::ReadingArrived(reading) => fails(reading),
        Event::SlotRepaired(slot) => fails_once(household.id(), slot.start_ms, 5),
        Event::ClockTicked { now_ms } => fails_once(household.id(), *now_ms, 400),
        Event::AssetRead(_)
        | Event::MetadataChanged(_)
        | Event::ScheduleReady(_)
        | Event::AckArrived(_) => false,
    };
    household.handle(event, env, effects);
    if fails {
        // As a panic, but without a word.
        resume_unwind(Box::new("poison"));
    }
}

/// Whether a home fails at this time, as one of `share` does, the first time.
fn fails_once(id: HouseholdId, ms: i64, share: u64) -> bool {
    let drawn = Draws::new(id.get().unsigned_abs() ^ ms.unsigned_abs()).next();
    drawn.is_multiple_of(share) && FAILED.with_borrow_mut(|failed| failed.insert((id, ms)))
}

fn fails(reading: &Reading) -> bool {
    let place = (reading.household_id, reading.ts_ms);
    reading.measurement == ALWAYS
        || reading.measurement == FIRST_TIME
            && FAILED.with_borrow_mut(|failed| failed.insert(place))
}
