//! The mixed-integer program: columns, rows, and HiGHS. Quiet, one thread, deterministic.
//! Never reports a figure of a plan; it decides start slots and SoC, proves a bound, and prices the balance.

use good_lp::solvers::highs::{HighsProblem, highs};
use good_lp::{Constraint, Expression, ProblemVariables, Variable, VariableDefinition, variable};
use highs::{HighsModelStatus, HighsSolutionStatus};
use household::problem::{Appliance, Battery, Problem};

use crate::dispatch::Decisions;
use crate::terms::Terms;

/// Relative gap at which HiGHS may stop.
const GAP_RELATIVE: f64 = 1e-6;
/// Absolute gap at which HiGHS may stop, in multiples of the largest price.
const GAP_ABSOLUTE: f64 = 1e-7;
/// HiGHS's tolerances on rows and reduced costs: finer than the tie-break.
const FEASIBILITY: f64 = 1e-9;
/// Powers below this have no direction, kW.
const DIRECTIONLESS_KW: f64 = 1e-7;

/// The slots in which two flows exclude each other by a binary.
#[derive(Debug)]
pub(crate) struct Exclusions {
    battery: Vec<bool>,
    grid: Vec<bool>,
}

impl Exclusions {
    /// Where doing both could pay, seen from the slot alone.
    pub(crate) fn where_they_pay(problem: &Problem, terms: &Terms) -> Self {
        let everywhere = Self::everywhere(problem, terms);
        let Some(battery) = &problem.battery else {
            return everywhere;
        };
        let loss = 1.0 / battery.charge_efficiency - battery.discharge_efficiency;
        let pays = |t: usize| {
            // Surplus PV that can be thrown away is worth nothing less than 0.
            let surplus = if problem.pv_curtailable && problem.pv_kw[t] > 0.0 {
                terms.sell[t].max(0.0)
            } else {
                terms.sell[t]
            };
            let too_much = problem.grid.export_limit_kw.is_some_and(|limit| {
                !problem.pv_curtailable && problem.pv_kw[t] - problem.load_kw[t] > limit
            });
            let worth = terms.buy[t].min(surplus);
            loss > 0.0 && (too_much || worth * loss + 2.0 * battery.wear_cost_per_kwh < 0.0)
        };
        Self {
            battery: (0..terms.buy.len())
                .map(|t| everywhere.battery[t] && pays(t))
                .collect(),
            grid: everywhere.grid,
        }
    }

    /// Wherever both flows are possible. Importing and exporting at once costs `buy - sell`, so that where this is
    /// not negative, dropping it from a plan makes the plan no worse and breaks no limit.
    pub(crate) fn everywhere(problem: &Problem, terms: &Terms) -> Self {
        let both = problem
            .battery
            .as_ref()
            .is_some_and(|battery| battery.charge_kw > 0.0 && battery.discharge_kw > 0.0);
        let prices = terms.buy.iter().zip(&terms.sell);
        Self {
            battery: vec![both; terms.buy.len()],
            grid: prices.map(|(buy, sell)| sell > buy).collect(),
        }
    }
}

/// What a search found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) decisions: Decisions,
    /// The objective as the search has it, currency: with tie-break and penalties.
    pub(crate) cost: f64,
    /// No plan costs less, currency.
    pub(crate) bound: f64,
    /// Dual of each slot's balance, currency per kWh.
    pub(crate) shadow_prices: Vec<f64>,
}

/// Why there is nothing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsolved {
    /// No plan keeps every limit.
    Infeasible,
    /// The solver gave up, or ran out of time with nothing found.
    Failed,
}

/// Searches, then solves again with the discrete choices held, which gives prices and the least movement.
pub(crate) fn search(
    problem: &Problem,
    terms: &Terms,
    exclusions: &Exclusions,
    seconds: f64,
) -> Result<Found, Unsolved> {
    let caps = Caps::of(problem, terms);
    let program = Program::new(problem, terms, &caps, Some(exclusions), None);
    let is_discrete = program.is_discrete;
    let (columns, first) = program.run(seconds)?;
    let starts = columns.starts(&first.values);
    if !is_discrete {
        return Ok(found(problem, terms, &columns, &first, starts, first.bound));
    }
    let held = caps.held(&columns, &first.values, exclusions);
    let second = Program::new(problem, terms, &held, None, Some(&starts)).run(seconds);
    let bound = first.bound;
    Ok(match second {
        Ok((columns, values)) => found(problem, terms, &columns, &values, starts, bound),
        // Held to the last digit the program may just fail; what was found still stands.
        Err(Unsolved::Infeasible | Unsolved::Failed) => {
            found(problem, terms, &columns, &first, starts, bound)
        }
    })
}

