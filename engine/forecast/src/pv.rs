//! PV scenarios: the plant's model times what the home showed of it on its past days.
//!
//! The home keeps, for each of its past days and hours of sun, measured power as a share of the model's: under a clear
//! sky (that is the clearness of the day and the gain of the plant in one) and under the weather forecast (that is its
//! error and the gain). A past day's shares on the coming days' model make a scenario. The model says 0 at night.

use serde::{Deserialize, Serialize};

use crate::horizon::Horizon;
use crate::plant::{Between, Plant, SUN_HOURS, Sky, Yield, day_and_hour};
use crate::scenarios::Scenarios;
use model::rung::PvRung;
use model::units::{DAY_MS, HOUR_MS, SlotLength};
use model::weather::WeatherPeriod;

/// Days kept, today among them.
const DAYS: usize = 14;
/// Share of the peak power below which measured and modelled power are not compared.
const COMPARED_MIN: f64 = 0.02;
/// No comparison.
const MISSING: u8 = u8::MAX;
/// What is left of an hour's gain after a day: 1/e after a month, in which the sun's path changes little.
const GAIN_KEPT: f64 = 0.97;
/// The prior of an hour's gain: so many faint hours at the gain of all hours.
const GAIN_PRIOR_HOURS: f64 = 2.0;
/// Highest share told apart.
const SHARE_MAX: f64 = 2.54;
/// Days after which the highest power shown counts as a bound.
const SHOWN_DAYS: u16 = 7;
/// What is left of the highest power shown after a day.
const SHOWN_KEPT: f32 = 0.998;
/// Time after which 1/e of the departure of the last slot is left, ms.
const BLEND_MS: f64 = 2.0 * HOUR_MS as f64;
/// Age up to which the last comparison says something of the next slots, ms.
const LATEST_MS: i64 = 2 * HOUR_MS;
/// Days after which a past day counts 1/e.
const AGE_DAYS_CLEAR: f64 = 15.0;
const AGE_DAYS_WEATHER: f64 = 20.0;
/// Shares assumed of a home without past days, and their weights.
const PRIOR_CLEAR: [(f64, f64); 3] = [(0.3, 0.3), (0.7, 0.4), (1.0, 0.3)];
const PRIOR_WEATHER: [(f64, f64); 3] = [(0.7, 0.25), (1.0, 0.5), (1.2, 0.25)];
/// Days after which the prior is forgotten.
const PRIOR_DAYS: usize = 7;

/// Measured power and model in the hour of sun that is under way, in watts times slots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct OpenHour {
    day: i64,
    hour: u8,
    newest_ms: i64,
    slots: f64,
    measured: f64,
    clear: f64,
    /// Measured power in the slots that had a weather forecast.
    measured_weather: f64,
    weather: f64,
}

/// The last slot's shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Latest {
    end_ms: i64,
    hour: u8,
    clear: f32,
    weather: Option<f32>,
}

/// What is remembered of a home's PV: about 300 bytes, and 350 more where there are weather forecasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved")]
pub struct PvPast {
    /// The newest solar day, in days since the epoch; `None` while there is none.
    newest_day: Option<i64>,
    /// Days with a reading, up to [`SHOWN_DAYS`].
    days_seen: u16,
    /// Highest mean power of a slot, W, slowly forgotten.
    shown_w: f32,
    open: Option<OpenHour>,
    latest: Option<Latest>,
    /// Measured and modelled power by hour, under weather forecasts, W, slowly forgotten. Empty without them.
    gains: Vec<(f32, f32)>,
    /// Measured power in percent of the clear sky's, a row a day; the row of a day lies at its number modulo the rows.
    clear_pct: Vec<u8>,
    /// The same of the weather forecast's. Empty where all are missing.
    weather_pct: Vec<u8>,
}

/// The same as it was saved. Earlier builds saved whole tables where there was nothing in them.
#[derive(Deserialize)]
struct Saved {
    newest_day: Option<i64>,
    days_seen: u16,
    shown_w: f32,
    open: Option<OpenHour>,
    latest: Option<Latest>,
    gains: Vec<(f32, f32)>,
    clear_pct: Vec<u8>,
    weather_pct: Vec<u8>,
}

