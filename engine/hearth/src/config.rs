//! The configuration of every role: defaults, one TOML file, environment variables. Later ones win.
//!
//! `HEARTH_SECTION__KEY` sets a key; `HEARTH_SECTION__KEY_FILE` names a file that holds its value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::config::HttpConfig;
use devices::bridge::BridgeConfig;
use devices::controller::ControllerConfig;
use devices::gateway::GatewayConfig;
use devices::ingest::IngestConfig;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use hearth_log::embedded::EmbeddedLogConfig;
use hearth_log::kafka::KafkaConfig;
use hearth_log::registry::RegistryConfig;
use hearth_store::cql::CqlConfig;
use hearth_store::embedded::EmbeddedStoreConfig;
use host::config::{EngineConfig, OptimizerConfig};
use serde::{Deserialize, Serialize};

/// Every setting.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub log: LogConfig,
    pub store: StoreConfig,
    pub registry: RegistryConfig,
    pub ingest: IngestConfig,
    pub gateway: GatewayConfig,
    pub bridge: BridgeConfig,
    pub engine: EngineConfig,
    pub optimizer: OptimizerConfig,
    pub controller: ControllerConfig,
    pub http: HttpConfig,
    pub operation: OperationConfig,
}

/// Which log, and its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `kafka` or `embedded`.
    pub kind: LogKind,
    /// Folder of the embedded log.
    pub dir: PathBuf,
    pub kafka: KafkaConfig,
    pub embedded: EmbeddedLogConfig,
}

/// The implementations of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    Kafka,
    Embedded,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            kind: LogKind::Kafka,
            dir: PathBuf::from("hearth-data/log"),
            kafka: KafkaConfig::default(),
            embedded: EmbeddedLogConfig::default(),
        }
    }
}

/// Which store, and its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `cql` or `embedded`.
    pub kind: StoreKind,
    /// Folder of the embedded store.
    pub dir: PathBuf,
    pub cql: CqlConfig,
    pub embedded: EmbeddedStoreConfig,
}

/// The implementations of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    Cql,
    Embedded,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::Cql,
            dir: PathBuf::from("hearth-data/store"),
            cql: CqlConfig::default(),
            embedded: EmbeddedStoreConfig::default(),
        }
    }
}

/// How a process starts, ends and speaks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperationConfig {
    /// Longest wait for log, store and registry at the start, seconds.
    pub start_s_max: u64,
    /// Longest wait for a clean end, seconds.
    pub drain_s_max: u64,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Filter as in `RUST_LOG`, such as `info,hearth=debug`.
    pub log_filter: String,
}

