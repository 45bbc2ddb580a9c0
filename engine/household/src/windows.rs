//! A home's windows over event time: the slots that may still change, with their raw readings, and the last 24 hours
//! of slots that have ended. Nothing here looks at a clock; the watermark is the latest event time seen.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, ReadingOutcome};
use crate::reading::{Kind, Measurement, Reading};
use crate::slot::{Slot, Stat};
use crate::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS, SlotLength};

/// Most raw readings that one home holds. Past it readings are stored all the same, and the slot is aggregated from
/// the store when it ends. Three quarter hours of three meters at one reading a second fit.
pub const RAW_READINGS_MAX: usize = 8_192;

/// Rolling figures over slots. `None` where nothing was read; a sum is over what was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rolling {
    /// Mean load of the last hour and the last 24 hours, W.
    pub load_w_mean_1h: Option<f64>,
    pub load_w_mean_24h: Option<f64>,
    /// Mean PV power of the same spans, W.
    pub pv_w_mean_1h: Option<f64>,
    pub pv_w_mean_24h: Option<f64>,
    /// Energy since 00:00 UTC, kWh, from the slots that were measured.
    pub load_kwh_today: f64,
    pub pv_kwh_today: f64,
    /// Highest reading of the load in the last 24 hours, W.
    pub load_w_peak_24h: Option<f64>,
}

impl Rolling {
    /// Of `slots`, which may reach further back than needed, at `now_ms`. A span holds the slots that began in it, and
    /// each slot weighs the same, however many readings it has.
    #[must_use]
    pub fn of(slots: &[Slot], now_ms: i64) -> Self {
        let since = |from_ms: i64| {
            slots
                .iter()
                .filter(move |slot| (from_ms..=now_ms).contains(&slot.start_ms))
        };
        let mean = |from_ms: i64, series: fn(&Slot) -> &Stat| {
            let mut means_w = Stat::EMPTY;
            let known = since(from_ms).filter_map(|slot| series(slot).mean());
            known.for_each(|mean_w| means_w.add(mean_w));
            means_w.mean()
        };
        let energy_kwh = |from_ms: i64, series: fn(&Slot) -> &Stat| -> f64 {
            since(from_ms)
                .filter_map(|slot| Some(series(slot).mean()? * f64::from(slot.slot_minutes)))
                .sum::<f64>()
                / 60_000.0
        };
        let (hour_ms, day_ms) = (now_ms - HOUR_MS, now_ms - DAY_MS);
        let midnight_ms = now_ms - now_ms.rem_euclid(DAY_MS);
        let read = since(day_ms).filter(|slot| slot.load_w.count > 0);
        Self {
            load_w_mean_1h: mean(hour_ms, |slot| &slot.load_w),
            load_w_mean_24h: mean(day_ms, |slot| &slot.load_w),
            pv_w_mean_1h: mean(hour_ms, |slot| &slot.pv_w),
            pv_w_mean_24h: mean(day_ms, |slot| &slot.pv_w),
            load_kwh_today: energy_kwh(midnight_ms, |slot| &slot.load_w),
            pv_kwh_today: energy_kwh(midnight_ms, |slot| &slot.pv_w),
            load_w_peak_24h: read.map(|slot| slot.load_w.max).reduce(f64::max),
        }
    }
}

/// A reading inside its slot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct RawReading {
    /// Time since the slot's start.
    pub(crate) offset_ms: u32,
    pub(crate) measurement: Measurement,
}

impl RawReading {
    pub(crate) const fn key(&self) -> (u32, Kind) {
        (self.offset_ms, self.measurement.kind())
    }
}

/// A slot that may still change: it has not ended, or its grace has not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenSlot {
    pub(crate) start_ms: i64,
    /// Ascending by (time, kind), each once.
    pub(crate) readings: Vec<RawReading>,
    /// Its aggregate has been ordered, and is ordered again when a reading changes it.
    pub(crate) ended: bool,
    /// Readings may exist that are not here, so only the store can aggregate it.
    pub(crate) from_store: bool,
}

