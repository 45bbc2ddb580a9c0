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
use platform::parts::Parts;
use platform::store::{Store, StoreError};
use schemas::codec::Codec;
use tracing::{info, warn};

use crate::config::{Config, LogKind, StoreKind};

/// Connects to what `config` names, waiting at most `operation.start_s_max` for each service.
pub async fn connect(config: &Config, clock: Clock) -> Result<Parts> {
    let metrics = Metrics::new();
    let limit = Duration::from_secs(config.operation.start_s_max);
    let codec = codec(config, limit).await?;
    let log = open_log(config, limit).await?;
    let store = open_store(config, &metrics, limit).await?;
    Ok(Parts {
        clock,
        metrics,
        codec,
        log,
        store,
    })
}

async fn codec(config: &Config, limit: Duration) -> Result<Codec> {
    if config.registry.url.is_empty() {
        return Ok(Codec::single_object());
    }
    let registry = Registry::new(config.registry.clone()).context("set up the schema registry")?;
    let prefix = prefix(config);
    let ids = patiently("schema registry", limit, || async {
        let ids = registry.register_all(&prefix).await;
        ids.map_err(|error| (error.is_retryable(), anyhow::Error::new(error)))
    })
    .await?;
    Ok(Codec::confluent(ids))
}

fn prefix(config: &Config) -> String {
    match config.log.kind {
        LogKind::Kafka => config.log.kafka.prefix.clone(),
        LogKind::Embedded => String::new(),
    }
}

async fn open_log(config: &Config, limit: Duration) -> Result<Arc<dyn Log>> {
    let log: Arc<dyn Log> = match config.log.kind {
        LogKind::Embedded => {
            make_dir(&config.log.dir)?;
            Arc::new(
                EmbeddedLog::open(&config.log.dir, config.log.embedded.clone())
                    .context("open the embedded log")?,
            )
        }
        LogKind::Kafka => {
            Arc::new(KafkaLog::connect(config.log.kafka.clone()).context("set up Kafka")?)
        }
    };
    patiently("log", limit, || async {
        let pong = log.ping().await;
        pong.map_err(|error: LogError| (error.is_retryable(), anyhow::Error::new(error)))
    })
    .await?;
    Ok(log)
}

async fn open_store(config: &Config, metrics: &Metrics, limit: Duration) -> Result<Arc<dyn Store>> {
    match config.store.kind {
        StoreKind::Embedded => {
            make_dir(&config.store.dir)?;
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

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))
}

/// Repeats `attempt` while its error may pass, for at most `limit`.
async fn patiently<T, F>(what: &str, limit: Duration, attempt: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<T, (bool, anyhow::Error)>>,
{
    let begun = Instant::now();
    let mut pause = Duration::from_millis(200);
    loop {
        match attempt().await {
            Ok(value) => {
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
                warn!(what, %error, "waiting");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(3));
            }
        }
    }
}
