//! Sends each command to its device over MQTT: at once, and again until the device answers. Never sends a command that has
//! expired or is superseded. Reads `commands` and `acks`; writes nothing to the log.

mod catch_up;
mod config;
mod deliveries;
mod pending;
mod publisher;
mod send;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use schemas::codec::Codec;
use schemas::topic::Topic;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::error;

use self::send::Peers;
use self::state::ControllerState;
use crate::mqtt_client::EndpointError;
use platform::clock::Clock;
use platform::lifetime::{Alive, Ended, Readiness};
use platform::log::{Consumer, Log, LogError, Start, Subscription};
use platform::metrics::Metrics;
use platform::report::Outage;
use platform::retry::Backoff;
use platform::trace::Tracer;

pub use self::config::ControllerConfig;

/// Pauses between attempts to subscribe.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The settings of an endpoint are wrong.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is no endpoint to send commands to.
    #[error("controller.endpoints is empty")]
    NoEndpoint,
    /// The log refused the subscription.
    #[error("subscribe to commands: {0}")]
    Log(#[from] LogError),
}

impl ControllerError {
    /// Returns whether starting again may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Endpoint(_) | Self::NoEndpoint => false,
            Self::Log(error) => error.is_retryable(),
        }
    }
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    ended: Ended,
    peers: Arc<Peers>,
    is_subscribed: Arc<AtomicBool>,
}

impl Controller {
    /// Starts in the background. Brokers and log may be away.
    pub async fn start(
        log: Arc<dyn Log>,
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        tracer: Tracer,
        config: ControllerConfig,
    ) -> Result<Self, ControllerError> {
        if config.endpoints.is_empty() {
            return Err(ControllerError::NoEndpoint);
        }
        let consumer = match subscribe(log.as_ref(), &config).await {
            Err(error) if !error.is_retryable() => return Err(error.into()),
            subscribed => subscribed.ok(),
        };
        let changed = Arc::new(Notify::new());
        let peers = Arc::new(Peers::start(&config.endpoints, &changed)?);
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = Alive::new();
        let is_subscribed = Arc::new(AtomicBool::new(false));
        let sent = Arc::clone(&peers);
        let running = Running {
            state: ControllerState::new(codec, clock, metrics, tracer, sent, config.clone()),
            log,
            config,
            changed,
            is_subscribed: Arc::clone(&is_subscribed),
            stopped,
        };
        let task = tokio::spawn(async move {
            let _alive = alive;
            running.run(consumer).await;
        });
        Ok(Self {
            stop,
            task,
            ended,
            peers,
            is_subscribed,
        })
    }

    /// Returns whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.ended.is_over()
    }

    /// Returns its end, which comes after [`Controller::close`], a panic, or a permanent refusal by the log.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Tells whether commands can be sent now, or why not.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let (ended, peers) = (self.ended(), Arc::clone(&self.peers));
        let is_subscribed = Arc::clone(&self.is_subscribed);
        Readiness::new(move || {
            if ended.is_over() {
                return Err("the controller has ended".to_owned());
            }
            if !is_subscribed.load(Ordering::Relaxed) {
                return Err("the controller is not subscribed to commands".to_owned());
            }
            if !peers.are_connected() {
                return Err("the controller is connected to no MQTT endpoint".to_owned());
            }
            Ok(())
        })
    }

    /// Commits settled records, leaves the group and disconnects from the brokers.
    pub async fn close(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            error!(%error, "the controller failed");
        }
        self.peers.close().await;
    }
}

async fn subscribe(log: &dyn Log, config: &ControllerConfig) -> Result<Consumer, LogError> {
    log.subscribe(Subscription {
        group: Some(config.group.clone()),
        member: config.member.clone(),
        topics: vec![Topic::Commands, Topic::Acks],
        start: Start::Earliest,
        batch_max: config.batch_max.max(1),
    })
    .await
}

/// The controller's task, which runs one subscription after the other.
struct Running {
    state: ControllerState,
    log: Arc<dyn Log>,
    config: ControllerConfig,
    changed: Arc<Notify>,
    is_subscribed: Arc<AtomicBool>,
    stopped: watch::Receiver<bool>,
}

impl Running {
    async fn run(mut self, mut subscribed: Option<Consumer>) {
        let outage = Outage::of("log (commands)");
        loop {
            let mut consumer = match subscribed.take() {
                Some(consumer) => consumer,
                None => match self.subscribe(&outage).await {
                    Some(consumer) => consumer,
                    None => return,
                },
            };
            outage.succeeded();
            self.is_subscribed.store(true, Ordering::Relaxed);
            let serving = self
                .state
                .serve(&mut consumer, &self.changed, &mut self.stopped);
            let is_over = serving.await;
            self.is_subscribed.store(false, Ordering::Relaxed);
            if is_over {
                return;
            }
            outage.failed("the subscription ended; opening another");
        }
    }

    /// Retries until it succeeds. Returns `None` if asked to stop or if the log refuses permanently.
    async fn subscribe(&mut self, outage: &Outage) -> Option<Consumer> {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            tokio::select! {
                () = backoff.pause() => {}
                _ = self.stopped.changed() => return None,
            }
            match subscribe(self.log.as_ref(), &self.config).await {
                Ok(consumer) => return Some(consumer),
                Err(error) if error.is_retryable() => outage.failed(error),
                Err(LogError::Closed) => return None,
                Err(error) => {
                    error!(%error, "subscribe to commands");
                    return None;
                }
            }
        }
    }
}
