//! Settings of the CQL store.

use std::path::PathBuf;

use platform::secret::Secret;
use platform::settings::{BadSetting, is_host_and_port};
use scylla::statement::Consistency;
use serde::{Deserialize, Serialize};

use crate::retention::Retention;

/// How many replicas must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicasAsked {
    One,
    LocalOne,
    Quorum,
    LocalQuorum,
    All,
}

impl ReplicasAsked {
    /// Returns whether replicas of the local data centre are enough.
    pub(super) const fn is_local(self) -> bool {
        match self {
            Self::LocalOne | Self::LocalQuorum => true,
            Self::One | Self::Quorum | Self::All => false,
        }
    }
}

impl From<ReplicasAsked> for Consistency {
    fn from(asked: ReplicasAsked) -> Self {
        match asked {
            ReplicasAsked::One => Self::One,
            ReplicasAsked::LocalOne => Self::LocalOne,
            ReplicasAsked::Quorum => Self::Quorum,
            ReplicasAsked::LocalQuorum => Self::LocalQuorum,
            ReplicasAsked::All => Self::All,
        }
    }
}

/// Why a build without the feature refuses `ca_file`.
pub(super) const WITHOUT_TLS: &str =
    "this build has no TLS for CQL; build with the feature cql-tls";

platform::settings! {
    /// Settings of the CQL store.
    pub struct CqlConfig {
        /// Nodes to connect to first; the driver finds the rest.
        #[expects("at least one HOST:PORT", |nodes: &Vec<String>| !nodes.is_empty() && nodes.iter().all(|node| is_host_and_port(node)))]
        nodes: Vec<String> = vec!["127.0.0.1:9042".to_owned()],
        /// Keyspace of all tables.
        #[expects("letters, digits and underscores", is_keyspace)]
        keyspace: String = "hearth".to_owned(),
        /// CQL map with the replication of a keyspace that `init` creates. Use three copies or more in production.
        #[expects("a CQL map such as {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}", is_map)]
        replication: String = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}".to_owned(),
        /// Consistency of reads and writes.
        #[expects("one, local_one, quorum, local_quorum or all")]
        consistency: ReplicasAsked = ReplicasAsked::LocalQuorum,
        /// User name; empty if the cluster needs none.
        username: String = String::new(),
        /// Password of that user.
        password: Secret = Secret::default(),
        /// PEM file with the authorities that sign the nodes' certificates. Setting it turns TLS on.
        ca_file: Option<PathBuf> = None,
        /// PEM file with Hearth's own certificate, if nodes ask for one.
        cert_file: Option<PathBuf> = None,
        /// PEM file with that certificate's key.
        key_file: Option<PathBuf> = None,
        /// Longest wait for a connection, ms.
        #[range(1..=600_000)]
        connect_timeout_ms: u64 = 5_000,
        /// Longest wait for one statement, ms.
        #[range(1..=600_000)]
        request_timeout_ms: u64 = 5_000,
        /// Longest time of one write including its retries, ms.
        #[range(1..=3_600_000)]
        write_timeout_ms: u64 = 20_000,
        /// Most attempts for one statement.
        #[range(1..=1_000)]
        attempts_max: u32 = 8,
        /// Most statements under way at the same time, over all writes.
        #[range(1..=100_000)]
        concurrency_max: usize = 128,
        /// Most rows in a batch.
        #[range(1..=1_000)]
        batch_rows_max: usize = 100,
        /// Most partitions in a batch. By default Cassandra warns above 10.
        #[range(1..=1_000)]
        batch_partitions_max: usize = 10,
        /// Most bytes in a batch, approximately. By default Cassandra warns above 5 KiB and refuses above 50 KiB.
        #[range(1..=50_000_000)]
        batch_bytes_max: usize = 40_000,
        /// How long rows are kept. `init` sets this on the tables.
        #[section]
        retention: Retention = Retention::default(),
        ; together check_together
    }
}

pub(super) fn is_keyspace(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(plain)
}

fn is_map(text: &str) -> bool {
    text.starts_with('{') && text.ends_with('}')
}

fn check_together(config: &CqlConfig, section: &str, bad: &mut Vec<BadSetting>) {
    if config.cert_file.is_some() != config.key_file.is_some() {
        let expected = "expected cert_file and key_file together";
        bad.push(BadSetting::new(section, "key_file", expected));
    }
    if config.cert_file.is_some() && config.ca_file.is_none() {
        let expected = "expected a file if cert_file is set";
        bad.push(BadSetting::new(section, "ca_file", expected));
    }
    if config.ca_file.is_some() && !cfg!(feature = "cql-tls") {
        bad.push(BadSetting::new(section, "ca_file", WITHOUT_TLS));
    }
}
