//! One slot's aggregate of readings.

use serde::{Deserialize, Serialize};

use crate::reading::{Measurement, Reading};
use crate::units::HouseholdId;

/// Sum, count, least and greatest of one series.
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

    /// Takes one measurement in. Sums depend on the order in the last bit, so callers add by ascending time.
    pub fn add(&mut self, ts_ms: i64, measurement: &Measurement) {
        match *measurement {
            Measurement::Meter { consumption_w } => self.load_w.add(consumption_w),
            Measurement::Pv { pv_w } => self.pv_w.add(pv_w),
            Measurement::Battery { soc_pct, power_w } => {
                self.battery_w.add(power_w);
                if self.soc_pct.is_none() || ts_ms >= self.soc_ts_ms {
                    self.soc_pct = Some(soc_pct);
                    self.soc_ts_ms = ts_ms;
                }
            }
        }
    }

    /// The aggregate of `readings`, which ascend in time and hold each (kind, time) once.
    #[must_use]
    pub fn of(start_ms: i64, slot_minutes: u32, readings: &[Reading]) -> Self {
        let mut slot = Self::empty(start_ms, slot_minutes);
        for reading in readings {
            slot.add(reading.ts_ms, &reading.measurement);
        }
        slot
    }

    /// Number of readings in the slot.
    #[must_use]
    pub const fn samples_count(&self) -> u32 {
        self.load_w.count + self.pv_w.count + self.battery_w.count
    }
}
