//! The rolling windows of one home: slots that still take readings, and the closed slots of the last 24 hours.
//!
//! A slot keeps its raw readings until its end plus the grace has passed in event time, so that order and repeats do
//! not change its aggregate by a bit.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::reading::{Kind, Measurement, Reading};
use crate::slot::Slot;
use crate::units::{DAY_MS, HOUR_MS, HouseholdId, SlotLength};

/// Most raw readings kept for one slot: three meters once a second for an hour. What comes on top is stored, and the
/// slot is aggregated from the store.
pub const RAW_READINGS_MAX: usize = 3 * 3_600;

/// Where a reading went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// New in a slot that takes readings.
    New,
    /// The same value was there.
    Duplicate,
    /// Another value was there.
    Corrected,
    /// Its slot has let go of its raw readings, or holds too many.
    Beyond,
}

/// The windows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Windows {
    /// By start; slots whose end plus grace has not passed.
    pub(crate) open: BTreeMap<i64, OpenSlot>,
    /// Ended slots of the last 24 h, ascending.
    pub(crate) closed: VecDeque<Slot>,
}

/// A slot with its raw readings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct OpenSlot {
    pub(crate) readings: BTreeMap<(i64, Kind), Measurement>,
    /// Its end has passed, and its aggregate stands among the closed ones.
    pub(crate) ended: bool,
    /// It holds too many readings: the store knows more than we do.
    pub(crate) overflown: bool,
}

impl OpenSlot {
    fn aggregate(&self, start_ms: i64, length: SlotLength) -> Slot {
        let mut slot = Slot::empty(start_ms, length.minutes());
        for ((ts_ms, _), measurement) in &self.readings {
            slot.add(*ts_ms, measurement);
        }
        slot
    }
}

impl Windows {
    /// Takes a reading in. `watermark_ms` is the newest event time seen before it.
    pub fn take(
        &mut self,
        reading: &Reading,
        length: SlotLength,
        grace_ms: i64,
        watermark_ms: i64,
    ) -> Taken {
        let start_ms = length.start_of_ms(reading.ts_ms);
        if start_ms + length.ms() + grace_ms <= watermark_ms {
            return Taken::Beyond;
        }
        let slot = self.open.entry(start_ms).or_default();
        let key = (reading.ts_ms, reading.measurement.kind());
        if slot.readings.len() >= RAW_READINGS_MAX && !slot.readings.contains_key(&key) {
            slot.overflown = true;
            return Taken::Beyond;
        }
        match slot.readings.insert(key, reading.measurement) {
            None => Taken::New,
            Some(before) if before == reading.measurement => Taken::Duplicate,
            Some(_) => Taken::Corrected,
        }
    }

    /// The aggregate of the slot that holds `ts_ms`, where that slot has ended before and still has its readings.
    /// `Err` names a slot that must be aggregated from the store.
    pub fn correct(&mut self, ts_ms: i64, length: SlotLength) -> Option<Result<Slot, i64>> {
        let start_ms = length.start_of_ms(ts_ms);
        let open = self.open.get(&start_ms)?;
        if !open.ended {
            return None;
        }
        if open.overflown {
            return Some(Err(start_ms));
        }
        let slot = open.aggregate(start_ms, length);
        self.put_closed(slot);
        Some(Ok(slot))
    }

    /// Ends the slots that `now_ms` has passed; hands each to `ended`, or its start where the store must be asked.
    pub fn end_until(
        &mut self,
        now_ms: i64,
        length: SlotLength,
        mut ended: impl FnMut(Result<Slot, i64>),
    ) {
        let mut closing = Vec::new();
        for (start_ms, open) in &mut self.open {
            if start_ms + length.ms() > now_ms {
                break;
            }
            if !open.ended {
                open.ended = true;
                closing.push(if open.overflown {
                    Err(*start_ms)
                } else {
                    Ok(open.aggregate(*start_ms, length))
                });
            }
        }
        for slot in closing {
            if let Ok(slot) = slot {
                self.put_closed(slot);
            }
            ended(slot);
        }
    }

