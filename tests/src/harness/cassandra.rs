//! One Cassandra node, which speaks the same CQL as ScyllaDB.

use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use scylla::client::session_builder::SessionBuilder;

use super::{Process, cache, free_port, host, watchdog};

const YAML: &str = include_str!("../../../deploy/stack/cassandra.yaml");
const JVM_OPTIONS: &str = include_str!("../../../deploy/stack/cassandra-jvm17.options");
const LOGBACK: &str = include_str!("../../../deploy/stack/logback.xml");
const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What a node is made for.
#[derive(Debug, Clone, Copy)]
pub enum CassandraFor {
    /// Tests that share two cores, and kill the node: it is small, and a write is on disk before it is acknowledged, since
    /// there is no second node to hold it. Each of its writers waits for the disk, which limits it to about 1,400
    /// requests a second.
    Tests,
    /// Measurements: size and commit log as Cassandra chooses them by itself on this machine. A write is on disk within
    /// 10 s; where it lies on several nodes, one may die.
    Figures,
}

impl CassandraFor {
    const fn yaml(self) -> &'static str {
        match self {
            Self::Tests => {
                "commitlog_sync: batch\n\
                 commitlog_segment_size: 16MiB\n\
                 memtable_heap_space: 128MiB\n\
                 memtable_offheap_space: 128MiB\n\
                 file_cache_size: 64MiB\n\
                 key_cache_size: 16MiB"
            }
            Self::Figures => "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms",
        }
    }

    /// Megabytes of the Java heap. Cassandra itself takes a quarter of the machine, at most 8 GiB.
    fn heap_mb(self) -> anyhow::Result<u64> {
        const SMALL_MB: u64 = 1_024;
        const LARGE_MB: u64 = 8_192;
        match self {
            Self::Tests => Ok(SMALL_MB),
            Self::Figures => {
                let memory = std::fs::read_to_string("/proc/meminfo")?;
                let total = memory.split_whitespace().nth(1);
                let total_kb: u64 = total.context("the size of memory")?.parse()?;
                Ok((total_kb / 1_024 / 4).clamp(SMALL_MB, LARGE_MB))
            }
        }
    }
}

/// A Cassandra node, empty at the start. No credentials.
#[derive(Debug)]
pub struct Cassandra {
    port: u16,
    process: Process,
}

impl Cassandra {
    /// Starts in a new folder, and waits until CQL is answered.
    pub async fn start(made_for: CassandraFor) -> anyhow::Result<Self> {
        let jars = cache::folder("jars", "cassandra")?;
        let agent = std::fs::read_dir(&jars)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| {
                path.file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with("jamm"))
            })
            .context("jamm is missing from Cassandra's jars")?;
        let dir = watchdog::folder("cassandra");
        let port = free_port();
        let yaml = YAML
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@HOST@", &host())
            .replace("@STORAGE_PORT@", &free_port().to_string())
            .replace("@CQL_PORT@", &port.to_string())
            .replace("@SIZE@", made_for.yaml());
        for (name, text) in [
            ("cassandra.yaml", yaml.as_str()),
            ("jvm.options", JVM_OPTIONS),
            ("logback.xml", LOGBACK),
        ] {
            std::fs::write(dir.join(name), text).with_context(|| format!("write {name}"))?;
        }
        let dir_text = dir.display();
        let heap_mb = made_for.heap_mb()?;
        let mut command = Command::new("java");
        command
            .arg(format!("@{dir_text}/jvm.options"))
            .args([format!("-Xms{heap_mb}m"), format!("-Xmx{heap_mb}m")])
            .arg("-XX:+ExitOnOutOfMemoryError")
            .arg(format!("-javaagent:{}", agent.display()))
            .arg(format!(
                "-Dcassandra.config=file://{dir_text}/cassandra.yaml"
            ))
            .arg(format!("-Dcassandra.storagedir={dir_text}"))
            .args([
                "-Dcassandra-foreground=yes",
                "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            ])
            .arg("-Dcassandra.ring_delay_ms=0")
            .arg("-cp")
            .arg(format!("{dir_text}:{}/*", jars.display()))
            .arg("org.apache.cassandra.service.CassandraDaemon")
            .current_dir(&dir);
        let process = Process::start("cassandra", command, &dir.join("cassandra.log"))?;
        let cassandra = Self { port, process };
        cassandra.ready().await?;
        Ok(cassandra)
    }

    /// `host:port` for CQL drivers.
    #[must_use]
    pub fn contact_point(&self) -> String {
        format!("{}:{}", host(), self.port)
    }

    /// SIGTERM, and waits for the end (some seconds).
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.process.terminate(STOP_LIMIT).await.map(drop)
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// After [`Cassandra::stop`] or [`Cassandra::kill`]: the same folder and ports.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.process.start_again()?;
        self.ready().await
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.pause()
    }

    /// After [`Cassandra::pause`].
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.resume()
    }

    /// The process, for its id and log.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn ready(&self) -> anyhow::Result<()> {
        self.process
            .until(START_LIMIT, async || {
                if tokio::net::TcpStream::connect((host(), self.port))
                    .await
                    .is_err()
                {
                    return false;
                }
                SessionBuilder::new()
                    .known_node(self.contact_point())
                    .build()
                    .await
                    .is_ok()
            })
            .await
    }
}
