//! Weighted courses of a power over a horizon, and figures of them.

/// Courses of one power. All have the same length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scenarios {
    /// Probability of each; they sum to 1.
    pub weights: Vec<f64>,
    /// Mean power in each slot, W, 0 or more.
    pub series_w: Vec<Vec<f64>>,
}

/// Figures of the scenarios in each slot, W.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Mean.
    pub mean_w: Vec<f64>,
    /// A tenth of the probability lies below.
    pub low_w: Vec<f64>,
    /// Half of the probability lies below.
    pub median_w: Vec<f64>,
    /// A tenth of the probability lies above.
    pub high_w: Vec<f64>,
}

impl Scenarios {
    /// Scales the weights so that they sum to 1. If all are 0, they become equal.
    pub(crate) fn normalise(&mut self) {
        normalise(&mut self.weights);
    }

    /// Returns the figures of each slot.
    #[must_use]
    pub fn band(&self) -> Band {
        let slots_count = self.series_w.first().map_or(0, Vec::len);
        let mut band = Band {
            mean_w: Vec::with_capacity(slots_count),
            low_w: Vec::with_capacity(slots_count),
            median_w: Vec::with_capacity(slots_count),
            high_w: Vec::with_capacity(slots_count),
        };
        let mut sorted = Vec::with_capacity(self.weights.len());
        for slot_index in 0..slots_count {
            sorted.clear();
            let values = self.series_w.iter().map(|series_w| series_w[slot_index]);
            sorted.extend(values.zip(self.weights.iter().copied()));
            band.mean_w.push(mean(&sorted));
            sort(&mut sorted);
            band.low_w.push(quantile(&sorted, 0.1));
            band.median_w.push(quantile(&sorted, 0.5));
            band.high_w.push(quantile(&sorted, 0.9));
        }
        band
    }
}

/// Scales weights so that they sum to 1. If all are 0, they become equal.
#[expect(clippy::cast_precision_loss, reason = "scenarios are few")]
pub(crate) fn normalise(weights: &mut [f64]) {
    let sum: f64 = weights.iter().sum();
    let count = weights.len() as f64;
    for weight in weights {
        *weight = if sum > 0.0 {
            *weight / sum
        } else {
            1.0 / count
        };
    }
}

/// Sorts values with their weights by value.
pub(crate) fn sort(weighted: &mut [(f64, f64)]) {
    weighted
        .sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
}

fn mean(weighted: &[(f64, f64)]) -> f64 {
    weighted.iter().map(|(value, weight)| value * weight).sum()
}

/// Returns the smallest value up to which the weights reach `share`. The values are sorted, the weights sum to 1.
pub(crate) fn quantile(sorted: &[(f64, f64)], share: f64) -> f64 {
    let mut sum = 0.0;
    for (value, weight) in sorted {
        sum += weight;
        // A sum of tenths is not exactly a half.
        if sum >= share - 1e-9 {
            return *value;
        }
    }
    sorted.last().map_or(0.0, |last| last.0)
}

/// Returns the continuous ranked probability score of weighted values for what came, in their unit: twice the pinball
/// loss averaged over all quantiles (Gneiting and Raftery 2007). For a single value it is the absolute error. The values
/// are sorted, the weights sum to 1.
pub(crate) fn ranked_score(sorted: &[(f64, f64)], came: f64) -> f64 {
    let (mut below, mut score) = (0.0, 0.0);
    for (value, weight) in sorted {
        let is_above = if *value > came { 1.0 } else { 0.0 };
        score += weight * (value - came) * (is_above - below - weight / 2.0);
        below += weight;
    }
    2.0 * score
}
