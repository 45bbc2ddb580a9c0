//! The mixed-integer program: columns, rows, and HiGHS. Quiet, one thread, deterministic.
//! Never reports a figure of a plan; it decides start slots and contents, proves a bound, and prices the balance.

use good_lp::solvers::highs::{HighsProblem, highs};
use good_lp::{Constraint, Expression, ProblemVariables, Variable, VariableDefinition, variable};
use highs::{HighsModelStatus, HighsSolutionStatus};
use model::problem::Problem;

use crate::appliances::{peak_kw, possible_starts, start_cost};
use crate::dispatch::Decisions;
use crate::store::{Kind, Store};
use crate::terms::Terms;

/// Relative gap at which HiGHS may stop.
const GAP_RELATIVE: f64 = 1e-6;
/// Absolute gap at which HiGHS may stop, in multiples of the largest price.
const GAP_ABSOLUTE: f64 = 1e-7;
/// HiGHS's tolerances on rows and reduced costs: finer than the tie-break.
const FEASIBILITY: f64 = 1e-9;
/// Powers below this have no direction, kW.
const DIRECTIONLESS_KW: f64 = 1e-7;

/// Changes of content below this are noise.
const STILL: f64 = 1e-8;

/// The slots in which two flows exclude each other by a binary.
#[derive(Debug)]
pub(crate) struct Exclusions {
    /// Charging and discharging of each store.
    stores: Vec<Vec<bool>>,
    grid: Vec<bool>,
}

impl Exclusions {
    /// Where doing both could pay, seen from the slot alone.
    pub(crate) fn where_they_pay(problem: &Problem, terms: &Terms) -> Self {
        let mut exclusions = Self::everywhere(terms);
        for (store, excluded) in terms.stores.iter().zip(&mut exclusions.stores) {
            for (t, excluded) in excluded.iter_mut().enumerate() {
                let step = store.step(t, terms.dt);
                // What a kWh through both ways loses.
                let loss = if *excluded {
                    terms.dt / step.rise - terms.dt / step.fall
                } else {
                    0.0
                };
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
                *excluded = loss > 0.0 && (too_much || worth * loss + 2.0 * store.wear < 0.0);
            }
        }
        exclusions
    }

