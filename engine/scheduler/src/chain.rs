//! Functions of one number in linear pieces, and what is the least of one within reach. Knows nothing about homes.

/// Bends at most, for what is stated here.
const BENDS_MAX: usize = 12;

/// Where a function bends upwards: from a place on, or before it, each unit away from it costs more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hinge {
    pub(crate) at: f64,
    /// 0 or more; infinite where nothing may go beyond.
    pub(crate) price: f64,
}

impl Hinge {
    fn counts(&self) -> bool {
        self.at.is_finite() && self.price > 0.0
    }
}

/// A function of `e`: `before*e` below 0 and `after*e` above, and what the hinges cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hinged {
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// Cost below their places.
    pub(crate) below: [Hinge; 2],
    /// Cost above their places.
    pub(crate) above: [Hinge; 3],
}

impl Hinged {
    fn value(&self, e: f64) -> f64 {
        let slope = if e > 0.0 { self.after } else { self.before };
        let beyond = |by: f64, price: f64| if by > 0.0 { price * by } else { 0.0 };
        let below = self.below.iter().map(|hinge| (hinge.at - e, hinge.price));
        let above = self.above.iter().map(|hinge| (e - hinge.at, hinge.price));
        let costs = below.chain(above).map(|(by, price)| beyond(by, price));
        slope * e + costs.sum::<f64>()
    }

    /// The same as a chain.
    fn chain(&self) -> Chain {
        let mut places = [0.0; BENDS_MAX];
        let mut count = 1;
        let hinges = self.below.iter().chain(&self.above);
        for hinge in hinges.filter(|hinge| hinge.counts()) {
            places[count] = hinge.at;
            count += 1;
        }
        let places = &mut places[..count];
        places.sort_unstable_by(f64::total_cmp);
        let slope = |from: f64, to: f64| {
            let plain = if to <= 0.0 { self.before } else { self.after };
            let below = self.below.iter().filter(|h| h.counts() && to <= h.at);
            let above = self.above.iter().filter(|h| h.counts() && from >= h.at);
            plain - below.map(|h| h.price).sum::<f64>() + above.map(|h| h.price).sum::<f64>()
        };
        let mut chain = Chain::from(slope(f64::NEG_INFINITY, places[0]));
        for (i, place) in places.iter().enumerate() {
            let next = places.get(i + 1).copied().unwrap_or(f64::INFINITY);
            if next > *place {
                chain.push(*place, slope(*place, next));
            }
        }
        chain.origin = (0.0, self.value(0.0));
        chain
    }

    /// The least of the function from `e` to `e + reach`, for each `e`. It bends downwards at 0 at most.
    pub(crate) fn least_ahead(&self, reach: f64) -> Chain {
        let whole = self.chain();
        if reach <= 0.0 {
            return whole;
        }
        if whole.slopes[..=whole.count].is_sorted() {
            return self.slid(&whole, reach);
        }
        // Convex on both sides. The least of the left side rises towards 0, for its reach gets shorter, and that of the
        // right side falls: they meet once.
        let mut left = Chain::from(whole.slopes[0]);
        let mut right = Chain::from(f64::NEG_INFINITY);
        for (bend, after) in whole.bends() {
            if bend < 0.0 {
                left.push(bend, after);
            } else {
                right.push(bend, after);
            }
        }
        left.push(0.0, f64::INFINITY);
        let (left, right) = (self.slid(&left, reach), self.slid(&right, reach));
        left.until(meeting(&left, &right, reach), &right)
    }

    /// The same for a convex chain with the values of this function: what falls begins earlier by the reach, and in
    /// between it is flat.
    fn slid(&self, chain: &Chain, reach: f64) -> Chain {
        let falling = chain.slopes[..=chain.count]
            .iter()
            .take_while(|slope| **slope < 0.0)
            .count();
        let mut slid = Chain::from(chain.slopes[0]);
        slid.origin = (0.0, self.value(0.0));
        for (i, (bend, after)) in chain.bends().enumerate() {
            if i + 1 < falling {
                slid.push(bend - reach, after);
            } else if i + 1 == falling {
                slid.push(bend - reach, 0.0);
                slid.push(bend, after);
                slid.origin = (bend, self.value(bend));
            } else {
                slid.push(bend, after);
            }
        }
        if falling > chain.count {
            slid.origin.0 = -reach;
        }
        slid
    }
}

/// Where `left`, which rises on `-reach..0`, ceases to be below `right`, which falls.
fn meeting(left: &Chain, right: &Chain, reach: f64) -> f64 {
    let bends = left.bends().chain(right.bends()).map(|(bend, _)| bend);
    let mut places = [0.0; 2 * BENDS_MAX + 1];
    let mut count = 1;
    for bend in bends.filter(|bend| *bend > -reach && *bend < 0.0) {
        places[count] = bend;
        count += 1;
    }
    let places = &mut places[..count];
    places.sort_unstable_by(f64::total_cmp);
    let above = |e: f64| left.value(e) - right.value(e);
    let (mut from, mut under) = (-reach, above(-reach));
    for place in places.iter() {
        let over = above(*place);
        if over > 0.0 {
            // Rounding may put the left one above from the start.
            let share = if under < 0.0 {
                under / (under - over)
            } else {
                0.0
            };
            return from + share * (place - from);
        }
        (from, under) = (*place, over);
    }
    0.0
}

