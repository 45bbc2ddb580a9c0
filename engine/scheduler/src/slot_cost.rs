//! What one slot costs as a function of the battery's move, as linear pieces. Never looks at another slot.
//!
//! With the meter's `h(e)` of `meter.rs` the store's is `g(x) = h(net + b(x)) + wear*|x|`, with `x` its move and `b(x)` the
//! energy at the AC side, `x/charge_efficiency` above 0 and `x*discharge_efficiency` below. A plan to keep to adds
//! `cost*|x - planned|`, and a charger with a least power leaves a gap above 0.

use crate::meter::{Frame, KINKS_MAX, Meter, Piece};
use crate::numbers::{REACH_KWH, SLIVER_KWH, larger, smaller};
use crate::terms::Terms;
use crate::vessel::{Span, Vessel};

/// Pieces of `g` at most: those of `h`, and two more because it bends at rest and where the plan before was, or has a
/// gap.
pub(crate) const PIECES_MAX: usize = KINKS_MAX + 3;
/// Slopes this close, as a share of themselves or of a typical price, are the same.
const SAME_SLOPE: f64 = 1e-13;

/// Whether the slot's cost is convex in load and move together, with a net load from `least` to `most`, kWh. A cost
/// that is convex in the move at every load may still not be.
pub(crate) fn is_convex_in_load(
    vessel: &Vessel,
    t: usize,
    meter: &Meter,
    (least, most): (f64, f64),
) -> bool {
    let span = vessel.span(t);
    let loss = 1.0 / span.charge_efficiency - span.discharge_efficiency;
    let bends = span.rise > 0.0 && span.fall < 0.0;
    let holds_at_rest = |slope: f64| !bends || slope * loss + 2.0 * vessel.movement >= 0.0;
    if meter.low > least + REACH_KWH && bends && loss > 0.0 {
        return false;
    }
    let (first, last) = (least + span.flow(span.fall), most + span.flow(span.rise));
    let mut before = f64::NEG_INFINITY;
    span.least_rise <= 0.0
        && meter.stretches().all(|(low, high, slope)| {
            if high.min(meter.high).min(last) - low.max(meter.low).max(first) <= SLIVER_KWH {
                return true;
            }
            let is_ascending = slope >= before;
            before = slope;
            let is_at_rest = high >= least - REACH_KWH && low <= most + REACH_KWH;
            is_ascending && (!is_at_rest || holds_at_rest(slope))
        })
}

/// What one more kWh of load costs in slot `t` where the store moves by `change`, and a unit in it is worth `-value`
/// afterwards. Of several right answers the largest finite one.
pub(crate) fn shadow_price(
    vessel: &Vessel,
    t: usize,
    meter: &Meter,
    change: f64,
    value: f64,
) -> f64 {
    let span = vessel.span(t);
    let is_between_ends = vessel.planned(t).is_none() && !near(change, 0.0);
    if is_between_ends && change > 0.0 && !near(change, span.rise) {
        return price_to_go_on(vessel, t, change, value, Way::Up);
    }
    if is_between_ends && change < 0.0 && !near(change, span.fall) {
        return price_to_go_on(vessel, t, change, value, Way::Down);
    }
    let least = if near(change, span.rise) {
        f64::NEG_INFINITY
    } else {
        price_to_go_on(vessel, t, change, value, Way::Up)
    };
    let most = if near(change, span.fall) {
        f64::INFINITY
    } else {
        price_to_go_on(vessel, t, change, value, Way::Down)
    };
    let (left, right) = meter.slopes_at(meter.net + span.flow(change));
    let (least, most) = (larger(least, left), smaller(most, right));
    if most.is_finite() {
        most
    } else if least.is_finite() {
        least
    } else {
        0.0
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= REACH_KWH
}

/// Where a store goes on from its move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Whether the store charges when it goes on this way from `change`, and what a unit more apart from the plan before costs.
fn going_on(vessel: &Vessel, t: usize, change: f64, way: Way) -> (bool, f64) {
    let is_above = |place: f64| {
        if near(change, place) {
            way == Way::Up
        } else {
            change > place
        }
    };
    let apart = match vessel.planned(t) {
        Some((planned, cost)) if is_above(planned) => cost,
        Some((_, cost)) => -cost,
        None => 0.0,
    };
    (is_above(0.0), apart)
}

/// What the AC side must cost for the store to go on this way from `change`.
fn price_to_go_on(vessel: &Vessel, t: usize, change: f64, value: f64, way: Way) -> f64 {
    let span = vessel.span(t);
    let (charges, apart) = going_on(vessel, t, change, way);
    if charges {
        (-value - vessel.movement - apart) * span.charge_efficiency
    } else {
        (vessel.movement - value - apart) * span.discharge_per_kwh
    }
}

/// A price at the AC side that follows from how steep what follows a slot is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// How much the price falls for each unit of steepness: above 0.
    pub(crate) rate: f64,
    /// The steepness at which it is 0.
    pub(crate) at: f64,
}

