//! What a failure of the tables means for whoever uses the log.

use platform::log::LogError;

pub(super) fn unavailable(error: impl std::fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

/// What the disk or the number of open files refuses now may go later; damage stays.
pub(super) fn from_fjall(error: fjall::Error) -> LogError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return unavailable(error);
        }
        cause = error.source();
    }
    if matches!(error, fjall::Error::Poisoned) {
        unavailable(error)
    } else {
        LogError::Setup(error.to_string())
    }
}
