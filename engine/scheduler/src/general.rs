//! The exact dynamic program where slot costs are not convex: it picks the convex part of each slot's cost in which
//! the best plan moves. The schedule itself then comes from the convex program on these parts.
//!
//! `V_t` is a piecewise-linear function of any shape: lines with gaps, and single points. Each step adds every convex
//! part of the slot's cost to every convex run of `V_{t+1}` and takes the lower envelope.

use crate::meter::Piece;
use crate::numbers::{REACH_KWH, SLIVER_KWH};
use crate::slot_cost::Move;
use crate::value::OutOfReach;
use crate::vessel::{Span, Vessel};

/// Lines of one function at most; beyond it the general program gives up.
const LINES_MAX: usize = 4_000;
/// Slopes this close, in multiples of a price, make one line.
const SAME_SLOPE: f64 = 1e-12;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// No plan keeps every limit.
    OutOfReach,
    /// A function has too many lines.
    TooLarge,
}

impl From<OutOfReach> for Failed {
    fn from(OutOfReach: OutOfReach) -> Self {
        Self::OutOfReach
    }
}

/// What is too small to count.
#[derive(Debug, Clone, Copy)]
struct Grain {
    /// A price whose sums are exact.
    price: f64,
    /// Lengths below this are nothing, units of content.
    sliver: f64,
}

impl Grain {
    /// As fine as the numbers of `vessel` can be told apart.
    fn of(vessel: &Vessel, slots: usize, price: f64) -> Self {
        let largest = (0..slots)
            .map(|t| vessel.span(t))
            .fold(0.0, |largest: f64, span| {
                largest.max(span.low.abs()).max(span.high.abs())
            });
        Self {
            price,
            sliver: SLIVER_KWH.max(64.0 * f64::EPSILON * largest),
        }
    }
}

/// A stretch of a piecewise-linear function. A point is a line without length.
#[derive(Debug, Clone, Copy)]
struct Line {
    low: f64,
    high: f64,
    /// At `low`.
    value: f64,
    slope: f64,
}

impl Line {
    fn at(&self, place: f64) -> f64 {
        self.value + self.slope * (place - self.low)
    }
}

/// A function: its lines, which do not overlap, and its points, ascending both.
#[derive(Debug, Clone, Copy)]
struct Function<'a> {
    lines: &'a [Line],
    points: &'a [Line],
}

/// Functions in one list, the lines of each and then its points.
#[derive(Debug, Default)]
struct Arena {
    lines: Vec<Line>,
    /// Where the lines and the points of each function end.
    ends: Vec<(usize, usize)>,
}

impl Arena {
    fn clear(&mut self) {
        self.lines.clear();
        self.ends.clear();
    }

    fn push(&mut self, lines: &[Line], points: &[Line]) {
        self.lines.extend_from_slice(lines);
        let end = self.lines.len();
        self.lines.extend_from_slice(points);
        self.ends.push((end, self.lines.len()));
    }

    /// The function that was pushed as number `index`.
    fn function(&self, index: usize) -> Function<'_> {
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (points, end) = self.ends[index];
        Function {
            lines: &self.lines[from..points],
            points: &self.lines[points..end],
        }
    }

    fn newest(&self) -> Function<'_> {
        self.function(self.ends.len() - 1)
    }
}

/// Working arrays and, after [`General::solve`], the answer.
#[derive(Debug, Default)]
pub(crate) struct General {
    /// `V_T` first.
    values: Arena,
    /// The functions of which the lower envelope is taken, one after the other, and where each begins.
    layers: Vec<Line>,
    bounds: Vec<usize>,
    /// What two of them become.
    merged: Vec<Line>,
    merged_bounds: Vec<usize>,
    points: Vec<Line>,
    /// The convex part of each slot's cost in which the best plan moves.
    pub(crate) parts: Vec<Move>,
}

impl General {
    /// Chooses the parts. What is small is measured in `price`.
    pub(crate) fn solve(
        &mut self,
        vessel: &Vessel,
        moves: &[Move],
        price: f64,
    ) -> Result<(), Failed> {
        let grain = Grain::of(vessel, moves.len(), price);
        self.values.clear();
        self.last(vessel, moves.len() - 1, grain)?;
        for t in (1..moves.len()).rev() {
            self.step(vessel, &moves[t], t, grain)?;
        }
        self.forward(vessel, moves, grain)
    }