impl Wish {
    pub(crate) fn price(&self, steepness: f64) -> f64 {
        self.rate * (self.at - steepness)
    }
}

/// What the AC side must cost at least in slot `t` so that the store goes no further up from `change`, and at most so that
/// it goes no further down; `None` where it cannot.
pub(crate) fn wishes(vessel: &Vessel, t: usize, change: f64) -> [Option<Wish>; 2] {
    let span = vessel.span(t);
    let wish = |way: Way, end: f64| {
        if near(change, end) {
            return None;
        }
        let (charges, apart) = going_on(vessel, t, change, way);
        Some(if charges {
            Wish {
                rate: span.charge_efficiency,
                at: -vessel.movement - apart,
            }
        } else {
            Wish {
                rate: span.discharge_per_kwh,
                at: vessel.movement - apart,
            }
        })
    };
    [wish(Way::Up, span.rise), wish(Way::Down, span.fall)]
}

/// What a unit of a store's move costs where the meter bends once, whatever the load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain {
    selling: f64,
    covering: f64,
    storing: f64,
    buying: f64,
    /// Slopes this close are the same.
    same: f64,
}

impl Plain {
    fn of(frame: &Frame, vessel: &Vessel, t: usize, (before, after): (f64, f64)) -> Self {
        let span = vessel.span(t);
        let falling = |slope: f64| span.unit_cost(false, slope, vessel.movement);
        let rising = |slope: f64| span.unit_cost(true, slope, vessel.movement);
        Self {
            selling: falling(before),
            covering: falling(after),
            storing: rising(before),
            buying: rising(after),
            same: SAME_SLOPE * (before.abs() + after.abs() + frame.typical),
        }
    }

    /// Selling, covering, storing, buying.
    pub(crate) fn slopes(&self) -> [f64; 4] {
        [self.selling, self.covering, self.storing, self.buying]
    }

    /// Whether slopes ascend, whatever the load.
    pub(crate) fn is_convex(&self) -> bool {
        let between = [self.covering, self.storing];
        between
            .into_iter()
            .all(|slope| self.selling <= slope && slope <= self.buying)
    }

    /// The costs of slot `t`; `None` unless the meter has no limits and caps and bends where buying begins, whatever load and
    /// PV.
    pub(crate) fn open(frame: &Frame, terms: &Terms, vessel: &Vessel, t: usize) -> Option<Self> {
        let (buy, sell) = (terms.buy[t], terms.sell[t]);
        let is_open = frame.bends_once(buy, sell) && terms.soft_caps(t).is_none();
        (is_open && is_plain_store(vessel, t)).then(|| Self::of(frame, vessel, t, (sell, buy)))
    }
}

/// Whether the store bends at rest and nowhere else.
fn is_plain_store(vessel: &Vessel, t: usize) -> bool {
    vessel.span(t).least_rise <= 0.0 && vessel.planned(t).is_none()
}

/// A slot seen from the store: `g(x)` from `low` to `high`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pieces: [Piece; PIECES_MAX],
    count: usize,
    /// The piece that bridges what a least power leaves out.
    gap: Option<usize>,
    /// A bit for each piece: among moves that cost the same, whether the earliest is best. It is for storing PV and for
    /// covering load; buying for later and selling what is stored can wait.
    early: u16,
    /// Whether slopes ascend, without a gap.
    pub(crate) is_convex: bool,
}

impl Move {
    pub(crate) const NONE: Self = Self {
        low: 0.0,
        high: 0.0,
        pieces: [Piece::NONE; PIECES_MAX],
        count: 0,
        gap: None,
        early: 0,
        is_convex: true,
    };

    /// Makes this slot `t`; false where no move keeps the limits.
    pub(crate) fn set(&mut self, frame: &Frame, vessel: &Vessel, t: usize, meter: &Meter) -> bool {
        let Some((low, high)) = Self::ends(vessel, t, meter) else {
            return false;
        };
        self.begin(low, high);
        if meter.kinks_count == 1 && is_plain_store(vessel, t) {
            let plain = Plain::of(frame, vessel, t, (meter.slopes[0], meter.slopes[1]));
            self.bend(&plain, vessel.span(t).change(meter.kinks[0] - meter.net));
        } else {
            self.set_bent(frame, vessel, t, meter);
        }
        true
    }

