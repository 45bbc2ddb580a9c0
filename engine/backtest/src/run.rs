//! Lives a recorded home through with every contender.

use std::collections::BTreeMap;

use forecast::scenarios::Band;
use jiff::Timestamp;
use model::battery::Bounds;
use model::policy::SlotPolicy;
use model::units::{DAY_MS, HOUR_MS, HouseholdId};

use crate::bound;
use crate::device::{Bill, Device, Moved, self_consumption};
use crate::errors::Errors;
use crate::figures::{Costs, HomeFigures};
use crate::live::Live;
use crate::perfect::Perfect;
use crate::recorded::{Recorded, Step};
use crate::week::{Thresholds, Week, WeekSlot, band_kw};

/// How often forecasts are compared with what came.
const COMPARED_MS: i64 = 6 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;

/// What became of a home.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its figures.
    pub figures: HomeFigures,
    /// A week in the middle of the steps that count.
    pub week: Week,
}

/// Lives a home through. `progress` is told the number of steps done since it was told last, and a home has
/// [`passes`] times its steps.
///
/// # Panics
/// If a recorded number breaks a limit of the scheduler.
pub fn run(home: &Recorded, progress: &mut dyn FnMut(usize)) -> Outcome {
    let rule = self_consumption(home);
    let mut ledgers = [Ledger::new(home), Ledger::new(home)];
    let (mut none, mut by_rule) = (Device::new(home), Device::new(home));
    for (index, step) in home.steps().enumerate() {
        ledgers[0].note(index, &step, &none.carry_out(None, &step));
        ledgers[1].note(index, &step, &by_rule.carry_out(Some(&rule), &step));
    }
    let [none, rule] = ledgers;
    progress(home.steps_count());
    let (perfect, content_kwh) = run_perfect(home);
    progress(home.steps_count());
    let cost_bound = bound::lowest_cost(home, content_kwh);
    let mut watched = Watched::new(home);
    let (setpoint, hearth) = run_hearth(home, &mut watched, progress);
    let costs = Costs {
        none: none.total.cost,
        rule: rule.total.cost,
        setpoint: setpoint.total.cost,
        hearth: hearth.total.cost,
        perfect: perfect.total.cost,
    };
    let load_kwh = load_kwh(home);
    let autarky = |bill: &Bill| {
        if load_kwh > 0.0 {
            (1.0 - bill.import_kwh / load_kwh).clamp(0.0, 1.0)
        } else {
            0.0
        }
    };
    let figures = HomeFigures {
        costs,
        cost_bound,
        share_of_gap: costs.share_of_gap(),
        share_of_gap_setpoint: costs.share_of_gap_setpoint(),
        share_of_saving: costs.share_of_saving(),
        autarky: autarky(&hearth.total),
        autarky_rule: autarky(&rule.total),
        wear_kwh: hearth.total.wear_kwh,
        wear_kwh_rule: rule.total.wear_kwh,
        load_kwh,
        days: days_known(home),
        step_minutes: home.step.minutes(),
        load_errors: watched.load_errors.figures(),
        pv_errors: watched.pv_errors.figures(),
        model: watched.model,
        months: by_month(home, [&none, &rule, &setpoint, &hearth, &perfect]),
        plans: watched.plans_count,
        commands: watched.commands_count,
        left_per_kwh: home.left_per_kwh(),
    };
    Outcome {
        figures,
        week: watched.week,
    }
}

/// How often [`run`] goes through the steps of a home.
#[must_use]
pub const fn passes() -> usize {
    3
}

/// The bill of a contender, whole and by days.
#[derive(Debug)]
struct Ledger {
    scored_from: usize,
    left_per_kwh: f64,
    total: Bill,
    /// By day since the epoch.
    days: BTreeMap<i64, f64>,
}

impl Ledger {
    fn new(home: &Recorded) -> Self {
        Self {
            scored_from: home.scored_from,
            left_per_kwh: home.left_per_kwh(),
            total: Bill::default(),
            days: BTreeMap::new(),
        }
    }

    fn note(&mut self, index: usize, step: &Step, moved: &Moved) {
        if index < self.scored_from {
            return;
        }
        self.total.add(moved, self.left_per_kwh);
        let day = self.days.entry(step.start_ms.div_euclid(DAY_MS));
        *day.or_default() += moved.cost - self.left_per_kwh * moved.content_kwh;
    }
}

