//! The way in from a broker that is already there: a shared subscription to everything that homes send. A message is
//! acknowledged to the broker only once the ingest has it in the log or the spool; until then the broker keeps it.
//!
//! The connection is always read. While neither log nor spool takes anything, messages wait here up to the receive
//! maximum, and the broker keeps the rest.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::ingest::{InTurn, Ingest};
use crate::metrics::Metrics;
use crate::mqtt_client::{EndpointError, MqttEndpoint, MqttProtocol};

mod link;

use link::{Acknowledger, Arrival, Link, Message};

/// Messages between the reading task and the rest: as many as a broker can have unacknowledged.
const MESSAGES_MAX: usize = 65_535;
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long a stop waits for messages to become durable; the broker keeps the others.
const WIND_UP_MAX: Duration = Duration::from_secs(10);
/// Longer than any outage: the broker keeps what is not acknowledged, so nothing is given up.
const PATIENCE: Duration = Duration::from_secs(365 * 86_400);

/// Settings of the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeConfig {
    /// The broker. The client id names the broker's session, so it must be this process's own and the same after a
    /// restart; where it is empty it is made from the host's name.
    pub mqtt: MqttEndpoint,
    /// Bridges of one group share the messages (`$share/{group}/…`). Empty for a subscription of its own, as MQTT 3.1.1
    /// brokers without shared subscriptions need it: then one bridge only. Mosquitto (2.0) forgets shared subscriptions
    /// when it restarts, and so loses what is published before the bridge is back; with an empty group it does not.
    pub group: String,
    /// Most messages that are on their way into the log, 1 to 65535. With MQTT 3.1.1 the broker's own limit holds.
    pub receive_max: u16,
    /// How long the broker keeps the session of a bridge that is away, seconds.
    pub session_s: u32,
    /// Largest packet that is read, bytes. A payload above 256 KiB becomes a dead letter; a broker that sends packets
    /// larger than this cannot be read, so it is far above.
    pub packet_bytes_max: u32,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            mqtt: MqttEndpoint::default(),
            group: "hearth".to_owned(),
            receive_max: 1_000,
            session_s: 86_400,
            packet_bytes_max: 16 << 20,
        }
    }
}

/// Why a bridge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A setting is out of its range.
    #[error("bridge.{key}: {expected}")]
    Config {
        key: &'static str,
        expected: &'static str,
    },
    #[error("the bridge's broker")]
    Endpoint(#[from] EndpointError),
}

impl BridgeError {
    /// Never: the configuration must change first. A broker that is away is waited for.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Config { .. } | Self::Endpoint(_) => false,
        }
    }
}

/// A running bridge.
#[derive(Debug)]
pub struct Bridge {
    stop: watch::Sender<bool>,
    reading: JoinHandle<()>,
    taking_in: JoinHandle<()>,
    connected: watch::Receiver<bool>,
}

impl Bridge {
    /// Connects, now or when the broker is there, and takes in what comes.
    pub fn start(
        ingest: Arc<Ingest>,
        metrics: Metrics,
        config: BridgeConfig,
    ) -> Result<Self, BridgeError> {
        check(&config)?;
        let link = Link::new(config)?;
        let acknowledger = link.acknowledger();
        let connection = Arc::new(Mutex::new(Connection::default()));
        let (messages, inbox) = mpsc::channel(MESSAGES_MAX);
        let connected = watch::Sender::new(false);
        let seen = connected.subscribe();
        let stop = watch::Sender::new(false);
        let reader = Reader {
            link,
            connection: Arc::clone(&connection),
            connected,
            messages,
        };
        let intake = Intake {
            metrics,
            acknowledger,
            connection,
            inbox,
            accepting: InTurn::new(ingest, PATIENCE),
        };
        Ok(Self {
            reading: tokio::spawn(reader.run()),
            taking_in: tokio::spawn(intake.run(stop.subscribe())),
            stop,
            connected: seen,
        })
    }

    /// Whether the broker is connected and has been asked for messages.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Takes no more messages, acknowledges those that are on their way, and disconnects. The broker keeps the session.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = self.taking_in.await {
            warn!(%error, "the bridge ended badly");
        }
        // The intake asked for the disconnection; the reader ends with it.
        if timeout(Duration::from_secs(2), &mut self.reading)
            .await
            .is_err()
        {
            self.reading.abort();
        }
    }
}

