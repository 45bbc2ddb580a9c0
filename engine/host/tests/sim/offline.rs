//! What the slots must be: each home's readings in the order of the log, without shards, crashes or clocks.

use std::collections::BTreeMap;

use household::settings::Settings;
use model::reading::{Kind, Reading};
use model::slot::Slot;
use model::units::HouseholdId;

use super::scenario::is_far;

/// All readings that are in the log.
#[derive(Debug)]
pub struct Offline {
    pub settings: Settings,
    watermarks_ms: BTreeMap<HouseholdId, i64>,
    /// By home, time and kind; the last value in the log holds.
    pub accepted: BTreeMap<(HouseholdId, i64, Kind), Reading>,
}

impl Offline {
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            watermarks_ms: BTreeMap::new(),
            accepted: BTreeMap::new(),
        }
    }

    /// The next reading of a partition; false where it must be refused.
    pub fn take_in(&mut self, reading: Reading) -> bool {
        if is_far(reading.ts_ms) {
            return false;
        }
        let Settings { slot, grace_ms, .. } = self.settings;
        let over_ms = slot.start_of_ms(reading.ts_ms) + slot.ms() + grace_ms;
        let watermark_ms = self
            .watermarks_ms
            .entry(reading.household_id)
            .or_insert(i64::MIN);
        if over_ms <= *watermark_ms && !self.settings.stores_readings {
            return false;
        }
        *watermark_ms = (*watermark_ms).max(reading.ts_ms);
        let key = (
            reading.household_id,
            reading.ts_ms,
            reading.measurement.kind(),
        );
        self.accepted.insert(key, reading);
        true
    }

    pub fn watermark_ms(&self, household_id: HouseholdId) -> i64 {
        self.watermarks_ms
            .get(&household_id)
            .copied()
            .unwrap_or(i64::MIN)
    }

    /// The aggregate of each slot that has a reading, or into which one holds on.
    pub fn slots(&self) -> BTreeMap<(HouseholdId, i64), Slot> {
        let Settings { slot, hold_ms, .. } = self.settings;
        let mut slots = BTreeMap::new();
        for (id, ts_ms, _) in self.accepted.keys() {
            let mut start_ms = slot.start_of_ms(*ts_ms);
            while start_ms < (ts_ms + hold_ms).max(ts_ms + 1) {
                slots
                    .entry((*id, start_ms))
                    .or_insert_with(|| self.slot(*id, start_ms));
                start_ms += slot.ms();
            }
        }
        slots
    }

    fn slot(&self, id: HouseholdId, start_ms: i64) -> Slot {
        let Settings { slot, hold_ms, .. } = self.settings;
        let from = (id, start_ms - hold_ms, Kind::Meter);
        let until = (id, start_ms + slot.ms(), Kind::Meter);
        let readings = self.accepted.range(from..until);
        let timed = readings.map(|(_, read)| (read.ts_ms, read.measurement));
        Slot::of(start_ms, slot.minutes(), hold_ms, i64::MAX, timed)
    }
}
