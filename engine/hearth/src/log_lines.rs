//! Bounds the log lines of libraries. While a peer is away, they warn at each attempt to reach it, and what they say is
//! in a line of ours as well.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use platform::report::Throttle;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Libraries that talk to peers or to the disk.
const LIBRARIES: [&str; 4] = ["rumqttc", "scylla", "fjall", "lsm_tree"];

/// Lets each warning of a library through from time to time: each place in its code has a [`Throttle`]. Lines of lower
/// levels pass, since somebody has asked for them.
#[derive(Debug, Default)]
pub(crate) struct Libraries(Mutex<HashMap<Identifier, Throttle>>);

impl Libraries {
    fn passes_at(&self, line: &Metadata<'_>, now: Instant) -> bool {
        let library = line.target().split("::").next();
        let is_bounded = library.is_some_and(|name| LIBRARIES.contains(&name));
        if !is_bounded || *line.level() > Level::WARN {
            return true;
        }
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(line.callsite()).or_default();
        place.pass_at(now).is_some()
    }
}

impl<S: Subscriber> Layer<S> for Libraries {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        self.passes_at(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, warn};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::Libraries;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no holder panics").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(write: impl Fn()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
            .with(Libraries::default());
        tracing::subscriber::with_default(subscriber, write);
        let text = lines.0.lock().expect("no holder panics").clone();
        let text = String::from_utf8(text).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_library_says_the_same_once_while_a_peer_is_away() {
        let lines = written(|| {
            for attempt in 0..600 {
                warn!(target: "scylla::cluster", attempt, "no connection");
                error!(target: "scylla::cluster", attempt, "no metadata");
                warn!(target: "rumqttc::v5", attempt, "refused");
            }
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.contains("attempt=0")),
            "{lines:?}"
        );
    }

    #[test]
    fn our_own_lines_and_those_for_a_search_all_pass() {
        let lines = written(|| {
            for _ in 0..10 {
                warn!(target: "platform::report", "away");
                warn!(target: "scyllabus", "another");
                debug!(target: "scylla::cluster", "asked for");
            }
        });
        assert_eq!(lines.len(), 30);
    }
}
