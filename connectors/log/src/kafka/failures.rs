//! What an error of librdkafka means for whoever uses the log.

use platform::log::LogError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub(super) fn setup(error: &KafkaError) -> LogError {
    LogError::Setup(error.to_string())
}

/// Sorts an error of librdkafka by whether repeating helps.
pub(super) fn classify(error: &KafkaError) -> LogError {
    let reason = error.to_string();
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidMessageSize,
        ) => LogError::Refused(reason),
        Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed,
        ) => LogError::Setup(reason),
        _ => LogError::Unavailable(reason),
    }
}