impl OpenSlot {
    /// Puts the reading where it belongs. Without `room` a new one is not kept.
    fn take_in(&mut self, reading: RawReading, room: bool) -> ReadingOutcome {
        let key = reading.key();
        let index = match self.readings.last() {
            Some(last) if last.key() < key => Err(self.readings.len()),
            Some(_) | None => self.readings.binary_search_by_key(&key, RawReading::key),
        };
        match index {
            Ok(index) if self.readings[index].measurement == reading.measurement => {
                ReadingOutcome::Duplicate
            }
            Ok(index) => {
                self.readings[index] = reading;
                ReadingOutcome::Corrected
            }
            Err(index) if room => {
                self.readings.insert(index, reading);
                ReadingOutcome::Accepted
            }
            Err(_) => {
                self.from_store = true;
                ReadingOutcome::Accepted
            }
        }
    }

    /// The aggregate of the readings that are here; the same bits whatever order they came in.
    pub(crate) fn aggregate(&self, length: SlotLength) -> Slot {
        let mut slot = Slot::empty(self.start_ms, length.minutes());
        for reading in &self.readings {
            let ts_ms = self.start_ms + i64::from(reading.offset_ms);
            slot.add(ts_ms, &reading.measurement);
        }
        slot
    }
}

/// What forecasts and rolling figures need of a slot that has ended. A million homes hold 96 of these each, so it is
/// small, and 32-bit floats are exact enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClosedSlot {
    pub(crate) start_ms: i64,
    /// Mean and highest load, W.
    pub(crate) load_w: Option<(f32, f32)>,
    /// Mean PV production, W.
    pub(crate) pv_w: Option<f32>,
}

impl ClosedSlot {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a seventh digit of a power is of no use to a forecast"
    )]
    pub(crate) fn of(slot: &Slot) -> Self {
        let load_w = slot.load_w.mean();
        Self {
            start_ms: slot.start_ms,
            load_w: load_w.map(|mean_w| (mean_w as f32, slot.load_w.max as f32)),
            pv_w: slot.pv_w.mean().map(|mean_w| mean_w as f32),
        }
    }

    /// A slot with the same means and peak, as if each series had one reading.
    fn slot(&self, length: SlotLength) -> Slot {
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

/// The windows of one home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Windows {
    pub(crate) length: SlotLength,
    /// Latest event time seen.
    pub(crate) watermark_ms: Option<i64>,
    /// For a slot that begins before this and is not open, readings may exist that this home has never held: it is
    /// new, or the raw readings have been let go.
    whole_from_ms: i64,
    /// Ascending.
    pub(crate) open: VecDeque<OpenSlot>,
    /// Ascending; at most the 24 hours up to the newest.
    pub(crate) closed: VecDeque<ClosedSlot>,
}

impl Windows {
    pub(crate) const fn new() -> Self {
        Self {
            length: SlotLength::QUARTER_HOUR,
            watermark_ms: None,
            whole_from_ms: i64::MIN,
            open: VecDeque::new(),
            closed: VecDeque::new(),
        }
    }

