//! Prices that prove a plan of two stores beside each other, read off the plan itself.
//!
//! A plan is the best one exactly where every slot has a price at which the meter and each store like what they do. What a
//! store likes depends on how steep what follows is for it, and that steepness stays from slot to slot, but for what a bound
//! between them explains. So, from the last slot back, the pairs of steepnesses that suit this slot and all later ones are a
//! convex polygon, cut by what the slot allows. Where none is left, the plan is not the best. Else one pair after the other
//! is picked from the first slot on, and the prices follow. Knows nothing about appliances and penalties.

use crate::meter::Meter;
use crate::numbers::{REACH_KWH, larger, smaller};
use crate::slot_cost::{Wish, wishes};
use crate::vessel::Vessel;

/// Corners of a polygon at most.
const CORNERS_MAX: usize = 20;
/// How far from suitable a pair may be, in multiples of a price: far above the rounding of sums, far below what counts.
const SLACK: f64 = 1e-11;
/// Beyond every steepness that there is, and beyond most, in multiples of a price.
const FAR: f64 = 1e4;
const NEAR: f64 = 1e2;

/// A store with its plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned<'a> {
    pub(crate) vessel: &'a Vessel,
    /// Content at the end of each slot.
    pub(crate) contents: &'a [f64],
    /// Move in each slot.
    pub(crate) changes: &'a [f64],
}

impl Planned<'_> {
    /// Which way the bounds at the end of slot `t` may change the steepness: downwards, upwards.
    fn bounds(&self, t: usize) -> [bool; 2] {
        let span = self.vessel.span(t);
        let low = if t + 1 == self.contents.len() {
            span.low.max(self.vessel.end_low)
        } else {
            span.low
        };
        let content = self.contents[t];
        [content <= low + REACH_KWH, content >= span.high - REACH_KWH]
    }
}

/// Corners in order around it.
#[derive(Debug, Clone, Copy)]
struct Polygon {
    corners: [[f64; 2]; CORNERS_MAX],
    count: usize,
    /// Whether it had more corners than there may be, and has none now.
    is_lost: bool,
}

impl Polygon {
    const EMPTY: Self = Self {
        corners: [[0.0; 2]; CORNERS_MAX],
        count: 0,
        is_lost: false,
    };

    /// The square around `at` whose sides are twice `slack`.
    fn around(at: [f64; 2], slack: f64) -> Self {
        let mut square = Self::EMPTY;
        for [x, y] in [
            [-slack, -slack],
            [slack, -slack],
            [slack, slack],
            [-slack, slack],
        ] {
            square.push([at[0] + x, at[1] + y]);
        }
        square
    }

    fn corners(&self) -> &[[f64; 2]] {
        &self.corners[..self.count]
    }

    /// The next corner.
    fn push(&mut self, corner: [f64; 2]) {
        let is_same = self.count > 0 && self.corners[self.count - 1] == corner;
        if is_same || self.is_lost {
            return;
        }
        if self.count == CORNERS_MAX {
            (self.count, self.is_lost) = (0, true);
            return;
        }
        self.corners[self.count] = corner;
        self.count += 1;
    }

    /// What of it has `by[0]*x + by[1]*y <= most`.
    fn cut(&mut self, by: [f64; 2], most: f64) {
        let over = |corner: &[f64; 2]| by[0] * corner[0] + by[1] * corner[1] - most;
        if self.corners().iter().all(|corner| over(corner) <= 0.0) {
            return;
        }
        let mut kept = Self::EMPTY;
        for (i, corner) in self.corners().iter().enumerate() {
            let next = &self.corners[(i + 1) % self.count];
            let (here, there) = (over(corner), over(next));
            if here <= 0.0 {
                kept.push(*corner);
            }
            if (here <= 0.0) != (there <= 0.0) {
                let share = here / (here - there);
                kept.push([
                    corner[0] + share * (next[0] - corner[0]),
                    corner[1] + share * (next[1] - corner[1]),
                ]);
            }
        }
        *self = kept;
    }

