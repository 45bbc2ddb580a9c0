//! Local time of a home, by the IANA time zone database that the build carries: the machine's own is not read.

use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

use crate::units::{DAY_MS, MINUTE_MS};

/// The zone of a home whose metadata names none.
pub const UTC: &str = "UTC";

/// Minutes in a day that has no change of the clock.
pub const DAY_MIN: u32 = 24 * 60;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

/// A day of the local calendar, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalDay(i64);

impl LocalDay {
    /// Returns the day that is `days` later.
    #[must_use]
    pub const fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// Returns the day of the week: 0 is Monday, 6 is Sunday.
    #[must_use]
    pub const fn weekday(self) -> u32 {
        // 1970-01-01 was a Thursday.
        (self.0 + 3).rem_euclid(7) as u32
    }
}

impl Zone {
    /// Returns the zone with an IANA name such as `Europe/Berlin`; `None` if there is none.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        if name == UTC {
            return Some(Self(TimeZone::UTC));
        }
        ZONES.get(name).ok().map(Self)
    }

    /// Returns the zone with this name, or UTC if there is none.
    #[must_use]
    pub fn find_or_utc(name: &str) -> Self {
        Self::find(name).unwrap_or(Self(TimeZone::UTC))
    }

    /// Returns local time less UTC at a moment, minutes: 120 in Paris in summer. `ts_ms` is UTC epoch milliseconds.
    #[must_use]
    pub fn offset_min(&self, ts_ms: i64) -> i32 {
        self.0.to_offset(timestamp(ts_ms)).seconds().div_euclid(60)
    }

    /// Returns the next change of the offset after a moment, and the offset from then on; `None` if none is known.
    #[must_use]
    pub fn next_change(&self, ts_ms: i64) -> Option<(i64, i32)> {
        let before_min = self.offset_min(ts_ms);
        // A transition may change the zone's abbreviation alone.
        let changes = self.0.following(timestamp(ts_ms)).take(4);
        let mut changes = changes.map(|change| {
            let offset_min = change.offset().seconds().div_euclid(60);
            (change.timestamp().as_millisecond(), offset_min)
        });
        changes.find(|(_, offset_min)| *offset_min != before_min)
    }

    /// Returns the local day that contains a moment, UTC epoch milliseconds.
    #[must_use]
    pub fn day_of(&self, ts_ms: i64) -> LocalDay {
        let local_ms = ts_ms + i64::from(self.offset_min(ts_ms)) * MINUTE_MS;
        LocalDay(local_ms.div_euclid(DAY_MS))
    }

    /// Returns the moment at which clocks show `minute` minutes after midnight of `day`, UTC epoch milliseconds. Minutes
    /// from 1,440 on are those of the days after. A time that clocks pass over is as much later as they jump; of one that
    /// they show twice it is the first.
    #[must_use]
    pub fn at_ms(&self, day: LocalDay, minute: u32) -> i64 {
        let (days, minute) = (minute / DAY_MIN, minute % DAY_MIN);
        let day = day.plus(i64::from(days));
        let moment = civil(day, minute).and_then(|time| self.0.to_timestamp(time).ok());
        // Beyond the calendar of the database there is no local time.
        moment.map_or_else(
            || day.0 * DAY_MS + i64::from(minute) * MINUTE_MS,
            Timestamp::as_millisecond,
        )
    }
}

fn civil(day: LocalDay, minute: u32) -> Option<DateTime> {
    let date = Date::constant(1970, 1, 1);
    let date = date.checked_add(Span::new().try_days(day.0).ok()?).ok()?;
    let (hour, minute) = (
        i8::try_from(minute / 60).ok()?,
        i8::try_from(minute % 60).ok()?,
    );
    Some(date.to_datetime(Time::new(hour, minute, 0, 0).ok()?))
}

