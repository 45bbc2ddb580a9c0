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

    /// Returns of each slot the power below which half of the probability lies, W; the median of [`Self::band`].
    #[must_use]
    pub fn median_w(&self) -> Vec<f64> {
        let slots_count = self.series_w.first().map_or(0, Vec::len);
        let whole = self.weights.len().next_multiple_of(LANES);
        let mut weights = self.weights.clone();
        weights.resize(whole, 0.0);
        let mut values = vec![f64::INFINITY; whole];
        let medians_w = (0..slots_count).map(|slot_index| {
            for (value, series_w) in values.iter_mut().zip(&self.series_w) {
                *value = series_w[slot_index];
            }
            median(&values, &weights)
        });
        medians_w.collect()
    }

    /// Returns the figures of each slot. Sorting them takes longer than all else of a forecast.
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

/// Weights are added up in so many sums at a time.
const LANES: usize = 4;

/// Returns what [`quantile`] does of a half: the smallest value up to which the weights reach it. There are as many values
/// as weights, a multiple of [`LANES`].
fn median(values: &[f64], weights: &[f64]) -> f64 {
    // Values up to `low` do not reach a half, `high` does.
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    for value in values {
        if *value <= low || *value >= high {
            continue;
        }
        if reaches(weight_up_to(*value, values, weights), 0.5) {
            high = *value;
        } else {
            low = *value;
        }
    }
    if high < f64::INFINITY { high } else { low }
}

fn weight_up_to(most: f64, values: &[f64], weights: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for (values, weights) in values.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
        for ((sum, value), weight) in sums.iter_mut().zip(values).zip(weights) {
            *sum += if *value <= most { *weight } else { 0.0 };
        }
    }
    sums.iter().sum()
}

/// Whether weights reach a share. A sum of tenths is not exactly a half.
fn reaches(sum: f64, share: f64) -> bool {
    sum >= share - 1e-9
}

/// Returns the smallest value up to which the weights reach `share`. The values are sorted, the weights sum to 1.
pub(crate) fn quantile(sorted: &[(f64, f64)], share: f64) -> f64 {
    let mut sum = 0.0;
    for (value, weight) in sorted {
        sum += weight;
        if reaches(sum, share) {
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
