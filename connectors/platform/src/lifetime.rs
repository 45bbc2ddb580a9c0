//! Tells whether a task or thread still runs. When one ends by itself, by a return or a panic, the process ends too.

use futures::future::select_all;
use tokio::sync::watch;

/// A token that a task or thread holds. Dropping it, by a return or a panic, tells everybody who has its [`Ended`].
#[derive(Debug)]
pub struct Alive(#[expect(dead_code, reason = "its end is what it says")] watch::Sender<()>);

/// The end of one or more tasks or threads.
#[derive(Debug, Clone, Default)]
pub struct Ended(Vec<watch::Receiver<()>>);

impl Alive {
    /// Returns a token for a task or thread, and the handle that sees its end.
    #[must_use]
    pub fn new() -> (Self, Ended) {
        let (alive, ended) = watch::channel(());
        (Self(alive), Ended(vec![ended]))
    }
}

impl Ended {
    /// Returns the end of whichever of these and `others` ends first.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Returns whether one of them has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.iter().any(|alive| alive.has_changed().is_err())
    }

    /// Resolves when one of them has ended. Never resolves if there are none.
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

/// A check that says whether a role can do its work now, or why not. A probe may call it at any time.
pub struct Readiness(Box<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Readiness {
    /// Makes a readiness that calls `check` each time.
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Box::new(check))
    }

    /// Returns `Ok` if the role is ready, else the reason, for people.
    pub fn check(&self) -> Result<(), String> {
        (self.0)()
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Readiness").field(&self.check()).finish()
    }
}

/// Resolves when `stop` becomes true or its sender is dropped.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that was dropped means stop as well.
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
