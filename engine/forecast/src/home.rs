//! All that is remembered of a home for forecasts, and the forecast.

use serde::{Deserialize, Serialize};

use crate::compete::Contest;
use crate::horizon::Horizon;
use crate::load::{self, LoadModel, SCENARIOS_MAX};
use crate::plant::Plant;
use crate::profiles::{History, Profiles};
use crate::pv::{PvPast, PvSlot};
use crate::scenarios::{Band, Scenarios};
use crate::young;
use model::rung::{LoadRung, Rungs};
use model::units::{HOUR_MS, MINUTE_MS, SlotLength};
use model::weather::WeatherPeriod;

/// A slot that has ended, as it is told to a home's forecast.
#[derive(Debug, Clone, Copy)]
pub struct EndedSlot<'a> {
    /// Start, UTC epoch milliseconds, a multiple of the slot's length.
    pub start_ms: i64,
    /// Local time less UTC in the slot, minutes.
    pub offset_min: i32,
    /// Mean load, W; `None` if it was not read.
    pub load_w: Option<f64>,
    /// Mean PV power, W; `None` if it was not read.
    pub pv_w: Option<f64>,
    /// The home's plant.
    pub plant: &'a Plant,
    /// What a weather forecast said of this time, best one that was issued hours before.
    pub weather: Option<&'a WeatherPeriod>,
    /// What a kWh costs more that comes unforeseen, 0 or more; see [`crate::compete`]. 1 where nothing is known.
    pub stake_per_kwh: f64,
}

/// What a forecast is made of besides the past.
#[derive(Debug, Clone, Copy)]
pub struct Ahead<'a> {
    /// The slots asked for.
    pub horizon: Horizon,
    /// Load measured now, W. Without it, the load of the slot before the horizon stands in.
    pub load_now_w: Option<f64>,
    /// The home's plant.
    pub plant: &'a Plant,
    /// The newest weather forecast, ascending; it may be empty or cover part of the horizon.
    pub weather: &'a [WeatherPeriod],
}

/// A forecast of a home's load and PV power.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Start of the first slot, UTC epoch milliseconds.
    pub start_ms: i64,
    /// Length of a slot.
    pub slot: SlotLength,
    /// Load scenarios: 1 to [`SCENARIOS_MAX`].
    pub load: Scenarios,
    /// PV scenarios, which belong to the load scenarios of the same place and have the same weights.
    pub pv: Scenarios,
    /// What it rests on.
    pub rungs: Rungs,
    /// The model of the load.
    pub model: LoadModel,
}

impl Forecast {
    /// Returns figures of the load in each slot.
    #[must_use]
    pub fn load_band(&self) -> Band {
        self.load.band()
    }

    /// Returns figures of the PV power in each slot.
    #[must_use]
    pub fn pv_band(&self) -> Band {
        self.pv.band()
    }
}

/// A home's past as its forecasts need it: 3.4 KB at slots of a quarter of an hour or shorter, less at longer ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeForecast {
    load: Profiles,
    pv: PvPast,
    contest: Contest,
}

impl HomeForecast {
    /// Returns a home of which nothing is known, with slots of this length.
    #[must_use]
    pub fn new(slot: SlotLength) -> Self {
        Self {
            load: Profiles::new(slot),
            pv: PvPast::default(),
            contest: Contest::default(),
        }
    }

    /// Notes a slot that has ended. A power that is not a number counts as not read. A slot told again corrects its load; see [`Profiles::observe`] and
    /// [`PvPast::observe`].
    pub fn observe(&mut self, slot: &EndedSlot<'_>) {
        let length = self.load.slot();
        if let Some(pv_w) = slot.pv_w.filter(|pv_w| pv_w.is_finite()) {
            let pv = PvSlot {
                start_ms: slot.start_ms,
                slot: length,
                local_ms: slot.start_ms + i64::from(slot.offset_min) * MINUTE_MS,
                pv_w,
                weather: slot.weather,
            };
            self.pv.observe(&pv, slot.plant);
        }
        let Some(load_w) = slot.load_w.filter(|load_w| load_w.is_finite()) else {
            return;
        };
        let is_newest = self
            .load
            .end_ms()
            .is_none_or(|end_ms| slot.start_ms >= end_ms)
            || self.load.is_open(slot.start_ms);
        self.load.observe(slot.start_ms, slot.offset_min, load_w);
        let end_ms = slot.start_ms + length.ms();
        if is_newest && end_ms.rem_euclid(HOUR_MS) == 0 {
            self.contest
                .score(&self.load, end_ms - HOUR_MS, slot.stake_per_kwh);
        }
    }

