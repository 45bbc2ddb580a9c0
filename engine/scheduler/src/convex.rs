//! The exact dynamic program for a store whose slot costs are convex. Never allocates once its arrays have grown.
//!
//! `V_t(s)` is the least cost from slot `t` on with `s` in the store. With convex slot costs it is convex and piecewise
//! linear, and `V_t(s) = min over x of g_t(x) + V_{t+1}(keep*s + drift + x)` merges two lists of pieces in the order of
//! their slopes, and scales the sum. Only slopes are kept: a schedule needs no values.

use crate::REACH_KWH;
use crate::slot_cost::{Meter, Move, Piece, SLIVER_KWH, shadow_price};
use crate::vessel::Vessel;

/// No plan keeps every limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfReach;

/// `V_t` as a list of pieces with ascending slopes.
#[derive(Debug, Clone, Copy, Default)]
struct Value {
    low: f64,
    high: f64,
    /// Where its pieces begin and end in the arena.
    from: usize,
    to: usize,
}

/// Working arrays and, after [`Convex::solve`], the answer.
#[derive(Debug, Default)]
pub(crate) struct Convex {
    arena: Vec<Piece>,
    /// `V_T` first.
    values: Vec<Value>,
    /// Content at the end of each slot.
    pub(crate) contents: Vec<f64>,
    /// Move in each slot.
    pub(crate) changes: Vec<f64>,
    /// Slope of what follows each slot, one that holds for all slots together.
    slopes: Vec<f64>,
}

impl Convex {
    /// Finds the best moves. `moves[t]` must be convex.
    pub(crate) fn solve(&mut self, vessel: &Vessel, moves: &[Move]) -> Result<(), OutOfReach> {
        self.solve_from(vessel, moves, moves.len())
    }

    /// The same where nothing has changed from slot `unchanged` on since the last call.
    pub(crate) fn solve_from(
        &mut self,
        vessel: &Vessel,
        moves: &[Move],
        unchanged: usize,
    ) -> Result<(), OutOfReach> {
        self.backward(vessel, moves, unchanged)?;
        self.forward(vessel, moves)
    }

    /// The shadow price of each slot, currency per kWh.
    pub(crate) fn shadow_prices(&self, vessel: &Vessel, meters: &[Meter], prices: &mut Vec<f64>) {
        prices.clear();
        let moves = self.changes.iter().zip(&self.slopes);
        prices.extend(
            meters
                .iter()
                .zip(moves)
                .enumerate()
                .map(|(t, (meter, (change, slope)))| {
                    shadow_price(vessel, t, meter, *change, *slope)
                }),
        );
    }

    fn backward(
        &mut self,
        vessel: &Vessel,
        moves: &[Move],
        unchanged: usize,
    ) -> Result<(), OutOfReach> {
        let kept = moves.len() - unchanged + 1;
        if unchanged < moves.len() && kept <= self.values.len() {
            self.values.truncate(kept);
            self.arena.truncate(self.values[kept - 1].to);
        } else {
            self.arena.clear();
            self.values.clear();
            self.last(vessel, moves.len() - 1)?;
        }
        let known = self.values.len() - 1;
        for t in (1..moves.len() - known).rev() {
            self.step(vessel, &moves[t], t)?;
        }
        Ok(())
    }

    /// `V_T` after the slot `last`: the bound and the value of what is left.
    fn last(&mut self, vessel: &Vessel, last: usize) -> Result<(), OutOfReach> {
        let span = vessel.span(last);
        let low = match vessel.soft {
            Some(_) => span.low,
            None => span.low.max(vessel.end_low),
        };
        let high = span.high;
        if low > high + REACH_KWH {
            return Err(OutOfReach);
        }
        let low = low.min(high);
        let from = self.arena.len();
        self.extend(from, -vessel.end_value, high - low);
        self.values.push(Value {
            low,
            high,
            from,
            to: self.arena.len(),
        });
        if let Some(soft) = vessel.soft {
            self.bend(low, vessel.end_low, soft.end_penalty, 0.0);
        }
        self.bend_bounds(vessel, low, high);
        Ok(())
    }

    /// From `V_{t+1}`, the newest, to `V_t`: merge with the slot's pieces, mirrored, scale, and cut to the bounds at the
    /// end of the slot before.
    fn step(&mut self, vessel: &Vessel, cost: &Move, t: usize) -> Result<(), OutOfReach> {
        let next = self.values[self.values.len() - 1];
        let (span, before) = (vessel.span(t), vessel.span(t - 1));
        let unscaled = |content: f64| (content - span.drift) / span.keep;
        let (low, high) = (
            unscaled(next.low - cost.high),
            unscaled(next.high - cost.low),
        );
        let (kept_low, kept_high) = (low.max(before.low), high.min(before.high));
        if kept_low > kept_high + REACH_KWH {
            return Err(OutOfReach);
        }
        let from = self.arena.len();
        let mut cut = kept_low - low;
        let mut room = (kept_high - kept_low).max(0.0);
        let pieces = cost.pieces();
        let (mut i, mut j) = (next.from, pieces.len());
        while room > 0.0 {
            let following = (i < next.to).then(|| self.arena[i]);
            let moving = j.checked_sub(1).map(|j| Piece {
                slope: -pieces[j].slope,
                length: pieces[j].length,
            });
            let piece = match (following, moving) {
                (Some(following), Some(moving)) if following.slope <= moving.slope => {
                    i += 1;
                    following
                }
                (_, Some(moving)) => {
                    j -= 1;
                    moving
                }
                (Some(following), None) => {
                    i += 1;
                    following
                }
                (None, None) => break,
            };
            let length = piece.length / span.keep - cut;
            if length <= 0.0 {
                cut = -length;
                continue;
            }
            cut = 0.0;
            self.extend(from, piece.slope * span.keep, length.min(room));
            room -= length;
        }
        self.values.push(Value {
            low: kept_low,
            high: kept_high.max(kept_low),
            from,
            to: self.arena.len(),
        });
        self.bend_bounds(vessel, kept_low, kept_high);
        Ok(())
    }