fn found(
    problem: &Problem,
    terms: &Terms,
    columns: &Columns,
    solved: &Solved,
    starts: Vec<usize>,
    bound: f64,
) -> Found {
    let at = |column: &Column| solved.values[column.index];
    Found {
        decisions: Decisions {
            starts,
            soc_kwh: columns.soc.iter().map(at).collect(),
        },
        cost: solved.objective * terms.scale,
        bound: bound * terms.scale,
        // The balance rows are the first ones; a kW for a slot is `dt` kWh.
        shadow_prices: solved
            .duals
            .iter()
            .take(problem.load_kw.len())
            .map(|dual| dual * terms.scale / terms.dt)
            .collect(),
    }
}

/// Largest power of each flow in each slot, kW; infinite where nothing limits it.
struct Caps {
    charge: Vec<f64>,
    discharge: Vec<f64>,
    import: Vec<f64>,
    export: Vec<f64>,
}

impl Caps {
    fn of(problem: &Problem, terms: &Terms) -> Self {
        let slots_count = problem.load_kw.len();
        let battery = problem.battery.as_ref();
        let grid = |limit: Option<f64>| match limit {
            Some(limit) if !terms.is_relaxed() => limit,
            Some(_) | None => f64::INFINITY,
        };
        Self {
            charge: vec![battery.map_or(0.0, |b| b.charge_kw); slots_count],
            discharge: vec![battery.map_or(0.0, |b| b.discharge_kw); slots_count],
            import: vec![grid(problem.grid.import_limit_kw); slots_count],
            export: vec![grid(problem.grid.export_limit_kw); slots_count],
        }
    }

    /// The same with the direction of every excluded pair fixed as in `values`. A slot in which the battery rests
    /// keeps resting, and a meter that stands still may import.
    fn held(&self, columns: &Columns, values: &[f64], exclusions: &Exclusions) -> Self {
        let flows = |column: &Column| values[column.index] > DIRECTIONLESS_KW;
        let mut held = Self {
            charge: self.charge.clone(),
            discharge: self.discharge.clone(),
            import: self.import.clone(),
            export: self.export.clone(),
        };
        for t in 0..values.len().min(self.import.len()) {
            if exclusions.grid[t] {
                if flows(&columns.export[t]) && !flows(&columns.import[t]) {
                    held.import[t] = 0.0;
                } else {
                    held.export[t] = 0.0;
                }
            }
            if exclusions.battery[t] && !columns.soc.is_empty() {
                if !flows(&columns.charge[t]) {
                    held.charge[t] = 0.0;
                }
                if !flows(&columns.discharge[t]) {
                    held.discharge[t] = 0.0;
                }
            }
        }
        held
    }
}

/// A column of the program and its place in the solution.
#[derive(Debug, Clone, Copy)]
struct Column {
    variable: Variable,
    index: usize,
}

/// The columns by meaning, a slot each; battery columns are absent without a battery.
#[derive(Debug, Default)]
struct Columns {
    import: Vec<Column>,
    export: Vec<Column>,
    charge: Vec<Column>,
    discharge: Vec<Column>,
    soc: Vec<Column>,
    /// For each appliance its possible start slots. Empty where they are held.
    start_choices: Vec<Vec<(usize, Column)>>,
    held_starts: Vec<usize>,
}

impl Columns {
    fn starts(&self, values: &[f64]) -> Vec<usize> {
        let chosen = self.start_choices.iter().map(|choices| {
            choices
                .iter()
                .max_by(|(_, a), (_, b)| values[a.index].total_cmp(&values[b.index]))
                .map_or(0, |(slot, _)| *slot)
        });
        self.held_starts.iter().copied().chain(chosen).collect()
    }
}

/// A solution of the program, in multiples of the largest price.
#[derive(Debug)]
struct Solved {
    values: Vec<f64>,
    duals: Vec<f64>,
    objective: f64,
    bound: f64,
}

struct Program<'a> {
    problem: &'a Problem,
    terms: &'a Terms,
    variables: ProblemVariables,
    objective: Expression,
    balances: Vec<Constraint>,
    rows: Vec<Constraint>,
    columns: Columns,
    is_discrete: bool,
}

impl<'a> Program<'a> {
    /// `exclusions` makes binaries; `starts` holds the appliances, which makes the program linear without them.
    fn new(
        problem: &'a Problem,
        terms: &'a Terms,
        caps: &Caps,
        exclusions: Option<&Exclusions>,
        starts: Option<&[usize]>,
    ) -> Self {
        let mut program = Self {
            problem,
            terms,
            variables: ProblemVariables::new(),
            objective: Expression::default(),
            balances: Vec::new(),
            rows: Vec::new(),
            columns: Columns::default(),
            is_discrete: false,
        };
        let mut balances = program.meter(caps);
        if let Some(battery) = &problem.battery {
            program.battery(battery, caps, &mut balances);
        }
        program.appliances(starts, &mut balances);
        program.balances = balances
            .into_iter()
            .zip(&problem.load_kw)
            .map(|(balance, load)| balance.eq(*load))
            .collect();
        if let Some(exclusions) = exclusions {
            program.exclude(caps, exclusions);
        }
        program
    }

