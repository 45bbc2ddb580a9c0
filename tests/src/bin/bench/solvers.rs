//! The scheduler beside HiGHS and CBC: the same homes in the same run; then a fleet's plans per second and the memory
//! of a worker.
//!
//! A time is that of one call, from the problem in memory to its plan. For HiGHS and CBC that includes building the
//! program, for CBC also a process of its own and the files between, as PuLP has it; `cbc.start_us` shows that part.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use model::problem::Problem;
use model::schedule::{Plan, Status};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use scheduler::{Milp, Solver};

use crate::board::Board;
use crate::cbc::{self, Answer, Cbc};
use crate::instances::Set;
use crate::say::say;
use crate::selection::Selection;
use crate::usage::usage;

/// How much two solvers may differ, as a share of the objective or, if that is below 1, of 1.
const DIFFERENCE_MAX: f64 = 1e-6;
/// Twice the level-3 cache of common servers.
const EVICTED_BYTES: usize = 64 << 20;
const LINE_BYTES: usize = 64;
/// Programs without a home a run.
const STARTS: usize = 20;

/// How many homes are measured.
#[derive(Debug, Args)]
pub(crate) struct Counts {
    /// Homes in each of the solvers' sets.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) homes: u32,
    /// The first homes of each set, which HiGHS and CBC solve too; of sets that are slow there, a half or a quarter.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    compared: u32,
    /// Homes in the fleet.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    fleet: u32,
    /// Run as the worker whose memory is measured, with this many homes of each set.
    #[arg(long, hide = true)]
    pub(crate) worker: Option<u32>,
}

/// Measures what is selected.
pub(crate) fn measure(
    board: &mut Board,
    counts: &Counts,
    runs: usize,
    selection: &Selection,
) -> Result<()> {
    let solvers = ["scheduler", "highs", "cbc"];
    let is_wanted = |set: &Set| {
        let mut rows = solvers.map(|solver| format!("{solver}.{}", set.as_str()));
        rows.iter_mut().any(|row| selection.wants(row))
    };
    let sets: Vec<Set> = Set::ALL.into_iter().filter(is_wanted).collect();
    let mut bench = Bench {
        runs,
        homes: counts.homes,
        compared: counts.compared.min(counts.homes),
        with_highs: selection.wants("highs") || selection.wants("scheduler"),
        cbc: wanted_cbc(selection, !sets.is_empty()),
        core_share: Vec::new(),
    };
    let lines: Result<Vec<Line>> = sets.iter().map(|set| bench.set(board, *set)).collect();
    let lines = lines?;
    if let Some(cbc) = &bench.cbc {
        start_cbc(board, cbc, runs)?;
    }
    if !bench.core_share.is_empty() {
        board.add("scheduler.core_share", "cores", bench.core_share);
    }
    if selection.wants("scheduler.plans_per_s") {
        fleet(board, counts.fleet, runs)?;
    }
    if selection.wants("scheduler.worker_peak_mb") {
        let peaks: Result<Vec<f64>> = (0..runs)
            .map(|_| worker_peak_mb(3 * counts.homes))
            .collect();
        board.add("scheduler.worker_peak_mb", "MB", peaks?);
    }
    print(&lines);
    Ok(())
}

fn wanted_cbc(selection: &Selection, is_needed: bool) -> Option<Cbc> {
    let is_wanted = selection.wants("cbc") || (is_needed && selection.wants("scheduler"));
    if !is_wanted {
        return None;
    }
    match Cbc::prepare() {
        Ok(cbc) => Some(cbc),
        Err(reason) => {
            say(&format!("without rows of CBC: {reason:#}"));
            None
        }
    }
}

/// Median and p99 of each run, microseconds.
#[derive(Debug, Default)]
struct Times {
    median: Vec<f64>,
    p99: Vec<f64>,
}

impl Times {
    fn add(&mut self, us: &[f64]) {
        self.median.push(at_share(us, 50));
        self.p99.push(at_share(us, 99));
    }

    fn rows(&self, board: &mut Board, name: &str) {
        board.add(&format!("{name}_us"), "us", self.median.clone());
        board.add(&format!("{name}_p99_us"), "us", self.p99.clone());
    }

    fn text(&self) -> String {
        format!(
            "{:>9.1} {:>9.1}",
            at_share(&self.median, 50),
            at_share(&self.p99, 50)
        )
    }
}

/// Returns the smallest of `values` that `percent` of them do not exceed.
pub(crate) fn at_share(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.max(1) - 1]
}