    fn last(&mut self, vessel: &Vessel, last: usize, grain: Grain) -> Result<(), Failed> {
        let span = vessel.span(last);
        let low = match vessel.soft {
            Some(_) => span.low,
            None => span.low.max(vessel.end_low),
        };
        let high = span.high;
        if low > high + REACH_KWH {
            return Err(Failed::OutOfReach);
        }
        let low = low.min(high);
        let whole = Line {
            low,
            high,
            value: 0.0,
            slope: -vessel.end_value,
        };
        if high - low <= grain.sliver {
            self.points.clear();
            self.points.push(whole);
            self.layers.clear();
        } else {
            self.points.clear();
            self.layers.clear();
            self.layers.push(whole);
            if let Some(soft) = vessel.soft
                && soft.end_penalty > 0.0
            {
                add_hinge(
                    &mut self.layers,
                    grain,
                    vessel.end_low,
                    soft.end_penalty,
                    0.0,
                );
            }
        }
        self.keep(vessel, grain)
    }

    /// Takes `layers` and `points` as the newest function, with the penalties of soft bounds.
    fn keep(&mut self, vessel: &Vessel, grain: Grain) -> Result<(), Failed> {
        if let Some(soft) = vessel.soft {
            for lines in [&mut self.layers, &mut self.points] {
                add_hinge(lines, grain, soft.low, soft.penalty, 0.0);
                add_hinge(lines, grain, soft.high, 0.0, soft.penalty);
            }
        }
        if self.layers.is_empty() && self.points.is_empty() {
            return Err(Failed::OutOfReach);
        }
        if self.layers.len() > LINES_MAX || self.points.len() > LINES_MAX {
            return Err(Failed::TooLarge);
        }
        self.values.push(&self.layers, &self.points);
        Ok(())
    }

    fn step(&mut self, vessel: &Vessel, cost: &Move, t: usize, grain: Grain) -> Result<(), Failed> {
        let next = self.values.newest();
        let (span, before) = (*vessel.span(t), *vessel.span(t - 1));
        // The bounds before the slot, as far as they are kept in it.
        let bounds = (
            span.keep * before.low + span.drift,
            span.keep * before.high + span.drift,
        );
        self.layers.clear();
        self.bounds.clear();
        self.points.clear();
        for part in cost.parts() {
            let offset = cost.rise_to(part.high);
            for run in runs(next.lines, grain) {
                self.bounds.push(self.layers.len());
                let start = Start {
                    low: run[0].low - part.high,
                    value: run[0].value + offset,
                };
                let pieces = run.iter().map(|line| Piece {
                    slope: line.slope,
                    length: line.high - line.low,
                });
                add(pieces, &part, start, bounds, &mut self.layers);
            }
            for point in next.points {
                let start = Start {
                    low: point.low - part.high,
                    value: point.value + offset,
                };
                if part.pieces().is_empty() {
                    if start.low >= bounds.0 - REACH_KWH && start.low <= bounds.1 + REACH_KWH {
                        self.points.push(Line {
                            low: start.low,
                            high: start.low,
                            value: start.value,
                            slope: 0.0,
                        });
                    }
                } else {
                    self.bounds.push(self.layers.len());
                    add(std::iter::empty(), &part, start, bounds, &mut self.layers);
                }
            }
        }
        self.bounds.push(self.layers.len());
        while self.bounds.len() > 2 {
            self.halve(grain);
            if self.layers.len() > 8 * LINES_MAX {
                return Err(Failed::TooLarge);
            }
        }
        self.lowest_points(grain);
        unscale(&mut self.layers, &span);
        unscale(&mut self.points, &span);
        self.keep(vessel, grain)
    }

    /// Takes the lower envelope of each two neighbouring layers.
    fn halve(&mut self, grain: Grain) {
        self.merged.clear();
        self.merged_bounds.clear();
        let layer = |k: usize| &self.layers[self.bounds[k]..self.bounds[k + 1]];
        let count = self.bounds.len() - 1;
        for first in (0..count).step_by(2) {
            self.merged_bounds.push(self.merged.len());
            if first + 1 < count {
                lower(layer(first), layer(first + 1), &mut self.merged, grain);
            } else {
                self.merged.extend_from_slice(layer(first));
            }
        }
        self.merged_bounds.push(self.merged.len());
        std::mem::swap(&mut self.layers, &mut self.merged);
        std::mem::swap(&mut self.bounds, &mut self.merged_bounds);
    }