/// The moment as the database's type; the nearest that it can hold.
fn timestamp(ts_ms: i64) -> Timestamp {
    let end = if ts_ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_millisecond(ts_ms).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::{UTC, Zone};
    use crate::units::{DAY_MS, HOUR_MS, MINUTE_MS};

    /// 2025-03-30 and 2025-10-26, days on which Europe changes its clocks, 00:00 UTC.
    const SPRING_MS: i64 = 1_743_292_800_000;
    /// 2026-01-15T00:00Z
    const WINTER_MS: i64 = 1_768_435_200_000;
    const AUTUMN_MS: i64 = 1_761_436_800_000;

    #[test]
    fn offsets_and_their_next_change() {
        let berlin = Zone::find("Europe/Berlin").unwrap();
        assert_eq!(berlin.offset_min(SPRING_MS), 60);
        assert_eq!(
            berlin.next_change(SPRING_MS),
            Some((SPRING_MS + HOUR_MS, 120))
        );
        assert_eq!(berlin.offset_min(SPRING_MS + HOUR_MS), 120);
        assert_eq!(
            Zone::find("Asia/Kathmandu").unwrap().offset_min(AUTUMN_MS),
            345
        );
        assert_eq!(Zone::find(UTC).unwrap().next_change(SPRING_MS), None);
        for name in ["", "Europe/Bärlin", "../../etc/passwd", "Mars/Olympus"] {
            assert!(Zone::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn times_that_clocks_pass_over_or_show_twice() {
        let berlin = Zone::find("Europe/Berlin").unwrap();
        let spring = berlin.day_of(SPRING_MS);
        // Clocks go from 02:00 to 03:00 at 01:00 UTC.
        assert_eq!(berlin.at_ms(spring, 119), SPRING_MS + HOUR_MS - MINUTE_MS);
        assert_eq!(
            berlin.at_ms(spring, 150),
            SPRING_MS + HOUR_MS + 30 * MINUTE_MS
        );
        assert_eq!(berlin.at_ms(spring, 180), SPRING_MS + HOUR_MS);
        // Clocks go from 03:00 back to 02:00 at 01:00 UTC.
        let autumn = berlin.day_of(AUTUMN_MS);
        assert_eq!(berlin.at_ms(autumn, 150), AUTUMN_MS + 30 * MINUTE_MS);
        assert_eq!(berlin.at_ms(autumn, 180), AUTUMN_MS + 2 * HOUR_MS);
    }

    /// Each day begins where the one before ends, and lasts 23, 24 or 25 hours (Lord Howe: half an hour either way).
    #[test]
    fn ten_years_of_days_in_five_zones() {
        let zones = [
            ("Europe/Berlin", 60),
            ("America/New_York", 60),
            ("Australia/Lord_Howe", 30),
            ("Asia/Kolkata", 0),
            ("America/Santiago", 60),
        ];
        for (name, jump_min) in zones {
            let zone = Zone::find(name).unwrap();
            let (mut changes, first) = (0, zone.day_of(WINTER_MS));
            for number in 0..3_653 {
                let day = first.plus(number);
                let (start_ms, end_ms) = (zone.at_ms(day, 0), zone.at_ms(day, 1_440));
                assert_eq!(zone.day_of(start_ms), day, "{name} {number}");
                assert_eq!(zone.day_of(end_ms - 1), day, "{name} {number}");
                let longer_min = (end_ms - start_ms - DAY_MS) / MINUTE_MS;
                assert!(
                    [-jump_min, 0, jump_min].contains(&longer_min),
                    "{name} {number}: {longer_min}"
                );
                changes += i32::from(longer_min != 0);
            }
            assert_eq!(changes, if jump_min == 0 { 0 } else { 20 }, "{name}");
        }
    }

    #[test]
    fn extreme_moments_have_some_day() {
        let berlin = Zone::find("Europe/Berlin").unwrap();
        for ts_ms in [i64::MIN / 4, -1, 0, i64::MAX / 4] {
            let day = berlin.day_of(ts_ms);
            assert!(berlin.at_ms(day, 1_439) >= berlin.at_ms(day, 0));
        }
    }
}
