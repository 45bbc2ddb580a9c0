//! What takes a test's time.

use std::fmt;
use std::time::{Duration, Instant};

/// The phases of a test, one after the other, and the seconds of each.
#[derive(Debug)]
pub struct Phases {
    begun: Instant,
    ended: Vec<(&'static str, Duration)>,
}

impl Phases {
    /// The first phase begins.
    #[must_use]
    pub fn start() -> Self {
        Self {
            begun: Instant::now(),
            ended: Vec::new(),
        }
    }

    /// A phase is over, and the next begins.
    pub fn end(&mut self, name: &'static str) {
        self.ended.push((name, self.begun.elapsed()));
        self.begun = Instant::now();
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds:")?;
        for (name, took) in &self.ended {
            write!(f, " {name} {:.1}", took.as_secs_f64())?;
        }
        Ok(())
    }
}
