//! One client's connection: the protocol's state, packets under way in both directions, and the loop that drives them.
//! Reads only what it can handle, writes with a time limit, and acknowledges in the order of the publishes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, Qos, SubEntry};
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, MqttError, PubackReasonCode};
use mqtt_protocol_core::mqtt::{Connection as Protocol, Version, role};
use platform::lifetime::stopped;
use platform::trace::Caller;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant as Moment, sleep_until, timeout, timeout_at};

use super::access::{FilterRefusal, Identity, Publishing, filter, publishing};
use super::exactly_once::{ExactlyOnce, Released};
use super::incoming::{Hello, Incoming};
use super::packets::{self, Welcome};
use super::refusals::{End, GatewayRefusal};
use super::shared::Shared;
use super::subscribers::{Inbox, Message, SessionHandle, SessionRequest};
use crate::ingest::{InTurn, NotDurable};
use crate::mqtt_stream::{Stream, read_some};

/// How much of its output buffer a connection keeps after writing.
const OUT_KEPT_BYTES: usize = 1_024;
/// Most publishes of one connection that are handled at the same time, and their bytes. One packet may go beyond.
const PUBLISHES_MAX: usize = 65_535;
const PUBLISHES_BYTES_MAX: usize = 2 << 20;
/// Most messages that a device has not acknowledged; further ones wait in its queue.
const UNACKED_MAX: usize = 32;
/// How long a stop of the gateway waits for readings to become durable.
const WIND_UP_MAX: Duration = Duration::from_secs(10);
/// Largest command or status message.
const DOWNWARD_BYTES_MAX: usize = 16 * 1_024;

/// One client's connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    peer: SocketAddr,
    identity: Identity,
    shared: Arc<Shared>,
    protocol: Protocol<role::Server>,
    /// Bytes that were read. Those from `taken` on are not parsed yet.
    read: Vec<u8>,
    taken: usize,
    /// When they were read.
    read_at: Moment,
    /// Bytes to write.
    out: Vec<u8>,
    received: VecDeque<Packet>,
    /// Publishes under way, in order.
    publishes: InTurn<Publish>,
    publishes_bytes: usize,
    once: ExactlyOnce,
    unacked: usize,
    keep_alive: Option<Moment>,
    /// Set if the connection ends once `out` is written.
    ending: Option<End>,
    session: Option<SessionHandle>,
}

/// A publish under way.
#[derive(Debug, Clone, Copy)]
struct Publish {
    receipt: Receipt,
    bytes: usize,
    since: Moment,
    destination: Destination,
}

/// How a publish is acknowledged, with its packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receipt {
    /// With QoS 0.
    None,
    Puback(u16),
    Pubrec(u16),
}

/// Where a publish went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Ingest,
    Passed { reached: usize },
    Refused,
    TooLarge,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            self.shared.subscribers.leave(session);
        }
    }
}

