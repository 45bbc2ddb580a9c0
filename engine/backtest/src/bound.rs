//! What no contender can beat: the cheapest course of a battery when everything is known beforehand, at the recorded
//! resolution.
//!
//! The cost to go is a convex, piecewise linear function of the content. A step adds up to four pieces: selling out of the
//! battery, covering the load, storing what PV has left over, buying. Their slopes are the prices over the efficiencies,
//! and the best mixture of a step and of what comes after it is the pieces sorted by slope (the infimal convolution). What
//! reaches over the bounds of the content is cut off. Where selling pays more than buying costs, pieces mix in an order that
//! no battery can follow, so the result may lie below the best; it never lies above. Limits of the meter are left out, which
//! can only lower it.

use model::battery::Bounds;

use crate::recorded::Recorded;

/// A piece of the cost to go.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Length, kWh.
    kwh: f64,
    /// Slope, currency per kWh of content.
    slope: f64,
}

/// Cost to go over the content from the lowest on: a value and pieces with ascending slopes.
#[derive(Debug)]
struct CostToGo {
    at_lowest: f64,
    pieces: Vec<Piece>,
}

/// Pieces shorter than this are nothing, kWh.
const NOTHING_KWH: f64 = 1e-12;

/// Returns the lowest cost of the steps that count, currency, from a content of `content_kwh` on. The change of the content
/// counts [`Recorded::left_per_kwh`].
#[must_use]
pub fn lowest_cost(home: &Recorded, content_kwh: f64) -> f64 {
    let bounds: Bounds = (&home.battery).into();
    let left_per_kwh = home.left_per_kwh();
    let mut to_go = CostToGo {
        at_lowest: 0.0,
        pieces: vec![Piece {
            kwh: bounds.max_kwh - bounds.min_kwh,
            slope: -left_per_kwh,
        }],
    };
    let mut step_pieces = Vec::with_capacity(4);
    for index in (home.scored_from..home.steps_count()).rev() {
        let step = home.step_at(index);
        let Some(net_kw) = step.net_kw else { continue };
        let sell = if home.pv_curtailable {
            step.sell.max(0.0)
        } else {
            step.sell
        };
        let least_cost = step_of(
            &bounds,
            (net_kw, step.hours),
            (step.buy, sell),
            &mut step_pieces,
        );
        to_go.precede(&mut step_pieces, least_cost, &bounds, step.hours);
    }
    to_go.at(content_kwh - bounds.min_kwh) + left_per_kwh * (content_kwh - bounds.min_kwh)
}

/// Writes the pieces of a step's cost over the content that the battery gives, from the most that it can take in to the
/// most that it can give, and returns the cost of taking in the most.
fn step_of(
    bounds: &Bounds,
    (net_kw, hours): (f64, f64),
    (buy, sell): (f64, f64),
    pieces: &mut Vec<Piece>,
) -> f64 {
    pieces.clear();
    let (into, out) = (bounds.charge_efficiency, bounds.discharge_efficiency);
    let stored_kw = (-net_kw).clamp(0.0, bounds.charge_kw);
    let bought_kw = bounds.charge_kw - stored_kw;
    let covered_kw = net_kw.clamp(0.0, bounds.discharge_kw);
    let sold_kw = bounds.discharge_kw - covered_kw;
    // To give a kWh of content saves or earns so much.
    for (kwh, slope) in [
        (bought_kw * hours * into, -buy / into),
        (stored_kw * hours * into, -sell / into),
        (covered_kw * hours / out, -buy * out),
        (sold_kw * hours / out, -sell * out),
    ] {
        if kwh > NOTHING_KWH {
            pieces.push(Piece { kwh, slope });
        }
    }
    let most_kw = net_kw + bounds.charge_kw;
    hours
        * if most_kw > 0.0 {
            buy * most_kw
        } else {
            sell * most_kw
        }
}

impl CostToGo {
    /// Puts a step before. With `after` the cost to go at its end, a content `s` at its start costs the least of
    /// `step(given) + after(s - given)`.
    fn precede(&mut self, step: &mut [Piece], least_cost: f64, bounds: &Bounds, hours: f64) {
        let taken_kwh = bounds.charge_kw * hours * bounds.charge_efficiency;
        let span_kwh = bounds.max_kwh - bounds.min_kwh;
        step.sort_by(|one, other| one.slope.total_cmp(&other.slope));
        // The mixture begins where nothing is held and the most is taken in, below the lowest content by that much.
        self.at_lowest += least_cost;
        let mut merged: Vec<Piece> = Vec::with_capacity(self.pieces.len() + step.len());
        let (mut ours, mut theirs) = (self.pieces.iter().peekable(), step.iter().peekable());
        loop {
            let next = match (ours.peek(), theirs.peek()) {
                (Some(one), Some(other)) if one.slope <= other.slope => ours.next(),
                (Some(_), None) => ours.next(),
                (_, Some(_)) => theirs.next(),
                (None, None) => break,
            };
            let Some(piece) = next else { break };
            match merged.last_mut() {
                Some(last) if (last.slope - piece.slope).abs() < 1e-12 => last.kwh += piece.kwh,
                Some(_) | None => merged.push(*piece),
            }
        }
        let mut below_kwh = taken_kwh;
        let mut first = 0;
        while first < merged.len() && below_kwh > 0.0 {
            let piece = &mut merged[first];
            let cut_kwh = piece.kwh.min(below_kwh);
            self.at_lowest += cut_kwh * piece.slope;
            piece.kwh -= cut_kwh;
            below_kwh -= cut_kwh;
            if piece.kwh <= NOTHING_KWH {
                first += 1;
            }
        }
        let mut left_kwh = span_kwh;
        self.pieces.clear();
        for piece in &merged[first..] {
            if left_kwh <= NOTHING_KWH {
                break;
            }
            let kwh = piece.kwh.min(left_kwh);
            left_kwh -= kwh;
            self.pieces.push(Piece { kwh, ..*piece });
        }
    }

    /// Returns the cost at a content, kWh above the lowest.
    fn at(&self, content_kwh: f64) -> f64 {
        let (mut cost, mut left_kwh) = (self.at_lowest, content_kwh);
        for piece in &self.pieces {
            let kwh = piece.kwh.min(left_kwh);
            cost += kwh * piece.slope;
            left_kwh -= kwh;
        }
        cost
    }
}