    /// Takes one reading in, and ends or corrects the slots that it ends or corrects.
    pub(crate) fn take_in(&mut self, reading: &Reading, grace_ms: i64, effects: &mut Vec<Effect>) {
        let start_ms = self.length.start_of_ms(reading.ts_ms);
        let end_ms = start_ms + self.length.ms();
        let household_id = reading.household_id;
        let kind = reading.measurement.kind();
        if self
            .watermark_ms
            .is_some_and(|watermark_ms| end_ms + grace_ms <= watermark_ms)
        {
            let outcome = ReadingOutcome::Late;
            effects.push(Effect::StoreReading(*reading));
            effects.push(Effect::RepairSlot {
                household_id,
                start_ms,
            });
            effects.push(Effect::CountReading { kind, outcome });
            return;
        }
        if self.watermark_ms.is_none() {
            // Before a lost state, readings may have come that are ahead of this one by up to the grace.
            let ahead_ms = self.length.start_of_ms(reading.ts_ms + grace_ms) + self.length.ms();
            self.whole_from_ms = self.whole_from_ms.max(ahead_ms);
        }
        let room = self.readings_count() < RAW_READINGS_MAX;
        let raw = RawReading {
            offset_ms: u32::try_from(reading.ts_ms - start_ms)
                .expect("a slot lasts an hour at most"),
            measurement: reading.measurement,
        };
        let index = self.open_slot(start_ms);
        let outcome = self.open[index].take_in(raw, room);
        effects.push(Effect::CountReading { kind, outcome });
        if outcome == ReadingOutcome::Duplicate {
            return;
        }
        effects.push(Effect::StoreReading(*reading));
        if self.open[index].ended {
            self.order_aggregate(household_id, index, effects);
        }
        let watermark_ms = self
            .watermark_ms
            .map_or(reading.ts_ms, |ms| ms.max(reading.ts_ms));
        self.watermark_ms = Some(watermark_ms);
        self.end_until(household_id, watermark_ms, effects);
        self.let_go(watermark_ms, grace_ms);
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
            self.remember(&slot);
        }
    }

    /// Goes over to slots of another length. What is open is left to the store, which can cut it anew; the closed
    /// slots of the old length are forgotten.
    pub(crate) fn set_length(&mut self, length: SlotLength) {
        if self.length == length {
            return;
        }
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
                readings: Vec::new(),
                ended: false,
                from_store: true,
            })
            .collect();
        self.closed.clear();
        if let Some(watermark_ms) = self.watermark_ms {
            let next_ms = length.start_of_ms(watermark_ms) + length.ms();
            self.whole_from_ms = self.whole_from_ms.max(next_ms);
        }
        self.length = length;
    }

    /// The slots of the last 24 hours, ascending: those that have ended, then what is known of the others.
    pub(crate) fn recent(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self
            .closed
            .iter()
            .map(|slot| slot.slot(self.length))
            .collect();
        let unclosed = |slot: &&OpenSlot| self.closed_index(slot.start_ms).is_err();
        slots.extend(
            self.open
                .iter()
                .filter(unclosed)
                .map(|slot| slot.aggregate(self.length)),
        );
        slots.sort_by_key(|slot| slot.start_ms);
        slots
    }

    pub(crate) fn readings_count(&self) -> usize {
        self.open.iter().map(|slot| slot.readings.len()).sum()
    }

    pub(crate) fn closed_index(&self, start_ms: i64) -> Result<usize, usize> {
        self.closed
            .binary_search_by_key(&start_ms, |slot| slot.start_ms)
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
                    readings: Vec::new(),
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
            self.remember(&slot);
        }
    }

    fn remember(&mut self, slot: &Slot) {
        let closed = ClosedSlot::of(slot);
        match self.closed_index(slot.start_ms) {
            Ok(index) => self.closed[index] = closed,
            Err(index) => self.closed.insert(index, closed),
        }
        let newest_ms = self
            .closed
            .back()
            .map_or(slot.start_ms, |newest| newest.start_ms);
        while self
            .closed
            .front()
            .is_some_and(|oldest| oldest.start_ms <= newest_ms - DAY_MS)
        {
            self.closed.pop_front();
        }
    }

    /// Lets the raw readings of the slots go whose grace is over.
    fn let_go(&mut self, watermark_ms: i64, grace_ms: i64) {
        while let Some(oldest) = self.open.front() {
            let end_ms = oldest.start_ms + self.length.ms();
            if end_ms + grace_ms > watermark_ms {
                break;
            }
            self.whole_from_ms = self.whole_from_ms.max(end_ms);
            self.open.pop_front();
        }
    }
}
