//! The mean over scenarios of the least cost from each slot on. Each scenario has its own convex program; the weighted mean
//! of their functions is convex too, and its slope is the mean of their slopes. Never builds that mean: its few places that
//! are asked for are found among the bends of all.

use crate::course::Course;
use crate::dynamic::Home;
use crate::ladder::Ladder;
use crate::meter::Meter;
use crate::numbers::{REACH_KWH, larger, smaller};
use crate::outlook::{ASKED, GOES_ON, Outlook};
use crate::slot_cost::{Move, PIECES_MAX, Plain};
use crate::value::{OutOfReach, Value};
use crate::vessel::Vessel;

/// Parts of equal length into which the contents are split, to find a place among many bends.
const PARTS: usize = 64;
/// A place has a slope if the mean is within this of it, in multiples of a price: far above the rounding of a mean of
/// equal slopes, and far below what breaks ties.
const SAME_KWH: f64 = 1e-11;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// A bend of one scenario's function.
#[derive(Debug, Clone, Copy)]
struct Bend {
    at: f64,
    /// By how much the mean gets steeper there.
    steeper: f64,
    /// Another bend in the same part.
    next: u32,
}

/// The mean at the end of a slot.
#[derive(Debug, Clone, Copy)]
struct Boundary {
    low: f64,
    high: f64,
    parts_per_kwh: f64,
    /// The slope where each part begins, and at the very end.
    slopes: [f64; PARTS + 1],
    /// A bend in each part.
    first: [u32; PARTS],
}

/// Working arrays and, after [`Mean::solve`], the answer.
#[derive(Debug, Default)]
pub(crate) struct Mean {
    /// The function of each course; one for all in `ladder` where that can be.
    values: Vec<Value>,
    ladder: Ladder,
    has_ladder: bool,
    boundaries: Vec<Boundary>,
    bends: Vec<Bend>,
    sorted: Vec<(f64, f64)>,
    places: Vec<[f64; ASKED]>,
    bounds: Vec<(f64, f64)>,
    worths: Vec<f64>,
}

impl Mean {
    /// Finds the places that `asked` names, one set a slot or two, in the mean over `courses`. `added_kw` is what the home
    /// takes in each slot beside their load. A slot that is not convex counts with its lower hull. Energy is bought, kept
    /// from the load, sold or left to the grid only where that gains more than `caution`, currency per kWh.
    pub(crate) fn solve(
        &mut self,
        home: &Home,
        courses: &[Course],
        added_kw: &[f64],
        asked: &[[f64; ASKED]],
        caution: f64,
    ) -> Result<(), OutOfReach> {
        let slots_count = home.terms.buy.len();
        let sets = asked.len() / slots_count;
        let apart = SAME_KWH * home.terms.resolved() + caution;
        self.bends.clear();
        self.boundaries.clear();
        self.worths.clear();
        self.places.resize(asked.len(), [0.0; ASKED]);
        self.bounds.resize(slots_count, (0.0, 0.0));
        self.has_ladder = self.ladder.begin(home, courses.len())?;
        let values_count = if self.has_ladder { 0 } else { courses.len() };
        self.values.resize_with(values_count, Value::default);
        for value in &mut self.values {
            value.begin(home.vessel, slots_count)?;
        }
        for t in (0..slots_count).rev() {
            let boundary = self.boundary(courses)?;
            let sets_of_slot = sets * t..sets * (t + 1);
            for (slopes, set) in asked[sets_of_slot.clone()].iter().zip(sets_of_slot) {
                self.places[set] = self.places_of(&boundary, slopes, apart);
            }
            self.bounds[t] = (boundary.low, boundary.high);
            self.boundaries.push(boundary);
            if self.has_ladder {
                self.ladder.step(home, courses, (t, added_kw[t]))?;
            } else {
                self.step(home, courses, (t, added_kw[t]))?;
            }
        }
        self.boundaries.reverse();
        let (low, high) = self.ends();
        let start = home.vessel.start;
        let is_held = start >= low - REACH_KWH && start <= high + REACH_KWH;
        if is_held { Ok(()) } else { Err(OutOfReach) }
    }

    /// The contents that every course can hold.
    fn ends(&self) -> (f64, f64) {
        if self.has_ladder {
            return (self.ladder.low, self.ladder.high);
        }
        let lows = self.values.iter().map(|value| value.low);
        let highs = self.values.iter().map(|value| value.high);
        let low = lows.fold(f64::NEG_INFINITY, larger);
        (low, highs.fold(f64::INFINITY, smaller))
    }

    /// Takes the function of each scenario over slot `t`.
    fn step(
        &mut self,
        home: &Home,
        courses: &[Course],
        (t, added_kw): (usize, f64),
    ) -> Result<(), OutOfReach> {
        let Home {
            frame,
            terms,
            vessel,
            ..
        } = home;
        let (mut meter, mut cost) = (Meter::NONE, Move::NONE);
        let mut levels = [0.0; PIECES_MAX];
        let plain = Plain::open(frame, terms, vessel, t);
        for (value, course) in self.values.iter_mut().zip(courses) {
            let load_kw = course.load_kw[t] + added_kw;
            if let Some(plain) = plain {
                let net = (load_kw - course.pv_kw[t]) * frame.dt;
                cost.set_plain(&plain, vessel.span(t), net);
                if cost.is_convex {
                    value.step(vessel, &cost, t, &mut levels)?;
                    continue;
                }
            }
            meter.set_to(frame, terms, t, (load_kw, course.pv_kw[t]));
            if !cost.set(frame, vessel, t, &meter) {
                return Err(OutOfReach);
            }
            if !cost.is_convex {
                cost = cost.envelope();
            }
            value.step(vessel, &cost, t, &mut levels)?;
        }
        Ok(())
    }

