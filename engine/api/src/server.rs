//! The HTTP server of every role: liveness, readiness, metrics; the API and the console where that role runs.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::ServerHandle;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::ContentType;
use actix_web::middleware::{Compress, Next, from_fn};
use actix_web::{App, Error, HttpResponse, HttpServer as ActixServer, web};
use anyhow::{Context, Result};
use futures::FutureExt;
use tracing::error;

use crate::config::HttpConfig;
use crate::log_filter;
use crate::problem::Refused;
use crate::request::BodyBytesMax;
use crate::routes::{self, Api, known, reading};
use platform::lifetime::Readiness;
use platform::role_context::RoleContext;

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
    api: Option<Api>,
    needs: Arc<OnceLock<Needs>>,
}

/// What the probes look at.
#[derive(Clone)]
struct Health {
    context: RoleContext,
    phase: Arc<AtomicU8>,
    needs: Arc<OnceLock<Needs>>,
}

/// Without what the roles of this process cannot do their work.
#[derive(Debug)]
pub struct Needs {
    /// The log must answer.
    pub log: bool,
    /// The store must answer.
    pub store: bool,
    /// What the roles say of themselves.
    pub roles: Vec<Readiness>,
}

impl HttpServer {
    /// Binds and serves. Readiness waits for [`Self::set_started`].
    pub fn start(config: &HttpConfig, context: &RoleContext, api: Option<Api>) -> Result<Self> {
        let phase = Arc::new(AtomicU8::new(STARTING));
        let health = Health {
            context: context.clone(),
            phase: Arc::clone(&phase),
            needs: Arc::default(),
        };
        let served = api.clone();
        let needs = Arc::clone(&health.needs);
        let body_bytes_max = config.body_bytes_max;
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let server = ActixServer::new(move || {
            let (health, api) = (health.clone(), served.clone());
            App::new()
                .wrap(from_fn(survive))
                .wrap(Compress::default())
                .configure(move |app| serve(app, health, api, body_bytes_max))
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
            api,
            needs,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API, where that role runs.
    #[must_use]
    pub const fn api(&self) -> Option<&Api> {
        self.api.as_ref()
    }

    /// Every role has started: ready, as long as there is what they need.
    pub fn set_started(&self, needs: Needs) {
        // Roles start once.
        let _ = self.needs.set(needs);
        self.phase.store(STARTED, Ordering::Release);
    }

    /// No longer ready: a balancer should look elsewhere.
    pub fn set_stopping(&self) {
        self.phase.store(STOPPING, Ordering::Release);
    }

    /// Finishes what is being answered, and stops.
    pub async fn close(self) {
        // Streams of events end first, or the server would wait for them.
        if let Some(api) = &self.api {
            api.close();
        }
        self.handle.stop(true).await;
    }
}

/// Everything that is served, and what is said of the rest.
fn serve(app: &mut web::ServiceConfig, health: Health, api: Option<Api>, body_bytes_max: usize) {
    app.app_data(web::Data::new(health))
        .app_data(BodyBytesMax(body_bytes_max))
        .service(known("/healthz", "GET, HEAD").route(reading().to(healthz)))
        .service(known("/readyz", "GET, HEAD").route(reading().to(readyz)))
        .service(known("/metrics", "GET, HEAD").route(reading().to(metrics)))
        .service(
            known("/log-filter", "GET, HEAD, PUT")
                .route(reading().to(log_filter::show))
                .route(web::put().to(log_filter::change)),
        );
    if let Some(api) = api {
        app.app_data(web::Data::new(api));
        routes::routes(app);
    }
    app.default_service(web::to(nowhere));
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body("ok\n")
}

async fn readyz(health: web::Data<Health>) -> Result<HttpResponse, Refused> {
    let unready = |reason: &str| Err(Refused::unavailable(reason.to_owned()));
    match health.phase.load(Ordering::Acquire) {
        STARTED => {}
        STARTING => return unready("starting"),
        _ => return unready("stopping"),
    }
    let Some(needs) = health.needs.get() else {
        return unready("starting");
    };
    let checks = async {
        for readiness in &needs.roles {
            readiness.check().map_err(Refused::unavailable)?;
        }
        if needs.log {
            health.context.log.ping().await?;
        }
        if needs.store {
            health.context.store.ping().await?;
        }
        Ok::<(), Refused>(())
    };
    match tokio::time::timeout(READY_LIMIT, checks).await {
        Ok(Ok(())) => Ok(HttpResponse::Ok()
            .content_type(ContentType::plaintext())
            .body("ready\n")),
        Ok(Err(refused)) => Err(refused),
        Err(_) => unready("log or store do not answer"),
    }
}

async fn metrics(health: web::Data<Health>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(health.context.metrics.text())
}

/// Answers a request whose handler panicked, and goes on.
async fn survive(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let path = request.path().to_owned();
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(answered) => answered,
        Err(_) => {
            error!(path, "a handler panicked");
            Err(Refused::internal().into())
        }
    }
}

async fn nowhere(request: actix_web::HttpRequest) -> Result<HttpResponse, Refused> {
    Err(Refused::not_found(format!(
        "nothing is at {}",
        request.path()
    )))
}

#[cfg(test)]
mod tests;
