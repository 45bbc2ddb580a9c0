//! The connection to the broker in either version of MQTT. Knows nothing of readings. Naps, so it needs a thread of its
//! own.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, Qos};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use mqtt_protocol_core::mqtt::{Connection as Protocol, Version, role};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use super::BridgeConfig;
use super::packets;
use crate::mqtt_client::{EndpointError, KEEP_ALIVE, MqttEndpoint, MqttProtocol};
use crate::mqtt_stream::{Out, Stream, poll_read_some, read_some};

/// What homes send.
const CHANNELS: [&str; 4] = ["meter", "pv", "battery", "ack"];
/// Longest wait for the broker until it has accepted the connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Most bytes that are read before what came is handled; one read may go beyond.
const TURN_BYTES: usize = 256 * 1_024;
/// A broker sends each message by itself, and to be woken for each costs more than all the rest: so long messages gather.
/// Much shorter than the log takes for a record.
const NAP: Duration = Duration::from_millis(1);
/// A broker that has not answered a ping by then is gone.
const PONG_MAX: Duration = Duration::from_secs(20);
/// Longest wait until the last packets are out.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// How to connect, again and again.
pub(super) struct Settings {
    pub(super) mqtt: MqttEndpoint,
    tls: Option<TlsConnector>,
    /// What to ask for.
    pub(super) filters: Vec<String>,
    /// Of MQTT 5.
    pub(super) session_s: u32,
    pub(super) receive_max: u16,
    pub(super) packet_bytes_max: u32,
}

impl Settings {
    pub(super) fn new(config: BridgeConfig) -> Result<Self, EndpointError> {
        let mut mqtt = config.mqtt;
        if mqtt.client_id.is_empty() {
            mqtt.client_id = format!("hearth-bridge-{}", host_name());
        }
        let prefix = match config.group.as_str() {
            "" => String::new(),
            group => format!("$share/{group}/"),
        };
        let filters = CHANNELS
            .map(|channel| format!("{prefix}home/+/{channel}"))
            .to_vec();
        Ok(Self {
            tls: mqtt.tls()?.map(TlsConnector::from),
            mqtt,
            filters,
            session_s: config.session_s,
            receive_max: config.receive_max,
            packet_bytes_max: config.packet_bytes_max,
        })
    }

    const fn version(&self) -> Version {
        match self.mqtt.protocol {
            MqttProtocol::V4 => Version::V3_1_1,
            MqttProtocol::V5 => Version::V5_0,
        }
    }

    fn options(&self) -> ConnectionOptions {
        ConnectionOptions::new().maximum_packet_size_recv(self.packet_bytes_max)
    }

    async fn stream(&self) -> Result<Box<dyn Stream>, String> {
        let (host, port) = (self.mqtt.host.as_str(), self.mqtt.port);
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| format!("connect to {host}:{port}: {error}"))?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = tls.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| format!("TLS: {error}"))?))
    }
}

/// What came.
pub(super) enum Arrival {
    Subscribed,
    NotSubscribed(String),
    Message(Message),
}

/// A message from a home.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) receipt: Receipt,
}

/// What acknowledges a message: its packet id; `None` with QoS 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt(Option<u16>);

/// A connection that the broker has accepted and has been asked for messages on.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    protocol: Protocol<role::Client>,
    read: Vec<u8>,
    out: Out,
    received: VecDeque<Packet>,
    /// When to ping, and until when a ping must be answered.
    ping_at: Option<Instant>,
    pong_by: Option<Instant>,
    /// Moved on when it fires rather than with every packet.
    timer: Pin<Box<Sleep>>,
    /// The present, as of the last turn.
    now: Instant,
    /// Whether all that was there has been read.
    is_drained: bool,
    /// Why the connection is to end.
    ending: Option<String>,
}

