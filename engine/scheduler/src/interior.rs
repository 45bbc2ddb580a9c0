//! Linear programs whose columns each touch at most two rows, not far from each other, by an interior-point method:
//! S. Mehrotra, "On the Implementation of a Primal-Dual Interior Point Method", SIAM J. Optim. 2 (1992), with bounds on
//! columns. The normal equations are a band, so a step takes time in proportion to the program. Knows nothing about homes.

use crate::numbers::{REACH_KWH, larger, smaller};

/// The share of the way to the nearest bound that a step goes.
const WAY: f64 = 0.9995;
/// A step is short where less than this share of it is taken.
const SHORT: f64 = 0.1;
/// How near to a bound, as a share of the way to the other, the search begins.
const BESIDE: f64 = 0.05;
/// What bounds are worth at the beginning, as a share of what columns cost at the prices guessed.
const WORTH: f64 = 0.03;
/// A pivot below this share of the largest is of a row that says nothing.
const PIVOT_MIN: f64 = 1e-30;

/// How far two rows of a column are apart at most.
pub(crate) const APART_MAX: usize = 7;

/// A column from 0 to `length`, above 0.
#[derive(Debug, Clone, Copy)]
struct Column {
    cost: f64,
    length: f64,
    /// Where the search begins, before it is moved away from the bounds.
    start: f64,
    /// Two different rows and what a unit adds to them; 0 to what is not touched.
    rows: [(u32, f64); 2],
}

impl Column {
    fn price(&self, prices: &[f64]) -> f64 {
        let [(a, by_a), (b, by_b)] = self.rows;
        by_a * prices[a as usize] + by_b * prices[b as usize]
    }

    fn add(&self, amount: f64, sums: &mut [f64]) {
        for (row, factor) in self.rows {
            sums[row as usize] += factor * amount;
        }
    }
}

/// A column's value, what its bounds 0 and `length` are worth, and the step.
#[derive(Debug, Clone, Copy, Default)]
struct Point {
    x: f64,
    room: f64,
    low: f64,
    high: f64,
    over_x: f64,
    over_room: f64,
    theta: f64,
    reduced: f64,
    step_x: f64,
    step_low: f64,
    step_high: f64,
}

/// Minimises the cost of columns whose rows add up to `sums`. Keeps its arrays.
#[derive(Debug, Default)]
pub(crate) struct Interior {
    columns: Vec<Column>,
    /// What each row adds up to.
    pub(crate) sums: Vec<f64>,
    /// The price of each row: what one more of its sum costs. At first a guess.
    pub(crate) prices: Vec<f64>,
    /// How far two rows of a column are apart at most, [`APART_MAX`] or less.
    apart: usize,
    points: Vec<Point>,
    missing: Vec<f64>,
    /// The normal equations: for each row the diagonal, then what is below it.
    band: Vec<f64>,
    right: Vec<f64>,
    unmet: f64,
    /// The share of the last step that was taken.
    way: f64,
}

impl Interior {
    /// Forgets all columns, and makes `rows` rows with sums and prices of 0.
    pub(crate) fn clear(&mut self, rows: usize, apart: usize) {
        self.apart = apart;
        self.columns.clear();
        self.sums.clear();
        self.sums.resize(rows, 0.0);
        self.prices.clear();
        self.prices.resize(rows, 0.0);
    }

    /// Adds a column from 0 to `length` that begins at `start`, unless it has no length. Returns its index.
    pub(crate) fn piece(
        &mut self,
        cost: f64,
        length: f64,
        start: f64,
        rows: [(usize, f64); 2],
    ) -> Option<usize> {
        #[expect(clippy::cast_possible_truncation, reason = "a few rows for each slot")]
        let rows = rows.map(|(row, factor)| (row as u32, factor));
        (length > REACH_KWH).then(|| {
            self.columns.push(Column {
                cost,
                length,
                start,
                rows,
            });
            self.columns.len() - 1
        })
    }

    /// Begins where the columns say, with the prices as they are.
    pub(crate) fn begin(&mut self) {
        self.way = 1.0;
        let prices = &self.prices;
        let reduced = |column: &Column| column.cost - column.price(prices);
        let size: f64 = self.columns.iter().map(|c| reduced(c).abs()).sum();
        #[expect(clippy::cast_precision_loss, reason = "a count of columns")]
        let even = WORTH * larger(size / self.columns.len() as f64, 1e-6);
        self.points.clear();
        self.points.extend(self.columns.iter().map(|column| {
            let reduced = reduced(column);
            let share = BESIDE * column.length;
            let x = smaller(larger(column.start, share), column.length - share);
            Point {
                x,
                room: column.length - x,
                low: larger(reduced, 0.0) + 0.5 * even * column.length / x,
                high: larger(-reduced, 0.0) + 0.5 * even * column.length / (column.length - x),
                ..Point::default()
            }
        }));
    }

