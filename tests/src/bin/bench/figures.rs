//! What a run over the readings measured, of whoever read them.

use std::fmt;
use std::time::Duration;

/// What one run measured.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) records_per_s: f64,
    pub(crate) cpu_s_per_million: f64,
    /// None where the process does other work too.
    pub(crate) peak_mb: Option<f64>,
}

impl Figures {
    pub(crate) fn new(count: u32, time: Duration, cpu_s: f64, peak_mb: Option<f64>) -> Self {
        Self {
            records_per_s: f64::from(count) / time.as_secs_f64(),
            cpu_s_per_million: cpu_s * 1e6 / f64::from(count),
            peak_mb,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, cpu_s) = (self.records_per_s, self.cpu_s_per_million);
        write!(
            f,
            "{rate:.0} records/s, {cpu_s:.2} s of processor time a million"
        )
    }
}