    /// Keeps of the points those below the lines, and of equal places the lowest.
    fn lowest_points(&mut self, grain: Grain) {
        if self.points.is_empty() {
            return;
        }
        let tolerance = SLIVER_KWH * grain.price;
        let lines = &self.layers;
        self.points.retain(|point| {
            value_at(lines, &[], point.low).is_none_or(|value| point.value < value - tolerance)
        });
        self.points
            .sort_by(|a, b| a.low.total_cmp(&b.low).then(a.value.total_cmp(&b.value)));
        self.points
            .dedup_by(|later, first| later.low - first.low <= grain.sliver);
    }

    fn forward(&mut self, vessel: &Vessel, moves: &[Move], grain: Grain) -> Result<(), Failed> {
        self.parts.clear();
        let mut content = vessel.start;
        for (t, cost) in moves.iter().enumerate() {
            let span = vessel.span(t);
            content = span.keep * content + span.drift;
            let Function { lines, points } = self.values.function(moves.len() - 1 - t);
            let mut best: Option<(f64, f64, Move)> = None;
            for part in cost.parts() {
                let mut consider = |change: f64| {
                    let change = change.clamp(part.low, part.high);
                    let Some(value) = value_at(lines, points, content + change) else {
                        return;
                    };
                    let total = value + cost.rise_to(change);
                    let tie = SLIVER_KWH * grain.price;
                    let is_better = best.is_none_or(|(least, moved, _)| {
                        total < least - tie || (total <= least + tie && change.abs() < moved.abs())
                    });
                    if is_better {
                        best = Some((total, change, part));
                    }
                };
                let mut at = part.low;
                consider(at);
                for piece in part.pieces() {
                    at += piece.length;
                    consider(at);
                }
                let reach = part.low - REACH_KWH..=part.high + REACH_KWH;
                for line in lines.iter().chain(points) {
                    for end in [line.low - content, line.high - content] {
                        if reach.contains(&end) {
                            consider(end);
                        }
                    }
                }
            }
            let (_, change, part) = best.ok_or(Failed::OutOfReach)?;
            content += change;
            self.parts.push(part);
        }
        Ok(())
    }
}

/// Where a sum of two functions begins.
#[derive(Debug, Clone, Copy)]
struct Start {
    low: f64,
    value: f64,
}

/// Appends the infimal convolution of a convex run and a convex part, mirrored, cut to `bounds`.
fn add(
    run: impl Iterator<Item = Piece>,
    part: &Move,
    start: Start,
    bounds: (f64, f64),
    out: &mut Vec<Line>,
) {
    let mut run = run.peekable();
    let mut moving = part
        .pieces()
        .iter()
        .rev()
        .map(|piece| Piece {
            slope: -piece.slope,
            length: piece.length,
        })
        .peekable();
    let (mut low, mut value) = (start.low, start.value);
    loop {
        let piece = match (run.peek(), moving.peek()) {
            (Some(a), Some(b)) if a.slope <= b.slope => run.next(),
            (_, Some(_)) => moving.next(),
            (Some(_), None) => run.next(),
            (None, None) => None,
        };
        let Some(piece) = piece else { break };
        let high = low + piece.length;
        let (kept_low, kept_high) = (low.max(bounds.0), high.min(bounds.1));
        if kept_high > kept_low {
            out.push(Line {
                low: kept_low,
                high: kept_high,
                value: value + piece.slope * (kept_low - low),
                slope: piece.slope,
            });
        }
        value += piece.slope * piece.length;
        low = high;
    }
}

/// From contents after the slot's losses to contents before them.
fn unscale(lines: &mut [Line], span: &Span) {
    if span.keep == 1.0 && span.drift == 0.0 {
        return;
    }
    for line in lines {
        line.low = (line.low - span.drift) / span.keep;
        line.high = (line.high - span.drift) / span.keep;
        line.slope *= span.keep;
    }
}

