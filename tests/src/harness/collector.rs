//! A collector of traces: takes OTLP over HTTP as a real one does, and keeps what it gets in memory.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// A span as it was received.
#[derive(Debug, Clone)]
pub struct ReceivedSpan {
    /// `service.name` of its process.
    pub service: String,
    pub name: String,
    /// Hexadecimal.
    pub trace_id: String,
    pub span_id: String,
    /// Empty for a root.
    pub parent_span_id: String,
    pub kind: &'static str,
    pub attributes: BTreeMap<String, String>,
    /// Names, in order.
    pub events: Vec<String>,
    /// Trace ids.
    pub links: Vec<String>,
    pub start_ns: u64,
    pub end_ns: u64,
    pub is_failed: bool,
}

#[derive(Debug, Default)]
struct State {
    spans: Mutex<Vec<ReceivedSpan>>,
    headers: Mutex<Vec<HashMap<String, String>>>,
    /// The status of the answers; 0 for 200.
    status: AtomicU16,
}

/// A running collector on 127.0.0.1. It ends with the process.
#[derive(Debug, Clone)]
pub struct Collector {
    port: u16,
    state: Arc<State>,
}

impl Collector {
    /// Starts on a free port.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_on(0)
    }

    /// Starts on this port.
    pub fn start_on(port: u16) -> anyhow::Result<Self> {
        let state = Arc::new(State::default());
        let served = Arc::clone(&state);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    App::new()
                        .app_data(web::Data::from(Arc::clone(&served)))
                        .app_data(web::PayloadConfig::new(64 << 20))
                        .route("/v1/traces", web::post().to(take))
                });
                let bound = server
                    .workers(1)
                    .disable_signals()
                    .bind(("127.0.0.1", port));
                let server = match bound {
                    Ok(server) => server,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                let port = server.addrs().first().map_or(0, std::net::SocketAddr::port);
                let _ = tell.send(Ok(port));
                // Runs until the process ends.
                let _ = server.run().await;
            });
        });
        let port = told.recv().context("the collector starts")??;
        Ok(Self { port, state })
    }

    /// What a process is given as its endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers with this status from now on.
    pub fn answer_with(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// Headers of each request, in order.
    #[must_use]
    pub fn headers(&self) -> Vec<HashMap<String, String>> {
        locked(&self.state.headers).clone()
    }

    /// Every span up to now.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        locked(&self.state.spans).clone()
    }

    /// The spans of one trace.
    #[must_use]
    pub fn trace(&self, trace_id: &str) -> Vec<ReceivedSpan> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace_id == trace_id);
        spans
    }
}

async fn take(request: HttpRequest, body: web::Bytes, state: web::Data<State>) -> HttpResponse {
    let headers = request.headers().iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    locked(&state.headers).push(headers.collect());
    let status = state.status.load(Ordering::SeqCst);
    if let Ok(status) = actix_web::http::StatusCode::from_u16(status)
        && !status.is_success()
    {
        return HttpResponse::new(status);
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return HttpResponse::BadRequest().finish();
    };
    let mut spans = locked(&state.spans);
    for of_process in request.resource_spans {
        let resource = of_process.resource.unwrap_or_default();
        let service = attributes(&resource.attributes).remove("service.name");
        let service = service.unwrap_or_default();
        let of_scopes = of_process.scope_spans.into_iter();
        let all = of_scopes.flat_map(|scope| scope.spans);
        spans.extend(all.map(|span| received(&service, span)));
    }
    HttpResponse::Ok()
        .content_type("application/x-protobuf")
        .finish()
}

fn received(service: &str, span: Span) -> ReceivedSpan {
    ReceivedSpan {
        service: service.to_owned(),
        attributes: attributes(&span.attributes),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_span_id: hex(&span.parent_span_id),
        kind: match span.kind {
            1 => "internal",
            2 => "server",
            3 => "client",
            4 => "producer",
            5 => "consumer",
            _ => "unspecified",
        },
        events: span.events.into_iter().map(|event| event.name).collect(),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        is_failed: span.status.is_some_and(|status| status.code == 2),
        name: span.name,
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|of| of.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = pairs.iter();
    pairs
        .map(|pair| (pair.key.clone(), text(&pair.value)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The spans as a tree below `root`: a line each, children indented, in the order of names. Behind a name stand the
/// service, where `with_services`, and the events, those that repeat once.
#[must_use]
pub fn tree(spans: &[ReceivedSpan], root: &str, with_services: bool) -> String {
    let mut text = String::new();
    add_children(spans, root, 0, with_services, &mut text);
    text
}

fn add_children(
    spans: &[ReceivedSpan],
    parent: &str,
    depth: usize,
    with_services: bool,
    text: &mut String,
) {
    let of_parent = spans.iter().filter(|span| span.parent_span_id == parent);
    let mut children: Vec<&ReceivedSpan> = of_parent.collect();
    children.sort_by_key(|span| (span.name.clone(), span.start_ns));
    for span in children {
        let _ = write!(text, "{}{}", "  ".repeat(depth), span.name);
        if with_services {
            let _ = write!(text, " ({})", span.service);
        }
        if !span.events.is_empty() {
            let mut events = span.events.clone();
            events.dedup();
            let _ = write!(text, ": {}", events.join(", "));
        }
        text.push('\n');
        add_children(spans, &span.span_id, depth + 1, with_services, text);
    }
}
