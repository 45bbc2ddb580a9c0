//! One connection to a broker or gateway, for publishing only. A command is either handed to the open connection
//! immediately or not taken. Nothing waits while the peer is away, so no expired or superseded command is sent later.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as packet5;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::mqtt_client::{EndpointError, MqttEndpoint, MqttProtocol};
use platform::report::Outage;
use platform::retry::Backoff;
use platform::trace::{TRACEPARENT, TraceContext};

/// Most messages without PUBACK.
const WINDOW: u16 = 100;
/// Pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest wait until a disconnect is sent.
const DISCONNECT_MAX: Duration = Duration::from_secs(1);

/// A message for one device.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Real time after which the message is useless; MQTT 5 passes it to the peer.
    pub(super) expires_in: Duration,
    /// The span that sends it; MQTT 5 passes it to the device.
    pub(super) trace: Option<TraceContext>,
}

/// Whether a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handed {
    /// It was taken.
    Over,
    /// Too many are unacknowledged.
    Busy,
    /// Not connected.
    Away,
}

/// A connection that is re-established until it is closed.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Arc<Mutex<Option<Link>>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The open connection.
#[derive(Debug, Clone)]
struct Link {
    client: Client,
    unacked: Arc<AtomicUsize>,
}

#[derive(Debug, Clone)]
enum Client {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

enum Options {
    V4(Box<rumqttc::MqttOptions>),
    V5(Box<rumqttc::v5::MqttOptions>),
}

/// The event loop of either version; both give the same few events.
enum Connection {
    V4(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc::v5::EventLoop>),
}

enum Event {
    Connected,
    Acked,
    Disconnected,
    Other,
}

impl Publisher {
    /// Connects in the background. `changed` is notified when there may be room again.
    pub(super) fn start(
        endpoint: &MqttEndpoint,
        changed: Arc<Notify>,
    ) -> Result<Self, EndpointError> {
        let options = match endpoint.protocol {
            MqttProtocol::V4 => {
                let mut options = endpoint.options_v4("controller")?;
                options.set_inflight(WINDOW);
                Options::V4(Box::new(options))
            }
            MqttProtocol::V5 => {
                let mut options = endpoint.options_v5("controller")?;
                options.set_outgoing_inflight_upper_limit(WINDOW);
                Options::V5(Box::new(options))
            }
        };
        let link = Arc::new(Mutex::new(None));
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper {
            outage: Outage::of(format!("MQTT at {}:{}", endpoint.host, endpoint.port)),
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            options,
            link: Arc::clone(&link),
            changed,
            stopped,
        };
        Ok(Self {
            link,
            stop,
            task: Mutex::new(Some(tokio::spawn(keeper.run()))),
        })
    }

    /// Returns whether its peer is connected.
    pub(super) fn is_connected(&self) -> bool {
        locked(&self.link).is_some()
    }

    /// Hands over a message with QoS 1, or returns why not.
    pub(super) fn hand(&self, message: &Message) -> Handed {
        let guard = locked(&self.link);
        let Some(link) = guard.as_ref() else {
            return Handed::Away;
        };
        if link.unacked.load(Ordering::Acquire) >= usize::from(WINDOW) {
            return Handed::Busy;
        }
        // Counted first, since the PUBACK may come before this function returns.
        link.unacked.fetch_add(1, Ordering::AcqRel);
        let Message {
            topic,
            payload,
            expires_in,
            trace,
        } = message;
        let taken = match &link.client {
            Client::V4(client) => client
                .try_publish(topic, rumqttc::QoS::AtLeastOnce, false, payload.clone())
                .is_ok(),
            Client::V5(client) => {
                let seconds = expires_in
                    .as_secs_f64()
                    .ceil()
                    .clamp(1.0, f64::from(u32::MAX));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "clamped to the type's range"
                )]
                let properties = packet5::PublishProperties {
                    message_expiry_interval: Some(seconds as u32),
                    user_properties: trace
                        .map(|trace| (TRACEPARENT.to_owned(), trace.to_string()))
                        .into_iter()
                        .collect(),
                    ..packet5::PublishProperties::default()
                };
                let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
                client
                    .try_publish_with_properties(topic, qos, false, payload.clone(), properties)
                    .is_ok()
            }
        };
        if taken {
            Handed::Over
        } else {
            link.unacked.fetch_sub(1, Ordering::AcqRel);
            Handed::Busy
        }
    }

    /// Disconnects and ends the task.
    pub(super) async fn close(&self) {
        self.stop.send_replace(true);
        let task = locked(&self.task).take();
        let Some(task) = task else { return };
        if let Err(error) = task.await {
            warn!(%error, "close an MQTT connection");
        }
    }
}

