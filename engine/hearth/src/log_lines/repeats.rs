//! Bounds lines that repeat. While a peer is away or a device misbehaves, a place in the code may warn thousands of times a
//! second. Each place writes a few such lines, then one from time to time with the number of those held back.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Libraries that warn at each attempt to reach a peer or the disk, which is in a line of ours as well.
const LIBRARIES: [&str; 5] = ["rumqttc", "scylla", "fjall", "lsm_tree", "rdkafka"];
/// Lines of one place that pass in one span of time, of ours and of libraries.
const OURS_MAX: u64 = 20;
const LIBRARIES_MAX: u64 = 1;
const SPAN: Duration = Duration::from_secs(30);
/// Places that are told apart. Code has far fewer that warn.
const PLACES_MAX: usize = 4_096;
/// Target of lines that come from the crate `log`, and the fields that say where they really come from.
const BRIDGED: &str = "log";

thread_local! {
    /// Lines held back before the one that is being written.
    static HELD_BACK: Cell<u64> = const { Cell::new(0) };
}

/// Returns how many lines like the one that is being written were held back before it.
pub(super) fn held_back() -> u64 {
    HELD_BACK.take()
}

/// What the places have written.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<PlaceKey, Written>>);

/// A place in the code that writes lines.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum PlaceKey {
    Callsite(Identifier),
    /// Of the crate `log`: target and line.
    Bridged(String, u64),
}

#[derive(Debug)]
struct Written {
    name: String,
    since: Instant,
    passed: u64,
    held_back: u64,
}

impl Repeats {
    /// Returns the layer that asks for each line.
    pub(super) const fn layer(self: Arc<Self>) -> RepeatsLayer {
        RepeatsLayer(self)
    }

    /// Returns how many were held back since the last, if a line may be written at `now`.
    fn pass(
        &self,
        key: PlaceKey,
        name: impl FnOnce() -> String,
        max: u64,
        now: Instant,
    ) -> Option<u64> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_MAX && !places.contains_key(&key) {
            return Some(0);
        }
        let written = places.entry(key).or_insert_with(|| Written {
            name: name(),
            since: now,
            passed: 0,
            held_back: 0,
        });
        if now.saturating_duration_since(written.since) >= SPAN {
            (written.since, written.passed) = (now, 0);
        }
        if written.passed >= max {
            written.held_back += 1;
            return None;
        }
        written.passed += 1;
        Some(std::mem::take(&mut written.held_back))
    }

    /// Takes the places that have held lines back and were silent since; each with the number of lines.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(String, u64)> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |written: &&mut Written| {
            written.held_back > 0 && now.saturating_duration_since(written.since) >= SPAN
        };
        let over = places.values_mut().filter(is_over);
        let mut over: Vec<(String, u64)> = over
            .map(|written| (written.name.clone(), std::mem::take(&mut written.held_back)))
            .collect();
        over.sort_unstable();
        over
    }
}

/// Asks for each line whether it may be written.
#[derive(Debug)]
pub(super) struct RepeatsLayer(Arc<Repeats>);

impl RepeatsLayer {
    fn passes_at(&self, event: &Event<'_>, now: Instant) -> bool {
        let line = event.metadata();
        // Lines of lower levels pass, since somebody has asked for them.
        if *line.level() > Level::WARN {
            return true;
        }
        let (key, target) = if line.target() == BRIDGED {
            let mut origin = Origin::default();
            event.record(&mut origin);
            (
                PlaceKey::Bridged(origin.target.clone(), origin.line),
                origin.target,
            )
        } else {
            (
                PlaceKey::Callsite(line.callsite()),
                line.target().to_owned(),
            )
        };
        let library = target.split("::").next();
        let is_library = library.is_some_and(|name| LIBRARIES.contains(&name));
        let max = if is_library { LIBRARIES_MAX } else { OURS_MAX };
        let name = || match line.line() {
            Some(number) if line.target() != BRIDGED => format!("{target}:{number}"),
            Some(_) | None => target.clone(),
        };
        let held_back = self.0.pass(key, name, max, now);
        HELD_BACK.set(held_back.unwrap_or(0));
        held_back.is_some()
    }
}

impl<S: Subscriber> Layer<S> for RepeatsLayer {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        self.passes_at(event, Instant::now())
    }
}

/// Where a line of the crate `log` comes from.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) target: String,
    pub(super) line: u64,
}

impl Visit for Origin {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            value.clone_into(&mut self.target);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.line = value;
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
#[path = "repeats_tests.rs"]
mod tests;