    /// The value of column `index`.
    pub(crate) fn value(&self, index: usize) -> f64 {
        self.points[index].x
    }

    /// How far the point is from the best one at most, in cost, as far as the rows are met.
    pub(crate) fn distance(&self) -> f64 {
        self.points
            .iter()
            .map(|p| p.x * p.low + p.room * p.high)
            .sum()
    }

    /// By how much rows are not met, at most, before the last step.
    pub(crate) fn unmet(&self) -> f64 {
        self.unmet
    }

    /// One step; false where numbers end.
    pub(crate) fn step(&mut self) -> bool {
        match self.apart {
            ..=3 => self.step_in::<4>(),
            4 => self.step_in::<5>(),
            _ => self.step_in::<{ APART_MAX + 1 }>(),
        }
    }

    /// The same in a band of `W` below and with the diagonal.
    fn step_in<const W: usize>(&mut self) -> bool {
        self.equations::<W>();
        self.factor::<W>();
        self.solve::<W>();
        let (centre, is_finite) = self.foresee();
        if !is_finite {
            return false;
        }
        self.correct(centre);
        self.solve::<W>();
        self.go(centre)
    }

    /// Sets up the equations of the step straight to the bounds.
    fn equations<const W: usize>(&mut self) {
        let rows = self.sums.len();
        self.missing.clone_from(&self.sums);
        self.band.clear();
        self.band.resize((rows + W) * W, 0.0);
        self.right.clear();
        self.right.resize(rows + W + 1, 0.0);
        let (band, _) = self.band.as_chunks_mut::<W>();
        for (column, point) in self.columns.iter().zip(&mut self.points) {
            let product = point.x * point.room;
            let over = 1.0 / product;
            (point.over_x, point.over_room) = (point.room * over, point.x * over);
            point.theta = product / (point.low * point.room + point.high * point.x);
            point.reduced = column.cost - column.price(&self.prices);
            column.add(-point.x, &mut self.missing);
            column.add(point.theta * point.reduced, &mut self.right);
            let [(a, by_a), (b, by_b)] = column.rows;
            let (a, b) = (a as usize, b as usize);
            band[a][0] += point.theta * by_a * by_a;
            band[b][0] += point.theta * by_b * by_b;
            band[a.min(b)][a.abs_diff(b)] += point.theta * by_a * by_b;
        }
        self.unmet = 0.0;
        for (right, missing) in self.right.iter_mut().zip(&self.missing) {
            *right += missing;
            self.unmet = larger(self.unmet, missing.abs());
        }
    }

    /// Cholesky's factors in place, `L*D*L'`; the diagonal holds `1/D`, 0 for a row that says nothing.
    fn factor<const W: usize>(&mut self) {
        let rows = self.sums.len();
        let (band, _) = self.band.as_chunks_mut::<W>();
        let largest = band.iter().fold(0.0, |most, head| larger(most, head[0]));
        let least = largest * PIVOT_MIN;
        for row in 0..rows {
            let head = band[row];
            let pivot = if head[0] > least { 1.0 / head[0] } else { 0.0 };
            let mut factors = head.map(|below| below * pivot);
            factors[0] = pivot;
            band[row] = factors;
            let Some(rest) = band[row..].first_chunk_mut::<W>() else {
                break;
            };
            for i in 1..W {
                for j in i..W {
                    rest[i][j - i] -= factors[i] * head[j];
                }
            }
        }
    }

    /// Makes `right` the solution. What the next rows need stays at hand, for memory is waited for.
    fn solve<const W: usize>(&mut self) {
        let rows = self.sums.len();
        let (band, _) = self.band.as_chunks::<W>();
        let right = &mut self.right;
        let mut window: [f64; W] = std::array::from_fn(|i| right[i]);
        for (row, factors) in band[..rows].iter().enumerate() {
            let value = window[0];
            right[row] = value;
            for i in 1..W {
                window[i - 1] = window[i] - factors[i] * value;
            }
            window[W - 1] = right[row + W];
        }
        let mut window = [0.0; W];
        for (row, factors) in band[..rows].iter().enumerate().rev() {
            let mut value = right[row] * factors[0];
            for i in (1..W).rev() {
                value -= factors[i] * window[i - 1];
            }
            for i in (1..W).rev() {
                window[i] = window[i - 1];
            }
            window[0] = value;
            right[row] = value;
        }
    }

