//! What comes with a request: its query and its JSON body. What cannot be used is refused with the name of the
//! parameter, the path of the field, or the line and column.

use std::future::{Ready, ready};
use std::ops::RangeInclusive;

use actix_web::dev::{Decompress, Payload};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use bytes::BytesMut;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use model::units::HouseholdId;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::problem::Refused;

/// Longest body that is read, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyBytesMax(pub(crate) usize);

/// The parameters behind the question mark. Unknown ones are left alone.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl FromRequest for Query {
    type Error = Refused;
    type Future = Ready<Result<Self, Refused>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        ready(match pairs {
            Ok(pairs) => Ok(Self(pairs.into_inner())),
            Err(error) => Err(Refused::bad_request(format!("the query: {error}"))),
        })
    }
}

impl Query {
    /// The parameter called `name`, which may be given once.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refused> {
        let mut given = self.0.iter().filter(|(given, _)| given == name);
        let first = given.next().map(|(_, value)| value.as_str());
        match given.next() {
            Some((_, second)) => Err(Refused::bad_parameter(name, "it once", second)),
            None => Ok(first),
        }
    }

    /// A whole number within `range`.
    pub(crate) fn whole(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Refused> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                Err(Refused::bad_parameter(name, &expected, text))
            }
        }
    }

    /// A number of seconds from 0 to `max`.
    pub(crate) fn seconds(&self, name: &str, max: f64) -> Result<Option<f64>, Refused> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(seconds) if (0.0..=max).contains(&seconds) => Ok(Some(seconds)),
            _ => {
                let expected = format!("0 to {max} seconds");
                Err(Refused::bad_parameter(name, &expected, text))
            }
        }
    }
}

/// A JSON body, read whole.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Refused;
    type Future = LocalBoxFuture<'static, Result<Self, Refused>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes_max = request
            .app_data::<BodyBytesMax>()
            .map_or(1 << 20, |max| max.0);
        let checked = check_media_type(request).and_then(|()| {
            check_encoding(request.headers())?;
            let declared = declared_bytes(request.headers());
            if declared.is_some_and(|bytes| bytes > bytes_max) {
                return Err(Refused::too_large(bytes_max));
            }
            Ok(())
        });
        let payload = Decompress::from_headers(payload.take(), request.headers());
        Box::pin(async move {
            checked?;
            let body = read(payload, bytes_max).await?;
            Ok(Self(parse(&body)?))
        })
    }
}

/// A home's id, as in a path or in `household_id`.
pub(crate) fn parse_id(text: &str) -> Result<HouseholdId, Refused> {
    HouseholdId::parse(text).ok_or_else(|| {
        let expected = "a positive 63-bit integer";
        Refused::bad_parameter("household_id", expected, text)
    })
}

fn declared_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn check_media_type(request: &HttpRequest) -> Result<(), Refused> {
    let found = request.headers().get(CONTENT_TYPE);
    let found = found.map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Ok(Some(mime)) = request.mime_type() {
        let is_json = mime.subtype() == "json" || mime.suffix().is_some_and(|it| it == "json");
        let is_utf8 = mime
            .get_param("charset")
            .is_none_or(|charset| charset == "utf-8");
        if is_json && is_utf8 {
            return Ok(());
        }
    }
    Err(Refused::media_type(found.as_deref()))
}

/// Any other encoding would be read as if it were none.
fn check_encoding(headers: &HeaderMap) -> Result<(), Refused> {
    let known = ["identity", "gzip", "deflate"];
    for (index, found) in headers.get_all(CONTENT_ENCODING).enumerate() {
        let found = String::from_utf8_lossy(found.as_bytes());
        let is_known = known.contains(&found.trim().to_ascii_lowercase().as_str());
        // A second header stands for a second compression.
        if !is_known || index > 0 {
            return Err(Refused::encoding(&found));
        }
    }
    Ok(())
}

