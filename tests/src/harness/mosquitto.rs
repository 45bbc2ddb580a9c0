//! A Mosquitto broker: TLS only, each home with its own user and topics, and one user for the cloud's side.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Ca, HOMES, MqttAccess, Process, free_port, host, watchdog};

const CONF: &str = include_str!("../../../deploy/stack/mosquitto.conf");
const ACL: &str = include_str!("../../../deploy/stack/mosquitto.acl");
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The user that may read every home's topics and write commands and status.
pub const BRIDGE_USER: &str = "hearth-bridge";

/// A broker with TLS. Its sessions survive [`Mosquitto::stop`], not [`Mosquitto::kill`].
#[derive(Debug)]
pub struct Mosquitto {
    port: u16,
    ca: Ca,
    process: Process,
}

impl Mosquitto {
    /// Starts with a new authority, new users and no messages.
    pub async fn start() -> anyhow::Result<Self> {
        let dir = watchdog::folder("mosquitto");
        let port = free_port();
        let ca = Ca::new()?;
        let cert = ca.issue("mosquitto")?;
        let conf = CONF
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@HOST@", &host())
            .replace("@PORT@", &port.to_string())
            .replace("@CERT@", &cert.cert.to_string_lossy())
            .replace("@KEY@", &cert.key.to_string_lossy());
        std::fs::write(dir.join("mosquitto.conf"), conf).context("write mosquitto.conf")?;
        std::fs::write(dir.join("acl"), ACL).context("write the ACL")?;
        write_passwords(&dir.join("passwords"))?;
        let mut command = Command::new(mosquitto());
        command.arg("-c").arg(dir.join("mosquitto.conf"));
        let process = Process::start("mosquitto", command, &dir.join("mosquitto.log"))?;
        let mosquitto = Self { port, ca, process };
        mosquitto.ready().await?;
        Ok(mosquitto)
    }

    /// The TLS port on [`host`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority that signed the broker's certificate.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Returns the access of one home's device, 1 to [`HOMES`].
    #[must_use]
    pub fn home(&self, household: u64) -> MqttAccess {
        assert!(
            (1..=HOMES).contains(&household),
            "only homes 1 to {HOMES} have a user"
        );
        self.access(&household.to_string())
    }

    /// Returns the access of the cloud's side.
    #[must_use]
    pub fn bridge(&self) -> MqttAccess {
        self.access(BRIDGE_USER)
    }

    fn access(&self, user: &str) -> MqttAccess {
        MqttAccess {
            host: host(),
            port: self.port,
            ca: Some(self.ca.path()),
            credentials: Some((user.to_owned(), password(user))),
            version: 4,
        }
    }

    /// SIGTERM: sessions and what is queued for them are saved.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.process.terminate(STOP_LIMIT).await.map(drop)
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// After [`Mosquitto::stop`] or [`Mosquitto::kill`]: the same folder and port.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.process.start_again()?;
        self.ready().await
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.pause()
    }

    /// After [`Mosquitto::pause`].
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
                tokio::net::TcpStream::connect((host(), self.port))
                    .await
                    .is_ok()
            })
            .await
    }
}

fn password(user: &str) -> String {
    format!("secret-of-{user}")
}

fn write_passwords(file: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    for user in (1..=HOMES)
        .map(|home| home.to_string())
        .chain([BRIDGE_USER.to_owned()])
    {
        writeln!(text, "{user}:{}", password(&user)).context("write to a string")?;
    }
    std::fs::write(file, text).context("write passwords")?;
    let hashed = Command::new("mosquitto_passwd")
        .arg("-U")
        .arg(file)
        .output();
    let hashed = hashed.context("run mosquitto_passwd")?;
    ensure!(
        hashed.status.success(),
        "mosquitto_passwd failed: {}",
        String::from_utf8_lossy(&hashed.stderr)
    );
    Ok(())
}

/// Finds the program, which Debian installs outside a normal user's PATH.
fn mosquitto() -> PathBuf {
    let sbin = PathBuf::from("/usr/sbin/mosquitto");
    if sbin.exists() {
        sbin
    } else {
        PathBuf::from("mosquitto")
    }
}
