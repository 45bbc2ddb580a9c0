//! What the bench says to people while it measures.

use std::time::{Duration, Instant};

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Reports the progress of long work every few seconds.
#[derive(Debug)]
pub(crate) struct Progress(Instant);

impl Progress {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn say(&mut self, text: impl FnOnce() -> String) {
        if self.0.elapsed() > Duration::from_secs(10) {
            *self = Self::start();
            say(&format!("  {}", text()));
        }
    }
}