    /// Makes this a slot of an [`Plain::open`] meter with a net load, kWh.
    pub(crate) fn set_plain(&mut self, plain: &Plain, span: &Span, net: f64) {
        self.begin(span.fall, span.rise);
        self.bend(plain, span.change(-net));
    }

    fn begin(&mut self, low: f64, high: f64) {
        (self.low, self.high) = (low, high);
        (self.count, self.gap, self.is_convex) = (0, None, true);
        self.early = 0;
    }

    /// The least and the largest move that the store and the limits of the meter allow; `None` where there is none.
    fn ends(vessel: &Vessel, t: usize, meter: &Meter) -> Option<(f64, f64)> {
        let span = vessel.span(t);
        let mut low = larger(span.fall, span.change(meter.low - meter.net));
        let mut high = smaller(span.rise, span.change(meter.high - meter.net));
        if span.least_rise > 0.0 {
            if low > SLIVER_KWH {
                low = low.max(span.least_rise);
            } else {
                low = low.min(0.0);
            }
            if high < span.least_rise - SLIVER_KWH {
                high = high.min(0.0);
            }
        }
        if low > high + REACH_KWH {
            return None;
        }
        Some((low, larger(low, high)))
    }

    /// Any pieces: from kink to kink of the meter, and to where the store itself bends.
    fn set_bent(&mut self, frame: &Frame, vessel: &Vessel, t: usize, meter: &Meter) {
        let span = vessel.span(t);
        let (planned, apart) = vessel.planned(t).unwrap_or((f64::NEG_INFINITY, 0.0));
        let (mut at, high) = (self.low, self.high);
        let first = meter.net + span.flow(at);
        let kinks = &meter.kinks[..meter.kinks_count];
        let mut next = kinks.iter().take_while(|kink| **kink <= first).count();
        while at < high {
            if at == 0.0 && span.least_rise > 0.0 {
                at = span.least_rise.min(high);
                let end = meter.net + span.flow(at);
                let rise = meter.cost(end) - meter.cost(meter.net);
                self.bridge(rise / at + vessel.movement, at);
                next = kinks.iter().take_while(|kink| **kink <= end).count();
                continue;
            }
            let bend = kinks
                .get(next)
                .map_or(high, |kink| span.change(kink - meter.net).min(high));
            let mut end = bend;
            if at < 0.0 {
                end = end.min(0.0);
            }
            if at < planned {
                end = end.min(planned);
            }
            if end > at {
                let beside = if at < planned { -apart } else { apart };
                let rises = at >= 0.0;
                let slope = span.unit_cost(rises, meter.slopes[next], vessel.movement);
                let is_left_over = kinks.get(next).is_some_and(|kink| *kink <= 0.0);
                self.push(frame, slope + beside, end - at, rises == is_left_over);
                at = end;
            }
            if end >= bend {
                next += 1;
            }
        }
    }

    /// The pieces where the meter has one kink, as most have: before both bends, between them and after. Without
    /// branches, for which bend comes first and which piece is none is anyone's guess.
    /// `kink` is the move at which the meter bends.
    fn bend(&mut self, plain: &Plain, kink: f64) {
        let (kink, rest) = (
            smaller(larger(kink, self.low), self.high),
            smaller(larger(0.0, self.low), self.high),
        );
        let between = if kink < rest {
            plain.covering
        } else {
            plain.storing
        };
        let bends = [self.low, smaller(kink, rest), larger(kink, rest), self.high];
        let mut last = f64::NEG_INFINITY;
        for (ends, (slope, is_early)) in
            bends
                .windows(2)
                .zip([(plain.selling, 0), (between, 1), (plain.buying, 0)])
        {
            let length = ends[1] - ends[0];
            let counts = length > SLIVER_KWH;
            let is_same = (slope - last).abs() <= plain.same;
            let slope = if is_same { last } else { slope };
            self.pieces[self.count] = Piece { slope, length };
            self.early |= (u16::from(counts) & is_early) << self.count;
            self.count += usize::from(counts);
            self.is_convex &= !counts || slope >= last;
            last = if counts { slope } else { last };
        }
    }

    fn push(&mut self, frame: &Frame, mut slope: f64, length: f64, is_early: bool) {
        if length <= SLIVER_KWH {
            return;
        }
        let was_early = self.count > 0 && self.is_early(self.count - 1);
        let is_after_gap = self.gap.is_some_and(|gap| gap + 1 == self.count);
        if !is_after_gap && let Some(last) = self.pieces[..self.count].last_mut() {
            let size = last.slope.abs() + slope.abs() + frame.typical;
            if (last.slope - slope).abs() > SAME_SLOPE * size {
                self.is_convex &= last.slope < slope;
            } else if was_early == is_early {
                last.length += length;
                return;
            } else {
                slope = last.slope;
            }
        }
        self.pieces[self.count] = Piece { slope, length };
        self.early |= u16::from(is_early) << self.count;
        self.count += 1;
    }

