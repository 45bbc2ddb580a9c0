//! Recorded load, PV and prices, replayed at any time. Two weeks repeat for ever, on the same weekdays. Only a home's
//! scale and shift are random; they follow from its id and the seed. See `data/README.md` for the sources.

use std::sync::LazyLock;

use model::metadata::{ApplianceSpec, BatterySpec, Metadata};
use model::tariff::{PricePeriod, Tariff};
use model::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS};

use crate::calendar::Calendar;
use crate::draw::Draw;
use crate::{ev, tank};

/// Name of the tariff that [`prices`] makes and [`metadata`] refers to.
pub const TARIFF: &str = "day-ahead";
/// The seed of [`metadata`].
pub const SEED: u64 = 1;
/// Grid fees and levies on top of the day-ahead price, currency per kWh before VAT.
const FEES_PER_KWH: f64 = 0.14;
const VAT: f64 = 1.19;

const PERIOD_MS: i64 = 14 * DAY_MS;
/// Monday 5 January 1970, 00:00 UTC.
const FIRST_MONDAY_MS: i64 = 4 * DAY_MS;
/// The Californian homes' standard time is taken as UTC+1.
const CALIFORNIA_OFFSET_MS: i64 = HOUR_MS;

static CALIFORNIA: LazyLock<Vec<Vec<f64>>> =
    LazyLock::new(|| columns(include_str!("../data/california.csv")));
static FRANCE: LazyLock<Vec<Vec<f64>>> =
    LazyLock::new(|| columns(include_str!("../data/france.csv")));
static PRICES: LazyLock<Vec<Vec<f64>>> =
    LazyLock::new(|| columns(include_str!("../data/prices.csv")));
static MEAN_PRICES: LazyLock<Price> = LazyLock::new(|| {
    #[expect(clippy::cast_precision_loss, reason = "two weeks of hours")]
    let count = PRICES[0].len() as f64;
    Price::of(PRICES[0].iter().sum::<f64>() / count)
});

/// Number of recorded homes behind the simulated ones.
pub const RECORDED_HOMES_COUNT: u64 = 6;
const CALIFORNIA_HOMES_COUNT: usize = 5;
/// Peak of the French plant, by which its record is scaled to 1 kWp.
const FRANCE_KWP: f64 = 4.0;

/// What the inverter of a home understands of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Understands {
    /// All of it.
    Programs,
    /// The mode of each entry and nothing else.
    Modes,
}

/// A simulated home: one recorded home, scaled and shifted.
#[derive(Debug, Clone, PartialEq)]
pub struct Home {
    id: HouseholdId,
    seed: u64,
    /// Whether it is of a fleet in which some homes have EVs, tanks or devices that know only modes.
    is_mixed: bool,
    recorded_index: usize,
    load_scale: f64,
    load_shift_ms: i64,
    pv_kwp: f64,
}

impl Home {
    /// Returns home `id` of the fleet that `seed` makes. The same arguments give the same home.
    #[must_use]
    pub fn new(id: HouseholdId, seed: u64) -> Self {
        let mut draw = Draw::new(seed, id);
        let index = (id.get().unsigned_abs() - 1) % RECORDED_HOMES_COUNT;
        let load_scale = 0.7 + 0.6 * draw.unit();
        let load_shift_ms = i64::from(draw.below(121)) * MINUTE_MS - HOUR_MS;
        let pv_kwp = if draw.below(8) == 0 {
            0.0
        } else {
            3.0 + 0.5 * f64::from(draw.below(13))
        };
        Self {
            id,
            seed,
            is_mixed: false,
            recorded_index: usize::try_from(index).expect("less than six"),
            load_scale,
            load_shift_ms,
            pv_kwp,
        }
    }

    /// Returns home `id` of a mixed fleet: every fifth home has an EV, another fifth a tank of hot water with an electric
    /// heater, and the device of a tenth knows only modes. All else is as in [`Self::new`].
    #[must_use]
    pub fn mixed(id: HouseholdId, seed: u64) -> Self {
        Self {
            is_mixed: true,
            ..Self::new(id, seed)
        }
    }

    /// Returns what its device understands.
    #[must_use]
    pub const fn understands(&self) -> Understands {
        if self.is_mixed && self.id.get() % 10 == 5 {
            Understands::Modes
        } else {
            Understands::Programs
        }
    }

    /// Returns its calendar in a time zone.
    pub(crate) fn calendar(&self, time_zone: &str) -> Calendar {
        Calendar::new(time_zone, self.seed, self.id)
    }

    /// Returns the home's id.
    #[must_use]
    pub const fn id(&self) -> HouseholdId {
        self.id
    }

    /// Returns the load without controllable appliances at `ts_ms`, W, 0 or more.
    #[must_use]
    pub fn load_w(&self, ts_ms: i64) -> f64 {
        let ts_ms = ts_ms + self.load_shift_ms;
        let recorded_w = if self.recorded_index < CALIFORNIA_HOMES_COUNT {
            let series = &CALIFORNIA[self.recorded_index];
            interpolate(series, HOUR_MS, ts_ms + CALIFORNIA_OFFSET_MS)
        } else {
            interpolate(&FRANCE[0], HOUR_MS / 2, ts_ms)
        };
        recorded_w * self.load_scale
    }