impl From<Saved> for PvPast {
    fn from(saved: Saved) -> Self {
        let has_gains = saved.gains.iter().any(|gain| *gain != (0.0, 0.0));
        let has_weather = saved.weather_pct.iter().any(|pct| *pct != MISSING);
        Self {
            newest_day: saved.newest_day,
            days_seen: saved.days_seen,
            shown_w: saved.shown_w,
            open: saved.open,
            latest: saved.latest,
            gains: if has_gains { saved.gains } else { Vec::new() },
            clear_pct: saved.clear_pct,
            weather_pct: if has_weather {
                saved.weather_pct
            } else {
                Vec::new()
            },
        }
    }
}

/// A slot that has ended.
#[derive(Debug, Clone, Copy)]
pub struct PvSlot<'a> {
    /// Start, UTC epoch milliseconds.
    pub start_ms: i64,
    /// Length.
    pub slot: SlotLength,
    /// Clock time of the start as if it were UTC, epoch milliseconds.
    pub local_ms: i64,
    /// Mean PV power, W.
    pub pv_w: f64,
    /// What a weather forecast said of this time beforehand.
    pub weather: Option<&'a WeatherPeriod>,
}

impl Default for PvPast {
    fn default() -> Self {
        Self {
            newest_day: None,
            days_seen: 0,
            shown_w: 0.0,
            open: None,
            latest: None,
            gains: Vec::new(),
            clear_pct: vec![MISSING; DAYS * SUN_HOURS],
            weather_pct: Vec::new(),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "seven digits of a power are enough"
)]
fn single(value: f64) -> f32 {
    value as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is 0 to 254"
)]
fn percent(share: f64) -> u8 {
    (share.clamp(0.0, SHARE_MAX) * 100.0).round() as u8
}

fn share(percent: u8) -> Option<f64> {
    (percent != MISSING).then(|| f64::from(percent) / 100.0)
}

/// The share in a cell of a table, which may be empty.
fn known(table: &[u8], cell: usize) -> Option<f64> {
    table.get(cell).copied().and_then(share)
}

fn row_of(day: i64) -> usize {
    let days = i64::try_from(DAYS).expect("two weeks have few days");
    SUN_HOURS * usize::try_from(day.rem_euclid(days)).expect("a remainder is not negative")
}

impl PvPast {
    fn rated_w(&self, plant: &Plant) -> f64 {
        plant.capacity_w.unwrap_or_else(|| f64::from(self.shown_w))
    }

    /// Returns the highest power that a forecast may hold, W.
    fn bound_w(&self, plant: &Plant) -> f64 {
        let shown_w = f64::from(self.shown_w);
        match plant.capacity_w {
            Some(capacity_w) if self.days_seen < SHOWN_DAYS => capacity_w,
            Some(capacity_w) => capacity_w.min(shown_w),
            None => shown_w,
        }
    }

    /// Notes the mean power of a closed slot. Slots must ascend; one that comes later than its successor only raises the
    /// highest power shown.
    pub fn observe(&mut self, slot: &PvSlot<'_>, plant: &Plant) {
        let pv_w = slot.pv_w.max(0.0);
        self.shown_w = self.shown_w.max(single(pv_w));
        let end_ms = slot.start_ms + slot.slot.ms();
        let half_ms = slot.slot.ms() / 2;
        let solar_ms = plant.solar_ms(slot.start_ms + half_ms, slot.local_ms + half_ms);
        let (day, hour) = day_and_hour(solar_ms);
        if self
            .open
            .is_some_and(|open| open.newest_ms >= slot.start_ms)
        {
            return;
        }
        self.begin_day(day);
        let sky = slot.weather.map(|period| Sky::of(period, plant.place));
        let (span_ms, mut dark_until_ms) = (slot.start_ms..end_ms, i64::MIN);
        let model = plant.yield_of(span_ms, solar_ms, sky.as_slice(), &mut dark_until_ms);
        let rated_w = self.rated_w(plant);
        let hour_byte = u8::try_from(hour).expect("there are 16");
        if self
            .open
            .is_some_and(|open| (open.day, open.hour) != (day, hour_byte))
        {
            self.close_hour(rated_w);
        }
        let open = self.open.get_or_insert(OpenHour {
            day,
            hour: hour_byte,
            newest_ms: slot.start_ms,
            slots: 0.0,
            measured: 0.0,
            clear: 0.0,
            measured_weather: 0.0,
            weather: 0.0,
        });
        open.newest_ms = slot.start_ms;
        open.slots += 1.0;
        open.measured += pv_w;
        open.clear += rated_w * model.clear;
        if let Some(weather) = model.weather {
            open.measured_weather += pv_w;
            open.weather += rated_w * weather;
        }
        if model.clear > COMPARED_MIN {
            let weather = model.weather.filter(|weather| *weather > COMPARED_MIN);
            self.latest = (rated_w > 0.0).then(|| Latest {
                end_ms,
                hour: hour_byte,
                clear: single(pv_w / (rated_w * model.clear)),
                weather: weather.map(|weather| single(pv_w / (rated_w * weather))),
            });
        }
    }

