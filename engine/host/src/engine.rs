//! The engine: joins its group, reads the co-partitioned topics, and has a shard for each partition that is its own.
//! Partition p of every topic belongs to shard p.

use std::time::Duration;

use actix::Arbiter;
use anyhow::{Context, Result};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use household::household::Household;
use platform::log::{Start, Subscription};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{error, warn};

use crate::config::EngineConfig;
use crate::lag::LagBoard;
use crate::router::{Router, RouterError};
use crate::setup::Setup;
use crate::tariffs;
use platform::lifetime::Readiness;
use platform::role_context::RoleContext;
use schemas::snapshot::SHARD_TOPICS;

/// Longest wait for the tariffs at the start.
const TARIFFS_MAX: Duration = Duration::from_secs(30);

/// Why an engine has ended, if nobody told it to. Only a restart mends it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Router(#[from] RouterError),
    #[error("the router panicked: {0}")]
    RouterPanicked(String),
    #[error("the tariffs are no longer followed")]
    TariffsEnded,
}

/// How a task of the engine ends, for everybody who waits for it.
type Ended = Shared<BoxFuture<'static, Result<(), EngineError>>>;

/// A running engine.
pub struct Engine {
    stop: watch::Sender<bool>,
    router: Ended,
    follower: Ended,
    following: AbortHandle,
    arbiters: Vec<Arbiter>,
    taking_over: watch::Receiver<usize>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Joins the group and starts. Must be called inside an actix system.
    pub async fn start(context: RoleContext, config: &EngineConfig) -> Result<Self> {
        let (tariffs, follower) = tariffs::follow(context.clone(), TARIFFS_MAX)
            .await
            .context("read the tariffs")?;
        let subscription = Subscription {
            group: Some(config.group.clone()),
            member: (!config.member.is_empty()).then(|| config.member.clone()),
            topics: SHARD_TOPICS.to_vec(),
            start: Start::Earliest,
            batch_max: config.batch_records_max,
        };
        // Whoever joins is given partitions that stand still until it works on them.
        if let Err(reason) = context.store.ping().await {
            warn!(%reason, "the store does not answer yet");
        }
        let consumer = context
            .log
            .subscribe(subscription)
            .await
            .context("join the engine's group")?;
        if config.rows_wait {
            warn!(
                "engine.rows_wait is a setting no longer and is ignored: rows come together by themselves while the store is behind"
            );
        }
        let lag = LagBoard::new(context.metrics.clone());
        let setup = Setup {
            settings: config.settings(),
            tariffs,
            control: consumer.control.clone(),
            lag,
            checkpoint_every: Duration::from_millis(config.checkpoint_ms),
            checkpoint_records_max: config.checkpoint_records_max,
            passivate_after: Duration::from_secs(config.passivate_minutes * 60),
            live_homes_max: config.live_homes_max,
            store_slots: config.store_slots,
            publish_slots: config.publish_slots,
            handle: Household::handle,
            context,
        };
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let arbiters: Vec<Arbiter> = (0..threads).map(|_| Arbiter::new()).collect();
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        let router = Router::new(setup, handles, Duration::from_millis(config.tick_ms));
        let taking_over = router.taking_over();
        let (stop, stopped) = watch::channel(false);
        let router = tokio::spawn(router.run(consumer, stopped));
        Ok(Self {
            stop,
            following: follower.abort_handle(),
            router: router_ended(router).boxed().shared(),
            follower: follower
                .map(|_| Err(EngineError::TariffsEnded))
                .boxed()
                .shared(),
            arbiters,
            taking_over,
        })
    }

    /// Finishes what is in memory, commits, and leaves the group.
    pub async fn close(self) {
        self.stop.send_replace(true);
        if let Err(reason) = self.router.await {
            error!(%reason, "the engine failed");
        }
        self.following.abort();
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }

    /// Tells whether it works on every partition that it was given. While homes come back, it does not.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let taking_over = self.taking_over.clone();
        Readiness::new(move || match *taking_over.borrow() {
            0 => Ok(()),
            left => Err(format!("{left} partitions are still being taken over")),
        })
    }

    /// Resolves when the engine has ended; with an error after a failure that only a restart mends.
    pub fn ended(&self) -> impl Future<Output = Result<(), EngineError>> + Send + use<> {
        let (router, follower) = (self.router.clone(), self.follower.clone());
        futures::future::select(router, follower).map(|ended| ended.factor_first().0)
    }
}

async fn router_ended(router: JoinHandle<Result<(), RouterError>>) -> Result<(), EngineError> {
    match router.await {
        Ok(ended) => ended.map_err(EngineError::Router),
        Err(panicked) => Err(EngineError::RouterPanicked(panicked.to_string())),
    }
}
