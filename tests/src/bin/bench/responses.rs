//! Answers to signals beside whole plans: the same homes, with a price in each slot, and with caps as well.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use loadtest::draw::Draw;
use model::problem::{Problem, Signal};
use scheduler::Solver;

use crate::board::Board;
use crate::instances::Set;
use crate::say::say;
use crate::solvers::at_share;

const SETS: [Set; 4] = [Set::Battery, Set::Ev, Set::Appliances1, Set::EvBattery];
/// How much an answer may differ from its plan, as a share of the cost or, if that is below 1, of 1.
const DIFFERENCE_MAX: f64 = 1e-6;
const BREACH_PRICE: f64 = 2.0;

/// Measures `homes` of each set.
pub(crate) fn measure(board: &mut Board, homes: u32, runs: usize) -> Result<()> {
    for set in SETS {
        say(&format!("answers of {}: {homes} homes ...", set.as_str()));
        let problems = set.problems(homes)?;
        for (name, has_caps) in [("priced", false), ("capped", true)] {
            let asked: Vec<(Problem, Signal)> = problems
                .iter()
                .map(|problem| (problem.clone(), signal(problem, has_caps)))
                .collect();
            let mut solver = Solver::default();
            agree(&mut solver, set, &asked)?;
            let (mut answers, mut p99, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..runs {
                let plans = plans_us(&mut solver, &asked)?;
                let us = answers_us(&mut solver, &asked);
                ratios.push(at_share(&plans, 50) / at_share(&us, 50));
                answers.push(at_share(&us, 50));
                p99.push(at_share(&us, 99));
            }
            let row = format!("respond.{}_{name}", set.as_str());
            board.add(&format!("{row}_us"), "us", answers);
            board.add(&format!("{row}_p99_us"), "us", p99);
            // Above 1 where the answer is faster than the plan under the same signal.
            board.add(&format!("{row}_ratio_to_solve"), "times as fast", ratios);
        }
    }
    Ok(())
}

/// Prices of up to 5 ct either way; import capped at what lies between 1 and 4 kW in a quarter of the slots, and export
/// at 1 kW in another.
fn signal(problem: &Problem, has_caps: bool) -> Signal {
    let draw = &mut Draw::new(17, problem.household_id);
    let slots = problem.load_kw.len();
    let price_per_kwh = (0..slots).map(|_| 0.1 * draw.unit() - 0.05).collect();
    if !has_caps {
        return Signal {
            price_per_kwh,
            ..Signal::default()
        };
    }
    let from = usize::try_from(draw.below(48)).expect("an index");
    let import_kw = 1.0 + 3.0 * draw.unit();
    let within = |t: usize, from: usize| (from..from + slots / 4).contains(&t);
    Signal {
        price_per_kwh,
        import_cap_kw: (0..slots)
            .map(|t| within(t, from).then_some(import_kw))
            .collect(),
        export_cap_kw: (0..slots)
            .map(|t| within(t, from + slots / 4).then_some(1.0))
            .collect(),
        import_breach_price_per_kwh: BREACH_PRICE,
        export_breach_price_per_kwh: BREACH_PRICE,
    }
}

fn stated((problem, signal): &(Problem, Signal)) -> Problem {
    Problem {
        signal: Some(signal.clone()),
        ..problem.clone()
    }
}

fn agree(solver: &mut Solver, set: Set, asked: &[(Problem, Signal)]) -> Result<()> {
    for (number, home) in asked.iter().enumerate() {
        let answer = solver.respond(&home.0, &home.1);
        let stated = stated(home);
        let plan = solver.solve(&stated)?;
        let cost = scheduler::penalised(&stated, &plan);
        ensure!(
            (answer.value - cost).abs() <= DIFFERENCE_MAX * cost.abs().max(1.0),
            "home {number} of {}: the answer costs {}, the plan {cost}",
            set.as_str(),
            answer.value
        );
    }
    Ok(())
}

fn us(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

fn answers_us(solver: &mut Solver, asked: &[(Problem, Signal)]) -> Vec<f64> {
    let mut times = Vec::with_capacity(asked.len());
    for (problem, signal) in asked {
        let begun = Instant::now();
        drop(black_box(solver.respond(black_box(problem), signal)));
        times.push(us(begun));
    }
    times
}

fn plans_us(solver: &mut Solver, asked: &[(Problem, Signal)]) -> Result<Vec<f64>> {
    let stated: Vec<Problem> = asked.iter().map(stated).collect();
    let mut times = Vec::with_capacity(stated.len());
    for problem in &stated {
        let begun = Instant::now();
        drop(black_box(solver.solve(black_box(problem))?));
        times.push(us(begun));
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_plans() {
        let mut solver = Solver::default();
        for set in SETS {
            for has_caps in [false, true] {
                let problems = set.problems(3).unwrap();
                let asked: Vec<_> = problems
                    .into_iter()
                    .map(|problem| (problem.clone(), signal(&problem, has_caps)))
                    .collect();
                agree(&mut solver, set, &asked).unwrap();
            }
        }
    }
}