async fn read(mut payload: Decompress<Payload>, bytes_max: usize) -> Result<BytesMut, Refused> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|error| Refused::bad_request(format!("the body {}", fault(&error))))?;
        if body.len() + chunk.len() > bytes_max {
            return Err(Refused::too_large(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

const fn fault(error: &PayloadError) -> &'static str {
    let is_unpacking = matches!(
        error,
        PayloadError::EncodingCorrupted | PayloadError::Io(_) | PayloadError::Incomplete(Some(_))
    );
    if is_unpacking {
        "ends early, or is not what content-encoding says"
    } else {
        "ends early"
    }
}

/// The value that `body` says. What is no JSON is a bad request with its line and column; JSON that does not fit is
/// said of its field.
///
/// # Errors
/// Returns why the body is refused.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        (path, error.into_inner())
    });
    let ended = read.and_then(|value| match reader.end() {
        Ok(()) => Ok(value),
        Err(error) => Err((".".to_owned(), error)),
    });
    ended.map_err(|(path, error)| match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            Refused::bad_request(format!("the body is not JSON: {error}"))
        }
        Category::Data => {
            let field = field_of(&path, &error.to_string());
            let detail = match &field {
                Some(field) => format!("{field}: {error}"),
                None => error.to_string(),
            };
            Refused::invalid(field, detail)
        }
    })
}

/// The field that an error is about. What is missing is said of its parent, by name.
fn field_of(path: &str, error: &str) -> Option<String> {
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| error.strip_prefix(start)?.split_once('`'));
    let (parent, name) = match (path, named) {
        (".", None) => return None,
        (".", Some((name, _))) => ("", name),
        (path, None) => return Some(path.to_owned()),
        (path, Some((name, _))) => (path, name),
    };
    // The path of an unknown or a doubled field ends with its name already.
    if parent.is_empty() {
        Some(name.to_owned())
    } else if parent == name || parent.ends_with(&format!(".{name}")) {
        Some(parent.to_owned())
    } else {
        Some(format!("{parent}.{name}"))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use serde_json::Value;

    use super::parse;
    use crate::body::{MetadataBody, OptimizeBody};
    use crate::problem::Refused;

    #[track_caller]
    fn check(refused: &Refused, status: u16, field: Option<&str>, says: &str) {
        let document: Value = serde_json::from_str(&refused.document()).unwrap();
        assert_eq!(refused.status_code(), status, "{document}");
        assert_eq!(document["field"].as_str(), field, "{document}");
        let detail = document["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{detail}");
    }

    #[test]
    fn what_is_no_json_is_said_with_its_place() {
        let of = |body: &str| parse::<OptimizeBody>(body.as_bytes()).unwrap_err();
        check(&of(""), 400, None, "line 1 column 0");
        check(&of("{\"household_id\":1,\n}"), 400, None, "line 2 column 1");
        check(&of("{\"household_id\":1} x"), 400, None, "column 20");
        check(&of(&"[".repeat(100_000)), 422, Some("[0]"), "invalid type");
        check(&of("{\"household_id\":1e999}"), 400, None, "out of range");
        let broken = parse::<OptimizeBody>(b"{\"start\":\"\xFF\"}").unwrap_err();
        check(&broken, 400, None, "");
    }

    #[test]
    fn json_that_does_not_fit_names_its_field() {
        let of = |body: &str| parse::<OptimizeBody>(body.as_bytes()).unwrap_err();
        check(&of("{}"), 422, Some("household_id"), "missing field");
        check(
            &of(r#"{"household_id":1,"household_id":2}"#),
            422,
            Some("household_id"),
            "duplicate field",
        );
        check(
            &of(r#"{"household_id":9223372036854775808}"#),
            422,
            Some("household_id"),
            "invalid value",
        );
        check(
            &of(r#"{"household_id":1,"battery":{"capacity_kwh":"x"}}"#),
            422,
            Some("battery.capacity_kwh"),
            "invalid type",
        );
        check(
            &of(r#"{"household_id":1,"load_kw":[1,null]}"#),
            422,
            Some("load_kw[1]"),
            "invalid type",
        );
        let of = |body: &str| parse::<MetadataBody>(body.as_bytes()).unwrap_err();
        check(
            &of(r#"{"tariff":"a","battery":{"capacity_kwh":1,"colour":1}}"#),
            422,
            Some("battery.colour"),
            "unknown field",
        );
        check(&of("[]"), 422, None, "");
        check(&of("7"), 422, None, "invalid type");
    }
}
