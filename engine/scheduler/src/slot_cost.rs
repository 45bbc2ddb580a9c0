//! What one slot costs as a function of the battery's move, as linear pieces. Never looks at another slot.
//!
//! Two functions follow each other. The meter's: `h(e)`, the cost of a slot whose balance is `e` kWh with all PV used,
//! where curtailment has been chosen for the best. The battery's: `g(x) = h(net + b(x)) + wear*|x|`, with `x` the
//! change of SoC and `b(x)` the energy at the AC side, `x/charge_efficiency` above 0 and `x*discharge_efficiency` below.

use household::problem::{Battery, Problem};

use crate::REACH_KWH;

/// Kinks of `h` at most: limits of export and import, with and without curtailment, and where buying begins.
const KINKS_MAX: usize = 5;
/// Pieces of `g` at most: those of `h`, and one more because it bends at rest.
pub(crate) const PIECES_MAX: usize = KINKS_MAX + 2;
/// What a kWh through the battery costs on top of its wear, in multiples of the largest price. It breaks ties towards
/// rest: a plan may be worse by this share of a price for each kWh that it does not move.
const TIE_BREAK: f64 = 1e-9;
/// Slopes this close, in multiples of the largest price, are the same.
const SAME_SLOPE: f64 = 1e-13;
/// Lengths below this are nothing, kWh.
pub(crate) const SLIVER_KWH: f64 = 1e-12;

/// A linear piece of a function of kWh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Piece {
    /// Currency per kWh.
    pub(crate) slope: f64,
    /// kWh, 0 or more.
    pub(crate) length: f64,
}

impl Piece {
    pub(crate) const NONE: Self = Self {
        slope: 0.0,
        length: 0.0,
    };
}

/// What does not change from slot to slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Length of a slot, hours.
    pub(crate) dt: f64,
    weight_buy: f64,
    weight_autarky: f64,
    weight_sell: f64,
    /// The most that may flow in a slot, kWh; infinite without a limit.
    import_limit: f64,
    export_limit: f64,
    /// Currency per kWh beyond a grid limit; infinite where limits hold.
    grid_penalty: f64,
    is_curtailable: bool,
    /// Largest fall and rise of the SoC in a slot, kWh: 0 or less, 0 or more.
    pub(crate) fall: f64,
    pub(crate) rise: f64,
    charge_efficiency: f64,
    discharge_efficiency: f64,
    /// Currency per kWh of change of SoC, without and with the tie-break.
    wear: f64,
    movement: f64,
    /// The largest price, never 0.
    pub(crate) scale: f64,
}

impl Frame {
    /// The frame of `problem` with `battery` (none: nothing moves). Limits may be broken at `grid_penalty`, currency
    /// per kWh; where that is infinite they hold.
    pub(crate) fn new(
        problem: &Problem,
        battery: Option<&Battery>,
        scale: f64,
        grid_penalty: f64,
    ) -> Self {
        let dt = f64::from(problem.slot_minutes) / 60.0;
        let weights = problem.weights;
        let limit = |limit: Option<f64>| limit.map_or(f64::INFINITY, |limit| limit * dt);
        let wear = battery.map_or(0.0, |b| b.wear_cost_per_kwh);
        Self {
            dt,
            weight_buy: weights.cost,
            weight_autarky: weights.autarky,
            weight_sell: weights.cost + weights.revenue,
            import_limit: limit(problem.grid.import_limit_kw),
            export_limit: limit(problem.grid.export_limit_kw),
            grid_penalty,
            is_curtailable: problem.pv_curtailable,
            fall: battery.map_or(0.0, |b| -b.discharge_kw * dt / b.discharge_efficiency),
            rise: battery.map_or(0.0, |b| b.charge_kw * dt * b.charge_efficiency),
            charge_efficiency: battery.map_or(1.0, |b| b.charge_efficiency),
            discharge_efficiency: battery.map_or(1.0, |b| b.discharge_efficiency),
            wear,
            movement: wear + TIE_BREAK * scale,
            scale,
        }
    }

    /// What wear costs for a change of SoC.
    pub(crate) fn wear(&self, change: f64) -> f64 {
        self.wear * change.abs()
    }

    /// Energy at the AC side for a change of SoC, kWh.
    pub(crate) fn flow(&self, change: f64) -> f64 {
        if change > 0.0 {
            change / self.charge_efficiency
        } else {
            change * self.discharge_efficiency
        }
    }

