//! Reads from an existing broker, through a shared subscription to everything that homes send. A message is acknowledged
//! to the broker only once the ingest has it in the log or the spool; until then the broker keeps it.
//!
//! The connection is always read. While neither log nor spool accepts anything, messages wait here up to the receive
//! maximum, and the broker keeps the rest.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::future::BoxFuture;
use prometheus::Histogram;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{error, warn};

use crate::ingest::{InTurn, Ingest};
use crate::mqtt_client::EndpointError;
use platform::lifetime::{Alive, Ended, Readiness, stopped};
use platform::metrics::Metrics;
use platform::report::Outage;
use platform::retry::Backoff;
use platform::settings::{BadSetting, Settings as _};

mod config;
mod link;
mod packets;
mod settings;

pub use config::BridgeConfig;
use link::Link;
use packets::{Arrival, Message, Receipt};
use settings::Settings;

/// Most messages on their way into the log, and their bytes. Only messages with QoS 0 can exceed this, since no broker
/// limits their number; the rest of them wait in the connection.
const MESSAGES_MAX: usize = 65_535;
const MESSAGES_BYTES_MAX: usize = 64 << 20;
/// Pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long `close` waits for messages to become durable. The broker keeps the others.
const WIND_UP_MAX: Duration = Duration::from_secs(10);
/// Longer than any outage. The broker keeps unacknowledged messages, so none is given up.
const PATIENCE: Duration = Duration::from_secs(365 * 86_400);

/// Why a bridge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The value of a setting is not allowed.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    #[error("the bridge's broker")]
    Endpoint(#[from] EndpointError),
    #[error("start the bridge's thread")]
    Thread(#[source] std::io::Error),
}

impl BridgeError {
    /// Returns whether the same start may succeed later. A broker that is away is no error: the bridge waits for it.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Setting(_) | Self::Endpoint(_) => false,
            Self::Thread(_) => true,
        }
    }
}

/// A running bridge.
#[derive(Debug)]
pub struct Bridge {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    connected: watch::Receiver<bool>,
    ended: Ended,
    ingest: Arc<Ingest>,
}

impl Bridge {
    /// Connects, now or when the broker is available, and takes in its messages.
    #[expect(clippy::needless_pass_by_value, reason = "as every role takes them")]
    pub fn start(
        ingest: Arc<Ingest>,
        metrics: Metrics,
        config: BridgeConfig,
    ) -> Result<Self, BridgeError> {
        config.checked("bridge")?;
        let settings = Arc::new(Settings::new(config)?);
        let connected = watch::Sender::new(false);
        let seen = connected.subscribe();
        let stop = watch::Sender::new(false);
        let intake = Intake {
            publish_to_ack_seconds: metrics
                .publish_to_ack_seconds
                .with_label_values(&["bridge"]),
            connection: BrokerConnection::Down(Box::pin(Link::connect(Arc::clone(&settings)))),
            outage: Outage::of(format!(
                "MQTT at {}:{}",
                settings.mqtt.host, settings.mqtt.port
            )),
            settings,
            connections: 0,
            connected,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            accepting: ingest.in_turn(PATIENCE),
            accepting_bytes: 0,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BridgeError::Thread)?;
        let stopping = stop.subscribe();
        let (alive, ended) = Alive::new();
        let thread = std::thread::Builder::new()
            .name("bridge".to_owned())
            .spawn(move || {
                let _alive = alive;
                runtime.block_on(intake.run(stopping));
            })
            .map_err(BridgeError::Thread)?;
        Ok(Self {
            thread,
            stop,
            connected: seen,
            ended,
            ingest,
        })
    }

    /// Returns whether the broker is connected and the bridge has subscribed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Returns its end, which comes after [`Bridge::close`] or after a panic of its thread.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Tells whether messages can be taken in now, or why not. Log and store may be away while the spool has room.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let (ended, ingest) = (self.ended(), Arc::clone(&self.ingest));
        let connected = self.connected.clone();
        Readiness::new(move || {
            if ended.is_over() {
                return Err("the bridge has ended".to_owned());
            }
            if !*connected.borrow() {
                return Err("the bridge is not connected to its broker".to_owned());
            }
            ingest.readiness()
        })
    }

    /// Stops taking messages, acknowledges those that are under way, and disconnects. The broker keeps the session.
    pub async fn close(self) {
        self.stop.send_replace(true);
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            error!("the bridge's thread panicked");
        }
    }
}

