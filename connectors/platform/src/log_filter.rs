//! The filter of this process's log lines, which may be changed while it runs. There is one, as there is one standard
//! error.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Puts a filter in force, or says what is wrong with it.
type Apply = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The filter in force and the configured one.
pub struct LogFilter {
    apply: Apply,
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
struct State {
    configured: String,
    current: String,
    /// Number of changes so far, so that one that is due to end ends only itself.
    changes: u64,
}

static INSTALLED: OnceLock<LogFilter> = OnceLock::new();

impl std::fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFilter")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl LogFilter {
    /// Makes the process's filter. `configured` is in force, and `apply` puts another in force or says what is wrong with
    /// it. The first one stays.
    pub fn install(
        configured: &str,
        apply: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) {
        // Whoever comes second logs through the first one's subscriber.
        let _ = INSTALLED.set(Self::new(configured, apply));
    }

    /// Returns the process's filter, if it has one.
    #[must_use]
    pub fn of_process() -> Option<&'static Self> {
        INSTALLED.get()
    }

    fn new(
        configured: &str,
        apply: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            apply: Box::new(apply),
            state: Mutex::new(State {
                configured: configured.to_owned(),
                current: configured.to_owned(),
                changes: 0,
            }),
        }
    }

    /// Returns the filter in force.
    #[must_use]
    pub fn current(&self) -> String {
        self.state().current.clone()
    }

    /// Returns the configured filter.
    #[must_use]
    pub fn configured(&self) -> String {
        self.state().configured.clone()
    }

    /// Puts `filter` in force. Returns the number of this change, or what is wrong with the filter.
    pub fn set(&self, filter: &str) -> Result<u64, String> {
        let mut state = self.state();
        (self.apply)(filter)?;
        filter.clone_into(&mut state.current);
        state.changes += 1;
        Ok(state.changes)
    }

    /// Puts the configured filter in force again, unless there was another change after that with this number.
    pub fn end(&self, change: u64) {
        let configured = {
            let state = self.state();
            (state.changes == change).then(|| state.configured.clone())
        };
        if let Some(configured) = configured {
            // It was in force before.
            let _ = self.set(&configured);
        }
    }

    /// Puts `configured` in force, as what the configuration says now.
    pub fn configure(&self, configured: &str) -> Result<(), String> {
        self.set(configured)?;
        configured.clone_into(&mut self.state().configured);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::LogFilter;

    #[test]
    fn a_change_ends_only_itself() {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&applied);
        let filter = LogFilter::new("info", move |text| {
            if text == "bad" {
                return Err("no filter".to_owned());
            }
            seen.lock().unwrap().push(text.to_owned());
            Ok(())
        });
        assert_eq!(filter.set("bad"), Err("no filter".to_owned()));
        assert_eq!(filter.current(), "info");
        let first = filter.set("debug").unwrap();
        let second = filter.set("trace").unwrap();
        filter.end(first);
        assert_eq!(filter.current(), "trace");
        filter.end(second);
        assert_eq!(filter.current(), "info");
        filter.configure("warn").unwrap();
        let third = filter.set("debug").unwrap();
        filter.end(third);
        assert_eq!(
            (filter.current(), filter.configured()),
            ("warn".to_owned(), "warn".to_owned())
        );
        let expected = ["debug", "trace", "info", "warn", "debug", "warn"];
        assert_eq!(*applied.lock().unwrap(), expected);
    }
}
