use proptest::prelude::*;

use crate::scenarios::Scenarios;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Values of few kinds and weights of whole shares, so that many are equal and sums meet a half exactly.
    #[test]
    fn the_median_is_that_of_the_band(
        courses in prop::collection::vec((0..4_u32, prop::collection::vec(0..6_u32, 5)), 1..31),
    ) {
        let whole: f64 = courses.iter().map(|(share, _)| f64::from(*share)).sum();
        prop_assume!(whole > 0.0);
        let scenarios = Scenarios {
            weights: courses.iter().map(|(share, _)| f64::from(*share) / whole).collect(),
            series_w: courses
                .iter()
                .map(|(_, values)| values.iter().map(|value| f64::from(*value)).collect())
                .collect(),
        };
        prop_assert_eq!(scenarios.median_w(), scenarios.band().median_w);
    }
}

#[test]
fn the_median_of_nothing_is_none() {
    assert_eq!(Scenarios::default().median_w(), [0.0; 0]);
    let one = Scenarios {
        weights: vec![1.0],
        series_w: vec![vec![7.0, 8.0]],
    };
    assert_eq!(one.median_w(), [7.0, 8.0]);
}
