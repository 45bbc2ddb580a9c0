use super::{DAY_MS, at, near};
use crate::compete::Contest;
use crate::load::LoadModel;
use crate::profiles::Profiles;
use crate::scenarios::{Scenarios, quantile, ranked_score};
use model::units::SlotLength;

/// E|x - y| - E|x - x'| / 2.
#[test]
fn the_score_is_worked_out_by_hand() {
    near(ranked_score(&[(300.0, 1.0)], 500.0), 200.0, 0.0);
    near(
        ranked_score(&[(0.0, 0.5), (10.0, 0.5)], 5.0),
        5.0 - 2.5,
        1e-12,
    );
    // |0 - 4|/4 + |8 - 4|*3/4 - (2 * 1/4 * 3/4 * 8)/2.
    near(
        ranked_score(&[(0.0, 0.25), (8.0, 0.75)], 4.0),
        4.0 - 1.5,
        1e-12,
    );
    near(
        ranked_score(&[(0.0, 0.5), (10.0, 0.5)], 20.0),
        15.0 - 2.5,
        1e-12,
    );
}

#[test]
fn quantiles_are_the_first_value_that_reaches_the_share() {
    let sorted = [(1.0, 0.1), (2.0, 0.4), (3.0, 0.4), (4.0, 0.1)];
    for (share, expected) in [(0.1, 1.0), (0.11, 2.0), (0.5, 2.0), (0.51, 3.0), (0.9, 3.0)] {
        near(quantile(&sorted, share), expected, 0.0);
    }
    let band = Scenarios {
        weights: vec![0.25, 0.75],
        series_w: vec![vec![100.0, 0.0], vec![300.0, 40.0]],
    }
    .band();
    assert_eq!(band.mean_w, [250.0, 30.0]);
    assert_eq!(band.low_w, [100.0, 0.0]);
    assert_eq!(band.median_w, [300.0, 40.0]);
}

/// Tells a contest the hours of some days.
fn contest(days: i64, stake: fn(i64) -> f64, load_w: impl Fn(i64) -> f64) -> Contest {
    let mut profiles = Profiles::new(SlotLength::new(60).unwrap());
    let mut contest = Contest::default();
    for hour in 0..days * 24 {
        let start_ms = at(0, hour, 0);
        profiles.observe(start_ms, 0, load_w(start_ms));
        contest.score(&profiles, start_ms, stake(start_ms));
    }
    contest
}

fn cost_of(contest: &Contest, model: LoadModel) -> f64 {
    contest
        .costs()
        .find(|(other, _)| *other == model)
        .unwrap()
        .1
}

/// Each day is new, but lasts for two: no past day says more than yesterday. Every hour costs the same.
fn drifting_w(ts_ms: i64) -> f64 {
    let day = (ts_ms - at(0, 0, 0)).div_euclid(DAY_MS);
    200.0 + 400.0 * day as f64
}

#[test]
fn the_cheapest_model_makes_the_forecast() {
    let drifting = contest(20, |_| 1.0, drifting_w);
    assert_eq!(drifting.chosen(), LoadModel::Yesterday);
    for other in [
        LoadModel::WeekdayMean,
        LoadModel::PastDays,
        LoadModel::LikelyDays,
    ] {
        assert!(cost_of(&drifting, LoadModel::Yesterday) < cost_of(&drifting, other));
    }
    let alternating = contest(
        20,
        |_| 1.0,
        |ts_ms| {
            if ts_ms.div_euclid(DAY_MS) % 2 == 0 {
                200.0
            } else {
                1_000.0
            }
        },
    );
    assert_eq!(alternating.chosen(), LoadModel::LikelyDays);
    let likely = cost_of(&alternating, LoadModel::LikelyDays);
    assert!(likely < 0.7 * cost_of(&alternating, LoadModel::PastDays));
}

#[test]
fn a_model_stays_until_another_has_shown_more() {
    // Three days and a day before them.
    assert_eq!(
        contest(3, |_| 1.0, drifting_w).chosen(),
        LoadModel::LikelyDays
    );
    let even = contest(20, |_| 1.0, |_| 400.0);
    assert_eq!(even.chosen(), LoadModel::LikelyDays);
    near(cost_of(&even, LoadModel::Yesterday), 0.0, 0.0);
}

/// Hours without a stake cost nothing, and those with twice the stake cost twice.
#[test]
fn hours_count_by_their_stake() {
    let once = contest(12, |_| 1.0, drifting_w);
    let twice = contest(12, |_| 2.0, drifting_w);
    let never = contest(12, |_| 0.0, drifting_w);
    let (once, twice) = (
        cost_of(&once, LoadModel::PastDays),
        cost_of(&twice, LoadModel::PastDays),
    );
    near(twice / once, 2.0, 1e-5);
    near(cost_of(&never, LoadModel::PastDays), 0.0, 0.0);
    assert_eq!(never.chosen(), LoadModel::LikelyDays);
}
