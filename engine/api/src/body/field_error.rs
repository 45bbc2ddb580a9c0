//! What is wrong with a field of a body.

use model::limits::LimitError;

/// A field that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected}")]
pub struct FieldError {
    pub field: String,
    pub expected: String,
}

impl From<LimitError> for FieldError {
    fn from(error: LimitError) -> Self {
        Self {
            expected: format!("expected {}, found {}", error.expected, error.found),
            field: error.field,
        }
    }
}

pub(super) fn field_error(field: &str, expected: impl Into<String>) -> FieldError {
    FieldError {
        field: field.to_owned(),
        expected: expected.into(),
    }
}