    fn scale(&mut self, factors: [f64; 2]) {
        if factors == [1.0; 2] {
            return;
        }
        for corner in &mut self.corners[..self.count] {
            corner[0] *= factors[0];
            corner[1] *= factors[1];
        }
    }

    /// Goes on along an axis as far as `to`.
    fn extend(&mut self, axis: usize, to: f64) {
        let across = self.corners().iter().map(|corner| corner[1 - axis]);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for place in across {
            (least, most) = (smaller(least, place), larger(most, place));
        }
        let mut points = [[0.0; 2]; CORNERS_MAX + 2];
        let count = self.count;
        points[..count].copy_from_slice(self.corners());
        for (point, place) in points[count..].iter_mut().zip([least, most]) {
            point[axis] = to;
            point[1 - axis] = place;
        }
        *self = hull(&mut points[..count + 2]);
    }

    /// Its middle, within `most` of 0 where it gets there.
    fn middle(&self, most: f64) -> [f64; 2] {
        let mut near = *self;
        for by in [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]] {
            near.cut(by, most);
        }
        if near.count > 0 {
            near.mean()
        } else {
            self.mean()
        }
    }

    fn mean(&self) -> [f64; 2] {
        let mut sums = [0.0; 2];
        let mut count = 0.0;
        for corner in self.corners() {
            sums[0] += corner[0];
            sums[1] += corner[1];
            count += 1.0;
        }
        sums.map(|sum| sum / count)
    }
}

/// The smallest polygon around `points`.
fn hull(points: &mut [[f64; 2]]) -> Polygon {
    points.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let mut chain = [[0.0; 2]; 2 * CORNERS_MAX + 4];
    let mut count = 0;
    let turns = |a: [f64; 2], b: [f64; 2], c: [f64; 2]| {
        (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) > 0.0
    };
    let mut add = |from: usize, point: [f64; 2]| {
        while count >= from + 2 && !turns(chain[count - 2], chain[count - 1], point) {
            count -= 1;
        }
        chain[count] = point;
        count += 1;
        count
    };
    let mut lower = 0;
    for point in points.iter() {
        lower = add(0, *point);
    }
    let mut all = lower;
    for point in points.iter().rev().skip(1) {
        all = add(lower - 1, *point);
    }
    let mut polygon = Polygon::EMPTY;
    for corner in &chain[..all - 1] {
        polygon.push(*corner);
    }
    polygon
}

/// What a slot says: the meter's slopes, and what each store wishes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    meter: (f64, f64),
    /// Of each store what the price must be at least, and at most.
    wishes: [[Option<Wish>; 2]; 2],
}

impl Slot {
    fn of(t: usize, meter: &Meter, stores: &[Planned; 2]) -> Self {
        let mut balance = meter.net;
        let wishes = stores.map(|store| {
            let change = store.changes[t];
            balance += store.vessel.span(t).flow(change);
            wishes(store.vessel, t, change)
        });
        Self {
            meter: meter.slopes_at(balance),
            wishes,
        }
    }

    /// Cuts away the pairs for which no price suits all.
    fn cut(&self, pairs: &mut Polygon, slack: f64) {
        for (k, [least, most]) in self.wishes.iter().enumerate() {
            let axis = |factor: f64| if k == 0 { [factor, 0.0] } else { [0.0, factor] };
            if let Some(least) = least
                && self.meter.1.is_finite()
            {
                let over = self.meter.1 - least.rate * least.at;
                pairs.cut(axis(-least.rate), over + slack);
            }
            if let Some(most) = most
                && self.meter.0.is_finite()
            {
                let over = most.rate * most.at - self.meter.0;
                pairs.cut(axis(most.rate), over + slack);
            }
            for (other, [_, most]) in self.wishes.iter().enumerate() {
                if let (Some(least), Some(most)) = (least, most) {
                    let mut by = [0.0; 2];
                    by[k] -= least.rate;
                    by[other] += most.rate;
                    pairs.cut(by, most.rate * most.at - least.rate * least.at + slack);
                }
            }
        }
    }