/// Another solver on a set.
#[derive(Debug)]
struct Opponent {
    name: &'static str,
    times: Times,
    /// Its median divided by ours on the same homes, in each run.
    ratios: Vec<f64>,
    difference_max: f64,
    /// Searches that ran out of time.
    unproven_count: usize,
}

impl Opponent {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            times: Times {
                median: Vec::new(),
                p99: Vec::new(),
            },
            ratios: Vec::new(),
            difference_max: 0.0,
            unproven_count: 0,
        }
    }

    /// Takes the answers of one run in. `ours` is our time for the same homes.
    fn add(&mut self, set: Set, plans: &[Plan], ours: &[f64], answers: &[Answer]) -> Result<()> {
        ensure!(
            answers.len() == ours.len(),
            "{} answered {} of {} homes",
            self.name,
            answers.len(),
            ours.len()
        );
        for (number, (plan, answer)) in plans.iter().zip(answers).enumerate() {
            let size = plan.objective.abs().max(1.0);
            let difference = (answer.objective - plan.objective) / size;
            let is_same = if answer.is_proven {
                difference.abs() <= DIFFERENCE_MAX
            } else {
                difference >= -DIFFERENCE_MAX
            };
            ensure!(
                is_same,
                "home {number} of {}: {} finds {}, Hearth {}",
                set.as_str(),
                self.name,
                answer.objective,
                plan.objective
            );
            if answer.is_proven {
                self.difference_max = self.difference_max.max(difference.abs());
            } else {
                self.unproven_count += 1;
            }
        }
        let us: Vec<f64> = answers.iter().map(|answer| answer.us).collect();
        self.times.add(&us);
        self.ratios.push(at_share(&us, 50) / at_share(ours, 50));
        Ok(())
    }

    fn rows(&self, board: &mut Board, set: Set) {
        let (name, set) = (self.name, set.as_str());
        self.times.rows(board, &format!("{name}.{set}"));
        // Above 1 where Hearth is the faster one.
        let ratio = format!("scheduler.{set}_ratio_to_{name}");
        board.add(&ratio, "times as fast", self.ratios.clone());
    }

    fn text(&self) -> String {
        format!(
            "{} {:>7.0} {:>8.1e} {:>4}",
            self.times.text(),
            at_share(&self.ratios, 50),
            self.difference_max,
            self.unproven_count
        )
    }
}

/// A set in the table.
#[derive(Debug)]
struct Line {
    set: Set,
    ours: Times,
    cold: Option<Times>,
    highs: Option<Opponent>,
    cbc: Option<Opponent>,
    /// How many homes each method solved.
    methods: String,
}

struct Bench {
    runs: usize,
    homes: u32,
    compared: u32,
    with_highs: bool,
    cbc: Option<Cbc>,
    /// The share of a core that this thread got in each run: below 1 if others use the machine.
    core_share: Vec<f64>,
}

impl Bench {
    fn set(&mut self, board: &mut Board, set: Set) -> Result<Line> {
        say(&format!("{}: {} homes ...", set.as_str(), self.homes));
        let problems = set.problems(self.homes)?;
        let compared = (self.compared / slowness(set)).max(1);
        let first = &problems[..usize::try_from(compared)?];
        let mut solver = Solver::default();
        let plans = plans(&mut solver, set, &problems)?;
        let file = PathBuf::from(format!("target/bench/{}.jsonl", set.as_str()));
        let mut line = Line {
            set,
            ours: Times::default(),
            cold: (set == Set::Battery).then(Times::default),
            highs: (self.with_highs && set.is_certain()).then(|| Opponent::new("highs")),
            cbc: (self.cbc.is_some() && set.is_for_cbc()).then(|| Opponent::new("cbc")),
            methods: methods(&plans),
        };
        if line.cbc.is_some() {
            cbc::write_homes(&file, first)?;
        }
        for run in 1..=self.runs {
            say(&format!("{}: run {run} of {} ...", set.as_str(), self.runs));
            let watch = Watch::start()?;
            let ours = warm_us(&mut solver, &problems)?;
            let same = &ours[..first.len()];
            line.ours.add(&ours);
            if let Some(cold) = &mut line.cold {
                cold.add(&cold_us(&mut solver, &problems)?);
            }
            if let Some(highs) = &mut line.highs {
                highs.add(set, &plans, same, &by_highs(first)?)?;
            }
            self.core_share.push(watch.share()?);
            if let (Some(opponent), Some(cbc)) = (&mut line.cbc, &self.cbc) {
                opponent.add(set, &plans, same, &cbc.solve(&file)?)?;
            }
        }
        line.ours
            .rows(board, &format!("scheduler.{}", set.as_str()));
        if let Some(cold) = &line.cold {
            cold.rows(board, &format!("scheduler.{}_cold", set.as_str()));
        }
        for opponent in line.highs.iter().chain(&line.cbc) {
            opponent.rows(board, set);
        }
        Ok(line)
    }
}

