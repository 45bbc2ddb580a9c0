//! The connection to the broker in either version of MQTT. Knows nothing of readings. It blocks for short naps, so it
//! needs its own thread.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use mqtt_protocol_core::mqtt::{Connection as Protocol, role};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::packets::{self, Arrival, Receipt};
use super::settings::Settings;
use crate::mqtt_client::KEEP_ALIVE;
use crate::mqtt_stream::{Out, Stream, poll_read_some, read_some};

/// Longest wait for the broker to accept the connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Most bytes that are read before the messages in them are handled; one read may go beyond.
const TURN_BYTES: usize = 256 * 1_024;
/// How long messages gather before they are read. A broker sends each message separately, and waking up for each would
/// cost more than everything else. Much shorter than the log takes for a record.
const NAP: Duration = Duration::from_millis(1);
/// A broker that does not answer a ping within this time is gone.
const PONG_MAX: Duration = Duration::from_secs(20);
/// Longest wait until the last packets are sent.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// A connection that the broker has accepted, with the subscription sent.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    protocol: Protocol<role::Client>,
    read: Vec<u8>,
    out: Out,
    received: VecDeque<Packet>,
    /// When to send a ping, and by when one must be answered.
    ping_at: Option<Instant>,
    pong_by: Option<Instant>,
    /// Reset when it fires rather than with every packet.
    timer: Pin<Box<Sleep>>,
    /// The current time, as of the last turn.
    now: Instant,
    /// Whether everything available has been read.
    is_drained: bool,
    /// Why the connection will end, if it will.
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
            .unwrap_or_else(|_| Err("the broker did not accept in time".to_owned()))
    }

    /// Sends CONNECT and waits until it is accepted, then sends SUBSCRIBE, which the broker answers later.
    async fn welcome(&mut self, settings: &Settings) -> Result<(), String> {
        self.greet(settings).map_err(|error| error.to_string())?;
        self.check()?;
        self.write().await?;
        while self.received.is_empty() {
            let read = read_some(&mut self.stream, &mut self.read).await;
            if !read.map_err(|error| error.to_string())? {
                return Err("closed before CONNACK".to_owned());
            }
            self.take_packets();
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

    /// Sends CONNECT. Only the broker is told the receive maximum. The state machine would end the connection when one
    /// message more arrives, and Mosquitto (2.0) briefly sends more.
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

    /// Writes waiting packets and, if it `may_read`, reads. Returns once something has arrived or a timer has fired.
    /// Dropping the future loses nothing. Blocks briefly if everything available has just been read.
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
                    self.take_packets();
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

    /// Sends a ping if it is time, and sets the timer for the next deadline.
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
                    self.end("the broker did not answer a ping");
                }
            }
        }
        let next = [self.ping_at, self.pong_by].into_iter().flatten().min();
        let next = next.unwrap_or(self.now + KEEP_ALIVE);
        self.timer.as_mut().reset(next);
    }

    /// Returns the next event.
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
        if let Some(packet_id) = receipt.packet_id() {
            let version = self.protocol.get_protocol_version();
            self.queue(packets::puback(version, packet_id));
        }
    }

    /// Sends waiting packets and disconnects. The broker keeps the session.
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

    fn take_packets(&mut self) {
        let read = std::mem::take(&mut self.read);
        let mut cursor = Cursor::new(read.as_slice());
        let end = u64::try_from(read.len()).expect("a length");
        while cursor.position() < end && self.ending.is_none() {
            let events = self.protocol.recv(&mut cursor);
            self.note(events);
        }
        self.read = read;
    }

    /// Carries out what the protocol's state machine asks for.
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
                // More informative than the request to close that comes with it.
                Event::NotifyError(error) => self.ending = Some(format!("protocol: {error}")),
                Event::RequestClose => self.end("closed by the protocol"),
            }
        }
    }

    fn set_timer(&mut self, kind: TimerKind, at: Option<Instant>) {
        match kind {
            TimerKind::PingreqSend => self.ping_at = at,
            TimerKind::PingrespRecv => self.pong_by = at,
            // Only servers have this timer.
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
