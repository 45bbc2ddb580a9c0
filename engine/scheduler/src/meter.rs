//! What one slot costs as a function of the balance at the meter: `h(e)`, where `e` kWh flow in with all PV used, and
//! curtailment has been chosen for the best. Never looks at another slot, or at a store.

use model::problem::Problem;

use crate::chain::{Hinge, Hinged};
use crate::numbers::{REACH_KWH, larger, smaller};
use crate::terms::{SoftCaps, Terms};

/// Kinks of `h` at most: limits and caps of export and import, where buying begins, and where PV is thrown away.
pub(crate) const KINKS_MAX: usize = 7;

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

/// What of the meter does not change from slot to slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Length of a slot, hours.
    pub(crate) dt: f64,
    /// The most that may flow in a slot before it costs more, kWh; infinite without a limit.
    import_limit: f64,
    export_limit: f64,
    /// What may never flow in.
    import_wall: f64,
    /// Currency per kWh beyond a limit; infinite where limits hold.
    import_penalty: f64,
    export_penalty: f64,
    is_curtailable: bool,
    /// A price like most, never 0.
    pub(crate) typical: f64,
}

impl Frame {
    /// The frame of `problem`.
    pub(crate) fn new(problem: &Problem, terms: &Terms) -> Self {
        let limit = |limit: Option<f64>| limit.map_or(f64::INFINITY, |limit| limit * terms.dt);
        let (penalty, wall) = if terms.is_relaxed() {
            (terms.grid_penalty(), f64::INFINITY)
        } else {
            (f64::INFINITY, limit(problem.grid.import_limit_kw))
        };
        Self {
            dt: terms.dt,
            import_limit: limit(problem.grid.import_limit_kw),
            export_limit: limit(problem.grid.export_limit_kw),
            import_wall: wall,
            import_penalty: penalty,
            export_penalty: penalty,
            is_curtailable: problem.pv_curtailable,
            typical: terms.typical,
        }
    }

    /// What may never flow in, kWh; infinite where nothing says so.
    pub(crate) fn import_wall(&self) -> f64 {
        self.import_wall
    }

    /// The same where import above `peak_kw` costs `price_per_kw` more in each slot.
    pub(crate) fn capped(&self, peak_kw: f64, price_per_kw: f64) -> Self {
        let peak = peak_kw * self.dt;
        if peak >= self.import_wall {
            return *self;
        }
        Self {
            import_limit: peak,
            import_penalty: price_per_kw / self.dt,
            ..*self
        }
    }

    /// Whether nothing limits the meter, so that its cost bends where buying begins, at these weighted prices, whatever load
    /// and PV. Where selling costs, PV is thrown away instead.
    pub(crate) fn bends_once(&self, buy: f64, sell: f64) -> bool {
        let is_open = self.import_limit == f64::INFINITY
            && self.export_limit == f64::INFINITY
            && self.import_wall == f64::INFINITY;
        is_open && (!self.is_curtailable || (buy >= 0.0 && sell >= 0.0))
    }
}

/// A slot seen from the meter: the kinks of `h(e)`, ascending, and the slopes before, between and after them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    /// Load less all PV, kWh.
    pub(crate) net: f64,
    pub(crate) kinks: [f64; KINKS_MAX],
    pub(crate) slopes: [f64; KINKS_MAX + 1],
    pub(crate) kinks_count: usize,
    /// The balances that the limits allow, kWh.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// A balance and its cost.
    origin: (f64, f64),
}

impl Meter {
    pub(crate) const NONE: Self = Self {
        net: 0.0,
        kinks: [0.0; KINKS_MAX],
        slopes: [0.0; KINKS_MAX + 1],
        kinks_count: 0,
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
        origin: (0.0, 0.0),
    };

    /// Makes this slot `t` of `problem`, with `load_kw` for its load and that of appliances.
    pub(crate) fn set(
        &mut self,
        frame: &Frame,
        problem: &Problem,
        terms: &Terms,
        (t, load_kw): (usize, f64),
    ) {
        self.set_to(frame, terms, t, (load_kw, problem.pv_kw[t]));
    }

    /// Makes this slot `t` with another load and PV.
    pub(crate) fn set_to(
        &mut self,
        frame: &Frame,
        terms: &Terms,
        t: usize,
        (load_kw, pv): (f64, f64),
    ) {
        let (buy, sell) = (terms.buy[t], terms.sell[t]);
        self.net = (load_kw - pv) * frame.dt;
        self.kinks_count = 0;
        self.low = f64::NEG_INFINITY;
        self.high = frame.import_wall;
        self.origin = (0.0, 0.0);
        let thrown = if frame.is_curtailable {
            pv * frame.dt
        } else {
            0.0
        };
        match terms.soft_caps(t) {
            None => self.fill(frame, buy, sell, thrown),
            Some(caps) => self.fill_capped(frame, (buy, sell), caps, thrown),
        }
    }

