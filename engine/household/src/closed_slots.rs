//! The ended slots of a home's last 24 hours, kept small enough for a million homes: one cell per slot in a ring. Times
//! are not stored; they follow from the position.

use std::collections::VecDeque;

use serde::Deserialize;

use model::slot::{Slot, Stat};
use model::units::SlotLength;

/// The figures of an ended slot that forecasts and rolling figures need, to a quarter of a watt.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct ClosedSlot {
    pub(crate) start_ms: i64,
    /// Mean and highest load, W.
    pub(crate) load_w: Option<(f32, f32)>,
    /// Mean PV production, W.
    pub(crate) pv_w: Option<f32>,
}

impl ClosedSlot {
    pub(crate) fn of(slot: &Slot) -> Self {
        let load_w = slot.load_w.mean();
        Self {
            start_ms: slot.start_ms,
            load_w: load_w.map(|mean_w| (single(mean_w), single(slot.load_w.max))),
            pv_w: slot.pv_w.mean().map(single),
        }
    }

    /// Returns a slot with the same means and peak, as if each series had one reading.
    pub(crate) fn slot(&self, length: SlotLength) -> Slot {
        let one = |mean_w: f32, max_w: f32| Stat {
            sum: f64::from(mean_w),
            count: 1,
            min: f64::from(mean_w),
            max: f64::from(max_w),
        };
        Slot {
            load_w: self
                .load_w
                .map_or(Stat::EMPTY, |(mean_w, max_w)| one(mean_w, max_w)),
            pv_w: self.pv_w.map_or(Stat::EMPTY, |mean_w| one(mean_w, mean_w)),
            ..Slot::empty(self.start_ms, length.minutes())
        }
    }
}

const QUARTERS_PER_W: f64 = 4.0;
/// More than any home has.
const POWER_W_MAX: f64 = 1e12;

/// Rounds a power to a quarter of a watt. Above 4 MW there are seven digits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the number of digits is what is cut"
)]
fn single(power_w: f64) -> f32 {
    let power_w = power_w.clamp(-POWER_W_MAX, POWER_W_MAX);
    ((power_w * QUARTERS_PER_W).round() / QUARTERS_PER_W) as f32
}

/// Returns a power that is kept in quarters of a watt.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is whole and below 1e13"
)]
pub(crate) fn quarters(power_w: f32) -> i64 {
    (f64::from(power_w) * QUARTERS_PER_W) as i64
}

/// Returns the power of so many quarters of a watt.
#[expect(clippy::cast_precision_loss, reason = "powers are below 1e13 quarters")]
pub(crate) fn watts(quarters: i64) -> f32 {
    single(quarters as f64 / QUARTERS_PER_W)
}

/// A slot in the ring: mean load, highest load, mean PV; NaN for a series without readings.
#[derive(Debug, Clone, Copy)]
struct Cell([f32; 3]);

impl Cell {
    /// No slot has ended at this position.
    const GAP: Self = Self([f32::INFINITY; 3]);

    fn of(slot: &ClosedSlot) -> Self {
        let (mean_w, max_w) = slot.load_w.unwrap_or((f32::NAN, f32::NAN));
        Self([mean_w, max_w, slot.pv_w.unwrap_or(f32::NAN)])
    }

    const fn is_gap(&self) -> bool {
        self.0[0] == f32::INFINITY
    }

    fn slot(&self, start_ms: i64) -> ClosedSlot {
        let [mean_w, max_w, pv_w] = self.0;
        ClosedSlot {
            start_ms,
            load_w: (!mean_w.is_nan()).then_some((mean_w, max_w)),
            pv_w: (!pv_w.is_nan()).then_some(pv_w),
        }
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.0.map(f32::to_bits) == other.0.map(f32::to_bits)
    }
}

/// The slots in order of their start, at most 24 hours up to the newest. Neither end is a gap.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClosedSlots {
    length: SlotLength,
    first_ms: i64,
    ring: VecDeque<Cell>,
}

impl ClosedSlots {
    pub(crate) const fn new(length: SlotLength) -> Self {
        Self {
            length,
            first_ms: 0,
            ring: VecDeque::new(),
        }
    }

    /// Returns the slots of a list as snapshots up to version 4 have it: the time of the first slot, and then that of each
    /// or the number of slots since the one before. A number that no day can reach counts as a time.
    pub(crate) fn restored(length: SlotLength, slots: &[ClosedSlot]) -> Self {
        let mut restored = Self::new(length);
        let steps_max = i64::try_from(length.per_day()).expect("a day has few slots");
        let mut before_ms = None;
        for slot in slots {
            let start_ms = match before_ms {
                Some(before_ms) if (0..=steps_max).contains(&slot.start_ms) => {
                    before_ms + slot.start_ms * length.ms()
                }
                Some(_) | None => slot.start_ms,
            };
            let rounded = |power_w: f32| single(f64::from(power_w));
            restored.insert(&ClosedSlot {
                start_ms,
                load_w: slot
                    .load_w
                    .map(|(mean_w, max_w)| (rounded(mean_w), rounded(max_w))),
                pv_w: slot.pv_w.map(rounded),
            });
            before_ms = Some(start_ms);
        }
        restored
    }

