//! The light solver of mixed-integer programs beside HiGHS, on the random problems of every kind.

use std::time::Instant;

use model::problem::Problem;
use proptest::strategy::{BoxedStrategy, Strategy};
use scheduler::{Milp, by_milp};

use crate::oracle::{
    appliance_home, battery_home, draw, ev_and_battery_home, ev_home, everything_home, heat_home,
    peak_home, stable_home,
};

/// Largest difference of costs, relative to the larger of 1 and the cost.
const SAME: f64 = 1e-6;

/// How the two compare on a kind of problem.
#[derive(Debug, Default)]
struct Tally {
    /// One of the two finds nothing in time.
    nothing: u32,
    worse: u32,
    unproven: u32,
    light_us: Vec<u128>,
    highs_us: Vec<u128>,
}

#[expect(clippy::disallowed_methods, reason = "what a solver takes is measured")]
fn timed<T>(times: &mut Vec<u128>, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    times.push(begun.elapsed().as_micros());
    result
}

/// Solves `cases` problems by both. Never is the light solver's bound above what can be had, nor its plan cheaper; where
/// its plan is dearer, its bound says so.
fn compare(kind: &str, cases: u64, salt: u64, strategy: &impl Strategy<Value = Problem>) -> Tally {
    let mut tally = Tally::default();
    for case in 0..cases {
        let seed = salt * 1_000_000 + case;
        let problem = draw(seed, strategy);
        let light = timed(&mut tally.light_us, || by_milp(&problem, Milp::Microlp));
        let highs = timed(&mut tally.highs_us, || by_milp(&problem, Milp::Highs));
        let light = light.expect("the problem can be stated");
        let highs = highs.expect("the problem can be stated");
        let (Some(light), Some(highs)) = (light, highs) else {
            tally.nothing += 1;
            continue;
        };
        let size = highs.cost.abs().max(1.0) * SAME;
        let is_true = light.bound <= highs.cost + size && light.cost >= highs.bound - size;
        assert!(is_true, "{kind} {seed}: {light:?} {highs:?}");
        if light.cost > highs.cost + size {
            assert!(light.bound < light.cost, "{kind} {seed}: {light:?}");
            tally.worse += 1;
        }
        tally.unproven += u32::from(light.cost - light.bound > size);
    }
    tally.light_us.sort_unstable();
    tally.highs_us.sort_unstable();
    tally
}

#[test]
fn the_light_solver_tells_the_truth() {
    compare("ev and battery", 12, 6, &ev_and_battery_home());
    compare("everything", 8, 8, &everything_home());
    compare("peak", 12, 9, &peak_home());
}

#[test]
#[ignore = "figures for the decision, minutes"]
fn figures() {
    let cases = option_env!("CASES")
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    let print = |kind: &str, tally: &Tally| {
        let at = |times: &[u128], percent: usize| times[(times.len() - 1) * percent / 100];
        let times = [&tally.light_us, &tally.highs_us].map(|t| [at(t, 50), at(t, 99), at(t, 100)]);
        let (nothing, worse, unproven) = (tally.nothing, tally.worse, tally.unproven);
        println!("{kind}: nothing {nothing}, worse {worse}, not proven {unproven}; us {times:?}");
    };
    let of = |kind: &str, salt: u64, strategy: BoxedStrategy<Problem>| {
        print(kind, &compare(kind, cases, salt, &strategy));
    };
    of("battery", 1, battery_home(0.05, 0.5, false).boxed());
    of("not convex", 2, battery_home(-0.3, 0.4, true).boxed());
    of("ev", 5, ev_home().boxed());
    of("ev and battery", 6, ev_and_battery_home().boxed());
    of("heat", 7, heat_home().boxed());
    of("everything", 8, everything_home().boxed());
    of("peak", 9, peak_home().boxed());
    of("plan before", 10, stable_home().boxed());
    of("one appliance", 3, appliance_home(1).boxed());
    of("two appliances", 4, appliance_home(2).boxed());
}
