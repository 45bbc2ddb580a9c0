//! Answers to requests without a plan, so that nobody waits for one.

use model::request::OptimizeRequest;
use model::schedule::{Metrics, Plan, Schedule, Status};

/// The answer to a request that is not solved. `why` stands where the solver's name does.
pub(crate) fn unsolved(request: OptimizeRequest, why: &str) -> Schedule {
    answer_with(request, no_plan(why), 0)
}

/// The answer to a request, with a plan that took `solve_us`.
pub(crate) fn answer_with(request: OptimizeRequest, plan: Plan, solve_us: i64) -> Schedule {
    Schedule {
        schedule_id: request.request_id.clone(),
        request_id: request.request_id,
        household_id: request.household_id,
        requested_ms: request.requested_ms,
        start_ms: request.problem.start_ms,
        slot_minutes: request.problem.slot_minutes,
        adopt: request.adopt,
        solve_us,
        plan,
    }
}

/// A plan that is none.
pub(crate) fn no_plan(solver: &str) -> Plan {
    let nothing = Metrics {
        cost: 0.0,
        grid_import_kwh: 0.0,
        grid_export_kwh: 0.0,
        autarky: 0.0,
        self_consumption: 0.0,
    };
    Plan {
        status: Status::Infeasible,
        relaxed: Vec::new(),
        objective: 0.0,
        solver: solver.to_owned(),
        gap: 0.0,
        metrics: nothing,
        baseline: nothing,
        slots: Vec::new(),
    }
}
