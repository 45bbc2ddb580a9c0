//! The value functions of several courses of one home, where its meter has no limits and its battery keeps what it holds.
//!
//! The slopes that such a function can have follow from the prices alone, so they are the same for every course: the rungs.
//! A course then is the content at which its function gets steeper than each rung. A slot moves these contents up or
//! down: what is worth less than selling is discharged, what is worth more than buying is charged, and what is between
//! covers the load or stores what PV has left over. That is the merge of `value.rs` without lists.

use crate::course::Course;
use crate::dynamic::Home;
use crate::numbers::{REACH_KWH, larger, smaller};
use crate::slot_cost::Plain;
use crate::value::OutOfReach;
use crate::vessel::Span;

/// Most rungs: with more, lists are faster.
const RUNGS_MAX: usize = 160;

/// Contents of all courses.
#[derive(Debug, Default)]
pub(crate) struct Ladder {
    /// Slopes, ascending.
    rungs: Vec<f64>,
    /// For each course the content above which its function is steeper than each rung, ascending.
    contents: Vec<f64>,
    /// The slots.
    slots: Vec<Steps>,
    /// What every course can hold.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Places of a slot's slopes among the rungs. A unit in the battery is worth moving beyond them.
#[derive(Debug, Clone, Copy)]
struct Steps {
    buying: usize,
    storing: usize,
    covering: usize,
    selling: usize,
}

impl Ladder {
    /// Makes this the functions at the end of the horizon; false where a home is not of this kind.
    pub(crate) fn begin(&mut self, home: &Home, courses_count: usize) -> Result<bool, OutOfReach> {
        let (vessel, terms) = (home.vessel, home.terms);
        if vessel.soft.is_some() || vessel.is_planned() {
            return Ok(false);
        }
        self.rungs.clear();
        self.slots.clear();
        let slots_count = terms.buy.len();
        let plain = |t: usize| {
            let span = vessel.span(t);
            let is_steady = span.keep == 1.0 && span.drift == 0.0;
            Plain::open(&home.frame, terms, vessel, t)
                .filter(|plain| is_steady && plain.is_convex())
        };
        self.rungs.push(-vessel.end_value);
        for t in 0..slots_count {
            let Some(plain) = plain(t) else {
                return Ok(false);
            };
            self.rungs.extend(plain.slopes().map(|slope| -slope));
        }
        self.rungs.sort_unstable_by(f64::total_cmp);
        self.rungs.dedup();
        if self.rungs.len() > RUNGS_MAX {
            return Ok(false);
        }
        for t in 0..slots_count {
            let Some(plain) = plain(t) else {
                return Ok(false);
            };
            let rung = |slope: f64| self.rungs.partition_point(|rung| *rung < -slope);
            let [selling, covering, storing, buying] = plain.slopes().map(rung);
            self.slots.push(Steps {
                buying,
                storing,
                covering,
                selling,
            });
        }
        let last = vessel.span(slots_count - 1);
        self.high = last.high;
        let low = last.low.max(vessel.end_low);
        if low > self.high + REACH_KWH {
            return Err(OutOfReach);
        }
        self.low = low.min(self.high);
        let held = |rung: &f64| {
            if *rung < -vessel.end_value {
                self.low
            } else {
                self.high
            }
        };
        self.contents.clear();
        for _ in 0..courses_count {
            self.contents.extend(self.rungs.iter().map(held));
        }
        Ok(true)
    }

    /// Takes the functions over slot `t`.
    pub(crate) fn step(
        &mut self,
        home: &Home,
        courses: &[Course],
        (t, added_kw): (usize, f64),
    ) -> Result<(), OutOfReach> {
        let (frame, vessel) = (&home.frame, home.vessel);
        let span = vessel.span(t);
        let (low, high) = (self.low - span.rise, self.high - span.fall);
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
        let all = self.contents.chunks_exact_mut(self.rungs.len());
        for (contents, course) in all.zip(courses) {
            let net = (course.load_kw[t] + added_kw - course.pv_kw[t]) * frame.dt;
            self.slots[t].take(contents, span, net, (self.low, self.high));
        }
        Ok(())
    }

    /// The slope just above the lowest content of a course, and its bends from there to the highest: where, and by how much
    /// it gets steeper.
    pub(crate) fn bends(&self, course: usize, mut bend: impl FnMut(f64, f64)) -> f64 {
        let (rungs, low, high) = (&self.rungs, self.low, self.high);
        let contents = &self.contents[course * rungs.len()..][..rungs.len()];
        let is_above = |content: &f64| *content > low;
        // The last rung reaches up to the highest content.
        let first = contents
            .iter()
            .position(is_above)
            .unwrap_or(rungs.len() - 1);
        let mut slope = rungs[first];
        for (pair, next) in contents[first..].windows(2).zip(&rungs[first + 1..]) {
            if pair[0] >= high {
                break;
            }
            if pair[0] < pair[1] {
                bend(pair[0], next - slope);
                slope = *next;
            }
        }
        rungs[first]
    }
}

impl Steps {
    /// Moves the contents of a course with a net load, kWh.
    fn take(self, contents: &mut [f64], span: &Span, net: f64, (low, high): (f64, f64)) {
        let kink = smaller(larger(span.change(-net), span.fall), span.rise);
        let (middle, below, above) = if kink < 0.0 {
            (self.covering, 0.0, -kink)
        } else {
            (self.storing, -kink, 0.0)
        };
        let ends = [0, self.buying, middle, self.selling, contents.len()];
        let moves = [-span.rise, below, above, -span.fall];
        for (ends, moved) in ends.windows(2).zip(moves) {
            for content in &mut contents[ends[0]..ends[1]] {
                *content = smaller(larger(*content + moved, low), high);
            }
        }
    }
}