/// The factor by which the other solvers get fewer homes of the set, so that a run does not take an hour.
const fn slowness(set: Set) -> u32 {
    match set {
        Set::Battery | Set::Ev | Set::Appliances1 | Set::Appliances2 | Set::Scenarios30 => 1,
        Set::Appliances3 => 2,
        Set::Appliances4 | Set::Nonconvex | Set::EvBattery | Set::TankBattery | Set::EvTank => 4,
    }
}

/// Every home's plan, each optimal and without a fault.
fn plans(solver: &mut Solver, set: Set, problems: &[Problem]) -> Result<Vec<Plan>> {
    let mut plans = Vec::with_capacity(problems.len());
    for (number, problem) in problems.iter().enumerate() {
        let plan = solver.solve(problem)?;
        let faults = scheduler::verify(problem, &plan);
        ensure!(
            plan.status == Status::Optimal && plan.gap == 0.0 && faults.is_empty(),
            "home {number} of {}: {:?} with gap {}, {faults:?}",
            set.as_str(),
            plan.status,
            plan.gap
        );
        plans.push(plan);
    }
    Ok(plans)
}

fn methods(plans: &[Plan]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for plan in plans {
        *counts.entry(&plan.solver).or_default() += 1;
    }
    let texts: Vec<String> = counts
        .iter()
        .map(|(method, count)| format!("{method} {count}"))
        .collect();
    texts.join(", ")
}

fn us(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

/// Each home once, one after the other, as a busy worker does it. Dropping the plan is part of it.
fn warm_us(solver: &mut Solver, problems: &[Problem]) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(problems.len());
    for problem in problems {
        let begun = Instant::now();
        drop(black_box(solver.solve(black_box(problem))?));
        times.push(us(begun));
    }
    Ok(times)
}

/// A single call in a worker that has done something else since its last one. Before each call every line of an array
/// of 64 MiB is read and written, so that the core's caches and the TLB hold that: neither the problem, nor the
/// solver's arrays, nor its code are there. The solver is the warm one: its arrays are allocated, and the code's pages
/// are mapped.
fn cold_us(solver: &mut Solver, problems: &[Problem]) -> Result<Vec<f64>> {
    let mut array = vec![1_u8; EVICTED_BYTES];
    let mut times = Vec::with_capacity(problems.len());
    for problem in problems {
        for byte in array.iter_mut().step_by(LINE_BYTES) {
            *byte = byte.wrapping_add(1);
        }
        black_box(&mut array);
        let begun = Instant::now();
        drop(black_box(solver.solve(black_box(problem))?));
        times.push(us(begun));
    }
    Ok(times)
}

fn by_highs(problems: &[Problem]) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(problems.len());
    for problem in problems {
        let begun = Instant::now();
        let found = scheduler::by_milp(black_box(problem), Milp::Highs)?;
        let us = us(begun);
        let found = found.context("HiGHS finds a plan")?;
        let missing = (found.cost - found.bound) / found.cost.abs().max(1.0);
        answers.push(Answer {
            us,
            objective: found.cost,
            is_proven: missing <= DIFFERENCE_MAX,
        });
    }
    Ok(answers)
}

/// Measures the time of PuLP and CBC without a home.
fn start_cbc(board: &mut Board, cbc: &Cbc, runs: usize) -> Result<()> {
    let file = PathBuf::from("target/bench/nothing.jsonl");
    cbc::write_nothing(&file, STARTS)?;
    let mut times = Times::default();
    for _ in 0..runs {
        let us: Vec<f64> = cbc.solve(&file)?.iter().map(|answer| answer.us).collect();
        times.add(&us);
    }
    board.add("cbc.start_us", "us", times.median);
    Ok(())
}

/// Wall and processor time of this thread.
struct Watch {
    begun: Instant,
    used: Duration,
}

impl Watch {
    fn start() -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            used: thread_time()?,
        })
    }

    fn share(&self) -> Result<f64> {
        let used = thread_time()?.saturating_sub(self.used);
        Ok(used.as_secs_f64() / self.begun.elapsed().as_secs_f64())
    }
}

fn thread_time() -> Result<Duration> {
    let used = getrusage(UsageWho::RUSAGE_THREAD).context("ask for the thread's time")?;
    let us = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(us)?))
}

