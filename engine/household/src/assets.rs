//! The newest state of each EV and heat store, and what they drew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::drawn::{Drawn, overlap_ms};
use model::asset::{AssetKind, AssetReading, AssetState};
use model::limits::STORES_MAX;
use model::reading::ReadingOutcome;

/// Most assets of one kind whose state a home keeps.
const KEPT_MAX: usize = 2 * STORES_MAX;

/// The newest reading of each asset, and what was drawn up to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Assets {
    /// By kind and id.
    newest: BTreeMap<(AssetKind, String), NewestState>,
    drawn: Drawn,
}

/// How power is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counting {
    /// Length of a slot.
    pub(crate) slot_ms: i64,
    /// A reading holds so long at most.
    pub(crate) hold_ms: i64,
}

/// The newest reading of an asset.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewestState {
    /// Its event time, UTC epoch milliseconds.
    pub(crate) ts_ms: i64,
    /// Its values, within the ranges of their gauges.
    pub(crate) state: AssetState,
}

impl Assets {
    pub(crate) const fn new() -> Self {
        Self {
            newest: BTreeMap::new(),
            drawn: Drawn::new(),
        }
    }

    /// Takes in a reading; returns what became of it. `None` if the home has no room for the state of another asset. What an
    /// asset draws that `is_planned` counts.
    pub(crate) fn take_in(
        &mut self,
        reading: &AssetReading,
        is_planned: bool,
        counting: Counting,
    ) -> Option<ReadingOutcome> {
        let judged = clamped(reading.state);
        let key = (reading.state.kind(), reading.id.clone());
        let newest = NewestState {
            ts_ms: reading.ts_ms,
            state: judged,
        };
        let kind = key.0;
        if let Some(held) = self.newest.get_mut(&key) {
            if held.ts_ms > reading.ts_ms {
                return Some(ReadingOutcome::Late);
            }
            if is_planned {
                let over_ms = held.ts_ms..reading.ts_ms.min(held.ts_ms + counting.hold_ms);
                let power_w = held.state.power_w();
                self.drawn.add(over_ms, power_w, counting.slot_ms);
            }
            let is_same_time = held.ts_ms == reading.ts_ms;
            if is_same_time && *held == newest {
                return Some(ReadingOutcome::Duplicate);
            }
            *held = newest;
            if is_same_time {
                return Some(ReadingOutcome::Corrected);
            }
        } else {
            if self.newest.keys().filter(|(of, _)| *of == kind).count() >= KEPT_MAX {
                return None;
            }
            self.newest.insert(key, newest);
        }
        Some(if judged == reading.state {
            ReadingOutcome::Accepted
        } else {
            ReadingOutcome::Clamped
        })
    }

    /// Returns the newest state of an asset; `None` if there was no reading.
    pub(crate) fn newest(&self, kind: AssetKind, id: &str) -> Option<NewestState> {
        self.newest.get(&(kind, id.to_owned())).copied()
    }

    /// Returns the mean power in the slot at `start_ms` of the assets that are planned, W; `None` if it is not known any
    /// more.
    #[expect(clippy::cast_precision_loss, reason = "a slot in milliseconds fits")]
    pub(crate) fn drawn_w(
        &self,
        start_ms: i64,
        is_planned: impl Fn(AssetKind, &str) -> bool,
        counting: Counting,
    ) -> Option<f64> {
        let mut watt_ms = self.drawn.watt_ms(start_ms)?;
        let slot = start_ms..start_ms + counting.slot_ms;
        for ((kind, id), newest) in &self.newest {
            if is_planned(*kind, id) {
                let held = newest.ts_ms..newest.ts_ms + counting.hold_ms;
                watt_ms += newest.state.power_w() * overlap_ms(&held, &slot);
            }
        }
        Some(watt_ms / counting.slot_ms as f64)
    }

    /// Returns the time of the newest reading of all, UTC epoch milliseconds.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.newest.values().map(|newest| newest.ts_ms).max()
    }

    /// Forgets what lies after `latest_ms`: it was read by a clock that was ahead, and would hold back all that follows.
    pub(crate) fn forget_after(&mut self, latest_ms: i64) {
        self.newest.retain(|_, newest| newest.ts_ms <= latest_ms);
        self.drawn.forget_after(latest_ms);
    }
}

/// Moves values that are slightly beyond their gauge's range to the nearest bound.
fn clamped(state: AssetState) -> AssetState {
    let percent = |pct: Option<f64>| pct.map(|pct| pct.clamp(0.0, 100.0) + 0.0);
    match state {
        AssetState::Ev {
            plugged,
            soc_pct,
            power_w,
            departure_ms,
            goal_pct,
        } => AssetState::Ev {
            plugged,
            soc_pct: percent(soc_pct),
            power_w: power_w + 0.0,
            departure_ms,
            goal_pct: percent(goal_pct),
        },
        AssetState::Heat {
            temperature_c,
            power_w,
        } => AssetState::Heat {
            temperature_c: temperature_c + 0.0,
            power_w: power_w.max(0.0) + 0.0,
        },
    }
}
