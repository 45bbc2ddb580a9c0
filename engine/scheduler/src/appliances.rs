//! One appliance by itself: its possible starts, its power, and the cost of starting in another slot than planned.

use std::ops::RangeInclusive;

use model::problem::{Appliance, Problem};

/// Returns the start slots that keep `appliance` inside its window.
pub(crate) fn possible_starts(appliance: &Appliance) -> RangeInclusive<usize> {
    let latest = appliance.latest_end_slot as usize - appliance.profile_kw.len();
    appliance.earliest_slot as usize..=latest
}

/// Returns the power in `slot` of an appliance started at `start`, kW; `None` if it does not run then.
pub(crate) fn running_kw(appliance: &Appliance, start: usize, slot: usize) -> Option<f64> {
    slot.checked_sub(start)
        .and_then(|offset| appliance.profile_kw.get(offset).copied())
}

/// Returns the most that all appliances together can draw in slot `t`, kW.
pub(crate) fn peak_kw(problem: &Problem, t: usize) -> f64 {
    let possible = problem.appliances.iter().filter(|appliance| {
        (appliance.earliest_slot as usize..appliance.latest_end_slot as usize).contains(&t)
    });
    possible
        .map(|appliance| appliance.profile_kw.iter().copied().fold(0.0, f64::max))
        .sum()
}

/// Returns the cost of starting `appliance` at `start` instead of when the previous plan did.
pub(crate) fn start_cost(problem: &Problem, appliance: &Appliance, start: usize) -> f64 {
    let Some(stability) = &problem.stability else {
        return 0.0;
    };
    match stability.start_slots.get(&appliance.id) {
        Some(planned) if *planned as usize != start => stability.start_cost,
        Some(_) | None => 0.0,
    }
}
