//! The mixed-integer program of a problem: its columns and rows, and the decisions in its solution. A solution decides
//! start slots and contents, proves a bound, and prices the balance. No figure of a plan is taken from it.

use model::problem::Problem;

use crate::appliances::{peak_kw, possible_starts, start_cost};
use crate::caps::{Cap, Caps, Exclusions, StoreCaps};
use crate::dispatch::Decisions;
use crate::linear::{Column, Program, Search, Solved, Unsolved};
use crate::store::{Kind, Store};
use crate::terms::Terms;

/// A function that solves programs: microlp, or HiGHS if built in.
pub(crate) type Engine = fn(&Program, Search) -> Result<Solved, Unsolved>;

/// Gaps at which a search may stop: as a share of the objective, and in the program's unit of money.
const GAP_RELATIVE: f64 = 1e-7;
const GAP_ABSOLUTE: f64 = 1e-8;
/// Powers below this have no direction, kW.
const DIRECTIONLESS_KW: f64 = 1e-7;
/// Changes of content below this are noise.
const STILL: f64 = 1e-8;

/// What a search found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) decisions: Decisions,
    /// The objective of the search, currency, including tie-break and penalties.
    pub(crate) cost: f64,
    /// Dual of each slot's balance, currency per kWh; empty if not known.
    pub(crate) shadow_prices: Vec<f64>,
}

/// What a search found, with what it proved.
#[derive(Debug)]
pub(crate) struct Searched {
    /// No plan costs less, currency.
    pub(crate) bound: f64,
    /// The plan, and the same decisions with ties broken. The later one is preferred if it costs no more.
    pub(crate) found: Vec<Found>,
}

/// Searches without a tie-break, which proves the bound. Then solves again with the discrete choices held, which gives
/// prices and the least movement.
pub(crate) fn search(
    problem: &Problem,
    terms: &Terms,
    exclusions: &Exclusions,
    (engine, seconds): (Engine, f64),
) -> Result<Searched, Unsolved> {
    let caps = Caps::of(problem, terms);
    let model = Model::build(problem, terms, &caps, &Choices::Free(exclusions));
    let first = model.solve(engine, seconds)?;
    let is_discrete = model.program.is_discrete();
    let bound = model.money(first.bound);
    let starts = model.columns.starts(&first.values);
    let mut found = vec![model.found(&first, starts.clone())];
    if is_discrete || !terms.is_untied() {
        let held = held(&caps, terms, &model.columns, &first.values, exclusions);
        let second = Model::build(problem, terms, &held, &Choices::Held(&starts));
        // With choices fixed to the last digit this program may fail by a hair. The first result is still valid.
        if let Ok(solved) = second.solve(engine, seconds) {
            found.push(second.found(&solved, starts));
        }
    }
    Ok(Searched { bound, found })
}

/// The choices that a program may make.
enum Choices<'a> {
    /// Directions, by a binary wherever these exclusions say so, and start slots.
    Free(&'a Exclusions),
    /// None: the caps fix directions, and these are the start slots. Ties are broken.
    Held(&'a [usize]),
}

/// `caps` with the direction of every excluded pair fixed as in `values`, and whether a store with a least power
/// charges. A slot in which a store rests keeps resting, and a meter that stands still may import.
fn held(
    caps: &Caps,
    terms: &Terms,
    columns: &Columns,
    values: &[f64],
    exclusions: &Exclusions,
) -> Caps {
    let mut held = caps.clone();
    let flows = |column: &Column| column.of(values) > DIRECTIONLESS_KW;
    for (t, excludes) in exclusions.grid.iter().enumerate() {
        if *excludes {
            if flows(&columns.export[t]) && !flows(&columns.import[t]) {
                held.import[t].close();
            } else {
                held.export[t].close();
            }
        }
    }
    for (k, store) in terms.stores.iter().enumerate() {
        let (columns, caps) = (&columns.stores[k], &mut held.stores[k]);
        for t in store.from..store.to {
            let at = t - store.from;
            if exclusions.stores[k][t] {
                if !flows(&columns.charge[at]) {
                    caps.charge[t].close();
                }
                if !columns.discharge.get(at).is_some_and(flows) {
                    caps.discharge[t].close();
                }
            }
            if store.min_charge_kw > 0.0 {
                if columns.charge[at].of(values) < 0.5 * store.min_charge_kw {
                    caps.charge[t].close();
                } else {
                    caps.charge[t].least_kw = store.min_charge_kw;
                }
            }
        }
    }
    held
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
        let moving = self.content.iter().map(|column| column.of(values));
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
            problem.grid.peak_kw + over.of(values).max(0.0)
        })
    }

    fn starts(&self, values: &[f64]) -> Vec<usize> {
        let chosen = self.start_choices.iter().map(|choices| {
            choices
                .iter()
                .max_by(|(_, a), (_, b)| a.of(values).total_cmp(&b.of(values)))
                .map_or(0, |(slot, _)| *slot)
        });
        self.held_starts.iter().copied().chain(chosen).collect()
    }
}

