//! The process's log lines: their format, what is let through, and a bound on lines that repeat.

mod json;
mod repeats;
mod text;

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use platform::log_filter::LogFilter;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Config, ConfigError, LogFormat, OperationConfig};
use json::JsonLine;
use repeats::Repeats;
use text::TextLine;

/// How often lines are looked for that were held back and had no successor.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

static REPEATS: OnceLock<Arc<Repeats>> = OnceLock::new();

/// Starts to write log lines to standard error, as `role`.
pub(crate) fn speak(operation: &OperationConfig, role: &'static str) {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&operation.log_filter));
    let repeats = Arc::new(Repeats::default());
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines: Box<dyn Layer<_> + Send + Sync> = match operation.log_format {
        LogFormat::Text => Box::new(lines.event_format(TextLine::default())),
        LogFormat::Json => Box::new(lines.event_format(JsonLine { role })),
    };
    Registry::default()
        .with(filter)
        .with(Arc::clone(&repeats).layer())
        .with(lines)
        .init();
    let _ = REPEATS.set(repeats);
    LogFilter::install(&operation.log_filter, move |text| {
        let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    });
}

/// Runs `work`. Meanwhile tells from time to time what was held back, and on SIGHUP takes the filter from the
/// configuration, which `load` reads again.
pub(crate) async fn while_looked_after<T>(
    work: impl Future<Output = Result<T>>,
    load: impl Fn() -> Result<Config, ConfigError>,
) -> Result<T> {
    let mut hangups = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let mut work = std::pin::pin!(work);
    let mut sweeps = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = sweeps.tick() => sweep(),
            _ = hangups.recv() => read_again(load()),
        }
    }
}

fn sweep() {
    let Some(repeats) = REPEATS.get() else { return };
    for (place, held_back) in repeats.overdue(Instant::now()) {
        warn!(place, held_back, "lines were held back");
    }
}

fn read_again(loaded: Result<Config, ConfigError>) {
    let Some(filter) = LogFilter::of_process() else {
        return;
    };
    let wanted = match loaded {
        Ok(config) => config.operation.log_filter,
        Err(reason) => return error!(%reason, "the configuration cannot be read again"),
    };
    match filter.configure(&wanted) {
        Ok(()) => info!(filter = wanted, "log filter"),
        Err(reason) => error!(reason, "the log filter stays as it is"),
    }
}
