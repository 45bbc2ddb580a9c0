//! What a battery needs to know of what follows a slot: up to which content each kind of energy is worth moving. Looks at no
//! plan.

use crate::vessel::Vessel;

/// How many places are asked for in a slot.
pub(crate) const ASKED: usize = 6;
/// Which of them are of energy that is moved on while that is free: storing PV and selling.
pub(crate) const GOES_ON: [bool; ASKED] = [true, true, false, false, false, true];

/// The contents at which a slot's kinds of energy cease to be worth moving, whatever is left over and needed in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Levels {
    /// Up to which to store PV beyond the limit of export, PV within it, and what is bought.
    pub(crate) excess: f64,
    pub(crate) left_over: f64,
    pub(crate) bought: f64,
    /// Down to which to cover load beyond the limit of import, load within it, and to sell.
    pub(crate) beyond: f64,
    pub(crate) needed: f64,
    pub(crate) sold: f64,
}

/// What follows each slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlook<'a> {
    pub(crate) vessel: &'a Vessel,
    /// The contents at which what follows gets as steep as was [`asked`], a set for each slot, or two.
    pub(crate) places: &'a [[f64; ASKED]],
    /// What can be held at the end of each slot, whatever follows.
    pub(crate) bounds: &'a [(f64, f64)],
    /// What a unit at the end of each slot is worth.
    pub(crate) worths: &'a [f64],
    /// Whether to move towards the levels is, by its theory, to follow the plan.
    pub(crate) is_plain: bool,
}

impl Outlook<'_> {
    /// The levels of slot `t`, which begins with `content`. Where departing from the plan before has a cost, a level is
    /// as near as is worth that cost to what was planned.
    pub(crate) fn levels(&self, t: usize, content: f64) -> Levels {
        let [excess, left_over, bought, beyond, needed, sold] = if self.vessel.is_planned() {
            let (least, most) = (&self.places[2 * t], &self.places[2 * t + 1]);
            let planned = self.vessel.planned(t).map_or(0.0, |(planned, _)| planned);
            std::array::from_fn(|k| (content + planned).min(most[k]).max(least[k]))
        } else {
            self.places[t]
        };
        Levels {
            excess,
            left_over,
            bought,
            beyond,
            needed,
            sold,
        }
    }
}

/// The slopes to be found in what follows slot `t`, where energy costs `prices` as [`Meter::prices`] has them: one set, or
/// two where there is a plan before.
///
/// [`Meter::prices`]: crate::meter::Meter::prices
pub(crate) fn asked(vessel: &Vessel, t: usize, prices: [f64; 4]) -> [Option<[f64; ASKED]>; 2] {
    if !vessel.is_planned() {
        return [Some(slopes(vessel, t, prices, 0.0)), None];
    }
    let apart = vessel.planned(t).map_or(0.0, |(_, apart)| apart);
    [-apart, apart].map(|apart| Some(slopes(vessel, t, prices, apart)))
}

/// How steep what follows slot `t` is where each kind of energy ceases to be worth moving; `apart` is what a unit less
/// than planned costs. Storing PV and selling go on while they are free, the others do not.
fn slopes(vessel: &Vessel, t: usize, prices: [f64; 4], apart: f64) -> [f64; ASKED] {
    let span = vessel.span(t);
    let up = |price: f64| apart - span.unit_cost(true, price, vessel.movement);
    let down = |price: f64| apart - span.unit_cost(false, price, vessel.movement);
    let [excess, left_over, needed, beyond] = prices;
    [
        up(excess).next_up(),
        up(left_over).next_up(),
        up(needed),
        down(beyond),
        down(needed),
        down(left_over).next_up(),
    ]
}
