//! A home's load of the past days, a byte a quarter of an hour (or a slot, if that is longer).
//!
//! A byte holds a power as a number of four bits times a power of two: within 3.2 % and 2 W, up to 1.97 MW. The ring is
//! addressed by UTC time, so a day of 92 or 100 quarter hours is nothing special; habits follow the local clock, which
//! [`History`] reads. A million homes at quarter hours take 2.7 GB.

use serde::{Deserialize, Serialize};

use crate::local_time::Offsets;
use model::units::{MINUTE_MS, SlotLength};

/// Days kept with cells of a quarter of an hour, which is 2,688 bytes.
const DAYS_MAX_QUARTER_HOUR: usize = 28;
/// Days kept with longer cells: 2,016 bytes at half an hour, 1,008 at an hour.
const DAYS_MAX: usize = 42;

/// No reading.
const MISSING: u8 = u8::MAX;
/// The smallest step of power, W.
const STEP_W: f64 = 4.0;

const fn watts_of_codes() -> [f32; 256] {
    let mut watts = [f32::NAN; 256];
    let mut code = 0;
    while code < MISSING as usize {
        let (exponent, mantissa) = (code >> 4, code & 15);
        let steps = if exponent == 0 {
            mantissa
        } else {
            (16 + mantissa) << (exponent - 1)
        };
        watts[code] = steps as f32 * STEP_W as f32;
        code += 1;
    }
    watts
}

/// The power of each code, W; NaN for [`MISSING`].
static WATTS: [f32; 256] = watts_of_codes();

/// Returns a code whose power is near. Powers below 0 are 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is 0 to 507,904"
)]
fn code(power_w: f64) -> u8 {
    let steps = (power_w / STEP_W).round().clamp(0.0, 507_904.0) as u32;
    if steps < 16 {
        return steps as u8;
    }
    let shift = 27 - steps.leading_zeros();
    let mantissa = (steps + ((1 << shift) >> 1)) >> shift;
    (((shift + 1) << 4) + mantissa - 16).min(u32::from(MISSING) - 1) as u8
}

/// The cell that slots shorter than it are put together in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct OpenCell {
    index: i64,
    /// The newest slot in it.
    newest_ms: i64,
    sum_w: f64,
    count: u32,
}

/// The load of the past days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profiles {
    slot: SlotLength,
    /// Number of the newest cell since the epoch; `None` while there is none.
    newest: Option<i64>,
    open: Option<OpenCell>,
    offsets: Offsets,
    /// The cell of number `n` lies at `n` modulo their count.
    cells: Vec<u8>,
}

impl Profiles {
    /// Returns profiles without a reading, for slots of this length.
    #[must_use]
    pub fn new(slot: SlotLength) -> Self {
        let cell = cell_length(slot);
        let days = if cell == SlotLength::QUARTER_HOUR {
            DAYS_MAX_QUARTER_HOUR
        } else {
            DAYS_MAX
        };
        Self {
            slot,
            newest: None,
            open: None,
            offsets: Offsets::default(),
            cells: vec![MISSING; days * cell.per_day()],
        }
    }

    /// Length of the slots.
    #[must_use]
    pub const fn slot(&self) -> SlotLength {
        self.slot
    }

    /// Length of the cells: the slots', but at least a quarter of an hour.
    #[must_use]
    pub const fn cell(&self) -> SlotLength {
        cell_length(self.slot)
    }

    /// The first moment after the newest cell, UTC epoch milliseconds; `None` while there is none.
    #[must_use]
    pub fn end_ms(&self) -> Option<i64> {
        self.newest.map(|newest| (newest + 1) * self.cell().ms())
    }

    /// Notes the mean load of a closed slot, W, and the local offset in it, minutes. A slot that was noted before is
    /// corrected; of slots shorter than a cell only while their cell is the newest. Older slots than the days kept are
    /// dropped.
    pub fn observe(&mut self, start_ms: i64, offset_min: i32, load_w: f64) {
        self.offsets.note(start_ms, offset_min);
        let index = start_ms.div_euclid(self.cell().ms());
        if self.slot == self.cell() {
            self.set(index, code(load_w));
            return;
        }
        match &mut self.open {
            Some(open) if open.index == index => {
                if start_ms > open.newest_ms {
                    open.newest_ms = start_ms;
                    open.sum_w += load_w;
                    open.count += 1;
                }
                let mean_w = open.sum_w / f64::from(open.count);
                self.set(index, code(mean_w));
            }
            Some(open) if open.index > index => {
                if self.cell_w(index).is_nan() {
                    self.set(index, code(load_w));
                }
            }
            Some(_) | None => {
                self.open = Some(OpenCell {
                    index,
                    newest_ms: start_ms,
                    sum_w: load_w,
                    count: 1,
                });
                self.set(index, code(load_w));
            }
        }
    }