    /// The change of SoC that takes `flow` at the AC side, kWh.
    fn change(&self, flow: f64) -> f64 {
        if flow > 0.0 {
            flow * self.charge_efficiency
        } else {
            flow / self.discharge_efficiency
        }
    }

    /// Slot `t` of `problem`, with `load_kw` for its load and that of appliances.
    pub(crate) fn meter(&self, problem: &Problem, t: usize, load_kw: f64) -> Meter {
        let pv = problem.pv_kw[t];
        let mut meter = Meter {
            net: (load_kw - pv) * self.dt,
            kinks: [0.0; KINKS_MAX],
            slopes: [0.0; KINKS_MAX + 1],
            kinks_count: 0,
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            origin: (0.0, 0.0),
        };
        let buy = self.weight_buy * problem.buy_price[t] + self.weight_autarky;
        let sell = self.weight_sell * problem.sell_price[t];
        let thrown = if self.is_curtailable {
            pv * self.dt
        } else {
            0.0
        };
        meter.fill(self, buy, sell, thrown);
        meter
    }

    /// Whether the slot's cost is convex in load and move together, with a net load from `least` to `most`, kWh. A cost
    /// that is convex in the move at every load may still not be.
    pub(crate) fn is_convex_in_load(&self, meter: &Meter, least: f64, most: f64) -> bool {
        let loss = 1.0 / self.charge_efficiency - self.discharge_efficiency;
        let bends = self.rise > 0.0 && self.fall < 0.0;
        let holds_at_rest = |slope: f64| !bends || slope * loss + 2.0 * self.movement >= 0.0;
        if meter.low > least + REACH_KWH && bends && loss > 0.0 {
            return false;
        }
        let (first, last) = (least + self.flow(self.fall), most + self.flow(self.rise));
        let mut before = f64::NEG_INFINITY;
        meter.stretches().all(|(low, high, slope)| {
            if high.min(meter.high).min(last) - low.max(meter.low).max(first) <= SLIVER_KWH {
                return true;
            }
            let is_ascending = slope >= before;
            before = slope;
            let is_at_rest = high >= least - REACH_KWH && low <= most + REACH_KWH;
            is_ascending && (!is_at_rest || holds_at_rest(slope))
        })
    }

    /// Currency per kWh of a battery's value that makes `price` at the AC side just worth charging for, or
    /// discharging for. `value` is the slope of what follows: a kWh more in the battery changes it by so much.
    fn charging_price(&self, value: f64) -> f64 {
        (-value - self.movement) * self.charge_efficiency
    }

    fn discharging_price(&self, value: f64) -> f64 {
        (self.movement - value) / self.discharge_efficiency
    }

    /// What one more kWh of load costs in a slot whose battery moves by `change`, where a kWh in the battery is worth
    /// `-value` afterwards. Of several right answers the largest finite one.
    pub(crate) fn shadow_price(&self, meter: &Meter, change: f64, value: f64) -> f64 {
        let near = |a: f64, b: f64| (a - b).abs() <= REACH_KWH;
        let rests = near(change, 0.0);
        let (least, most) = if rests {
            (
                if self.rise > 0.0 {
                    self.charging_price(value)
                } else {
                    f64::NEG_INFINITY
                },
                if self.fall < 0.0 {
                    self.discharging_price(value)
                } else {
                    f64::INFINITY
                },
            )
        } else if change > 0.0 {
            let price = self.charging_price(value);
            if !near(change, self.rise) {
                return price;
            }
            (f64::NEG_INFINITY, price)
        } else {
            let price = self.discharging_price(value);
            if !near(change, self.fall) {
                return price;
            }
            (price, f64::INFINITY)
        };
        let (left, right) = meter.slopes_at(meter.net + self.flow(change));
        let (least, most) = (least.max(left), most.min(right));
        if most.is_finite() {
            most
        } else if least.is_finite() {
            least
        } else {
            0.0
        }
    }
}

/// A slot seen from the meter: the kinks of `h(e)`, ascending, and the slopes before, between and after them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    /// Load less all PV, kWh.
    pub(crate) net: f64,
    kinks: [f64; KINKS_MAX],
    slopes: [f64; KINKS_MAX + 1],
    kinks_count: usize,
    /// The balances that the limits allow, kWh.
    low: f64,
    high: f64,
    /// A balance and its cost.
    origin: (f64, f64),
}

