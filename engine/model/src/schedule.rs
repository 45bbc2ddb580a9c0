//! A solved problem: the plan, and the schedule that carries it through the stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::HouseholdId;

/// A plan with its identity, the value of the `schedules` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// `{household}-{request part}`: the household's id stands before the first dash.
    pub schedule_id: String,
    pub request_id: String,
    pub household_id: HouseholdId,
    /// Event time at which the problem was stated; of two schedules the later one holds.
    pub requested_ms: i64,
    /// Start of the first slot.
    pub start_ms: i64,
    pub slot_minutes: u32,
    /// Whether commands follow from it. A what-if question does not move a battery.
    pub adopt: bool,
    /// Time the solver took, microseconds.
    pub solve_us: i64,
    pub plan: Plan,
}

/// What the solver found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub status: Status,
    /// The constraints that could not be held; empty unless `status` is `Relaxed`.
    pub relaxed: Vec<Relaxation>,
    /// Value of the objective, see the API reference.
    pub objective: f64,
    /// Name of the method, such as `milp`.
    pub solver: String,
    /// Proven relative gap; 0 where the plan is optimal.
    pub gap: f64,
    pub metrics: Metrics,
    /// The same figures with the battery idle and appliances at their earliest start.
    pub baseline: Metrics,
    /// One entry a slot; empty only where `status` is `Infeasible`.
    pub slots: Vec<PlannedSlot>,
}

impl Plan {
    /// The answer to a problem that could not be solved, with the reason. It has no slots and nothing is adopted from it.
    #[must_use]
    pub fn failed(reason: &str) -> Self {
        let nothing = Metrics {
            cost: 0.0,
            grid_import_kwh: 0.0,
            grid_export_kwh: 0.0,
            autarky: 0.0,
            self_consumption: 0.0,
        };
        Self {
            status: Status::Infeasible,
            relaxed: vec![Relaxation {
                constraint: reason.to_owned(),
                amount: 0.0,
            }],
            objective: 0.0,
            solver: FAILED_SOLVER.to_owned(),
            gap: 0.0,
            metrics: nothing,
            baseline: nothing,
            slots: Vec::new(),
        }
    }

    /// Why the problem could not be solved, if that is so. Schedules of earlier builds give no reason.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        if self.solver != FAILED_SOLVER {
            return None;
        }
        let reason = self.relaxed.first();
        Some(reason.map_or("no reason was kept", |reason| &reason.constraint))
    }
}

/// `solver` of a plan that none made. The reason stands where broken constraints do, so that records and tables keep
/// their form.
const FAILED_SOLVER: &str = "none";

/// How the plan stands to the problem as it was stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Optimal,
    Relaxed,
    Infeasible,
}

impl Status {
    /// Lower-case name, as in JSON and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Optimal => "optimal",
            Self::Relaxed => "relaxed",
            Self::Infeasible => "infeasible",
        }
    }
}

/// A constraint that was broken, by its largest amount in the unit that the name ends with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relaxation {
    /// Such as `grid.import_limit_kw` or `battery.end_soc_min_kwh`.
    pub constraint: String,
    pub amount: f64,
}

/// Figures over the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Bill: import at the buying price less export at the selling price; no weights, no wear.
    pub cost: f64,
    pub grid_import_kwh: f64,
    pub grid_export_kwh: f64,
    /// Share of the consumption not imported, 0 to 1.
    pub autarky: f64,
    /// Share of the PV production not exported, 0 to 1.
    pub self_consumption: f64,
}

/// One slot of a plan. All powers are 0 or more; at most one of each pair is above 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedSlot {
    pub start_ms: i64,
    /// Load with the appliances that run.
    pub load_kw: f64,
    /// PV power used; below what is available only where PV is curtailed.
    pub pv_kw: f64,
    pub grid_import_kw: f64,
    pub grid_export_kw: f64,
    pub battery_charge_kw: f64,
    pub battery_discharge_kw: f64,
    /// SoC at the end of the slot; 0 without a battery.
    pub soc_kwh: f64,
    /// Which appliances run.
    pub appliances: BTreeMap<String, bool>,
    /// What each EV does.
    #[serde(default)]
    pub evs: BTreeMap<String, PlannedEv>,
    /// What each heat store does.
    #[serde(default)]
    pub heat: BTreeMap<String, PlannedHeat>,
    /// What one more kWh of load in this slot would cost.
    pub shadow_price: f64,
}

/// An EV in a slot; at most one of the powers is above 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedEv {
    pub charge_kw: f64,
    pub discharge_kw: f64,
    /// SoC at the end of the slot: that on arrival before, that on departure afterwards.
    pub soc_kwh: f64,
}

/// A heat store in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedHeat {
    /// Electric power of the heater.
    pub power_kw: f64,
    /// Temperature at the end of the slot.
    pub temperature_c: f64,
}
