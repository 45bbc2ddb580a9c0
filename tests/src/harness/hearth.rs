//! The `hearth` binary as a child process, and its configuration for a stack.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::{BRIDGE_USER, Process, Stack, free_port, http, unique, watchdog};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// A running `hearth`. Killed when dropped; the end of its log is printed when the test panics.
#[derive(Debug)]
pub struct HearthProcess {
    process: Process,
}

impl HearthProcess {
    /// Starts `hearth ARGS` with these environment variables besides the test's own.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_binary(&binary()?, args, env)
    }

    /// The same with another build of `hearth`.
    pub fn start_binary(
        binary: &Path,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let role = args.first().unwrap_or(&"hearth");
        let name = unique(role);
        let log = watchdog::folder(&name).join("hearth.log");
        let process = Process::start(&name, command(binary, args, env), &log)?;
        Ok(Self { process })
    }

    /// Starts one role with a configuration file, on a free port for HTTP whatever the file says, and waits until it is
    /// ready. The process and its port.
    pub async fn start_role(config: &Path, role: &str) -> anyhow::Result<(Self, u16)> {
        Self::start_role_of(&binary()?, config, role).await
    }

    /// The same with another build of `hearth`.
    pub async fn start_role_of(
        binary: &Path,
        config: &Path,
        role: &str,
    ) -> anyhow::Result<(Self, u16)> {
        let config = config.to_str().context("a path of UTF-8")?;
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let env = [("HEARTH_HTTP__LISTEN", listen.as_str())];
        let process = Self::start_binary(binary, &["--config", config, role], &env)?;
        process.wait_ready(port).await?;
        Ok((process, port))
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for the end; an error when that takes longer than `limit`.
    pub async fn terminate(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.process.terminate(limit).await
    }

    /// The same command again, after it has ended; its log goes on in the same file.
    pub fn start_again(&self) -> anyhow::Result<()> {
        self.process.start_again()
    }

    /// Waits until `/readyz` answers 200.
    pub async fn wait_ready(&self, http_port: u16) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{http_port}/readyz");
        self.process
            .until(READY_LIMIT, async || {
                http()
                    .get(&url)
                    .send()
                    .await
                    .is_ok_and(|answer| answer.status().is_success())
            })
            .await
    }

    /// The process, for its id, log and signals.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl Drop for HearthProcess {
    #[expect(clippy::print_stderr, reason = "the log explains why the test failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.process.log_tail());
        }
    }
}

/// Runs `hearth ARGS` to its end: `init`, `config`, `solve`.
pub async fn hearth_output(args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Output> {
    let mut command = command(&binary()?, args, env);
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    output.context("run hearth")
}

/// Runs `hearth init` with a configuration file: topics and tables.
pub async fn hearth_init(config: &Path) -> anyhow::Result<()> {
    let config = config.to_str().context("a path of UTF-8")?;
    let output = hearth_output(&["--config", config, "init"], &[]).await?;
    ensure!(
        output.status.success(),
        "hearth init: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn command(binary: &Path, args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary);
    command.args(args).envs(env.iter().copied());
    command
}

/// The build of today: `HEARTH_BIN`, or the binary beside this executable (a test's own is one folder deeper).
///
/// # Errors
/// When it was not built.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("HEARTH_BIN") {
        return Ok(binary.into());
    }
    let here = std::env::current_exe()?;
    let found = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("hearth"));
    let found = found.filter(|path| path.is_file()).last();
    found.context("there is no hearth binary beside the tests: run cargo build --workspace --bins")
}

/// Writes a configuration file for every role against the stack, with topics under `prefix` and tables in `keyspace`.
/// `extra` is TOML that is merged over it.
pub fn hearth_config(
    stack: &Stack,
    prefix: &str,
    keyspace: &str,
    extra: &str,
) -> anyhow::Result<PathBuf> {
    let bridge = stack.mosquitto.bridge();
    let (_, password) = bridge.credentials.context("the bridge has credentials")?;
    let endpoint = format!(
        "host = \"{}\"\nport = {}\nca_file = \"{}\"\nusername = \"{BRIDGE_USER}\"\npassword = \"{password}\"",
        bridge.host,
        bridge.port,
        stack.mosquitto.ca().path().display(),
    );
    let base = format!(
        r#"
        [log]
        kind = "kafka"
        [log.kafka]
        brokers = "{brokers}"
        prefix = "{prefix}"
        [store]
        kind = "cql"
        [store.cql]
        nodes = ["{contact_point}"]
        keyspace = "{keyspace}"
        [registry]
        url = "{registry}"
        [ingest]
        spool_dir = "{spool}"
        [bridge]
        group = "{bridge_name}"
        [bridge.mqtt]
        client_id = "{bridge_name}"
        {endpoint}
        [[controller.endpoints]]
        {endpoint}
        "#,
        brokers = stack.kafka.brokers(),
        contact_point = stack.cassandra.contact_point(),
        registry = stack.registry.url(),
        // On one broker each test reads with a session and a share of its own.
        bridge_name = unique("bridge"),
        spool = watchdog::folder("spool").display(),
    );
    let mut config: toml::Table = base.parse().context("the harness's own configuration")?;
    merge(
        &mut config,
        extra.parse().context("the test's configuration")?,
    )?;
    let file = watchdog::folder("config").join("hearth.toml");
    std::fs::write(&file, toml::to_string(&config)?).context("write the configuration")?;
    Ok(file)
}

fn merge(base: &mut toml::Table, over: toml::Table) -> anyhow::Result<()> {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new)?,
            (Some(toml::Value::Table(_)), _) => bail!("{key} is a table"),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
    Ok(())
}
