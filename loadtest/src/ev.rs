//! A simulated EV: it is plugged in by habit, drives, and comes back with less. No IO, no clock.

use model::asset::AssetState;
use model::command::EvOrder;
use model::metadata::{Departure, EvSpec};
use model::units::{HouseholdId, MINUTE_MS};

use crate::calendar::{Calendar, Day};

const SATURDAY: u32 = 5;
/// Of so many habitual trips one does not take place.
const STAYS_ONE_IN: u32 = 8;
/// Share of the capacity below which it charges on the road.
const RESERVE_SHARE: f64 = 0.05;

/// An EV and its charging point.
#[derive(Debug, Clone)]
pub(crate) struct Ev {
    spec: EvSpec,
    calendar: Calendar,
    says_departure: bool,
    content_kwh: f64,
    today: Option<Today>,
    road_kwh: f64,
}

#[derive(Debug, Clone)]
struct Today {
    day: Day,
    trip: Option<Trip>,
    has_left: bool,
}

/// A trip of one day, with what it takes out of the battery.
#[derive(Debug, Clone, Copy)]
struct Trip {
    leaves_ms: i64,
    returns_ms: i64,
    kwh: f64,
}

/// Returns the EV of home `id`: it drives to work, and somewhere on Saturdays.
pub(crate) fn spec(id: HouseholdId) -> EvSpec {
    let number = id.get().unsigned_abs();
    let quarters = u32::try_from(number % 7).expect("below 7");
    let capacity_kwh = if number.is_multiple_of(2) { 52.0 } else { 64.0 };
    let departure = |weekday| Departure {
        weekday,
        at_min: if weekday == SATURDAY { 600 } else { 390 } + 15 * quarters,
    };
    EvSpec {
        id: "car".to_owned(),
        capacity_kwh,
        min_soc_kwh: 0.1 * capacity_kwh,
        goal_soc_kwh: 0.8 * capacity_kwh,
        charge_kw: if number.is_multiple_of(3) { 7.4 } else { 11.0 },
        // For less than 6 A it charges and pauses in turns.
        min_charge_kw: 0.0,
        discharge_kw: 0.0,
        charge_efficiency: 0.92,
        discharge_efficiency: 1.0,
        wear_cost_per_kwh: 0.0,
        departures: (0..=SATURDAY).map(departure).collect(),
    }
}

