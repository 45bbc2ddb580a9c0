//! Load models compete in each home. Every hour that has ended, each model says what it would have said of it some
//! hours before, and pays for how far off it was. The model with the least rolling cost makes the forecast.
//!
//! The cost of a model for an hour is the continuous ranked probability score of its scenarios, which is twice the
//! pinball loss averaged over all quantiles, times the hour's stake. The score asks for honest spread: a single course
//! pays its absolute error, scenarios that hold what came pay less. Hours rather than quarter hours count because a
//! battery evens out minutes. The stake is the caller's: what a kWh costs more that comes unforeseen, for example the
//! dearest less the cheapest price of the day.

use serde::{Deserialize, Serialize};

use crate::horizon::Horizon;
use crate::load::{self, LoadModel, PastDay};
use crate::local_time::LocalTime;
use crate::profiles::{History, Profiles};
use crate::scenarios;
use model::units::HOUR_MS;

/// What is left of a score after an hour: 1/e after two weeks.
const KEPT: f64 = 1.0 - 1.0 / (14.0 * 24.0);
/// Hours scored before a model may lose its place.
const HOURS_MIN: u16 = 72;
/// A model takes the place of another if it costs less than this share of it. Without it, two that are equally good would
/// take turns.
const BETTER_SHARE: f64 = 0.98;
/// How far ahead hours are scored: each after another lead of 0 to 23 hours, in an order that mixes times of day.
const LEAD_STRIDE: i64 = 7;

/// Rolling costs of the models, and the one that is in place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contest {
    costs: [f32; LoadModel::ALL.len()],
    hours: u16,
    chosen: LoadModel,
}

impl Default for Contest {
    fn default() -> Self {
        Self {
            costs: [0.0; LoadModel::ALL.len()],
            hours: 0,
            chosen: LoadModel::LikelyDays,
        }
    }
}

impl Contest {
    /// Returns the model in place.
    #[must_use]
    pub const fn chosen(&self) -> LoadModel {
        self.chosen
    }

    /// Returns each model's rolling cost, in watts times stake. Only their ratios mean something.
    pub fn costs(&self) -> impl Iterator<Item = (LoadModel, f64)> {
        LoadModel::ALL
            .into_iter()
            .zip(self.costs.iter().map(|cost| f64::from(*cost)))
    }

    /// Scores the hour that begins at `start_ms` (UTC epoch milliseconds), which has ended. `stake_per_kwh` is 0 or more.
    /// An hour that is not fully known, or that no past day can say anything of, is not scored.
    pub fn score(&mut self, profiles: &Profiles, start_ms: i64, stake_per_kwh: f64) {
        let Some(came_w) = profiles.whole_mean_w(start_ms, start_ms + HOUR_MS) else {
            return;
        };
        let lead_hours = (start_ms.div_euclid(HOUR_MS) * LEAD_STRIDE).rem_euclid(24);
        let made_ms = start_ms - lead_hours * HOUR_MS;
        let history = profiles.until(made_ms);
        let asked = Asked::of(&history, made_ms, start_ms, came_w);
        let mut costs = [0.0; LoadModel::ALL.len()];
        for (cost, model) in costs.iter_mut().zip(LoadModel::ALL) {
            let Some(score_w) = asked.score_w(model) else {
                return;
            };
            *cost = score_w * stake_per_kwh;
        }
        for (sum, cost) in self.costs.iter_mut().zip(costs) {
            *sum = single(f64::from(*sum) * KEPT + cost);
        }
        self.hours = self.hours.saturating_add(1).min(HOURS_MIN);
        self.choose();
    }

    fn choose(&mut self) {
        if self.hours < HOURS_MIN {
            return;
        }
        let cost_of = |model: LoadModel| {
            let mut costs = self.costs();
            costs
                .find(|(other, _)| *other == model)
                .map_or(0.0, |(_, cost)| cost)
        };
        let in_place = cost_of(self.chosen);
        let best = self.costs().min_by(|one, other| one.1.total_cmp(&other.1));
        if let Some((best, cost)) = best
            && cost < BETTER_SHARE * in_place
        {
            self.chosen = best;
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "seven digits of a cost are enough"
)]
fn single(cost: f64) -> f32 {
    (cost as f32).clamp(0.0, f32::MAX)
}

/// An hour that every model is asked for.
struct Asked<'a> {
    history: &'a History<'a>,
    /// The day from when the forecast was made on.
    day: Horizon,
    known: Vec<PastDay>,
    /// What each of the known days says of the hour, W.
    said_w: Vec<Option<f64>>,
    came_w: f64,
}

impl<'a> Asked<'a> {
    fn of(history: &'a History<'a>, made_ms: i64, start_ms: i64, came_w: f64) -> Self {
        let day = Horizon {
            start_ms: made_ms,
            slot: history.cell(),
            slots_count: history.cell().per_day(),
            local: LocalTime {
                offset_min: history.offset_min(start_ms),
                change: None,
            },
        };
        let known = load::known_days(history, day);
        let said_w = known
            .iter()
            .map(|past| load::hour_w(history, day, past.days_ago, start_ms));
        Self {
            history,
            day,
            said_w: said_w.collect(),
            known,
            came_w,
        }
    }

    /// The score of a model's mean load of the hour, W; `None` if no day that it uses says anything.
    fn score_w(&self, model: LoadModel) -> Option<f64> {
        let days = load::weigh_known(self.history, model, self.day, &self.known);
        let mut hours_w: Vec<(f64, f64)> = Vec::with_capacity(days.len());
        let mut known = self.known.iter().zip(&self.said_w);
        // Models leave days out and keep their order.
        for past in days {
            let said = known.find(|(day, _)| day.days_ago == past.days_ago);
            if let Some(load_w) = said.and_then(|(_, said_w)| *said_w) {
                hours_w.push((load_w, past.weight));
            }
        }
        let known: f64 = hours_w.iter().map(|(_, weight)| weight).sum();
        if known <= 0.0 {
            return None;
        }
        hours_w.iter_mut().for_each(|(_, weight)| *weight /= known);
        if model == LoadModel::WeekdayMean {
            let mean_w = hours_w.iter().map(|(load_w, weight)| load_w * weight).sum();
            hours_w = vec![(mean_w, 1.0)];
        }
        scenarios::sort(&mut hours_w);
        Some(scenarios::ranked_score(&hours_w, self.came_w))
    }
}
