//! Sends the spans of this process to a collector: OTLP over HTTP with protobuf.
//!
//! Spans wait in a bounded queue, of which one task takes them. What finds the queue full is dropped and counted, and so is
//! what the collector does not take. Nothing of Hearth ever waits for the collector.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use opentelemetry::KeyValue;
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor};
use platform::metrics::Metrics;
use platform::report::{Outage, Throttle};
use platform::retry::Backoff;
use platform::secret::Secret;
use platform::tls;
use platform::trace::{Sampling, Tracer};
use prost::Message as _;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::warn;

/// Most spans in one request, and how long they gather.
const BATCH_SPANS_MAX: usize = 512;
const GATHER: Duration = Duration::from_millis(500);
/// Attempts at one request.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a process that ends waits for its last spans.
const CLOSE_MAX: Duration = Duration::from_secs(3);
const PATH: &str = "/v1/traces";

platform::settings! {
    /// Traces: the way of single messages through every process, for a tracing back end.
    pub struct TracesConfig {
        /// URL of a collector for OTLP over HTTP, such as `http://collector:4318`. Empty: the one in
        /// `OTEL_EXPORTER_OTLP_ENDPOINT`, and without that no traces.
        #[expects("empty, or http:// or https:// and a host", is_url)]
        endpoint: String = String::new(),
        /// Headers of each request, `NAME=VALUE` separated by commas, such as `authorization=Bearer%20xyz`. Empty: those
        /// in `OTEL_EXPORTER_OTLP_HEADERS`.
        #[expects("NAME=VALUE, separated by commas", are_headers)]
        headers: Secret = Secret::default(),
        /// PEM file with the authorities that sign the collector's certificate; without it those of the system.
        ca_file: Option<PathBuf> = None,
        /// Share of messages that begin a trace.
        #[range(0.0..=1.0)]
        sampled_share: f64 = 0.01,
        /// Most traces a second that are recorded because a device or a client of the API says so in `traceparent`; further
        /// ones are recorded by lot. 0 ignores what they say.
        #[range(0..=1_000_000)]
        followed_per_s_max: u32 = 10,
        /// Most spans that wait for the collector; further ones are dropped and counted.
        #[range(1..=1_000_000)]
        queue_spans_max: usize = 8_192,
        /// Longest wait for the collector's answer, milliseconds.
        #[range(10..=600_000)]
        timeout_ms: u64 = 5_000,
    }
}

fn is_url(text: &str) -> bool {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    text.is_empty() || host.is_some_and(|host| !host.is_empty())
}

fn are_headers(text: &Secret) -> bool {
    headers(text.expose()).is_some()
}

/// Reads headers as OpenTelemetry writes them: values are percent-encoded.
fn headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    for pair in pairs {
        let (name, value) = pair.split_once('=')?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let mut value = HeaderValue::from_bytes(&percent_decoded(value.trim())?).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    Some(bytes)
}

/// What the environment says of OpenTelemetry.
#[derive(Debug, Default)]
pub struct Environment {
    /// `OTEL_SDK_DISABLED`.
    pub is_disabled: bool,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    pub headers: Secret,
}

impl Environment {
    /// Reads the process's own.
    #[must_use]
    pub fn read() -> Self {
        let read = |name| std::env::var(name).unwrap_or_default();
        Self {
            is_disabled: read("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true"),
            endpoint: read("OTEL_EXPORTER_OTLP_ENDPOINT"),
            headers: read("OTEL_EXPORTER_OTLP_HEADERS").into(),
        }
    }
}

/// The spans of a process on their way.
#[derive(Debug)]
pub struct Traces {
    tracer: Tracer,
    sending: Option<Sending>,
}