    /// Returns the PV production at `ts_ms`, W, 0 or more; always 0 in a home without a plant.
    #[must_use]
    pub fn pv_w(&self, ts_ms: i64) -> f64 {
        let w_per_kwp = if self.recorded_index < CALIFORNIA_HOMES_COUNT {
            let series = &CALIFORNIA[CALIFORNIA_HOMES_COUNT + self.recorded_index];
            interpolate(series, HOUR_MS, ts_ms + CALIFORNIA_OFFSET_MS)
        } else {
            interpolate(&FRANCE[1], HOUR_MS / 2, ts_ms) / FRANCE_KWP
        };
        w_per_kwp * self.pv_kwp
    }

    /// Returns the home's metadata: most homes have PV and a 10 kWh battery, every third a dishwasher, every
    /// fourth a washing machine. The appliances' profiles are for slots of 15 minutes.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        let number = self.id.get();
        let has = |rest: i64| self.is_mixed && number % 5 == rest;
        let mut appliances = Vec::new();
        if number % 3 == 0 {
            appliances.push(appliance("dishwasher", &[2.0, 0.2, 1.8, 0.2], 10, 18));
        }
        if number % 4 == 0 {
            let profile_kw = [2.0, 0.5, 0.3, 0.3, 0.4];
            appliances.push(appliance("washing_machine", &profile_kw, 7, 15));
        }
        Metadata {
            name: format!("Home {number}"),
            location: "50.11,8.68".to_owned(),
            pv_capacity_kw: self.pv_kwp,
            battery: (number % 10 != 9).then(battery),
            time_zone: "Europe/Berlin".to_owned(),
            appliances,
            evs: has(2).then(|| ev::spec(self.id)).into_iter().collect(),
            heat_stores: has(4).then(|| tank::spec(self.id)).into_iter().collect(),
            ..Metadata::of(self.id, TARIFF)
        }
    }
}

/// Returns the metadata of home `id` in the fleet of the default seed.
#[must_use]
pub fn metadata(id: HouseholdId) -> Metadata {
    Home::new(id, SEED).metadata()
}

/// What a kWh costs and brings, currency per kWh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    pub buy: f64,
    pub sell: f64,
}

impl Price {
    fn of(spot_per_mwh: f64) -> Self {
        let sell = spot_per_mwh / 1e3;
        Self {
            buy: (sell + FEES_PER_KWH) * VAT,
            sell,
        }
    }
}

/// Returns the price of the hour that contains `ts_ms`.
#[must_use]
pub fn price_at(ts_ms: i64) -> Price {
    Price::of(PRICES[0][position(HOUR_MS, ts_ms)])
}

/// Returns the means of the two weeks.
#[must_use]
pub fn mean_prices() -> Price {
    *MEAN_PRICES
}

/// Returns the tariff for the whole hours that touch `[from_ms, to_ms)`: buying at the day-ahead price with fees and VAT,
/// selling at the day-ahead price, which is below 0 in 19 of the 336 hours.
#[must_use]
pub fn prices(from_ms: i64, to_ms: i64) -> Tariff {
    let mut periods = Vec::new();
    let mut start_ms = from_ms - from_ms.rem_euclid(HOUR_MS);
    while start_ms < to_ms {
        let price = price_at(start_ms);
        periods.push(PricePeriod {
            start_ms,
            end_ms: start_ms + HOUR_MS,
            buy_per_kwh: price.buy,
            sell_per_kwh: price.sell,
        });
        start_ms += HOUR_MS;
    }
    Tariff {
        stated: Vec::new(),
        name: TARIFF.to_owned(),
        periods,
    }
}

fn battery() -> BatterySpec {
    BatterySpec {
        capacity_kwh: 10.0,
        min_soc_kwh: 1.0,
        max_soc_kwh: 9.5,
        charge_kw: 5.0,
        discharge_kw: 5.0,
        charge_efficiency: 0.95,
        discharge_efficiency: 0.95,
        wear_cost_per_kwh: 0.01,
    }
}

fn appliance(id: &str, profile_kw: &[f64], from_hour: u32, to_hour: u32) -> ApplianceSpec {
    ApplianceSpec {
        id: id.to_owned(),
        profile_kw: profile_kw.to_vec(),
        window_start_min: from_hour * 60,
        window_end_min: to_hour * 60,
    }
}

/// Returns every column except the first, which is the time.
fn columns(text: &str) -> Vec<Vec<f64>> {
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let width = rows.headers().expect("the file has a header").len();
    let mut columns = vec![Vec::new(); width - 1];
    for row in rows.records() {
        let row = row.expect("the file is part of the program");
        for (column, cell) in columns.iter_mut().zip(row.iter().skip(1)) {
            column.push(cell.parse().expect("every cell is a number"));
        }
    }
    columns
}

/// Returns the index of the step that contains `ts_ms`.
fn position(step_ms: i64, ts_ms: i64) -> usize {
    let into_ms = (ts_ms - FIRST_MONDAY_MS).rem_euclid(PERIOD_MS);
    usize::try_from(into_ms / step_ms).expect("the remainder is not negative")
}

