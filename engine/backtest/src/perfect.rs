//! Perfect foresight at the length of a slot: each day, the coming week is planned on the means that will come, and carried
//! out as policies.

use model::policy::SlotPolicy;
use model::problem::{Battery, Problem, Weights};
use model::units::HouseholdId;
use scheduler::Solver;

use crate::recorded::Recorded;

/// Most slots of a plan; see `model::limits::SLOTS_MAX`.
const SLOTS_MAX: usize = 672;

/// Plans that know what will come.
#[derive(Debug)]
pub struct Perfect<'a> {
    home: &'a Recorded,
    solver: Solver,
    load_kw: Vec<f64>,
    pv_kw: Vec<f64>,
    buy: Vec<f64>,
    sell: Vec<f64>,
    left_per_kwh: f64,
    /// The first slot of the plan in force, and its policies.
    plan: (usize, Vec<Option<SlotPolicy>>),
}

impl<'a> Perfect<'a> {
    /// Returns the plans of a home, of which none is made yet.
    #[must_use]
    pub fn new(home: &'a Recorded) -> Self {
        let known = |index: usize| home.step_at(index).net_kw.is_some();
        // What is not recorded moves nothing.
        let kilowatts =
            |watts: &[f64]| slot_means(home, |index| known(index).then(|| watts[index] / 1e3));
        Self {
            solver: Solver::default(),
            load_kw: kilowatts(&home.load_w),
            pv_kw: kilowatts(&home.pv_w),
            buy: slot_means(home, |index| Some(home.buy[index])),
            sell: slot_means(home, |index| Some(home.sell[index])),
            left_per_kwh: home.left_per_kwh(),
            plan: (0, Vec::new()),
            home,
        }
    }

    /// Returns the policy of a step's slot. `content_kwh` is what the battery holds at the step's start.
    ///
    /// # Panics
    /// If a recorded number breaks a limit of the scheduler.
    pub fn policy(&mut self, step_index: usize, content_kwh: f64) -> Option<&SlotPolicy> {
        let slot_index = step_index / self.home.steps_per_slot();
        let day = self.home.slot().per_day();
        if self.plan.1.is_empty() || slot_index >= self.plan.0 + day {
            let problem = self.problem(slot_index, content_kwh);
            let plan = self.solver.solve(&problem).expect("the record is valid");
            let policies = plan.slots.into_iter().map(|slot| slot.policy);
            self.plan = (slot_index, policies.collect());
        }
        self.plan.1.get(slot_index - self.plan.0)?.as_ref()
    }

    fn problem(&self, first: usize, content_kwh: f64) -> Problem {
        let home = self.home;
        let end = self.load_kw.len().min(first + SLOTS_MAX);
        let series = |values: &[f64]| values[first..end].to_vec();
        let spec = &home.battery;
        let step_index = first * home.steps_per_slot();
        Problem {
            household_id: HouseholdId::new(1).expect("it is positive"),
            start_ms: home.step_ms(step_index),
            slot_minutes: home.slot().minutes(),
            load_kw: series(&self.load_kw),
            pv_kw: series(&self.pv_kw),
            scenarios: Vec::new(),
            caution_per_kwh: 0.0,
            signal: None,
            buy_price: series(&self.buy),
            sell_price: series(&self.sell),
            battery: Some(Battery {
                capacity_kwh: spec.capacity_kwh,
                soc_kwh: content_kwh,
                min_soc_kwh: spec.min_soc_kwh,
                max_soc_kwh: spec.max_soc_kwh,
                charge_kw: spec.charge_kw,
                discharge_kw: spec.discharge_kw,
                charge_efficiency: spec.charge_efficiency,
                discharge_efficiency: spec.discharge_efficiency,
                end_soc_min_kwh: spec.min_soc_kwh,
                end_value_per_kwh: self.left_per_kwh,
                wear_cost_per_kwh: spec.wear_cost_per_kwh,
            }),
            grid: home.grid,
            pv_curtailable: home.pv_curtailable,
            appliances: Vec::new(),
            evs: Vec::new(),
            heat_stores: Vec::new(),
            weights: Weights::COST,
            stability: None,
            time_limit_ms: None,
        }
    }
}

/// Means of the steps of each slot; 0 where no step says anything.
fn slot_means(home: &Recorded, value: impl Fn(usize) -> Option<f64>) -> Vec<f64> {
    let per_slot = home.steps_per_slot();
    let firsts = (0..home.steps_count()).step_by(per_slot);
    let means = firsts.map(|first| {
        let (mut sum, mut count) = (0.0, 0.0);
        for index in first..home.steps_count().min(first + per_slot) {
            if let Some(value) = value(index) {
                sum += value;
                count += 1.0;
            }
        }
        if count > 0.0 { sum / count } else { 0.0 }
    });
    means.collect()
}