impl Meter {
    /// What a slot with `balance` costs.
    pub(crate) fn cost(&self, balance: f64) -> f64 {
        let (from, cost) = self.origin;
        let (low, high) = (from.min(balance), from.max(balance));
        let mut at = low;
        let mut between = 0.0;
        for (kink, slope) in self.kinks[..self.kinks_count].iter().zip(&self.slopes) {
            if *kink > at {
                between += slope * (kink.min(high) - at);
                at = kink.min(high);
            }
        }
        if high > at {
            between += self.slopes[self.kinks_count] * (high - at);
        }
        if balance < from {
            cost - between
        } else {
            cost + between
        }
    }

    /// Where each slope begins and ends, kWh.
    fn stretches(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let kinks = &self.kinks[..self.kinks_count];
        let lows = std::iter::once(f64::NEG_INFINITY).chain(kinks.iter().copied());
        let highs = kinks.iter().copied().chain([f64::INFINITY]);
        lows.zip(highs)
            .zip(&self.slopes)
            .map(|((low, high), slope)| (low, high, *slope))
    }

    /// The least of `cost(e) - price*e` for `e` from `low` to `high` within the limits.
    pub(crate) fn least_beyond(&self, price: f64, low: f64, high: f64) -> f64 {
        let (low, high) = (low.max(self.low), high.min(self.high));
        let kinks = self.kinks[..self.kinks_count].iter().copied();
        kinks
            .filter(|kink| *kink > low && *kink < high)
            .chain([low, high])
            .map(|balance| self.cost(balance) - price * balance)
            .fold(f64::INFINITY, f64::min)
    }

    /// `buy` and `sell` are weighted; `thrown` is the PV that may be thrown away, kWh.
    fn fill(&mut self, frame: &Frame, buy: f64, sell: f64, thrown: f64) {
        let (import, export) = (frame.import_limit, frame.export_limit);
        if frame.grid_penalty == f64::INFINITY {
            self.low = -export - thrown;
            self.high = import;
        }
        // Beyond the limits of export and import.
        let under = sell - frame.grid_penalty;
        let over = (import, buy + frame.grid_penalty);
        let least = -export - thrown;
        if thrown <= 0.0 {
            self.chain(under, &[(-export, sell), (0.0, buy), over]);
        } else if buy >= 0.0 && sell >= 0.0 {
            // Only what cannot be exported is thrown away.
            self.chain(under, &[(least, 0.0), (-export, sell), (0.0, buy), over]);
        } else if buy >= 0.0 {
            // Everything that would be exported is.
            self.chain(under, &[(least, sell), (-thrown, 0.0), (0.0, buy), over]);
        } else if sell < 0.0 {
            // Everything is.
            self.origin.0 = -thrown;
            let full = import - thrown;
            self.chain(under, &[(least, sell), (-thrown, buy), (full, 0.0), over]);
        } else {
            self.either(under, (buy, sell), thrown, (import, export));
        }
    }

    /// Importing and exporting both pay: below some balance the PV is sold, above it all is thrown away to buy more.
    fn either(&mut self, under: f64, prices: (f64, f64), thrown: f64, limits: (f64, f64)) {
        let ((buy, sell), (import, export)) = (prices, limits);
        let full = import - thrown;
        self.origin.1 = buy * import.min(thrown);
        let even = buy * thrown / (sell - buy);
        // What selling earns rises towards its limit, what buying earns rises from the other side: they meet once.
        let turn = if even > full {
            buy * import / sell
        } else if even < -export {
            -sell * export / buy - thrown
        } else {
            even
        };
        self.chain(under, &[(-export - thrown, 0.0)]);
        if -export < turn {
            self.chain_on(-export, sell);
        }
        if turn < full {
            self.chain_on(turn, buy);
            self.chain_on(full, 0.0);
        } else {
            self.chain_on(turn, 0.0);
        }
        self.chain_on(import, buy - under + sell);
    }

    fn chain(&mut self, under: f64, pieces: &[(f64, f64)]) {
        self.slopes[0] = under;
        for (kink, slope) in pieces {
            self.chain_on(*kink, *slope);
        }
    }

    /// The next kink with the slope after it; one at minus infinity is before everything.
    fn chain_on(&mut self, kink: f64, slope: f64) {
        if kink == f64::NEG_INFINITY {
            self.slopes[0] = slope;
        } else if kink < f64::INFINITY {
            self.kinks[self.kinks_count] = kink;
            self.kinks_count += 1;
            self.slopes[self.kinks_count] = slope;
        }
    }

