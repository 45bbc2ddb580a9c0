//! A home's windows over event time: the open slots with their raw readings, and the ended slots of the last 24 hours.
//! Nothing here reads a clock; the watermark is the latest event time seen.

use std::collections::VecDeque;

use crate::closed_slots::{ClosedSlot, ClosedSlots};
use crate::effect::{Effect, Refusal};
use crate::open_slot::{OpenSlot, RawReading, RawReadings};
use crate::refused::refuse;
use crate::settings::Settings;
use model::reading::{Kind, Reading, ReadingOutcome};
use model::slot::Slot;
use model::units::{DAY_MS, HouseholdId, SlotLength};

/// Most numbers of raw readings that one home holds; a battery's reading has two. Beyond that, readings are still stored,
/// but an open slot keeps only the newest of each kind and is aggregated from the store when it ends. The limit has room
/// for 45 minutes of load, PV and battery at one reading per second.
pub const RAW_NUMBERS_MAX: usize = 10_800;

/// How many numbers the newest reading of each kind has, added up.
pub(crate) const NEWEST_NUMBERS_MAX: usize = 4;

/// `Windows::whole_from_ms` of a home that has held every reading since its first.
const NEWBORN_MS: i64 = i64::MIN + 1;

/// The windows of one home.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Windows {
    pub(crate) length: SlotLength,
    /// Latest event time seen.
    pub(crate) watermark_ms: Option<i64>,
    /// If a slot begins before this and is not open, the store may have readings of it that are not here: the home's
    /// state is new, or the raw readings have been dropped.
    pub(crate) whole_from_ms: i64,
    /// Ascending.
    pub(crate) open: VecDeque<OpenSlot>,
    pub(crate) closed: ClosedSlots,
}

impl Windows {
    /// Returns empty windows. Unless `is_newborn`, the home may have had readings before.
    pub(crate) const fn new(is_newborn: bool) -> Self {
        Self {
            length: SlotLength::QUARTER_HOUR,
            watermark_ms: None,
            whole_from_ms: if is_newborn { NEWBORN_MS } else { i64::MIN },
            open: VecDeque::new(),
            closed: ClosedSlots::new(SlotLength::QUARTER_HOUR),
        }
    }

    /// Handles one reading: adds it to its slot, ends slots that are now over, and corrects ended slots that it changes.
    pub(crate) fn take_in(
        &mut self,
        reading: &Reading,
        settings: &Settings,
        effects: &mut Vec<Effect>,
    ) {
        let start_ms = self.length.start_of_ms(reading.ts_ms);
        let kind = reading.measurement.kind();
        let is_late = self.is_late(start_ms, settings);
        if is_late && !settings.stores_readings {
            return refuse(reading, Refusal::Late, effects);
        }
        let may_have_lived = self.watermark_ms.is_none() && self.whole_from_ms != NEWBORN_MS;
        if may_have_lived && settings.stores_readings {
            // If an earlier state was lost, it may have seen readings ahead of this one by up to the grace period.
            let ahead_ms =
                self.length.start_of_ms(reading.ts_ms + settings.grace_ms) + self.length.ms();
            self.whole_from_ms = self.whole_from_ms.max(ahead_ms);
        }
        let room = self.numbers_count() + numbers_of(kind) <= RAW_NUMBERS_MAX;
        if !room && !settings.stores_readings {
            return refuse(reading, Refusal::Full, effects);
        }
        let raw = RawReading {
            offset_ms: u32::try_from(reading.ts_ms - start_ms)
                .expect("a slot lasts an hour at most"),
            measurement: reading.measurement,
        };
        let index = self.open_slot(start_ms);
        let mut outcome = self.open[index].take_in(raw, room);
        if is_late {
            // The slot's other readings are not here, so a duplicate could not be recognised.
            self.open[index].ended = true;
            outcome = ReadingOutcome::Late;
        }
        effects.push(Effect::CountReading { kind, outcome });
        if outcome == ReadingOutcome::Duplicate {
            return;
        }
        if settings.stores_readings {
            effects.push(Effect::StoreReading(*reading));
        } else {
            // The setting may have been different when the slot began.
            self.open[index].from_store = false;
        }
        let watermark_ms = self
            .watermark_ms
            .map_or(reading.ts_ms, |ms| ms.max(reading.ts_ms));
        self.watermark_ms = Some(watermark_ms);
        self.correct(reading, settings, effects);
        self.end_until(reading.household_id, watermark_ms, settings, effects);
        self.let_go(watermark_ms, settings);
    }

