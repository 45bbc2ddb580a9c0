//! The least cost from a slot on as a function of what the store holds: `V_t(s)`, convex and piecewise linear. Goes
//! backwards from slot to slot. Keeps slopes alone, for a schedule needs no values.

use crate::meter::Piece;
use crate::numbers::{REACH_KWH, SLIVER_KWH, larger, smaller};
use crate::outlook::ASKED;
use crate::slot_cost::{Move, PIECES_MAX};
use crate::vessel::Vessel;

/// No plan keeps every limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfReach;

/// `V_t`, which is infinite below `low` and above `high`.
#[derive(Debug, Default)]
pub(crate) struct Value {
    /// From `head` on, slopes ascending.
    pieces: Vec<Piece>,
    head: usize,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Value {
    /// Its pieces from `low` on.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces[self.head..]
    }

    /// Makes it a function that was kept.
    pub(crate) fn restore(&mut self, pieces: &[Piece], (low, high): (f64, f64)) {
        self.pieces.clear();
        self.pieces.extend_from_slice(pieces);
        (self.head, self.low, self.high) = (0, low, high);
    }

    /// `V_T`: the bound and the value of what is left.
    pub(crate) fn begin(&mut self, vessel: &Vessel, slots_count: usize) -> Result<(), OutOfReach> {
        self.pieces.clear();
        self.head = 0;
        let span = vessel.span(slots_count - 1);
        let low = match vessel.soft {
            Some(_) => span.low,
            None => span.low.max(vessel.end_low),
        };
        self.high = span.high;
        if low > self.high + REACH_KWH {
            return Err(OutOfReach);
        }
        self.low = low.min(self.high);
        self.pieces.push(Piece {
            slope: -vessel.end_value,
            length: self.high - self.low,
        });
        if let Some(soft) = vessel.soft {
            self.bend(vessel.end_low, soft.end_penalty, 0.0);
        }
        self.bend_bounds(vessel);
        Ok(())
    }

    /// From `V_{t+1}` to `V_t`: merge with the slot's pieces, mirrored, scale, and cut to the bounds at the end of the
    /// slot before. Notes the `levels`, the content after the slot at which each piece of its cost is worth moving along, from
    /// its last piece on.
    pub(crate) fn step(
        &mut self,
        vessel: &Vessel,
        cost: &Move,
        t: usize,
        levels: &mut [f64; PIECES_MAX],
    ) -> Result<(), OutOfReach> {
        self.merge(cost, levels);
        let span = vessel.span(t);
        let (mut low, mut high) = (self.low - cost.high, self.high - cost.low);
        if span.keep != 1.0 || span.drift != 0.0 {
            low = (low - span.drift) / span.keep;
            high = (high - span.drift) / span.keep;
            for piece in &mut self.pieces[self.head..] {
                piece.slope *= span.keep;
                piece.length /= span.keep;
            }
        }
        if t == 0 {
            (self.low, self.high) = (low, high);
            return Ok(());
        }
        let before = vessel.span(t - 1);
        let (kept_low, kept_high) = (larger(low, before.low), smaller(high, before.high));
        if kept_low > kept_high + REACH_KWH {
            return Err(OutOfReach);
        }
        (self.low, self.high) = (kept_low, larger(kept_high, kept_low));
        self.cut(kept_low - low, high - kept_high);
        self.bend_bounds(vessel);
        Ok(())
    }

    /// The slope just above `low`, and the bends from there to `high`: where, and by how much it gets steeper.
    pub(crate) fn bends(&self, low: f64, high: f64, mut bend: impl FnMut(f64, f64)) -> f64 {
        let mut at = self.low;
        let mut pieces = self.pieces().iter();
        let mut first = 0.0;
        let mut next = pieces.next();
        while let Some(piece) = next.filter(|_| at <= low) {
            first = piece.slope;
            at += piece.length;
            next = pieces.next();
        }
        let mut last = first;
        while let Some(piece) = next.filter(|_| at < high) {
            bend(at, piece.slope - last);
            last = piece.slope;
            at += piece.length;
            next = pieces.next();
        }
        first
    }