#[derive(Debug)]
struct Sending {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Traces {
    /// Starts, if there is a collector. `service` names the process, `log_system` its log. Needs a tokio runtime. Fails
    /// if a setting or a file is wrong; a collector that is away is none of its failures.
    pub fn start(
        config: &TracesConfig,
        environment: &Environment,
        service: &str,
        log_system: &'static str,
        metrics: &Metrics,
    ) -> Result<Self> {
        let off = Self {
            tracer: Tracer::off(),
            sending: None,
        };
        let from_environment = config.endpoint.is_empty();
        let endpoint = if from_environment {
            environment.endpoint.trim()
        } else {
            config.endpoint.as_str()
        };
        if endpoint.is_empty() || environment.is_disabled {
            return Ok(off);
        }
        if !is_url(endpoint) {
            // No setting of ours, so no reason not to start.
            warn!("OTEL_EXPORTER_OTLP_ENDPOINT is no URL: no traces");
            return Ok(off);
        }
        let (queue, spans) = mpsc::channel(config.queue_spans_max);
        let resource = resource(service);
        let collector = Collector {
            client: client(config, environment)?,
            url: url(endpoint),
            resource: ResourceAttributesWithSchema::from(&resource),
            outage: Outage::of(format!("collector of traces at {}", shown(endpoint))),
            refusals: Throttle::default(),
            metrics: metrics.clone(),
        };
        let provider = SdkTracerProvider::builder()
            // Tracers decide before there is a span.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .with_span_processor(Queue {
                spans: queue,
                metrics: metrics.clone(),
                drops: Arc::default(),
            })
            .build();
        let sampling = Sampling {
            share: config.sampled_share,
            followed_per_s_max: config.followed_per_s_max,
        };
        let tracer = BoxedTracer::new(Box::new(provider.tracer("hearth")));
        let (stop, stopped) = watch::channel(false);
        Ok(Self {
            tracer: Tracer::new(tracer, sampling, log_system),
            sending: Some(Sending {
                stop,
                task: tokio::spawn(collector.run(spans, stopped)),
            }),
        })
    }

    /// Returns what starts spans.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Sends what waits, within a bounded time, and ends.
    pub async fn close(self) {
        let Some(Sending { stop, task }) = self.sending else {
            return;
        };
        stop.send_replace(true);
        let abort = task.abort_handle();
        if tokio::time::timeout(CLOSE_MAX, task).await.is_err() {
            abort.abort();
        }
    }
}

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win.
fn resource(service: &str) -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let instance = format!("{}-{}", host.trim(), std::process::id());
    let ours = [
        KeyValue::new("service.name", service.to_owned()),
        KeyValue::new("service.namespace", "hearth"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance),
    ];
    let detected = Resource::builder().build();
    let is_named = |key: &str| {
        let found = detected.get(&opentelemetry::Key::from(key.to_owned()));
        found.is_some_and(|found| !found.as_str().starts_with("unknown_service"))
    };
    let unnamed = ours.into_iter().filter(|ours| !is_named(ours.key.as_str()));
    let unnamed: Vec<KeyValue> = unnamed.collect();
    Resource::builder().with_attributes(unnamed).build()
}

fn client(config: &TracesConfig, environment: &Environment) -> Result<reqwest::Client> {
    let own = config.headers.expose();
    let headers = if own.is_empty() {
        headers(environment.headers.expose()).unwrap_or_else(|| {
            warn!("OTEL_EXPORTER_OTLP_HEADERS cannot be read: traces are sent without headers");
            HeaderMap::new()
        })
    } else {
        headers(own).context("traces.headers: expected NAME=VALUE")?
    };
    let mut client = reqwest::Client::builder()
        .timeout(Duration::from_millis(config.timeout_ms))
        // A redirect would take the headers along.
        .redirect(reqwest::redirect::Policy::none())
        .default_headers(headers);
    if let Some(ca_file) = &config.ca_file {
        let trusted = tls::client_config(ca_file, None, None).context("traces.ca_file")?;
        client = client.tls_backend_preconfigured(trusted);
    }
    client.build().context("set up the client of the collector")
}

/// Appends the path of traces, unless it is there.
fn url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with(PATH) {
        base.to_owned()
    } else {
        format!("{base}{PATH}")
    }
}

