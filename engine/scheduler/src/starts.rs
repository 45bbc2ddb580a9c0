//! Start slots of appliances by branch and bound. The store's plan for each choice is the dynamic program's.
//!
//! Where the least cost `C(load)` is convex in the load, a solved choice gives a cut that holds for every other one:
//! `C(load) >= C(solved) + sum of shadow price * change of load`, which is a sum over appliances. Elsewhere meter and
//! store, each at its best at those prices, give one that is lower. The largest of all cuts so far bounds a partial
//! choice from below.

use model::problem::Problem;

use crate::appliances::{possible_starts, start_cost};
use crate::dynamic::{Dynamic, Home};
use crate::general::Failed;

/// Cuts kept; the oldest go first, save the first few.
const CUTS_MAX: usize = 48;
const CUTS_KEPT: usize = 8;
/// What counts as no better, in multiples of a typical price.
const NO_BETTER_KWH: f64 = 1e-8;

/// A lower bound on the cost of every choice.
#[derive(Debug)]
struct Cut {
    constant: f64,
    /// What each start slot adds, appliance after appliance.
    adds: Vec<f64>,
    /// `least[i]` is the least that appliances `i` and later add together.
    least: Vec<f64>,
}

impl Cut {
    fn partial(&self, chosen: &[usize], offsets: &[usize]) -> f64 {
        let adds = chosen.iter().zip(offsets);
        self.constant
            + adds
                .map(|(start, offset)| self.adds[offset + start])
                .sum::<f64>()
    }
}

/// Working arrays and, after [`Starts::search`], the answer.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    cuts: Vec<Cut>,
    cuts_count: usize,
    /// Where each appliance's start slots begin in a cut.
    offsets: Vec<usize>,
    /// Whether the cost is convex in the load.
    is_convex: bool,
    /// Load with the appliances of the choice at hand.
    load_kw: Vec<f64>,
    /// For each depth of the search its candidates with their bounds.
    candidates: Vec<Vec<(f64, usize)>>,
    /// The choice at hand, as index into the possible start slots.
    chosen: Vec<usize>,
    /// What was solved before the branching.
    visited: Vec<Vec<usize>>,
    visited_count: usize,
    /// The best choice, the same way.
    best: Vec<usize>,
    contents: Vec<f64>,
    peak_kw: f64,
    shadow_prices: Vec<f64>,
}

/// What the search proved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Searched {
    pub(crate) cost: f64,
    /// No choice costs less.
    pub(crate) bound: f64,
}

/// The search's surroundings, the same throughout.
struct Field<'a> {
    home: &'a Home<'a>,
    dynamic: &'a mut Dynamic,
    leaves_max: usize,
}

struct State {
    cost: f64,
    leaves_count: usize,
    is_cut_short: bool,
}

impl Starts {
    /// Finds the best start slots; at most `leaves_max` choices are solved.
    pub(crate) fn search(
        &mut self,
        home: &Home,
        dynamic: &mut Dynamic,
        leaves_max: usize,
    ) -> Result<Searched, Failed> {
        let mut field = Field {
            home,
            dynamic,
            leaves_max: leaves_max.max(1),
        };
        self.reset(home.problem);
        let mut state = State {
            cost: f64::INFINITY,
            leaves_count: 0,
            is_cut_short: false,
        };
        self.first_cut(&mut field)?;
        self.descend(&mut field, &mut state)?;
        self.branch(&mut field, &mut state)?;
        let root = self.bound(0, &[]);
        Ok(Searched {
            cost: state.cost,
            bound: if state.is_cut_short {
                root.min(state.cost)
            } else {
                state.cost
            },
        })
    }

    /// Start slots of the best choice.
    pub(crate) fn starts(&self, problem: &Problem) -> impl Iterator<Item = usize> {
        let chosen = self.best.iter().zip(&problem.appliances);
        chosen.map(|(start, appliance)| start + appliance.earliest_slot as usize)
    }

    pub(crate) fn contents(&self) -> &[f64] {
        &self.contents
    }

    pub(crate) fn peak_kw(&self) -> f64 {
        self.peak_kw
    }

    pub(crate) fn shadow_prices(&self) -> &[f64] {
        &self.shadow_prices
    }

    fn reset(&mut self, problem: &Problem) {
        self.cuts_count = 0;
        self.visited_count = 0;
        self.offsets.clear();
        let mut offset = 0;
        for appliance in &problem.appliances {
            self.offsets.push(offset);
            offset += possible_starts(appliance).count();
        }
        self.offsets.push(offset);
        let count = problem.appliances.len();
        self.chosen.clear();
        self.best.clear();
        self.best.resize(count, 0);
        if self.candidates.len() < count {
            self.candidates.resize_with(count, Vec::new);
        }
    }

    /// The home without appliances prices every slot.
    fn first_cut(&mut self, field: &mut Field) -> Result<(), Failed> {
        let home = field.home;
        field.dynamic.solve(home, &home.problem.load_kw)?;
        self.is_convex = field.dynamic.is_convex_in_load(home);
        let cost = field.dynamic.cost(home);
        self.load_kw.clear();
        self.load_kw.extend_from_slice(&home.problem.load_kw);
        self.add_cut(field, cost);
        Ok(())
    }

