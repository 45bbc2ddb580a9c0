//! How far a home's forecasts were from what came.

use forecast::scenarios::Band;
use serde::Serialize;

/// Sums of errors.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    count: f64,
    came_w: f64,
    squares: f64,
    pinball_w: [f64; 3],
    within: f64,
}

/// Errors of a power's forecasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ErrorFigures {
    /// Root of the mean square error of the mean, over the mean power.
    pub nrmse: f64,
    /// Mean pinball loss at 10, 50 and 90 %, over the mean power.
    pub pinball: [f64; 3],
    /// Share of what came that lay between 10 and 90 %.
    pub coverage: f64,
}

/// The quantiles of a [`Band`].
const QUANTILES: [f64; 3] = [0.1, 0.5, 0.9];

impl Errors {
    /// Adds a forecast and what came, W; NaN where that is not known.
    pub fn add(&mut self, band: &Band, came_w: impl Iterator<Item = f64>) {
        for (index, came_w) in came_w.enumerate() {
            if came_w.is_nan() {
                continue;
            }
            self.count += 1.0;
            self.came_w += came_w;
            self.squares += (band.mean_w[index] - came_w).powi(2);
            let told_w = [band.low_w[index], band.median_w[index], band.high_w[index]];
            for ((sum, told_w), share) in self.pinball_w.iter_mut().zip(told_w).zip(QUANTILES) {
                let above_w = came_w - told_w;
                *sum += (share * above_w).max((share - 1.0) * above_w);
            }
            // Forecasts are whole steps of a few watts.
            if (told_w[0] - 1.0..=told_w[2] + 1.0).contains(&came_w) {
                self.within += 1.0;
            }
        }
    }

    /// Returns the figures; zeros without a forecast.
    #[must_use]
    pub fn figures(&self) -> ErrorFigures {
        if self.count <= 0.0 || self.came_w <= 0.0 {
            return ErrorFigures::default();
        }
        let mean_w = self.came_w / self.count;
        ErrorFigures {
            nrmse: (self.squares / self.count).sqrt() / mean_w,
            pinball: self.pinball_w.map(|sum_w| sum_w / self.count / mean_w),
            coverage: self.within / self.count,
        }
    }
}