    /// Takes the step straight to the bounds, and says from how far it gets which products to aim for.
    fn foresee(&mut self) -> (f64, bool) {
        let mut sums = [0.0; 4];
        let (mut worst, mut worst_price) = (0.0, 0.0);
        for (column, point) in self.columns.iter().zip(&mut self.points) {
            let p = *point;
            let step = p.theta * (column.price(&self.right) - p.reduced);
            let (share_x, share_room) = (step * p.over_x, step * p.over_room);
            let step_low = -p.low - p.low * share_x;
            let step_high = -p.high + p.high * share_room;
            worst = larger(worst, larger(-share_x, share_room));
            worst_price = larger(worst_price, larger(1.0 + share_x, 1.0 - share_room));
            sums[0] += p.x * p.low + p.room * p.high;
            sums[1] += step * (p.low - p.high);
            sums[2] += p.x * step_low + p.room * step_high;
            sums[3] += step * (step_low - step_high);
            (point.step_x, point.step_low, point.step_high) = (step, step_low, step_high);
        }
        let (along, along_price) = (1.0 / larger(worst, 1.0), 1.0 / larger(worst_price, 1.0));
        let after =
            sums[0] + along * sums[1] + along_price * sums[2] + along * along_price * sums[3];
        #[expect(clippy::cast_precision_loss, reason = "a count of columns")]
        let count = 2.0 * self.columns.len() as f64;
        let share = smaller(larger(after / sums[0], 0.0), 1.0);
        // After a short step the next one goes to the middle, from where there is a way.
        let share = if self.way < SHORT { 1.0 } else { share.powi(3) };
        let centre = share * sums[0] / count;
        (centre, sums.iter().all(|sum| sum.is_finite()))
    }

    /// Sets up the equations of the step towards products of `centre`, with what the step foreseen would miss.
    fn correct(&mut self, centre: f64) {
        let (right, beyond) = self.right.split_at_mut(self.missing.len());
        right.copy_from_slice(&self.missing);
        beyond.fill(0.0);
        for (column, point) in self.columns.iter().zip(&mut self.points) {
            let at_low = (centre - point.step_x * point.step_low) * point.over_x;
            let at_high = (centre + point.step_x * point.step_high) * point.over_room;
            point.reduced += at_high - at_low;
            column.add(point.theta * point.reduced, &mut self.right);
            (point.step_low, point.step_high) = (at_low, at_high);
        }
    }

    /// Takes the step; false where numbers end.
    fn go(&mut self, centre: f64) -> bool {
        let mut worst = 0.0;
        // A quotient, so as not to divide.
        let (mut fall, mut from) = (0.0, 1.0);
        for (column, point) in self.columns.iter().zip(&mut self.points) {
            let p = *point;
            let step = p.theta * (column.price(&self.right) - p.reduced);
            let (share_x, share_room) = (step * p.over_x, step * p.over_room);
            point.step_x = step;
            point.step_low = p.step_low - p.low - p.low * share_x;
            point.step_high = p.step_high - p.high + p.high * share_room;
            worst = larger(worst, larger(-share_x, share_room));
            if -point.step_low * from > fall * p.low {
                (fall, from) = (-point.step_low, p.low);
            }
            if -point.step_high * from > fall * p.high {
                (fall, from) = (-point.step_high, p.high);
            }
        }
        let worst_price = fall / from;
        if !(centre.is_finite() && worst.is_finite() && worst_price.is_finite()) {
            return false;
        }
        let along = smaller(WAY / worst, 1.0);
        let along_price = smaller(WAY / worst_price, 1.0);
        self.way = smaller(along, along_price);
        for point in &mut self.points {
            point.x += along * point.step_x;
            point.room -= along * point.step_x;
            point.low += along_price * point.step_low;
            point.high += along_price * point.step_high;
        }
        for (price, step) in self.prices.iter_mut().zip(&self.right) {
            *price += along_price * step;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs 3 and 1 for a unit from two sources of 2 and 1.5, one row that needs 2: 1.5 of the cheap one and 0.5 of the
    /// other, so that one more costs 3.
    #[test]
    fn takes_the_cheaper_source_first() {
        let mut interior = Interior {
            sums: vec![2.0, 0.0],
            prices: vec![0.0; 2],
            apart: 1,
            ..Interior::default()
        };
        for (cost, length) in [(3.0, 2.0), (1.0, 1.5)] {
            interior.piece(cost, length, 1.0, [(0, 1.0), (1, 0.0)]);
        }
        interior.begin();
        while interior.distance() > 1e-9 {
            assert!(interior.step());
        }
        assert!((interior.value(0) - 0.5).abs() < 1e-7);
        assert!((interior.value(1) - 1.5).abs() < 1e-7);
        assert!((interior.prices[0] - 3.0).abs() < 1e-6);
    }
}
