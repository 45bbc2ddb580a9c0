//! The clock of the shell. In a demo simulated time runs faster than real time; elsewhere this is the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Maps real time to Hearth's time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The machine's, read each time: it may be set right while the process runs.
    Wall,
    Simulated {
        origin: Instant,
        origin_ms: i64,
        speed: f64,
    },
    Asked(fn() -> i64),
}

impl Clock {
    /// The wall clock.
    #[must_use]
    pub const fn wall() -> Self {
        Self { kind: Kind::Wall }
    }

    /// A clock that shows `origin_ms` now and runs `speed` times as fast as the wall clock.
    #[must_use]
    pub fn simulated(origin_ms: i64, speed: f64) -> Self {
        assert!(
            speed > 0.0 && speed.is_finite(),
            "the speed of a clock is a positive number"
        );
        let origin = Instant::now();
        Self {
            kind: Kind::Simulated {
                origin,
                origin_ms,
                speed,
            },
        }
    }

    /// A clock that shows what `now_ms` returns, for simulations in virtual time.
    #[must_use]
    pub const fn asked(now_ms: fn() -> i64) -> Self {
        Self {
            kind: Kind::Asked(now_ms),
        }
    }

    /// Now, UTC epoch milliseconds. A wall clock may go back.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self.kind {
            Kind::Wall => wall_ms(),
            Kind::Asked(now_ms) => now_ms(),
            Kind::Simulated {
                origin,
                origin_ms,
                speed,
            } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "milliseconds of an uptime fit"
                )]
                let elapsed_ms = (origin.elapsed().as_secs_f64() * 1e3 * speed) as i64;
                origin_ms + elapsed_ms
            }
        }
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
        Duration::from_secs_f64(span_ms / 1e3 / self.speed())
    }

    /// How many times as fast as the wall clock it runs.
    #[must_use]
    pub const fn speed(&self) -> f64 {
        match self.kind {
            Kind::Wall | Kind::Asked(_) => 1.0,
            Kind::Simulated { speed, .. } => speed,
        }
    }
}

/// The machine's time, UTC epoch milliseconds; negative before 1970.
#[must_use]
pub fn wall_ms() -> i64 {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => ms(since),
        Err(before) => -ms(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, wall_ms};

    #[test]
    fn the_wall_clock_is_read_each_time() {
        let (before, now, after) = (wall_ms(), Clock::wall().now_ms(), wall_ms());
        assert!(before <= now && now <= after);
    }
}
