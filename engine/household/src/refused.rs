//! Readings that are not taken in as they are: refused, kept apart as implausible, or clamped.

use crate::effect::{Effect, Refusal};
use crate::plausible::Implausible;
use crate::settings::Settings;
use model::reading::{Reading, ReadingOutcome};

/// Returns why the time of a reading is refused, or `None` if it is not. `now_ms` is `None` where times are not checked.
pub(crate) fn time_refused(
    ts_ms: i64,
    now_ms: Option<i64>,
    settings: &Settings,
) -> Option<Refusal> {
    let now_ms = now_ms?;
    if ts_ms > now_ms.saturating_add(settings.ahead_ms) {
        Some(Refusal::Future)
    } else if ts_ms < now_ms.saturating_sub(settings.kept_ms) {
        Some(Refusal::TooOld)
    } else {
        None
    }
}

/// Keeps an implausible reading out of windows, forecasts and rows.
pub(crate) fn quarantine(reading: &Reading, implausible: Implausible, effects: &mut Vec<Effect>) {
    effects.push(Effect::RefuseReading {
        reading: *reading,
        refusal: Refusal::Implausible(implausible),
    });
    effects.push(Effect::CountReading {
        kind: reading.measurement.kind(),
        outcome: ReadingOutcome::Implausible,
    });
}

/// Counts a clamped reading as clamped if it was counted as accepted.
pub(crate) fn note_clamped(effects: &mut [Effect]) {
    for effect in effects {
        if let Effect::CountReading { outcome, .. } = effect
            && *outcome == ReadingOutcome::Accepted
        {
            *outcome = ReadingOutcome::Clamped;
        }
    }
}

/// Refuses a reading, counted.
pub(crate) fn refuse(reading: &Reading, refusal: Refusal, effects: &mut Vec<Effect>) {
    effects.push(Effect::RefuseReading {
        reading: *reading,
        refusal,
    });
    effects.push(Effect::CountReading {
        kind: reading.measurement.kind(),
        outcome: ReadingOutcome::Refused,
    });
}
