//! The clock of the shell. In a demo simulated time runs faster than real time; elsewhere this is the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Maps real time to Hearth's time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    origin_ms: i64,
    speed: f64,
}

impl Clock {
    /// The wall clock.
    #[must_use]
    pub fn wall() -> Self {
        Self::simulated(wall_ms(), 1.0)
    }

    /// A clock that shows `origin_ms` now and runs `speed` times as fast as the wall clock.
    #[must_use]
    pub fn simulated(origin_ms: i64, speed: f64) -> Self {
        assert!(
            speed > 0.0 && speed.is_finite(),
            "the speed of a clock is a positive number"
        );
        Self {
            origin: Instant::now(),
            origin_ms,
            speed,
        }
    }

    /// Now, UTC epoch milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        let elapsed_ms = self.origin.elapsed().as_secs_f64() * 1e3 * self.speed;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "milliseconds of an uptime fit"
        )]
        let elapsed_ms = elapsed_ms as i64;
        self.origin_ms + elapsed_ms
    }

    /// Real time until this clock shows `ts_ms`; zero where it has passed.
    #[must_use]
    pub fn until(&self, ts_ms: i64) -> Duration {
        self.real(ts_ms.saturating_sub(self.now_ms()))
    }

    /// How long `span_ms` of this clock takes in real time.
    #[must_use]
    pub fn real(&self, span_ms: i64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds")]
        let span_ms = span_ms.max(0) as f64;
        Duration::from_secs_f64(span_ms / 1e3 / self.speed)
    }

    /// How many times as fast as the wall clock it runs.
    #[must_use]
    pub const fn speed(&self) -> f64 {
        self.speed
    }
}

/// The machine's time, UTC epoch milliseconds.
#[must_use]
pub fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the machine's clock stands after 1970");
    i64::try_from(since.as_millis()).expect("milliseconds since 1970 fit 63 bits")
}