/// A slot's balance: what flows in less what flows out, and what of it no column decides, kW.
#[derive(Debug, Clone, Default)]
struct Balance {
    terms: Vec<(Column, f64)>,
    known_kw: f64,
}

/// A problem as a program. Its money is in multiples of the problem's unit.
struct Model<'a> {
    problem: &'a Problem,
    terms: &'a Terms<'a>,
    program: Program,
    columns: Columns,
    /// Currency for each unit of content moved by each store, on top of its wear.
    tie_break: f64,
}

impl<'a> Model<'a> {
    fn build(problem: &'a Problem, terms: &'a Terms<'a>, caps: &Caps, choices: &Choices) -> Self {
        let mut model = Self {
            problem,
            terms,
            program: Program::default(),
            columns: Columns::default(),
            tie_break: match choices {
                Choices::Held(_) => terms.tie_break(),
                Choices::Free(_) => 0.0,
            },
        };
        let mut balances = model.meter(caps);
        for (store, caps) in terms.stores.iter().zip(&caps.stores) {
            let columns = model.store(store, caps, choices, &mut balances);
            if store.kind == Kind::Battery {
                model.keep_to_plan(&columns.content, store.start);
            }
            model.columns.stores.push(columns);
        }
        model.appliances(choices, &mut balances);
        let rest = std::mem::take(&mut model.program.rows);
        for (balance, load) in balances.into_iter().zip(&problem.load_kw) {
            let load = load - balance.known_kw;
            model.program.equal(balance.terms, load);
        }
        model.program.rows.extend(rest);
        model.peak();
        if let Choices::Free(exclusions) = choices {
            model.exclude(caps, exclusions);
        }
        model
    }

    fn solve(&self, engine: Engine, seconds: f64) -> Result<Solved, Unsolved> {
        let (gap_relative, gap_absolute) = if self.terms.is_exact() {
            (0.0, 0.0)
        } else {
            (GAP_RELATIVE, GAP_ABSOLUTE)
        };
        let search = Search {
            seconds,
            gap_relative,
            gap_absolute,
        };
        engine(&self.program, search)
    }

    /// Converts an objective of the program to currency, and adds what the program leaves out: the energy left is valued
    /// from a zero of its own, and fixed starts have no column.
    fn money(&self, amount: f64) -> f64 {
        let zeros: f64 = self
            .terms
            .stores
            .iter()
            .map(|store| store.end_value * store.end_zero)
            .sum();
        let held = self.columns.held_starts.iter();
        let held: f64 = held
            .zip(&self.problem.appliances)
            .map(|(start, appliance)| start_cost(self.problem, appliance, *start))
            .sum();
        amount * self.terms.unit + zeros + held
    }

    fn found(&self, solved: &Solved, starts: Vec<usize>) -> Found {
        let contents = self.terms.stores.iter().zip(&self.columns.stores);
        Found {
            decisions: Decisions {
                starts,
                contents: contents
                    .map(|(store, columns)| columns.contents(store, &solved.values))
                    .collect(),
                still: STILL,
                peak_kw: self.columns.peak_kw(self.problem, &solved.values),
            },
            cost: self.money(solved.objective),
            // The balance rows are the first ones; a kW for a slot is `dt` kWh.
            shadow_prices: solved
                .duals
                .iter()
                .take(self.problem.load_kw.len())
                .map(|dual| dual * self.terms.unit / self.terms.dt)
                .collect(),
        }
    }

    /// Adds `cost`, currency per unit of `column`.
    fn charge_for(&mut self, column: Column, cost: f64) {
        self.program.charge_for(column, cost / self.terms.unit);
    }

    fn flow(&mut self, cap: Cap) -> Column {
        self.program.column(cap.least_kw, cap.most_kw)
    }