impl Ev {
    /// Makes an EV that is three fifths full. Only some tell when they will leave.
    pub(crate) fn new(spec: EvSpec, calendar: Calendar, says_departure: bool) -> Self {
        Self {
            content_kwh: 0.6 * spec.capacity_kwh,
            spec,
            calendar,
            says_departure,
            today: None,
            road_kwh: 0.0,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.spec.id
    }

    pub(crate) const fn content_kwh(&self) -> f64 {
        self.content_kwh
    }

    /// Returns what it had to charge on the road so far, kWh.
    pub(crate) const fn road_kwh(&self) -> f64 {
        self.road_kwh
    }

    pub(crate) const fn spec(&self) -> &EvSpec {
        &self.spec
    }

    /// Runs it for `hours`, above 0, from `at_ms` on, and returns its power, kW, positive while charging. Without an order
    /// it charges to its goal at once. `left_kw` is PV less what the home and its tank draw: with a surplus order it takes
    /// what is left over before the battery does.
    pub(crate) fn run(
        &mut self,
        at_ms: i64,
        hours: f64,
        order: Option<&EvOrder>,
        left_kw: f64,
    ) -> f64 {
        if !self.is_plugged(at_ms) {
            return 0.0;
        }
        let spec = &self.spec;
        let (wanted_kw, to_kwh) = match order {
            None => (spec.charge_kw, spec.goal_soc_kwh),
            Some(order) => {
                let surplus_kw = if order.surplus { left_kw } else { 0.0 };
                (order.charge_kw.max(surplus_kw), spec.capacity_kwh)
            }
        };
        let room_kwh = (to_kwh - self.content_kwh).max(0.0);
        let charge_kw = wanted_kw
            .min(spec.charge_kw)
            .min(room_kwh / (spec.charge_efficiency * hours));
        if charge_kw > 0.0 && charge_kw >= spec.min_charge_kw.min(spec.charge_kw) {
            self.content_kwh += charge_kw * spec.charge_efficiency * hours;
            return charge_kw;
        }
        let spare_kwh = (self.content_kwh - spec.min_soc_kwh).max(0.0);
        let discharge_kw = order.map_or(0.0, |order| {
            order
                .discharge_max_kw
                .min(spec.discharge_kw)
                .min(-left_kw)
                .min(spare_kwh * spec.discharge_efficiency / hours)
                .max(0.0)
        });
        if discharge_kw > 0.0 {
            self.content_kwh -= discharge_kw * hours / spec.discharge_efficiency;
            return -discharge_kw;
        }
        0.0
    }

    /// Returns what its charging point reads. Nobody knows the SoC of a car that is away.
    pub(crate) fn state(&self, at_ms: i64, power_kw: f64) -> AssetState {
        let mut seen = self.clone();
        let plugged = seen.is_plugged(at_ms);
        let says = plugged && self.says_departure;
        AssetState::Ev {
            plugged,
            soc_pct: plugged.then(|| tenths(100.0 * seen.content_kwh / self.spec.capacity_kwh)),
            power_w: tenths(power_kw * 1e3),
            departure_ms: seen.next_departure_ms(at_ms).filter(|_| says),
            goal_pct: says.then(|| tenths(100.0 * self.spec.goal_soc_kwh / self.spec.capacity_kwh)),
        }
    }

    /// Returns whether it is at home. It drives as soon as it has left.
    fn is_plugged(&mut self, at_ms: i64) -> bool {
        let is_today = |today: &Today| (today.day.start_ms..today.day.end_ms).contains(&at_ms);
        if !self.today.as_ref().is_some_and(is_today) {
            let day = self.calendar.day_of(at_ms);
            self.today = Some(Today {
                day,
                trip: self.trip(day),
                has_left: false,
            });
        }
        let Some(today) = &mut self.today else {
            return true;
        };
        let Some(trip) = today.trip.filter(|trip| trip.leaves_ms <= at_ms) else {
            return true;
        };
        if !today.has_left {
            today.has_left = true;
            let reserve_kwh = RESERVE_SHARE * self.spec.capacity_kwh;
            let arrives_kwh = self.content_kwh - trip.kwh;
            self.road_kwh += (reserve_kwh - arrives_kwh).max(0.0);
            self.content_kwh = arrives_kwh.max(reserve_kwh);
        }
        trip.returns_ms <= at_ms
    }

    /// Returns the trip of a day, which ends on the same day.
    fn trip(&self, day: Day) -> Option<Trip> {
        let weekday = day.day.weekday();
        let mut habits = self.spec.departures.iter();
        let habit = habits.find(|habit| habit.weekday == weekday)?;
        let mut draw = self.calendar.draw(day.start_ms);
        if draw.below(STAYS_ONE_IN) == 0 {
            return None;
        }
        let away_min = if weekday == SATURDAY { 180 } else { 510 } + draw.below(150);
        let leaves_ms = self.calendar.at_ms(day.day, habit.at_min);
        Some(Trip {
            leaves_ms,
            returns_ms: leaves_ms + i64::from(away_min) * MINUTE_MS,
            kwh: 4.0 + 10.0 * draw.unit(),
        })
    }

    fn next_departure_ms(&self, at_ms: i64) -> Option<i64> {
        let today = self.calendar.day_of(at_ms).day;
        let mut days = (0..=7).map(|days| self.calendar.day(today.plus(days)));
        days.find_map(|day| {
            let trip = self.trip(day)?;
            (trip.leaves_ms > at_ms).then_some(trip.leaves_ms)
        })
    }
}

/// Rounds to tenths, as meters do.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-11-23, 00:00 in Berlin.
    const MONDAY_MS: i64 = 1_795_388_400_000;
    const HOUR_MS: i64 = 60 * MINUTE_MS;

