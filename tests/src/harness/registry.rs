//! A schema registry with Confluent's API, in memory: a restart forgets every schema.

use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::{Process, cache, free_port, host, http, watchdog};

const START_LIMIT: Duration = Duration::from_secs(120);

/// A schema registry whose compatibility rule is BACKWARD.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    process: Process,
}

impl Registry {
    /// Starts, waits until it answers, and sets BACKWARD.
    pub async fn start() -> anyhow::Result<Self> {
        let home = cache::folder("", "registry")?;
        let jar = std::fs::read_dir(&home)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "jar"))
            .context("the registry's jar is missing")?;
        let dir = watchdog::folder("registry");
        let port = free_port();
        let mut command = Command::new("java");
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-XX:+ExitOnOutOfMemoryError")
            .arg(format!("-Dquarkus.http.host={}", host()))
            .arg(format!("-Dquarkus.http.port={port}"))
            .arg("-Dquarkus.log.level=WARN")
            .arg("-jar")
            .arg(jar)
            .current_dir(&dir);
        let process = Process::start("registry", command, &dir.join("registry.log"))?;
        let registry = Self { port, process };
        registry.ready().await?;
        Ok(registry)
    }

    /// Base address of the API, with no slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{}/apis/ccompat/v7", host(), self.port)
    }

    /// SIGKILL; what was registered is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// After [`Registry::kill`]: the same port, empty.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.process.start_again()?;
        self.ready().await
    }

    /// The process, for its id and log.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let config = format!("{}/config", self.url());
        self.process
            .until(START_LIMIT, async || {
                let rule = json!({"compatibility": "BACKWARD"});
                let answer = http().put(&config).json(&rule).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            })
            .await
    }
}
