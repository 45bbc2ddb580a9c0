//! Settings of the ingest.

use std::path::PathBuf;

use model::units::DAY_MS;
use serde::{Deserialize, Serialize};

use super::outcome::IngestError;

/// One permit of the semaphore stands for so many bytes in memory.
const PERMIT_BYTES: usize = 1_024;

/// Settings of the ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Folder of the spool; each process needs its own.
    pub spool_dir: PathBuf,
    /// Most bytes in the spool; when it is full nothing is acknowledged.
    pub spool_bytes_max: u64,
    /// Bytes after which the spool begins a new file.
    pub spool_segment_bytes: u64,
    /// How old a reading may be, days: no older than what the store keeps (`readings_days`), or it is acknowledged and
    /// gone. 0 takes any age since 2000.
    pub past_days_max: u32,
    /// How far in the future a reading's time may lie, milliseconds.
    pub future_skew_ms: i64,
    /// Most bytes of payloads that are on their way into the log; more wait.
    pub in_flight_bytes_max: usize,
    /// How long the log may take for one record before it counts as away, milliseconds. With Kafka at least a second
    /// more than `kafka.delivery_timeout_ms`, whatever is set here: until then the record may still arrive.
    pub produce_timeout_ms: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            spool_dir: PathBuf::from("hearth-data/spool"),
            spool_bytes_max: 1 << 30,
            spool_segment_bytes: 8 << 20,
            past_days_max: 90,
            future_skew_ms: 300_000,
            in_flight_bytes_max: 64 << 20,
            produce_timeout_ms: 5_000,
        }
    }
}

impl IngestConfig {
    pub(super) fn age_ms_max(&self) -> i64 {
        match self.past_days_max {
            0 => i64::MAX,
            days => i64::from(days) * DAY_MS,
        }
    }

    /// Permits of the semaphore, where the settings are sound.
    pub(super) fn permits(&self) -> Result<u32, IngestError> {
        let wrong = |key, expected| Err(IngestError::Config { key, expected });
        if self.spool_bytes_max == 0 {
            return wrong("spool_bytes_max", "more than 0");
        }
        if self.spool_segment_bytes == 0 {
            return wrong("spool_segment_bytes", "more than 0");
        }
        if self.future_skew_ms < 0 {
            return wrong("future_skew_ms", "0 or more");
        }
        if self.produce_timeout_ms == 0 {
            return wrong("produce_timeout_ms", "more than 0");
        }
        match u32::try_from(self.in_flight_bytes_max / PERMIT_BYTES) {
            Ok(permits @ 1..=1_048_576) => Ok(permits),
            Ok(_) | Err(_) => wrong("in_flight_bytes_max", "1024 to 1073741824"),
        }
    }
}

/// Permits that a payload of this length takes.
pub(super) fn permits_of(payload_bytes: usize) -> u32 {
    u32::try_from(1 + payload_bytes / PERMIT_BYTES).unwrap_or(u32::MAX)
}
