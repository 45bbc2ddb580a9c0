//! What a failure of the tables means for whoever uses the log.

use platform::log::LogError;

pub(super) fn unavailable(error: impl std::fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

/// What the disk or the system refused, in its own words, if it was that which failed.
pub(super) fn refused_by_disk(error: &fjall::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return Some(error.to_string());
        }
        cause = error.source();
    }
    None
}

/// What the disk or the number of open files refuses now may go later; damage stays.
pub(super) fn from_fjall(error: fjall::Error) -> LogError {
    if let Some(reason) = refused_by_disk(&error) {
        return unavailable(reason);
    }
    if matches!(error, fjall::Error::Poisoned) {
        unavailable(error)
    } else {
        LogError::Setup(error.to_string())
    }
}