    /// Lets go of raw readings behind the grace, and of slots older than a day.
    pub fn forget(&mut self, watermark_ms: i64, length: SlotLength, grace_ms: i64) {
        self.open.retain(|start_ms, open| {
            !open.ended || start_ms + length.ms() + grace_ms > watermark_ms
        });
        while self
            .closed
            .front()
            .is_some_and(|slot| slot.start_ms < watermark_ms - DAY_MS - length.ms())
        {
            self.closed.pop_front();
        }
    }

    /// Puts an ended slot in its place; the same slot again replaces it.
    pub fn put_closed(&mut self, slot: Slot) {
        let at = self
            .closed
            .partition_point(|closed| closed.start_ms < slot.start_ms);
        match self.closed.get_mut(at) {
            Some(closed) if closed.start_ms == slot.start_ms => *closed = slot,
            _ => self.closed.insert(at, slot),
        }
    }

    /// Ended slots of the last 24 h, ascending.
    #[must_use]
    pub fn closed(&self) -> Vec<Slot> {
        self.closed.iter().copied().collect()
    }

    /// The raw readings that are still held, ascending.
    pub fn readings(&self, household_id: HouseholdId) -> impl Iterator<Item = Reading> + '_ {
        self.open.values().flat_map(move |open| {
            open.readings
                .iter()
                .map(move |((ts_ms, _), measurement)| Reading {
                    household_id,
                    ts_ms: *ts_ms,
                    measurement: *measurement,
                })
        })
    }
}

/// Rolling figures over ended slots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rolling {
    /// Mean load of the last hour and the last 24 h, W; `None` where nothing was read.
    pub load_w_mean_1h: Option<f64>,
    pub load_w_mean_24h: Option<f64>,
    /// Mean PV power of the same spans, W.
    pub pv_w_mean_1h: Option<f64>,
    pub pv_w_mean_24h: Option<f64>,
    /// Energy since 00:00 UTC, from the slots that were measured.
    pub load_kwh_today: f64,
    pub pv_kwh_today: f64,
    /// Highest reading of the load in the last 24 h, W.
    pub load_w_peak_24h: Option<f64>,
}

impl Rolling {
    /// Of `slots`, ascending, as seen at `now_ms`.
    #[must_use]
    pub fn of(slots: &[Slot], now_ms: i64) -> Self {
        let since = |from_ms: i64| slots.iter().filter(move |slot| slot.start_ms >= from_ms);
        let mean = |from_ms: i64, pick: fn(&Slot) -> Option<f64>| {
            let (sum, count) = since(from_ms)
                .filter_map(pick)
                .fold((0.0, 0.0), |(sum, count), mean| (sum + mean, count + 1.0));
            (count > 0.0).then(|| sum / count)
        };
        let load: fn(&Slot) -> Option<f64> = |slot| slot.load_w.mean();
        let pv: fn(&Slot) -> Option<f64> = |slot| slot.pv_w.mean();
        let today_ms = now_ms - now_ms.rem_euclid(DAY_MS);
        let energy_kwh = |pick: fn(&Slot) -> Option<f64>| -> f64 {
            since(today_ms)
                .filter_map(|slot| Some(pick(slot)? * f64::from(slot.slot_minutes) / 60_000.0))
                .sum()
        };
        Self {
            load_w_mean_1h: mean(now_ms - HOUR_MS, load),
            load_w_mean_24h: mean(now_ms - DAY_MS, load),
            pv_w_mean_1h: mean(now_ms - HOUR_MS, pv),
            pv_w_mean_24h: mean(now_ms - DAY_MS, pv),
            load_kwh_today: energy_kwh(load),
            pv_kwh_today: energy_kwh(pv),
            load_w_peak_24h: since(now_ms - DAY_MS)
                .filter(|slot| slot.load_w.count > 0)
                .map(|slot| slot.load_w.max)
                .reduce(f64::max),
        }
    }
}
