//! The exact dynamic program for a store whose slot costs are convex. Never allocates once its arrays have grown.
//!
//! `V_t(s)` is the least cost from slot `t` on with `s` in the store (`value.rs`). With convex slot costs it is convex and piecewise
//! linear, and `V_t(s) = min over x of g_t(x) + V_{t+1}(keep*s + drift + x)` merges two lists of pieces in the order of
//! their slopes, scales the sum, and cuts it to the bounds. One list is merged into over and over; only slopes are
//! kept, for a schedule needs no values.
//!
//! What a slot does with a content is simple: each piece of its cost has a level, the content at which `V_{t+1}` gets as
//! steep. The store moves towards the levels, most worthwhile piece first. So the way forward needs levels alone.

use crate::meter::{Meter, Piece};
use crate::numbers::{REACH_KWH, SLIVER_KWH, larger, smaller};
use crate::outlook::ASKED;
use crate::slot_cost::{Move, PIECES_MAX, shadow_price};
use crate::value::{OutOfReach, Value};
use crate::vessel::Vessel;

/// A function kept for a later solve.
#[derive(Debug, Clone, Copy)]
struct Mark {
    low: f64,
    high: f64,
    from: usize,
    to: usize,
}

/// Slopes from `least` to `most`.
#[derive(Debug, Clone, Copy)]
struct Range {
    least: f64,
    most: f64,
}

impl Range {
    const ANY: Self = Self {
        least: f64::NEG_INFINITY,
        most: f64::INFINITY,
    };

    fn plus(self, other: Self) -> Self {
        Self {
            least: self.least + other.least,
            most: self.most + other.most,
        }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            least: self.least * factor,
            most: self.most * factor,
        }
    }

    /// What both have; where rounding leaves nothing, a place between.
    fn and(self, other: Self) -> Self {
        let least = larger(self.least, other.least);
        Self {
            least,
            most: larger(smaller(self.most, other.most), least),
        }
    }

    /// The slope for a unit more, or, if there `is_no_room` for it, for a unit less.
    fn of_one_more(self, is_no_room: bool) -> f64 {
        let (first, second) = if is_no_room {
            (self.least, self.most)
        } else {
            (self.most, self.least)
        };
        if first.is_finite() {
            first
        } else if second.is_finite() {
            second
        } else {
            0.0
        }
    }

    fn nearest(self, slope: f64) -> f64 {
        smaller(larger(slope, self.least), self.most)
    }
}

/// Working arrays and, after [`Convex::solve`], the answer.
#[derive(Debug, Default)]
pub(crate) struct Convex {
    /// The newest function.
    value: Value,
    /// The contents that can be held at the end of each slot, whatever follows.
    pub(crate) bounds: Vec<(f64, f64)>,
    /// What to do in each slot, whatever the content: see [`Value::step`].
    levels: Vec<[f64; PIECES_MAX]>,
    /// Slopes to be found in what follows each slot: none at all, or the same number of sets for each slot.
    pub(crate) asked: Vec<[f64; ASKED]>,
    /// For each of them the content below which what follows is steeper.
    pub(crate) places: Vec<[f64; ASKED]>,
    /// `V_T` first, where they are kept.
    marks: Vec<Mark>,
    kept: Vec<Piece>,
    /// Content at the end of each slot.
    pub(crate) contents: Vec<f64>,
    /// Move in each slot.
    pub(crate) changes: Vec<f64>,
    /// What one more unit at the end of each slot is worth to the slots after it, or the last one of a full store. With
    /// the shadow prices.
    pub(crate) worths: Vec<f64>,
    /// For each slot the slopes of what follows it that suit the slot and all later ones, and what the bounds at its
    /// end add to them.
    ranges: Vec<(Range, Range)>,
}

impl Convex {
    /// Finds the best moves. `moves[t]` must be convex.
    pub(crate) fn solve(&mut self, vessel: &Vessel, moves: &[Move]) -> Result<(), OutOfReach> {
        self.marks.clear();
        self.begin(vessel, moves)?;
        for t in (0..moves.len()).rev() {
            self.step(vessel, &moves[t], t)?;
        }
        self.forward(vessel, moves)
    }

    /// The same where nothing has changed from slot `unchanged` on since the last call. Keeps what the next such call
    /// needs.
    pub(crate) fn solve_again(
        &mut self,
        vessel: &Vessel,
        moves: &[Move],
        unchanged: usize,
    ) -> Result<(), OutOfReach> {
        let known = moves.len() - unchanged;
        let mut next = unchanged;
        if let Some(mark) = self.marks.get(known).copied() {
            self.marks.truncate(known + 1);
            self.kept.truncate(mark.to);
            self.value
                .restore(&self.kept[mark.from..], (mark.low, mark.high));
        } else {
            self.marks.clear();
            self.kept.clear();
            self.begin(vessel, moves)?;
            self.keep();
            next = moves.len();
        }
        for t in (0..next).rev() {
            self.step(vessel, &moves[t], t)?;
            self.keep();
        }
        self.forward(vessel, moves)
    }

    fn keep(&mut self) {
        let from = self.kept.len();
        self.kept.extend_from_slice(self.value.pieces());
        self.marks.push(Mark {
            low: self.value.low,
            high: self.value.high,
            from,
            to: self.kept.len(),
        });
    }