/// Battery plans of a whole fleet, by one thread and by two with a solver each.
fn fleet(board: &mut Board, homes: u32, runs: usize) -> Result<()> {
    say(&format!("fleet: stating {homes} homes ..."));
    let problems = Set::Battery.problems(homes)?;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        say(&format!("fleet: run {run} of {runs} ..."));
        one.push(plans_per_s(&problems, 1)?);
        two.push(plans_per_s(&problems, 2)?);
    }
    board.add("scheduler.plans_per_s_core", "plans/s", one);
    board.add("scheduler.plans_per_s_two_cores", "plans/s", two);
    Ok(())
}

fn plans_per_s(problems: &[Problem], threads_count: usize) -> Result<f64> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let parts = problems.chunks(problems.len().div_ceil(threads_count));
        let threads: Vec<_> = parts
            .map(|part| {
                scope.spawn(move || {
                    let mut solver = Solver::default();
                    part.iter().try_for_each(|problem| {
                        solver.solve(problem).map(|plan| drop(black_box(plan)))
                    })
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a solver does not panic"))
    })?;
    Ok(f64::from(u32::try_from(problems.len())?) / begun.elapsed().as_secs_f64())
}

/// Resident memory of a process that has solved `homes` of every set, at its highest, MB.
fn worker_peak_mb(homes: u32) -> Result<f64> {
    say(&format!("worker: {homes} homes of every set ..."));
    let program = std::env::current_exe().context("find this program")?;
    let output = Command::new(program)
        .args(["--worker", &homes.to_string()])
        .output()
        .context("start the worker")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "the worker failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.trim().parse().with_context(|| format!("read {text}"))
}

/// Solves `homes` of every set, one home at a time in memory, and prints the peak in MB.
pub(crate) fn work(homes: u32) -> Result<()> {
    let mut solver = Solver::default();
    for set in Set::ALL {
        for number in 0..homes {
            black_box(solver.solve(&set.problem(number)?)?);
        }
    }
    let (_, peak_mb) = usage(std::process::id())?;
    say(&peak_mb.to_string());
    Ok(())
}

/// Medians over the runs, a line for each set. Ratios are of medians on the same homes; `open` counts searches that ran
/// out of time.
fn print(lines: &[Line]) {
    if lines.is_empty() {
        return;
    }
    let times = format!("{:>9} {:>9}", "median", "p99");
    let opponent = format!("{times} {:>7} {:>8} {:>4}", "ratio", "differs", "open");
    say(&format!(
        "\n{:<12} {:>19} | {:<41} | {:<41} |",
        "microseconds", "Hearth", "HiGHS", "CBC through PuLP"
    ));
    say(&format!(
        "{:<12} {times} | {opponent} | {opponent} | solved by",
        ""
    ));
    let none = || format!("{:>41}", "-");
    for line in lines {
        let text =
            |opponent: &Option<Opponent>| opponent.as_ref().map_or_else(none, Opponent::text);
        say(&format!(
            "{:<12} {} | {} | {} | {}",
            line.set.as_str(),
            line.ours.text(),
            text(&line.highs),
            text(&line.cbc),
            line.methods
        ));
        if let Some(cold) = &line.cold {
            say(&format!("{:<12} {} |", "  cold", cold.text()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_values() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(at_share(&values, 50), 100.0);
        assert_eq!(at_share(&values, 99), 198.0);
        assert_eq!(at_share(&[7.0], 99), 7.0);
    }

    #[test]
    fn highs_finds_what_the_scheduler_finds() {
        let mut solver = Solver::default();
        for set in Set::ALL.into_iter().filter(|set| set.is_certain()) {
            let problems = set.problems(3).unwrap();
            let plans = plans(&mut solver, set, &problems).unwrap();
            let ours = warm_us(&mut solver, &problems).unwrap();
            let answers = by_highs(&problems).unwrap();
            let mut highs = Opponent::new("highs");
            highs.add(set, &plans, &ours, &answers).unwrap();
            assert_eq!(highs.unproven_count, 0, "{}", set.as_str());
        }
    }

    #[test]
    fn another_objective_is_an_error_that_names_the_home() {
        let problems = Set::Battery.problems(2).unwrap();
        let plans = plans(&mut Solver::default(), Set::Battery, &problems).unwrap();
        let mut answers = by_highs(&problems).unwrap();
        answers[1].objective += 1e-4;
        let mut opponent = Opponent::new("highs");
        let refused = opponent.add(Set::Battery, &plans, &[1.0, 1.0], &answers);
        let reason = refused.unwrap_err().to_string();
        assert!(
            reason.starts_with("home 1 of battery: highs finds"),
            "{reason}"
        );
    }
}
