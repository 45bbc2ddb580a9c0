//! Solves a program with HiGHS: no output, one thread, deterministic except for the time limit.

use highs::{HighsModelStatus, HighsSolutionStatus, Model, RowProblem, Sense};

use crate::linear::{Program, Search, Solved, Unsolved};

/// Tolerances on rows and reduced costs: finer than the tie-break.
const FEASIBILITY: f64 = 1e-9;

/// Returns the best solution of `program`, with prices of its rows.
pub(crate) fn solve(program: &Program, search: Search) -> Result<Solved, Unsolved> {
    let mut problem = RowProblem::default();
    let columns: Vec<highs::Col> = (0..program.costs.len())
        .map(|index| {
            let bounds = program.lows[index]..=program.highs[index];
            let is_binary = program.are_binary[index];
            problem.add_column_with_integrality(program.costs[index], bounds, is_binary)
        })
        .collect();
    for row in &program.rows {
        let terms = row.terms.iter();
        let terms = terms.map(|(column, factor)| (columns[column.index()], *factor));
        problem.add_row(row.least..=row.most, terms);
    }
    let model = problem.try_optimise(Sense::Minimise);
    run(
        model.map_err(|_| Unsolved::Failed)?,
        program.is_discrete(),
        search,
    )
}

fn run(mut model: Model, is_discrete: bool, search: Search) -> Result<Solved, Unsolved> {
    model.set_option("threads", 1);
    model.set_option("parallel", "off");
    model.set_option("random_seed", 0);
    model.set_option("time_limit", search.seconds.max(0.0));
    model.set_option("mip_rel_gap", search.gap_relative);
    model.set_option("mip_abs_gap", search.gap_absolute);
    model.set_option("primal_feasibility_tolerance", FEASIBILITY);
    model.set_option("dual_feasibility_tolerance", FEASIBILITY);
    let solved = model.try_solve().map_err(|_| Unsolved::Failed)?;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is open, and every other state is a failure of the solver"
    )]
    let is_proven = match solved.status() {
        HighsModelStatus::Optimal => true,
        HighsModelStatus::Infeasible | HighsModelStatus::UnboundedOrInfeasible => {
            return Err(Unsolved::Infeasible);
        }
        HighsModelStatus::ReachedTimeLimit if is_discrete => false,
        _ => return Err(Unsolved::Failed),
    };
    if !is_proven && solved.primal_solution_status() != HighsSolutionStatus::Feasible {
        return Err(Unsolved::Failed);
    }
    let objective = solved.objective_value();
    let bound = if is_discrete {
        solved
            .double_info_value(c"mip_dual_bound")
            .unwrap_or(f64::NEG_INFINITY)
    } else {
        objective
    };
    let solution = solved.get_solution();
    Ok(Solved {
        values: solution.columns().to_vec(),
        duals: solution.dual_rows().to_vec(),
        objective,
        bound,
    })
}
