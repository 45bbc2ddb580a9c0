//! A simulated appliance that runs once in its window. A run that has begun goes on to its end. No IO, no clock.

use model::metadata::ApplianceSpec;
use model::units::MINUTE_MS;
use model::zone::DAY_MIN;

use crate::calendar::Calendar;

/// Length of an entry of a profile.
const ENTRY_MS: i64 = 15 * MINUTE_MS;
const ENTRY_H: f64 = 0.25;

/// An appliance.
#[derive(Debug, Clone)]
pub(crate) struct Appliance {
    spec: ApplianceSpec,
    calendar: Calendar,
    begun_ms: Option<i64>,
    window: Option<Window>,
}

/// When it may run: the newest window that has begun, or the first of the day. It holds until the next day's.
#[derive(Debug, Clone, Copy)]
struct Window {
    from_ms: i64,
    until_ms: i64,
    holds_until_ms: i64,
}

impl Appliance {
    pub(crate) const fn new(spec: ApplianceSpec, calendar: Calendar) -> Self {
        Self {
            spec,
            calendar,
            begun_ms: None,
            window: None,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.spec.id
    }

    /// Returns its power from `at_ms` on, kW. `told` is whether a command says to run; `None` without a command, when it
    /// runs as soon as its window begins. If nobody has told it to by the latest moment, it begins by itself.
    pub(crate) fn run(&mut self, at_ms: i64, told: Option<bool>) -> f64 {
        let window = self.window(at_ms);
        let has_run = self.begun_ms.is_some_and(|ms| ms >= window.from_ms);
        let is_open = (window.from_ms..window.until_ms).contains(&at_ms);
        if is_open && !has_run && self.entry(at_ms).is_none() {
            let latest_ms = window.until_ms - self.length_ms();
            if told.unwrap_or(true) || at_ms >= latest_ms {
                self.begun_ms = Some(at_ms);
            }
        }
        self.entry(at_ms)
            .map_or(0.0, |entry| self.spec.profile_kw[entry])
    }

    /// Returns what it will still draw in the window that has begun, kWh.
    pub(crate) fn owed_kwh(&mut self, at_ms: i64) -> f64 {
        let window = self.window(at_ms);
        if let Some(entry) = self.entry(at_ms) {
            let begun_ms = self.begun_ms.unwrap_or(at_ms);
            #[expect(clippy::cast_precision_loss, reason = "a run takes hours")]
            let into_h = (at_ms - begun_ms).rem_euclid(ENTRY_MS) as f64 / 3.6e6;
            let rest: f64 = self.spec.profile_kw[entry..].iter().sum();
            return rest * ENTRY_H - self.spec.profile_kw[entry] * into_h;
        }
        let has_run = self.begun_ms.is_some_and(|ms| ms >= window.from_ms);
        let is_open = (window.from_ms..window.until_ms).contains(&at_ms);
        if is_open && !has_run {
            self.spec.profile_kw.iter().sum::<f64>() * ENTRY_H
        } else {
            0.0
        }
    }

    /// Returns the entry of the profile in which a run is; `None` while it does not run.
    fn entry(&self, at_ms: i64) -> Option<usize> {
        let entry = usize::try_from((at_ms - self.begun_ms?).div_euclid(ENTRY_MS)).ok()?;
        (entry < self.spec.profile_kw.len()).then_some(entry)
    }

    fn length_ms(&self) -> i64 {
        i64::try_from(self.spec.profile_kw.len()).expect("672 at most") * ENTRY_MS
    }

    fn window(&mut self, at_ms: i64) -> Window {
        if let Some(window) = self.window.filter(|window| at_ms < window.holds_until_ms) {
            return window;
        }
        let (start_min, end_min) = (self.spec.window_start_min, self.spec.window_end_min);
        let overnight_min = if end_min > start_min { 0 } else { DAY_MIN };
        let day = self.calendar.day_of(at_ms);
        let until_ms = self.calendar.at_ms(day.day, end_min + overnight_min);
        let window = Window {
            from_ms: self.calendar.at_ms(day.day, start_min),
            until_ms,
            holds_until_ms: day.end_ms.max(until_ms),
        };
        self.window = Some(window);
        window
    }
}

#[cfg(test)]
mod tests {
    use model::units::HouseholdId;

    use super::*;

    /// 2026-11-23, 00:00 in Berlin.
    const MIDNIGHT_MS: i64 = 1_795_388_400_000;

    fn dishwasher() -> Appliance {
        let spec = ApplianceSpec {
            id: "dishwasher".to_owned(),
            profile_kw: vec![2.0, 0.2],
            window_start_min: 600,
            window_end_min: 1_080,
        };
        let calendar = Calendar::new("Europe/Berlin", 1, HouseholdId::new(3).unwrap());
        Appliance::new(spec, calendar)
    }

    /// Runs it for a day and returns the minutes in which it drew power.
    fn minutes(told: impl Fn(i64) -> Option<bool>) -> Vec<i64> {
        let mut appliance = dishwasher();
        let mut drew = |minute: &i64| {
            let at_ms = MIDNIGHT_MS + minute * MINUTE_MS;
            let owed_kwh = appliance.owed_kwh(at_ms);
            let power_kw = appliance.run(at_ms, told(*minute));
            let paid_kwh = owed_kwh - appliance.owed_kwh(at_ms + MINUTE_MS);
            let is_due = owed_kwh > 0.0;
            assert!(!is_due || (paid_kwh - power_kw / 60.0).abs() < 1e-9);
            power_kw > 0.0
        };
        (0..1_440).filter(|minute| drew(minute)).collect()
    }

    #[test]
    fn it_runs_once_in_its_window_when_it_is_told_to_or_by_itself() {
        let from = |minute: i64| (minute..minute + 30).collect::<Vec<_>>();
        assert_eq!(minutes(|_| None), from(600), "without a command at once");
        assert_eq!(minutes(|_| Some(false)), from(1_050), "at the latest");
        assert_eq!(minutes(|_| Some(true)), from(600));
        // It is told for a minute, and once more.
        assert_eq!(
            minutes(|minute| Some([700, 900].contains(&minute))),
            from(700)
        );
        // Not outside its window.
        assert_eq!(minutes(|minute| Some(minute < 600)), from(1_050));
    }
}
