//! A solved problem: the plan, and the schedule that carries it through the stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::SlotPolicy;
use crate::rung::Rungs;
use crate::units::HouseholdId;

/// A plan with its identity, the value of the `schedules` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// `{household}-{rest of the request's id}`: the household's id comes before the first dash.
    pub schedule_id: String,
    /// The request that it answers.
    pub request_id: String,
    /// The household that it is for.
    pub household_id: HouseholdId,
    /// Event time of the request, UTC epoch milliseconds; of two schedules the later one is in force.
    pub requested_ms: i64,
    /// Start of the first slot, UTC epoch milliseconds.
    pub start_ms: i64,
    /// Length of a slot, minutes: 1, 5, 15, 30 or 60.
    pub slot_minutes: u32,
    /// Whether commands follow from it; false for what-if requests.
    pub adopt: bool,
    /// Time the solver took, microseconds: 0 or more.
    pub solve_us: i64,
    /// What the forecasts that it rests on rest on themselves; `None` where they are not the engine's own.
    #[serde(default)]
    pub forecast: Option<Rungs>,
    /// What the solver found.
    pub plan: Plan,
}

/// What the solver found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Whether the plan meets the problem as stated.
    pub status: Status,
    /// The constraints that could not be met. Empty if `status` is `Optimal`; [`Plan::failed`] keeps its reason here.
    pub relaxed: Vec<Relaxation>,
    /// Value of the objective, currency; lower is better. See the API reference.
    pub objective: f64,
    /// Name of the method, such as `milp`.
    pub solver: String,
    /// Proven relative gap, 0 or more; 0 if the plan is proven to be optimal.
    pub gap: f64,
    /// Figures of this plan.
    pub metrics: Metrics,
    /// The same figures with the battery idle and appliances at their earliest start.
    pub baseline: Metrics,
    /// One entry per slot; empty only if `status` is `Infeasible`.
    pub slots: Vec<PlannedSlot>,
}

impl Plan {
    /// Returns the answer to a problem that could not be solved, with the reason. It has no slots and is never adopted.
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

    /// Returns why the problem could not be solved, or `None` if it was. Schedules of earlier builds have no reason.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        if self.solver != FAILED_SOLVER {
            return None;
        }
        let reason = self.relaxed.first();
        Some(reason.map_or("no reason was kept", |reason| &reason.constraint))
    }
}

/// `solver` of a failed plan. Its reason is kept among the relaxed constraints, so that records and tables keep their
/// layout.
const FAILED_SOLVER: &str = "none";

/// Whether a plan meets the problem as stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The plan meets every constraint; `Plan::gap` says how close to the optimum it is.
    Optimal,
    /// No plan meets every constraint; this one breaks them as little as possible.
    Relaxed,
    /// There is no plan.
    Infeasible,
}

impl Status {
    /// Returns the lower-case name, as in JSON and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Optimal => "optimal",
            Self::Relaxed => "relaxed",
            Self::Infeasible => "infeasible",
        }
    }
}

/// A constraint that the plan breaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relaxation {
    /// Its name, such as `grid.import_limit_kw` or `battery.end_soc_min_kwh`.
    pub constraint: String,
    /// The largest amount by which it is broken, in the unit that the name ends with: more than 0.
    pub amount: f64,
}

/// Figures over the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The bill, currency: import at the buying price minus export at the selling price, without weights and wear.
    pub cost: f64,
    /// Energy imported, kWh: 0 or more.
    pub grid_import_kwh: f64,
    /// Energy exported, kWh: 0 or more.
    pub grid_export_kwh: f64,
    /// Share of the consumption that is not imported: 0 to 1.
    pub autarky: f64,
    /// Share of the PV production that is not exported: 0 to 1.
    pub self_consumption: f64,
}

/// One slot of a plan. All powers are means over the slot, 0 or more. Import and export are never both above 0, and
/// neither are charging and discharging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedSlot {
    /// Start of the slot, UTC epoch milliseconds.
    pub start_ms: i64,
    /// Load, kW, including the appliances that run.
    pub load_kw: f64,
    /// PV power used, kW; less than the available power only if PV is curtailed.
    pub pv_kw: f64,
    /// Power from the grid, kW.
    pub grid_import_kw: f64,
    /// Power to the grid, kW.
    pub grid_export_kw: f64,
    /// Power into the battery at the AC side, kW.
    pub battery_charge_kw: f64,
    /// Power out of the battery at the AC side, kW.
    pub battery_discharge_kw: f64,
    /// SoC of the battery at the end of the slot, kWh; 0 without a battery.
    pub soc_kwh: f64,
    /// Whether each appliance runs, by id.
    pub appliances: BTreeMap<String, bool>,
    /// What each EV does, by id.
    #[serde(default)]
    pub evs: BTreeMap<String, PlannedEv>,
    /// What each heat store does, by id.
    #[serde(default)]
    pub heat: BTreeMap<String, PlannedHeat>,
    /// What one more kWh of load in this slot would cost, currency per kWh.
    pub shadow_price: f64,
    /// What the home does whatever its load and its sun turn out to be. `None` in plans of earlier builds.
    #[serde(default)]
    pub policy: Option<SlotPolicy>,
}

/// An EV in a slot. Charging and discharging are never both above 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedEv {
    /// Power into it at the AC side, kW: 0 or more.
    pub charge_kw: f64,
    /// Power out of it at the AC side, kW: 0 or more.
    pub discharge_kw: f64,
    /// SoC at the end of the slot, kWh: the SoC on arrival before it arrives, the SoC at departure after it has left.
    pub soc_kwh: f64,
}

/// A heat store in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedHeat {
    /// Electric power of the heater, kW: 0 or more.
    pub power_kw: f64,
    /// Temperature at the end of the slot, degrees Celsius.
    pub temperature_c: f64,
}