    /// Import, export and PV of each slot.
    fn meter(&mut self, caps: &Caps) -> Vec<Balance> {
        let dt = self.terms.dt;
        let mut balances = Vec::with_capacity(caps.import.len());
        for t in 0..caps.import.len() {
            let import = self.flow(caps.import[t]);
            let export = self.flow(caps.export[t]);
            self.charge_for(import, dt * self.terms.buy[t]);
            self.charge_for(export, -dt * self.terms.sell[t]);
            if self.terms.is_relaxed() {
                self.soften_limit(import, self.problem.grid.import_limit_kw);
                self.soften_limit(export, self.problem.grid.export_limit_kw);
            }
            let mut balance = Balance::default();
            balance.terms.extend([(import, 1.0), (export, -1.0)]);
            let available = self.problem.pv_kw[t];
            if self.problem.pv_curtailable && available > 0.0 {
                let pv = self.flow(Cap::up_to(available));
                balance.terms.push((pv, 1.0));
            } else {
                balance.known_kw += available;
            }
            self.soften_caps(t, import, export);
            self.columns.import.push(import);
            self.columns.export.push(export);
            balances.push(balance);
        }
        balances
    }

    /// Lets `flow` pass its limit at a penalty.
    fn soften_limit(&mut self, flow: Column, limit: Option<f64>) {
        let Some(limit) = limit else { return };
        let over = self.program.column(0.0, f64::INFINITY);
        self.charge_for(over, self.terms.dt * self.terms.grid_penalty());
        self.program.at_most(vec![(flow, 1.0), (over, -1.0)], limit);
    }

    /// Lets the net flow of slot `t` pass the signal's caps at their prices.
    fn soften_caps(&mut self, t: usize, import: Column, export: Column) {
        let Some(caps) = self.terms.soft_caps(t).copied() else {
            return;
        };
        let ways = [
            (import, export, caps.import_kwh, caps.import_price),
            (export, import, caps.export_kwh, caps.export_price),
        ];
        for (along, against, cap_kwh, price) in ways {
            if cap_kwh == f64::INFINITY || price <= 0.0 {
                continue;
            }
            let over = self.program.column(0.0, f64::INFINITY);
            self.charge_for(over, self.terms.dt * price);
            let row = vec![(along, 1.0), (against, -1.0), (over, -1.0)];
            self.program.at_most(row, cap_kwh / self.terms.dt);
        }
    }

    /// Adds the cost of the highest import.
    fn peak(&mut self) {
        let grid = self.problem.grid;
        if grid.peak_price_per_kw <= 0.0 {
            return;
        }
        let over = self.program.column(0.0, f64::INFINITY);
        self.charge_for(over, grid.peak_price_per_kw);
        self.columns.over_peak = Some(over);
        for import in &self.columns.import {
            let row = vec![(*import, 1.0), (over, -1.0)];
            self.program.at_most(row, grid.peak_kw);
        }
    }

