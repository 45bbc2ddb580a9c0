//! The PV of another place for homes that have none: a rooftop's power in steps of five minutes over part of a year.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::units::{DAY_MS, MINUTE_MS};

/// Peak power that it is scaled to, kW.
pub const PEAK_KW: f64 = 5.0;
/// Peak power that was recorded, kW.
const RECORDED_KW: f64 = 7.0;
const STEP_MS: i64 = 5 * MINUTE_MS;
const STEPS_PER_DAY: i64 = DAY_MS / STEP_MS;
/// Days at an end of the record that stand for those beyond it, in a mixed order.
const END_DAYS: i64 = 21;
const ORDER: i64 = 8;
/// Share of their power that days beyond the record have.
const BEYOND_SHARE: f64 = 0.5;

/// A rooftop's power.
#[derive(Debug, Clone)]
pub struct Sunshine {
    /// Place of the first day in its year, from 0 on.
    first_day: i64,
    watts: Vec<f64>,
}

impl Sunshine {
    /// Reads `clock,pv_w` with local solar time, from a midnight on, a row every five minutes.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut first_day = None;
        let mut watts = Vec::new();
        for (index, line) in text.lines().enumerate().skip(1) {
            let wrong = || format!("line {}: {line:?}", index + 1);
            let (clock, power) = line.split_once(',').ok_or_else(wrong)?;
            if first_day.is_none() {
                let clock: DateTime = clock.parse().map_err(|_| wrong())?;
                first_day = Some(i64::from(clock.day_of_year()) - 1);
            }
            watts.push(power.trim().parse().unwrap_or(0.0));
        }
        Ok(Self {
            first_day: first_day.ok_or("there are no rows")?,
            watts,
        })
    }

    /// Returns the power at a moment whose UTC is taken for solar time, W.
    #[must_use]
    pub fn watts_at(&self, ts_ms: i64) -> f64 {
        let days = i64::try_from(self.watts.len()).unwrap_or(0) / STEPS_PER_DAY;
        let Ok(time) = jiff::Timestamp::from_millisecond(ts_ms) else {
            return 0.0;
        };
        let day = i64::from(time.to_zoned(TimeZone::UTC).day_of_year()) - 1;
        let after = (day - self.first_day).rem_euclid(366);
        let (place, share) = if after < days {
            (after, 1.0)
        } else {
            // Beyond the record: its end or its beginning, whichever is nearer in the year.
            let (past, ahead) = (after - days, 365 - after);
            let mixed = |distance: i64| (distance * ORDER).rem_euclid(END_DAYS);
            let place = if past < ahead {
                days - 1 - mixed(past)
            } else {
                mixed(ahead)
            };
            (place, BEYOND_SHARE)
        };
        let step = ts_ms.rem_euclid(DAY_MS) / STEP_MS;
        let index = usize::try_from(place * STEPS_PER_DAY + step).unwrap_or(usize::MAX);
        let watts = self.watts.get(index).copied().unwrap_or(0.0);
        watts * share * PEAK_KW / RECORDED_KW
    }
}
