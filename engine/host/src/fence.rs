//! The fence between two owners of a partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const OPEN: u8 = 0;
const LEAVING: u8 = 1;
const RAISED: u8 = 2;

/// Raised when the partition is no longer ours: whoever works behind it gives up.
#[derive(Debug, Clone)]
pub struct Fence(Arc<AtomicU8>);

/// The fence was raised before the work was durable. The next owner of the partition does it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("another owner has the partition")]
pub struct Fenced;

impl Fence {
    /// A fence that is not raised yet.
    #[must_use]
    pub fn open() -> Self {
        Self(Arc::new(AtomicU8::new(OPEN)))
    }

    /// The partition is about to go: what is under way is finished, and nothing more is begun.
    pub fn begin_leave(&self) {
        self.0.fetch_max(LEAVING, Ordering::AcqRel);
    }

    /// Stops the work behind it, for good.
    pub fn raise(&self) {
        self.0.store(RAISED, Ordering::Release);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Acquire) != OPEN
    }

    pub(crate) fn check(&self) -> Result<(), Fenced> {
        if self.0.load(Ordering::Acquire) == RAISED {
            Err(Fenced)
        } else {
            Ok(())
        }
    }
}