fn check(config: &BridgeConfig) -> Result<(), BridgeError> {
    let wrong = |key, expected| Err(BridgeError::Config { key, expected });
    if config.receive_max == 0 {
        return wrong("receive_max", "1 to 65535");
    }
    if config.packet_bytes_max < 320 * 1_024 {
        return wrong("packet_bytes_max", "327680 or more");
    }
    if config.group.contains(['/', '+', '#']) {
        return wrong("group", "a name without /, + and #");
    }
    if config.mqtt.protocol == MqttProtocol::V5 && config.session_s == 0 {
        return wrong("session_s", "1 or more");
    }
    Ok(())
}

/// Which connection is there, so that nothing is acknowledged on another than it came on: packet ids are used again.
#[derive(Debug, Default)]
struct Connection {
    number: u64,
    is_up: bool,
}

/// Reads the connection, always.
struct Reader {
    link: Link,
    connection: Arc<Mutex<Connection>>,
    connected: watch::Sender<bool>,
    messages: mpsc::Sender<(u64, Instant, Message)>,
}

impl Reader {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.link.next().await {
                Ok(Arrival::Connected { session_present }) => {
                    info!(session_present, "bridge connected");
                    self.set_up(true);
                    backoff = BACKOFF_MIN;
                    if let Err(error) = self.link.subscribe() {
                        warn!(%error, "the bridge's subscription was not sent");
                    }
                }
                Ok(Arrival::Subscribed) => {
                    self.connected.send_replace(true);
                }
                Ok(Arrival::NotSubscribed(detail)) => {
                    warn!(detail, "the broker refuses the bridge's subscription");
                }
                Ok(Arrival::Message(message)) => {
                    let number = self.connection.lock().expect("no panic while held").number;
                    let message = (number, Instant::now(), message);
                    if self.messages.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(Arrival::Other) => {}
                Err(error) => {
                    self.set_up(false);
                    // Acknowledgements that were on their way belong to the connection that is gone.
                    self.link.forget();
                    if self.messages.is_closed() {
                        return;
                    }
                    warn!(error, "bridge disconnected");
                    sleep(backoff).await;
                    backoff = BACKOFF_MAX.min(backoff * 2);
                }
            }
        }
    }

    fn set_up(&self, is_up: bool) {
        let mut connection = self.connection.lock().expect("no panic while held");
        connection.number += 1;
        connection.is_up = is_up;
        drop(connection);
        if !is_up {
            self.connected.send_replace(false);
        }
    }
}

/// Brings messages into the ingest and acknowledges them.
struct Intake {
    metrics: Metrics,
    acknowledger: Acknowledger,
    connection: Arc<Mutex<Connection>>,
    inbox: mpsc::Receiver<(u64, Instant, Message)>,
    accepting: InTurn<(u64, Instant, link::Receipt)>,
}

impl Intake {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut is_stopping = false;
        let wind_up = sleep(Duration::MAX);
        tokio::pin!(wind_up);
        while !is_stopping || !self.accepting.is_empty() {
            tokio::select! {
                Some(((number, since, receipt), accepted)) = self.accepting.next() => {
                    if accepted.is_ok() {
                        self.acknowledge(number, since, receipt);
                    }
                }
                message = self.inbox.recv(), if !is_stopping => {
                    let Some((number, since, message)) = message else {
                        break;
                    };
                    let tag = (number, since, message.receipt);
                    self.accepting.push(message.topic, message.payload, tag);
                }
                () = stopped(&mut stop), if !is_stopping => {
                    is_stopping = true;
                    wind_up.as_mut().reset(tokio::time::Instant::now() + WIND_UP_MAX);
                }
                () = &mut wind_up, if is_stopping => break,
            }
        }
        self.acknowledger.disconnect();
    }

    fn acknowledge(&self, number: u64, since: Instant, receipt: link::Receipt) {
        // Held so that the connection does not change in between.
        let connection = self.connection.lock().expect("no panic while held");
        if connection.number == number && connection.is_up {
            self.acknowledger.acknowledge(receipt);
            drop(connection);
            let seconds = &self.metrics.publish_to_ack_seconds;
            seconds
                .with_label_values(&["bridge"])
                .observe(since.elapsed().as_secs_f64());
        }
    }
}

/// Resolves when the bridge stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A bridge that was dropped has stopped too.
    let _ = stop.wait_for(|stopped| *stopped).await;
}