    fn column(&mut self, definition: VariableDefinition) -> Column {
        let index = self.variables.len();
        Column {
            variable: self.variables.add(definition),
            index,
        }
    }

    /// Adds `cost`, currency per unit of `column`.
    fn charge_for(&mut self, column: Column, cost: f64) {
        self.objective
            .add_mul(cost / self.terms.scale, column.variable);
    }

    /// Import, export and PV of each slot. Returns the balances: what flows in less what flows out.
    fn meter(&mut self, caps: &Caps) -> Vec<Expression> {
        let dt = self.terms.dt;
        let mut balances = Vec::with_capacity(caps.import.len());
        for t in 0..caps.import.len() {
            let import = self.column(variable().min(0.0).max(caps.import[t]));
            let export = self.column(variable().min(0.0).max(caps.export[t]));
            self.charge_for(import, dt * self.terms.buy[t]);
            self.charge_for(export, -dt * self.terms.sell[t]);
            if self.terms.is_relaxed() {
                self.soften_limit(import, self.problem.grid.import_limit_kw);
                self.soften_limit(export, self.problem.grid.export_limit_kw);
            }
            let mut balance = Expression::with_capacity(8);
            balance.add_mul(1.0, import.variable);
            balance.add_mul(-1.0, export.variable);
            let available = self.problem.pv_kw[t];
            if self.problem.pv_curtailable && available > 0.0 {
                let pv = self.column(variable().min(0.0).max(available));
                balance.add_mul(1.0, pv.variable);
            } else {
                balance += available;
            }
            self.columns.import.push(import);
            self.columns.export.push(export);
            balances.push(balance);
        }
        balances
    }

    /// Lets `flow` pass its limit at a penalty.
    fn soften_limit(&mut self, flow: Column, limit: Option<f64>) {
        let Some(limit) = limit else { return };
        let over = self.column(variable().min(0.0));
        self.charge_for(over, self.terms.dt * self.terms.grid_penalty());
        let mut row = Expression::from(flow.variable);
        row.add_mul(-1.0, over.variable);
        self.rows.push(row.leq(limit));
    }

    fn battery(&mut self, battery: &Battery, caps: &Caps, balances: &mut [Expression]) {
        let dt = self.terms.dt;
        let rise = dt * battery.charge_efficiency;
        let fall = dt / battery.discharge_efficiency;
        let movement = self.terms.movement(battery);
        for (t, balance) in balances.iter_mut().enumerate() {
            let charge = self.column(variable().min(0.0).max(caps.charge[t]));
            let discharge = self.column(variable().min(0.0).max(caps.discharge[t]));
            let soc = self.column(variable().min(self.terms.soc_min).max(self.terms.soc_max));
            self.charge_for(charge, movement * rise);
            self.charge_for(discharge, movement * fall);
            balance.add_mul(-1.0, charge.variable);
            balance.add_mul(1.0, discharge.variable);
            let mut change = Expression::from(soc.variable);
            change.add_mul(-rise, charge.variable);
            change.add_mul(fall, discharge.variable);
            match self.columns.soc.last() {
                Some(before) => change.add_mul(-1.0, before.variable),
                None => change += -battery.soc_kwh,
            }
            self.rows.push(change.eq(0.0));
            if self.terms.soc_min < battery.min_soc_kwh {
                self.floor(soc, battery.min_soc_kwh);
            }
            if self.terms.soc_max > battery.max_soc_kwh {
                self.ceiling(soc, battery.max_soc_kwh);
            }
            self.columns.charge.push(charge);
            self.columns.discharge.push(discharge);
            self.columns.soc.push(soc);
        }
        if let Some(last) = self.columns.soc.last().copied() {
            self.charge_for(last, -battery.end_value_per_kwh);
            self.floor(last, battery.end_soc_min_kwh);
        }
    }

    /// Keeps `soc` at `limit` or above; softly where the terms are relaxed.
    fn floor(&mut self, soc: Column, limit: f64) {
        let mut row = Expression::from(soc.variable);
        if self.terms.is_relaxed() {
            let short = self.column(variable().min(0.0));
            self.charge_for(short, self.terms.soc_penalty());
            row.add_mul(1.0, short.variable);
        }
        self.rows.push(row.geq(limit));
    }