    /// Returns whether the slot has dropped its raw readings.
    pub(crate) fn is_late(&self, start_ms: i64, settings: &Settings) -> bool {
        let over_ms = start_ms + self.length.ms() + settings.grace_ms;
        self.watermark_ms
            .is_some_and(|watermark_ms| over_ms <= watermark_ms)
            || (!settings.stores_readings && self.is_trimmed(start_ms))
    }

    /// Returns whether an open slot holds only its newest readings.
    fn is_trimmed(&self, start_ms: i64) -> bool {
        let end_ms = start_ms + self.length.ms();
        end_ms <= self.whole_from_ms
            && self
                .find(start_ms)
                .is_ok_and(|index| self.open[index].ended && !self.open[index].from_store)
    }

    /// Aggregates the ended slots that a reading changes again: its own, and those that it holds into. Those that are no
    /// longer open are opened by [`Self::end_until`].
    fn correct(&mut self, reading: &Reading, settings: &Settings, effects: &mut Vec<Effect>) {
        let id = reading.household_id;
        let own_ms = self.length.start_of_ms(reading.ts_ms);
        let until_ms = (reading.ts_ms + settings.hold_ms).max(own_ms + 1);
        let mut start_ms = own_ms;
        while start_ms < until_ms {
            if let Ok(index) = self.find(start_ms)
                && self.open[index].ended
            {
                self.emit_aggregate(id, index, settings, effects);
            }
            start_ms += self.length.ms();
        }
    }

    /// Ends the slots that are over by `until_ms`.
    pub(crate) fn end_until(
        &mut self,
        household_id: HouseholdId,
        until_ms: i64,
        settings: &Settings,
        effects: &mut Vec<Effect>,
    ) {
        self.open_held(until_ms, settings);
        for index in 0..self.open.len() {
            let slot = &mut self.open[index];
            if !slot.ended && slot.start_ms + self.length.ms() <= until_ms {
                slot.ended = true;
                self.emit_aggregate(household_id, index, settings, effects);
            }
        }
    }

    /// Opens slots without readings into which an earlier reading holds, if they end by `until_ms`.
    fn open_held(&mut self, until_ms: i64, settings: &Settings) {
        let length_ms = self.length.ms();
        let mut held_ms = i64::MIN;
        let mut index = 0;
        while let Some(slot) = self.open.get(index) {
            if let Some(newest_ms) = slot.newest_ms() {
                held_ms = held_ms.max(newest_ms + settings.hold_ms);
            }
            let next_ms = slot.start_ms + length_ms;
            if next_ms < held_ms && next_ms + length_ms <= until_ms {
                // The reading may hold into a slot that was itself opened here.
                self.open_slot(next_ms);
            }
            index += 1;
        }
    }

    /// Takes over the store's aggregate of a slot, after `Effect::RepairSlot`.
    pub(crate) fn repair(
        &mut self,
        household_id: HouseholdId,
        slot: Slot,
        effects: &mut Vec<Effect>,
    ) {
        if slot.samples_count() == 0 {
            return;
        }
        effects.push(Effect::StoreSlot { household_id, slot });
        match SlotLength::new(slot.slot_minutes) {
            Some(length) if length.ms() >= self.length.ms() => {
                self.closed.insert_cut(&ClosedSlot::of(&slot), length);
            }
            Some(_) | None => {}
        }
    }

