//! The HTTP server of every role: liveness, readiness, metrics; the API and the console where that role runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::body::{FieldError, ProblemDocument};
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer as ActixServer, ResponseError, web};
use anyhow::{Context, Result};
use tracing::error;

use crate::config::HttpConfig;
use crate::routes::{self, Api};
use platform::parts::Parts;

const READY_LIMIT: Duration = Duration::from_secs(3);
const STARTING: u8 = 0;
const STARTED: u8 = 1;
const STOPPING: u8 = 2;

/// A running server.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    handle: ServerHandle,
    phase: Arc<AtomicU8>,
}

/// What the probes look at.
#[derive(Clone)]
struct Health {
    parts: Parts,
    phase: Arc<AtomicU8>,
}

impl HttpServer {
    /// Binds and serves. Readiness waits for [`Self::set_started`].
    pub fn start(config: &HttpConfig, parts: &Parts, api: Option<Api>) -> Result<Self> {
        let phase = Arc::new(AtomicU8::new(STARTING));
        let health = Health {
            parts: parts.clone(),
            phase: Arc::clone(&phase),
        };
        let body_bytes_max = config.body_bytes_max;
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let server = ActixServer::new(move || {
            let health = web::Data::new(health.clone());
            let json = web::JsonConfig::default()
                .limit(body_bytes_max)
                .error_handler(|error, _request| Refused::body(&error).into());
            let mut app = App::new()
                .app_data(health)
                .app_data(json)
                .wrap(actix_web::middleware::Compress::default())
                .route("/healthz", web::get().to(healthz))
                .route("/readyz", web::get().to(readyz))
                .route("/metrics", web::get().to(metrics));
            if let Some(api) = &api {
                app = app
                    .app_data(web::Data::new(api.clone()))
                    .configure(routes::routes);
            }
            app.default_service(web::to(nowhere))
        })
        .workers(threads)
        .disable_signals()
        .shutdown_timeout(5)
        .bind(&config.listen)
        .with_context(|| format!("listen on http.listen {}", config.listen))?;
        let address = *server
            .addrs()
            .first()
            .context("the server has no address")?;
        let server = server.run();
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(reason) = server.await {
                error!(%reason, "the HTTP server failed");
            }
        });
        Ok(Self {
            address,
            handle,
            phase,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every role has started: ready, as long as log and store answer.
    pub fn set_started(&self) {
        self.phase.store(STARTED, Ordering::Release);
    }

    /// No longer ready: a balancer should look elsewhere.
    pub fn set_stopping(&self) {
        self.phase.store(STOPPING, Ordering::Release);
    }

    /// Finishes what is being answered, and stops.
    pub async fn close(self) {
        self.handle.stop(true).await;
    }
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body("ok\n")
}

async fn readyz(health: web::Data<Health>) -> HttpResponse {
    let unready = |reason: String| {
        HttpResponse::ServiceUnavailable()
            .content_type(ContentType::plaintext())
            .body(reason)
    };
    match health.phase.load(Ordering::Acquire) {
        STARTED => {}
        STARTING => return unready("starting\n".to_owned()),
        _ => return unready("stopping\n".to_owned()),
    }
    let checks = async {
        health
            .parts
            .log
            .ping()
            .await
            .map_err(|error| format!("{error}\n"))?;
        health
            .parts
            .store
            .ping()
            .await
            .map_err(|error| format!("{error}\n"))
    };
    match tokio::time::timeout(READY_LIMIT, checks).await {
        Ok(Ok(())) => HttpResponse::Ok()
            .content_type(ContentType::plaintext())
            .body("ready\n"),
        Ok(Err(reason)) => unready(reason),
        Err(_) => unready("log or store do not answer\n".to_owned()),
    }
}

async fn metrics(health: web::Data<Health>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(health.parts.metrics.text())
}

async fn nowhere(request: actix_web::HttpRequest) -> Result<HttpResponse, Refused> {
    Err(Refused::not_found(format!(
        "nothing is at {}",
        request.path()
    )))
}

/// An error as a problem document.
#[derive(Debug, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Refused {
    status: StatusCode,
    title: &'static str,
    detail: String,
}

impl Refused {
    /// There is no such thing.
    #[must_use]
    pub const fn not_found(detail: String) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            title: "not found",
            detail,
        }
    }

    /// The request itself cannot be used.
    #[must_use]
    pub const fn bad_request(detail: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            title: "bad request",
            detail,
        }
    }

    /// The request is well formed, and cannot be done in the state that the home is in.
    #[must_use]
    pub const fn conflict(detail: String) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            title: "not possible now",
            detail,
        }
    }

    /// A service behind does not answer.
    #[must_use]
    pub const fn unavailable(detail: String) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "not available",
            detail,
        }
    }

    fn body(error: &actix_web::error::JsonPayloadError) -> Self {
        let status = error.status_code();
        let title = if status == StatusCode::PAYLOAD_TOO_LARGE {
            "body too large"
        } else {
            "bad request"
        };
        Self {
            status,
            title,
            detail: error.to_string(),
        }
    }
}

impl From<FieldError> for Refused {
    fn from(error: FieldError) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            title: "a field cannot be used",
            detail: error.to_string(),
        }
    }
}

impl From<scheduler::ProblemError> for Refused {
    fn from(error: scheduler::ProblemError) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            title: "a field cannot be used",
            detail: error.to_string(),
        }
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
        let document = ProblemDocument {
            kind: "about:blank".to_owned(),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
        };
        let body = serde_json::to_string(&document).expect("a document of strings is JSON");
        HttpResponse::build(self.status)
            .content_type("application/problem+json")
            .body(body)
    }
}
