//! Solves a program with microlp: branch and bound over a simplex, in Rust. One thread, deterministic except for the time
//! limit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use microlp::{
    ComparisonOp, Error, OptimizationDirection, Problem, Solution, SolutionStatus, SolveOptions,
    SolveOutcome, Variable,
};

use crate::linear::{Program, Search, Solved, Unsolved};

/// How far a bound may be missed; the smallest value that the solver accepts is a tenth of it.
const FEASIBILITY: f64 = 1e-9;
/// How far a binary may be from 0 or 1.
const INTEGRALITY: f64 = 1e-9;

/// Returns the best solution of `program`, with prices of its rows if it has no binaries.
pub(crate) fn solve(program: &Program, search: Search) -> Result<Solved, Unsolved> {
    let mut solved = run(program, search)?;
    if !program.is_discrete() {
        let (dual, prices) = program.dual();
        if let Ok(priced) = run(&dual, search) {
            solved.duals = prices.iter().map(|row| row.of(&priced.values)).collect();
        }
    }
    Ok(solved)
}

fn run(program: &Program, search: Search) -> Result<Solved, Unsolved> {
    let mut problem = Problem::new(OptimizationDirection::Minimize);
    let columns: Vec<Variable> = (0..program.costs.len())
        .map(|index| {
            let cost = program.costs[index];
            if program.are_binary[index] {
                problem.add_binary_var(cost)
            } else {
                problem.add_var(cost, (program.lows[index], program.highs[index]))
            }
        })
        .collect();
    for row in &program.rows {
        let terms = || {
            let terms = row.terms.iter();
            terms.map(|(column, factor)| (columns[column.index()], *factor))
        };
        if row.least == row.most {
            problem.add_constraint(terms(), ComparisonOp::Eq, row.least);
            continue;
        }
        if row.least.is_finite() {
            problem.add_constraint(terms(), ComparisonOp::Ge, row.least);
        }
        if row.most.is_finite() {
            problem.add_constraint(terms(), ComparisonOp::Le, row.most);
        }
    }
    let mut options = SolveOptions::default();
    options.time_limit = Some(Duration::from_secs_f64(search.seconds.clamp(0.0, 1e6)));
    options.mip_gap = search.gap_relative;
    options.int_tol = INTEGRALITY;
    options.tolerances.feasibility = FEASIBILITY;
    options.tolerances.prune_epsilon = search.gap_absolute.max(1e-12);
    // A panic of the solver counts as a failed search.
    let outcome = catch_unwind(AssertUnwindSafe(|| problem.solve_with(options)));
    let Ok(outcome) = outcome else {
        return Err(Unsolved::Failed);
    };
    match outcome {
        Ok(SolveOutcome::Solution(solution)) => taken(program, &columns, &solution),
        Err(Error::Infeasible) => Err(Unsolved::Infeasible),
        Ok(SolveOutcome::Interrupted(_)) | Err(_) => Err(Unsolved::Failed),
    }
}

fn taken(program: &Program, columns: &[Variable], solution: &Solution) -> Result<Solved, Unsolved> {
    let objective = solution.objective();
    let bound = match solution.status() {
        SolutionStatus::Optimal => objective,
        // A linear program that was stopped has no bound.
        SolutionStatus::Feasible if !program.is_discrete() => return Err(Unsolved::Failed),
        SolutionStatus::Feasible => {
            let known = solution.stats().best_bound;
            known.map_or(f64::NEG_INFINITY, |bound| bound.min(objective))
        }
    };
    Ok(Solved {
        values: columns
            .iter()
            .map(|column| solution.var_value(*column))
            .collect(),
        duals: Vec::new(),
        objective,
        bound,
    })
}
