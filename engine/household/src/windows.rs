//! A home's windows over event time: the slots that may still change, with their raw readings, and the last 24 hours
//! of slots that have ended. Nothing here looks at a clock; the watermark is the latest event time seen.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::closed_slots::{ClosedSlot, ClosedSlots};
use crate::effect::{Effect, Refusal};
use crate::open_slot::{OpenSlot, RawReading, RawReadings};
use crate::settings::Settings;
use model::reading::Reading;
use model::reading::ReadingOutcome;
use model::slot::Slot;
use model::units::{HouseholdId, MINUTE_MS, SlotLength};

/// Most numbers of raw readings that one home holds; a battery's reading has two. Past it readings are stored all the same, and the slot is aggregated from
/// the store when it ends. Three quarter hours of load, PV and battery at one reading a second fit.
pub const RAW_NUMBERS_MAX: usize = 10_800;

/// In place of the time from which on a home has held every reading: it has held them all.
const NEWBORN_MS: i64 = i64::MIN + 1;

/// The windows of one home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Form")]
pub(crate) struct Windows {
    pub(crate) length: SlotLength,
    /// Latest event time seen.
    pub(crate) watermark_ms: Option<i64>,
    /// For a slot that begins before this and is not open, readings may exist that this home has never held: it is
    /// new, or the raw readings have been let go.
    whole_from_ms: i64,
    /// Ascending.
    pub(crate) open: VecDeque<OpenSlot>,
    pub(crate) closed: ClosedSlots,
}

/// Windows as they stand in a snapshot.
#[derive(Deserialize)]
struct Form {
    length: SlotLength,
    watermark_ms: Option<i64>,
    whole_from_ms: i64,
    open: VecDeque<OpenSlot>,
    closed: Vec<ClosedSlot>,
}

impl From<Form> for Windows {
    fn from(form: Form) -> Self {
        let mut closed = ClosedSlots::new(form.length);
        form.closed.iter().for_each(|slot| closed.insert(slot));
        Self {
            length: form.length,
            watermark_ms: form.watermark_ms,
            whole_from_ms: form.whole_from_ms,
            open: form.open,
            closed,
        }
    }
}

impl Windows {
    /// Of a home that may have lived before, unless `is_newborn`.
    pub(crate) const fn new(is_newborn: bool) -> Self {
        Self {
            length: SlotLength::QUARTER_HOUR,
            watermark_ms: None,
            whole_from_ms: if is_newborn { NEWBORN_MS } else { i64::MIN },
            open: VecDeque::new(),
            closed: ClosedSlots::new(SlotLength::QUARTER_HOUR),
        }
    }

    /// Takes one reading in, and ends or corrects the slots that it ends or corrects.
    pub(crate) fn take_in(
        &mut self,
        reading: &Reading,
        settings: &Settings,
        effects: &mut Vec<Effect>,
    ) {
        let grace_ms = settings.grace_ms;
        let start_ms = self.length.start_of_ms(reading.ts_ms);
        let end_ms = start_ms + self.length.ms();
        let household_id = reading.household_id;
        let kind = reading.measurement.kind();
        if self
            .watermark_ms
            .is_some_and(|watermark_ms| end_ms + grace_ms <= watermark_ms)
        {
            return self.come_late(reading, start_ms, settings, effects);
        }
        let may_have_lived = self.watermark_ms.is_none() && self.whole_from_ms != NEWBORN_MS;
        if may_have_lived && settings.stores_readings {
            // Before a lost state, readings may have come that are ahead of this one by up to the grace.
            let ahead_ms = self.length.start_of_ms(reading.ts_ms + grace_ms) + self.length.ms();
            self.whole_from_ms = self.whole_from_ms.max(ahead_ms);
        }
        let room = self.numbers_count() < RAW_NUMBERS_MAX;
        let raw = RawReading {
            offset_ms: u32::try_from(reading.ts_ms - start_ms)
                .expect("a slot lasts an hour at most"),
            measurement: reading.measurement,
        };
        if !room && !settings.stores_readings {
            return refuse(reading, Refusal::Full, effects);
        }
        let index = self.open_slot(start_ms);
        let outcome = self.open[index].take_in(raw, room);
        effects.push(Effect::CountReading { kind, outcome });
        if outcome == ReadingOutcome::Duplicate {
            return;
        }
        if settings.stores_readings {
            effects.push(Effect::StoreReading(*reading));
        } else {
            // Also where the setting was another one when the slot began.
            self.open[index].from_store = false;
        }
        if self.open[index].ended {
            self.order_aggregate(household_id, index, effects);
        }
        let watermark_ms = self
            .watermark_ms
            .map_or(reading.ts_ms, |ms| ms.max(reading.ts_ms));
        self.watermark_ms = Some(watermark_ms);
        self.end_until(household_id, watermark_ms, effects);
        self.let_go(watermark_ms, settings);
    }