    /// Empties the rows of the days after the newest one up to `day`.
    fn begin_day(&mut self, day: i64) {
        let newest = *self.newest_day.get_or_insert(day - 1);
        if day <= newest {
            return;
        }
        let days = i64::try_from(DAYS).expect("two weeks have few days");
        for begun in (newest + 1).max(day - days + 1)..=day {
            let row = row_of(begun);
            self.clear_pct[row..row + SUN_HOURS].fill(MISSING);
            if let Some(weather_pct) = self.weather_pct.get_mut(row..row + SUN_HOURS) {
                weather_pct.fill(MISSING);
            }
        }
        if self.weather_pct.iter().all(|pct| *pct == MISSING) {
            self.weather_pct = Vec::new();
        }
        self.newest_day = Some(day);
        self.days_seen = (self.days_seen + 1).min(SHOWN_DAYS);
        self.shown_w *= SHOWN_KEPT;
    }

    fn close_hour(&mut self, rated_w: f64) {
        let Some(open) = self.open.take() else {
            return;
        };
        let (hour, least) = (usize::from(open.hour), COMPARED_MIN * rated_w * open.slots);
        let cell = row_of(open.day) + hour;
        if open.clear > least {
            self.clear_pct[cell] = percent(open.measured / open.clear);
        }
        if open.weather > least {
            self.weather_pct.resize(DAYS * SUN_HOURS, MISSING);
            self.gains.resize(SUN_HOURS, (0.0, 0.0));
            self.weather_pct[cell] = percent(open.measured_weather / open.weather);
            let (measured, modelled) = &mut self.gains[hour];
            let slots = open.slots;
            *measured = single(f64::from(*measured) * GAIN_KEPT + open.measured_weather / slots);
            *modelled = single(f64::from(*modelled) * GAIN_KEPT + open.weather / slots);
        }
    }

    /// Forgets what lies after `ts_ms`, when a clock was ahead.
    pub fn forget_after(&mut self, ts_ms: i64) {
        // A solar day may begin half a day before the clock's.
        let last = (ts_ms + DAY_MS / 2).div_euclid(DAY_MS);
        if self.newest_day.is_some_and(|newest| newest > last) {
            *self = Self {
                shown_w: self.shown_w,
                days_seen: self.days_seen,
                ..Self::default()
            };
        }
    }

    /// Returns the home's gain in an hour under weather forecasts: measured over modelled power.
    fn gain(&self, hour: usize, rated_w: f64) -> f64 {
        let prior = GAIN_PRIOR_HOURS * COMPARED_MIN * rated_w.max(1.0);
        let ratio = |(measured, modelled): (f64, f64), gain: f64| {
            (measured + prior * gain) / (modelled + prior)
        };
        let double = |(measured, modelled): (f32, f32)| (f64::from(measured), f64::from(modelled));
        let all = self.gains.iter().copied().map(double);
        let all = all.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let of_hour = self.gains.get(hour).copied().unwrap_or_default();
        ratio(double(of_hour), ratio(all, 1.0))
    }