    /// Slopes of `h` left and right of `balance`; infinite where a limit forbids to go on.
    fn slopes_at(&self, balance: f64) -> (f64, f64) {
        let kinks = &self.kinks[..self.kinks_count];
        let before = kinks.iter().filter(|k| **k < balance - REACH_KWH).count();
        let after = kinks.iter().filter(|k| **k <= balance + REACH_KWH).count();
        let left = if balance <= self.low + REACH_KWH {
            f64::NEG_INFINITY
        } else {
            self.slopes[before]
        };
        let right = if balance >= self.high - REACH_KWH {
            f64::INFINITY
        } else {
            self.slopes[after]
        };
        (left, right)
    }
}

/// A slot seen from the battery: `g(x)` from `low` to `high`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pieces: [Piece; PIECES_MAX],
    count: usize,
    /// Whether slopes ascend.
    pub(crate) is_convex: bool,
}

impl Move {
    pub(crate) const NONE: Self = Self {
        low: 0.0,
        high: 0.0,
        pieces: [Piece::NONE; PIECES_MAX],
        count: 0,
        is_convex: true,
    };

    /// `None` where no move keeps the limits.
    pub(crate) fn of(frame: &Frame, meter: &Meter) -> Option<Self> {
        let low = frame.fall.max(frame.change(meter.low - meter.net));
        let mut high = frame.rise.min(frame.change(meter.high - meter.net));
        if low > high {
            if low > high + REACH_KWH {
                return None;
            }
            high = low;
        }
        let mut cost = Self {
            low,
            high,
            ..Self::NONE
        };
        let mut at = low;
        let first = meter.net + frame.flow(low);
        let kinks = &meter.kinks[..meter.kinks_count];
        let mut next = kinks.iter().take_while(|kink| **kink <= first).count();
        while at < high {
            let slope = meter.slopes[next];
            let bend = kinks
                .get(next)
                .map_or(high, |kink| frame.change(kink - meter.net).min(high));
            next += 1;
            if at < 0.0 {
                let end = bend.min(0.0);
                cost.push(
                    frame,
                    slope * frame.discharge_efficiency - frame.movement,
                    end - at,
                );
                at = at.max(end);
            }
            if bend > at {
                cost.push(
                    frame,
                    slope / frame.charge_efficiency + frame.movement,
                    bend - at,
                );
                at = bend;
            }
        }
        Some(cost)
    }

    fn push(&mut self, frame: &Frame, slope: f64, length: f64) {
        if length <= SLIVER_KWH {
            return;
        }
        if let Some(last) = self.pieces[..self.count].last_mut() {
            if (last.slope - slope).abs() <= SAME_SLOPE * frame.scale {
                last.length += length;
                return;
            }
            self.is_convex &= last.slope < slope;
        }
        self.pieces[self.count] = Piece { slope, length };
        self.count += 1;
    }

    /// In ascending order of `x`.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.count]
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

    /// The battery alone, where a kWh at the AC side costs `price`; as the hull where that is not convex.
    pub(crate) fn at_price(frame: &Frame, price: f64) -> Self {
        let mut cost = Self {
            low: frame.fall,
            high: frame.rise,
            ..Self::NONE
        };
        let out = price * frame.discharge_efficiency - frame.wear;
        cost.push(frame, out, -frame.fall);
        cost.push(
            frame,
            price / frame.charge_efficiency + frame.wear,
            frame.rise,
        );
        if cost.is_convex {
            cost
        } else {
            cost.envelope()
        }
    }

    /// The convex parts, ascending: pieces up to each concave kink.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Self> + '_ {
        let mut from = 0;
        let mut low = self.low;
        std::iter::from_fn(move || {
            if from >= self.count.max(1) {
                return None;
            }
            let mut part = Self {
                low,
                high: low,
                ..Self::NONE
            };
            while from < self.count
                && (part.count == 0 || part.pieces[part.count - 1].slope < self.pieces[from].slope)
            {
                part.pieces[part.count] = self.pieces[from];
                part.count += 1;
                part.high += self.pieces[from].length;
                from += 1;
            }
            if from >= self.count {
                part.high = self.high;
                from = usize::MAX;
            }
            low = part.high;
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