    /// A store's columns and rows. Where choices are held, the caps say whether it charges.
    fn store(
        &mut self,
        store: &Store,
        caps: &StoreCaps,
        choices: &Choices,
        balances: &mut [Balance],
    ) -> StoreColumns {
        let movement = store.wear + self.tie_break;
        let mut columns = StoreColumns::default();
        let moving = balances.iter_mut().enumerate();
        for (t, balance) in moving.take(store.to).skip(store.from) {
            let step = store.step(t, self.terms.dt);
            let charge = self.flow(caps.charge[t]);
            let content = self.program.column(store.hard_low, store.hard_high);
            self.charge_for(charge, movement * step.rise);
            balance.terms.push((charge, -1.0));
            let mut change = vec![(content, 1.0), (charge, -step.rise)];
            if store.min_charge_kw > 0.0 && matches!(choices, Choices::Free(_)) {
                self.on_or_off(charge, store);
            }
            if store.discharge_kw > 0.0 {
                let discharge = self.flow(caps.discharge[t]);
                self.charge_for(discharge, movement * step.fall);
                balance.terms.push((discharge, 1.0));
                change.push((discharge, step.fall));
                columns.discharge.push(discharge);
            }
            let drift = match columns.content.last() {
                Some(before) => {
                    change.push((*before, -step.keep));
                    step.drift
                }
                None => step.drift + step.keep * store.start,
            };
            self.program.equal(change, drift);
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
        let on = self.program.binary();
        let (least, most) = (store.min_charge_kw, store.charge_kw);
        self.program.at_most(vec![(charge, 1.0), (on, -most)], 0.0);
        self.program
            .at_least(vec![(charge, 1.0), (on, -least)], 0.0);
    }

    /// Adds the cost of the battery's departing from the previous plan.
    fn keep_to_plan(&mut self, content: &[Column], start: f64) {
        let Some(stability) = &self.problem.stability else {
            return;
        };
        if stability.battery_cost_per_kwh <= 0.0 {
            return;
        }
        let mut before: Option<Column> = None;
        for (content, planned) in content.iter().zip(&stability.soc_change_kwh) {
            let apart = self.program.column(0.0, f64::INFINITY);
            self.charge_for(apart, stability.battery_cost_per_kwh);
            for sign in [1.0, -1.0] {
                let mut row = vec![(*content, sign), (apart, -1.0)];
                let mut known = sign * planned;
                match before {
                    Some(before) => row.push((before, -sign)),
                    None => known += sign * start,
                }
                self.program.at_most(row, known);
            }
            before = Some(*content);
        }
    }

    /// Keeps `content` at `limit` or above; at `penalty` per unit where that is finite.
    fn floor(&mut self, content: Column, limit: f64, penalty: f64) {
        let mut row = vec![(content, 1.0)];
        if penalty.is_finite() {
            let short = self.program.column(0.0, f64::INFINITY);
            self.charge_for(short, penalty);
            row.push((short, 1.0));
        }
        self.program.at_least(row, limit);
    }

    /// Keeps `content` at `limit` or below; at `penalty` per unit where that is finite.
    fn ceiling(&mut self, content: Column, limit: f64, penalty: f64) {
        let mut row = vec![(content, 1.0)];
        if penalty.is_finite() {
            let above = self.program.column(0.0, f64::INFINITY);
            self.charge_for(above, penalty);
            row.push((above, -1.0));
        }
        self.program.at_most(row, limit);
    }

    fn appliances(&mut self, choices: &Choices, balances: &mut [Balance]) {
        let problem = self.problem;
        if let Choices::Held(starts) = choices {
            for (appliance, start) in problem.appliances.iter().zip(*starts) {
                for (offset, power) in appliance.profile_kw.iter().enumerate() {
                    balances[start + offset].known_kw -= power;
                }
            }
            self.columns.held_starts = starts.to_vec();
            return;
        }
        for appliance in &problem.appliances {
            let mut once = Vec::new();
            let mut possible = Vec::new();
            for start in possible_starts(appliance) {
                let chosen = self.program.binary();
                self.charge_for(chosen, start_cost(problem, appliance, start));
                once.push((chosen, 1.0));
                for (offset, power) in appliance.profile_kw.iter().enumerate() {
                    if *power > 0.0 {
                        balances[start + offset].terms.push((chosen, -power));
                    }
                }
                possible.push((start, chosen));
            }
            self.program.equal(once, 1.0);
            self.columns.start_choices.push(possible);
        }
    }

    fn exclude(&mut self, caps: &Caps, exclusions: &Exclusions) {
        let problem = self.problem;
        for t in 0..problem.load_kw.len() {
            let (mut charge, mut discharge) = (0.0, 0.0);
            for (k, store) in self.terms.stores.iter().enumerate() {
                let most = (
                    caps.stores[k].charge[t].most_kw,
                    caps.stores[k].discharge[t].most_kw,
                );
                charge += most.0;
                discharge += most.1;
                if exclusions.stores[k][t] {
                    let columns = &self.columns.stores[k];
                    let at = t - store.from;
                    let pair = (columns.charge[at], columns.discharge[at]);
                    self.either(pair, most);
                }
            }
            if exclusions.grid[t] {
                let fixed_pv = if problem.pv_curtailable {
                    0.0
                } else {
                    problem.pv_kw[t]
                };
                let draw = problem.load_kw[t] + charge + peak_kw(problem, t);
                let supply = problem.pv_kw[t] + discharge;
                let import = (draw - fixed_pv).clamp(0.0, caps.import[t].most_kw);
                let export = (supply - problem.load_kw[t]).clamp(0.0, caps.export[t].most_kw);
                let pair = (self.columns.import[t], self.columns.export[t]);
                self.either(pair, (import, export));
            }
        }
    }

    /// One of `pair` is 0 and the other is at most its part of `caps`.
    fn either(&mut self, pair: (Column, Column), caps: (f64, f64)) {
        let first = self.program.binary();
        self.program
            .at_most(vec![(pair.0, 1.0), (first, -caps.0)], 0.0);
        self.program
            .at_most(vec![(pair.1, 1.0), (first, caps.1)], caps.1);
    }
}