    fn set(&mut self, index: i64, code: u8) {
        let count = i64::try_from(self.cells.len()).expect("six weeks have few slots");
        let newest = *self.newest.get_or_insert(index);
        if index <= newest - count {
            return;
        }
        for skipped in (newest + 1).max(index - count + 1)..=index {
            let place = self.place(skipped);
            self.cells[place] = MISSING;
        }
        self.newest = Some(newest.max(index));
        let place = self.place(index);
        self.cells[place] = code;
    }

    /// Forgets what lies after `ts_ms`, when a clock was ahead.
    pub fn forget_after(&mut self, ts_ms: i64) {
        let last = ts_ms.div_euclid(self.cell().ms());
        self.open = self.open.filter(|open| open.index <= last);
        self.offsets.forget_after(ts_ms);
        let Some(newest) = self.newest.filter(|newest| *newest > last) else {
            return;
        };
        let count = i64::try_from(self.cells.len()).expect("six weeks have few slots");
        for index in (last + 1).max(newest - count + 1)..=newest {
            let place = self.place(index);
            self.cells[place] = MISSING;
        }
        self.newest = Some(last);
    }

    /// The same days for slots of another length.
    #[must_use]
    pub fn resized(&self, slot: SlotLength) -> Self {
        let mut resized = Self::new(slot);
        if self.cell() == resized.cell() {
            resized.clone_from(self);
            resized.slot = slot;
            resized.open = None;
            return resized;
        }
        resized.offsets = self.offsets.clone();
        let Some(end_ms) = self.end_ms() else {
            return resized;
        };
        let length_ms = resized.cell().ms();
        let count = i64::try_from(resized.cells.len()).expect("six weeks have few slots");
        let last = (end_ms - 1).div_euclid(length_ms);
        for index in last - count + 1..=last {
            let mean_w = self.mean_w(index * length_ms, (index + 1) * length_ms);
            if let Some(mean_w) = mean_w {
                resized.set(index, code(mean_w));
            }
        }
        resized
    }

    /// Returns whether a slot is later than all that were noted in the newest cell.
    pub(crate) fn is_open(&self, start_ms: i64) -> bool {
        self.open.is_some_and(|open| start_ms > open.newest_ms)
    }

    /// Returns the mean load of the known cells that touch a time, W.
    fn mean_w(&self, start_ms: i64, end_ms: i64) -> Option<f64> {
        let (sum_w, count) = self.sum_w(start_ms, end_ms);
        (count > 0).then(|| sum_w / f64::from(count))
    }

    /// Returns the mean load of a time of which each cell is known, W.
    pub(crate) fn whole_mean_w(&self, start_ms: i64, end_ms: i64) -> Option<f64> {
        let (sum_w, count) = self.sum_w(start_ms, end_ms);
        let is_whole = i64::from(count) * self.cell().ms() >= end_ms - start_ms;
        is_whole.then(|| sum_w / f64::from(count))
    }

    fn sum_w(&self, start_ms: i64, end_ms: i64) -> (f64, u32) {
        let length_ms = self.cell().ms();
        let (mut sum_w, mut count) = (0.0, 0);
        for index in start_ms.div_euclid(length_ms)..=(end_ms - 1).div_euclid(length_ms) {
            let power_w = self.cell_w(index);
            if !power_w.is_nan() {
                sum_w += f64::from(power_w);
                count += 1;
            }
        }
        (sum_w, count)
    }

    /// Returns what was known before `now_ms`, UTC epoch milliseconds.
    #[must_use]
    pub fn until(&self, now_ms: i64) -> History<'_> {
        let end = now_ms.div_euclid(self.cell().ms());
        let count = i64::try_from(self.cells.len()).expect("six weeks have few slots");
        let first = end - count;
        let split = self.place(first);
        let (later, earlier) = self.cells.split_at(split);
        let mut cells_w: Vec<f32> = Vec::with_capacity(self.cells.len());
        for codes in [earlier, later] {
            cells_w.extend(codes.iter().map(|code| WATTS[usize::from(*code)]));
        }
        // What the ring holds of after `now_ms` lies where older cells would.
        let ahead = self.newest.map_or(0, |newest| newest + 1 - end).max(0);
        let ahead = usize::try_from(ahead).map_or(cells_w.len(), |ahead| ahead.min(cells_w.len()));
        cells_w[..ahead].fill(f32::NAN);
        // A ring whose newest cell is long ago holds cells that are too old.
        if let Some(newest) = self.newest {
            let stale = usize::try_from((end - 1 - newest).max(0)).unwrap_or(cells_w.len());
            let known = cells_w.len().saturating_sub(stale);
            cells_w[known..].fill(f32::NAN);
        }
        History {
            cells_w,
            first,
            cell: self.cell(),
            offsets: &self.offsets,
        }
    }

    /// The load in the cell of this number, W; NaN if it is not known.
    pub(crate) fn cell_w(&self, index: i64) -> f32 {
        let Some(newest) = self.newest else {
            return f32::NAN;
        };
        let is_kept = usize::try_from(newest - index).is_ok_and(|age| age < self.cells.len());
        if is_kept {
            WATTS[usize::from(self.cells[self.place(index)])]
        } else {
            f32::NAN
        }
    }

    fn place(&self, index: i64) -> usize {
        let count = i64::try_from(self.cells.len()).expect("six weeks have few slots");
        usize::try_from(index.rem_euclid(count)).expect("a remainder is not negative")
    }
}

