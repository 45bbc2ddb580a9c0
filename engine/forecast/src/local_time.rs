//! Local clock time of a home. Offsets are arguments: nothing here knows time zones. Days of 23 or 25 hours follow from
//! offsets that change.

use serde::{Deserialize, Serialize};

use model::units::{DAY_MS, MINUTE_MS};

/// Largest difference between local time and UTC, minutes. The world's is 14 hours.
const OFFSET_MIN_MAX: i32 = 18 * 60;

/// Local time from now on: an offset, and its next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Local time less UTC, minutes: 120 in Paris in summer.
    pub offset_min: i32,
    /// The moment of the next change (UTC epoch milliseconds) and the offset from then on.
    pub change: Option<(i64, i32)>,
}

impl LocalTime {
    /// UTC.
    pub const UTC: Self = Self {
        offset_min: 0,
        change: None,
    };

    /// Returns the local time at `ts_ms` as if it were UTC, epoch milliseconds.
    #[must_use]
    pub fn local_ms(&self, ts_ms: i64) -> i64 {
        let offset_min = match self.change {
            Some((from_ms, offset_min)) if ts_ms >= from_ms => offset_min,
            Some(_) | None => self.offset_min,
        };
        ts_ms + offset_ms(offset_min)
    }

    /// Whether clocks do not change from `first_ms` to `last_ms`.
    #[must_use]
    pub fn is_unchanged(&self, first_ms: i64, last_ms: i64) -> bool {
        self.change
            .is_none_or(|(from_ms, _)| !(first_ms + 1..=last_ms).contains(&from_ms))
    }
}

fn offset_ms(offset_min: i32) -> i64 {
    i64::from(offset_min.clamp(-OFFSET_MIN_MAX, OFFSET_MIN_MAX)) * MINUTE_MS
}

/// Days that people spend alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayClass {
    /// Monday to Friday.
    Workday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl DayClass {
    /// Returns the class of the day that contains a local time.
    #[must_use]
    pub const fn of(local_ms: i64) -> Self {
        // 1970-01-01 was a Thursday.
        match (local_ms.div_euclid(DAY_MS) + 3).rem_euclid(7) {
            5 => Self::Saturday,
            6 => Self::Sunday,
            _ => Self::Workday,
        }
    }
}

/// Most changes remembered. Six weeks have two at most (a Ramadan in Morocco).
const CHANGES_MAX: usize = 4;

/// The offsets of the past days: since when, UTC epoch milliseconds, and how many minutes. Ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offsets {
    changes: Vec<(i64, i16)>,
}

impl Offsets {
    /// Notes the offset that holds from `from_ms` on. What is older than the newest change is known already.
    pub(crate) fn note(&mut self, from_ms: i64, offset_min: i32) {
        let offset_min = offset_min.clamp(-OFFSET_MIN_MAX, OFFSET_MIN_MAX);
        let offset_min = i16::try_from(offset_min).expect("18 hours have few minutes");
        let is_known = self
            .changes
            .last()
            .is_some_and(|(last_ms, last_min)| *last_ms >= from_ms || *last_min == offset_min);
        if !is_known {
            if self.changes.len() == CHANGES_MAX {
                self.changes.remove(0);
            }
            self.changes.push((from_ms, offset_min));
        }
    }

    /// Forgets the changes after `ts_ms`, but not the only one.
    pub(crate) fn forget_after(&mut self, ts_ms: i64) {
        while self.changes.len() > 1 && self.changes.last().is_some_and(|last| last.0 > ts_ms) {
            self.changes.pop();
        }
    }

    /// Returns the moment at which clocks showed a local time, UTC epoch milliseconds; the later one of two. A time that
    /// was left out is read as if the change had not come.
    pub(crate) fn utc_ms(&self, local_ms: i64) -> i64 {
        self.read(local_ms).1
    }

    /// Returns the moment of the first of two local times, if all between them are read with the same offset.
    pub(crate) fn unchanged_utc_ms(&self, first_ms: i64, last_ms: i64) -> Option<i64> {
        let (first, last) = (self.read(first_ms), self.read(last_ms));
        (first.0 == last.0).then_some(first.1)
    }

    /// Which change a local time is read with, counted from the newest, and its moment.
    fn read(&self, local_ms: i64) -> (usize, i64) {
        let mut read = (0, local_ms);
        for (place, (from_ms, offset_min)) in self.changes.iter().rev().enumerate() {
            read = (place, local_ms - i64::from(*offset_min) * MINUTE_MS);
            if read.1 >= *from_ms {
                break;
            }
        }
        read
    }

    /// Returns the local time at `ts_ms` as if it were UTC, epoch milliseconds.
    pub(crate) fn local_ms(&self, ts_ms: i64) -> i64 {
        let changes = self.changes.iter().rev();
        let mut at_or_before = changes.skip_while(|(from_ms, _)| *from_ms > ts_ms);
        let change = at_or_before.next().or_else(|| self.changes.first());
        ts_ms + change.map_or(0, |(_, offset_min)| i64::from(*offset_min) * MINUTE_MS)
    }
}