    /// Wherever both flows are possible. Importing and exporting at once costs `buy - sell`, so that where this is
    /// not negative, dropping it from a plan makes the plan no worse and breaks no limit.
    pub(crate) fn everywhere(terms: &Terms) -> Self {
        let slots = terms.buy.len();
        let both = |store: &Store| {
            let possible = store.charge_kw > 0.0 && store.discharge_kw > 0.0;
            (0..slots).map(|t| possible && store.moves_in(t)).collect()
        };
        let prices = terms.buy.iter().zip(&terms.sell);
        Self {
            stores: terms.stores.iter().map(both).collect(),
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
    let held = caps.held(terms, &columns, &first.values, exclusions);
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
    let contents = terms.stores.iter().zip(&columns.stores);
    // What the program cannot say: what is left is valued from a zero of its own, and held starts have no column.
    let zeros: f64 = terms.stores.iter().map(|s| s.end_value * s.end_zero).sum();
    let held = columns.held_starts.iter().zip(&problem.appliances);
    let held: f64 = held.map(|(start, a)| start_cost(problem, a, *start)).sum();
    Found {
        decisions: Decisions {
            starts,
            contents: contents
                .map(|(store, columns)| columns.contents(store, &solved.values))
                .collect(),
            still: STILL,
            peak_kw: columns.peak_kw(problem, &solved.values),
        },
        cost: solved.objective * terms.scale + zeros + held,
        bound: bound * terms.scale + zeros,
        // The balance rows are the first ones; a kW for a slot is `dt` kWh.
        shadow_prices: solved
            .duals
            .iter()
            .take(problem.load_kw.len())
            .map(|dual| dual * terms.scale / terms.dt)
            .collect(),
    }
}

/// Least and largest power of each flow in each slot, kW; infinite where nothing limits it.
struct Caps {
    /// Of each store.
    charge: Vec<Vec<(f64, f64)>>,
    discharge: Vec<Vec<f64>>,
    import: Vec<f64>,
    export: Vec<f64>,
}

impl Caps {
    fn of(problem: &Problem, terms: &Terms) -> Self {
        let slots = problem.load_kw.len();
        let grid = |limit: Option<f64>| match limit {
            Some(limit) if !terms.is_relaxed() => limit,
            Some(_) | None => f64::INFINITY,
        };
        let within = |store: &Store, power: f64| -> Vec<f64> {
            (0..slots)
                .map(|t| if store.moves_in(t) { power } else { 0.0 })
                .collect()
        };
        let stores = terms.stores.iter();
        Self {
            charge: stores
                .clone()
                .map(|s| within(s, s.charge_kw).into_iter().map(|cap| (0.0, cap)))
                .map(Iterator::collect)
                .collect(),
            discharge: stores.map(|s| within(s, s.discharge_kw)).collect(),
            import: vec![grid(problem.grid.import_limit_kw); slots],
            export: vec![grid(problem.grid.export_limit_kw); slots],
        }
    }

    /// The same with the direction of every excluded pair fixed as in `values`, and whether a store with a least power
    /// charges. A slot in which a store rests keeps resting, and a meter that stands still may import.
    fn held(
        mut self,
        terms: &Terms,
        columns: &Columns,
        values: &[f64],
        exclusions: &Exclusions,
    ) -> Self {
        let flows = |column: &Column| values[column.index] > DIRECTIONLESS_KW;
        for (t, excludes) in exclusions.grid.iter().enumerate() {
            if *excludes {
                if flows(&columns.export[t]) && !flows(&columns.import[t]) {
                    self.import[t] = 0.0;
                } else {
                    self.export[t] = 0.0;
                }
            }
        }
        for (k, store) in terms.stores.iter().enumerate() {
            let columns = &columns.stores[k];
            for t in store.from..store.to {
                let charges = flows(&columns.charge[t - store.from]);
                let discharges = columns.discharge.get(t - store.from).is_some_and(flows);
                if exclusions.stores[k][t] {
                    if !charges {
                        self.charge[k][t].1 = 0.0;
                    }
                    if !discharges {
                        self.discharge[k][t] = 0.0;
                    }
                }
                if store.min_charge_kw > 0.0 {
                    let power = values[columns.charge[t - store.from].index];
                    if power < 0.5 * store.min_charge_kw {
                        self.charge[k][t].1 = 0.0;
                    } else {
                        self.charge[k][t].0 = store.min_charge_kw;
                    }
                }
            }
        }
        self
    }
}

/// A column of the program and its place in the solution.
#[derive(Debug, Clone, Copy)]
struct Column {
    variable: Variable,
    index: usize,
}

/// The columns of a store, one for each slot in which it can move; none to discharge where it cannot.
#[derive(Debug, Default)]
struct StoreColumns {
    charge: Vec<Column>,
    discharge: Vec<Column>,
    content: Vec<Column>,
}

impl StoreColumns {
    /// The content at the end of each slot of the horizon.
    fn contents(&self, store: &Store, values: &[f64]) -> Vec<f64> {
        let before = std::iter::repeat_n(store.start, store.from);
        let moving = self.content.iter().map(|column| values[column.index]);
        before.chain(moving).collect()
    }
}

/// The columns by meaning, a slot each.
#[derive(Debug, Default)]
struct Columns {
    import: Vec<Column>,
    export: Vec<Column>,
    /// By how much the highest import is above what is paid for; none without a price.
    over_peak: Option<Column>,
    stores: Vec<StoreColumns>,
    /// For each appliance its possible start slots. Empty where they are held.
    start_choices: Vec<Vec<(usize, Column)>>,
    held_starts: Vec<usize>,
}

impl Columns {
    fn peak_kw(&self, problem: &Problem, values: &[f64]) -> f64 {
        self.over_peak.map_or(f64::INFINITY, |over| {
            problem.grid.peak_kw + values[over.index].max(0.0)
        })
    }

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
    terms: &'a Terms<'a>,
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
        terms: &'a Terms<'a>,
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
        for (k, store) in terms.stores.iter().enumerate() {
            let is_held = exclusions.is_none();
            let columns = program.store(
                store,
                (&caps.charge[k], &caps.discharge[k]),
                is_held,
                &mut balances,
            );
            if store.kind == Kind::Battery {
                program.keep_to_plan(&columns.content, store.start);
            }
            program.columns.stores.push(columns);
        }
        program.peak();
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

    /// What the highest import costs.
    fn peak(&mut self) {
        let grid = self.problem.grid;
        if grid.peak_price_per_kw <= 0.0 {
            return;
        }
        let over = self.column(variable().min(0.0));
        self.charge_for(over, grid.peak_price_per_kw);
        self.columns.over_peak = Some(over);
        for import in self.columns.import.clone() {
            let mut row = Expression::from(import.variable);
            row.add_mul(-1.0, over.variable);
            self.rows.push(row.leq(grid.peak_kw));
        }
    }

    /// A store's columns and rows. `caps` are what it may charge and discharge in each slot; where it `is_held` those
    /// say whether it charges.
    fn store(
        &mut self,
        store: &Store,
        caps: (&[(f64, f64)], &[f64]),
        is_held: bool,
        balances: &mut [Expression],
    ) -> StoreColumns {
        let movement = self.terms.movement(store);
        let mut columns = StoreColumns::default();
        let moving = balances.iter_mut().enumerate();
        for (t, balance) in moving.take(store.to).skip(store.from) {
            let step = store.step(t, self.terms.dt);
            let (least, most) = caps.0[t];
            let charge = self.column(variable().min(least).max(most));
            let content = self.column(variable().min(store.hard_low).max(store.hard_high));
            self.charge_for(charge, movement * step.rise);
            balance.add_mul(-1.0, charge.variable);
            let mut change = Expression::from(content.variable);
            change.add_mul(-step.rise, charge.variable);
            if store.min_charge_kw > 0.0 && !is_held {
                self.on_or_off(charge, store);
            }
            if store.discharge_kw > 0.0 {
                let discharge = self.column(variable().min(0.0).max(caps.1[t]));
                self.charge_for(discharge, movement * step.fall);
                balance.add_mul(1.0, discharge.variable);
                change.add_mul(step.fall, discharge.variable);
                columns.discharge.push(discharge);
            }
            let drift = match columns.content.last() {
                Some(before) => {
                    change.add_mul(-step.keep, before.variable);
                    step.drift
                }
                None => step.drift + step.keep * store.start,
            };
            self.rows.push(change.eq(drift));
            if store.hard_low < store.low {
                self.floor(content, store.low, store.penalty);
            }
            if store.hard_high > store.high {
                self.ceiling(content, store.high, store.penalty);
            }
            columns.charge.push(charge);
            columns.content.push(content);
        }
        if let Some(last) = columns.content.last().copied() {
            self.charge_for(last, -store.end_value);
            if store.end_low > f64::NEG_INFINITY {
                self.floor(last, store.end_low, store.end_penalty);
            }
        }
        columns
    }

    /// `charge` is 0 or at least the least power.
    fn on_or_off(&mut self, charge: Column, store: &Store) {
        let on = self.column(variable().binary());
        let mut row = Expression::from(charge.variable);
        row.add_mul(-store.charge_kw, on.variable);
        self.rows.push(row.leq(0.0));
        let mut row = Expression::from(charge.variable);
        row.add_mul(-store.min_charge_kw, on.variable);
        self.rows.push(row.geq(0.0));
        self.is_discrete = true;
    }

    /// What departing from the plan before costs the battery.
    fn keep_to_plan(&mut self, content: &[Column], start: f64) {
        let Some(stability) = &self.problem.stability else {
            return;
        };
        if stability.battery_cost_per_kwh <= 0.0 {
            return;
        }
        let mut before: Option<Column> = None;
        for (content, planned) in content.iter().zip(&stability.soc_change_kwh) {
            let apart = self.column(variable().min(0.0));
            self.charge_for(apart, stability.battery_cost_per_kwh);
            for sign in [1.0, -1.0] {
                let mut row = Expression::with_capacity(3);
                row.add_mul(sign, content.variable);
                let mut known = sign * planned;
                match before {
                    Some(before) => row.add_mul(-sign, before.variable),
                    None => known += sign * start,
                }
                row.add_mul(-1.0, apart.variable);
                self.rows.push(row.leq(known));
            }
            before = Some(*content);
        }
    }

    /// Keeps `content` at `limit` or above; at `penalty` per unit where that is finite.
    fn floor(&mut self, content: Column, limit: f64, penalty: f64) {
        let mut row = Expression::from(content.variable);
        if penalty.is_finite() {
            let short = self.column(variable().min(0.0));
            self.charge_for(short, penalty);
            row.add_mul(1.0, short.variable);
        }
        self.rows.push(row.geq(limit));
    }

    /// Keeps `content` at `limit` or below; at `penalty` per unit where that is finite.
    fn ceiling(&mut self, content: Column, limit: f64, penalty: f64) {
        let mut row = Expression::from(content.variable);
        if penalty.is_finite() {
            let above = self.column(variable().min(0.0));
            self.charge_for(above, penalty);
            row.add_mul(-1.0, above.variable);
        }
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
                self.charge_for(chosen, start_cost(problem, appliance, start));
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
            let (mut charge, mut discharge) = (0.0, 0.0);
            for (k, store) in self.terms.stores.iter().enumerate() {
                charge += caps.charge[k][t].1;
                discharge += caps.discharge[k][t];
                if exclusions.stores[k][t] {
                    let columns = &self.columns.stores[k];
                    let at = t - store.from;
                    let pair = (columns.charge[at], columns.discharge[at]);
                    self.either(pair, (caps.charge[k][t].1, caps.discharge[k][t]));
                }
            }
            if exclusions.grid[t] {
                let fixed_pv = if problem.pv_curtailable {
                    0.0
                } else {
                    problem.pv_kw[t]
                };
                let demand = problem.load_kw[t] + charge + peak_kw(problem, t);
                let supply = problem.pv_kw[t] + discharge;
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
