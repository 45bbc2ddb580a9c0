//! What holds of a home's state after every event. The numbers are those of ARCHITECTURE.md.

use crate::commanding::Adopted;
use crate::household::Household;
use crate::slot::Slot;
use crate::windows::RAW_READINGS_MAX;

/// Says which invariant is broken.
pub fn check(home: &Household) -> Result<(), String> {
    let closed = home.closed_slots();
    // H1: ended slots ascend, and each start stands once.
    if closed
        .windows(2)
        .any(|pair| pair[0].start_ms >= pair[1].start_ms)
    {
        return Err("H1: ended slots do not ascend".to_owned());
    }
    for (start_ms, open) in &home.windows.open {
        // H2: raw readings are bounded.
        if open.readings.len() > RAW_READINGS_MAX {
            return Err(format!(
                "H2: slot {start_ms} holds {} readings",
                open.readings.len()
            ));
        }
        // H3: the aggregate of an ended slot is that of its raw readings, in order of time.
        if let Some(slot) = closed.iter().find(|slot| slot.start_ms == *start_ms)
            && open.ended
            && !open.overflown
        {
            let mut fresh = Slot::empty(*start_ms, slot.slot_minutes);
            for ((ts_ms, _), measurement) in &open.readings {
                fresh.add(*ts_ms, measurement);
            }
            if fresh != *slot {
                return Err(format!(
                    "H3: slot {start_ms} is not the sum of its readings"
                ));
            }
        }
    }
    // H4: remembered commands are bounded.
    if home.commands.remembered_count() > 17 {
        return Err("H4: too many commands are remembered".to_owned());
    }
    // H5: a schedule in force has slots.
    let empty = |adopted: &Adopted| adopted.setpoints.is_empty() || adopted.slot_ms <= 0;
    if home.adopted.as_ref().is_some_and(empty) {
        return Err("H5: the schedule in force is empty".to_owned());
    }
    Ok(())
}
