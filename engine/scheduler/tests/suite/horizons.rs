//! Slots of every length and horizons from one slot to the longest, and the two days of the year that are not 24 hours
//! long: each with every kind of home, compared with the mixed-integer program.

use model::problem::{Appliance, Battery, Ev, HeatStore, Problem};
use model::schedule::Status;
use model::units::{HOUR_MS, MINUTE_MS};
use scheduler::Method;

use crate::agreed::agreed;
use crate::support::{appliance, ev, home, lossy, with};

/// 2025-06-02T00:00 in Berlin, a Monday.
const MONDAY_MS: i64 = 1_748_815_200_000;

/// What is in a home beside load and PV.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Battery,
    BatteryAndAppliance,
    Ev,
    HeatStore,
    /// All of them.
    Everything,
}

const KINDS: [Kind; 5] = [
    Kind::Battery,
    Kind::BatteryAndAppliance,
    Kind::Ev,
    Kind::HeatStore,
    Kind::Everything,
];
/// Longest horizon on which [`Kind::Everything`] is solved here: its binaries take time.
const EVERYTHING_SLOTS_MAX: usize = 100;

/// A horizon, with the offset of local time from UTC at each moment.
#[derive(Debug, Clone, Copy)]
struct Horizon {
    slot_minutes: u32,
    slots_count: usize,
    start_ms: i64,
    /// Hours that local time is ahead of UTC, before and after `changes_ms`.
    ahead_hours: (i64, i64),
    changes_ms: i64,
}

/// From a Monday of summer on.
const fn summer(slot_minutes: u32, slots_count: usize) -> Horizon {
    Horizon {
        slot_minutes,
        slots_count,
        start_ms: MONDAY_MS,
        ahead_hours: (2, 2),
        changes_ms: 0,
    }
}

impl Horizon {
    fn starts_ms(&self) -> impl Iterator<Item = i64> + use<> {
        let (start, step) = (self.start_ms, i64::from(self.slot_minutes) * MINUTE_MS);
        (start..).step_by(step as usize).take(self.slots_count)
    }

    /// Local time of day at which slots start, hours.
    fn local_hours(&self) -> Vec<f64> {
        let (before, after) = self.ahead_hours;
        self.starts_ms()
            .map(|ms| {
                let ahead = if ms < self.changes_ms { before } else { after };
                ((ms + ahead * HOUR_MS) % (24 * HOUR_MS)) as f64 / HOUR_MS as f64
            })
            .collect()
    }

    fn hours_in_slots(&self, hours: f64) -> usize {
        let slots = hours * 60.0 / f64::from(self.slot_minutes);
        (slots.ceil() as usize).clamp(1, self.slots_count)
    }

    /// A home with PV and a price for each hour, dear in the evening and never the same two days running.
    fn problem(&self, kind: Kind) -> Problem {
        let hours = self.local_hours();
        let bell = |hour: f64, at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
        let uneven = |t: usize| (t * 7919 % 1009) as f64 / 1009.0;
        let load = |t: usize, hour: f64| {
            0.25 + 1.1 * bell(hour, 19.0, 2.0) + 0.5 * bell(hour, 7.0, 1.0) + 0.3 * uneven(t)
        };
        let pv = |t: usize, hour: f64| 4.0 * bell(hour, 13.0, 3.0) * (0.5 + 0.5 * uneven(t + 1));
        let price = |t: usize, hour: f64| {
            let day = t / self.hours_in_slots(24.0);
            let hour_of_all = day * 24 + hour as usize;
            0.18 + 0.12 * bell(hour, 19.0, 3.0) + 0.05 * uneven(hour_of_all)
        };
        let series = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            hours
                .iter()
                .enumerate()
                .map(|(t, hour)| of(t, *hour))
                .collect()
        };
        with(home(&series(&load), &series(&pv), &series(&price)), |p| {
            p.start_ms = self.start_ms;
            p.slot_minutes = self.slot_minutes;
            p.sell_price = vec![0.08; self.slots_count];
            match kind {
                Kind::Battery => p.battery = Some(Self::battery()),
                Kind::BatteryAndAppliance => {
                    p.battery = Some(Self::battery());
                    p.appliances = vec![self.washer()];
                }
                Kind::Ev => p.evs = vec![self.ev()],
                Kind::HeatStore => p.heat_stores = vec![self.tank()],
                Kind::Everything => {
                    p.battery = Some(Self::battery());
                    p.appliances = vec![self.washer()];
                    p.evs = vec![self.ev()];
                    p.heat_stores = vec![self.tank()];
                }
            }
        })
    }

    fn battery() -> Battery {
        Battery {
            soc_kwh: 2.0,
            charge_kw: 3.0,
            discharge_kw: 3.0,
            end_value_per_kwh: 0.12,
            ..lossy(7.0, 0.95)
        }
    }

    fn washer(&self) -> Appliance {
        let run = vec![1.5; self.hours_in_slots(1.5)];
        appliance("washer", &run, 0, self.slots_count as u32)
    }

    /// Plugged in for the middle of the horizon, with a goal within reach.
    fn ev(&self) -> Ev {
        let arrival = self.slots_count / 4;
        let departure = (self.slots_count - arrival).max(arrival + 1);
        let hours = (departure - arrival) as f64 * f64::from(self.slot_minutes) / 60.0;
        Ev {
            capacity_kwh: 50.0,
            soc_kwh: 15.0,
            min_soc_kwh: 10.0,
            goal_soc_kwh: (15.0 + 0.5 * 0.9 * 7.0 * hours).min(40.0),
            charge_kw: 7.0,
            discharge_kw: 4.0,
            charge_efficiency: 0.9,
            discharge_efficiency: 0.9,
            end_value_per_kwh: 0.1,
            wear_cost_per_kwh: 0.01,
            ..ev("car", arrival as u32, departure as u32)
        }
    }

    /// A tank from which is drawn in the morning and in the evening.
    fn tank(&self) -> HeatStore {
        let draw = |hour: f64| {
            if (6.0..8.0).contains(&hour) || (19.0..21.0).contains(&hour) {
                1.2
            } else {
                0.0
            }
        };
        HeatStore {
            id: "tank".to_owned(),
            power_kw: 2.0,
            cop: vec![2.5; self.slots_count],
            kwh_per_k: 0.35,
            loss_kw_per_k: 0.004,
            temperature_c: 50.0,
            min_c: 45.0,
            max_c: 60.0,
            ambient_c: vec![18.0; self.slots_count],
            draw_kw: self.local_hours().into_iter().map(draw).collect(),
            end_value_per_kwh: 0.05,
        }
    }
}

