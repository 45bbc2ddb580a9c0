//! What a home's EVs and heaters drew in the slots that ended last. The meter counts it too, and plans decide it anew, so
//! forecasts of the load leave it out.

use serde::{Deserialize, Serialize};

/// Most slots that are kept. Late readings may correct the load of these; that of older ones stays as it was told.
const SLOTS_MAX: usize = 8;

/// Energy by slot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drawn {
    /// Ascending; a slot without an entry had nothing.
    slots: Vec<DrawnSlot>,
    /// Nothing is known of what was drawn before, UTC epoch milliseconds.
    known_from_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct DrawnSlot {
    start_ms: i64,
    watt_ms: f64,
}

impl Drawn {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            known_from_ms: None,
        }
    }

    /// Notes that `power_w` was drawn over a time, in slots of `slot_ms`.
    pub(crate) fn add(&mut self, over_ms: std::ops::Range<i64>, power_w: f64, slot_ms: i64) {
        let mut start_ms = over_ms.start - over_ms.start.rem_euclid(slot_ms);
        while start_ms < over_ms.end {
            let watt_ms = power_w * overlap_ms(&over_ms, &(start_ms..start_ms + slot_ms));
            match self
                .slots
                .binary_search_by_key(&start_ms, |slot| slot.start_ms)
            {
                Ok(index) => self.slots[index].watt_ms += watt_ms,
                Err(index) => self.slots.insert(index, DrawnSlot { start_ms, watt_ms }),
            }
            start_ms += slot_ms;
        }
        while self.slots.len() > SLOTS_MAX {
            let oldest = self.slots.remove(0);
            self.known_from_ms = self.known_from_ms.max(Some(oldest.start_ms + slot_ms));
        }
    }

    /// Returns the energy noted in a slot, watt-milliseconds; `None` if it is not known any more.
    pub(crate) fn watt_ms(&self, slot_start_ms: i64) -> Option<f64> {
        if self
            .known_from_ms
            .is_some_and(|from_ms| slot_start_ms < from_ms)
        {
            return None;
        }
        let found = self
            .slots
            .binary_search_by_key(&slot_start_ms, |slot| slot.start_ms);
        Some(found.map_or(0.0, |index| self.slots[index].watt_ms))
    }

    /// Forgets what was drawn after `ts_ms`, when a clock was ahead.
    pub(crate) fn forget_after(&mut self, ts_ms: i64) {
        self.slots.retain(|slot| slot.start_ms <= ts_ms);
        self.known_from_ms = self.known_from_ms.filter(|from_ms| *from_ms <= ts_ms);
    }
}

/// Returns for how long both last, milliseconds.
#[expect(clippy::cast_precision_loss, reason = "a slot in milliseconds fits")]
pub(crate) fn overlap_ms(one: &std::ops::Range<i64>, other: &std::ops::Range<i64>) -> f64 {
    let from_ms = one.start.max(other.start);
    (one.end.min(other.end) - from_ms).max(0) as f64
}
