use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};
use tracing_subscriber::layer::SubscriberExt as _;

use super::{OURS_MAX, PlaceKey, Repeats, SPAN};
use crate::log_lines::text::TextLine;

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
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .event_format(TextLine::default());
    let subscriber = tracing_subscriber::registry()
        .with(Arc::new(Repeats::default()).layer())
        .with(layer);
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
fn libraries_that_log_in_another_way_are_told_apart() {
    let lines = written(|| {
        for attempt in 0..600 {
            let line = 10 + attempt % 2_u64;
            let target = "rumqttc::state";
            warn!(target: "log", { log.target = target, log.line = line }, "refused {attempt}");
            let target = "fjall";
            warn!(target: "log", { log.target = target, log.line = line }, "full {attempt}");
        }
    });
    // Two places of each.
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[test]
fn each_place_of_ours_says_a_few_and_lines_for_a_search_all_pass() {
    let lines = written(|| {
        for _ in 0..600 {
            warn!(target: "host::dead_letter", "dead letter");
            error!(target: "scyllabus", "another");
            debug!(target: "scylla::cluster", "asked for");
        }
    });
    let of = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    let found = (of("dead letter"), of("another"), of("asked for"));
    assert_eq!(found, (20, 20, 600));
}

#[test]
fn what_was_held_back_is_told_with_the_next_line_or_by_itself() {
    let repeats = Repeats::default();
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let key = || PlaceKey::Bridged("here".to_owned(), 7);
    let pass = |now| repeats.pass(key(), || "here:7".to_owned(), OURS_MAX, now);
    let passed = (0..100).filter_map(|i| pass(start + second * i / 10));
    assert_eq!(passed.collect::<Vec<_>>(), [0; 20]);
    // A line of the next span of time tells.
    assert_eq!(pass(start + SPAN), Some(80));
    let held = (0..100).filter_map(|_| pass(start + SPAN + second));
    assert_eq!(held.count(), 19);
    assert_eq!(repeats.overdue(start + SPAN + second), []);
    // If there is none, the sweep does, once.
    let expected = [("here:7".to_owned(), 81)];
    assert_eq!(repeats.overdue(start + SPAN * 2), expected);
    assert_eq!(repeats.overdue(start + SPAN * 3), []);
}
