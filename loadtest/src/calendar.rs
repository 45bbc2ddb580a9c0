//! The local calendar of a home, and what chance brings at its days and hours. The same home and moment give the same.

use model::units::{HOUR_MS, HouseholdId, MINUTE_MS};
use model::zone::{LocalDay, Zone};

use crate::draw::Draw;

/// A home's calendar.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    zone: Zone,
    seed: u64,
    id: HouseholdId,
}

/// A local day, from its start until the next one's, UTC epoch milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day {
    pub(crate) day: LocalDay,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

impl Calendar {
    pub(crate) fn new(time_zone: &str, seed: u64, id: HouseholdId) -> Self {
        let zone = Zone::find_or_utc(time_zone);
        Self { zone, seed, id }
    }

    /// Returns the day that contains a moment.
    pub(crate) fn day_of(&self, at_ms: i64) -> Day {
        let day = self.zone.day_of(at_ms);
        self.day(day)
    }

    pub(crate) fn day(&self, day: LocalDay) -> Day {
        Day {
            day,
            start_ms: self.zone.at_ms(day, 0),
            end_ms: self.zone.at_ms(day.plus(1), 0),
        }
    }

    /// Returns when clocks show `minute` minutes after midnight of `day`.
    pub(crate) fn at_ms(&self, day: LocalDay, minute: u32) -> i64 {
        self.zone.at_ms(day, minute)
    }

    /// Returns the hour that clocks show, 0 to 23.
    pub(crate) fn hour(&self, at_ms: i64) -> usize {
        let local_ms = at_ms + i64::from(self.zone.offset_min(at_ms)) * MINUTE_MS;
        let hour = local_ms.div_euclid(HOUR_MS).rem_euclid(24);
        usize::try_from(hour).expect("0 to 23")
    }

    /// Returns the chances of a moment.
    pub(crate) const fn draw(&self, moment_ms: i64) -> Draw {
        Draw::at(self.seed, self.id, moment_ms)
    }
}
