//! One client: the protocol's state, what is on its way in and out, and the loop between them. Reads only what it can
//! handle, writes with a time limit, and acknowledges in the order of the publishes.

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
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant as Moment, sleep_until, timeout, timeout_at};

use super::Shared;
use super::access::{FilterRefusal, Identity, Publishing, filter, publishing};
use super::exactly_once::{ExactlyOnce, Released};
use super::incoming::{Hello, Incoming};
use super::packets::{self, Welcome};
use super::refusals::{End, Refusal};
use super::subscribers::{Entry, Inbox, Message, Place};
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
    peer: SocketAddr,
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
    once: ExactlyOnce,
    unacked: usize,
    keep_alive: Option<Moment>,
    /// Set when the connection is to end once `out` is written.
    ending: Option<End>,
    place: Option<Place>,
}

/// A publish that is being handled.
#[derive(Debug, Clone, Copy)]
struct Publish {
    receipt: Receipt,
    bytes: usize,
    since: Moment,
    way: Way,
}

/// How a publish is acknowledged, with its packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receipt {
    /// With QoS 0.
    None,
    Puback(u16),
    Pubrec(u16),
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
            place: None,
        }
    }

    /// Serves the client until one side ends it. CONNECT must have come by `deadline`.
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
            .map_err(|_| End::refused(Refusal::ConnectTimeout, "no CONNECT in time"))??;
        // Moved on when it fires rather than with every packet.
        let timer = sleep_until(Moment::now());
        tokio::pin!(timer);
        loop {
            self.take_apart(true)?;
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
                        self.ending = Some(End::refused(Refusal::KeepAlive, "silent for too long"));
                        let events = self.protocol.notify_timer_fired(TimerKind::PingreqRecv);
                        self.note(events);
                    } else {
                        // While nothing is read the client's silence means nothing.
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

    /// Reads until CONNECT is there and answers it.
    async fn welcome(&mut self) -> Result<Inbox, End> {
        while self.received.is_empty() {
            if !read_some(&mut self.stream, &mut self.read).await? {
                return Err(End::left("closed before CONNECT"));
            }
            self.read_at = Moment::now();
            self.take_apart(false)?;
            if let Some(end) = self.ending.take() {
                self.flush().await?;
                return Err(end);
            }
        }
        let packet = self.received.pop_front().expect("checked just above");
        let config = &self.shared.config;
        let Some(hello) = Hello::read(&packet, config.session_s_max) else {
            return Err(End::refused(Refusal::Protocol, "no CONNECT first"));
        };
        let version = self.protocol.get_protocol_version();
        if hello.client_id.is_empty() && !hello.clean && version != Version::V5_0 {
            // Nobody could ever come back to such a session.
            self.queue(packets::rejected_client_id());
            self.flush().await?;
            let detail = "no client id, and no clean session";
            return Err(End::refused(Refusal::ClientId, detail));
        }
        let session_s = hello.session_s.min(config.session_s_max);
        let entry = Entry {
            identity: self.identity,
            client_id: hello.client_id,
            clean: hello.clean,
            session: Duration::from_secs(session_s.into()),
        };
        let (place, inbox, recorded) = self.shared.subscribers.enter(&entry);
        let granted_max = config.keep_alive_s_max;
        let is_longer = hello.keep_alive_s == 0 || hello.keep_alive_s > granted_max;
        let connack = packets::accepted(
            version,
            &Welcome {
                assigned_id: hello.client_id.is_empty().then(|| place.client_id()),
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
        self.place = Some(place);
        if let Some(topic) = hello.will_topic {
            self.refuse(Refusal::Will, &format!("a will for {topic}"));
        }
        self.queue(connack);
        Ok(inbox)
    }

    /// Under which it is known; empty before CONNECT.
    fn client_id(&self) -> &str {
        self.place.as_ref().map_or("", Place::client_id)
    }

    /// Counts and tells something that was not taken. The connection goes on.
    fn refuse(&self, refusal: Refusal, detail: &str) {
        self.shared
            .refusals
            .note(refusal, self.peer, self.client_id(), detail);
    }

    /// Takes whole packets out of what was read and handles them, as long as there is room. Before the client is
    /// connected only the first, which stays in `received`.
    fn take_apart(&mut self, is_connected: bool) -> Result<(), End> {
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
                    let early = |id: u16| !self.once.may_record(id);
                    if packets::recorded_id(&packet).is_some_and(early) {
                        // The client repeats a publish that is not durable yet; its PUBREC comes when it is.
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
                // Says more than the request to close, which may come before it.
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
        let late = |_| End::refused(Refusal::WriteTimeout, "it does not read");
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
            } => {
                let receipt = match (qos, packet_id) {
                    (Qos::AtMostOnce, _) | (_, None) => Receipt::None,
                    (Qos::AtLeastOnce, Some(packet_id)) => Receipt::Puback(packet_id),
                    (Qos::ExactlyOnce, Some(packet_id)) => Receipt::Pubrec(packet_id),
                };
                self.publish(topic, payload, receipt, retain);
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
        let end = End::refused(Refusal::Protocol, detail);
        self.disconnect(DisconnectReasonCode::ProtocolError, end);
    }

    fn publish(&mut self, topic: String, payload: Bytes, receipt: Receipt, retain: bool) {
        if let Receipt::Pubrec(packet_id) = receipt
            && !self.once.begin(packet_id)
        {
            let detail = "too many publishes with QoS 2 that it has not released";
            let end = End::refused(Refusal::Qos2Max, detail);
            self.disconnect(DisconnectReasonCode::QuotaExceeded, end);
            return;
        }
        // What a publish costs beside its payload, roughly.
        let bytes = payload.len() + 256;
        self.publishes_bytes += bytes;
        let publish = |way| Publish {
            receipt,
            bytes,
            since: self.read_at,
            way,
        };
        match publishing(self.identity, &topic) {
            Publishing::Ingest => {
                if retain {
                    self.refuse(Refusal::Retain, "readings and answers are not retained");
                }
                self.publishes.push(topic, payload, publish(Way::Ingest));
            }
            Publishing::Pass(household_id, downward) => {
                let way = if payload.len() > DOWNWARD_BYTES_MAX {
                    Way::TooLarge
                } else {
                    let message = Message {
                        household_id,
                        downward,
                        payload,
                        acknowledged: receipt != Receipt::None,
                        retained: false,
                    };
                    self.pass(&message, retain)
                };
                self.publishes.push_done(publish(way));
            }
            Publishing::Refused => self.publishes.push_done(publish(Way::Refused)),
        }
    }

    /// The second half of a publish with QoS 2.
    fn release(&mut self, packet_id: u16) {
        let is_known = match self.once.release(packet_id) {
            Released::Known => true,
            Released::Unknown => false,
            Released::TooEarly => return self.violation("PUBREL before PUBREC"),
        };
        if let (true, Some(place)) = (is_known, &self.place) {
            self.shared.subscribers.release(place, packet_id);
        }
        let version = self.protocol.get_protocol_version();
        self.queue(packets::pubcomp(version, packet_id, is_known));
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
        if let Err(error) = outcome {
            let end = End::refused(Refusal::NotDurable, &error.to_string());
            self.disconnect(DisconnectReasonCode::QuotaExceeded, end);
            return;
        }
        let is_five = self.protocol.get_protocol_version() == Version::V5_0;
        let refusal = match publish.way {
            Way::Ingest | Way::Passed { .. } => None,
            Way::Refused => Some((Refusal::NotAuthorized, "it may not publish there")),
            Way::TooLarge => Some((
                Refusal::MessageTooLarge,
                "a message to a device is too large",
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
        let reason = match publish.way {
            Way::Passed { reached: 0 } => PubackReasonCode::NoMatchingSubscribers,
            Way::Ingest | Way::Passed { .. } => PubackReasonCode::Success,
            Way::Refused => PubackReasonCode::NotAuthorized,
            Way::TooLarge => PubackReasonCode::QuotaExceeded,
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
                if let (true, Some(place)) = (is_taken, &self.place) {
                    self.shared.subscribers.record(place, packet_id);
                }
                self.queue(packets::pubrec(version, packet_id, reason));
            }
        }
        let seconds = publish.since.elapsed().as_secs_f64();
        self.shared.publish_to_ack_seconds.observe(seconds);
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
        let answer = |entry: &SubEntry| {
            judge(entry).inspect_err(|refusal| {
                let refusal = match refusal {
                    FilterRefusal::NotAuthorized => Refusal::Subscription,
                    FilterRefusal::Shared => Refusal::SharedSubscription,
                    FilterRefusal::TooMany => Refusal::SubscriptionsMax,
                };
                self.refuse(refusal, entry.topic_filter());
            })
        };
        entries.iter().map(answer).collect()
    }

    fn unsubscribe(&mut self, filters: &[String]) -> Vec<bool> {
        let place = self.place.as_ref().expect("taken with CONNECT");
        let end = |text: &String| {
            let known = filter(self.identity, text);
            known.is_ok_and(|known| self.shared.subscribers.unsubscribe(place, &known))
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
            // Larger than the client allows: it does without, as the protocol asks for.
            let events = self.protocol.release_packet_id(packet_id);
            self.note(events);
        }
        Ok(())
    }

    /// Ends the connection, with a reason where the version has one.
    fn disconnect(&mut self, code: DisconnectReasonCode, end: End) {
        if self.ending.is_none() && self.protocol.get_protocol_version() == Version::V5_0 {
            self.queue(packets::disconnect(code));
        }
        // The state machine asks to close as well; this says why.
        self.ending = Some(end);
    }

    /// The gateway stops: what was taken is acknowledged, then the client is sent away.
    async fn wind_up(&mut self) -> Result<(), End> {
        let finish = async {
            while let Some((publish, outcome)) = self.publishes.next().await {
                self.finish(publish, &outcome);
            }
        };
        // What is safe nowhere by then stays with the client.
        let is_finished = timeout(WIND_UP_MAX, finish).await.is_ok();
        let end = End::left("the gateway stops");
        self.disconnect(DisconnectReasonCode::ServerShuttingDown, end);
        self.flush().await?;
        if is_finished {
            Ok(())
        } else {
            let detail = "the gateway stops before its readings are durable";
            Err(End::refused(Refusal::NotDurable, detail))
        }
    }
}