    /// Where it ceases to be steeper downwards than each slope `asked` for.
    pub(crate) fn places(&self, asked: &[f64; ASKED]) -> [f64; ASKED] {
        let [excess, left_over, bought, beyond, needed, sold] = *asked;
        if excess == left_over && beyond == needed {
            // As without limits of the grid.
            let [up, bought, down, sold] = self.places_of(&[left_over, bought, needed, sold]);
            return [up, up, bought, down, down, sold];
        }
        self.places_of(asked)
    }

    /// Where it ceases to be steeper downwards than each of `slopes`.
    fn places_of<const N: usize>(&self, slopes: &[f64; N]) -> [f64; N] {
        let mut places = [self.low; N];
        for piece in self.pieces() {
            for (place, slope) in places.iter_mut().zip(slopes) {
                *place += if piece.slope < *slope {
                    piece.length
                } else {
                    0.0
                };
            }
        }
        places
    }

    /// Merges the slot's pieces, mirrored, into the list and notes their levels. Of equal slopes the slot's own goes first
    /// where it falls as early as is free, or rises as late; then it does without what it need not hold.
    fn merge(&mut self, cost: &Move, levels: &mut [f64; PIECES_MAX]) {
        let mut i = self.head;
        let mut level = self.low;
        // What the piece at `i` holds of the slot's own.
        let mut own = 0.0;
        let mut change = cost.high;
        let mine = cost.pieces().iter().enumerate().rev();
        for ((index, piece), noted) in mine.zip(levels) {
            let slope = -piece.slope;
            let goes_first = (change > SLIVER_KWH) != cost.is_early(index);
            let end = if goes_first { slope } else { slope.next_up() };
            if let Some(other) = self.pieces.get(i).filter(|other| other.slope < end) {
                level += other.length - own;
                own = 0.0;
                i += 1;
            }
            for other in self.pieces[i..]
                .iter()
                .take_while(|other| other.slope < end)
            {
                level += other.length;
                i += 1;
            }
            *noted = level;
            change -= piece.length;
            if i > self.head && self.pieces[i - 1].slope == slope {
                self.pieces[i - 1].length += piece.length;
            } else if let Some(other) = self.pieces.get_mut(i)
                && other.slope == slope
            {
                other.length += piece.length;
                own += piece.length;
            } else {
                let length = piece.length;
                self.pieces.insert(i, Piece { slope, length });
                i += 1;
            }
        }
    }

    /// Takes `left` and `right` off the ends.
    fn cut(&mut self, mut left: f64, mut right: f64) {
        while left > 0.0
            && let Some(first) = self.pieces.get_mut(self.head)
        {
            if first.length > left {
                first.length -= left;
                break;
            }
            left -= first.length;
            self.head += 1;
        }
        while right > 0.0
            && self.pieces.len() > self.head
            && let Some(last) = self.pieces.last_mut()
        {
            if last.length > right {
                last.length -= right;
                break;
            }
            right -= last.length;
            self.pieces.pop();
        }
    }

    /// Adds the penalties of soft bounds.
    fn bend_bounds(&mut self, vessel: &Vessel) {
        let Some(soft) = vessel.soft else { return };
        if self.low < soft.low {
            self.bend(soft.low, soft.penalty, 0.0);
        }
        if self.high > soft.high {
            self.bend(soft.high, 0.0, soft.penalty);
        }
    }

    /// Adds a penalty per unit `below` and `above` the place `at`.
    fn bend(&mut self, at: f64, below: f64, above: f64) {
        let mut left = at - self.low;
        let mut i = self.head;
        while i < self.pieces.len() {
            let piece = self.pieces[i];
            if left <= 0.0 {
                self.pieces[i].slope += above;
            } else if piece.length <= left + SLIVER_KWH {
                self.pieces[i].slope -= below;
            } else {
                self.pieces[i].length = left;
                self.pieces[i].slope -= below;
                let rest = Piece {
                    slope: piece.slope + above,
                    length: piece.length - left,
                };
                i += 1;
                self.pieces.insert(i, rest);
            }
            left -= piece.length;
            i += 1;
        }
    }
}
