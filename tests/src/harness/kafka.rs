//! One Kafka node: broker and controller in one process, on ports and in a folder of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Process, cache, free_port, host, watchdog};

const PROPERTIES: &str = include_str!("../../../deploy/stack/kafka.properties");
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A Kafka node (KRaft), empty at the start. Plain text on loopback; topics are not created by themselves.
#[derive(Debug)]
pub struct Kafka {
    port: u16,
    process: Process,
}

impl Kafka {
    /// Formats a new folder, starts, and waits until metadata is answered.
    pub async fn start() -> anyhow::Result<Self> {
        let jars = cache::folder("jars", "kafka")?.join("*");
        let dir = watchdog::folder("kafka");
        let port = free_port();
        let properties = dir.join("server.properties");
        let text = PROPERTIES
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@HOST@", &host())
            .replace("@PORT@", &port.to_string())
            .replace("@CONTROLLER_PORT@", &free_port().to_string());
        std::fs::write(&properties, text).context("write Kafka's properties")?;
        let format = java(&jars)
            .args([
                "-XX:TieredStopAtLevel=1",
                "kafka.tools.StorageTool",
                "format",
            ])
            .args(["-t", "aGVhcnRoLXRlc3RzLTAwMQ", "-c"])
            .arg(&properties)
            .output()
            .context("run java")?;
        ensure!(
            format.status.success(),
            "could not format Kafka's folder: {}",
            String::from_utf8_lossy(&format.stderr)
        );
        let mut command = java(&jars);
        command.args(["-Xms512m", "-Xmx512m", "-XX:+ExitOnOutOfMemoryError"]);
        command
            .args(["-Dlog4j2.level=WARN", "kafka.Kafka"])
            .arg(&properties)
            .current_dir(&dir);
        let process = Process::start("kafka", command, &dir.join("kafka.log"))?;
        let kafka = Self { port, process };
        kafka.ready().await?;
        Ok(kafka)
    }

    /// Address for clients, `bootstrap.servers`.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("{}:{}", host(), self.port)
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.process.terminate(STOP_LIMIT).await.map(drop)
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// After [`Kafka::stop`] or [`Kafka::kill`]: the same folder and ports.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.process.start_again()?;
        self.ready().await
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.pause()
    }

    /// After [`Kafka::pause`].
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
                let brokers = self.brokers();
                tokio::task::spawn_blocking(move || answers(&brokers))
                    .await
                    .unwrap_or(false)
            })
            .await
    }
}

fn answers(brokers: &str) -> bool {
    let client = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create::<BaseConsumer>();
    client.is_ok_and(|client| {
        client
            .fetch_metadata(None, Duration::from_secs(2))
            .is_ok_and(|metadata| !metadata.brokers().is_empty())
    })
}

fn java(jars: &PathBuf) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(jars);
    command
}
