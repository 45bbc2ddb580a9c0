//! Settings of the ingest.

use std::path::PathBuf;

use model::units::DAY_MS;
use platform::settings::Settings as _;
use schemas::mqtt::TimeWindow;

use super::outcome::IngestError;

/// Bytes in memory for one permit of the semaphore.
const PERMIT_BYTES: usize = 1_024;

platform::settings! {
    /// Settings of the ingest.
    pub struct IngestConfig {
        /// Folder of the spool; each process needs its own.
        spool_dir: PathBuf = PathBuf::from("hearth-data/spool"),
        /// Most bytes in the spool. While it is full, nothing is acknowledged.
        #[range(1..=1 << 44)]
        spool_bytes_max: u64 = 1 << 30,
        /// Bytes after which the spool starts a new file.
        #[range(1..=1 << 40)]
        spool_segment_bytes: u64 = 8 << 20,
        /// Greatest age of a reading, days. Not more than the store keeps (`readings_days`), or readings are acknowledged
        /// and expire at once. 0 accepts any age since 2000.
        #[range(0..=36_500)]
        past_days_max: u32 = 90,
        /// How far in the future a reading's time may lie, milliseconds.
        #[range(0..=86_400_000)]
        future_skew_ms: i64 = 300_000,
        /// Most bytes of payloads on their way into the log; further ones wait.
        #[range(1_024..=1 << 30)]
        in_flight_bytes_max: usize = 64 << 20,
        /// How long the log may take for one record before it counts as away, milliseconds. With Kafka it is always at
        /// least a second more than `log.kafka.delivery_timeout_ms`, since the record may still arrive until then.
        #[range(1..=600_000)]
        produce_timeout_ms: u64 = 5_000,
    }
}

impl IngestConfig {
    /// Returns the range of times of readings and answers that are accepted at `now_ms`.
    #[must_use]
    pub fn times(&self, now_ms: i64) -> TimeWindow {
        TimeWindow::around(now_ms, self.age_ms_max(), self.future_skew_ms)
    }

    pub(super) fn age_ms_max(&self) -> i64 {
        match self.past_days_max {
            0 => i64::MAX,
            days => i64::from(days) * DAY_MS,
        }
    }

    /// Returns the number of permits of the semaphore; fails if a setting is not allowed.
    pub(super) fn permits(&self) -> Result<u32, IngestError> {
        self.checked("ingest")?;
        let permits = u32::try_from(self.in_flight_bytes_max / PERMIT_BYTES);
        Ok(permits.expect("the range of in_flight_bytes_max is that of the permits"))
    }
}

/// Returns the number of permits for a payload of this length.
pub(super) fn permits_of(payload_bytes: usize) -> u32 {
    u32::try_from(1 + payload_bytes / PERMIT_BYTES).unwrap_or(u32::MAX)
}