    /// Returns scenarios for a horizon, and what they rest on. `weather` ascends; where it says nothing, the clear sky
    /// stands in.
    #[must_use]
    pub fn scenarios(
        &self,
        plant: &Plant,
        horizon: Horizon,
        weather: &[WeatherPeriod],
    ) -> (Scenarios, PvRung) {
        let (rated_w, bound_w) = (self.rated_w(plant), self.bound_w(plant));
        if rated_w <= 0.0 || bound_w <= 0.0 {
            let none = Scenarios {
                weights: vec![1.0],
                series_w: vec![vec![0.0; horizon.slots_count]],
            };
            return (none, PvRung::None);
        }
        let ahead = weather.iter().filter(|period| {
            period.end_ms > horizon.start_ms && period.start_ms < horizon.end_ms()
        });
        let skies: Vec<Sky> = ahead.map(|period| Sky::of(period, plant.place)).collect();
        let mut dark_until_ms = i64::MIN;
        let slots: Vec<SlotAhead> = horizon
            .starts_ms()
            .zip(0_i32..)
            .map(|(start_ms, index)| {
                let end_ms = start_ms + horizon.slot.ms();
                let middle_ms = i64::midpoint(start_ms, end_ms);
                let local_ms = horizon.local.local_ms(middle_ms);
                let solar_ms = plant.solar_ms(middle_ms, local_ms);
                let span_ms = start_ms..end_ms;
                SlotAhead {
                    model: plant.yield_of(span_ms, solar_ms, &skies, &mut dark_until_ms),
                    hour: Between::of(solar_ms),
                    departure_left: libm::exp(
                        -(f64::from(index) + 0.5) * horizon.slot.ms() as f64 / BLEND_MS,
                    ),
                }
            })
            .collect();
        let covered = slots.iter().filter(|slot| slot.model.weather.is_some());
        let has_weather = 2 * covered.count() > slots.len();
        let local_ms = horizon.local.local_ms(horizon.start_ms);
        let (today, _) = day_and_hour(plant.solar_ms(horizon.start_ms, local_ms));
        let shares = self.shares(today, has_weather, rated_w);
        let mut scenarios = Scenarios::default();
        for day in &shares.days {
            let departures = self.departures(day, horizon.start_ms);
            let course = slots.iter().map(|slot| {
                let SlotAhead { model, hour, .. } = slot;
                let (yielded, share, departure) = match model.weather {
                    Some(weather) => (weather, hour.value(&day.weather), departures.1),
                    None => (model.clear, hour.value(&day.clear), departures.0),
                };
                let share = (share + slot.departure_left * departure).clamp(0.0, SHARE_MAX);
                (rated_w * yielded * share).min(bound_w)
            });
            scenarios.series_w.push(course.collect());
            scenarios.weights.push(day.weight);
        }
        scenarios.normalise();
        let rung = match (has_weather, shares.past_days >= PRIOR_DAYS) {
            (true, true) => PvRung::LearnedWeather,
            (true, false) => PvRung::Weather,
            (false, _) if shares.past_days > 0 => PvRung::RecentSky,
            (false, _) => PvRung::ClearSky,
        };
        (scenarios, rung)
    }

    /// How far the last slot was from a day's shares: of the clear sky, and of the weather forecast.
    fn departures(&self, day: &DayShares, now_ms: i64) -> (f64, f64) {
        let recent = self
            .latest
            .filter(|latest| (0..=LATEST_MS).contains(&(now_ms - latest.end_ms)));
        let Some(latest) = recent else {
            return (0.0, 0.0);
        };
        let hour = usize::from(latest.hour);
        let clear = f64::from(latest.clear).min(SHARE_MAX) - day.clear[hour];
        let weather = latest.weather.map_or(0.0, |weather| {
            f64::from(weather).min(SHARE_MAX) - day.weather[hour]
        });
        (clear, weather)
    }