fn run_perfect(home: &Recorded) -> (Ledger, f64) {
    let mut ledger = Ledger::new(home);
    let (mut plans, mut device) = (Perfect::new(home), Device::new(home));
    let mut scored_content_kwh = device.content_kwh();
    for (index, step) in home.steps().enumerate() {
        if index == home.scored_from {
            scored_content_kwh = device.content_kwh();
        }
        let policy = plans.policy(index, device.content_kwh());
        ledger.note(index, &step, &device.carry_out(policy, &step));
    }
    (ledger, scored_content_kwh)
}

fn id() -> HouseholdId {
    HouseholdId::new(1).expect("it is positive")
}

/// Hearth's plans as set-points, and its programs. The thresholds of a plan do not depend on what a battery holds, so both
/// have the same plans: the set-point of a slot is the power with which a battery of that content follows its thresholds on
/// the load and PV that are expected, held for the whole slot.
fn run_hearth(
    home: &Recorded,
    watched: &mut Watched<'_>,
    progress: &mut dyn FnMut(usize),
) -> (Ledger, Ledger) {
    let (mut by_setpoints, mut by_programs) = (Ledger::new(home), Ledger::new(home));
    let (mut held, mut device) = (Device::new(home), Device::new(home));
    let mut live = Live::new(home, id());
    let (mut battery_kw, mut setpoint) = (0.0, self_consumption(home));
    for (index, step) in home.steps().enumerate() {
        live.begin_step(index, device.content_kwh(), battery_kw);
        if index.is_multiple_of(home.steps_per_slot()) {
            let planned = live.planned_at(step.start_ms);
            setpoint = planned.map_or_else(
                || self_consumption(home),
                |(policy, net_kw)| {
                    SlotPolicy::setpoint(held.power_kw(policy, *net_kw, home.slot().hours()))
                },
            );
        }
        let moved = held.carry_out(Some(&setpoint), &step);
        by_setpoints.note(index, &step, &moved);
        let policy = live.policy_at(step.start_ms);
        let thresholds = Thresholds::of(policy);
        let moved = device.carry_out(Some(policy), &step);
        battery_kw = moved.battery_kw;
        by_programs.note(index, &step, &moved);
        watched.note(index, &live, thresholds, &moved, device.content_kwh());
        tell(index, home, progress);
    }
    watched.plans_count = live.plans_count();
    watched.commands_count = live.commands_count();
    let past = live.household().past();
    watched.model = past.map_or("none", |past| past.contest().chosen().name());
    (by_setpoints, by_programs)
}

/// Tells the progress every thousand steps.
fn tell(index: usize, home: &Recorded, progress: &mut dyn FnMut(usize)) {
    const EVERY: usize = 1_000;
    let done = index + 1;
    if done.is_multiple_of(EVERY) {
        progress(EVERY);
    } else if done == home.steps_count() {
        progress(done % EVERY);
    }
}

/// What is seen of Hearth's run besides its bill.
#[derive(Debug)]
struct Watched<'a> {
    home: &'a Recorded,
    load_errors: Errors,
    pv_errors: Errors,
    model: &'static str,
    plans_count: usize,
    commands_count: usize,
    /// The first step of the week that is shown.
    week_from: usize,
    week: Week,
    /// Load and PV power as forecast at the last midnight, and the forecast's first step.
    forecast: Option<(usize, [Band; 2])>,
}

impl<'a> Watched<'a> {
    fn new(home: &'a Recorded) -> Self {
        let bounds: Bounds = (&home.battery).into();
        let middle = usize::midpoint(home.scored_from, home.steps_count());
        let middle_ms = home.step_ms(middle);
        let from_ms = middle_ms - middle_ms.rem_euclid(DAY_MS);
        let from = (from_ms - home.start_ms) / home.step.ms();
        Self {
            home,
            load_errors: Errors::default(),
            pv_errors: Errors::default(),
            model: "none",
            plans_count: 0,
            commands_count: 0,
            week_from: usize::try_from(from).unwrap_or(0).max(home.scored_from),
            week: Week::new(&bounds),
            forecast: None,
        }
    }

