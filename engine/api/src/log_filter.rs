//! The filter of the process's log lines, to be read and changed while it runs.

use std::time::Duration;

use actix_web::HttpResponse;
use platform::log_filter::LogFilter;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::problem::Refused;
use crate::request::Json;

/// Longest time that a change may be asked to last.
const FOR_S_MAX: u64 = 7 * 86_400;
/// Longest filter.
const FILTER_BYTES_MAX: usize = 4_096;

/// The answer to both methods.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogFilterBody {
    /// In force.
    pub filter: String,
    /// In force after a restart.
    pub configured: String,
}

/// What PUT takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFilterChange {
    /// As in `RUST_LOG`; null for the configured one.
    pub filter: Option<String>,
    /// Seconds after which the configured one is in force again; null for no end.
    #[serde(default)]
    pub for_s: Option<u64>,
}

pub(crate) async fn show() -> Result<HttpResponse, Refused> {
    answer(of_process()?)
}

pub(crate) async fn change(body: Json<LogFilterChange>) -> Result<HttpResponse, Refused> {
    let Json(LogFilterChange { filter, for_s }) = body;
    let of_process = of_process()?;
    let filter = filter.unwrap_or_else(|| of_process.configured());
    let invalid = |field: &str, detail: String| Refused::invalid(Some(field.to_owned()), detail);
    if filter.len() > FILTER_BYTES_MAX {
        let detail = format!("filter: expected at most {FILTER_BYTES_MAX} bytes");
        return Err(invalid("filter", detail));
    }
    if for_s.is_some_and(|for_s| !(1..=FOR_S_MAX).contains(&for_s)) {
        return Err(invalid(
            "for_s",
            format!("for_s: expected 1 to {FOR_S_MAX}"),
        ));
    }
    let change = of_process
        .set(&filter)
        .map_err(|why| invalid("filter", format!("filter: {why}")))?;
    // Written where the new filter lets it be.
    warn!(filter, for_s, "the log filter was changed");
    if let Some(for_s) = for_s {
        actix_web::rt::spawn(async move {
            tokio::time::sleep(Duration::from_secs(for_s)).await;
            of_process.end(change);
        });
    }
    answer(of_process)
}

fn of_process() -> Result<&'static LogFilter, Refused> {
    LogFilter::of_process()
        .ok_or_else(|| Refused::unavailable("this process has no log filter".to_owned()))
}

fn answer(filter: &LogFilter) -> Result<HttpResponse, Refused> {
    Ok(HttpResponse::Ok().json(LogFilterBody {
        filter: filter.current(),
        configured: filter.configured(),
    }))
}
