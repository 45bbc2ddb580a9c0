//! One client: the protocol's state, what is on its way in and out, and the loop between them. Reads only what it can
//! handle, writes with a time limit, and acknowledges in the order of the publishes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, Property, Qos, SubEntry};
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, MqttError, PubackReasonCode};
use mqtt_protocol_core::mqtt::{Connection as Protocol, Version, role};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant as Moment, sleep_until, timeout, timeout_at};

use super::access::{FilterRefusal, Identity, Publishing, filter, publishing};
use super::packets::{self, Welcome};
use super::subscribers::{Entry, Inbox, Message, Place};
use super::{Shared, stopped};
use crate::ingest::{InTurn, NotDurable};
use crate::mqtt_stream::{Stream, read_some};

/// What a connection keeps of its memory for output when it has been written.
const OUT_KEPT_BYTES: usize = 1_024;
/// Publishes of one connection that are handled at the same time, however many the client would send, and their bytes;
/// one packet may go beyond.
const PUBLISHES_MAX: usize = 65_535;
const PUBLISHES_BYTES_MAX: usize = 2 << 20;
/// Messages to a device that it has not acknowledged yet; further ones wait in its queue.
const UNACKED_MAX: usize = 32;
/// How long the gateway's stop waits for readings to become durable.
const WIND_UP_MAX: Duration = Duration::from_secs(10);
/// Largest command or status message.
const DOWNWARD_BYTES_MAX: usize = 16 * 1_024;

/// One client's connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    identity: Identity,
    shared: Arc<Shared>,
    protocol: Protocol<role::Server>,
    /// Bytes read and not yet taken apart: `read[taken..]`.
    read: Vec<u8>,
    taken: usize,
    /// When that was read.
    read_at: Moment,
    /// Bytes to be written.
    out: Vec<u8>,
    received: VecDeque<Packet>,
    /// Publishes that are being handled, in their order.
    publishes: InTurn<Publish>,
    publishes_bytes: usize,
    unacked: usize,
    keep_alive: Option<Moment>,
    /// Set when the connection is to end once `out` is written.
    ending: Option<&'static str>,
    place: Option<Place>,
}

/// What a client says in CONNECT.
struct Hello<'a> {
    client_id: &'a str,
    keep_alive_s: u16,
    clean: bool,
    session_s: u32,
}

impl<'a> Hello<'a> {
    /// `None` where the packet is none. A session of MQTT 3.1.1 has no end of its own.
    fn read(packet: &'a Packet, session_s_max: u32) -> Option<Self> {
        if let Packet::V3_1_1Connect(connect) = packet {
            return Some(Self {
                client_id: connect.client_id(),
                keep_alive_s: connect.keep_alive(),
                clean: connect.clean_session(),
                session_s: if connect.clean_session() {
                    0
                } else {
                    session_s_max
                },
            });
        }
        let Packet::V5_0Connect(connect) = packet else {
            return None;
        };
        let session_s = connect.props().iter().find_map(|property| {
            let Property::SessionExpiryInterval(interval) = property else {
                return None;
            };
            Some(interval.val())
        });
        Some(Self {
            client_id: connect.client_id(),
            keep_alive_s: connect.keep_alive(),
            clean: connect.clean_start(),
            session_s: session_s.unwrap_or(0),
        })
    }
}

/// A publish that is being handled.
#[derive(Debug, Clone, Copy)]
struct Publish {
    /// `None` with QoS 0.
    packet_id: Option<u16>,
    bytes: usize,
    since: Moment,
    way: Way,
}

