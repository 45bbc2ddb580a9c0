//! The fence between two owners of a partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Raised when the partition is no longer ours: whoever works behind it gives up.
#[derive(Debug, Clone)]
pub struct Fence(Arc<AtomicBool>);

/// The fence was raised before the work was durable. The next owner of the partition does it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("another owner has the partition")]
pub struct Fenced;

impl Fence {
    /// A fence that is not raised yet.
    #[must_use]
    pub fn open() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Stops the work behind it, for good.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn check(&self) -> Result<(), Fenced> {
        if self.0.load(Ordering::Acquire) {
            Err(Fenced)
        } else {
            Ok(())
        }
    }
}