/// Reads the connection, brings messages into the ingest and acknowledges them.
struct Intake {
    settings: Arc<Settings>,
    connection: BrokerConnection,
    /// Number of connections so far. A message is acknowledged only on the connection it came on: packet ids are reused.
    connections: u64,
    connected: watch::Sender<bool>,
    backoff: Backoff,
    outage: Outage,
    publish_to_ack_seconds: Histogram,
    accepting: InTurn<Tag>,
    accepting_bytes: usize,
}

/// The connection to the broker.
enum BrokerConnection {
    /// Connecting, or waiting to connect again.
    Down(BoxFuture<'static, Result<Link, String>>),
    Up(Box<Link>),
}

/// A message on its way into the log.
struct Tag {
    connection: u64,
    since: Instant,
    bytes: usize,
    receipt: Receipt,
}

impl Intake {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut is_stopping = false;
        let wind_up = sleep(Duration::MAX);
        tokio::pin!(wind_up);
        while !is_stopping || !self.accepting.is_empty() {
            let may_read = !is_stopping && self.has_room();
            tokio::select! {
                // Messages under way come first, since a turn of the connection may nap.
                biased;
                () = stopped(&mut stop), if !is_stopping => {
                    is_stopping = true;
                    wind_up.as_mut().reset(Instant::now() + WIND_UP_MAX);
                }
                () = &mut wind_up, if is_stopping => break,
                Some((tag, accepted)) = self.accepting.next() => {
                    self.answer(&tag, accepted.is_ok());
                    while let Some((tag, accepted)) = self.accepting.next_answered() {
                        self.answer(&tag, accepted.is_ok());
                    }
                }
                turned = turn(&mut self.connection, may_read) => match turned {
                    Ok(None) => self.take_arrivals(),
                    Ok(Some(link)) => self.up(link),
                    Err(error) => self.down(&error),
                },
            }
        }
        if let BrokerConnection::Up(link) = self.connection {
            link.finish().await;
        }
    }

    fn has_room(&self) -> bool {
        self.accepting.len() < MESSAGES_MAX && self.accepting_bytes < MESSAGES_BYTES_MAX
    }

    fn up(&mut self, link: Box<Link>) {
        self.connections += 1;
        self.backoff.reset();
        self.outage.succeeded();
        self.connection = BrokerConnection::Up(link);
        // The answer to the subscription may have come together with CONNACK.
        self.take_arrivals();
    }

    fn down(&mut self, error: &str) {
        self.outage.failed(error);
        // Messages of the old connection are still taken in but not acknowledged: the broker sends them again.
        self.connections += 1;
        self.connected.send_replace(false);
        let (settings, pause) = (Arc::clone(&self.settings), self.backoff.next_pause());
        self.connection = BrokerConnection::Down(Box::pin(async move {
            sleep(pause).await;
            Link::connect(settings).await
        }));
    }

    fn take_arrivals(&mut self) {
        let BrokerConnection::Up(link) = &mut self.connection else {
            return;
        };
        let since = Instant::now();
        while let Some(arrival) = link.arrival() {
            match arrival {
                Arrival::Subscribed => {
                    self.connected.send_replace(true);
                }
                Arrival::NotSubscribed(detail) => {
                    warn!(detail, "the broker refused the bridge's subscription");
                }
                Arrival::Message(message) => {
                    let Message {
                        topic,
                        payload,
                        receipt,
                        caller,
                    } = message;
                    let tag = Tag {
                        connection: self.connections,
                        since,
                        bytes: topic.len() + payload.len(),
                        receipt,
                    };
                    self.accepting_bytes += tag.bytes;
                    self.accepting.push_from(caller, topic, payload, tag);
                }
            }
        }
    }

    /// Acknowledges a message that is durable.
    fn answer(&mut self, tag: &Tag, is_durable: bool) {
        self.accepting_bytes -= tag.bytes;
        if let BrokerConnection::Up(link) = &mut self.connection
            && is_durable
            && tag.connection == self.connections
        {
            link.acknowledge(tag.receipt);
            let seconds = tag.since.elapsed().as_secs_f64();
            self.publish_to_ack_seconds.observe(seconds);
        }
    }
}

/// Advances the connection, or returns a new one. Dropping the future loses nothing.
async fn turn(
    connection: &mut BrokerConnection,
    may_read: bool,
) -> Result<Option<Box<Link>>, String> {
    match connection {
        BrokerConnection::Down(connecting) => Ok(Some(Box::new(connecting.await?))),
        BrokerConnection::Up(link) => {
            link.turn(may_read).await?;
            Ok(None)
        }
    }
}