    /// The mean of the functions as they are.
    fn boundary(&mut self, courses: &[Course]) -> Result<Boundary, OutOfReach> {
        let (low, high) = self.ends();
        if low > high + REACH_KWH {
            return Err(OutOfReach);
        }
        let mut boundary = Boundary {
            low,
            high: larger(high, low),
            parts_per_kwh: if high > low {
                PARTS as f64 / (high - low)
            } else {
                0.0
            },
            slopes: [0.0; PARTS + 1],
            first: [NONE; PARTS],
        };
        let mut slope = 0.0;
        let mut steeper = [0.0; PARTS];
        let bends = &mut self.bends;
        for (number, course) in courses.iter().enumerate() {
            let drop_in = |at: f64, steeper_by: f64| {
                let part = boundary.part(at);
                let bend = Bend {
                    at,
                    steeper: course.weight * steeper_by,
                    next: boundary.first[part],
                };
                boundary.first[part] = index(bends.len());
                steeper[part] += bend.steeper;
                bends.push(bend);
            };
            let first = match self.values.get(number) {
                Some(value) => value.bends(low, high, drop_in),
                None => self.ladder.bends(number, drop_in),
            };
            slope += course.weight * first;
        }
        boundary.slopes[0] = slope;
        for (part, steeper) in steeper.into_iter().enumerate() {
            slope += steeper;
            boundary.slopes[part + 1] = slope;
        }
        Ok(boundary)
    }

    /// Where the mean ceases to be steeper downwards than each of `asked`, by `apart` at least where using PV at once ends.
    fn places_of(&mut self, boundary: &Boundary, asked: &[f64; ASKED], apart: f64) -> [f64; ASKED] {
        let mut sorted_part = PARTS;
        std::array::from_fn(|k| {
            // Of equal slopes, some are moved along and some are not.
            let slope = if GOES_ON[k] {
                asked[k] + apart
            } else {
                asked[k] - apart
            };
            if boundary.slopes[0] >= slope {
                return boundary.low;
            }
            let part = boundary.slopes[1..].partition_point(|end| *end < slope);
            if part == PARTS {
                return boundary.high;
            }
            if part != sorted_part {
                sorted_part = part;
                self.sort(boundary, part);
            }
            let mut at_slope = boundary.slopes[part];
            let reached = self.sorted.iter().find(|(_, steeper)| {
                at_slope += steeper;
                at_slope >= slope
            });
            // Rounding may leave the sum a hair short.
            let reached = reached.or(self.sorted.last());
            reached.map_or(boundary.high, |(at, _)| *at)
        })
    }

    fn sort(&mut self, boundary: &Boundary, part: usize) {
        self.sorted.clear();
        self.sorted
            .extend(chain(&self.bends, boundary.first[part]).map(|bend| (bend.at, bend.steeper)));
        self.sorted
            .sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    }

    /// Notes what a unit more at the end of each slot is worth, or the last one of a full store, where it holds `contents`.
    pub(crate) fn note_worths(&mut self, vessel: &Vessel, contents: &[f64]) {
        for (t, content) in contents.iter().enumerate() {
            let is_full = *content >= vessel.span(t).high - REACH_KWH;
            let beside = if is_full { -REACH_KWH } else { REACH_KWH };
            let slope = self.boundaries[t].slope_at(&self.bends, content + beside);
            self.worths.push(-slope);
        }
    }

    /// What follows each slot.
    pub(crate) fn outlook<'a>(&'a self, vessel: &'a Vessel) -> Outlook<'a> {
        Outlook {
            vessel,
            places: &self.places,
            bounds: &self.bounds,
            worths: &self.worths,
            is_plain: false,
        }
    }
}

impl Boundary {
    /// The part in which `at` lies.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut to its range"
    )]
    fn part(&self, at: f64) -> usize {
        (((at - self.low) * self.parts_per_kwh) as usize).min(PARTS - 1)
    }

    /// The slope at `content`, which is no bend.
    fn slope_at(&self, bends: &[Bend], content: f64) -> f64 {
        let part = self.part(content);
        let passed = chain(bends, self.first[part]).filter(|bend| bend.at <= content);
        self.slopes[part] + passed.map(|bend| bend.steeper).sum::<f64>()
    }
}

/// The bends of a part from `first` on.
fn chain(bends: &[Bend], first: u32) -> impl Iterator<Item = &Bend> {
    let mut next = first;
    std::iter::from_fn(move || {
        let bend = bends.get(next as usize)?;
        next = bend.next;
        Some(bend)
    })
}

fn index(count: usize) -> u32 {
    u32::try_from(count).expect("64 scenarios of 672 slots bend fewer than four billion times")
}