    fn note(
        &mut self,
        index: usize,
        live: &Live<'_>,
        thresholds: Thresholds,
        moved: &Moved,
        content_kwh: f64,
    ) {
        let home = self.home;
        let now_ms = home.step_ms(index);
        if index < home.scored_from {
            return;
        }
        if now_ms.rem_euclid(COMPARED_MS) == 0
            && let Some(past) = live.household().past()
        {
            let (slot, day) = (home.slot(), home.slot().per_day());
            let metadata = live.metadata();
            let found = household::past::forecast(past, metadata, now_ms, slot, day);
            let bands = [found.load_band(), found.pv_band()];
            self.load_errors
                .add(&bands[0], came_w(home, &home.load_w, index, day));
            if home.pv_capacity_kw > 0.0 {
                self.pv_errors
                    .add(&bands[1], came_w(home, &home.pv_w, index, day));
            }
            if now_ms.rem_euclid(DAY_MS) == 0 {
                self.forecast = Some((index, bands));
            }
        }
        let week_end_ms = home.step_ms(self.week_from) + WEEK_MS;
        if index >= self.week_from && now_ms < week_end_ms {
            self.show(index, thresholds, moved, content_kwh);
        }
    }

    /// Adds a step to the week that is shown.
    fn show(&mut self, index: usize, thresholds: Thresholds, moved: &Moved, content_kwh: f64) {
        let home = self.home;
        let per_slot = home.steps_per_slot();
        if index.is_multiple_of(per_slot) {
            let mut slot = WeekSlot {
                start_ms: home.step_ms(index),
                buy: home.buy[index],
                thresholds,
                ..WeekSlot::default()
            };
            if let Some((from, [load, pv])) = &self.forecast {
                let place = (index - from) / per_slot;
                if place < load.mean_w.len() {
                    slot.load_band_kw = band_kw(load, place);
                    slot.pv_band_kw = band_kw(pv, place);
                }
            }
            self.week.slots.push(slot);
        }
        let Some(slot) = self.week.slots.last_mut() else {
            return;
        };
        let share = home.step.hours() / home.slot().hours();
        let known = |watts: f64| if watts.is_nan() { 0.0 } else { watts / 1e3 };
        slot.load_kw += share * known(home.load_w[index]);
        slot.pv_kw += share * known(home.pv_w[index]);
        slot.battery_kw += share * moved.battery_kw;
        slot.content_kwh = content_kwh;
    }
}

/// Means of the slots from a step on, W; NaN where a step is missing.
fn came_w<'a>(
    home: &Recorded,
    watts: &'a [f64],
    from: usize,
    slots_count: usize,
) -> impl Iterator<Item = f64> + 'a {
    let per_slot = home.steps_per_slot();
    let slots = watts[from..].chunks_exact(per_slot).take(slots_count);
    slots.map(|steps| {
        let (mut sum, mut count) = (0.0, 0.0);
        for watts in steps {
            sum += watts;
            count += 1.0;
        }
        sum / count
    })
}

fn load_kwh(home: &Recorded) -> f64 {
    let scored = home.scored_from..home.steps_count();
    let known = scored.filter(|index| home.step_at(*index).net_kw.is_some());
    known
        .map(|index| home.load_w[index] / 1e3 * home.step.hours())
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "a record has few steps")]
fn days_known(home: &Recorded) -> f64 {
    let scored = home.scored_from..home.steps_count();
    let known = scored.filter(|index| home.step_at(*index).net_kw.is_some());
    known.count() as f64 * home.step.hours() / 24.0
}

/// Costs by UTC month, of the contenders in the order of [`Costs`].
fn by_month(home: &Recorded, ledgers: [&Ledger; 5]) -> BTreeMap<String, Costs> {
    let mut months: BTreeMap<String, Costs> = BTreeMap::new();
    let first = home.step_ms(home.scored_from).div_euclid(DAY_MS);
    let last = home.step_ms(home.steps_count()).div_euclid(DAY_MS);
    for day in first..=last {
        let costs = ledgers.map(|ledger| ledger.days.get(&day).copied());
        if costs.iter().all(Option::is_none) {
            continue;
        }
        let [none, rule, setpoint, hearth, perfect] = costs.map(|cost| cost.unwrap_or(0.0));
        let time = Timestamp::from_millisecond(day * DAY_MS).expect("a record is of our time");
        let month = time.strftime("%Y-%m").to_string();
        months.entry(month).or_default().add(&Costs {
            none,
            rule,
            setpoint,
            hearth,
            perfect,
        });
    }
    months
}