    /// Whether piece number `index` is moved along as early as is free; otherwise as late.
    pub(crate) fn is_early(&self, index: usize) -> bool {
        self.early >> index & 1 == 1
    }

    /// The next piece bridges a gap.
    fn bridge(&mut self, slope: f64, length: f64) {
        self.gap = Some(self.count);
        self.is_convex = false;
        self.pieces[self.count] = Piece { slope, length };
        self.count += 1;
    }

    /// Whether `x` is where a least power leaves out what is between.
    pub(crate) fn is_in_gap(&self, x: f64) -> bool {
        self.gap.is_some_and(|gap| {
            let before: f64 = self.pieces[..gap].iter().map(|piece| piece.length).sum();
            let from = self.low + before;
            x > from + REACH_KWH && x < from + self.pieces[gap].length - REACH_KWH
        })
    }

    /// In ascending order of `x`.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }

    /// Slopes a hair to the left and to the right of `x`; infinite beyond the ends.
    pub(crate) fn slopes_around(&self, x: f64) -> (f64, f64) {
        let (mut left, mut right) = (f64::NEG_INFINITY, f64::INFINITY);
        let mut from = self.low;
        for piece in self.pieces() {
            let to = from + piece.length;
            if from < x - REACH_KWH {
                left = piece.slope;
            }
            if to > x + REACH_KWH {
                right = piece.slope;
                break;
            }
            from = to;
        }
        (left, right)
    }

    /// The cost of moving from `low` to `x`.
    pub(crate) fn rise_to(&self, x: f64) -> f64 {
        let mut left = x - self.low;
        let mut cost = 0.0;
        for piece in self.pieces() {
            let length = piece.length.min(left);
            cost += piece.slope * length;
            left -= length;
            if left <= 0.0 {
                break;
            }
        }
        cost
    }

    /// The store alone in slot `t`, where a kWh at the AC side costs `price`; as the hull where that is not convex.
    pub(crate) fn at_price(frame: &Frame, vessel: &Vessel, t: usize, price: f64) -> Self {
        let span = vessel.span(t);
        let mut cost = Self {
            low: span.fall,
            high: span.rise,
            ..Self::NONE
        };
        let (planned, apart) = vessel.planned(t).unwrap_or((f64::NEG_INFINITY, 0.0));
        let mut at = span.fall;
        for bend in [planned.min(0.0), 0.0, planned.max(0.0), span.rise] {
            let end = bend.clamp(at, span.rise);
            let beside = if at < planned { -apart } else { apart };
            let slope = span.unit_cost(at >= 0.0, price, vessel.wear);
            cost.push(frame, slope + beside, end - at, false);
            at = end;
        }
        if cost.is_convex {
            cost
        } else {
            cost.envelope()
        }
    }

    /// The convex parts, ascending: pieces up to each concave kink or gap.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Self> + '_ {
        let mut from = 0;
        let mut low = self.low;
        let mut is_done = false;
        std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let mut part = Self {
                low,
                high: low,
                ..Self::NONE
            };
            while from < self.count
                && Some(from) != self.gap
                && (part.count == 0 || part.pieces[part.count - 1].slope <= self.pieces[from].slope)
            {
                part.pieces[part.count] = self.pieces[from];
                part.early |= u16::from(self.is_early(from)) << part.count;
                part.count += 1;
                part.high += self.pieces[from].length;
                from += 1;
            }
            low = part.high;
            if from >= self.count {
                part.high = self.high.max(part.low);
                is_done = true;
            } else if Some(from) == self.gap {
                low += self.pieces[from].length;
                from += 1;
            }
            Some(part)
        })
    }

    /// The largest convex function below: the lower hull.
    pub(crate) fn envelope(&self) -> Self {
        let mut hull = Self {
            low: self.low,
            high: self.high,
            ..Self::NONE
        };
        for piece in self.pieces() {
            let mut piece = *piece;
            while let Some(last) = hull.pieces[..hull.count].last()
                && last.slope >= piece.slope
            {
                let length = last.length + piece.length;
                piece.slope = (last.slope * last.length + piece.slope * piece.length) / length;
                piece.length = length;
                hull.count -= 1;
            }
            hull.pieces[hull.count] = piece;
            hull.count += 1;
        }
        hull
    }
}
