//! One slot's aggregate of readings.

use serde::{Deserialize, Serialize};

use crate::reading::Measurement;
use crate::units::{HouseholdId, MINUTE_MS};

/// Sum, count, minimum and maximum of one series, in the series' unit. `sum / count` is the mean, which is weighted by
/// time: see [`Slot::of`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stat {
    /// The mean times `count`.
    pub sum: f64,
    /// Number of readings. While it is 0, the other fields mean nothing.
    pub count: u32,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

impl Stat {
    /// No readings.
    pub const EMPTY: Self = Self {
        sum: 0.0,
        count: 0,
        min: 0.0,
        max: 0.0,
    };

    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.min = if self.count == 0 {
            value
        } else {
            self.min.min(value)
        };
        self.max = if self.count == 0 {
            value
        } else {
            self.max.max(value)
        };
        self.sum += value;
        self.count += 1;
    }

    /// Returns the mean, or `None` if `count` is 0.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

/// The part of a slot that counts, and how long a reading holds.
#[derive(Debug, Clone, Copy)]
struct Span {
    start_ms: i64,
    until_ms: i64,
    hold_ms: i64,
}

/// One series of a slot while its readings are added, in order of time.
#[derive(Debug, Clone, Copy)]
struct Series {
    span: Span,
    /// Of the readings in the slot, all with the same weight.
    stat: Stat,
    /// The newest reading.
    held: Option<(i64, f64)>,
    /// Sum of value times milliseconds held.
    integral: f64,
    /// Time for which a value is known.
    covered_ms: i64,
    /// How long the first reading in the slot holds.
    even_ms: Option<i64>,
    /// Whether all readings so far hold equally long, and none from before the slot holds into it.
    is_even: bool,
}

impl Series {
    const fn new(span: Span) -> Self {
        Self {
            span,
            stat: Stat::EMPTY,
            held: None,
            integral: 0.0,
            covered_ms: 0,
            even_ms: None,
            is_even: true,
        }
    }

    fn add(&mut self, ts_ms: i64, value: f64) {
        self.hold_until(ts_ms);
        self.held = Some((ts_ms, value));
        if ts_ms >= self.span.start_ms {
            self.stat.add(value);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an hour in milliseconds fits")]
    fn hold_until(&mut self, next_ms: i64) {
        let Some((ts_ms, value)) = self.held else {
            return;
        };
        let Span {
            start_ms,
            until_ms,
            hold_ms,
        } = self.span;
        let end_ms = next_ms.min(ts_ms.saturating_add(hold_ms)).min(until_ms);
        let held_ms = (end_ms - ts_ms.max(start_ms)).max(0);
        self.integral += value * held_ms as f64;
        self.covered_ms += held_ms;
        if ts_ms >= start_ms {
            self.is_even &= *self.even_ms.get_or_insert(held_ms) == held_ms;
        } else {
            self.is_even &= held_ms == 0;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an hour in milliseconds fits")]
    fn finish(mut self) -> Stat {
        self.hold_until(i64::MAX);
        let mean = self.integral / self.covered_ms as f64;
        if self.is_even || !mean.is_finite() {
            return self.stat;
        }
        let mut stat = self.stat;
        if stat.count == 0 {
            stat.add(mean);
        } else {
            stat.sum = mean * f64::from(stat.count);
        }
        stat
    }
}

/// The aggregate of a slot: a row of the `slots` table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Start, UTC epoch milliseconds, a multiple of the length.
    pub start_ms: i64,
    /// Length, minutes: 1, 5, 15, 30 or 60.
    pub slot_minutes: u32,
    /// Load, W.
    pub load_w: Stat,
    /// PV production, W.
    pub pv_w: Stat,
    /// Battery power, W, positive while charging.
    pub battery_w: Stat,
    /// SoC of the latest battery reading in the slot, percent of the capacity; `None` if there was none.
    pub soc_pct: Option<f64>,
    /// Event time of that reading, UTC epoch milliseconds; 0 if there was none.
    pub soc_ts_ms: i64,
}

/// A slot and its household, the value of the `slots` topic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HouseholdSlot {
    /// The household.
    pub household_id: HouseholdId,
    /// The slot.
    pub slot: Slot,
}

impl Slot {
    /// Returns a slot without readings.
    #[must_use]
    pub const fn empty(start_ms: i64, slot_minutes: u32) -> Self {
        Self {
            start_ms,
            slot_minutes,
            load_w: Stat::EMPTY,
            pv_w: Stat::EMPTY,
            battery_w: Stat::EMPTY,
            soc_pct: None,
            soc_ts_ms: 0,
        }
    }

    /// Adds one reading, with the same weight as any other. The last bit of a sum depends on the order, so callers add
    /// readings in order of time.
    pub fn add(&mut self, ts_ms: i64, measurement: &Measurement) {
        match *measurement {
            Measurement::Meter { consumption_w } => self.load_w.add(consumption_w),
            Measurement::Pv { pv_w } => self.pv_w.add(pv_w),
            Measurement::Battery { soc_pct, power_w } => {
                self.battery_w.add(power_w);
                self.note_soc(ts_ms, soc_pct);
            }
        }
    }

    fn note_soc(&mut self, ts_ms: i64, soc_pct: f64) {
        if self.soc_pct.is_none() || ts_ms >= self.soc_ts_ms {
            self.soc_pct = Some(soc_pct);
            self.soc_ts_ms = ts_ms;
        }
    }

    /// Aggregates a slot. Its means are weighted by time: a reading holds until the next of its kind, for at most
    /// `hold_ms`. A reading from before the slot may hold into it. Time after `until_ms` does not count.
    ///
    /// `readings` must ascend in time, contain each (kind, time) once, and end before the slot does. They must include
    /// every reading after `start_ms - hold_ms`; older ones change nothing.
    ///
    /// If all readings of a kind hold equally long and none holds from before the slot, as with a regular meter, the sum
    /// is exactly the sum of the readings. Otherwise it is the mean times the count. A kind that only holds from before
    /// counts as one reading. With `hold_ms` 0 all readings have the same weight.
    #[must_use]
    pub fn of(
        start_ms: i64,
        slot_minutes: u32,
        hold_ms: i64,
        until_ms: i64,
        readings: impl IntoIterator<Item = (i64, Measurement)>,
    ) -> Self {
        let end_ms = start_ms + i64::from(slot_minutes) * MINUTE_MS;
        let span = Span {
            start_ms,
            until_ms: until_ms.min(end_ms),
            hold_ms,
        };
        let mut slot = Self::empty(start_ms, slot_minutes);
        let [mut load_w, mut pv_w, mut battery_w] = [Series::new(span); 3];
        for (ts_ms, measurement) in readings {
            match measurement {
                Measurement::Meter { consumption_w } => load_w.add(ts_ms, consumption_w),
                Measurement::Pv { pv_w: value_w } => pv_w.add(ts_ms, value_w),
                Measurement::Battery { soc_pct, power_w } => {
                    battery_w.add(ts_ms, power_w);
                    if ts_ms >= start_ms {
                        slot.note_soc(ts_ms, soc_pct);
                    }
                }
            }
        }
        slot.load_w = load_w.finish();
        slot.pv_w = pv_w.finish();
        slot.battery_w = battery_w.finish();
        slot
    }

    /// Returns the number of readings in the slot.
    #[must_use]
    pub const fn samples_count(&self) -> u32 {
        self.load_w.count + self.pv_w.count + self.battery_w.count
    }
}
