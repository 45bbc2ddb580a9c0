//! Where a record comes from: what a layout gives, before a tariff is chosen and days are.

use model::metadata::BatterySpec;
use model::problem::Grid;
use model::units::SlotLength;

use crate::recorded::PricesKnown;

/// A home as it was recorded.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Key of the place; empty if it is not known.
    pub location: String,
    /// Start of the first step, UTC epoch milliseconds.
    pub start_ms: i64,
    /// Length of a step.
    pub step: SlotLength,
    /// Mean load of each step, W; NaN where it was not recorded.
    pub load_w: Vec<f64>,
    /// Mean PV power of each step, W; NaN where it was not recorded.
    pub pv_w: Vec<f64>,
    /// Prices of import and export that were recorded with it, currency per kWh.
    pub prices: Option<(Vec<f64>, Vec<f64>)>,
    /// How far ahead these are known.
    pub prices_known: PricesKnown,
    /// Peak power of the PV plant, kW.
    pub pv_capacity_kw: f64,
    /// The battery that is supposed to stand there.
    pub battery: BatterySpec,
    /// The meter's limits.
    pub grid: Grid,
    /// Whether PV may be curtailed.
    pub pv_curtailable: bool,
    /// Who made the record and under which licence, for the report.
    pub attribution: &'static str,
}

/// A battery of a common home, for records without one: 10 kWh, 5 kW, 95 % each way.
#[must_use]
pub const fn common_battery() -> BatterySpec {
    BatterySpec {
        capacity_kwh: 10.0,
        min_soc_kwh: 0.0,
        max_soc_kwh: 10.0,
        charge_kw: 5.0,
        discharge_kw: 5.0,
        charge_efficiency: 0.95,
        discharge_efficiency: 0.95,
        wear_cost_per_kwh: 0.0,
    }
}

/// Returns the highest of the values, in kW; 0 if there is none.
#[must_use]
pub fn most_kw(watts: &[f64]) -> f64 {
    watts.iter().fold(0.0, |most: f64, watts| most.max(*watts)) / 1e3
}

/// Rows with a time and values, put into equal steps.
#[derive(Debug, Default)]
pub struct Rows<const N: usize> {
    rows: Vec<(i64, [f64; N])>,
}

/// Equal steps with N values each.
#[derive(Debug)]
pub struct Steps<const N: usize> {
    /// Start of the first, UTC epoch milliseconds.
    pub start_ms: i64,
    /// Length.
    pub step: SlotLength,
    /// The series; NaN where there was no row.
    pub series: [Vec<f64>; N],
}

impl<const N: usize> Rows<N> {
    /// Adds a row.
    pub fn push(&mut self, ts_ms: i64, values: [f64; N]) {
        self.rows.push((ts_ms, values));
    }

    /// Puts the rows into steps. The step is the shortest distance of two rows. Of two rows at one time the first counts.
    /// Returns what is wrong.
    ///
    /// # Errors
    /// If there are less than two rows, or the step is none of 1, 5, 15, 30 and 60 minutes.
    pub fn into_steps(mut self) -> Result<Steps<N>, String> {
        self.rows.sort_by_key(|(ts_ms, _)| *ts_ms);
        self.rows.dedup_by_key(|(ts_ms, _)| *ts_ms);
        let distances = self.rows.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let step_ms = distances.min().ok_or("there are less than two rows")?;
        let minutes = u32::try_from(step_ms / model::units::MINUTE_MS).ok();
        let step = minutes.and_then(SlotLength::new).ok_or_else(|| {
            format!("the step is {step_ms} ms, expected 1, 5, 15, 30 or 60 minutes")
        })?;
        let start_ms = step.start_of_ms(self.rows[0].0);
        let last_ms = self.rows[self.rows.len() - 1].0;
        let count = usize::try_from((last_ms - start_ms) / step.ms() + 1).unwrap_or(0);
        let mut series = std::array::from_fn(|_| vec![f64::NAN; count]);
        for (ts_ms, values) in &self.rows {
            let index = usize::try_from((ts_ms - start_ms) / step.ms()).unwrap_or(0);
            for (series, value) in series.iter_mut().zip(values) {
                series[index] = *value;
            }
        }
        Ok(Steps {
            start_ms,
            step,
            series,
        })
    }
}
