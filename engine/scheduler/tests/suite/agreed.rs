//! One problem solved twice: as usual, and by the mixed-integer program without a gap. Panics where the two differ.

use model::problem::Problem;
use model::schedule::{Plan, Status};
use scheduler::{Milp, penalised, reference, solve, verify};

/// Largest difference of objectives, relative to the larger of 1 and the objective.
const SAME: f64 = 1e-7;
/// Wall time for one search of the mixed-integer program, seconds.
pub(crate) const REFERENCE_SECONDS: f64 = 30.0;

/// A plan that is proven and passes every check. `label` says which problem failed.
pub(crate) fn proven(label: &str, problem: &Problem) -> Plan {
    let plan = solve(problem).expect("the problem can be stated");
    let broken = verify(problem, &plan);
    assert!(broken.is_empty(), "{label}: {broken:#?} {problem:#?}");
    assert_eq!(plan.gap, 0.0, "{label}");
    plan
}

/// As [`proven`], and no worse than what the mixed-integer program finds.
pub(crate) fn agreed(label: &str, problem: &Problem) -> Plan {
    let plan = proven(label, problem);
    let oracle =
        reference(problem, Milp::Highs, REFERENCE_SECONDS).expect("the problem can be stated");
    assert_eq!(plan.status, oracle.status, "{label}: {problem:#?}");
    let (found, best) = match plan.status {
        Status::Optimal => (plan.objective, oracle.objective),
        Status::Relaxed | Status::Infeasible => {
            (penalised(problem, &plan), penalised(problem, &oracle))
        }
    };
    assert!(
        (found - best).abs() <= SAME * best.abs().max(1.0),
        "{label}: {found} by {} instead of {best}: {problem:#?}",
        plan.solver
    );
    plan
}
