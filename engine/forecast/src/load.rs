//! Load scenarios out of the home's own past days.
//!
//! A scenario is what followed the same local time some whole days ago, so it has the peaks of a real day. Its weight is
//! the product of three: how the weekday of each slot agrees, how long ago the day was, and how like the last 24 hours
//! are to the 24 hours before it. The first slots are drawn towards the load measured now.

use serde::{Deserialize, Serialize};

use crate::horizon::Horizon;
use crate::local_time::DayClass;
use crate::profiles::History;
use crate::scenarios::{Scenarios, normalise};
use crate::young;
use model::units::{DAY_MS, HOUR_MS};

/// A way to forecast the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadModel {
    /// The day before.
    Yesterday,
    /// The mean of the past days of the same weekday class.
    WeekdayMean,
    /// The past days by weekday class and age.
    PastDays,
    /// The past days by weekday class, age and likeness to the last 24 hours.
    LikelyDays,
}

impl LoadModel {
    /// Every model.
    pub const ALL: [Self; 4] = [
        Self::Yesterday,
        Self::WeekdayMean,
        Self::PastDays,
        Self::LikelyDays,
    ];

    /// Returns the name in schedules and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yesterday => "yesterday",
            Self::WeekdayMean => "weekday_mean",
            Self::PastDays => "past_days",
            Self::LikelyDays => "likely_days",
        }
    }
}

/// Most scenarios of a forecast.
pub const SCENARIOS_MAX: usize = 30;

/// Weight of a Saturday for a Sunday, and the other way round, against 1 for the same class.
const WEEKEND_WEIGHT: f64 = 0.6;
/// Weight of a workday for a Saturday or Sunday, and the other way round.
const OTHER_CLASS_WEIGHT: f64 = 0.25;
/// Days after which a day counts 1/e.
const AGE_DAYS: f64 = 28.0;
/// Hours compared.
const LIKENESS_HOURS: usize = 24;
/// Weight of an hour against the hour after it: today so far counts more than yesterday.
const LIKENESS_HOUR_DECAY: f64 = 0.94;
/// A day at the mean distance has 1/e to this power of the weight of one without distance.
const LIKENESS_POWER: f64 = 2.0;
/// Hours that must be known on both sides to compare.
const LIKENESS_HOURS_MIN: u32 = 6;
/// Share of a past day that must be known for a scenario.
const KNOWN_SHARE_MIN: f64 = 0.5;

/// A past day: how many days ago, and its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PastDay {
    pub(crate) days_ago: i64,
    pub(crate) weight: f64,
}

/// Returns the past days that a model uses for a horizon and their weights, which sum to 1. None if no day is known.
pub(crate) fn weigh(history: &History<'_>, model: LoadModel, horizon: Horizon) -> Vec<PastDay> {
    weigh_known(history, model, horizon, &known_days(history, horizon))
}

/// The same where the [`known_days`] of the horizon are at hand.
pub(crate) fn weigh_known(
    history: &History<'_>,
    model: LoadModel,
    horizon: Horizon,
    known: &[PastDay],
) -> Vec<PastDay> {
    let mut days = known.to_vec();
    match model {
        LoadModel::Yesterday => days.truncate(1),
        LoadModel::WeekdayMean => {
            weigh_by_class(&mut days, horizon, 0.0, 0.0);
            if days.iter().all(|day| day.weight <= 0.0) {
                days.iter_mut().for_each(|day| day.weight = 1.0);
            }
            days.retain(|day| day.weight > 0.0);
        }
        LoadModel::PastDays => {
            weigh_by_class(&mut days, horizon, WEEKEND_WEIGHT, OTHER_CLASS_WEIGHT);
            weigh_by_age(&mut days);
        }
        LoadModel::LikelyDays => {
            weigh_by_class(&mut days, horizon, WEEKEND_WEIGHT, OTHER_CLASS_WEIGHT);
            weigh_by_age(&mut days);
            weigh_by_likeness(&mut days, history, horizon);
        }
    }
    if model != LoadModel::WeekdayMean && days.len() > SCENARIOS_MAX {
        days.sort_by(|one, other| other.weight.total_cmp(&one.weight));
        days.truncate(SCENARIOS_MAX);
        days.sort_by_key(|day| day.days_ago);
    }
    let mut weights: Vec<f64> = days.iter().map(|day| day.weight).collect();
    normalise(&mut weights);
    for (day, weight) in days.iter_mut().zip(weights) {
        day.weight = weight;
    }
    days
}