    fn begin(&mut self, vessel: &Vessel, moves: &[Move]) -> Result<(), OutOfReach> {
        self.bounds.resize(moves.len(), (0.0, 0.0));
        self.levels.resize(moves.len(), [0.0; PIECES_MAX]);
        self.places.resize(self.asked.len(), [0.0; ASKED]);
        self.value.begin(vessel, moves.len())
    }

    fn step(&mut self, vessel: &Vessel, cost: &Move, t: usize) -> Result<(), OutOfReach> {
        let value = &mut self.value;
        let sets = self.asked.len() / self.bounds.len();
        for asked in sets * t..sets * (t + 1) {
            self.places[asked] = value.places(&self.asked[asked]);
        }
        self.bounds[t] = (value.low, value.high);
        value.step(vessel, cost, t, &mut self.levels[t])
    }

    /// Moves towards the levels.
    fn forward(&mut self, vessel: &Vessel, moves: &[Move]) -> Result<(), OutOfReach> {
        self.contents.clear();
        self.changes.clear();
        let mut content = vessel.start;
        for (t, cost) in moves.iter().enumerate() {
            let span = vessel.span(t);
            content = span.keep * content + span.drift;
            let (least, most) = self.bounds[t];
            let (low, high) = (least - cost.high, most - cost.low);
            if content < low - REACH_KWH || content > high + REACH_KWH {
                return Err(OutOfReach);
            }
            let mut change = cost.high;
            for (piece, level) in cost.pieces().iter().rev().zip(&self.levels[t]) {
                if content + change <= *level {
                    break;
                }
                if content + change - piece.length <= *level {
                    change = level - content;
                    break;
                }
                change -= piece.length;
            }
            change = smaller(larger(change, cost.low), cost.high);
            if change.abs() <= SLIVER_KWH {
                change = 0.0;
            }
            content = smaller(larger(content + change, least), most);
            self.contents.push(content);
            self.changes.push(change);
        }
        Ok(())
    }

    /// The shadow price of each slot, currency per kWh: from slopes of what follows each slot that hold for all slots
    /// together. A slope suits its slot where no other move is better, and the slopes of two slots differ only by what
    /// a bound between them explains.
    pub(crate) fn shadow_prices(
        &mut self,
        vessel: &Vessel,
        moves: &[Move],
        meters: &[Meter],
        prices: &mut Vec<f64>,
    ) {
        self.ranges.clear();
        self.ranges.resize(moves.len(), (Range::ANY, Range::ANY));
        self.worths.resize(moves.len(), 0.0);
        let mut later = Range {
            least: -vessel.end_value,
            most: -vessel.end_value,
        };
        for t in (0..moves.len()).rev() {
            let suits = moves[t].slopes_around(self.changes[t]);
            let suits = Range {
                least: -suits.1,
                most: -suits.0,
            };
            let is_full = self.contents[t] >= vessel.span(t).high - REACH_KWH;
            self.worths[t] = -later.of_one_more(is_full);
            let bound = self.bound_slopes(vessel, t);
            let here = later.plus(bound).and(suits);
            self.ranges[t] = (here, bound);
            later = here.times(vessel.span(t).keep);
        }
        prices.clear();
        let mut before: Option<(f64, Range)> = None;
        for (t, meter) in meters.iter().enumerate() {
            let (range, bound_here) = self.ranges[t];
            let slope = match before {
                Some((before, bound)) => {
                    let wanted = before - bound.nearest(0.0);
                    let keep = vessel.span(t).keep;
                    range.nearest(if keep == 1.0 { wanted } else { wanted / keep })
                }
                None if range.most.is_finite() => range.most,
                None if range.least.is_finite() => range.least,
                None => 0.0,
            };
            before = Some((slope, bound_here));
            prices.push(shadow_price(vessel, t, meter, self.changes[t], slope));
        }
    }

    /// What the bounds at the end of slot `t` add to the slope of what follows.
    fn bound_slopes(&self, vessel: &Vessel, t: usize) -> Range {
        let content = self.contents[t];
        let span = vessel.span(t);
        let is_last = t + 1 == self.contents.len();
        let low = if is_last && vessel.soft.is_none() {
            span.low.max(vessel.end_low)
        } else {
            span.low
        };
        let mut range = Range {
            least: 0.0,
            most: 0.0,
        };
        if content <= low + REACH_KWH {
            range.least = f64::NEG_INFINITY;
        }
        if content >= span.high - REACH_KWH {
            range.most = f64::INFINITY;
        }
        let Some(soft) = vessel.soft else {
            return range;
        };
        let hinge = |at: f64, below: f64, above: f64| Range {
            least: if content > at + REACH_KWH {
                above
            } else {
                -below
            },
            most: if content < at - REACH_KWH {
                -below
            } else {
                above
            },
        };
        if is_last {
            range = range.plus(hinge(vessel.end_low, soft.end_penalty, 0.0));
        }
        range
            .plus(hinge(soft.low, soft.penalty, 0.0))
            .plus(hinge(soft.high, 0.0, soft.penalty))
    }
}
