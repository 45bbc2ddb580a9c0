//! The structure of all settings. Each crate declares its own beside its code.

use std::path::{Component, Path, PathBuf};

use api::config::HttpConfig;
use devices::bridge::BridgeConfig;
use devices::controller::ControllerConfig;
use devices::gateway::GatewayConfig;
use devices::ingest::IngestConfig;
use hearth_log::embedded::EmbeddedLogConfig;
use hearth_log::kafka::KafkaConfig;
use hearth_log::registry::RegistryConfig;
use hearth_store::cql::CqlConfig;
use hearth_store::embedded::EmbeddedStoreConfig;
use host::config::{EngineConfig, OptimizerConfig};
use platform::settings::BadSetting;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::traces::TracesConfig;

const LOG_FILTER: &str = "info,rumqttc=warn,scylla=warn,librdkafka=warn,fjall=warn,lsm_tree=warn";

platform::settings! {
    /// Every setting.
    pub struct Config {
        #[section]
        log: LogConfig = LogConfig::default(),
        #[section]
        store: StoreConfig = StoreConfig::default(),
        #[section]
        registry: RegistryConfig = RegistryConfig::default(),
        #[section]
        ingest: IngestConfig = IngestConfig::default(),
        #[section]
        gateway: GatewayConfig = GatewayConfig::default(),
        #[section]
        bridge: BridgeConfig = BridgeConfig::default(),
        #[section]
        engine: EngineConfig = EngineConfig::default(),
        #[section]
        optimizer: OptimizerConfig = OptimizerConfig::default(),
        #[section]
        controller: ControllerConfig = ControllerConfig::default(),
        #[section]
        http: HttpConfig = HttpConfig::default(),
        #[section]
        traces: TracesConfig = TracesConfig::default(),
        #[section]
        operation: OperationConfig = OperationConfig::default(),
        ; together folders_are_apart
    }
}

fn folders_are_apart(config: &Config, _section: &str, bad: &mut Vec<BadSetting>) {
    let embedded_log = (config.log.kind == LogKind::Embedded).then_some(&config.log.dir);
    let embedded_store = (config.store.kind == StoreKind::Embedded).then_some(&config.store.dir);
    let folders = [
        ("log.dir", embedded_log),
        ("store.dir", embedded_store),
        ("ingest.spool_dir", Some(&config.ingest.spool_dir)),
    ];
    let used = folders
        .iter()
        .filter_map(|(key, dir)| Some((*key, (*dir)?)));
    let used: Vec<(&str, &PathBuf)> = used.collect();
    for (index, (key, dir)) in used.iter().enumerate() {
        let same = used[..index]
            .iter()
            .find(|(_, before)| plain(before) == plain(dir));
        if let Some((before, _)) = same {
            let expected = format!("expected another folder than {before}, found {dir:?}");
            bad.push(BadSetting::new("", key, expected));
        }
    }
}

/// The path without what changes nothing in it.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.collect()
}

platform::settings! {
    /// Which log, and its settings.
    pub struct LogConfig {
        /// Which log.
        #[expects("kafka or embedded")]
        kind: LogKind = LogKind::Kafka,
        /// Folder of the embedded log.
        dir: PathBuf = PathBuf::from("hearth-data/log"),
        #[section]
        kafka: KafkaConfig = KafkaConfig::default(),
        #[section]
        embedded: EmbeddedLogConfig = EmbeddedLogConfig::default(),
    }
}

/// The implementations of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    Kafka,
    Embedded,
}

platform::settings! {
    /// Which store, and its settings.
    pub struct StoreConfig {
        /// Which store.
        #[expects("cql or embedded")]
        kind: StoreKind = StoreKind::Cql,
        /// Folder of the embedded store.
        dir: PathBuf = PathBuf::from("hearth-data/store"),
        #[section]
        cql: CqlConfig = CqlConfig::default(),
        #[section]
        embedded: EmbeddedStoreConfig = EmbeddedStoreConfig::default(),
    }
}

/// The implementations of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    Cql,
    Embedded,
}

platform::settings! {
    /// How a process starts, stops and logs.
    pub struct OperationConfig {
        /// Longest wait for log, store and registry at start, seconds.
        #[range(1..=3_600)]
        start_s_max: u64 = 120,
        /// Longest wait for a clean shutdown, seconds.
        #[range(1..=3_600)]
        drain_s_max: u64 = 30,
        /// Format of the process's log lines.
        #[expects("text or json")]
        log_format: LogFormat = LogFormat::Text,
        /// Filter of log lines as in `RUST_LOG`, such as `info,hearth=debug`.
        #[expects("a filter such as info,hearth=debug", is_filter)]
        log_filter: String = LOG_FILTER.to_owned(),
    }
}

/// Formats of the process's log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

fn is_filter(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok()
}