/// The endpoint as log lines have it: without a user and a password.
fn shown(endpoint: &str) -> &str {
    let (_, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

/// Takes ended spans, and never waits.
#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<SpanData>,
    metrics: Metrics,
    drops: Arc<Throttle>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_ok() {
            return;
        }
        count(&self.metrics, "dropped", 1);
        if let Some(held_back) = self.drops.pass() {
            warn!(
                held_back,
                "too many spans wait for the collector of traces; the newest are dropped"
            );
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Why the collector has not taken spans.
struct Failure {
    is_retryable: bool,
    detail: String,
}

struct Collector {
    client: reqwest::Client,
    url: String,
    resource: ResourceAttributesWithSchema,
    outage: Outage,
    refusals: Throttle,
    metrics: Metrics,
}

impl Collector {
    async fn run(self, mut spans: mpsc::Receiver<SpanData>, mut stopped: watch::Receiver<bool>) {
        let mut is_stopping = false;
        loop {
            let mut batch = Vec::with_capacity(BATCH_SPANS_MAX);
            tokio::select! {
                count = spans.recv_many(&mut batch, BATCH_SPANS_MAX) => if count == 0 {
                    return;
                },
                _ = stopped.changed(), if !is_stopping => {
                    is_stopping = true;
                    // What waits is sent; what still ends is dropped.
                    spans.close();
                    continue;
                }
            }
            let gather = async {
                while batch.len() < BATCH_SPANS_MAX {
                    let room = BATCH_SPANS_MAX - batch.len();
                    if spans.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            tokio::select! {
                () = gather => {}
                () = tokio::time::sleep(GATHER) => {}
                _ = stopped.changed(), if !is_stopping => {
                    is_stopping = true;
                    spans.close();
                }
            }
            let attempts_max = if is_stopping { 1 } else { ATTEMPTS_MAX };
            self.send(batch, attempts_max).await;
        }
    }

    /// Sends spans, or counts them as failed.
    async fn send(&self, batch: Vec<SpanData>, attempts_max: u32) {
        let spans_count = batch.len() as u64;
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let body = bytes::Bytes::from(request.encode_to_vec());
        let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        for attempt in 1..=attempts_max {
            match self.post(body.clone()).await {
                Ok(refused) => {
                    self.outage.succeeded();
                    let refused = refused.min(spans_count);
                    count(&self.metrics, "exported", spans_count - refused);
                    count(&self.metrics, "failed", refused);
                    return;
                }
                Err(failure) => {
                    self.outage.failed(&failure.detail);
                    if !failure.is_retryable {
                        break;
                    }
                }
            }
            if attempt < attempts_max {
                pauses.pause().await;
            }
        }
        count(&self.metrics, "failed", spans_count);
    }

    /// Sends one request. Returns how many of its spans the collector refused.
    async fn post(&self, body: bytes::Bytes) -> Result<u64, Failure> {
        let request = self.client.post(&self.url);
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        let answered = request.body(body).send().await;
        // The URL may hold a password.
        let away = |error: reqwest::Error| Failure {
            is_retryable: true,
            detail: with_causes(&error.without_url()),
        };
        let answer = answered.map_err(away)?;
        let status = answer.status();
        if !status.is_success() {
            let is_retryable = status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::BAD_GATEWAY
                || status == StatusCode::SERVICE_UNAVAILABLE
                || status == StatusCode::GATEWAY_TIMEOUT;
            let detail = format!("it answered {status}");
            return Err(Failure {
                is_retryable,
                detail,
            });
        }
        // The answer is a few bytes, so the first piece of it is all.
        let mut answer = answer;
        let bytes = answer.chunk().await.map_err(away)?.unwrap_or_default();
        let answer = ExportTraceServiceResponse::decode(bytes).unwrap_or_default();
        let Some(partial) = answer.partial_success else {
            return Ok(0);
        };
        let refused = u64::try_from(partial.rejected_spans).unwrap_or(0);
        if refused > 0
            && let Some(held_back) = self.refusals.pass()
        {
            let detail = partial.error_message;
            warn!(
                refused,
                held_back, detail, "the collector of traces refused spans"
            );
        }
        Ok(refused)
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn count(metrics: &Metrics, outcome: &str, spans: u64) {
    let counter = &metrics.trace_spans_total;
    counter.with_label_values(&[outcome]).inc_by(spans);
}

#[cfg(test)]
mod tests;
