//! Outside MQTT clients: Debian's `mosquitto_pub` and `mosquitto_sub` as child processes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{unique, wait_for, watchdog};

const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(20);
const PUBLISH_LIMIT: Duration = Duration::from_secs(300);
const LISTEN_LIMIT: Duration = Duration::from_secs(3_600);

/// How a client reaches a broker and who it is.
#[derive(Debug, Clone)]
pub struct MqttAccess {
    pub host: String,
    pub port: u16,
    /// Trusted authority (PEM); none for plain TCP.
    pub ca: Option<PathBuf>,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// 4 for MQTT 3.1.1, 5 for MQTT 5.
    pub version: u8,
}

impl MqttAccess {
    /// Plain TCP without credentials on 127.0.0.1.
    #[must_use]
    pub fn plain(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            ca: None,
            credentials: None,
            version: 4,
        }
    }

    /// The same with MQTT 5.
    #[must_use]
    pub fn v5(mut self) -> Self {
        self.version = 5;
        self
    }

    fn client(&self, program: &str, limit: Duration) -> Command {
        let version = if self.version == 5 {
            "mqttv5"
        } else {
            "mqttv311"
        };
        let mut command = Command::new("timeout");
        // Line buffered although its output is a pipe; with a time limit, since it retries for ever to reach a broker.
        command
            .arg(limit.as_secs().to_string())
            .args(["stdbuf", "-oL", program]);
        command.args([
            "-h",
            &self.host,
            "-p",
            &self.port.to_string(),
            "-V",
            version,
            "-q",
            "1",
        ]);
        if let Some(ca) = &self.ca {
            command.arg("--cafile").arg(ca);
        }
        if let Some((user, password)) = &self.credentials {
            command.args(["-u", user, "-P", password]);
        }
        command.process_group(0);
        command
    }
}

/// Publishes each line as one message, QoS 1; returns when the broker has acknowledged all, errs after 5 minutes.
/// A broker also acknowledges what its ACL forbids, so check what arrives.
pub async fn mosquitto_pub(
    access: &MqttAccess,
    topic: &str,
    lines: &[String],
) -> anyhow::Result<()> {
    ensure!(
        lines.iter().all(|line| !line.contains('\n')),
        "a payload here is one line"
    );
    let mut text = lines.join("\n");
    text.push('\n');
    publish(access, topic, "-l", text.into_bytes(), &[]).await
}

/// Does the same with a property of MQTT 5, as in `-D`.
pub async fn mosquitto_pub_with(
    access: &MqttAccess,
    topic: &str,
    lines: &[String],
    property: &[&str],
) -> anyhow::Result<()> {
    let text = lines.join("\n") + "\n";
    publish(access, topic, "-l", text.into_bytes(), property).await
}

/// Publishes the bytes as one message, QoS 1.
pub async fn mosquitto_pub_whole(
    access: &MqttAccess,
    topic: &str,
    payload: &[u8],
) -> anyhow::Result<()> {
    publish(access, topic, "-s", payload.to_vec(), &[]).await
}

async fn publish(
    access: &MqttAccess,
    topic: &str,
    mode: &str,
    input: Vec<u8>,
    property: &[&str],
) -> anyhow::Result<()> {
    let mut command = access.client("mosquitto_pub", PUBLISH_LIMIT);
    command.args(["-t", topic, mode]);
    if !property.is_empty() {
        command.arg("-D").args(property);
    }
    tokio::task::spawn_blocking(move || {
        let mut client = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start mosquitto_pub")?;
        watchdog::watch(client.id());
        let mut stdin = client.stdin.take().context("stdin is piped")?;
        // A refused client closes its input; its exit code says why.
        let written = stdin.write_all(&input);
        drop(stdin);
        let pid = client.id();
        let output = client.wait_with_output()?;
        watchdog::forget(pid);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "mosquitto_pub: {}: {errors}",
            output.status
        );
        written.context("write to mosquitto_pub")
    })
    .await?
}

/// One message as a subscriber got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// User properties of MQTT 5 as `name:value`, separated by blanks.
    pub properties: String,
}

/// A running `mosquitto_sub`, QoS 1, that keeps what it gets in memory. It ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    client: Child,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    subscribed: bool,
    messages: Vec<Message>,
    other: Vec<String>,
}

impl Subscription {
    /// Subscribes to the filters; returns when the broker has answered.
    pub async fn start(access: &MqttAccess, filters: &[&str]) -> anyhow::Result<Self> {
        let mut command = access.client("mosquitto_sub", LISTEN_LIMIT);
        command.args(["-i", &unique("sub"), "-d", "-F", "message %t %x %P"]);
        for filter in filters {
            command.args(["-t", filter]);
        }
        let mut client = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start mosquitto_sub")?;
        watchdog::watch(client.id());
        let lines = BufReader::new(client.stdout.take().context("stdout is piped")?).lines();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let written = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take_line(line);
            }
        });
        let subscription = Self { client, seen };
        wait_for(
            "the broker to answer a subscription",
            SUBSCRIBE_LIMIT,
            async || {
                let seen = subscription
                    .seen
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                ensure!(seen.subscribed, "mosquitto_sub said {:?}", seen.other);
                Ok(())
            },
        )
        .await;
        Ok(subscription)
    }

    /// Every message up to now, in order of arrival.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .messages
            .clone()
    }

    /// Waits until there are `count` messages or more; panics with those it got when `limit` passes.
    #[track_caller]
    pub fn wait_messages(
        &self,
        count: usize,
        limit: Duration,
    ) -> impl Future<Output = Vec<Message>> {
        wait_for("MQTT messages", limit, async move || {
            let messages = self.messages();
            ensure!(
                messages.len() >= count,
                "{} of {count} are there",
                messages.len()
            );
            Ok(messages)
        })
    }
}

impl Seen {
    fn take_line(&mut self, line: String) {
        let message = line.strip_prefix("message ").and_then(|rest| {
            let mut parts = rest.splitn(3, ' ');
            Some((
                parts.next()?,
                parts.next()?,
                parts.next().unwrap_or_default(),
            ))
        });
        if let Some((topic, hex, properties)) = message {
            let payload = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| {
                    let text = std::str::from_utf8(pair).expect("hex is ASCII");
                    u8::from_str_radix(text, 16).expect("mosquitto_sub writes hex")
                })
                .collect();
            self.messages.push(Message {
                topic: topic.to_owned(),
                payload,
                properties: properties.to_owned(),
            });
        } else if line.starts_with("Subscribed ") {
            self.subscribed = true;
        } else if self.other.len() < 50 {
            self.other.push(line);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // `timeout` passes SIGTERM on, but cannot pass on SIGKILL.
        let pid = i32::try_from(self.client.id()).expect("process ids fit i32");
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.client.wait();
        watchdog::forget(self.client.id());
    }
}
