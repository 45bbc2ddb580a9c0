//! One slot's aggregate of readings.

use serde::{Deserialize, Serialize};

use crate::reading::Measurement;
use crate::units::{HouseholdId, MINUTE_MS};

/// Sum, count, least and greatest of one series. The sum over the count is the mean, which is weighted by time: see
/// [`Slot::of`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stat {
    pub sum: f64,
    pub count: u32,
    /// Meaningless while `count` is 0.
    pub min: f64,
    pub max: f64,
}

impl Stat {
    /// Nothing seen yet.
    pub const EMPTY: Self = Self {
        sum: 0.0,
        count: 0,
        min: 0.0,
        max: 0.0,
    };

    /// Takes one value in.
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

    /// Arithmetic mean; `None` where nothing was seen.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

/// The time that counts in a slot.
#[derive(Debug, Clone, Copy)]
struct Span {
    start_ms: i64,
    until_ms: i64,
    hold_ms: i64,
}

/// One series of a slot while its readings come in, by ascending time.
#[derive(Debug, Clone, Copy)]
struct Series {
    span: Span,
    /// Of the readings in the slot, each weighing the same.
    stat: Stat,
    /// The newest reading.
    held: Option<(i64, f64)>,
    /// Value times time, and the time, in milliseconds.
    integral: f64,
    covered_ms: i64,
    /// How long the first reading holds, while every other holds as long.
    even_ms: Option<i64>,
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
    pub start_ms: i64,
    pub slot_minutes: u32,
    pub load_w: Stat,
    pub pv_w: Stat,
    /// Battery power, positive while charging.
    pub battery_w: Stat,
    /// SoC of the latest battery reading in the slot, percent, and when it was read.
    pub soc_pct: Option<f64>,
    pub soc_ts_ms: i64,
}

/// A slot with whose it is, the value of the `slots` topic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HouseholdSlot {
    pub household_id: HouseholdId,
    pub slot: Slot,
}

impl Slot {
    /// A slot without readings.
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

    /// Takes one measurement in, each weighing the same. Sums depend on the order in the last bit, so callers add by
    /// ascending time.
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

    /// The aggregate of a slot, whose means are weighted by time: a reading holds until the next of its kind, at most
    /// `hold_ms`, also from before the slot into it. Time after `until_ms` does not count.
    ///
    /// `readings` ascend in time, hold each (kind, time) once, end before the slot does, and begin at the latest right
    /// after `start_ms - hold_ms`; what is older changes nothing. Where the readings of a kind all hold equally long and
    /// none comes from before, as those of a regular meter do, its sum is exactly the sum of the readings, otherwise the
    /// mean times the count. A kind that is only held from before counts as one reading. With `hold_ms` 0 each reading
    /// weighs the same.
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

    /// Number of readings in the slot.
    #[must_use]
    pub const fn samples_count(&self) -> u32 {
        self.load_w.count + self.pv_w.count + self.battery_w.count
    }
}
