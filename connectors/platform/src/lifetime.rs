//! Whether a task or thread still runs, for whoever must not go on without it: a part of a process that ends, however it
//! ends, ends the process.

use futures::future::select_all;
use tokio::sync::watch;

/// Held by what runs. When it is dropped, by a return or by a panic, everybody learns so.
#[derive(Debug)]
pub struct Alive(#[expect(dead_code, reason = "its end is what it says")] watch::Sender<()>);

/// The end of one or more of them.
#[derive(Debug, Clone, Default)]
pub struct Ended(Vec<watch::Receiver<()>>);

impl Alive {
    /// Something that runs, and how its end is seen.
    #[must_use]
    pub fn new() -> (Self, Ended) {
        let (alive, ended) = watch::channel(());
        (Self(alive), Ended(vec![ended]))
    }
}

impl Ended {
    /// The end of whichever ends first, of these and `others`.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether it has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.iter().any(|alive| alive.has_changed().is_err())
    }

    /// Resolves when it has come; never for nothing.
    pub async fn wait(self) {
        if self.0.is_empty() {
            std::future::pending::<()>().await;
        }
        let each = self.0.into_iter().map(|mut alive| {
            Box::pin(async move {
                // Nothing is ever sent.
                while alive.changed().await.is_ok() {}
            })
        });
        select_all(each).await;
    }
}

/// Says whether a role can do its work now, or why not. A probe may call it at any time.
pub struct Readiness(Box<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Readiness {
    /// Asks `check` each time.
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Box::new(check))
    }

    /// `Ok`, or for people why not.
    pub fn check(&self) -> Result<(), String> {
        (self.0)()
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Readiness").field(&self.check()).finish()
    }
}

/// Resolves when a part is told to stop, or whoever would tell it is gone.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A part that was dropped has stopped too.
    let _ = stop.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests {
    use super::{Alive, Ended};

    #[tokio::test]
    async fn a_panic_is_an_end_and_the_first_end_counts() {
        let (alive, first) = Alive::new();
        let (_still, second) = Alive::new();
        let both = second.clone().or(first);
        assert!(!both.is_over());
        let task = tokio::spawn(async move {
            let _alive = alive;
            panic!("as told by the test");
        });
        both.clone().wait().await;
        assert!(both.is_over() && !second.is_over() && !Ended::default().is_over());
        assert!(task.await.is_err());
    }
}