    /// Solves what the newest cut likes best, until it likes something already solved.
    fn descend(&mut self, field: &mut Field, state: &mut State) -> Result<(), Failed> {
        let count = self.offsets.len() - 1;
        for _ in 0..4 * count + 4 {
            let cut = &self.cuts[(self.cuts_count - 1).min(CUTS_MAX - 1)];
            self.chosen.clear();
            for i in 0..count {
                let adds = &cut.adds[self.offsets[i]..self.offsets[i + 1]];
                let least = (0..adds.len()).min_by(|a, b| adds[*a].total_cmp(&adds[*b]));
                self.chosen.push(least.unwrap_or(0));
            }
            if self.is_visited() || !self.leaf(field, state)? {
                break;
            }
            if self.visited.len() == self.visited_count {
                self.visited.push(Vec::new());
            }
            self.visited[self.visited_count].clone_from(&self.chosen);
            self.visited_count += 1;
        }
        self.chosen.clear();
        Ok(())
    }

    fn is_visited(&self) -> bool {
        self.visited[..self.visited_count].contains(&self.chosen)
    }

    /// The largest cut on everything that begins with the choice at hand and then `start`.
    fn bound(&self, from: usize, starts: &[usize]) -> f64 {
        let depth = self.chosen.len();
        let kept = self.cuts_count.min(CUTS_MAX);
        self.cuts[from.min(kept)..kept]
            .iter()
            .map(|cut| {
                let next = starts
                    .first()
                    .map_or(0.0, |s| cut.adds[self.offsets[depth] + s]);
                let rest = cut.least[depth + starts.len()];
                cut.partial(&self.chosen, &self.offsets) + next + rest
            })
            .fold(f64::NEG_INFINITY, f64::max)
    }

    fn branch(&mut self, field: &mut Field, state: &mut State) -> Result<(), Failed> {
        let depth = self.chosen.len();
        let count = self.offsets.len() - 1;
        if depth == count {
            if !self.is_visited() && !self.leaf(field, state)? {
                state.is_cut_short = true;
            }
            return Ok(());
        }
        let terms = field.home.terms;
        let tolerance = NO_BETTER_KWH * terms.typical + terms.rounding();
        let mut candidates = std::mem::take(&mut self.candidates[depth]);
        candidates.clear();
        for start in 0..self.offsets[depth + 1] - self.offsets[depth] {
            let bound = self.bound(0, &[start]);
            if bound < state.cost - tolerance {
                candidates.push((bound, start));
            }
        }
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let known = self.cuts_count;
        for (bound, start) in &candidates {
            if *bound >= state.cost - tolerance {
                break;
            }
            let newer = if self.cuts_count > CUTS_MAX { 0 } else { known };
            if self.cuts_count > known && self.bound(newer, &[*start]) >= state.cost - tolerance {
                continue;
            }
            self.chosen.push(*start);
            self.branch(field, state)?;
            self.chosen.pop();
            if state.is_cut_short {
                break;
            }
        }
        self.candidates[depth] = candidates;
        Ok(())
    }

    /// Solves the choice at hand; false where no more may be solved.
    fn leaf(&mut self, field: &mut Field, state: &mut State) -> Result<bool, Failed> {
        if state.leaves_count >= field.leaves_max {
            return Ok(false);
        }
        state.leaves_count += 1;
        let home = field.home;
        self.load_kw.clear();
        self.load_kw.extend_from_slice(&home.problem.load_kw);
        let mut moved = 0.0;
        for (start, appliance) in self.chosen.iter().zip(&home.problem.appliances) {
            let from = start + appliance.earliest_slot as usize;
            moved += start_cost(home.problem, appliance, from);
            for (load, power) in self.load_kw[from..].iter_mut().zip(&appliance.profile_kw) {
                *load += power;
            }
        }
        field.dynamic.solve_again(home, &self.load_kw)?;
        let running = field.dynamic.cost(home);
        let cost = running + moved;
        if cost < state.cost {
            state.cost = cost;
            self.best.clone_from(&self.chosen);
            self.contents.clear();
            self.contents.extend_from_slice(field.dynamic.contents());
            self.peak_kw = field.dynamic.peak_kw();
            self.shadow_prices.clear();
            self.shadow_prices
                .extend_from_slice(&field.dynamic.shadow_prices);
        }
        self.add_cut(field, running);
        Ok(true)
    }

    /// The cut at `load_kw`, just solved at `cost`.
    fn add_cut(&mut self, field: &mut Field, cost: f64) {
        let home = field.home;
        let constant = if self.is_convex {
            field.dynamic.tangent_constant(home, cost, &self.load_kw)
        } else {
            field.dynamic.lagrangian_constant(home)
        };
        let place = if self.cuts_count < CUTS_MAX {
            self.cuts_count
        } else {
            CUTS_KEPT + (self.cuts_count - CUTS_KEPT) % (CUTS_MAX - CUTS_KEPT)
        };
        if self.cuts.len() == place {
            self.cuts.push(Cut {
                constant: 0.0,
                adds: Vec::new(),
                least: Vec::new(),
            });
        }
        self.cuts_count += 1;
        let cut = &mut self.cuts[place];
        cut.constant = constant;
        cut.adds.clear();
        cut.least.clear();
        let prices = &field.dynamic.shadow_prices;
        for appliance in &home.problem.appliances {
            let mut least = f64::INFINITY;
            for start in 0..possible_starts(appliance).count() {
                let from = start + appliance.earliest_slot as usize;
                let run = prices[from..].iter().zip(&appliance.profile_kw);
                let adds = home.frame.dt * run.map(|(price, power)| price * power).sum::<f64>()
                    + start_cost(home.problem, appliance, from);
                least = least.min(adds);
                cut.adds.push(adds);
            }
            cut.least.push(least);
        }
        cut.least.push(0.0);
        for i in (0..cut.least.len() - 1).rev() {
            cut.least[i] += cut.least[i + 1];
        }
    }
}