    /// Goes over to slots of another length, before a reading of `next_ms` is taken in if there is one. What is open is
    /// left to the store, which can cut it anew. Where the store has no readings, the rows that were written keep what
    /// is in them, so longer slots begin with the next one that a reading comes into.
    pub(crate) fn set_length(
        &mut self,
        household_id: HouseholdId,
        next_ms: Option<i64>,
        settings: &Settings,
        effects: &mut Vec<Effect>,
    ) {
        let length = settings.slot;
        if self.length == length {
            return;
        }
        if !settings.stores_readings && length.ms() > self.length.ms() {
            let first_ms = next_ms.map(|next_ms| length.start_of_ms(next_ms));
            let newest_ms = self.open.back().map(|slot| slot.start_ms);
            if newest_ms.is_some() && newest_ms >= first_ms {
                return;
            }
            if let Some(first_ms) = first_ms {
                self.end_until(household_id, first_ms, settings, effects);
            }
        }
        let before = std::mem::take(&mut self.open);
        self.closed = self.closed.resized(length);
        let before_length = std::mem::replace(&mut self.length, length);
        for slot in &before {
            let end_ms = slot.start_ms + before_length.ms();
            let mut start_ms = length.start_of_ms(slot.start_ms);
            while start_ms < end_ms {
                let index = self.open_slot(start_ms);
                self.open[index].from_store = settings.stores_readings;
                start_ms += length.ms();
            }
        }
        if settings.stores_readings {
            if let Some(watermark_ms) = self.watermark_ms {
                let next_ms = length.start_of_ms(watermark_ms) + length.ms();
                self.whole_from_ms = self.whole_from_ms.max(next_ms);
            }
            return;
        }
        let is_longer = length.ms() > before_length.ms();
        if let Some(watermark_ms) = self.watermark_ms
            && is_longer
        {
            // The oldest slot that is not late yet may have rows whose slots have been let go.
            self.open_slot(length.start_of_ms(watermark_ms - settings.grace_ms));
        }
        self.seal_rows(&before, before_length);
    }

    /// Puts the readings of slots of another length into those that are open now, and lets no reading into time that
    /// has a row of that length.
    fn seal_rows(&mut self, before: &VecDeque<OpenSlot>, before_length: SlotLength) {
        let length_ms = self.length.ms();
        for (ts_ms, reading) in before.iter().flat_map(OpenSlot::timed_readings) {
            let start_ms = self.length.start_of_ms(ts_ms);
            let index = self.open_slot(start_ms);
            let offset_ms = u32::try_from(ts_ms - start_ms).expect("a slot lasts an hour at most");
            let raw = RawReading {
                offset_ms,
                ..reading
            };
            self.open[index].take_in(raw, true);
        }
        let is_longer = length_ms > before_length.ms();
        for slot in &mut self.open {
            let end_ms = slot.start_ms + length_ms;
            let has_row = before.iter().any(|row| {
                row.ended
                    && row.start_ms < end_ms
                    && slot.start_ms < row.start_ms + before_length.ms()
            });
            if has_row || is_longer {
                slot.ended = true;
                slot.from_store = false;
                slot.trim();
                self.whole_from_ms = self.whole_from_ms.max(end_ms);
            }
        }
    }

