//! Errors of the HTTP API: problem documents as RFC 9457 describes them, each with its status.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use model::limits::LimitError;

use crate::body::{FieldError, ProblemDocument};

/// Seconds after which a client should try again what is not available now.
const RETRY_AFTER_S: &str = "5";

/// An error as a problem document.
#[derive(Debug, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Refused {
    status: StatusCode,
    title: &'static str,
    detail: String,
    /// Path of the field, or name of the parameter, that is at fault.
    field: Option<String>,
    /// Methods that the path knows.
    allow: Option<&'static str>,
}

impl Refused {
    const fn new(status: StatusCode, title: &'static str, detail: String) -> Self {
        Self {
            status,
            title,
            detail,
            field: None,
            allow: None,
        }
    }

    /// There is no such thing.
    #[must_use]
    pub const fn not_found(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", detail)
    }

    /// The request itself cannot be used.
    #[must_use]
    pub const fn bad_request(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad request", detail)
    }

    /// A parameter of the path or the query cannot be used.
    #[must_use]
    pub fn bad_parameter(name: &str, expected: &str, found: &str) -> Self {
        let found: String = found.chars().take(40).collect();
        let detail = format!("{name}: expected {expected}, found {found:?}");
        Self {
            field: Some(name.to_owned()),
            ..Self::bad_request(detail)
        }
    }

    /// The path is known, and not with this method. `allow` lists those that it is known with.
    #[must_use]
    pub fn method(method: &str, allow: &'static str) -> Self {
        let detail = format!("{method} is not known here, expected {allow}");
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", detail)
        }
    }

    /// The body is not in a format that is read.
    #[must_use]
    pub fn media_type(found: Option<&str>) -> Self {
        let found = found.map_or_else(|| "none".to_owned(), |found| format!("{found:?}"));
        let detail = format!("content-type: expected application/json in UTF-8, found {found}");
        Self {
            field: Some("content-type".to_owned()),
            ..Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported media type",
                detail,
            )
        }
    }

    /// The body is compressed in a way that is not read.
    #[must_use]
    pub fn encoding(found: &str) -> Self {
        let found: String = found.chars().take(40).collect();
        let detail = format!("content-encoding: expected gzip or deflate, found {found:?}");
        Self {
            field: Some("content-encoding".to_owned()),
            ..Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported media type",
                detail,
            )
        }
    }

    /// The body is longer than `http.body_bytes_max`.
    #[must_use]
    pub fn too_large(bytes_max: usize) -> Self {
        let detail = format!("the body has more than {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body too large", detail)
    }

    /// The body reads, and this field of it cannot be used.
    #[must_use]
    pub fn invalid(field: Option<String>, detail: String) -> Self {
        Self {
            field,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid field", detail)
        }
    }

    /// The request is well formed, and cannot be done in the state that the home is in.
    #[must_use]
    pub const fn conflict(detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// A service behind does not answer, or too many ask at once.
    #[must_use]
    pub const fn unavailable(detail: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not available", detail)
    }

    /// A fault of ours.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "the request met a fault in the server, which is in its log".to_owned();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error", detail)
    }

    /// The document alone, as text.
    #[must_use]
    pub fn document(&self) -> String {
        let document = ProblemDocument {
            kind: "about:blank".to_owned(),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            field: self.field.clone(),
        };
        serde_json::to_string(&document).expect("a document of strings is JSON")
    }
}

impl From<FieldError> for Refused {
    fn from(error: FieldError) -> Self {
        let detail = error.to_string();
        Self::invalid(Some(error.field), detail)
    }
}

impl From<LimitError> for Refused {
    fn from(error: LimitError) -> Self {
        let detail = error.to_string();
        Self::invalid(Some(error.field), detail)
    }
}

impl From<scheduler::ProblemError> for Refused {
    fn from(error: scheduler::ProblemError) -> Self {
        Self::invalid(Some(error.field().to_owned()), error.to_string())
    }
}

impl From<platform::store::StoreError> for Refused {
    fn from(error: platform::store::StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<platform::log::LogError> for Refused {
    fn from(error: platform::log::LogError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_S));
        }
        response
            .content_type("application/problem+json")
            .body(self.document())
    }
}