impl Link {
    /// Connects and subscribes.
    pub(super) async fn connect(settings: Arc<Settings>) -> Result<Self, String> {
        let connecting = async {
            let mut protocol = Protocol::with_options(settings.version(), settings.options());
            protocol.set_auto_pub_response(false);
            let pong_ms = u64::try_from(PONG_MAX.as_millis()).expect("a short time");
            protocol.set_pingresp_recv_timeout(pong_ms);
            let now = Instant::now();
            let mut link = Self {
                stream: settings.stream().await?,
                protocol,
                read: Vec::new(),
                out: Out::default(),
                received: VecDeque::new(),
                ping_at: None,
                pong_by: None,
                timer: Box::pin(sleep_until(now + KEEP_ALIVE)),
                now,
                is_drained: false,
                ending: None,
            };
            link.welcome(&settings).await?;
            Ok(link)
        };
        timeout(CONNECT_MAX, connecting)
            .await
            .unwrap_or_else(|_| Err("the broker does not accept in time".to_owned()))
    }

    /// CONNECT until it is accepted, and then SUBSCRIBE, which the broker answers later.
    async fn welcome(&mut self, settings: &Settings) -> Result<(), String> {
        self.greet(settings).map_err(|error| error.to_string())?;
        self.check()?;
        self.write().await?;
        while self.received.is_empty() {
            let read = read_some(&mut self.stream, &mut self.read).await;
            if !read.map_err(|error| error.to_string())? {
                return Err("closed before CONNACK".to_owned());
            }
            self.take_apart();
            self.check()?;
        }
        let packet = self.received.pop_front().expect("checked just above");
        let session_present = packets::accepted(&packet)?;
        info!(session_present, "bridge connected");
        let id = self.protocol.acquire_packet_id();
        let id = id.map_err(|error| error.to_string())?;
        self.queue(packets::subscribe(settings, id));
        self.check()
    }

    /// CONNECT. Only the broker learns of the receive maximum: the state machine would end the connection as soon as one
    /// more message comes, and Mosquitto (2.0) sends more for a moment.
    fn greet(&mut self, settings: &Settings) -> Result<(), MqttError> {
        let events = self.protocol.send(packets::connect(settings, false)?);
        for event in events {
            if let Event::RequestSendPacket { .. } = event {
                for buffer in packets::connect(settings, true)?.to_buffers() {
                    self.out.push(&buffer);
                }
            } else {
                self.note(vec![event]);
            }
        }
        Ok(())
    }

    /// Writes what waits and, if it `may_read`, reads what comes; returns once something has come or a timer has fired.
    /// Dropping the future loses nothing. Blocks for a moment where all that was there has just been read.
    pub(super) async fn turn(&mut self, may_read: bool) -> Result<(), String> {
        self.check()?;
        if std::mem::take(&mut self.is_drained) {
            std::thread::sleep(NAP);
        }
        self.now = Instant::now();
        poll_fn(|context| self.poll_turn(may_read, context)).await?;
        self.check()
    }