impl Connection {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        peer: SocketAddr,
        identity: Identity,
        shared: Arc<Shared>,
    ) -> Self {
        let options =
            ConnectionOptions::new().maximum_packet_size_recv(shared.config.packet_bytes_max);
        let mut protocol = Protocol::with_options(Version::Undetermined, options);
        protocol.set_auto_pub_response(false);
        protocol.set_auto_ping_response(true);
        let patience = Duration::from_millis(shared.config.patience_ms);
        let publishes = shared.ingest.in_turn(patience);
        Self {
            stream,
            peer,
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
            once: ExactlyOnce::default(),
            unacked: 0,
            keep_alive: None,
            ending: None,
            session: None,
        }
    }

    /// Serves the client until either side ends the connection. CONNECT must come before `deadline`.
    pub(super) async fn run(mut self, deadline: Moment, stop: watch::Receiver<bool>) {
        if let Err(end) = self.serve(deadline, stop).await {
            self.shared.refusals.end(&end, self.peer, self.client_id());
        }
    }

    async fn serve(
        &mut self,
        deadline: Moment,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), End> {
        let mut inbox = timeout_at(deadline, self.welcome())
            .await
            .map_err(|_| End::refused(GatewayRefusal::ConnectTimeout, "no CONNECT in time"))??;
        // Reset when it fires rather than with every packet.
        let timer = sleep_until(Moment::now());
        tokio::pin!(timer);
        loop {
            self.take_packets(true)?;
            self.flush().await?;
            if let Some(end) = self.ending.take() {
                return Err(end);
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
                    if !read? {
                        return Err(End::left("closed by the client"));
                    }
                    self.read_at = Moment::now();
                }
                Some(message) = inbox.messages.recv(), if may_send => self.send(&message)?,
                () = timer.as_mut(), if self.keep_alive.is_some() => {
                    let due = self.keep_alive.expect("checked just above");
                    if due <= Moment::now() && may_read {
                        self.keep_alive = None;
                        self.ending = Some(End::refused(GatewayRefusal::KeepAlive, "silent for too long"));
                        let events = self.protocol.notify_timer_fired(TimerKind::PingreqRecv);
                        self.note(events);
                    } else {
                        // While nothing is read, the client's silence does not count.
                        timer.as_mut().reset(due.max(Moment::now() + Duration::from_millis(100)));
                    }
                }
                Ok(()) = &mut inbox.taken_over => {
                    self.disconnect(DisconnectReasonCode::SessionTakenOver, End::left("taken over"));
                }
                () = stopped(&mut stop) => return self.wind_up().await,
            }
        }
    }

    /// Reads until CONNECT has come, and answers it.
    async fn welcome(&mut self) -> Result<Inbox, End> {
        while self.received.is_empty() {
            if !read_some(&mut self.stream, &mut self.read).await? {
                return Err(End::left("closed before CONNECT"));
            }
            self.read_at = Moment::now();
            self.take_packets(false)?;
            if let Some(end) = self.ending.take() {
                self.flush().await?;
                return Err(end);
            }
        }
        let packet = self.received.pop_front().expect("checked just above");
        let config = &self.shared.config;
        let Some(hello) = Hello::read(&packet, config.session_s_max) else {
            return Err(End::refused(GatewayRefusal::Protocol, "no CONNECT first"));
        };
        let version = self.protocol.get_protocol_version();
        if hello.client_id.is_empty() && !hello.clean && version != Version::V5_0 {
            // No client could ever resume such a session.
            self.queue(packets::rejected_client_id());
            self.flush().await?;
            let detail = "no client id, and no clean session";
            return Err(End::refused(GatewayRefusal::ClientId, detail));
        }
        let session_s = hello.session_s.min(config.session_s_max);
        let request = SessionRequest {
            identity: self.identity,
            client_id: hello.client_id,
            clean: hello.clean,
            session: Duration::from_secs(session_s.into()),
        };
        let (session, inbox, recorded) = self.shared.subscribers.enter(&request);
        let granted_max = config.keep_alive_s_max;
        let is_longer = hello.keep_alive_s == 0 || hello.keep_alive_s > granted_max;
        let connack = packets::accepted(
            version,
            &Welcome {
                assigned_id: hello.client_id.is_empty().then(|| session.client_id()),
                keep_alive_s: (is_longer && granted_max > 0).then_some(granted_max),
                receive_max: config.receive_max,
                is_session_present: recorded.is_some(),
                session_s: (session_s != hello.session_s).then_some(session_s),
            },
        );
        let recorded = recorded.unwrap_or_default();
        self.protocol
            .restore_qos2_publish_handled(recorded.iter().copied().collect());
        self.once = ExactlyOnce::resume(recorded);
        self.session = Some(session);
        if let Some(topic) = hello.will_topic {
            self.refuse(GatewayRefusal::Will, &format!("a will for {topic}"));
        }
        self.queue(connack);
        Ok(inbox)
    }

    /// Returns the client id; empty before CONNECT.
    fn client_id(&self) -> &str {
        self.session.as_ref().map_or("", SessionHandle::client_id)
    }

    /// Counts and logs a refusal. The connection goes on.
    fn refuse(&self, refusal: GatewayRefusal, detail: &str) {
        self.shared
            .refusals
            .note(refusal, self.peer, self.client_id(), detail);
    }

    /// Parses and handles whole packets, as long as there is room. Before the client is connected it parses only the
    /// first, which stays in `received`.
    fn take_packets(&mut self, is_connected: bool) -> Result<(), End> {
        loop {
            while is_connected && let Some(packet) = self.received.pop_front() {
                self.handle(packet.into())?;
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

    /// Returns whether another publish may be taken. For an MQTT 5 client the protocol limits the count, so that its
    /// pings are answered however long its readings take.
    fn has_room(&self) -> bool {
        self.publishes.len() < PUBLISHES_MAX && self.publishes_bytes < PUBLISHES_BYTES_MAX
    }

    fn unacked_max(&self) -> usize {
        match self.protocol.get_receive_maximum_vacancy_for_send() {
            Some(0) => 0,
            Some(_) | None => UNACKED_MAX,
        }
    }

    /// Carries out what the protocol's state machine asks for.
    fn note(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => self.received.push_back(packet),
                Event::RequestSendPacket { packet, .. } => {
                    let early = |id: u16| !self.once.may_record(id);
                    if packets::recorded_id(&packet).is_some_and(early) {
                        // The client repeats a publish that is not durable yet. PUBREC follows once it is.
                        continue;
                    }
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
                // More informative than the request to close, which may come before it.
                Event::NotifyError(error) => match self.ending {
                    Some(End::Refused(..)) => {}
                    Some(End::Left(_)) | None => self.ending = Some(End::protocol(error)),
                },
                Event::RequestClose => {
                    self.ending
                        .get_or_insert_with(|| End::left("closed by the protocol"));
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
            Err(error) => {
                self.ending.get_or_insert_with(|| End::protocol(error));
            }
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
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
        let late = |_| End::refused(GatewayRefusal::WriteTimeout, "the client does not read");
        Ok(written.map_err(late)??)
    }

    fn handle(&mut self, incoming: Incoming) -> Result<(), End> {
        let version = self.protocol.get_protocol_version();
        match incoming {
            Incoming::Publish {
                topic,
                payload,
                qos,
                packet_id,
                retain,
                caller,
            } => {
                let receipt = match (qos, packet_id) {
                    (Qos::AtMostOnce, _) | (_, None) => Receipt::None,
                    (Qos::AtLeastOnce, Some(packet_id)) => Receipt::Puback(packet_id),
                    (Qos::ExactlyOnce, Some(packet_id)) => Receipt::Pubrec(packet_id),
                };
                self.publish(topic, payload, receipt, (retain, caller));
            }
            Incoming::Release { packet_id } => self.release(packet_id),
            Incoming::Subscribe { packet_id, entries } => {
                let answers = self.subscribe(&entries);
                self.queue(packets::suback(version, packet_id, &answers));
            }
            Incoming::Unsubscribe { packet_id, filters } => {
                let answers = self.unsubscribe(&filters);
                self.queue(packets::unsuback(version, packet_id, &answers));
            }
            Incoming::Disconnect => return Err(End::left("the client disconnected")),
            Incoming::Auth => self.violation("AUTH is not supported"),
            Incoming::Answered => {}
            Incoming::Unexpected => self.violation("unexpected packet"),
        }
        Ok(())
    }

    /// Ends the connection over a packet that should not have come.
    fn violation(&mut self, detail: &str) {
        let end = End::refused(GatewayRefusal::Protocol, detail);
        self.disconnect(DisconnectReasonCode::ProtocolError, end);
    }

    fn publish(
        &mut self,
        topic: String,
        payload: Bytes,
        receipt: Receipt,
        (retain, caller): (bool, Caller),
    ) {
        if let Receipt::Pubrec(packet_id) = receipt
            && !self.once.begin(packet_id)
        {
            let detail = "too many publishes with QoS 2 that it has not released";
            let end = End::refused(GatewayRefusal::Qos2Max, detail);
            self.disconnect(DisconnectReasonCode::QuotaExceeded, end);
            return;
        }
        // The payload and roughly what else a publish needs.
        let bytes = payload.len() + 256;
        self.publishes_bytes += bytes;
        let publish = |destination| Publish {
            receipt,
            bytes,
            since: self.read_at,
            destination,
        };
        match publishing(self.identity, &topic) {
            Publishing::Ingest => {
                if retain {
                    self.refuse(
                        GatewayRefusal::Retain,
                        "readings and answers are not retained",
                    );
                }
                let tag = publish(Destination::Ingest);
                self.publishes.push_from(caller, topic, payload, tag);
            }
            Publishing::Pass(household_id, downward) => {
                let destination = if payload.len() > DOWNWARD_BYTES_MAX {
                    Destination::TooLarge
                } else {
                    let message = Message {
                        household_id,
                        downward,
                        payload,
                        acknowledged: receipt != Receipt::None,
                        retained: false,
                        trace: caller.recorded(),
                    };
                    self.pass(&message, retain)
                };
                self.publishes.push_done(publish(destination));
            }
            Publishing::Refused => self.publishes.push_done(publish(Destination::Refused)),
        }
    }

    /// The second half of a publish with QoS 2.
    fn release(&mut self, packet_id: u16) {
        let is_known = match self.once.release(packet_id) {
            Released::Known => true,
            Released::Unknown => false,
            Released::TooEarly => return self.violation("PUBREL before PUBREC"),
        };
        if let (true, Some(session)) = (is_known, &self.session) {
            self.shared.subscribers.release(session, packet_id);
        }
        let version = self.protocol.get_protocol_version();
        self.queue(packets::pubcomp(version, packet_id, is_known));
    }

    fn pass(&self, message: &Message, retain: bool) -> Destination {
        let subscribers = &self.shared.subscribers;
        if retain && message.downward == super::access::Downward::Status {
            subscribers.retain(message.household_id, message.payload.clone());
        }
        Destination::Passed {
            reached: subscribers.pass(message),
        }
    }

    /// Acknowledges a publish, or ends the connection if the version cannot refuse otherwise.
    fn finish(&mut self, publish: Publish, outcome: &Result<(), NotDurable>) {
        self.publishes_bytes -= publish.bytes;
        if let Err(error) = outcome {
            let end = End::refused(GatewayRefusal::NotDurable, &error.to_string());
            self.disconnect(DisconnectReasonCode::QuotaExceeded, end);
            return;
        }
        let is_five = self.protocol.get_protocol_version() == Version::V5_0;
        let refusal = match publish.destination {
            Destination::Ingest | Destination::Passed { .. } => None,
            Destination::Refused => Some((
                GatewayRefusal::NotAuthorized,
                "not allowed to publish there",
            )),
            Destination::TooLarge => Some((
                GatewayRefusal::MessageTooLarge,
                "the message to a device is too large",
            )),
        };
        if let Some((refusal, detail)) = refusal {
            if !is_five {
                self.ending
                    .get_or_insert_with(|| End::refused(refusal, detail));
                return;
            }
            self.refuse(refusal, detail);
        }
        let reason = match publish.destination {
            Destination::Passed { reached: 0 } => PubackReasonCode::NoMatchingSubscribers,
            Destination::Ingest | Destination::Passed { .. } => PubackReasonCode::Success,
            Destination::Refused => PubackReasonCode::NotAuthorized,
            Destination::TooLarge => PubackReasonCode::QuotaExceeded,
        };
        if self.ending.is_none() {
            self.acknowledge(publish, reason);
        }
    }

    fn acknowledge(&mut self, publish: Publish, reason: PubackReasonCode) {
        let version = self.protocol.get_protocol_version();
        match publish.receipt {
            Receipt::None => return,
            Receipt::Puback(packet_id) => self.queue(packets::puback(version, packet_id, reason)),
            Receipt::Pubrec(packet_id) => {
                let is_taken = reason.is_success();
                self.once.record(packet_id, is_taken);
                if let (true, Some(session)) = (is_taken, &self.session) {
                    self.shared.subscribers.record(session, packet_id);
                }
                self.queue(packets::pubrec(version, packet_id, reason));
            }
        }
        let seconds = publish.since.elapsed().as_secs_f64();
        self.shared.publish_to_ack_seconds.observe(seconds);
    }

    fn subscribe(&mut self, entries: &[SubEntry]) -> Vec<Result<bool, FilterRefusal>> {
        let session = self.session.as_ref().expect("taken with CONNECT");
        let judge = |entry: &SubEntry| {
            let wanted = filter(self.identity, entry.topic_filter())?;
            let acknowledged = entry.sub_opts().qos() != Qos::AtMostOnce;
            if !self
                .shared
                .subscribers
                .subscribe(session, wanted, acknowledged)
            {
                return Err(FilterRefusal::TooMany);
            }
            Ok(acknowledged)
        };
        let answer = |entry: &SubEntry| {
            judge(entry).inspect_err(|refusal| {
                let refusal = match refusal {
                    FilterRefusal::NotAuthorized => GatewayRefusal::Subscription,
                    FilterRefusal::Shared => GatewayRefusal::SharedSubscription,
                    FilterRefusal::TooMany => GatewayRefusal::SubscriptionsMax,
                };
                self.refuse(refusal, entry.topic_filter());
            })
        };
        entries.iter().map(answer).collect()
    }

    fn unsubscribe(&mut self, filters: &[String]) -> Vec<bool> {
        let session = self.session.as_ref().expect("taken with CONNECT");
        let end = |text: &String| {
            let known = filter(self.identity, text);
            known.is_ok_and(|known| self.shared.subscribers.unsubscribe(session, &known))
        };
        filters.iter().map(end).collect()
    }

    /// Sends a message to the device.
    fn send(&mut self, message: &Message) -> Result<(), End> {
        let version = self.protocol.get_protocol_version();
        let packet_id = match message.acknowledged {
            true => Some(self.protocol.acquire_packet_id().map_err(End::protocol)?),
            false => None,
        };
        self.unacked += usize::from(packet_id.is_some());
        let packet = packets::publish(version, message, packet_id).map_err(End::protocol)?;
        let events = self.protocol.send(packet);
        let is_refused = events
            .iter()
            .any(|event| matches!(event, Event::NotifyError(_)));
        if !is_refused {
            self.note(events);
        } else if let Some(packet_id) = packet_id {
            // The message is larger than the client allows. The protocol says to drop it.
            let events = self.protocol.release_packet_id(packet_id);
            self.note(events);
        }
        Ok(())
    }

    /// Ends the connection, with a reason if the version has one.
    fn disconnect(&mut self, code: DisconnectReasonCode, end: End) {
        if self.ending.is_none() && self.protocol.get_protocol_version() == Version::V5_0 {
            self.queue(packets::disconnect(code));
        }
        // The state machine asks to close as well; this is the reason.
        self.ending = Some(end);
    }

    /// Ends the connection because the gateway stops: acknowledges publishes under way, then disconnects the client.
    async fn wind_up(&mut self) -> Result<(), End> {
        let finish = async {
            while let Some((publish, outcome)) = self.publishes.next().await {
                self.finish(publish, &outcome);
            }
        };
        // The client keeps publishes that are not durable by then.
        let is_finished = timeout(WIND_UP_MAX, finish).await.is_ok();
        let end = End::left("the gateway is stopping");
        self.disconnect(DisconnectReasonCode::ServerShuttingDown, end);
        self.flush().await?;
        if is_finished {
            Ok(())
        } else {
            let detail = "the gateway stopped before the client's readings were durable";
            Err(End::refused(GatewayRefusal::NotDurable, detail))
        }
    }
}