/// Formats of the process's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for OperationConfig {
    fn default() -> Self {
        Self {
            start_s_max: 120,
            drain_s_max: 30,
            log_format: LogFormat::Text,
            log_filter: "info,rumqttc=warn,scylla=warn,librdkafka=warn,fjall=warn,lsm_tree=warn"
                .to_owned(),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{key}: {expected}")]
    Bad { key: String, expected: String },
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
}

fn bad(key: &str, expected: impl Into<String>) -> ConfigError {
    ConfigError::Bad {
        key: key.to_owned(),
        expected: expected.into(),
    }
}

impl Config {
    /// Reads `file`, if any, and the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_over(&Self::default(), file)
    }

    /// The same, with other defaults.
    pub fn load_over(defaults: &Self, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(defaults));
        if let Some(path) = file {
            if !path.is_file() {
                return Err(ConfigError::File {
                    path: path.to_owned(),
                    reason: "no such file".to_owned(),
                });
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        let settings = Env::prefixed("HEARTH_")
            .filter(|key| key.as_str().contains("__"))
            .filter(|key| !names_file(key.as_str()))
            .split("__");
        figment = figment.merge(settings);
        for (key, value) in values_from_files()? {
            figment = figment.merge((key.as_str(), value));
        }
        let config: Self = figment.extract().map_err(|error| {
            let key = error.path.join(".");
            let expected = error.kind.to_string();
            ConfigError::Bad {
                key: if key.is_empty() {
                    "configuration".to_owned()
                } else {
                    key
                },
                expected,
            }
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let engine = &self.engine;
        check_range(
            "engine.horizon_slots",
            u64::from(engine.horizon_slots),
            1,
            672,
        )?;
        check_range(
            "engine.grace_minutes",
            u64::from(engine.grace_minutes),
            0,
            1440,
        )?;
        check_range("engine.hold_minutes", u64::from(engine.hold_minutes), 0, 60)?;
        check_range(
            "engine.ahead_minutes",
            u64::from(engine.ahead_minutes),
            0,
            1440,
        )?;
        check_range("engine.kept_days", u64::from(engine.kept_days), 1, 36_500)?;
        check_range(
            "engine.stale_minutes",
            u64::from(engine.stale_minutes),
            1,
            525_600,
        )?;
        check_cost(
            "engine.switching_cost_per_kwh",
            engine.switching_cost_per_kwh,
        )?;
        check_cost(
            "engine.switching_cost_per_start",
            engine.switching_cost_per_start,
        )?;
        check_range(
            "engine.batch_records_max",
            engine.batch_records_max as u64,
            1,
            100_000,
        )?;
        check_range("engine.checkpoint_ms", engine.checkpoint_ms, 100, 3_600_000)?;
        check_range(
            "engine.checkpoint_records_max",
            engine.checkpoint_records_max,
            1,
            100_000_000,
        )?;
        check_range("engine.tick_ms", engine.tick_ms, 10, 60_000)?;
        check_range(
            "engine.passivate_minutes",
            engine.passivate_minutes,
            1,
            525_600,
        )?;
        check_range(
            "engine.live_homes_max",
            engine.live_homes_max as u64,
            1_000,
            100_000_000,
        )?;
        if !engine.store_slots && !engine.publish_slots {
            let expected = "true, unless engine.publish_slots is: a slot must go somewhere";
            return Err(bad("engine.store_slots", expected));
        }
        check_range("engine.threads", engine.threads as u64, 0, 256)?;
        let optimizer = &self.optimizer;
        check_range("optimizer.workers", optimizer.workers as u64, 0, 256)?;
        check_range(
            "optimizer.batch_records_max",
            optimizer.batch_records_max as u64,
            1,
            10_000,
        )?;
        check_range(
            "http.body_bytes_max",
            self.http.body_bytes_max as u64,
            1024,
            1 << 30,
        )?;
        check_range("http.wait_s_max", self.http.wait_s_max, 0, 600)?;
        check_range("http.threads", self.http.threads as u64, 0, 256)?;
        check_range(
            "operation.start_s_max",
            self.operation.start_s_max,
            1,
            3_600,
        )?;
        check_range(
            "operation.drain_s_max",
            self.operation.drain_s_max,
            1,
            3_600,
        )?;
        if self.http.listen.parse::<std::net::SocketAddr>().is_err() {
            return Err(bad(
                "http.listen",
                format!("expected ADDRESS:PORT, found {:?}", self.http.listen),
            ));
        }
        Ok(())
    }
}

fn check_range(key: &str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(bad(key, format!("expected {min} to {max}, found {value}")))
    }
}

fn check_cost(key: &str, value: f64) -> Result<(), ConfigError> {
    let max = scheduler::PRICE_MAX;
    if (0.0..=max).contains(&value) {
        Ok(())
    } else {
        Err(bad(key, format!("expected 0 to {max}, found {value}")))
    }
}

/// Settings such as `tls.ca_file` end in `_file` themselves, so the suffix alone does not tell: the variable names a
/// file with the value only where the key without the suffix is a secret.
fn names_file(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password_file", "token_file", "secret_file"]
        .iter()
        .any(|suffix| key.ends_with(suffix))
}

fn values_from_files() -> Result<BTreeMap<String, String>, ConfigError> {
    let mut values = BTreeMap::new();
    for (name, path) in std::env::vars() {
        let Some(key) = name.strip_prefix("HEARTH_") else {
            continue;
        };
        if !key.contains("__") || !names_file(key) {
            continue;
        }
        let path = PathBuf::from(path);
        let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::File {
            path: path.clone(),
            reason: format!("{name}: {error}"),
        })?;
        let key = key[..key.len() - "_FILE".len()]
            .to_ascii_lowercase()
            .replace("__", ".");
        values.insert(key, text.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(values)
}