    /// What a slot with `balance` costs.
    pub(crate) fn cost(&self, balance: f64) -> f64 {
        let (from, cost) = self.origin;
        // A hair beyond a limit that holds is at the limit.
        let balance = balance.max(self.low).min(self.high);
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
    pub(crate) fn stretches(&self) -> impl Iterator<Item = (f64, f64, f64)> {
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

    /// Whether slopes ascend.
    pub(crate) fn is_convex(&self) -> bool {
        self.slopes[..=self.kinks_count].is_sorted()
    }

    /// The slopes of the same where a store that takes `flow` would take anything from `least` to `most` instead, which is worth
    /// `price` to it. `None` where that has too many kinks.
    pub(crate) fn bent(&self, flow: f64, price: f64, (least, most): (f64, f64)) -> Option<Self> {
        if self.kinks_count == KINKS_MAX {
            return None;
        }
        // What the meter does for less than the price comes before what the store does, and the rest after it.
        let (before, after) = (flow - most, flow - least);
        let cheaper = self.slopes[..=self.kinks_count]
            .iter()
            .take_while(|slope| **slope < price)
            .count();
        let mut bent = Self {
            net: self.net + flow,
            low: self.low + before,
            high: self.high + after,
            kinks_count: 0,
            ..*self
        };
        let kinks = &self.kinks[..self.kinks_count];
        for (i, (kink, slope)) in kinks.iter().zip(&self.slopes[1..]).enumerate() {
            if i + 1 < cheaper {
                bent.chain_on(kink + before, *slope);
            } else if i + 1 == cheaper {
                bent.chain_on(kink + before, price);
                bent.chain_on(kink + after, *slope);
            } else {
                bent.chain_on(kink + after, *slope);
            }
        }
        Some(bent)
    }

    /// The balances that the limits allow, kWh.
    pub(crate) fn limits(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// The pieces of the cost from `low` to `high`.
    pub(crate) fn between(&self, low: f64, high: f64) -> impl Iterator<Item = Piece> {
        self.stretches().map(move |(from, to, slope)| Piece {
            slope,
            length: larger(smaller(to, high) - larger(from, low), 0.0),
        })
    }

    /// `buy` and `sell` are weighted; `thrown` is the PV that may be thrown away, kWh.
    fn fill(&mut self, frame: &Frame, buy: f64, sell: f64, thrown: f64) {
        let (import, export) = (frame.import_limit, frame.export_limit);
        if thrown <= 0.0 && import == f64::INFINITY && export == f64::INFINITY {
            // As most slots are.
            self.kinks[0] = 0.0;
            self.slopes[0] = sell;
            self.slopes[1] = buy;
            self.kinks_count = 1;
            return;
        }
        if frame.export_penalty == f64::INFINITY {
            self.low = -export - thrown;
        }
        // Beyond the limits of export and import.
        let under = sell - frame.export_penalty;
        let over = (import, buy + frame.import_penalty);
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
            self.either(frame, (buy, sell), thrown);
        }
    }

    /// The same with caps at a price, as the least of all that may be thrown away.
    fn fill_capped(
        &mut self,
        frame: &Frame,
        (buy, sell): (f64, f64),
        caps: &SoftCaps,
        thrown: f64,
    ) {
        let hinge = |at: f64, price: f64| Hinge { at, price };
        let hinged = Hinged {
            before: sell,
            after: buy,
            below: [
                hinge(-frame.export_limit, frame.export_penalty),
                hinge(-caps.export_kwh, caps.export_price),
            ],
            above: [
                hinge(frame.import_limit, frame.import_penalty),
                hinge(caps.import_kwh, caps.import_price),
                hinge(frame.import_wall, f64::INFINITY),
            ],
        };
        let chain = hinged.least_ahead(thrown);
        self.origin = chain.origin;
        (self.low, self.high) = chain.ends();
        self.slopes[0] = chain.first();
        for (kink, slope) in chain.bends() {
            if kink <= self.low {
                self.slopes[0] = slope;
            } else if kink < self.high {
                self.chain_on(kink, slope);
            }
        }
    }

    /// Importing and exporting both pay: below some balance the PV is sold, above it all is thrown away to buy more.
    fn either(&mut self, frame: &Frame, (buy, sell): (f64, f64), thrown: f64) {
        let (import, export) = (frame.import_limit, frame.export_limit);
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
        self.chain(sell - frame.export_penalty, &[(-export - thrown, 0.0)]);
        if -export < turn {
            self.chain_on(-export, sell);
        }
        if turn < full {
            self.chain_on(turn, buy);
            self.chain_on(full, 0.0);
        } else {
            self.chain_on(turn, 0.0);
        }
        self.chain_on(import, buy + frame.import_penalty);
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

    /// The price of a kWh for whoever takes it: where PV is left over beyond the limit of export, where it is left over
    /// within it, where load is to be covered within the limit of import, and where beyond; a cap above 0
    /// counts as a limit. Infinite where that is forbidden, or cannot be.
    pub(crate) fn prices(&self, frame: &Frame, caps: Option<&SoftCaps>) -> [f64; 4] {
        let kinks = &self.kinks[..self.kinks_count];
        let before = |at: f64| self.slopes[kinks.iter().filter(|kink| **kink < at).count()];
        let after = |at: f64| self.slopes[kinks.iter().filter(|kink| **kink <= at).count()];
        let (mut export, mut import) = (-frame.export_limit, frame.import_limit);
        if let Some(caps) = caps {
            export = export.max(-caps.export_kwh.max(0.0));
            import = import.min(caps.import_kwh.max(0.0));
        }
        [
            if export <= self.low {
                f64::NEG_INFINITY
            } else {
                before(export)
            },
            before(0.0),
            after(0.0),
            if import >= self.high {
                f64::INFINITY
            } else {
                after(import)
            },
        ]
    }

    /// Whether the price turns at 0 and nowhere else.
    pub(crate) fn is_plain(&self) -> bool {
        self.kinks_count == 1 && self.kinks[0] == 0.0
    }

    /// Slopes of `h` left and right of `balance`; infinite where a limit forbids to go on.
    pub(crate) fn slopes_at(&self, balance: f64) -> (f64, f64) {
        let kinks = &self.kinks[..self.kinks_count];
        let (mut before, mut after) = (0, 0);
        for kink in kinks {
            before += usize::from(*kink < balance - REACH_KWH);
            after += usize::from(*kink <= balance + REACH_KWH);
        }
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