    /// A reading whose slot has let its raw readings go.
    fn come_late(
        &mut self,
        reading: &Reading,
        start_ms: i64,
        settings: &Settings,
        effects: &mut Vec<Effect>,
    ) {
        if !settings.stores_readings {
            return refuse(reading, Refusal::Late, effects);
        }
        effects.push(Effect::StoreReading(*reading));
        effects.push(Effect::RepairSlot {
            household_id: reading.household_id,
            start_ms,
        });
        effects.push(Effect::CountReading {
            kind: reading.measurement.kind(),
            outcome: ReadingOutcome::Late,
        });
    }

    /// Ends the slots whose end has come by `until_ms`.
    pub(crate) fn end_until(
        &mut self,
        household_id: HouseholdId,
        until_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        for index in 0..self.open.len() {
            let slot = &mut self.open[index];
            if !slot.ended && slot.start_ms + self.length.ms() <= until_ms {
                slot.ended = true;
                self.order_aggregate(household_id, index, effects);
            }
        }
    }

    /// The store's aggregate of a slot, after `Effect::RepairSlot`.
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
        if slot.slot_minutes == self.length.minutes() {
            self.closed.insert(&ClosedSlot::of(&slot));
        }
    }

    /// Goes over to slots of another length. What is open is left to the store, which can cut it anew, or to what is
    /// held here where the store has no readings; the closed slots of the old length are forgotten.
    pub(crate) fn set_length(&mut self, settings: &Settings) {
        let length = settings.slot;
        if self.length == length {
            return;
        }
        let held: Vec<(i64, RawReading)> = if settings.stores_readings {
            Vec::new()
        } else {
            let slots = self.open.iter();
            slots.flat_map(OpenSlot::timed_readings).collect()
        };
        let spans = self
            .open
            .iter()
            .map(|slot| slot.start_ms..slot.start_ms + self.length.ms());
        let starts: BTreeSet<i64> = spans
            .flat_map(|span| span.step_by(usize::try_from(MINUTE_MS).expect("a minute fits")))
            .map(|ts_ms| length.start_of_ms(ts_ms))
            .collect();
        self.open = starts
            .into_iter()
            .map(|start_ms| OpenSlot {
                start_ms,
                readings: RawReadings::EMPTY,
                ended: false,
                from_store: settings.stores_readings,
            })
            .collect();
        self.closed = ClosedSlots::new(length);
        self.length = length;
        if let Some(watermark_ms) = self.watermark_ms
            && settings.stores_readings
        {
            let next_ms = length.start_of_ms(watermark_ms) + length.ms();
            self.whole_from_ms = self.whole_from_ms.max(next_ms);
        }
        for (ts_ms, reading) in held {
            let start_ms = length.start_of_ms(ts_ms);
            let index = self.open_slot(start_ms);
            let offset_ms = u32::try_from(ts_ms - start_ms).expect("a slot lasts an hour at most");
            self.open[index].take_in(
                RawReading {
                    offset_ms,
                    ..reading
                },
                true,
            );
        }
    }

    /// The slots of the last 24 hours, ascending: those that have ended, then what is known of the others.
    pub(crate) fn recent(&self) -> Vec<Slot> {
        let closed = self.closed.iter();
        let mut slots: Vec<Slot> = closed.map(|slot| slot.slot(self.length)).collect();
        let unclosed = |slot: &&OpenSlot| self.closed.get(slot.start_ms).is_none();
        slots.extend(
            self.open
                .iter()
                .filter(unclosed)
                .map(|slot| slot.aggregate(self.length)),
        );
        slots.sort_by_key(|slot| slot.start_ms);
        slots
    }

    pub(crate) fn numbers_count(&self) -> usize {
        let slots = self.open.iter();
        slots.map(|slot| slot.readings.numbers_count()).sum()
    }

    fn open_slot(&mut self, start_ms: i64) -> usize {
        match self
            .open
            .binary_search_by_key(&start_ms, |slot| slot.start_ms)
        {
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

    fn order_aggregate(
        &mut self,
        household_id: HouseholdId,
        index: usize,
        effects: &mut Vec<Effect>,
    ) {
        let open = &self.open[index];
        if open.from_store {
            effects.push(Effect::RepairSlot {
                household_id,
                start_ms: open.start_ms,
            });
        } else {
            let slot = open.aggregate(self.length);
            effects.push(Effect::StoreSlot { household_id, slot });
            self.closed.insert(&ClosedSlot::of(&slot));
        }
    }

    /// Lets the raw readings of the slots go whose grace is over.
    fn let_go(&mut self, watermark_ms: i64, settings: &Settings) {
        while let Some(oldest) = self.open.front() {
            let end_ms = oldest.start_ms + self.length.ms();
            if end_ms + settings.grace_ms > watermark_ms {
                break;
            }
            if settings.stores_readings {
                self.whole_from_ms = self.whole_from_ms.max(end_ms);
            }
            self.open.pop_front();
        }
    }
}

fn refuse(reading: &Reading, refusal: Refusal, effects: &mut Vec<Effect>) {
    effects.push(Effect::RefuseReading {
        reading: *reading,
        refusal,
    });
    effects.push(Effect::CountReading {
        kind: reading.measurement.kind(),
        outcome: ReadingOutcome::Refused,
    });
}
