//! Detects jumps of the machine's clock, for example when it is corrected after a start without network, or when a
//! machine was suspended. Readers of the clock cope with a jump; this tells the operator about it.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::clock::wall_ms;
use crate::metrics::Metrics;

/// Smallest jump that is reported, ms. The small corrections of a synchronised clock stay far below it.
const JUMP_MS_MIN: i64 = 2_000;
/// Pause between two comparisons of both clocks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Compares the wall clock with a clock that cannot be set. Pure.
#[derive(Debug, Clone, Copy)]
pub struct JumpWatch {
    wall_ms: i64,
    passed_ms: i64,
}

impl JumpWatch {
    /// Starts when the wall clock shows `wall_ms` and the clock that cannot be set shows `passed_ms`.
    #[must_use]
    pub const fn new(wall_ms: i64, passed_ms: i64) -> Self {
        Self { wall_ms, passed_ms }
    }

    /// Compares again. Returns how far the wall clock has jumped since, ms; negative if it went back.
    pub fn look(&mut self, wall_ms: i64, passed_ms: i64) -> Option<i64> {
        let jump_ms = (wall_ms - self.wall_ms) - (passed_ms - self.passed_ms);
        (self.wall_ms, self.passed_ms) = (wall_ms, passed_ms);
        (jump_ms.abs() >= JUMP_MS_MIN).then_some(jump_ms)
    }
}

/// Counts and logs jumps of the machine's clock. Never ends.
pub async fn watch_jumps(metrics: Metrics) {
    let origin = Instant::now();
    let passed_ms = || i64::try_from(origin.elapsed().as_millis()).unwrap_or(i64::MAX);
    let mut watch = JumpWatch::new(wall_ms(), passed_ms());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(jump_ms) = watch.look(wall_ms(), passed_ms()) {
            let direction = if jump_ms > 0 { "forward" } else { "back" };
            let jumps = &metrics.clock_jumps_total;
            jumps.with_label_values(&[direction]).inc();
            warn!(jump_ms, "the machine's clock has jumped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::JumpWatch;

    #[test]
    fn a_jump_either_way_is_noticed_once() {
        let mut watch = JumpWatch::new(1_000_000, 0);
        assert_eq!(watch.look(1_001_000, 1_000), None);
        assert_eq!(watch.look(1_001_900, 2_000), None, "a small step");
        // Set right by an hour, and back again.
        assert_eq!(watch.look(4_602_900, 3_000), Some(3_600_000));
        assert_eq!(watch.look(4_603_900, 4_000), None);
        assert_eq!(watch.look(1_004_900, 5_000), Some(-3_600_000));
        assert_eq!(watch.look(1_005_900, 6_000), None);
    }
}