    /// Adds the penalties of soft bounds to the newest function, which goes from `low` to `high`.
    fn bend_bounds(&mut self, vessel: &Vessel, low: f64, high: f64) {
        let Some(soft) = vessel.soft else { return };
        if low < soft.low {
            self.bend(low, soft.low, soft.penalty, 0.0);
        }
        if high > soft.high {
            self.bend(low, soft.high, 0.0, soft.penalty);
        }
    }

    /// Adds a piece to the list that began at `from`.
    fn extend(&mut self, from: usize, slope: f64, length: f64) {
        if self.arena.len() > from
            && let Some(last) = self.arena.last_mut()
            && (length <= SLIVER_KWH || last.slope == slope)
        {
            last.length += length;
        } else if length > 0.0 {
            self.arena.push(Piece { slope, length });
        }
    }

    /// Adds a penalty per kWh `below` and `above` the place `at` to the newest function, which begins at `low`.
    fn bend(&mut self, low: f64, at: f64, below: f64, above: f64) {
        let mut value = self.values[self.values.len() - 1];
        let mut left = at - low;
        let mut i = value.from;
        while i < value.to {
            let piece = self.arena[i];
            if left <= 0.0 {
                self.arena[i].slope += above;
            } else if piece.length <= left + SLIVER_KWH {
                self.arena[i].slope -= below;
            } else {
                self.arena[i].length = left;
                self.arena[i].slope -= below;
                let rest = Piece {
                    slope: piece.slope + above,
                    length: piece.length - left,
                };
                i += 1;
                self.arena.insert(i, rest);
                value.to += 1;
            }
            left -= piece.length;
            i += 1;
        }
        let last = self.values.len() - 1;
        self.values[last] = value;
    }

    /// Reads the moves off the same merge.
    fn forward(&mut self, vessel: &Vessel, moves: &[Move]) -> Result<(), OutOfReach> {
        self.contents.clear();
        self.changes.clear();
        self.slopes.clear();
        let mut content = vessel.start;
        let mut worth: Option<f64> = None;
        for (t, cost) in moves.iter().enumerate() {
            let next = self.values[moves.len() - 1 - t];
            let span = vessel.span(t);
            content = span.keep * content + span.drift;
            worth = worth.map(|worth| worth / span.keep);
            let (low, high) = (next.low - cost.high, next.high - cost.low);
            if content < low - REACH_KWH || content > high + REACH_KWH {
                return Err(OutOfReach);
            }
            let step = self.walk(&next, cost, content - low);
            let change = if step.change.abs() <= SLIVER_KWH {
                0.0
            } else {
                step.change
            };
            content = (content + change).clamp(next.low, next.high);
            let mut slope = worth.map_or(step.most, |slope| slope.min(step.most));
            slope = slope.max(step.least);
            if !slope.is_finite() {
                slope = if step.least.is_finite() {
                    step.least
                } else {
                    0.0
                };
            }
            worth = Some(slope);
            self.contents.push(content);
            self.changes.push(change);
            self.slopes.push(slope);
        }
        Ok(())
    }

    /// Fills the merge of `next` and the mirrored `cost` up to `fill` from its left end. Of equal slopes the one goes
    /// first that brings the store nearer to rest. Slopes are those a hair to the left and to the right: a place this
    /// close to a bend is on it.
    fn walk(&self, next: &Value, cost: &Move, fill: f64) -> Step {
        let following = &self.arena[next.from..next.to];
        let pieces = cost.pieces();
        let (mut i, mut j) = (0, pieces.len());
        let mut left = fill.max(0.0);
        let mut change = cost.high;
        let mut least = (left < REACH_KWH).then_some(f64::NEG_INFINITY);
        let mut is_there = false;
        loop {
            let value = following.get(i);
            let moving = j.checked_sub(1).map(|j| &pieces[j]);
            let (takes_move, slope, length) = match (value, moving) {
                (Some(value), Some(moving)) => {
                    let slope = -moving.slope;
                    let is_move =
                        slope < value.slope || (slope == value.slope && change > SLIVER_KWH);
                    if is_move {
                        (true, slope, moving.length)
                    } else {
                        (false, value.slope, value.length)
                    }
                }
                (Some(value), None) => (false, value.slope, value.length),
                (None, Some(moving)) => (true, -moving.slope, moving.length),
                (None, None) => {
                    return Step {
                        change: change.clamp(cost.low, cost.high),
                        least: least.unwrap_or(f64::NEG_INFINITY),
                        most: f64::INFINITY,
                    };
                }
            };
            if least.is_none() && left - length < REACH_KWH {
                least = Some(slope);
            }
            if !is_there {
                is_there = left < length;
                if takes_move {
                    change -= left.min(length);
                }
            }
            if length - left > REACH_KWH {
                return Step {
                    change: change.clamp(cost.low, cost.high),
                    least: least.unwrap_or(slope),
                    most: slope,
                };
            }
            if takes_move {
                j -= 1;
            } else {
                i += 1;
            }
            left -= length;
        }
    }
}

/// One slot's move, and the slopes of what follows that make it the best.
#[derive(Debug, Clone, Copy)]
struct Step {
    change: f64,
    least: f64,
    most: f64,
}