/// The load of the past days before a moment.
#[derive(Debug, Clone)]
pub struct History<'a> {
    /// Ascending, without a gap; NaN where nothing is known.
    cells_w: Vec<f32>,
    /// Number of the first cell since the epoch.
    first: i64,
    cell: SlotLength,
    offsets: &'a Offsets,
}

impl History<'_> {
    /// Returns the load in the cell that contains `ts_ms`, W; NaN if it is not known.
    #[must_use]
    pub fn at_w(&self, ts_ms: i64) -> f32 {
        let index = ts_ms.div_euclid(self.cell.ms()) - self.first;
        let cell = usize::try_from(index).ok();
        cell.and_then(|cell| self.cells_w.get(cell))
            .copied()
            .unwrap_or(f32::NAN)
    }

    /// Returns the moment at which clocks showed a local time, UTC epoch milliseconds; the later one of two.
    #[must_use]
    pub fn utc_ms(&self, local_ms: i64) -> i64 {
        self.offsets.utc_ms(local_ms)
    }

    /// Returns the moment of the first of two local times, if all between them are read with the same offset.
    pub(crate) fn unchanged_utc_ms(&self, first_ms: i64, last_ms: i64) -> Option<i64> {
        self.offsets.unchanged_utc_ms(first_ms, last_ms)
    }

    /// Adds the loads of the `count` cells from the one on that contains `ts_ms`, W; NaN where it is not known.
    pub(crate) fn add_from(&self, ts_ms: i64, count: usize, loads_w: &mut Vec<f64>) {
        let first = ts_ms.div_euclid(self.cell.ms()) - self.first;
        let known = i64::try_from(self.cells_w.len()).expect("six weeks have few slots");
        let cell = |index: i64| usize::try_from(index.clamp(0, known)).unwrap_or(0);
        let end = first + i64::try_from(count).expect("a horizon has 672 slots at most");
        let cells_w = &self.cells_w[cell(first)..cell(end)];
        let unknown_before = if first < 0 {
            cell(-first).min(count)
        } else {
            0
        };
        let whole = loads_w.len() + count;
        loads_w.extend(std::iter::repeat_n(f64::NAN, unknown_before));
        loads_w.extend(cells_w.iter().map(|power_w| f64::from(*power_w)));
        loads_w.resize(whole, f64::NAN);
    }

    /// Returns the local time at `ts_ms` as if it were UTC, epoch milliseconds.
    #[must_use]
    pub fn local_ms(&self, ts_ms: i64) -> i64 {
        self.offsets.local_ms(ts_ms)
    }

    /// Returns local time less UTC at `ts_ms`, minutes.
    pub(crate) fn offset_min(&self, ts_ms: i64) -> i32 {
        let minutes = (self.local_ms(ts_ms) - ts_ms) / MINUTE_MS;
        i32::try_from(minutes).expect("an offset is a few hours")
    }

    /// Length of the cells.
    #[must_use]
    pub const fn cell(&self) -> SlotLength {
        self.cell
    }

    /// Number of days that fit.
    pub(crate) fn days_max(&self) -> i64 {
        let days = self.cells_w.len() / self.cell.per_day();
        i64::try_from(days).expect("six weeks have few days")
    }

    /// Returns the known cells of whole days that end at `end_ms`.
    pub(crate) fn cells_before(&self, end_ms: i64, count: usize) -> &[f32] {
        let end = usize::try_from(end_ms.div_euclid(self.cell.ms()) - self.first).unwrap_or(0);
        let end = end.min(self.cells_w.len());
        &self.cells_w[end.saturating_sub(count)..end]
    }

    /// The known cells with their start, UTC epoch milliseconds, newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (i64, f64)> {
        let start_ms = self.first * self.cell.ms();
        let starts_ms = (0..self.cells_w.len()).map(move |place| {
            start_ms + i64::try_from(place).expect("six weeks have few slots") * self.cell.ms()
        });
        let timed = starts_ms.zip(self.cells_w.iter().map(|power_w| f64::from(*power_w)));
        timed.rev().filter(|(_, power_w)| !power_w.is_nan())
    }

    /// Returns how many of the past days have a known cell.
    #[must_use]
    pub fn days_known(&self) -> usize {
        let days = self.cells_w.chunks(self.cell.per_day());
        days.filter(|day| day.iter().any(|power_w| !power_w.is_nan()))
            .count()
    }
}

const fn cell_length(slot: SlotLength) -> SlotLength {
    if slot.minutes() < SlotLength::QUARTER_HOUR.minutes() {
        SlotLength::QUARTER_HOUR
    } else {
        slot
    }
}