/// What becomes of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ingest,
    Passed { reached: usize },
    Refused,
    TooLarge,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            self.shared.subscribers.leave(place);
        }
    }
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, identity: Identity, shared: Arc<Shared>) -> Self {
        let options =
            ConnectionOptions::new().maximum_packet_size_recv(shared.config.packet_bytes_max);
        let mut protocol = Protocol::with_options(Version::Undetermined, options);
        protocol.set_auto_pub_response(false);
        protocol.set_auto_ping_response(true);
        let patience = Duration::from_millis(shared.config.patience_ms);
        let publishes = InTurn::new(Arc::clone(&shared.ingest), patience);
        Self {
            stream,
            identity,
            shared,
            protocol,
            read: Vec::new(),
            taken: 0,
            read_at: Moment::now(),
            out: Vec::new(),
            received: VecDeque::new(),
            publishes,
            publishes_bytes: 0,
            unacked: 0,
            keep_alive: None,
            ending: None,
            place: None,
        }
    }

    /// Serves the client until one side ends it. CONNECT must have come by `deadline`.
    pub(super) async fn run(
        mut self,
        deadline: Moment,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), String> {
        let mut inbox = timeout_at(deadline, self.welcome())
            .await
            .map_err(|_| "no CONNECT in time".to_owned())??;
        // Moved on when it fires rather than with every packet.
        let timer = sleep_until(Moment::now());
        tokio::pin!(timer);
        loop {
            self.take_apart(true)?;
            self.flush().await?;
            if let Some(reason) = self.ending {
                return Err(reason.to_owned());
            }
            let may_read = self.read.is_empty() && self.has_room();
            let may_send = self.unacked < self.unacked_max();
            tokio::select! {
                Some((publish, outcome)) = self.publishes.next() => {
                    self.finish(publish, &outcome);
                    while let Some((publish, outcome)) = self.publishes.next_answered() {
                        self.finish(publish, &outcome);
                    }
                }
                read = read_some(&mut self.stream, &mut self.read), if may_read => {
                    if !read.map_err(|error| error.to_string())? {
                        return Err("closed by the client".to_owned());
                    }
                    self.read_at = Moment::now();
                }
                Some(message) = inbox.messages.recv(), if may_send => self.send(&message)?,
                () = timer.as_mut(), if self.keep_alive.is_some() => {
                    let due = self.keep_alive.expect("checked just above");
                    if due <= Moment::now() && may_read {
                        self.keep_alive = None;
                        let events = self.protocol.notify_timer_fired(TimerKind::PingreqRecv);
                        self.note(events);
                        self.ending.get_or_insert("keep-alive ran out");
                    } else {
                        // While nothing is read the client's silence means nothing.
                        timer.as_mut().reset(due.max(Moment::now() + Duration::from_millis(100)));
                    }
                }
                Ok(()) = &mut inbox.taken_over => {
                    self.disconnect(DisconnectReasonCode::SessionTakenOver, "taken over");
                }
                () = stopped(&mut stop) => return self.wind_up().await,
            }
        }
    }

    /// Reads until CONNECT is there and answers it.
    async fn welcome(&mut self) -> Result<Inbox, String> {
        while self.received.is_empty() {
            let read = read_some(&mut self.stream, &mut self.read).await;
            if !read.map_err(|error| error.to_string())? {
                return Err("closed before CONNECT".to_owned());
            }
            self.read_at = Moment::now();
            self.take_apart(false)?;
            if let Some(reason) = self.ending {
                self.flush().await?;
                return Err(reason.to_owned());
            }
        }
        let packet = self.received.pop_front().expect("checked just above");
        let config = &self.shared.config;
        let hello = Hello::read(&packet, config.session_s_max).ok_or("no CONNECT first")?;
        let session_s = hello.session_s.min(config.session_s_max);
        let entry = Entry {
            identity: self.identity,
            client_id: hello.client_id,
            clean: hello.clean,
            session: Duration::from_secs(session_s.into()),
        };
        let (place, inbox, is_session_present) = self.shared.subscribers.enter(&entry);
        let granted_max = config.keep_alive_s_max;
        let is_longer = hello.keep_alive_s == 0 || hello.keep_alive_s > granted_max;
        let connack = packets::accepted(
            self.protocol.get_protocol_version(),
            &Welcome {
                assigned_id: hello.client_id.is_empty().then(|| place.client_id()),
                keep_alive_s: (is_longer && granted_max > 0).then_some(granted_max),
                receive_max: config.receive_max,
                is_session_present,
                session_s: (session_s != hello.session_s).then_some(session_s),
            },
        );
        self.place = Some(place);
        self.queue(connack);
        Ok(inbox)
    }

    /// Takes whole packets out of what was read and handles them, as long as there is room. Before the client is
    /// connected only the first, which stays in `received`.
    fn take_apart(&mut self, is_connected: bool) -> Result<(), String> {
        loop {
            while is_connected && let Some(packet) = self.received.pop_front() {
                self.handle(packet)?;
            }
            if self.taken == self.read.len() {
                self.read.clear();
                self.taken = 0;
            }
            let is_waiting = !self.received.is_empty();
            let done = self.read.is_empty() || self.ending.is_some();
            if is_waiting || done || !self.has_room() {
                return Ok(());
            }
            let mut cursor = Cursor::new(&self.read[self.taken..]);
            let events = self.protocol.recv(&mut cursor);
            self.taken += usize::try_from(cursor.position()).expect("a position in what was read");
            self.note(events);
        }
    }

    /// Whether another publish may be taken. The count of an MQTT 5 client is held by the protocol, so that its pings
    /// are answered however long its readings take.
    fn has_room(&self) -> bool {
        self.publishes.len() < PUBLISHES_MAX && self.publishes_bytes < PUBLISHES_BYTES_MAX
    }

    fn unacked_max(&self) -> usize {
        match self.protocol.get_receive_maximum_vacancy_for_send() {
            Some(0) => 0,
            Some(_) | None => UNACKED_MAX,
        }
    }

    /// Does what the protocol's state machine asks for.
    fn note(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => self.received.push_back(packet),
                Event::RequestSendPacket { packet, .. } => {
                    for buffer in packet.to_buffers() {
                        self.out.extend_from_slice(&buffer);
                    }
                }
                Event::NotifyPacketIdReleased(_) => self.unacked = self.unacked.saturating_sub(1),
                Event::RequestTimerReset { kind, duration_ms } => {
                    if kind == TimerKind::PingreqRecv {
                        self.keep_alive = Some(self.read_at + Duration::from_millis(duration_ms));
                    }
                }
                Event::RequestTimerCancel(kind) => {
                    if kind == TimerKind::PingreqRecv {
                        self.keep_alive = None;
                    }
                }
                Event::NotifyError(_) => {
                    self.ending.get_or_insert("protocol error");
                }
                Event::RequestClose => {
                    self.ending.get_or_insert("closed by the protocol");
                }
            }
        }
    }

    fn queue(&mut self, packet: Result<Packet, MqttError>) {
        match packet {
            Ok(packet) => {
                let events = self.protocol.send(packet);
                self.note(events);
            }
            Err(_) => {
                self.ending.get_or_insert("a packet could not be built");
            }
        }
    }

    async fn flush(&mut self) -> Result<(), String> {
        if self.out.is_empty() {
            return Ok(());
        }
        let limit = Duration::from_millis(self.shared.config.write_timeout_ms);
        let write = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        let written = timeout(limit, write).await;
        self.out.clear();
        self.out.shrink_to(OUT_KEPT_BYTES);
        written
            .map_err(|_| "the client does not read".to_owned())?
            .map_err(|error| error.to_string())
    }

    fn handle(&mut self, packet: Packet) -> Result<(), String> {
        let version = self.protocol.get_protocol_version();
        match packet {
            Packet::V3_1_1Publish(publish) => {
                let payload = publish.payload().as_slice();
                let parts = (publish.qos(), publish.packet_id(), publish.retain());
                self.publish(parts, publish.topic_name(), payload);
            }
            Packet::V5_0Publish(publish) => {
                let payload = publish.payload().as_slice();
                let parts = (publish.qos(), publish.packet_id(), publish.retain());
                self.publish(parts, publish.topic_name(), payload);
            }
            Packet::V3_1_1Subscribe(subscribe) => {
                let answers = self.subscribe(subscribe.entries());
                self.queue(packets::suback(version, subscribe.packet_id(), &answers));
            }
            Packet::V5_0Subscribe(subscribe) => {
                let answers = self.subscribe(subscribe.entries());
                self.queue(packets::suback(version, subscribe.packet_id(), &answers));
            }
            Packet::V3_1_1Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.entries().iter();
                let answers = self.unsubscribe(filters.map(|entry| entry.as_str()));
                self.queue(packets::unsuback(
                    version,
                    unsubscribe.packet_id(),
                    &answers,
                ));
            }
            Packet::V5_0Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.entries().iter();
                let answers = self.unsubscribe(filters.map(|entry| entry.as_str()));
                self.queue(packets::unsuback(
                    version,
                    unsubscribe.packet_id(),
                    &answers,
                ));
            }
            Packet::V3_1_1Disconnect(_) | Packet::V5_0Disconnect(_) => {
                return Err("the client disconnected".to_owned());
            }
            Packet::V5_0Auth(_) => {
                self.disconnect(DisconnectReasonCode::ProtocolError, "AUTH is not supported");
            }
            // Answered by the protocol's state machine already.
            Packet::V3_1_1Pingreq(_)
            | Packet::V5_0Pingreq(_)
            | Packet::V3_1_1Puback(_)
            | Packet::V5_0Puback(_) => {}
            Packet::V3_1_1Connect(_)
            | Packet::V3_1_1Connack(_)
            | Packet::V3_1_1Suback(_)
            | Packet::V3_1_1Unsuback(_)
            | Packet::V3_1_1Pubrec(_)
            | Packet::V3_1_1Pubrel(_)
            | Packet::V3_1_1Pubcomp(_)
            | Packet::V3_1_1Pingresp(_)
            | Packet::V5_0Connect(_)
            | Packet::V5_0Connack(_)
            | Packet::V5_0Suback(_)
            | Packet::V5_0Unsuback(_)
            | Packet::V5_0Pubrec(_)
            | Packet::V5_0Pubrel(_)
            | Packet::V5_0Pubcomp(_)
            | Packet::V5_0Pingresp(_) => {
                self.disconnect(DisconnectReasonCode::ProtocolError, "unexpected packet");
            }
        }
        Ok(())
    }

    fn publish(
        &mut self,
        (qos, packet_id, retain): (Qos, Option<u16>, bool),
        topic: &str,
        payload: &[u8],
    ) {
        if qos == Qos::ExactlyOnce {
            self.disconnect(DisconnectReasonCode::QosNotSupported, "QoS 2");
            return;
        }
        // What a publish costs beside its payload, roughly.
        let bytes = payload.len() + 256;
        self.publishes_bytes += bytes;
        let publish = |way| Publish {
            packet_id,
            bytes,
            since: self.read_at,
            way,
        };
        let payload = Bytes::copy_from_slice(payload);
        match publishing(self.identity, topic) {
            Publishing::Ingest => {
                self.publishes
                    .push(topic.to_owned(), payload, publish(Way::Ingest));
            }
            Publishing::Pass(household_id, downward) => {
                let way = if payload.len() > DOWNWARD_BYTES_MAX {
                    Way::TooLarge
                } else {
                    let message = Message {
                        household_id,
                        downward,
                        payload,
                        acknowledged: packet_id.is_some(),
                        retained: false,
                    };
                    self.pass(&message, retain)
                };
                self.publishes.push_done(publish(way));
            }
            Publishing::Refused => self.publishes.push_done(publish(Way::Refused)),
        }
    }

    fn pass(&self, message: &Message, retain: bool) -> Way {
        let subscribers = &self.shared.subscribers;
        if retain && message.downward == super::access::Downward::Status {
            subscribers.retain(message.household_id, message.payload.clone());
        }
        Way::Passed {
            reached: subscribers.pass(message),
        }
    }

    /// Acknowledges a publish, or ends the connection where that is how the version refuses.
    fn finish(&mut self, publish: Publish, outcome: &Result<(), NotDurable>) {
        self.publishes_bytes -= publish.bytes;
        if outcome.is_err() {
            let reason = "its reading is safe nowhere";
            self.disconnect(DisconnectReasonCode::QuotaExceeded, reason);
            return;
        }
        let is_five = self.protocol.get_protocol_version() == Version::V5_0;
        let reason = match publish.way {
            Way::Passed { reached: 0 } => PubackReasonCode::NoMatchingSubscribers,
            Way::Ingest | Way::Passed { .. } => PubackReasonCode::Success,
            Way::Refused if is_five => PubackReasonCode::NotAuthorized,
            Way::TooLarge if is_five => PubackReasonCode::QuotaExceeded,
            Way::Refused => {
                self.ending.get_or_insert("not authorized to publish there");
                return;
            }
            Way::TooLarge => {
                self.ending
                    .get_or_insert("a message to a device is too large");
                return;
            }
        };
        if let (Some(packet_id), None) = (publish.packet_id, self.ending) {
            let version = self.protocol.get_protocol_version();
            self.queue(packets::puback(version, packet_id, reason));
            let seconds = publish.since.elapsed().as_secs_f64();
            self.shared.publish_to_ack_seconds.observe(seconds);
        }
    }

    fn subscribe(&mut self, entries: &[SubEntry]) -> Vec<Result<bool, FilterRefusal>> {
        let place = self.place.as_ref().expect("taken with CONNECT");
        let judge = |entry: &SubEntry| {
            let wanted = filter(self.identity, entry.topic_filter())?;
            let acknowledged = entry.sub_opts().qos() != Qos::AtMostOnce;
            if !self
                .shared
                .subscribers
                .subscribe(place, wanted, acknowledged)
            {
                return Err(FilterRefusal::TooMany);
            }
            Ok(acknowledged)
        };
        entries.iter().map(judge).collect()
    }

    fn unsubscribe<'a>(&mut self, filters: impl Iterator<Item = &'a str>) -> Vec<bool> {
        let place = self.place.as_ref().expect("taken with CONNECT");
        let end = |text: &str| {
            let known = filter(self.identity, text);
            known.is_ok_and(|known| self.shared.subscribers.unsubscribe(place, &known))
        };
        filters.map(end).collect()
    }

    /// Sends a message to the device.
    fn send(&mut self, message: &Message) -> Result<(), String> {
        let version = self.protocol.get_protocol_version();
        let packet_id = match message.acknowledged {
            true => Some(
                self.protocol
                    .acquire_packet_id()
                    .map_err(|error| error.to_string())?,
            ),
            false => None,
        };
        self.unacked += usize::from(packet_id.is_some());
        let packet = packets::publish(version, message, packet_id).map_err(|e| e.to_string())?;
        let events = self.protocol.send(packet);
        let is_refused = events
            .iter()
            .any(|event| matches!(event, Event::NotifyError(_)));
        if !is_refused {
            self.note(events);
        } else if let Some(packet_id) = packet_id {
            // Larger than the client allows: it does without, as the protocol asks for.
            let events = self.protocol.release_packet_id(packet_id);
            self.note(events);
        }
        Ok(())
    }

    /// Ends the connection, with a reason where the version has one.
    fn disconnect(&mut self, code: DisconnectReasonCode, reason: &'static str) {
        if self.ending.is_none() && self.protocol.get_protocol_version() == Version::V5_0 {
            self.queue(packets::disconnect(code));
        }
        // The state machine asks to close as well; this says why.
        self.ending = Some(reason);
    }

    /// The gateway stops: what was taken is acknowledged, then the client is sent away.
    async fn wind_up(mut self) -> Result<(), String> {
        let finish = async {
            while let Some((publish, outcome)) = self.publishes.next().await {
                self.finish(publish, &outcome);
            }
        };
        // What is safe nowhere by then stays with the client.
        let is_finished = timeout(WIND_UP_MAX, finish).await.is_ok();
        self.disconnect(
            DisconnectReasonCode::ServerShuttingDown,
            "the gateway stops",
        );
        self.flush().await?;
        if is_finished {
            Ok(())
        } else {
            Err("stopped with readings that are safe nowhere".to_owned())
        }
    }
}