/// The moment at which the home's clocks showed the time of `start_ms` some days before, UTC epoch milliseconds.
fn like_ms(history: &History<'_>, horizon: Horizon, start_ms: i64, days_ago: i64) -> i64 {
    history.utc_ms(horizon.local.local_ms(start_ms) - days_ago * DAY_MS)
}

/// Returns the days of which enough is known, the newest first.
#[expect(clippy::cast_precision_loss, reason = "a day has few slots")]
pub(crate) fn known_days(history: &History<'_>, horizon: Horizon) -> Vec<PastDay> {
    let per_day = history.cell().per_day();
    let days = (1..=history.days_max()).filter_map(|days_ago| {
        let end_ms = like_ms(history, horizon, horizon.start_ms, days_ago - 1);
        let cells_w = history.cells_before(end_ms, per_day);
        let known = cells_w.iter().filter(|power_w| !power_w.is_nan()).count();
        (known as f64 >= KNOWN_SHARE_MIN * per_day as f64).then_some(PastDay {
            days_ago,
            weight: 1.0,
        })
    });
    days.collect()
}

/// Multiplies the weights by the agreement of weekday classes, each local day by its share of the horizon.
#[expect(clippy::cast_precision_loss, reason = "a week in milliseconds fits")]
fn weigh_by_class(days: &mut [PastDay], horizon: Horizon, weekend: f64, other: f64) {
    let agreement = |local_ms: i64, days_ago: i64| {
        let classes = (
            DayClass::of(local_ms),
            DayClass::of(local_ms - days_ago * DAY_MS),
        );
        match classes {
            (DayClass::Workday, DayClass::Workday)
            | (DayClass::Saturday, DayClass::Saturday)
            | (DayClass::Sunday, DayClass::Sunday) => 1.0,
            (DayClass::Saturday, DayClass::Sunday) | (DayClass::Sunday, DayClass::Saturday) => {
                weekend
            }
            (DayClass::Workday, DayClass::Saturday | DayClass::Sunday)
            | (DayClass::Saturday | DayClass::Sunday, DayClass::Workday) => other,
        }
    };
    let start_ms = horizon.local.local_ms(horizon.start_ms);
    let end_ms = horizon.local.local_ms(horizon.end_ms()).max(start_ms + 1);
    for day in days {
        let (mut at_ms, mut sum) = (start_ms, 0.0);
        while at_ms < end_ms {
            let until_ms = ((at_ms.div_euclid(DAY_MS) + 1) * DAY_MS).min(end_ms);
            sum += (until_ms - at_ms) as f64 * agreement(at_ms, day.days_ago);
            at_ms = until_ms;
        }
        day.weight *= sum / (end_ms - start_ms) as f64;
    }
}

#[expect(clippy::cast_precision_loss, reason = "six weeks have few days")]
fn weigh_by_age(days: &mut [PastDay]) {
    for day in days {
        day.weight *= libm::exp(-(day.days_ago as f64) / AGE_DAYS);
    }
}

/// Means of hours, the newest first; NaN for one of which nothing is known.
fn hours_before(history: &History<'_>, end_ms: i64) -> [f32; LIKENESS_HOURS] {
    let per_hour = history.cell().per_day() / 24;
    let cells_w = history.cells_before(end_ms, LIKENESS_HOURS * per_hour);
    let mut hours_w = [f32::NAN; LIKENESS_HOURS];
    for (hour_w, cells_w) in hours_w.iter_mut().zip(cells_w.rchunks(per_hour)) {
        let (mut sum_w, mut count) = (0.0, 0.0);
        // Whether a cell is known is not worth a guess.
        for power_w in cells_w {
            let is_known = !power_w.is_nan();
            sum_w += if is_known { *power_w } else { 0.0 };
            count += if is_known { 1.0 } else { 0.0 };
        }
        *hour_w = sum_w / count;
    }
    hours_w
}