    fn ev() -> Ev {
        let id = HouseholdId::new(2).unwrap();
        Ev::new(spec(id), Calendar::new("Europe/Berlin", 1, id), true)
    }

    /// Two weeks, minute by minute, without an order.
    #[test]
    fn it_leaves_by_habit_and_comes_back_with_less() {
        let mut ev = ev();
        let (mut trips, mut before, mut left_kwh) = (0, true, 0.0);
        for minute in 0..14 * 1_440 {
            let at_ms = MONDAY_MS + minute * MINUTE_MS;
            let held_kwh = ev.content_kwh;
            let power_kw = ev.run(at_ms, 1.0 / 60.0, None, 0.0);
            let AssetState::Ev {
                plugged, soc_pct, ..
            } = ev.state(at_ms, power_kw)
            else {
                panic!("an EV has the state of an EV")
            };
            assert_eq!(plugged, soc_pct.is_some());
            if before && !plugged {
                // Home 2 leaves at 7 on workdays and at 10:30 on Saturdays.
                let local_min = minute % 1_440;
                assert!([420, 630].contains(&local_min), "{local_min}");
                let driven_kwh = held_kwh - ev.content_kwh;
                assert!((4.0..14.0).contains(&driven_kwh), "{driven_kwh}");
                left_kwh = ev.content_kwh;
                trips += 1;
            }
            if !plugged {
                assert_eq!((power_kw, ev.content_kwh), (0.0, left_kwh));
            }
            before = plugged;
        }
        assert!((8..=12).contains(&trips), "{trips}");
        assert_eq!(ev.road_kwh, 0.0);
    }

    #[test]
    fn an_order_holds_whatever_the_sun_does_and_surplus_comes_on_top() {
        let hours = 1.0 / 3_600.0;
        let power_kw = |charge_kw, surplus, left_kw| {
            let order = EvOrder {
                charge_kw,
                surplus,
                discharge_max_kw: 5.0,
            };
            ev().run(MONDAY_MS, hours, Some(&order), left_kw)
        };
        assert_eq!(power_kw(2.0, false, 3.0), 2.0);
        assert_eq!(power_kw(2.0, true, 3.0), 3.0);
        assert_eq!(power_kw(2.0, true, -3.0), 2.0);
        assert_eq!(power_kw(0.0, false, 3.0), 0.0);
        assert_eq!(power_kw(99.0, false, 0.0), 11.0);
        // This car gives nothing back.
        assert_eq!(power_kw(0.0, false, -3.0), 0.0);
        let mut both_ways = ev();
        both_ways.spec.discharge_kw = 4.0;
        let order = EvOrder {
            charge_kw: 0.0,
            surplus: false,
            discharge_max_kw: 5.0,
        };
        let before_kwh = both_ways.content_kwh;
        assert_eq!(
            both_ways.run(MONDAY_MS, hours, Some(&order), -3.0),
            -3.0,
            "no more than the home draws"
        );
        assert!((before_kwh - both_ways.content_kwh - 3.0 * hours).abs() < 1e-12);
    }

    #[test]
    fn a_car_that_was_not_charged_charges_on_the_road() {
        let mut ev = ev();
        ev.content_kwh = 3.0;
        let nothing = EvOrder {
            charge_kw: 0.0,
            surplus: false,
            discharge_max_kw: 0.0,
        };
        for hour in 0..24 {
            ev.run(MONDAY_MS + hour * HOUR_MS, 1.0, Some(&nothing), 0.0);
        }
        assert!(ev.road_kwh > 0.0);
        assert!((ev.content_kwh - 2.6).abs() < 1e-9);
    }
}