    /// Keeps `soc` at `limit` or below, softly. Strict terms have it as the column's bound.
    fn ceiling(&mut self, soc: Column, limit: f64) {
        let above = self.column(variable().min(0.0));
        self.charge_for(above, self.terms.soc_penalty());
        let mut row = Expression::from(soc.variable);
        row.add_mul(-1.0, above.variable);
        self.rows.push(row.leq(limit));
    }

    fn appliances(&mut self, held: Option<&[usize]>, balances: &mut [Expression]) {
        let problem = self.problem;
        if let Some(starts) = held {
            for (appliance, start) in problem.appliances.iter().zip(starts) {
                for (offset, power) in appliance.profile_kw.iter().enumerate() {
                    balances[start + offset] += -power;
                }
            }
            self.columns.held_starts = starts.to_vec();
            return;
        }
        for appliance in &problem.appliances {
            let mut once = Expression::default();
            let mut choices = Vec::new();
            for start in possible_starts(appliance) {
                let chosen = self.column(variable().binary());
                once.add_mul(1.0, chosen.variable);
                for (offset, power) in appliance.profile_kw.iter().enumerate() {
                    balances[start + offset].add_mul(-power, chosen.variable);
                }
                choices.push((start, chosen));
            }
            self.rows.push(once.eq(1.0));
            self.columns.start_choices.push(choices);
            self.is_discrete = true;
        }
    }

    fn exclude(&mut self, caps: &Caps, exclusions: &Exclusions) {
        let problem = self.problem;
        for t in 0..problem.load_kw.len() {
            if exclusions.battery[t] {
                let pair = (self.columns.charge[t], self.columns.discharge[t]);
                self.either(pair, (caps.charge[t], caps.discharge[t]));
            }
            if exclusions.grid[t] {
                let fixed_pv = if problem.pv_curtailable {
                    0.0
                } else {
                    problem.pv_kw[t]
                };
                let demand = problem.load_kw[t] + caps.charge[t] + peak_kw(problem, t);
                let supply = problem.pv_kw[t] + caps.discharge[t];
                let import = (demand - fixed_pv).clamp(0.0, caps.import[t]);
                let export = (supply - problem.load_kw[t]).clamp(0.0, caps.export[t]);
                let pair = (self.columns.import[t], self.columns.export[t]);
                self.either(pair, (import, export));
            }
        }
    }

    /// One of `pair` is 0 and the other is at most its part of `caps`.
    fn either(&mut self, pair: (Column, Column), caps: (f64, f64)) {
        let first = self.column(variable().binary());
        let mut row = Expression::from(pair.0.variable);
        row.add_mul(-caps.0, first.variable);
        self.rows.push(row.leq(0.0));
        let mut row = Expression::from(pair.1.variable);
        row.add_mul(caps.1, first.variable);
        self.rows.push(row.leq(caps.1));
        self.is_discrete = true;
    }

    fn run(self, seconds: f64) -> Result<(Columns, Solved), Unsolved> {
        let mut model: HighsProblem = self.variables.minimise(self.objective).using(highs);
        for row in self.balances.into_iter().chain(self.rows) {
            good_lp::SolverModel::add_constraint(&mut model, row);
        }
        let gaps = if self.terms.is_exact() {
            (0.0, 0.0)
        } else {
            (GAP_RELATIVE, GAP_ABSOLUTE)
        };
        let solved = solve(model, self.is_discrete, seconds, gaps)?;
        Ok((self.columns, solved))
    }
}

/// The start slots that keep `appliance` inside its window.
fn possible_starts(appliance: &Appliance) -> std::ops::RangeInclusive<usize> {
    let latest = appliance.latest_end_slot as usize - appliance.profile_kw.len();
    appliance.earliest_slot as usize..=latest
}

/// The most that all appliances together can draw in slot `t`, kW.
fn peak_kw(problem: &Problem, t: usize) -> f64 {
    problem
        .appliances
        .iter()
        .filter(|appliance| {
            (appliance.earliest_slot as usize..appliance.latest_end_slot as usize).contains(&t)
        })
        .map(|appliance| appliance.profile_kw.iter().copied().fold(0.0, f64::max))
        .sum()
}

fn solve(
    model: HighsProblem,
    is_discrete: bool,
    seconds: f64,
    (relative, absolute): (f64, f64),
) -> Result<Solved, Unsolved> {
    let mut model = model.try_into_inner().map_err(|_| Unsolved::Failed)?;
    model.set_option("threads", 1);
    model.set_option("parallel", "off");
    model.set_option("random_seed", 0);
    model.set_option("time_limit", seconds.max(0.0));
    model.set_option("mip_rel_gap", relative);
    model.set_option("mip_abs_gap", absolute);
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