/// Multiplies the weights by the likeness of the 24 hours before each day to the last 24 hours.
fn weigh_by_likeness(days: &mut [PastDay], history: &History<'_>, horizon: Horizon) {
    let now_w = hours_before(history, horizon.start_ms);
    let distance = |day: &PastDay| {
        let end_ms = like_ms(history, horizon, horizon.start_ms, day.days_ago);
        let then_w = hours_before(history, end_ms);
        let (mut sum, mut weights, mut known, mut weight) = (0.0, 0.0, 0, 1.0);
        for (now_w, then_w) in now_w.iter().zip(&then_w) {
            let apart_w = f64::from((now_w - then_w).abs());
            let is_known = !apart_w.is_nan();
            sum += if is_known { weight * apart_w } else { 0.0 };
            weights += if is_known { weight } else { 0.0 };
            known += u32::from(is_known);
            weight *= LIKENESS_HOUR_DECAY;
        }
        (known >= LIKENESS_HOURS_MIN).then(|| sum / weights)
    };
    let distances: Vec<Option<f64>> = days.iter().map(distance).collect();
    let (mut sum, mut count) = (0.0, 0.0);
    for distance in distances.iter().flatten() {
        sum += distance;
        count += 1.0;
    }
    let mean = sum / count;
    if mean.is_nan() || mean <= 0.0 {
        return;
    }
    for (day, distance) in days.iter_mut().zip(distances) {
        let apart = distance.map_or(1.0, |distance| distance / mean);
        day.weight *= libm::exp(-LIKENESS_POWER * apart);
    }
}

/// Returns the load of the hour that begins at `start_ms` some days before, W; `None` if nothing of it is known.
pub(crate) fn hour_w(
    history: &History<'_>,
    horizon: Horizon,
    days_ago: i64,
    start_ms: i64,
) -> Option<f64> {
    let end_ms = like_ms(history, horizon, start_ms, days_ago) + HOUR_MS;
    let cells_w = history.cells_before(end_ms, history.cell().per_day() / 24);
    let (mut sum_w, mut count) = (0.0, 0.0);
    for power_w in cells_w.iter().filter(|power_w| !power_w.is_nan()) {
        sum_w += f64::from(*power_w);
        count += 1.0;
    }
    (count > 0.0).then(|| sum_w / count)
}

/// Load scenarios, and what each says of the time just before the horizon.
#[derive(Debug, Clone, Default)]
pub(crate) struct Courses {
    pub(crate) scenarios: Scenarios,
    /// Load of each scenario in the last slot before the horizon, W; NaN if it is not known.
    pub(crate) before_w: Vec<f64>,
}

/// Returns a model's scenarios for a horizon. None if no past day is known.
pub(crate) fn courses(history: &History<'_>, model: LoadModel, horizon: Horizon) -> Courses {
    let days = weigh(history, model, horizon);
    let mut courses = Courses::default();
    for day in &days {
        let before_ms = horizon.start_ms - history.cell().ms();
        let before_ms = like_ms(history, horizon, before_ms, day.days_ago);
        courses.before_w.push(f64::from(history.at_w(before_ms)));
        courses
            .scenarios
            .series_w
            .push(course_w(history, horizon, day.days_ago));
        courses.scenarios.weights.push(day.weight);
    }
    fill_gaps(&mut courses, history, horizon);
    if model == LoadModel::WeekdayMean && !days.is_empty() {
        courses = mean_of(&courses);
    }
    courses
}

/// What followed the same local time some days ago, W; NaN where it is not known. A horizon longer than the day is far back
/// goes on with the last day that is known.
fn course_w(history: &History<'_>, horizon: Horizon, days_ago: i64) -> Vec<f64> {
    let mut course_w = Vec::with_capacity(horizon.slots_count);
    let (first_ms, last_ms) = (horizon.start_ms, horizon.end_ms() - horizon.slot.ms());
    let days_ms = days_ago * DAY_MS;
    if horizon.slot == history.cell()
        && last_ms - first_ms < days_ms
        && horizon.local.is_unchanged(first_ms, last_ms)
    {
        let local_ms = |ms| horizon.local.local_ms(ms) - days_ms;
        let from_ms = history.unchanged_utc_ms(local_ms(first_ms), local_ms(last_ms));
        if let Some(from_ms) = from_ms {
            history.add_from(from_ms, horizon.slots_count, &mut course_w);
            return course_w;
        }
    }
    let mut passed_ms = 0;
    course_w.extend(horizon.starts_ms().map(|start_ms| {
        let days_ago = days_ago.max(passed_ms / DAY_MS + 1);
        passed_ms += horizon.slot.ms();
        f64::from(history.at_w(like_ms(history, horizon, start_ms, days_ago)))
    }));
    course_w
}

