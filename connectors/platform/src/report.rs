//! Log lines at a bounded rate. A failure that repeats a thousand times a second is logged once, then from time to time
//! with a count, and once more when it is over. Times are arguments or, in the short forms, the machine's.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// Shortest pause between two lines about the same thing.
pub const EVERY: Duration = Duration::from_secs(30);

/// Lets a line through at most once in [`EVERY`].
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Throttled>);

#[derive(Debug, Default)]
struct Throttled {
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Returns `Some` if a line may be written at `now`, with the number of lines held back since the last.
    pub fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = locked(&self.0);
        let is_early = |last: Instant| now.saturating_duration_since(last) < EVERY;
        if state.last.is_some_and(is_early) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }

    /// Calls [`Throttle::pass_at`] with the current time.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }
}

/// A line to log about an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The first failure after a success.
    Gone,
    /// The outage goes on.
    Still {
        /// Failures since the last line.
        failures: u64,
        /// How long the outage has lasted.
        since: Duration,
    },
    /// The first success after a failure.
    Back {
        /// Failures during the whole outage.
        failures: u64,
        /// How long the outage lasted.
        since: Duration,
    },
}

/// The state of a peer, which is available or away: Kafka, the store, an MQTT broker.
#[derive(Debug)]
pub struct Outage {
    /// Its name in log lines.
    peer: String,
    /// Whether `state` holds an outage, to be read without a lock.
    is_away: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the last line was written. A peer that comes and goes ten times a second gets two lines per [`EVERY`].
    said: Option<Instant>,
    away: Option<Away>,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    is_said: bool,
    failures: u64,
    unsaid: u64,
}

impl Outage {
    /// Starts with the peer available.
    #[must_use]
    pub fn of(peer: impl Into<String>) -> Self {
        Self {
            peer: peer.into(),
            is_away: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Returns whether the last report was a failure.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// Reports that something failed because the peer is away. Logs a line if one is due.
    pub fn failed(&self, detail: impl Display) {
        let peer = self.peer.as_str();
        match self.failed_at(Instant::now()) {
            Some(Line::Gone) => warn!(peer, %detail, "away"),
            Some(Line::Still { failures, since }) => {
                let away_s = since.as_secs();
                warn!(peer, %detail, away_s, failures, "still away");
            }
            Some(Line::Back { .. }) | None => {}
        }
    }

    /// Reports that something succeeded. Logs a line if the peer was away; otherwise costs next to nothing.
    pub fn succeeded(&self) {
        if !self.is_away() {
            return;
        }
        if let Some(Line::Back { failures, since }) = self.succeeded_at(Instant::now()) {
            let (peer, away_s) = (self.peer.as_str(), since.as_secs());
            info!(peer, away_s, failures, "back");
        }
    }

    /// Does what [`Outage::failed`] does, at `now`, and returns the line instead of logging it.
    pub fn failed_at(&self, now: Instant) -> Option<Line> {
        let mut state = locked(&self.state);
        let is_early = |said: Instant| now.saturating_duration_since(said) < EVERY;
        let is_early = state.said.is_some_and(is_early);
        let away = state.away.get_or_insert(Away {
            since: now,
            is_said: false,
            failures: 0,
            unsaid: 0,
        });
        self.is_away.store(true, Ordering::Relaxed);
        away.failures += 1;
        away.unsaid += 1;
        if is_early {
            return None;
        }
        let line = if std::mem::replace(&mut away.is_said, true) {
            Line::Still {
                failures: away.unsaid,
                since: now.saturating_duration_since(away.since),
            }
        } else {
            Line::Gone
        };
        away.unsaid = 0;
        state.said = Some(now);
        Some(line)
    }

    /// Does what [`Outage::succeeded`] does, at `now`, and returns the line instead of logging it. An outage that was
    /// never logged ends without a line.
    pub fn succeeded_at(&self, now: Instant) -> Option<Line> {
        let mut state = locked(&self.state);
        let away = state.away.take()?;
        self.is_away.store(false, Ordering::Relaxed);
        if !away.is_said {
            return None;
        }
        state.said = Some(now);
        Some(Line::Back {
            failures: away.failures,
            since: now.saturating_duration_since(away.since),
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Line, Outage, Throttle};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn twenty_seconds_away_are_two_lines() {
        let outage = Outage::of("Kafka");
        let start = Instant::now();
        let mut lines = Vec::new();
        for i in 0..638 {
            lines.extend(outage.failed_at(start + SECOND * 20 * i / 638));
        }
        assert!(outage.is_away());
        lines.extend(outage.succeeded_at(start + SECOND * 20));
        lines.extend(outage.succeeded_at(start + SECOND * 21));
        let back = Line::Back {
            failures: 638,
            since: SECOND * 20,
        };
        assert_eq!(lines, [Line::Gone, back]);
        assert!(!outage.is_away());
    }

    #[test]
    fn an_hour_away_says_so_twice_a_minute() {
        let outage = Outage::of("store");
        let start = Instant::now();
        let lines = (0..3_600).filter_map(|i| outage.failed_at(start + SECOND * i));
        let lines: Vec<Line> = lines.collect();
        assert_eq!(lines.len(), 120);
        let still = Line::Still {
            failures: 30,
            since: SECOND * 30,
        };
        assert_eq!((lines[0], lines[1]), (Line::Gone, still));
    }

    #[test]
    fn a_peer_that_comes_and_goes_says_so_now_and_then() {
        let outage = Outage::of("broker");
        let start = Instant::now();
        let mut lines = Vec::new();
        for i in 0..600 {
            let now = start + SECOND * i / 10;
            lines.extend(outage.failed_at(now));
            lines.extend(outage.succeeded_at(now));
        }
        // Within a minute the peer goes and comes back at the start and again after half a minute.
        assert_eq!(lines.len(), 4, "{lines:?}");
    }

    #[test]
    fn a_throttle_counts_what_it_holds_back() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let passed = (0..100).filter_map(|i| throttle.pass_at(start + SECOND * i));
        assert_eq!(passed.collect::<Vec<_>>(), [0, 29, 29, 29]);
    }
}
