//! The fence between two owners of a partition.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

const OPEN: u8 = 0;
const LEAVING: u8 = 1;
const RAISED: u8 = 2;

/// Raised when the partition is no longer ours: whoever works behind it gives up.
#[derive(Debug, Clone)]
pub struct Fence {
    state: Arc<AtomicU8>,
    /// Why it was raised from within.
    reason: Arc<OnceLock<String>>,
}

/// The fence was raised before the work was durable. The next owner of the partition does it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("another owner has the partition")]
pub struct Fenced;

impl Fence {
    /// A fence that is not raised yet.
    #[must_use]
    pub fn open() -> Self {
        Self {
            state: Arc::new(AtomicU8::new(OPEN)),
            reason: Arc::default(),
        }
    }

    /// The partition is about to go: what is under way is finished, and nothing more is begun.
    pub fn begin_leave(&self) {
        self.state.fetch_max(LEAVING, Ordering::AcqRel);
    }

    /// Stops the work behind it, for good.
    pub fn raise(&self) {
        self.state.store(RAISED, Ordering::Release);
    }

    /// Raises it from within, for a `reason` that only a person can mend. Whoever cannot go on returns what this does.
    pub(crate) fn give_up(&self, reason: String) -> Fenced {
        // The first reason is the one to mend.
        let _ = self.reason.set(reason);
        self.raise();
        Fenced
    }

    /// Why it was raised from within, if it was.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state.load(Ordering::Acquire) != OPEN
    }

    pub(crate) fn check(&self) -> Result<(), Fenced> {
        if self.state.load(Ordering::Acquire) == RAISED {
            Err(Fenced)
        } else {
            Ok(())
        }
    }
}