/// Solved to the optimum, by the method for its kind.
fn check(horizon: Horizon, kind: Kind) {
    let plan = agreed(&format!("{horizon:?}, {kind:?}"), &horizon.problem(kind));
    assert_eq!(plan.status, Status::Optimal, "{horizon:?}, {kind:?}");
    let method = match kind {
        Kind::Battery | Kind::Ev | Kind::HeatStore => Method::Dp,
        Kind::BatteryAndAppliance => Method::BranchAndBound,
        Kind::Everything => Method::Milp,
    };
    assert_eq!(plan.solver, method.as_str(), "{horizon:?}, {kind:?}");
}

fn check_all(horizon: Horizon) {
    for kind in KINDS {
        if kind != Kind::Everything || horizon.slots_count <= EVERYTHING_SLOTS_MAX {
            check(horizon, kind);
        }
    }
}

#[test]
fn a_day_of_slots_of_each_length() {
    for (slot_minutes, slots_count) in [(5, 288), (15, 96), (30, 48), (60, 24)] {
        check_all(summer(slot_minutes, slots_count));
    }
    // A day of minutes is longer than the longest horizon.
    check_all(summer(1, 96));
}

#[test]
fn horizons_from_one_slot_to_the_longest() {
    for slot_minutes in [5, 15, 60] {
        for slots_count in [1, 2, 95, 96, 288, 672] {
            check_all(summer(slot_minutes, slots_count));
        }
    }
}

/// The day of `horizon` runs from midnight to midnight by the clock, with so many slots from two to three.
fn check_change_of_clock(horizon: Horizon, next_midnight_ms: i64, from_two_count: usize) {
    let last = horizon.starts_ms().last().expect("a slot");
    assert_eq!(last + 15 * MINUTE_MS, next_midnight_ms);
    let hours = horizon.local_hours();
    assert_eq!((hours[0], hours[hours.len() - 1]), (0.0, 23.75));
    let from_two = hours.iter().filter(|hour| (2.0..3.0).contains(*hour));
    assert_eq!(from_two.count(), from_two_count);
    check_all(horizon);
}

/// Berlin, 30 March 2025.
#[test]
fn the_day_of_92_slots() {
    let horizon = Horizon {
        slot_minutes: 15,
        slots_count: 92,
        start_ms: 1_743_289_200_000,
        ahead_hours: (1, 2),
        changes_ms: 1_743_296_400_000,
    };
    check_change_of_clock(horizon, 1_743_372_000_000, 0);
}

/// Berlin, 26 October 2025.
#[test]
fn the_day_of_100_slots() {
    let horizon = Horizon {
        slot_minutes: 15,
        slots_count: 100,
        start_ms: 1_761_429_600_000,
        ahead_hours: (2, 1),
        changes_ms: 1_761_440_400_000,
    };
    check_change_of_clock(horizon, 1_761_519_600_000, 8);
}