/// Splits lines into convex runs without gaps.
fn runs(lines: &[Line], grain: Grain) -> impl Iterator<Item = &[Line]> {
    lines.chunk_by(move |a, b| {
        b.low - a.high <= grain.sliver
            && b.slope > a.slope
            && (a.at(a.high) - b.value).abs() <= 1e-11 * grain.price
    })
}

/// Adds a penalty per kWh `below` and `above` the place `at`.
fn add_hinge(lines: &mut Vec<Line>, grain: Grain, at: f64, below: f64, above: f64) {
    if let Some(i) = lines
        .iter()
        .position(|line| line.low + grain.sliver < at && at < line.high - grain.sliver)
    {
        let mut right = lines[i];
        right.value = right.at(at);
        right.low = at;
        lines[i].high = at;
        lines.insert(i + 1, right);
    }
    for line in lines {
        if line.high <= at + grain.sliver {
            line.value += below * (at - line.low).max(0.0);
            line.slope -= below;
        } else {
            line.value += above * (line.low - at).max(0.0);
            line.slope += above;
        }
    }
}

/// The function's value; `None` outside its lines and points. Places a hair outside count as inside.
fn value_at(lines: &[Line], points: &[Line], place: f64) -> Option<f64> {
    let mut best: Option<f64> = None;
    let from = lines.partition_point(|line| line.high < place - REACH_KWH);
    let near = lines[from..]
        .iter()
        .take_while(|line| line.low <= place + REACH_KWH)
        .map(|line| line.at(place.clamp(line.low, line.high)));
    let on = points
        .iter()
        .filter(|point| (point.low - place).abs() <= REACH_KWH)
        .map(|point| point.value);
    for value in near.chain(on) {
        best = Some(best.map_or(value, |best| best.min(value)));
    }
    best
}

/// Appends the lower envelope of two functions.
fn lower(a: &[Line], b: &[Line], out: &mut Vec<Line>, grain: Grain) {
    let from = out.len();
    let (mut i, mut j) = (0, 0);
    let mut at = f64::NEG_INFINITY;
    loop {
        while a.get(i).is_some_and(|line| line.high <= at + grain.sliver) {
            i += 1;
        }
        while b.get(j).is_some_and(|line| line.high <= at + grain.sliver) {
            j += 1;
        }
        let (first, second) = (a.get(i), b.get(j));
        let begins = |line: Option<&Line>| line.map_or(f64::INFINITY, |line| line.low);
        at = at.max(begins(first).min(begins(second)));
        let is_on = |line: &&Line| line.low <= at + grain.sliver;
        match (first.filter(is_on), second.filter(is_on)) {
            (Some(x), Some(y)) => {
                let end = x.high.min(y.high);
                let (left, right) = (x.at(at) - y.at(at), x.at(end) - y.at(end));
                if left <= 0.0 && right <= 0.0 {
                    push(out, from, x, at, end, grain);
                } else if left >= 0.0 && right >= 0.0 {
                    push(out, from, y, at, end, grain);
                } else {
                    let cross = at + (end - at) * left / (left - right);
                    let (x, y) = if left < 0.0 { (x, y) } else { (y, x) };
                    push(out, from, x, at, cross, grain);
                    push(out, from, y, cross, end, grain);
                }
                at = end;
            }
            (Some(x), None) => {
                let end = x.high.min(begins(second).max(at));
                push(out, from, x, at, end, grain);
                at = end;
            }
            (None, Some(y)) => {
                let end = y.high.min(begins(first).max(at));
                push(out, from, y, at, end, grain);
                at = end;
            }
            (None, None) => break,
        }
    }
}

/// Appends `line` from `low` to `high`, joined to the last one where they are one line.
fn push(out: &mut Vec<Line>, from: usize, line: &Line, low: f64, high: f64, grain: Grain) {
    if high - low <= grain.sliver {
        return;
    }
    let value = line.at(low);
    if out.len() > from
        && let Some(last) = out.last_mut()
        && low - last.high <= grain.sliver
        && (last.slope - line.slope).abs() <= SAME_SLOPE * grain.price
        && (last.at(low) - value).abs() <= SLIVER_KWH * grain.price
    {
        last.high = high;
        return;
    }
    out.push(Line {
        low,
        high,
        value,
        slope: line.slope,
    });
}