    /// Returns the shares of the past days before solar day `today`, and the prior's.
    #[expect(clippy::cast_precision_loss, reason = "two weeks have few days")]
    fn shares(&self, today: i64, has_weather: bool, rated_w: f64) -> Shares {
        let newest = self.newest_day.unwrap_or(today - 1);
        let days = i64::try_from(DAYS).expect("two weeks have few days");
        let age_days = if has_weather {
            AGE_DAYS_WEATHER
        } else {
            AGE_DAYS_CLEAR
        };
        let table = if has_weather {
            &self.weather_pct
        } else {
            &self.clear_pct
        };
        let past: Vec<(usize, f64)> = ((newest - days + 1).max(today - days)
            ..=newest.min(today - 1))
            .filter(|day| {
                let row = row_of(*day);
                let hours = table.get(row..row + SUN_HOURS).unwrap_or_default();
                hours.iter().any(|pct| *pct != MISSING)
            })
            .map(|day| (row_of(day), libm::exp(-((today - day) as f64) / age_days)))
            .collect();
        let clear_mean = means(&self.clear_pct, &past);
        let weather_mean = means(&self.weather_pct, &past);
        let mut shares = Shares {
            past_days: past.len(),
            days: Vec::with_capacity(past.len() + PRIOR_CLEAR.len()),
        };
        let sum: f64 = past.iter().map(|(_, weight)| weight).sum();
        let young = PRIOR_DAYS.saturating_sub(past.len()) as f64 / PRIOR_DAYS as f64;
        let prior = young * young;
        for (row, weight) in &past {
            let mut day = DayShares {
                weight: weight / sum * (1.0 - prior),
                clear: [0.0; SUN_HOURS],
                weather: [0.0; SUN_HOURS],
            };
            for (hour, weather_mean) in weather_mean.iter().enumerate() {
                let clear = share(self.clear_pct[row + hour]).or(nearest(&clear_mean, hour));
                day.clear[hour] = clear.unwrap_or(PRIOR_CLEAR[1].0);
                // The gain has seen more days than the mean.
                let gain = self.gain(hour, rated_w);
                let error = known(&self.weather_pct, row + hour)
                    .zip(*weather_mean)
                    .map_or(0.0, |(share, mean)| share - mean);
                day.weather[hour] = (gain + error).max(0.0);
            }
            shares.days.push(day);
        }
        if prior > 0.0 {
            for ((clear, weight_clear), (weather, weight_weather)) in
                PRIOR_CLEAR.into_iter().zip(PRIOR_WEATHER)
            {
                let weight = if has_weather {
                    weight_weather
                } else {
                    weight_clear
                };
                let gains = std::array::from_fn(|hour| weather * self.gain(hour, rated_w));
                shares.days.push(DayShares {
                    weight: prior * weight,
                    clear: [clear; SUN_HOURS],
                    weather: gains,
                });
            }
        }
        shares
    }
}

/// A slot that is forecast.
#[derive(Debug)]
struct SlotAhead {
    model: Yield,
    hour: Between,
    /// Share of the departure of the last slot that is left.
    departure_left: f64,
}

/// Shares of the model by hour.
#[derive(Debug)]
struct DayShares {
    weight: f64,
    clear: [f64; SUN_HOURS],
    weather: [f64; SUN_HOURS],
}

#[derive(Debug)]
struct Shares {
    past_days: usize,
    days: Vec<DayShares>,
}

/// Returns the value of the nearest hour that has one.
fn nearest(hours: &[Option<f64>; SUN_HOURS], hour: usize) -> Option<f64> {
    (0..SUN_HOURS).find_map(|distance| {
        let earlier = hour.checked_sub(distance).and_then(|hour| hours[hour]);
        earlier.or_else(|| hours.get(hour + distance).copied().flatten())
    })
}

/// Weighted means by hour of the rows; `None` where no row knows the hour.
fn means(table: &[u8], rows: &[(usize, f64)]) -> [Option<f64>; SUN_HOURS] {
    std::array::from_fn(|hour| {
        let (mut sum, mut weights) = (0.0, 0.0);
        for (row, weight) in rows {
            if let Some(share) = known(table, row + hour) {
                sum += weight * share;
                weights += weight;
            }
        }
        (weights > 0.0).then(|| sum / weights)
    })
}
