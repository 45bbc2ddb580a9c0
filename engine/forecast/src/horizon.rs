//! The slots that a forecast is for.

use crate::local_time::LocalTime;
use model::units::SlotLength;

/// Equal slots from a moment on.
#[derive(Debug, Clone, Copy)]
pub struct Horizon {
    /// Start of the first slot, UTC epoch milliseconds, a multiple of the slot's length.
    pub start_ms: i64,
    /// Length of a slot.
    pub slot: SlotLength,
    /// Number of slots: 1 to 672.
    pub slots_count: usize,
    /// The home's clock.
    pub local: LocalTime,
}

impl Horizon {
    /// Starts of the slots, UTC epoch milliseconds.
    pub fn starts_ms(self) -> impl Iterator<Item = i64> {
        std::iter::successors(Some(self.start_ms), move |ms| Some(ms + self.slot.ms()))
            .take(self.slots_count)
    }

    /// The first moment after the last slot, UTC epoch milliseconds.
    #[must_use]
    pub fn end_ms(self) -> i64 {
        let slots_count = i64::try_from(self.slots_count).expect("a horizon has 672 slots at most");
        self.start_ms + slots_count * self.slot.ms()
    }
}