    /// The price that suits `pair`: the largest one, unless it is infinite.
    fn price(&self, pair: [f64; 2]) -> f64 {
        let (mut least, mut most) = self.meter;
        for ([low, high], steepness) in self.wishes.iter().zip(pair) {
            if let Some(low) = low {
                least = larger(least, low.price(steepness));
            }
            if let Some(high) = high {
                most = smaller(most, high.price(steepness));
            }
        }
        if most.is_finite() {
            most
        } else if least.is_finite() {
            least
        } else {
            0.0
        }
    }
}

/// Working arrays.
#[derive(Debug, Default)]
pub(crate) struct Pricing {
    slots: Vec<Slot>,
    /// The pairs that suit each slot and all later ones.
    pairs: Vec<Polygon>,
}

impl Pricing {
    /// Puts the price of each slot that proves the plan of `stores` into `prices`; false where there are none. What is small
    /// and what is large is measured in `price`.
    pub(crate) fn prove(
        &mut self,
        meters: &[Meter],
        stores: &[Planned; 2],
        price: f64,
        prices: &mut Vec<f64>,
    ) -> bool {
        let slack = SLACK * price;
        self.slots.clear();
        self.slots
            .extend((0..meters.len()).map(|t| Slot::of(t, &meters[t], stores)));
        self.pairs.clear();
        self.pairs.resize(meters.len(), Polygon::EMPTY);
        let mut pairs = Polygon::around(stores.map(|store| -store.vessel.end_value), slack);
        for t in (0..meters.len()).rev() {
            for (axis, store) in stores.iter().enumerate() {
                let [down, up] = store.bounds(t);
                if down {
                    pairs.extend(axis, -FAR * price);
                }
                if up {
                    pairs.extend(axis, FAR * price);
                }
            }
            self.slots[t].cut(&mut pairs, slack);
            if pairs.count == 0 {
                return false;
            }
            self.pairs[t] = pairs;
            pairs.scale(stores.map(|store| store.vessel.span(t).keep));
        }
        self.pick(stores, price, prices)
    }

    /// Picks a pair for each slot, from the first one on.
    fn pick(&self, stores: &[Planned; 2], price: f64, prices: &mut Vec<f64>) -> bool {
        let (slack, near) = (SLACK * price, NEAR * price);
        prices.clear();
        let mut pair = self.pairs[0].middle(near);
        for (t, slot) in self.slots.iter().enumerate() {
            if t > 0 {
                let mut left = self.pairs[t];
                for (axis, store) in stores.iter().enumerate() {
                    let at = pair[axis] / store.vessel.span(t).keep;
                    let by = |factor: f64| {
                        if axis == 0 {
                            [factor, 0.0]
                        } else {
                            [0.0, factor]
                        }
                    };
                    let [down, up] = store.bounds(t - 1);
                    // A bound that pulled the steepness down leaves more of it here.
                    if !down {
                        left.cut(by(1.0), at + slack);
                    }
                    if !up {
                        left.cut(by(-1.0), -at + slack);
                    }
                }
                if left.count == 0 {
                    return false;
                }
                pair = left.middle(near);
            }
            prices.push(slot.price(pair));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(polygon: &Polygon) -> f64 {
        let corners = polygon.corners();
        let next = corners.iter().cycle().skip(1);
        let twice: f64 = corners
            .iter()
            .zip(next)
            .map(|(a, b)| a[0] * b[1] - a[1] * b[0])
            .sum();
        0.5 * twice
    }

    /// A square of 2 by 2, cut at x + y <= 1: less a triangle of sides 1. Extended to x = -3 at its widest: 2 by 2 more.
    #[test]
    fn polygons_are_cut_and_extended() {
        let mut polygon = Polygon::around([0.0; 2], 1.0);
        assert!((area(&polygon) - 4.0).abs() < 1e-12);
        polygon.cut([1.0, 1.0], 1.0);
        assert!((area(&polygon) - 3.5).abs() < 1e-12);
        polygon.extend(0, -3.0);
        assert!((area(&polygon) - 7.5).abs() < 1e-12);
        polygon.extend(1, 2.0);
        assert!((area(&polygon) - 12.0).abs() < 1e-12, "{polygon:?}");
        polygon.cut([0.0, -1.0], -5.0);
        assert_eq!(polygon.count, 0);
    }
}
