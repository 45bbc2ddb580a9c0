//! What an error of the driver means, and how long to wait before a statement is repeated.

use std::time::Duration;

use platform::retry::Backoff;
use platform::store::StoreError;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};

/// First and longest pause before a statement is repeated.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The pauses before a statement is repeated.
pub(super) fn pauses() -> Backoff {
    Backoff::new(BACKOFF_FIRST, BACKOFF_MAX)
}

/// Sorts an error by whether the statement itself is at fault or a retry may help.
pub(super) fn refused_or_unavailable(tried: &str, error: &ExecutionError) -> StoreError {
    let refused = if let ExecutionError::LastAttemptError(attempt) = error {
        matches!(
            attempt,
            RequestAttemptError::SerializationError(_)
                | RequestAttemptError::CqlRequestSerialization(_)
                | RequestAttemptError::DbError(
                    DbError::SyntaxError
                        | DbError::Invalid
                        | DbError::AlreadyExists { .. }
                        | DbError::FunctionFailure { .. }
                        | DbError::AuthenticationError
                        | DbError::Unauthorized
                        | DbError::ConfigError,
                    _
                )
        )
    } else {
        matches!(error, ExecutionError::BadQuery(_))
    };
    let text = format!("{tried}: {error}");
    if refused {
        StoreError::Refused(text)
    } else {
        StoreError::Unavailable(text)
    }
}
