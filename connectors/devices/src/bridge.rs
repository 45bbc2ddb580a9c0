//! The way in from a broker that is already there: a shared subscription to everything that homes send. A message is
//! acknowledged to the broker only once the ingest has it in the log or the spool; until then the broker keeps it.
//!
//! The connection is always read. While neither log nor spool takes anything, messages wait here up to the receive
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

pub use config::BridgeConfig;
use link::{Arrival, Link, Message, Receipt, Settings};

/// Messages that are on their way into the log, and their bytes; only messages with QoS 0, whose number no broker
/// limits, can be more, and they wait in the connection.
const MESSAGES_MAX: usize = 65_535;
const MESSAGES_BYTES_MAX: usize = 64 << 20;
/// Pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a stop waits for messages to become durable; the broker keeps the others.
const WIND_UP_MAX: Duration = Duration::from_secs(10);
/// Longer than any outage: the broker keeps what is not acknowledged, so nothing is given up.
const PATIENCE: Duration = Duration::from_secs(365 * 86_400);

/// Why a bridge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A setting is out of its range.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    #[error("the bridge's broker")]
    Endpoint(#[from] EndpointError),
    #[error("start the bridge's thread")]
    Thread(#[source] std::io::Error),
}

impl BridgeError {
    /// Whether the same start may succeed later. A broker that is away is waited for.
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
    /// Connects, now or when the broker is there, and takes in what comes.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as every part of a process takes them"
    )]
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
            way: Way::Down(Box::pin(Link::connect(Arc::clone(&settings)))),
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

    /// Whether the broker is connected and has been asked for messages.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Its end: it comes after [`Bridge::close`], and after a panic of its thread.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Whether messages can be taken in now, or why not. Log and store may be away while the spool has room.
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

    /// Takes no more messages, acknowledges those that are on their way, and disconnects. The broker keeps the session.
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
    way: Way,
    /// Connections so far. Nothing is acknowledged on another than it came on: packet ids are used again.
    connections: u64,
    connected: watch::Sender<bool>,
    backoff: Backoff,
    outage: Outage,
    publish_to_ack_seconds: Histogram,
    accepting: InTurn<Tag>,
    accepting_bytes: usize,
}

/// The way to the broker.
enum Way {
    /// Until it is there again.
    Down(BoxFuture<'static, Result<Link, String>>),
    Up(Box<Link>),
}

/// A message that is on its way into the log.
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
                // What is on its way is set going and answered before the connection has its turn, which may nap.
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
                turned = turn(&mut self.way, may_read) => match turned {
                    Ok(None) => self.take_arrivals(),
                    Ok(Some(link)) => self.up(link),
                    Err(error) => self.down(&error),
                },
            }
        }
        if let Way::Up(link) = self.way {
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
        self.way = Way::Up(link);
        // The answer to the subscription may have come with the acceptance.
        self.take_arrivals();
    }

    fn down(&mut self, error: &str) {
        self.outage.failed(error);
        // What came before is still taken in, and acknowledged by nobody: the broker sends it again.
        self.connections += 1;
        self.connected.send_replace(false);
        let (settings, pause) = (Arc::clone(&self.settings), self.backoff.next_pause());
        self.way = Way::Down(Box::pin(async move {
            sleep(pause).await;
            Link::connect(settings).await
        }));
    }

    fn take_arrivals(&mut self) {
        let Way::Up(link) = &mut self.way else {
            return;
        };
        let since = Instant::now();
        while let Some(arrival) = link.arrival() {
            match arrival {
                Arrival::Subscribed => {
                    self.connected.send_replace(true);
                }
                Arrival::NotSubscribed(detail) => {
                    warn!(detail, "the broker refuses the bridge's subscription");
                }
                Arrival::Message(message) => {
                    let Message {
                        topic,
                        payload,
                        receipt,
                    } = message;
                    let tag = Tag {
                        connection: self.connections,
                        since,
                        bytes: topic.len() + payload.len(),
                        receipt,
                    };
                    self.accepting_bytes += tag.bytes;
                    self.accepting.push(topic, payload, tag);
                }
            }
        }
    }

    /// Acknowledges a message that is durable.
    fn answer(&mut self, tag: &Tag, is_durable: bool) {
        self.accepting_bytes -= tag.bytes;
        if let Way::Up(link) = &mut self.way
            && is_durable
            && tag.connection == self.connections
        {
            link.acknowledge(tag.receipt);
            let seconds = tag.since.elapsed().as_secs_f64();
            self.publish_to_ack_seconds.observe(seconds);
        }
    }
}

/// Goes on with the connection, or brings a new one. Dropping the future loses nothing.
async fn turn(way: &mut Way, may_read: bool) -> Result<Option<Box<Link>>, String> {
    match way {
        Way::Down(connecting) => Ok(Some(Box::new(connecting.await?))),
        Way::Up(link) => {
            link.turn(may_read).await?;
            Ok(None)
        }
    }
}