    fn poll_turn(&mut self, may_read: bool, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        if let Poll::Ready(Err(error)) = self.out.poll_write(&mut self.stream, context) {
            return Poll::Ready(Err(error.to_string()));
        }
        let mut came_bytes = 0;
        while may_read && came_bytes < TURN_BYTES {
            match poll_read_some(&mut self.stream, &mut self.read, context) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
                Poll::Ready(Ok(false)) => {
                    return Poll::Ready(Err("closed by the broker".to_owned()));
                }
                Poll::Ready(Ok(true)) => {
                    came_bytes += self.read.len();
                    self.take_apart();
                }
            }
        }
        if came_bytes > 0 {
            self.is_drained = came_bytes < TURN_BYTES;
            return Poll::Ready(Ok(()));
        }
        if self.timer.as_mut().poll(context).is_ready() {
            self.tick();
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Pings where it is time, and sets the timer for what comes next.
    fn tick(&mut self) {
        self.now = Instant::now();
        for (kind, at) in [
            (TimerKind::PingreqSend, self.ping_at),
            (TimerKind::PingrespRecv, self.pong_by),
        ] {
            if at.is_some_and(|at| at <= self.now) {
                self.set_timer(kind, None);
                let events = self.protocol.notify_timer_fired(kind);
                self.note(events);
                if kind == TimerKind::PingrespRecv {
                    self.end("the broker does not answer");
                }
            }
        }
        let next = [self.ping_at, self.pong_by].into_iter().flatten().min();
        let next = next.unwrap_or(self.now + KEEP_ALIVE);
        self.timer.as_mut().reset(next);
    }

    /// What came next.
    pub(super) fn arrival(&mut self) -> Option<Arrival> {
        while let Some(packet) = self.received.pop_front() {
            match packets::arrival(&packet) {
                Ok(Some(arrival)) => return Some(arrival),
                Ok(None) => {}
                Err(reason) => self.end(&reason),
            }
        }
        None
    }

    /// Acknowledges a message; sent with the next turn.
    pub(super) fn acknowledge(&mut self, receipt: Receipt) {
        if let Receipt(Some(packet_id)) = receipt {
            let version = self.protocol.get_protocol_version();
            self.queue(packets::puback(version, packet_id));
        }
    }

    /// Sends what waits, and leaves. The broker keeps the session.
    pub(super) async fn finish(mut self) {
        let version = self.protocol.get_protocol_version();
        self.queue(packets::disconnect(version));
        let written = timeout(FINISH_MAX, self.write()).await;
        if !matches!(written, Ok(Ok(()))) {
            warn!("the bridge left before its last acknowledgements were out");
        }
    }

    async fn write(&mut self) -> Result<(), String> {
        let written = poll_fn(|context| self.out.poll_write(&mut self.stream, context)).await;
        written.map_err(|error| error.to_string())
    }

    fn take_apart(&mut self) {
        let read = std::mem::take(&mut self.read);
        let mut cursor = Cursor::new(read.as_slice());
        let end = u64::try_from(read.len()).expect("a length");
        while cursor.position() < end && self.ending.is_none() {
            let events = self.protocol.recv(&mut cursor);
            self.note(events);
        }
        self.read = read;
    }

    /// Does what the protocol's state machine asks for.
    fn note(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => self.received.push_back(packet),
                Event::RequestSendPacket { packet, .. } => {
                    for buffer in packet.to_buffers() {
                        self.out.push(&buffer);
                    }
                }
                Event::NotifyPacketIdReleased(_) => {}
                Event::RequestTimerReset { kind, duration_ms } => {
                    let at = self.now + Duration::from_millis(duration_ms);
                    self.set_timer(kind, Some(at));
                }
                Event::RequestTimerCancel(kind) => self.set_timer(kind, None),
                // More telling than the request to close that comes with it.
                Event::NotifyError(error) => self.ending = Some(format!("protocol: {error}")),
                Event::RequestClose => self.end("closed by the protocol"),
            }
        }
    }

    fn set_timer(&mut self, kind: TimerKind, at: Option<Instant>) {
        match kind {
            TimerKind::PingreqSend => self.ping_at = at,
            TimerKind::PingrespRecv => self.pong_by = at,
            // Of servers.
            TimerKind::PingreqRecv => {}
        }
    }

    fn queue(&mut self, packet: Result<Packet, MqttError>) {
        match packet {
            Ok(packet) => {
                let events = self.protocol.send(packet);
                self.note(events);
            }
            Err(error) => self.end(&format!("a packet could not be built: {error}")),
        }
    }

    fn end(&mut self, reason: &str) {
        self.ending.get_or_insert_with(|| reason.to_owned());
    }

    fn check(&self) -> Result<(), String> {
        self.ending.clone().map_or(Ok(()), Err)
    }
}

impl Receipt {
    pub(super) const fn new(qos: Qos, packet_id: Option<u16>) -> Self {
        match qos {
            Qos::AtMostOnce => Self(None),
            Qos::AtLeastOnce | Qos::ExactlyOnce => Self(packet_id),
        }
    }
}

/// The host's name, which a restart does not change.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "local".to_owned(), |name| name.trim().to_owned())
}