    /// Forgets what lies after `ts_ms`, UTC epoch milliseconds, when a clock was ahead.
    pub fn forget_after(&mut self, ts_ms: i64) {
        self.load.forget_after(ts_ms);
        self.pv.forget_after(ts_ms);
    }

    /// The same home with slots of another length.
    #[must_use]
    pub fn resized(&self, slot: SlotLength) -> Self {
        Self {
            load: self.load.resized(slot),
            pv: self.pv.clone(),
            contest: self.contest.clone(),
        }
    }

    /// Length of the slots.
    #[must_use]
    pub const fn slot(&self) -> SlotLength {
        self.load.slot()
    }

    /// The competition of the load models.
    #[must_use]
    pub const fn contest(&self) -> &Contest {
        &self.contest
    }

    /// Forecasts the home's load and PV power.
    #[must_use]
    pub fn forecast(&self, ahead: &Ahead<'_>) -> Forecast {
        self.forecast_with(ahead, self.contest.chosen())
    }

    /// The same with a given load model.
    #[must_use]
    pub fn forecast_with(&self, ahead: &Ahead<'_>, model: LoadModel) -> Forecast {
        let horizon = ahead.horizon;
        let history = self.load.until(horizon.start_ms);
        let before_w = f64::from(history.at_w(horizon.start_ms - history.cell().ms()));
        let now_w = ahead
            .load_now_w
            .or((!before_w.is_nan()).then_some(before_w));
        let load = load::scenarios(&history, model, horizon, now_w);
        let (pv, pv_rung) = self.pv.scenarios(ahead.plant, horizon, ahead.weather);
        let (load, pv) = couple(&load, &pv);
        Forecast {
            start_ms: horizon.start_ms,
            slot: horizon.slot,
            load,
            pv,
            rungs: Rungs {
                load: load_rung(&history),
                pv: pv_rung,
            },
            model,
        }
    }
}

fn load_rung(history: &History<'_>) -> LoadRung {
    match history.days_known() {
        0 => LoadRung::StandardProfile,
        1..young::YOUNG_DAYS => LoadRung::FewDays,
        _ => LoadRung::PastDays,
    }
}

/// Joins load and PV scenarios to pairs, as if they did not depend on each other. Both lie along a line of length 1, each
/// over its weight; where one over the other begins, a pair begins. So each keeps its probability. The load's order is
/// mixed, so that neighbouring days do not meet neighbouring days. The heaviest [`SCENARIOS_MAX`] pairs remain.
fn couple(load: &Scenarios, pv: &Scenarios) -> (Scenarios, Scenarios) {
    let (loads_count, pvs_count) = (load.weights.len(), pv.weights.len());
    let stride = mixing_stride(loads_count);
    let mut pairs: Vec<(f64, usize, usize)> = Vec::with_capacity(loads_count + pvs_count);
    let (mut load_step, mut pv_index) = (0, 0);
    let place = |step: usize| step * stride % loads_count;
    let mut load_left = load.weights[place(0)];
    let mut pv_left = pv.weights[0];
    loop {
        let weight = load_left.min(pv_left);
        if weight > 0.0 {
            pairs.push((weight, place(load_step), pv_index));
        }
        load_left -= weight;
        pv_left -= weight;
        if load_left <= 0.0 {
            load_step += 1;
            if load_step == loads_count {
                break;
            }
            load_left = load.weights[place(load_step)];
        } else {
            pv_index += 1;
            if pv_index == pvs_count {
                break;
            }
            pv_left = pv.weights[pv_index];
        }
    }
    if pairs.len() > SCENARIOS_MAX {
        pairs.sort_by(|one, other| other.0.total_cmp(&one.0));
        pairs.truncate(SCENARIOS_MAX);
    }
    let mut weights: Vec<f64> = pairs.iter().map(|(weight, _, _)| *weight).collect();
    crate::scenarios::normalise(&mut weights);
    let loads = pairs
        .iter()
        .map(|(_, load_index, _)| load.series_w[*load_index].clone());
    let pvs = pairs
        .iter()
        .map(|(_, _, pv_index)| pv.series_w[*pv_index].clone());
    let loads = Scenarios {
        weights: weights.clone(),
        series_w: loads.collect(),
    };
    let pvs = Scenarios {
        weights,
        series_w: pvs.collect(),
    };
    (loads, pvs)
}

/// Returns a step that visits each of `count` places once, about the golden section of them apart.
fn mixing_stride(count: usize) -> usize {
    let common = |mut one: usize, mut other: usize| {
        while other > 0 {
            (one, other) = (other, one % other);
        }
        one
    };
    let golden = (count * 618 / 1_000).max(1);
    (golden..=count)
        .find(|stride| common(*stride, count) == 1)
        .unwrap_or(1)
}
