//! Starts the roles of a process, waits for the signal to end, and drains them in the order of a reading's way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use devices::bridge::Bridge;
use devices::controller::Controller;
use devices::gateway::Gateway;
use devices::ingest::Ingest;
use tracing::{info, warn};

use crate::config::Config;
use crate::connect;
use api::routes::Api;
use api::server::HttpServer;
use host::engine::Engine;
use host::optimizer::Optimizer;
use platform::parts::Parts;

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Gateway,
    Bridge,
    Engine,
    Optimizer,
    Controller,
    Api,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::Gateway,
        Self::Bridge,
        Self::Engine,
        Self::Optimizer,
        Self::Controller,
        Self::Api,
    ];
}

/// The roles that run.
#[derive(Debug)]
pub struct Running {
    pub parts: Parts,
    pub http: HttpServer,
    pub gateway: Option<Gateway>,
    ingest: Option<Arc<Ingest>>,
    bridge: Option<Bridge>,
    engine: Option<Engine>,
    optimizer: Option<Optimizer>,
    controller: Option<Controller>,
    drain_max: Duration,
}

impl Running {
    /// Starts `roles`. Must be called inside an actix system. What receives readings starts last.
    pub async fn start(roles: &[Role], config: &Config, parts: Parts) -> Result<Self> {
        let wants = |role: Role| roles.contains(&role);
        let api = wants(Role::Api)
            .then(|| Api::new(parts.clone(), &config.http, config.engine.settings()));
        let http = HttpServer::start(&config.http, &parts, api).context("start HTTP")?;
        info!(address = %http.address(), "http");
        let mut running = Self {
            http,
            gateway: None,
            ingest: None,
            bridge: None,
            engine: None,
            optimizer: None,
            controller: None,
            drain_max: Duration::from_secs(config.operation.drain_s_max),
            parts,
        };
        let parts = running.parts.clone();
        if wants(Role::Engine) {
            running.engine = Some(Engine::start(parts.clone(), &config.engine).await?);
        }
        if wants(Role::Optimizer) {
            running.optimizer = Some(Optimizer::start(parts.clone(), &config.optimizer).await?);
        }
        if wants(Role::Gateway) || wants(Role::Bridge) {
            let ingest = Ingest::start(
                Arc::clone(&parts.log),
                parts.codec.clone(),
                parts.clock,
                parts.metrics.clone(),
                config.ingest.clone(),
            )
            .context("start the ingest")?;
            if wants(Role::Gateway) {
                let gateway = Gateway::start(
                    Arc::clone(&ingest),
                    parts.clock,
                    parts.metrics.clone(),
                    config.gateway.clone(),
                )
                .await
                .context("start the gateway")?;
                info!(address = %gateway.local_addr(), "gateway");
                running.gateway = Some(gateway);
            }
            if wants(Role::Bridge) {
                let bridge = Bridge::start(
                    Arc::clone(&ingest),
                    parts.metrics.clone(),
                    config.bridge.clone(),
                )
                .context("start the bridge")?;
                running.bridge = Some(bridge);
            }
            running.ingest = Some(ingest);
        }
        if wants(Role::Controller) {
            running.controller = Some(running.start_controller(config).await?);
        }
        running.http.set_started();
        Ok(running)
    }

    async fn start_controller(&self, config: &Config) -> Result<Controller> {
        let parts = &self.parts;
        let mut controller = config.controller.clone();
        // In one process the gateway's port may have been picked by the system.
        if let Some(gateway) = &self.gateway {
            controller.reach_gateway(gateway.local_addr());
        }
        Controller::start(
            Arc::clone(&parts.log),
            parts.codec.clone(),
            parts.clock,
            parts.metrics.clone(),
            controller,
        )
        .await
        .context("start the controller")
    }

    /// Names a role that has failed for good, if one has.
    #[must_use]
    pub fn failed(&self) -> Option<&'static str> {
        use futures::FutureExt;
        let engine = self.engine.as_ref();
        if engine.is_some_and(|engine| engine.ended().now_or_never().is_some()) {
            return Some("engine");
        }
        if self
            .optimizer
            .as_ref()
            .is_some_and(|optimizer| !optimizer.is_alive())
        {
            return Some("optimizer");
        }
        None
    }

    /// Stops taking readings in, finishes what was taken, and closes log and store.
    pub async fn close(self) {
        let drain_max = self.drain_max;
        if tokio::time::timeout(drain_max, self.drain()).await.is_err() {
            warn!(
                drain_s_max = drain_max.as_secs(),
                "not everything was drained; it is read again at the next start"
            );
        }
    }

    async fn drain(self) {
        self.http.set_stopping();
        // What it has not sent stays in the log until the next start.
        if let Some(controller) = self.controller {
            controller.close().await;
        }
        if let Some(gateway) = self.gateway {
            gateway.close().await;
        }
        if let Some(bridge) = self.bridge {
            bridge.close().await;
        }
        if let Some(ingest) = self.ingest {
            ingest.close().await;
        }
        if let Some(engine) = self.engine {
            engine.close().await;
        }
        if let Some(optimizer) = self.optimizer {
            optimizer.close().await;
        }
        self.http.close().await;
        self.parts.log.close().await;
        self.parts.store.close().await;
        info!("drained");
    }
}

/// Runs `roles` until SIGTERM or SIGINT.
pub async fn run(roles: &[Role], config: &Config) -> Result<()> {
    let clock = platform::clock::Clock::wall();
    let parts = connect::connect(config, clock).await?;
    let running = Running::start(roles, config, parts).await?;
    info!(?roles, "started");
    let failed = until_told(&running).await?;
    running.close().await;
    match failed {
        Some(role) => bail!("the {role} failed"),
        None => Ok(()),
    }
}

/// Waits for SIGTERM or SIGINT, or for a role to fail, which it names.
pub async fn until_told(running: &Running) -> Result<Option<&'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut checks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
            _ = checks.tick() => if let Some(role) = running.failed() {
                return Ok(Some(role));
            },
        }
    }
}

/// Creates topics, tables and schemas.
pub async fn init(config: &Config) -> Result<()> {
    let parts = connect::connect(config, platform::clock::Clock::wall()).await?;
    parts.log.init().await.context("create the topics")?;
    parts.store.init().await.context("create the tables")?;
    parts.log.close().await;
    parts.store.close().await;
    Ok(())
}
