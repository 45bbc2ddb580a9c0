//! The newest state of each EV and heat store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use model::asset::{AssetKind, AssetReading, AssetState};
use model::limits::STORES_MAX;
use model::reading::ReadingOutcome;

/// Most assets of one kind whose state a home keeps.
const KEPT_MAX: usize = 2 * STORES_MAX;

/// The newest reading of each asset, by kind and id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Assets(BTreeMap<(AssetKind, String), NewestState>);

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
        Self(BTreeMap::new())
    }

    /// Takes in a reading; returns what became of it. `None` if the home has no room for the state of another asset.
    pub(crate) fn take_in(&mut self, reading: &AssetReading) -> Option<ReadingOutcome> {
        let judged = clamped(reading.state);
        let key = (reading.state.kind(), reading.id.clone());
        let newest = NewestState {
            ts_ms: reading.ts_ms,
            state: judged,
        };
        let kind = key.0;
        if let Some(held) = self.0.get_mut(&key) {
            if held.ts_ms > reading.ts_ms {
                return Some(ReadingOutcome::Late);
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
            if self.0.keys().filter(|(of, _)| *of == kind).count() >= KEPT_MAX {
                return None;
            }
            self.0.insert(key, newest);
        }
        Some(if judged == reading.state {
            ReadingOutcome::Accepted
        } else {
            ReadingOutcome::Clamped
        })
    }

    /// Returns the newest state of an asset; `None` if there was no reading.
    pub(crate) fn newest(&self, kind: AssetKind, id: &str) -> Option<NewestState> {
        self.0.get(&(kind, id.to_owned())).copied()
    }

    /// Returns the time of the newest reading of all, UTC epoch milliseconds.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.0.values().map(|newest| newest.ts_ms).max()
    }

    /// Forgets what lies after `latest_ms`: it was read by a clock that was ahead, and would hold back all that follows.
    pub(crate) fn forget_after(&mut self, latest_ms: i64) {
        self.0.retain(|_, newest| newest.ts_ms <= latest_ms);
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
