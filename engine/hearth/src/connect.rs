//! Connects a process to the log, the store and the schema registry that its configuration names.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hearth_log::embedded::EmbeddedLog;
use hearth_log::kafka::KafkaLog;
use hearth_log::registry::Registry;
use hearth_store::cql::CqlStore;
use hearth_store::embedded::EmbeddedStore;
use platform::clock::Clock;
use platform::log::{Log, LogError};
use platform::metrics::Metrics;
use platform::report::Outage;
use platform::retry::Backoff;
use platform::role_context::RoleContext;
use platform::store::{Store, StoreError};
use platform::trace::Tracer;
use schemas::codec::Codec;
use tracing::{error, info};

use crate::config::{Config, LogKind, StoreKind};
use crate::no_store::NoStore;

/// Connects to what `config` names, waiting at most `operation.start_s_max` for each service.
pub async fn connect(config: &Config, clock: Clock) -> Result<RoleContext> {
    let metrics = Metrics::new();
    let limit = Duration::from_secs(config.operation.start_s_max);
    let codec = codec(config, limit).await?;
    let log = open_log(config)?;
    patiently("log", limit, || async {
        let pong = log.ping().await;
        pong.map_err(|error: LogError| (error.is_retryable(), anyhow::Error::new(error)))
    })
    .await?;
    let store = open_store(config, &metrics, limit).await?;
    Ok(RoleContext {
        clock,
        metrics,
        codec,
        log,
        store,
        tracer: Tracer::off(),
    })
}

/// For roles that take readings in and have a spool: waits for no service, and has no store.
pub async fn connect_later(config: &Config, clock: Clock) -> Result<RoleContext> {
    Ok(RoleContext {
        clock,
        metrics: Metrics::new(),
        codec: codec_later(config).await?,
        log: open_log(config)?,
        store: Arc::new(NoStore),
        tracer: Tracer::off(),
    })
}

async fn codec(config: &Config, limit: Duration) -> Result<Codec> {
    let Some(registry) = registry(config)? else {
        return Ok(Codec::single_object());
    };
    let prefix = prefix(config);
    let ids = patiently("schema registry", limit, || async {
        let ids = registry.register_all(&prefix).await;
        ids.map_err(|error| (error.is_retryable(), anyhow::Error::new(error)))
    })
    .await?;
    Ok(Codec::confluent(ids))
}

/// Asks the registry once, and on in the background where it is away.
async fn codec_later(config: &Config) -> Result<Codec> {
    let Some(registry) = registry(config)? else {
        return Ok(Codec::single_object());
    };
    let prefix = prefix(config);
    let codec = Codec::until_registered();
    let outage = Outage::of("schema registry");
    match registry.register_all(&prefix).await {
        Ok(ids) => {
            codec.set_registered(ids);
            return Ok(codec);
        }
        Err(error) if error.is_retryable() => outage.failed(error),
        Err(error) => return Err(error).context("connect to the schema registry"),
    }
    let registered = codec.clone();
    tokio::spawn(async move {
        let mut pauses = pauses();
        loop {
            pauses.pause().await;
            match registry.register_all(&prefix).await {
                Ok(ids) => {
                    registered.set_registered(ids);
                    return outage.succeeded();
                }
                Err(error) if error.is_retryable() => outage.failed(error),
                Err(error) => return error!(%error, "register the schemas"),
            }
        }
    });
    Ok(codec)
}

fn registry(config: &Config) -> Result<Option<Registry>> {
    if config.registry.url.is_empty() {
        return Ok(None);
    }
    let registry = Registry::new(config.registry.clone());
    registry.map(Some).context("set up the schema registry")
}

fn prefix(config: &Config) -> String {
    match config.log.kind {
        LogKind::Kafka => config.log.kafka.prefix.clone(),
        LogKind::Embedded => String::new(),
    }
}

fn open_log(config: &Config) -> Result<Arc<dyn Log>> {
    Ok(match config.log.kind {
        LogKind::Embedded => {
            make_dir("log.dir", &config.log.dir)?;
            let log = EmbeddedLog::open(&config.log.dir, config.log.embedded.clone());
            Arc::new(log.context("open the embedded log")?)
        }
        LogKind::Kafka => {
            Arc::new(KafkaLog::connect(config.log.kafka.clone()).context("set up Kafka")?)
        }
    })
}

async fn open_store(config: &Config, metrics: &Metrics, limit: Duration) -> Result<Arc<dyn Store>> {
    match config.store.kind {
        StoreKind::Embedded => {
            make_dir("store.dir", &config.store.dir)?;
            let store = EmbeddedStore::open(&config.store.dir, config.store.embedded.clone())
                .context("open the embedded store")?;
            Ok(Arc::new(store.with_metrics(metrics.clone())))
        }
        StoreKind::Cql => {
            let store = patiently("store", limit, || async {
                let store = CqlStore::connect(config.store.cql.clone(), metrics.clone()).await;
                store.map_err(|error: StoreError| (error.is_retryable(), anyhow::Error::new(error)))
            })
            .await?;
            Ok(Arc::new(store))
        }
    }
}

fn make_dir(setting: &str, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {setting} {}", dir.display()))
}

fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(3))
}

/// Repeats `attempt` while its error is retryable, for at most `limit`.
async fn patiently<T, F>(what: &str, limit: Duration, attempt: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<T, (bool, anyhow::Error)>>,
{
    let begun = Instant::now();
    let mut pauses = pauses();
    let outage = Outage::of(what);
    loop {
        match attempt().await {
            Ok(value) => {
                outage.succeeded();
                info!(what, "connected");
                return Ok(value);
            }
            Err((false, error)) => return Err(error.context(format!("connect to the {what}"))),
            Err((true, error)) => {
                if begun.elapsed() >= limit {
                    bail!(
                        "{what} did not answer within {} s: {error:#}",
                        limit.as_secs()
                    );
                }
                outage.failed(error);
                pauses.pause().await;
            }
        }
    }
}