/// A function in linear pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    bends: [f64; BENDS_MAX],
    /// Before, between and after the bends; infinite at the ends where the function is.
    slopes: [f64; BENDS_MAX + 1],
    count: usize,
    /// A place and the value there.
    pub(crate) origin: (f64, f64),
}

impl Chain {
    fn from(slope: f64) -> Self {
        let mut slopes = [0.0; BENDS_MAX + 1];
        slopes[0] = slope;
        Self {
            bends: [0.0; BENDS_MAX],
            slopes,
            count: 0,
            origin: (0.0, 0.0),
        }
    }

    /// Goes on after `bend` with `slope`. Of several bends at one place the last counts.
    fn push(&mut self, bend: f64, slope: f64) {
        if self.count == 0 || self.bends[self.count - 1] < bend {
            self.bends[self.count] = bend;
            self.count += 1;
        }
        self.slopes[self.count] = slope;
    }

    /// Where it begins and ends; infinite where it does not.
    pub(crate) fn ends(&self) -> (f64, f64) {
        let slopes = &self.slopes[..=self.count];
        let before = slopes.iter().rposition(|slope| *slope == f64::NEG_INFINITY);
        let after = slopes.iter().position(|slope| *slope == f64::INFINITY);
        (
            before.map_or(f64::NEG_INFINITY, |last| self.bends[last]),
            after.map_or(f64::INFINITY, |first| self.bends[first - 1]),
        )
    }

    /// Its first slope.
    pub(crate) fn first(&self) -> f64 {
        self.slopes[0]
    }

    /// Each bend with the slope after it.
    pub(crate) fn bends(&self) -> impl Iterator<Item = (f64, f64)> {
        let bends = self.bends[..self.count].iter().copied();
        bends.zip(self.slopes[1..].iter().copied())
    }

    fn value(&self, e: f64) -> f64 {
        let (origin, value) = self.origin;
        let (low, high) = (origin.min(e), origin.max(e));
        let mut between = 0.0;
        for i in 0..=self.count {
            let from = if i == 0 {
                low
            } else {
                self.bends[i - 1].max(low)
            };
            let to = if i == self.count {
                high
            } else {
                self.bends[i].min(high)
            };
            if to > from {
                between += self.slopes[i] * (to - from);
            }
        }
        if e < origin {
            value - between
        } else {
            value + between
        }
    }

    /// This one up to `turn`, and `right` from there on.
    fn until(&self, turn: f64, right: &Self) -> Self {
        let mut both = Self::from(self.slopes[0]);
        for (bend, after) in self.bends().filter(|(bend, _)| *bend < turn) {
            both.push(bend, after);
        }
        let passed = right.bends().filter(|(bend, _)| *bend <= turn).count();
        both.push(turn, right.slopes[passed]);
        for (bend, after) in right.bends().filter(|(bend, _)| *bend > turn) {
            both.push(bend, after);
        }
        both.origin = (turn, self.value(turn));
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_HINGE: Hinge = Hinge {
        at: f64::INFINITY,
        price: 0.0,
    };

    /// Prices in steps of 0.1 from every sign, hinges on both sides of 0, reach of 0 to 3: the chain at each tenth is the
    /// least of the values that the function has from there on.
    #[test]
    fn is_the_least_ahead() {
        let mut seed = 1_u64;
        let mut below = |count: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % count
        };
        for case in 0..20_000 {
            let mut price = || below(13) as f64 / 10.0 - 0.6;
            let (before, after) = (price(), price());
            let mut hinge = |wall: Option<f64>| match wall {
                Some(at) if below(2) == 0 => Hinge {
                    at,
                    price: f64::INFINITY,
                },
                Some(_) => NO_HINGE,
                None if below(3) == 0 => NO_HINGE,
                None => Hinge {
                    at: below(81) as f64 / 10.0 - 4.0,
                    price: below(20) as f64 / 10.0,
                },
            };
            let hinged = Hinged {
                before,
                after,
                below: [hinge(Some(-2.5)), hinge(None)],
                above: [hinge(None), hinge(None), hinge(Some(3.5))],
            };
            let reach = below(31) as f64 / 10.0;
            let chain = hinged.least_ahead(reach);
            let steps = (reach * 10.0).round() as i32;
            for tenth in -40..=35 {
                let values = (0..=steps).map(|step| hinged.value(f64::from(tenth + step) / 10.0));
                let least = values.fold(f64::INFINITY, f64::min);
                if least == f64::INFINITY {
                    continue;
                }
                // A hair beyond a wall is at the wall.
                let (low, high) = chain.ends();
                let found = chain.value((f64::from(tenth) / 10.0).clamp(low, high));
                let is_same = (found - least).abs() < 1e-9;
                assert!(
                    is_same,
                    "case {case} at {tenth}: {found}, not {least}: {hinged:?} {reach}"
                );
            }
        }
    }
}