    /// The slots of the last 24 hours that have ended, ascending.
    pub(crate) fn ended(&self) -> impl Iterator<Item = Slot> + '_ {
        self.closed.iter().map(|slot| slot.slot(self.length))
    }

    /// Returns the slots of the last 24 hours, ascending: those that have ended, and the open ones as known at `now_ms`.
    pub(crate) fn recent(&self, now_ms: i64, settings: &Settings) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.ended().collect();
        let open = (0..self.open.len()).filter(|index| {
            let slot = &self.open[*index];
            !self.is_late(slot.start_ms, settings) && self.closed.get(slot.start_ms).is_none()
        });
        slots.extend(open.map(|index| self.aggregate(index, now_ms, settings)));
        slots.sort_by_key(|slot| slot.start_ms);
        slots
    }

    /// Aggregates the readings of an open slot that are here, up to `until_ms`. The order in which they arrived does not
    /// change a bit of the result.
    pub(crate) fn aggregate(&self, index: usize, until_ms: i64, settings: &Settings) -> Slot {
        let slot = &self.open[index];
        let since_ms = slot.start_ms - settings.hold_ms;
        let first = self
            .open
            .partition_point(|one| one.start_ms + self.length.ms() <= since_ms);
        let held = self.open.range(first..=index);
        let timed = held.flat_map(OpenSlot::timed_readings);
        Slot::of(
            slot.start_ms,
            self.length.minutes(),
            settings.hold_ms,
            until_ms,
            timed.map(|(ts_ms, reading)| (ts_ms, reading.measurement)),
        )
    }

    /// Returns whether every reading that counts in an open slot is here, including those that hold into it.
    pub(crate) fn is_whole(&self, index: usize, settings: &Settings) -> bool {
        if !settings.stores_readings {
            return true;
        }
        let slot = &self.open[index];
        let is_let_go = slot.start_ms + self.length.ms() <= self.whole_from_ms;
        if slot.from_store || is_let_go {
            return false;
        }
        if settings.hold_ms == 0 {
            return true;
        }
        let since_ms = slot.start_ms - settings.hold_ms;
        let whole = self.open.iter().find(|one| !one.from_store);
        let known_ms = whole.map_or(self.whole_from_ms, |one| {
            one.start_ms.min(self.whole_from_ms)
        });
        let reaches_in =
            |one: &&OpenSlot| one.start_ms + self.length.ms() > since_ms && one.from_store;
        known_ms <= since_ms && !self.open.range(..index).any(|one| reaches_in(&one))
    }

    pub(crate) fn numbers_count(&self) -> usize {
        let slots = self.open.iter();
        slots.map(|slot| slot.readings.numbers_count()).sum()
    }

    fn find(&self, start_ms: i64) -> Result<usize, usize> {
        self.open
            .binary_search_by_key(&start_ms, |slot| slot.start_ms)
    }

    fn open_slot(&mut self, start_ms: i64) -> usize {
        match self.find(start_ms) {
            Ok(index) => index,
            Err(index) => {
                let slot = OpenSlot {
                    start_ms,
                    readings: RawReadings::EMPTY,
                    ended: false,
                    from_store: start_ms < self.whole_from_ms,
                };
                self.open.insert(index, slot);
                index
            }
        }
    }

    /// Emits the slot's aggregate, or asks for a repair if not all of its readings are here.
    fn emit_aggregate(
        &mut self,
        household_id: HouseholdId,
        index: usize,
        settings: &Settings,
        effects: &mut Vec<Effect>,
    ) {
        if !settings.stores_readings && self.is_trimmed(self.open[index].start_ms) {
            // Its row holds readings that are not here any more.
            return;
        }
        if self.is_whole(index, settings) {
            let slot = self.aggregate(index, i64::MAX, settings);
            if slot.samples_count() > 0 {
                effects.push(Effect::StoreSlot { household_id, slot });
                self.closed.insert(&ClosedSlot::of(&slot));
            }
        } else {
            effects.push(Effect::RepairSlot {
                household_id,
                start_ms: self.open[index].start_ms,
            });
        }
    }

    /// Drops the raw readings of slots whose grace period is over. The newest of each kind stay as long as they hold.
    fn let_go(&mut self, watermark_ms: i64, settings: &Settings) {
        let over_ms = watermark_ms - settings.grace_ms - self.length.ms();
        for slot in &mut self.open {
            if slot.start_ms > over_ms {
                break;
            }
            let end_ms = slot.start_ms + self.length.ms();
            self.whole_from_ms = self.whole_from_ms.max(end_ms);
            if slot.readings.numbers_count() > NEWEST_NUMBERS_MAX {
                slot.trim();
            }
        }
        // Slots before this one have dropped readings.
        let first_ms = self.length.start_of_ms(over_ms) + self.length.ms();
        while let Some(oldest) = self.open.front() {
            let end_ms = oldest.start_ms + self.length.ms();
            if oldest.start_ms > over_ms || end_ms + settings.hold_ms > first_ms {
                break;
            }
            self.open.pop_front();
        }
    }

    /// Brings state that lies in the future back to `now_ms`, after a clock was ahead. Open slots within the next day are
    /// kept, because their time will come.
    pub(crate) fn bring_back(&mut self, now_ms: i64, settings: &Settings) {
        self.watermark_ms = self.watermark_ms.map(|ms| ms.min(now_ms));
        self.open.retain(|slot| slot.start_ms <= now_ms + DAY_MS);
        for slot in &mut self.open {
            slot.ended &= slot.start_ms + self.length.ms() <= now_ms;
        }
        self.closed
            .forget_after(self.length.start_of_ms(now_ms) - 1);
        if settings.stores_readings && self.whole_from_ms > now_ms {
            let ahead_ms = self.length.start_of_ms(now_ms + settings.grace_ms) + self.length.ms();
            self.whole_from_ms = ahead_ms;
            for slot in self.open.iter_mut().filter(|slot| slot.start_ms < ahead_ms) {
                slot.from_store = true;
            }
        }
    }
}

const fn numbers_of(kind: Kind) -> usize {
    match kind {
        Kind::Meter | Kind::Pv => 1,
        Kind::Battery => 2,
    }
}
