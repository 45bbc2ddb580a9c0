//! Answers to requests without a plan, so that nobody waits for one.

use model::request::OptimizeRequest;
use model::schedule::{Plan, Schedule};

/// The answer to a request that is not solved. `why` stands where the solver's name does.
pub(crate) fn unsolved(request: OptimizeRequest, why: &str) -> Schedule {
    answer_with(request, Plan::failed(why), 0)
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
        forecast: request.forecast,
        plan,
    }
}