/// Interpolates linearly between the middles of the steps, whose values are means.
fn interpolate(means: &[f64], step_ms: i64, ts_ms: i64) -> f64 {
    let shifted_ms = ts_ms - step_ms / 2;
    let left = position(step_ms, shifted_ms);
    let right = (left + 1) % means.len();
    #[expect(
        clippy::cast_precision_loss,
        reason = "both are at most an hour of milliseconds"
    )]
    let share = (shifted_ms - FIRST_MONDAY_MS).rem_euclid(step_ms) as f64 / step_ms as f64;
    means[left] + (means[right] - means[left]) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(id: i64, seed: u64) -> Home {
        Home::new(HouseholdId::new(id).unwrap(), seed)
    }

    #[test]
    fn the_files_hold_two_weeks_each() {
        assert_eq!(CALIFORNIA.len(), 2 * CALIFORNIA_HOMES_COUNT);
        assert!(CALIFORNIA.iter().all(|column| column.len() == 336));
        assert!(FRANCE.iter().all(|column| column.len() == 672));
        assert_eq!(PRICES[0].len(), 336);
        assert_eq!(PRICES[0].iter().filter(|price| **price < 0.0).count(), 19);
    }

    #[test]
    fn power_is_that_of_a_home_and_the_sun_stands_highest_at_noon() {
        for id in 1..=30 {
            let home = home(id, SEED);
            let mut pv_by_hour_w = [0.0; 24];
            let mut load_wh = 0.0;
            for hour in 0..336 {
                let ts_ms = FIRST_MONDAY_MS + hour * HOUR_MS;
                let (load_w, pv_w) = (home.load_w(ts_ms), home.pv_w(ts_ms));
                assert!((0.0..15_000.0).contains(&load_w), "home {id}: {load_w} W");
                assert!(
                    (0.0..=1_000.0 * home.pv_kwp).contains(&pv_w),
                    "home {id}: {pv_w} W"
                );
                pv_by_hour_w[usize::try_from(hour % 24).unwrap()] += pv_w;
                load_wh += load_w;
            }
            assert!(
                (5e3..70e3).contains(&(load_wh / 14.0)),
                "home {id}: {load_wh} Wh"
            );
            assert!(
                pv_by_hour_w[0] == 0.0 && pv_by_hour_w[23] == 0.0,
                "home {id}: sun at night"
            );
            if home.pv_kwp > 0.0 {
                let noon_w: f64 = pv_by_hour_w[10..14].iter().sum();
                let evening_w: f64 = pv_by_hour_w[15..19].iter().sum();
                assert!(noon_w > evening_w, "home {id}: {pv_by_hour_w:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_home_and_another_seed_another() {
        assert_eq!(home(7, 3), home(7, 3));
        assert_ne!(home(7, 3), home(7, 4));
        assert_ne!(home(1, 3).load_w(0), home(7, 3).load_w(0));
        let now_ms = 1_790_000_000_000;
        assert_eq!(
            home(7, 3).load_w(now_ms),
            home(7, 3).load_w(now_ms + PERIOD_MS)
        );
    }

    #[test]
    fn steps_meet_without_a_jump_and_middles_are_the_recorded_means() {
        let means = [1.0, 3.0, 5.0];
        let middle_ms = FIRST_MONDAY_MS + HOUR_MS / 2;
        assert_eq!(interpolate(&means, HOUR_MS, middle_ms), 1.0);
        assert_eq!(interpolate(&means, HOUR_MS, middle_ms + HOUR_MS), 3.0);
        assert_eq!(interpolate(&means, HOUR_MS, middle_ms + HOUR_MS / 2), 2.0);
    }

    #[test]
    fn prices_cover_the_range_without_a_gap() {
        let (from_ms, to_ms) = (1_790_000_123_456, 1_790_000_123_456 + PERIOD_MS);
        let tariff = prices(from_ms, to_ms);
        assert_eq!(tariff.periods.len(), 337);
        assert!(tariff.at_ms(from_ms).is_some() && tariff.at_ms(to_ms - 1).is_some());
        for pair in tariff.periods.windows(2) {
            assert_eq!(pair[0].end_ms, pair[1].start_ms);
        }
        assert!(
            tariff
                .periods
                .iter()
                .any(|period| period.sell_per_kwh < 0.0)
        );
        assert!(
            tariff
                .periods
                .iter()
                .all(|period| period.buy_per_kwh > period.sell_per_kwh)
        );
    }

    #[test]
    fn most_homes_have_pv_and_a_battery_and_some_have_appliances() {
        let homes: Vec<Metadata> = (1..=50)
            .map(|id| metadata(HouseholdId::new(id).unwrap()))
            .collect();
        assert!(homes.iter().filter(|home| home.battery.is_some()).count() >= 40);
        assert!(
            homes
                .iter()
                .filter(|home| home.pv_capacity_kw > 0.0)
                .count()
                >= 35
        );
        assert!(
            homes
                .iter()
                .filter(|home| !home.appliances.is_empty())
                .count()
                >= 20
        );
    }
}