    /// The same time in slots of `length`: a longer slot is cut, shorter ones are put together where all of their time
    /// has ended.
    pub(crate) fn resized(&self, length: SlotLength) -> Self {
        let mut resized = Self::new(length);
        let end_ms = self.newest_ms().map_or(0, |ms| ms + self.length.ms());
        if length.ms() < self.length.ms() {
            self.iter()
                .for_each(|slot| resized.insert_cut(&slot, self.length));
            return resized;
        }
        let mut slots = self.iter().peekable();
        while let Some(first) = slots.peek().copied() {
            let start_ms = length.start_of_ms(first.start_ms);
            let until_ms = start_ms + length.ms();
            let mut slot = Slot::empty(start_ms, length.minutes());
            while let Some(part) = slots.next_if(|part| part.start_ms < until_ms) {
                if let Some((mean_w, max_w)) = part.load_w {
                    slot.load_w.add(f64::from(mean_w));
                    slot.load_w.max = slot.load_w.max.max(f64::from(max_w));
                }
                part.pv_w
                    .into_iter()
                    .for_each(|pv_w| slot.pv_w.add(f64::from(pv_w)));
            }
            if until_ms <= end_ms {
                resized.insert(&ClosedSlot::of(&slot));
            }
        }
        resized
    }

    /// Puts a slot of a greater length in the place of those that it covers.
    pub(crate) fn insert_cut(&mut self, slot: &ClosedSlot, length: SlotLength) {
        let end_ms = slot.start_ms + length.ms();
        for start_ms in (slot.start_ms..end_ms).step_by(self.step()) {
            self.insert(&ClosedSlot { start_ms, ..*slot });
        }
    }

    /// Iterates over the slots in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ClosedSlot> + '_ {
        self.cells().flatten()
    }

    /// Iterates over the times from [`Self::first_ms`] on, in each of which a slot has ended or not.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Option<ClosedSlot>> + '_ {
        let starts = (self.first_ms..).step_by(self.step());
        let cells = starts.zip(&self.ring);
        cells.map(|(start_ms, cell)| (!cell.is_gap()).then(|| cell.slot(start_ms)))
    }

    pub(crate) fn cells_count(&self) -> usize {
        self.ring.len()
    }

    /// Start of the oldest slot, if there is one.
    pub(crate) const fn first_ms(&self) -> i64 {
        self.first_ms
    }

    pub(crate) fn get(&self, start_ms: i64) -> Option<ClosedSlot> {
        let index = usize::try_from(self.index(start_ms)).ok()?;
        let cell = self.ring.get(index).filter(|cell| !cell.is_gap())?;
        Some(cell.slot(start_ms))
    }

    /// Returns the start of the newest slot.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        let last = i64::try_from(self.ring.len()).ok()? - 1;
        (last >= 0).then(|| self.first_ms + last * self.length.ms())
    }

    /// Inserts a slot of this length, and forgets what is 24 hours or more before the newest.
    pub(crate) fn insert(&mut self, slot: &ClosedSlot) {
        let slots_max = self.length.per_day();
        let most = i64::try_from(slots_max).expect("a day has few slots");
        let count = i64::try_from(self.ring.len()).expect("a day has few slots");
        let index = self.index(slot.start_ms);
        if count > 0 && index < count - most {
            return;
        }
        for _ in 0..(index + 1 - most).clamp(0, count) {
            self.ring.pop_front();
            self.first_ms += self.length.ms();
        }
        if self.ring.is_empty() {
            // It will never hold more than a day.
            self.ring.reserve_exact(slots_max);
            self.first_ms = slot.start_ms;
        }
        for _ in self.index(slot.start_ms)..0 {
            self.ring.push_front(Cell::GAP);
            self.first_ms -= self.length.ms();
        }
        let index = usize::try_from(self.index(slot.start_ms)).expect("the front is not later");
        while self.ring.len() <= index {
            self.ring.push_back(Cell::GAP);
        }
        self.ring[index] = Cell::of(slot);
        self.trim();
    }

    /// Forgets the slots that begin after `ts_ms`.
    pub(crate) fn forget_after(&mut self, ts_ms: i64) {
        while self.newest_ms().is_some_and(|newest_ms| newest_ms > ts_ms)
            || self.ring.back().is_some_and(Cell::is_gap)
        {
            self.ring.pop_back();
        }
    }

    /// Removes gaps at the front.
    fn trim(&mut self) {
        while self.ring.front().is_some_and(Cell::is_gap) {
            self.ring.pop_front();
            self.first_ms += self.length.ms();
        }
    }

    /// Returns the position of `start_ms` in the ring; negative before the first slot.
    const fn index(&self, start_ms: i64) -> i64 {
        (start_ms - self.first_ms).div_euclid(self.length.ms())
    }

    fn step(&self) -> usize {
        usize::try_from(self.length.ms()).expect("an hour fits")
    }
}
