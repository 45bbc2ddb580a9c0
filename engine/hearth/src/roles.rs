//! Starts the roles of a process, waits for a signal to stop, and stops them: the controller first, the others in the
//! order in which a reading passes them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use devices::bridge::Bridge;
use devices::controller::Controller;
use devices::gateway::Gateway;
use devices::ingest::Ingest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::config::{Config, LogKind};
use crate::connect;
use crate::traces::{Environment, Traces};
use api::routes::Api;
use api::server::{HttpServer, Needs};
use host::engine::Engine;
use host::optimizer::Optimizer;
use platform::lifetime::{Ended, Readiness};
use platform::metrics::Metrics;
use platform::role_context::RoleContext;

/// A role of a process.
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

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Bridge => "bridge",
            Self::Engine => "engine",
            Self::Optimizer => "optimizer",
            Self::Controller => "controller",
            Self::Api => "api",
        }
    }
}

/// The failure of a role that ended by itself. Only a restart helps.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the {role} failed: {reason}")]
pub struct RoleFailure {
    pub role: &'static str,
    pub reason: String,
}

/// The running roles.
#[derive(Debug)]
pub struct Running {
    pub context: RoleContext,
    pub http: HttpServer,
    pub gateway: Option<Gateway>,
    ingest: Option<Arc<Ingest>>,
    bridge: Option<Bridge>,
    engine: Option<Engine>,
    optimizer: Option<Optimizer>,
    controller: Option<Controller>,
    drain_max: Duration,
    /// The readiness of each role started so far.
    readiness: Vec<Readiness>,
    /// A task for each role, which ends with the role.
    supervised: JoinSet<()>,
    /// The first role that has ended.
    failed: watch::Sender<Option<RoleFailure>>,
    traces: Traces,
}

