//! A mixed-integer program as plain numbers: columns with bounds and costs, rows with bounds. The input and output of
//! solvers. Knows nothing about homes.

/// A column, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column(usize);

impl Column {
    pub(crate) const fn index(self) -> usize {
        self.0
    }

    /// Returns its value in `values`.
    pub(crate) fn of(self, values: &[f64]) -> f64 {
        values[self.0]
    }
}

/// A sum of columns with bounds; a missing bound is infinite.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) terms: Vec<(Column, f64)>,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// The program. Its costs are minimised.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) costs: Vec<f64>,
    pub(crate) lows: Vec<f64>,
    pub(crate) highs: Vec<f64>,
    pub(crate) are_binary: Vec<bool>,
    pub(crate) rows: Vec<Row>,
}

impl Program {
    /// Adds a column from `low` to `high`, either of which may be infinite.
    pub(crate) fn column(&mut self, low: f64, high: f64) -> Column {
        self.add(low, high, false)
    }

    /// Adds a column that is 0 or 1.
    pub(crate) fn binary(&mut self) -> Column {
        self.add(0.0, 1.0, true)
    }

    fn add(&mut self, low: f64, high: f64, is_binary: bool) -> Column {
        self.costs.push(0.0);
        self.lows.push(low);
        self.highs.push(high);
        self.are_binary.push(is_binary);
        Column(self.costs.len() - 1)
    }

    /// Adds `cost` to the cost of a unit of `column`.
    pub(crate) fn charge_for(&mut self, column: Column, cost: f64) {
        self.costs[column.0] += cost;
    }

    /// Keeps the sum of `terms` between `least` and `most`.
    pub(crate) fn row(&mut self, terms: Vec<(Column, f64)>, least: f64, most: f64) {
        self.rows.push(Row { terms, least, most });
    }

    pub(crate) fn equal(&mut self, terms: Vec<(Column, f64)>, value: f64) {
        self.row(terms, value, value);
    }

    pub(crate) fn at_most(&mut self, terms: Vec<(Column, f64)>, most: f64) {
        self.row(terms, f64::NEG_INFINITY, most);
    }

    pub(crate) fn at_least(&mut self, terms: Vec<(Column, f64)>, least: f64) {
        self.row(terms, least, f64::INFINITY);
    }

    pub(crate) fn is_discrete(&self) -> bool {
        self.are_binary.contains(&true)
    }

    /// Returns the dual: a program with the same best value, whose columns are the prices of the rows of this one. Binaries
    /// count as numbers from 0 to 1. Also returns the column of each row's price.
    ///
    /// Minimising `c*x` with bounds on `A*x` and `x` becomes maximising `b*y + l*z - u*w` with `A'*y + z - w = c`. The costs
    /// here have the opposite sign, because programs are minimised.
    pub(crate) fn dual(&self) -> (Self, Vec<RowPrice>) {
        let mut dual = Self::default();
        let mut sums: Vec<Vec<(Column, f64)>> = vec![Vec::new(); self.costs.len()];
        let mut prices = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let mut side = |bound: f64, low: f64, high: f64| {
                let column = dual.column(low, high);
                dual.charge_for(column, -bound);
                for (of, factor) in &row.terms {
                    sums[of.0].push((column, *factor));
                }
                column
            };
            prices.push(if row.least == row.most {
                RowPrice::One(side(row.least, f64::NEG_INFINITY, f64::INFINITY))
            } else {
                RowPrice::Sides(
                    row.least
                        .is_finite()
                        .then(|| side(row.least, 0.0, f64::INFINITY)),
                    row.most
                        .is_finite()
                        .then(|| side(row.most, f64::NEG_INFINITY, 0.0)),
                )
            });
        }
        for (index, mut sum) in sums.into_iter().enumerate() {
            let (low, high, cost) = (self.lows[index], self.highs[index], self.costs[index]);
            if low != 0.0 && low.is_finite() {
                let column = dual.column(0.0, f64::INFINITY);
                dual.charge_for(column, -low);
                sum.push((column, 1.0));
            }
            if high.is_finite() {
                let column = dual.column(0.0, f64::INFINITY);
                dual.charge_for(column, high);
                sum.push((column, -1.0));
            }
            // A lower bound of 0 needs no column of its own: the row becomes an inequality.
            let least = if low == 0.0 { f64::NEG_INFINITY } else { cost };
            dual.row(sum, least, cost);
        }
        (dual, prices)
    }
}

/// The columns of the dual that hold the price of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowPrice {
    One(Column),
    /// Of its lower and its upper bound.
    Sides(Option<Column>, Option<Column>),
}

impl RowPrice {
    pub(crate) fn of(self, values: &[f64]) -> f64 {
        match self {
            Self::One(column) => column.of(values),
            Self::Sides(least, most) => {
                let side = |column: Option<Column>| column.map_or(0.0, |column| column.of(values));
                side(least) + side(most)
            }
        }
    }
}

/// The limits of a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    /// Longest wall time.
    pub(crate) seconds: f64,
    /// Gap at which it may stop, as a share of the objective.
    pub(crate) gap_relative: f64,
    /// Gap at which it may stop, in the objective's unit.
    pub(crate) gap_absolute: f64,
}

/// A solution.
#[derive(Debug)]
pub(crate) struct Solved {
    pub(crate) values: Vec<f64>,
    /// The cost of one more unit of each row; empty if not known.
    pub(crate) duals: Vec<f64>,
    pub(crate) objective: f64,
    /// No solution costs less.
    pub(crate) bound: f64,
}

/// Why there is no solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsolved {
    /// No solution keeps every bound.
    Infeasible,
    /// The solver gave up, or ran out of time with nothing found.
    Failed,
}