struct Keeper {
    outage: Outage,
    backoff: Backoff,
    options: Options,
    link: Arc<Mutex<Option<Link>>>,
    changed: Arc<Notify>,
    stopped: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self) {
        while !*self.stopped.borrow() {
            // A new client each time: the controller decides again about messages that the old one had not delivered.
            let (client, mut connection) = self.options.client();
            let unacked = Arc::new(AtomicUsize::new(0));
            let link = Link { client, unacked };
            let error = self.keep(&link, &mut connection).await;
            *locked(&self.link) = None;
            let Some(error) = error else {
                link.client.disconnect(&mut connection).await;
                return;
            };
            self.outage.failed(error);
            tokio::select! {
                () = self.backoff.pause() => {}
                _ = self.stopped.changed() => {}
            }
        }
    }

    /// Serves one connection. Returns the error that ended it, or `None` if asked to stop.
    async fn keep(&mut self, link: &Link, connection: &mut Connection) -> Option<String> {
        loop {
            let event = tokio::select! {
                event = connection.poll() => event,
                _ = self.stopped.changed() => return None,
            };
            match event {
                Ok(Event::Connected) => {
                    self.outage.succeeded();
                    self.backoff.reset();
                    *locked(&self.link) = Some(link.clone());
                    self.changed.notify_one();
                }
                Ok(Event::Acked) => {
                    link.unacked.fetch_sub(1, Ordering::AcqRel);
                    self.changed.notify_one();
                }
                Ok(Event::Disconnected) => return Some("closed".to_owned()),
                Ok(Event::Other) => {}
                Err(error) => return Some(error),
            }
        }
    }
}

impl Options {
    fn client(&self) -> (Client, Connection) {
        let room = usize::from(WINDOW);
        match self {
            Self::V4(options) => {
                let (client, connection) =
                    rumqttc::AsyncClient::new(options.as_ref().clone(), room);
                (Client::V4(client), Connection::V4(Box::new(connection)))
            }
            Self::V5(options) => {
                let (client, connection) =
                    rumqttc::v5::AsyncClient::new(options.as_ref().clone(), room);
                (Client::V5(client), Connection::V5(Box::new(connection)))
            }
        }
    }
}

impl Client {
    /// Disconnects after the messages that are under way.
    async fn disconnect(&self, connection: &mut Connection) {
        let asked = match self {
            Self::V4(client) => client.try_disconnect().is_ok(),
            Self::V5(client) => client.try_disconnect().is_ok(),
        };
        if asked {
            let gone = async {
                while !matches!(connection.poll().await, Ok(Event::Disconnected) | Err(_)) {}
            };
            // Without a DISCONNECT the peer notices the broken connection.
            let _ = tokio::time::timeout(DISCONNECT_MAX, gone).await;
        }
    }
}

impl Connection {
    async fn poll(&mut self) -> Result<Event, String> {
        match self {
            Self::V4(connection) => match connection.poll().await {
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_))) => Ok(Event::Connected),
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))) => Ok(Event::Acked),
                Ok(rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect)) => {
                    Ok(Event::Disconnected)
                }
                Ok(_) => Ok(Event::Other),
                Err(error) => Err(error.to_string()),
            },
            Self::V5(connection) => match connection.poll().await {
                Ok(rumqttc::v5::Event::Incoming(packet5::Packet::ConnAck(_))) => {
                    Ok(Event::Connected)
                }
                Ok(rumqttc::v5::Event::Incoming(packet5::Packet::PubAck(ack))) => {
                    // If the device is not connected (no matching subscribers), the command is sent again later, as
                    // for any device that does not answer.
                    if ack.reason != packet5::PubAckReason::Success {
                        debug!(reason = ?ack.reason, "a command was not delivered");
                    }
                    Ok(Event::Acked)
                }
                Ok(rumqttc::v5::Event::Outgoing(rumqttc::Outgoing::Disconnect)) => {
                    Ok(Event::Disconnected)
                }
                Ok(_) => Ok(Event::Other),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
