//! The exact dynamic program for a battery whose slot costs are convex. Never allocates once its arrays have grown.
//!
//! `V_t(s)` is the least cost from slot `t` on with `s` kWh in the battery. With convex slot costs it is convex and
//! piecewise linear, and `V_t(s) = min over x of g_t(x) + V_{t+1}(s + x)` merges two lists of pieces in the order of
//! their slopes. Only slopes are kept: a schedule needs no values.

use crate::REACH_KWH;
use crate::slot_cost::{Frame, Meter, Move, Piece, SLIVER_KWH};

/// What the battery may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Vessel {
    /// SoC at the start, kWh.
    pub(crate) start: f64,
    /// SoC that is never left, kWh.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// SoC at the end of the horizon, at least, kWh.
    pub(crate) end_low: f64,
    /// What a kWh left at the end is worth.
    pub(crate) end_value: f64,
    /// Where bounds may be broken.
    pub(crate) soft: Option<Soft>,
}

impl Vessel {
    /// What it costs to hold `soc` at the end of the slots: penalties, less the worth of what is left.
    pub(crate) fn cost(&self, soc: &[f64]) -> f64 {
        let last = soc.last().copied().unwrap_or(self.start);
        let worth = self.end_value * last;
        let Some(soft) = self.soft else {
            return -worth;
        };
        let outside: f64 = soc
            .iter()
            .map(|soc| (soft.low - soc).max(0.0) + (soc - soft.high).max(0.0))
            .sum();
        soft.penalty * (outside + (self.end_low - last).max(0.0)) - worth
    }
}

/// Bounds that cost a penalty instead of holding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Soft {
    /// Bounds at the end of each slot, kWh.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Currency per kWh outside.
    pub(crate) penalty: f64,
}

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
    /// SoC at the end of each slot, kWh.
    pub(crate) soc: Vec<f64>,
    /// Change of SoC in each slot, kWh.
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
    pub(crate) fn shadow_prices(&self, frame: &Frame, meters: &[Meter], prices: &mut Vec<f64>) {
        prices.clear();
        let moves = self.changes.iter().zip(&self.slopes);
        prices.extend(
            meters
                .iter()
                .zip(moves)
                .map(|(meter, (change, slope))| frame.shadow_price(meter, *change, *slope)),
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
            self.last(vessel)?;
        }
        let known = self.values.len() - 1;
        for cost in moves[..moves.len() - known].iter().skip(1).rev() {
            self.step(vessel, cost)?;
        }
        Ok(())
    }

    /// `V_T`: the bound and the value of what is left.
    fn last(&mut self, vessel: &Vessel) -> Result<(), OutOfReach> {
        let low = match vessel.soft {
            Some(_) => vessel.low,
            None => vessel.low.max(vessel.end_low),
        };
        let high = vessel.high;
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
            self.bend(low, vessel.end_low, soft.penalty, 0.0);
        }
        self.bend_bounds(vessel, low);
        Ok(())
    }

    /// From `V_{t+1}`, the newest, to `V_t`: merge with the slot's pieces, mirrored, and cut to the battery's bounds.
    fn step(&mut self, vessel: &Vessel, cost: &Move) -> Result<(), OutOfReach> {
        let next = self.values[self.values.len() - 1];
        let (low, high) = (next.low - cost.high, next.high - cost.low);
        let (kept_low, kept_high) = (low.max(vessel.low), high.min(vessel.high));
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
            let length = piece.length - cut;
            if length <= 0.0 {
                cut = -length;
                continue;
            }
            cut = 0.0;
            self.extend(from, piece.slope, length.min(room));
            room -= length;
        }
        self.values.push(Value {
            low: kept_low,
            high: kept_high.max(kept_low),
            from,
            to: self.arena.len(),
        });
        self.bend_bounds(vessel, kept_low);
        Ok(())
    }

    /// Adds the penalties of soft bounds to the newest function, which begins at `low`.
    fn bend_bounds(&mut self, vessel: &Vessel, low: f64) {
        let Some(soft) = vessel.soft else { return };
        if vessel.low < soft.low {
            self.bend(low, soft.low, soft.penalty, 0.0);
        }
        if vessel.high > soft.high {
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
        self.soc.clear();
        self.changes.clear();
        self.slopes.clear();
        let mut soc = vessel.start;
        let mut worth: Option<f64> = None;
        for (t, cost) in moves.iter().enumerate() {
            let next = self.values[moves.len() - 1 - t];
            let (low, high) = (next.low - cost.high, next.high - cost.low);
            if soc < low - REACH_KWH || soc > high + REACH_KWH {
                return Err(OutOfReach);
            }
            let step = self.walk(&next, cost, soc - low);
            let change = if step.change.abs() <= SLIVER_KWH {
                0.0
            } else {
                step.change
            };
            soc = (soc + change).clamp(next.low, next.high);
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
            self.soc.push(soc);
            self.changes.push(change);
            self.slopes.push(slope);
        }
        Ok(())
    }

    /// Fills the merge of `next` and the mirrored `cost` up to `fill` kWh from its left end. Of equal slopes the one
    /// goes first that brings the battery nearer to rest.
    fn walk(&self, next: &Value, cost: &Move, fill: f64) -> Step {
        let following = &self.arena[next.from..next.to];
        let pieces = cost.pieces();
        let (mut i, mut j) = (0, pieces.len());
        let mut left = fill.max(0.0);
        let mut change = cost.high;
        let mut before = f64::NEG_INFINITY;
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
                        least: before,
                        most: f64::INFINITY,
                    };
                }
            };
            if left >= length {
                if takes_move {
                    change -= length;
                    j -= 1;
                } else {
                    i += 1;
                }
                left -= length;
                before = slope;
                continue;
            }
            if takes_move {
                change -= left;
            }
            // A place this close to a bend is on it.
            let least = if left <= REACH_KWH { before } else { slope };
            let most = if left >= length - REACH_KWH {
                self.after(following, pieces, (i, j), takes_move)
            } else {
                slope
            };
            return Step {
                change: change.clamp(cost.low, cost.high),
                least: least.min(most),
                most,
            };
        }
    }

    /// The slope that follows once the current piece is used up.
    fn after(
        &self,
        following: &[Piece],
        pieces: &[Piece],
        (i, j): (usize, usize),
        takes_move: bool,
    ) -> f64 {
        let (i, j) = if takes_move { (i, j - 1) } else { (i + 1, j) };
        let value = following.get(i).map_or(f64::INFINITY, |piece| piece.slope);
        let moving = j.checked_sub(1).map_or(f64::INFINITY, |j| -pieces[j].slope);
        value.min(moving)
    }
}

/// One slot's move, and the slopes of what follows that make it the best.
#[derive(Debug, Clone, Copy)]
struct Step {
    change: f64,
    least: f64,
    most: f64,
}