/// Gives a slot that a scenario does not know the weighted mean of the others; if none knows it, the standard profile's
/// load.
fn fill_gaps(courses: &mut Courses, history: &History<'_>, horizon: Horizon) {
    let Scenarios { weights, series_w } = &mut courses.scenarios;
    let mut level_w = None;
    let is_whole = |course: &Vec<f64>| course.iter().all(|load_w| !load_w.is_nan());
    if series_w.iter().all(is_whole) {
        return;
    }
    for (slot_index, start_ms) in horizon.starts_ms().enumerate() {
        if !series_w.iter().any(|course| course[slot_index].is_nan()) {
            continue;
        }
        let (mut sum_w, mut known) = (0.0, 0.0);
        for (course, weight) in series_w.iter().zip(weights.iter()) {
            if !course[slot_index].is_nan() {
                sum_w += weight * course[slot_index];
                known += weight;
            }
        }
        let mean_w = if known > 0.0 {
            sum_w / known
        } else {
            let level_w = *level_w.get_or_insert_with(|| young::level_w(history));
            level_w * young::standard_share(horizon.local.local_ms(start_ms))
        };
        for course in series_w.iter_mut() {
            if course[slot_index].is_nan() {
                course[slot_index] = mean_w;
            }
        }
    }
}

fn mean_of(courses: &Courses) -> Courses {
    let Scenarios { weights, series_w } = &courses.scenarios;
    let mut mean_w = vec![0.0; series_w[0].len()];
    let (mut before_w, mut known) = (0.0, 0.0);
    for ((course, weight), before) in series_w.iter().zip(weights).zip(&courses.before_w) {
        for (mean_w, power_w) in mean_w.iter_mut().zip(course) {
            *mean_w += weight * power_w;
        }
        if !before.is_nan() {
            before_w += weight * before;
            known += weight;
        }
    }
    Courses {
        scenarios: Scenarios {
            weights: vec![1.0],
            series_w: vec![mean_w],
        },
        before_w: vec![before_w / known],
    }
}

/// Adds the standard profile with the probability that is left to it.
pub(crate) fn add_standard(courses: &mut Courses, history: &History<'_>, horizon: Horizon) {
    let mut standard = young::standard_weight(history.days_known());
    if courses.scenarios.weights.is_empty() {
        standard = 1.0;
    }
    if standard <= 0.0 {
        return;
    }
    for weight in &mut courses.scenarios.weights {
        *weight *= 1.0 - standard;
    }
    let level_w = young::level_w(history);
    let load_w = |ms| level_w * young::standard_share(horizon.local.local_ms(ms));
    for (factor, weight) in young::SPREAD {
        let course = horizon
            .starts_ms()
            .map(|start_ms| factor * load_w(start_ms));
        courses.scenarios.series_w.push(course.collect());
        courses.scenarios.weights.push(standard * weight);
        let before_ms = horizon.start_ms - history.cell().ms();
        courses.before_w.push(factor * load_w(before_ms));
    }
    courses.scenarios.normalise();
}

/// Share of a departure of the load from a scenario that is still there a moment later.
const BLEND_SHARE: f64 = 0.7;
/// Time after which 1/e of that share is left, ms.
const BLEND_MS: f64 = HOUR_MS as f64;

/// Draws the first slots towards the load measured now, W: a scenario that was below it in the last slot is raised, by
/// less with each slot. This is the course that a first-order autoregression expects.
#[expect(clippy::cast_precision_loss, reason = "a week in milliseconds fits")]
pub(crate) fn blend(courses: &mut Courses, now_w: f64, horizon: Horizon) {
    let step = libm::exp(-(horizon.slot.ms() as f64) / BLEND_MS);
    for (course, before_w) in courses.scenarios.series_w.iter_mut().zip(&courses.before_w) {
        if before_w.is_nan() {
            continue;
        }
        let mut share = BLEND_SHARE;
        for power_w in course {
            *power_w = (*power_w + share * (now_w - before_w)).max(0.0);
            share *= step;
            if share < 0.01 {
                break;
            }
        }
    }
}

/// Returns a model's load scenarios, with the standard profile in a young home. `now_w` is the load measured in the last
/// slot before the horizon, W, if there is one.
#[must_use]
pub fn scenarios(
    history: &History<'_>,
    model: LoadModel,
    horizon: Horizon,
    now_w: Option<f64>,
) -> Scenarios {
    let mut courses = courses(history, model, horizon);
    add_standard(&mut courses, history, horizon);
    if let Some(now_w) = now_w {
        blend(&mut courses, now_w, horizon);
    }
    courses.scenarios
}