impl Running {
    /// Starts `roles`, those that receive readings last. Must be called inside an actix system.
    pub async fn start(roles: &[Role], config: &Config, mut context: RoleContext) -> Result<Self> {
        let wants = |role: Role| roles.contains(&role);
        let traces = start_traces(roles, config, &context.metrics)?;
        context.tracer = traces.tracer();
        let api = wants(Role::Api)
            .then(|| Api::new(context.clone(), &config.http, config.engine.settings()));
        let http = HttpServer::start(&config.http, &context, api).context("start HTTP")?;
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
            readiness: Vec::new(),
            supervised: JoinSet::new(),
            failed: watch::channel(None).0,
            context,
            traces,
        };
        let context = running.context.clone();
        if wants(Role::Engine) {
            let engine = Engine::start(context.clone(), &config.engine).await?;
            running.supervise("engine", engine.ended());
            running.engine = Some(engine);
        }
        if wants(Role::Optimizer) {
            let optimizer = Optimizer::start(context.clone(), &config.optimizer).await?;
            running.supervise("optimizer", optimizer.ended());
            running.optimizer = Some(optimizer);
        }
        if wants(Role::Gateway) || wants(Role::Bridge) {
            let ingest = Ingest::start(
                Arc::clone(&context.log),
                context.codec.clone(),
                context.clock,
                context.metrics.clone(),
                context.tracer.clone(),
                &config.ingest,
            )
            .context("start the ingest")?;
            running.supervise_task("ingest", ingest.ended());
            if wants(Role::Gateway) {
                let gateway = Gateway::start(
                    Arc::clone(&ingest),
                    context.clock,
                    context.metrics.clone(),
                    config.gateway.clone(),
                )
                .await
                .context("start the gateway")?;
                info!(address = %gateway.local_addr(), "gateway");
                running.supervise_task("gateway", gateway.ended());
                running.ready_when(gateway.readiness());
                running.gateway = Some(gateway);
            }
            if wants(Role::Bridge) {
                let bridge = Bridge::start(
                    Arc::clone(&ingest),
                    context.metrics.clone(),
                    config.bridge.clone(),
                )
                .context("start the bridge")?;
                running.supervise_task("bridge", bridge.ended());
                running.ready_when(bridge.readiness());
                running.bridge = Some(bridge);
            }
            running.ingest = Some(ingest);
        }
        if wants(Role::Controller) {
            let controller = running.start_controller(config).await?;
            running.supervise_task("controller", controller.ended());
            running.ready_when(controller.readiness());
            running.controller = Some(controller);
        }
        let metrics = running.context.metrics.clone();
        running
            .supervised
            .spawn(platform::clock_jumps::watch_jumps(metrics));
        let needs = Needs {
            // A gateway or bridge uses its spool while the log is away.
            log: wants(Role::Engine)
                || wants(Role::Optimizer)
                || wants(Role::Controller)
                || wants(Role::Api),
            store: wants(Role::Engine) || wants(Role::Api),
            roles: std::mem::take(&mut running.readiness),
        };
        running.http.set_started(needs);
        Ok(running)
    }

    async fn start_controller(&self, config: &Config) -> Result<Controller> {
        let context = &self.context;
        let mut controller = config.controller.clone();
        // The system may have picked the port of a gateway in this process.
        if let Some(gateway) = &self.gateway {
            controller.reach_gateway(gateway.local_addr());
        }
        Controller::start(
            Arc::clone(&context.log),
            context.codec.clone(),
            context.clock,
            context.metrics.clone(),
            context.tracer.clone(),
            controller,
        )
        .await
        .context("start the controller")
    }

    /// Resolves when the first role ends by itself.
    pub fn failure(&self) -> impl Future<Output = RoleFailure> + Send + use<> {
        let mut failed = self.failed.subscribe();
        async move {
            let failure = failed.wait_for(Option::is_some).await;
            let failure = failure.ok().and_then(|failure| failure.clone());
            match failure {
                Some(failure) => failure,
                // The roles are being stopped.
                None => std::future::pending().await,
            }
        }
    }

    fn supervise<E: std::fmt::Display>(
        &mut self,
        role: &'static str,
        ended: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let failed = self.failed.clone();
        self.supervised.spawn(async move {
            let reason = match ended.await {
                Ok(()) => "it has ended".to_owned(),
                Err(reason) => reason.to_string(),
            };
            failed.send_if_modified(|first| {
                let is_first = first.is_none();
                if is_first {
                    *first = Some(RoleFailure { role, reason });
                }
                is_first
            });
        });
    }

    fn ready_when(&mut self, readiness: Readiness) {
        self.readiness.push(readiness);
    }

    fn supervise_task(&mut self, role: &'static str, ended: Ended) {
        self.supervise(role, async move {
            ended.wait().await;
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// Stops taking in readings, finishes those under way, and closes log and store.
    pub async fn close(self) {
        let drain_max = self.drain_max;
        if tokio::time::timeout(drain_max, self.drain()).await.is_err() {
            warn!(
                drain_s_max = drain_max.as_secs(),
                "not everything was finished in time; the rest is read again at the next start"
            );
        }
    }

    async fn drain(mut self) {
        // From here on, roles end because they are told to.
        self.supervised.abort_all();
        self.http.set_stopping();
        // Unsent commands stay in the log until the next start.
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
        self.context.log.close().await;
        self.context.store.close().await;
        self.traces.close().await;
        info!("drained");
    }
}

fn start_traces(roles: &[Role], config: &Config, metrics: &Metrics) -> Result<Traces> {
    let service = match roles {
        [role] => format!("hearth-{}", role.as_str()),
        _ => "hearth".to_owned(),
    };
    let log_system = match config.log.kind {
        LogKind::Kafka => "kafka",
        LogKind::Embedded => "hearth",
    };
    let environment = Environment::read();
    let traces = Traces::start(&config.traces, &environment, &service, log_system, metrics);
    traces.context("start the traces")
}

/// Runs `roles` until SIGTERM or SIGINT, or until one of them fails.
pub async fn run(roles: &[Role], config: &Config) -> Result<()> {
    let clock = platform::clock::Clock::wall();
    // What has a spool starts without log and registry too.
    let spools = |role: &Role| matches!(role, Role::Gateway | Role::Bridge);
    let context = if roles.iter().all(spools) {
        connect::connect_later(config, clock).await?
    } else {
        connect::connect(config, clock).await?
    };
    let running = Running::start(roles, config, context).await?;
    info!(?roles, "started");
    let told = until_told(&running).await?;
    running.close().await;
    Ok(told?)
}

/// Waits for SIGTERM or SIGINT, or for a role to fail.
pub async fn until_told(running: &Running) -> Result<Result<(), RoleFailure>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => Ok(Ok(())),
        _ = interrupt.recv() => Ok(Ok(())),
        failure = running.failure() => {
            error!(%failure, "the process ends");
            Ok(Err(failure))
        }
    }
}

/// Creates topics, tables and schemas.
pub async fn init(config: &Config) -> Result<()> {
    let context = connect::connect(config, platform::clock::Clock::wall()).await?;
    context.log.init().await.context("create the topics")?;
    context.store.init().await.context("create the tables")?;
    context.log.close().await;
    context.store.close().await;
    Ok(())
}
