//! A recorded home: load, PV and prices in equal steps, and what stands in it.

use model::metadata::BatterySpec;
use model::problem::Grid;
use model::tariff::{PricePeriod, Tariff};
use model::units::{DAY_MS, HOUR_MS, SlotLength};

/// How far ahead prices are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PricesKnown {
    /// A contract: all of them.
    Always,
    /// A day-ahead market: until the end of the day, and from 12:00 UTC on until the end of the next.
    DayAhead,
}

/// A recorded home. The series have the same length.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its name in the report.
    pub name: String,
    /// Key of the place, such as `48.14,11.58`; any other text if it is not known.
    pub location: String,
    /// Start of the first step, UTC epoch milliseconds, a multiple of the step.
    pub start_ms: i64,
    /// Length of a step.
    pub step: SlotLength,
    /// Mean load of each step, W; NaN where it was not recorded.
    pub load_w: Vec<f64>,
    /// Mean PV power of each step, W; NaN where it was not recorded.
    pub pv_w: Vec<f64>,
    /// Peak power of the PV plant, kW; 0 without one.
    pub pv_capacity_kw: f64,
    /// Price of import in each step, currency per kWh.
    pub buy: Vec<f64>,
    /// Price of export in each step, currency per kWh.
    pub sell: Vec<f64>,
    /// How far ahead prices are known.
    pub prices_known: PricesKnown,
    /// The battery.
    pub battery: BatterySpec,
    /// Limits of the meter.
    pub grid: Grid,
    /// Whether PV may be curtailed.
    pub pv_curtailable: bool,
    /// The first step that counts. What lies before it is past that forecasts may use.
    pub scored_from: usize,
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Its start, UTC epoch milliseconds.
    pub start_ms: i64,
    /// Its length, hours.
    pub hours: f64,
    /// Load less PV, kW; `None` where either was not recorded: nothing moves then, and nothing is paid.
    pub net_kw: Option<f64>,
    /// Price of import, currency per kWh.
    pub buy: f64,
    /// Price of export, currency per kWh.
    pub sell: f64,
}

impl Recorded {
    /// Returns the number of steps.
    #[must_use]
    pub fn steps_count(&self) -> usize {
        self.load_w.len()
    }

    /// Returns when a step starts, UTC epoch milliseconds.
    #[must_use]
    pub fn step_ms(&self, index: usize) -> i64 {
        self.start_ms + i64::try_from(index).expect("a record has few steps") * self.step.ms()
    }

    /// Returns a step.
    #[must_use]
    pub fn step_at(&self, index: usize) -> Step {
        let net_w = self.load_w[index] - self.pv_w[index];
        Step {
            start_ms: self.step_ms(index),
            hours: self.step.hours(),
            net_kw: (!net_w.is_nan()).then_some(net_w / 1e3),
            buy: self.buy[index],
            sell: self.sell[index],
        }
    }

    /// The steps, ascending.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        (0..self.steps_count()).map(|index| self.step_at(index))
    }

    /// Length of the slots that are planned: a quarter of an hour, or the step if that is longer.
    #[must_use]
    pub const fn slot(&self) -> SlotLength {
        if self.step.minutes() < SlotLength::QUARTER_HOUR.minutes() {
            SlotLength::QUARTER_HOUR
        } else {
            self.step
        }
    }

    /// Returns the number of steps in a slot.
    #[must_use]
    pub const fn steps_per_slot(&self) -> usize {
        (self.slot().minutes() / self.step.minutes()) as usize
    }

    /// Returns what a kWh left in the battery is worth: it will replace a purchase or be sold, and so counts the mean of
    /// both prices over the steps that count, less the loss of discharging. It is 0 or more, and the same for every
    /// contender.
    #[must_use]
    pub fn left_per_kwh(&self) -> f64 {
        let scored = self.scored_from..self.steps_count();
        let mean = |prices: &[f64]| {
            let (mut sum, mut count) = (0.0, 0.0);
            for price in &prices[scored.clone()] {
                sum += price;
                count += 1.0;
            }
            if count > 0.0 { sum / count } else { 0.0 }
        };
        let worth = f64::midpoint(mean(&self.buy), mean(&self.sell));
        (worth * self.battery.discharge_efficiency).max(0.0)
    }

    /// Returns the tariff as it is known at `now_ms`, with a period for each change of price.
    #[must_use]
    pub fn tariff_at(&self, name: &str, now_ms: i64) -> Tariff {
        let day_ms = now_ms - now_ms.rem_euclid(DAY_MS);
        let until_ms = match self.prices_known {
            // Two days are more than any horizon here.
            PricesKnown::Always => day_ms + 3 * DAY_MS,
            PricesKnown::DayAhead if now_ms - day_ms >= 12 * HOUR_MS => day_ms + 2 * DAY_MS,
            PricesKnown::DayAhead => day_ms + DAY_MS,
        };
        let index_of = |ms: i64| {
            let index = (ms - self.start_ms).div_euclid(self.step.ms());
            usize::try_from(index.max(0)).map_or(0, |index| index.min(self.steps_count()))
        };
        let mut periods: Vec<PricePeriod> = Vec::new();
        for index in index_of(day_ms)..index_of(until_ms) {
            let (buy, sell, start_ms) = (self.buy[index], self.sell[index], self.step_ms(index));
            let end_ms = start_ms + self.step.ms();
            match periods.last_mut() {
                Some(last) if (last.buy_per_kwh, last.sell_per_kwh) == (buy, sell) => {
                    last.end_ms = end_ms;
                }
                Some(_) | None => periods.push(PricePeriod {
                    start_ms,
                    end_ms,
                    buy_per_kwh: buy,
                    sell_per_kwh: sell,
                }),
            }
        }
        Tariff {
            name: name.to_owned(),
            periods,
            stated: Vec::new(),
        }
    }
}
