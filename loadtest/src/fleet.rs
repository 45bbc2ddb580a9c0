//! Simulated homes over MQTT with QoS 1. Each connection publishes for one or more homes, in order, and after a reconnect
//! repeats what was not acknowledged. The caller provides the time, which may run faster than the wall clock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use model::command::{Ack, AckStatus};
use model::units::{DAY_MS, HouseholdId};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, SubscribeFilter,
    TlsConfiguration, Transport,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use schemas::mqtt;
use schemas::telemetry::Telemetry;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

use crate::backlog::{BATCH_MS, Batch, batches, floor_ms};
use crate::bills::Bills;
use crate::device::Device;
use crate::homes::{Home, SEED};
use crate::ledger::Ledger;
use crate::unacknowledged::Unacknowledged;

/// Most readings of one connection without PUBACK.
const WINDOW: usize = 100;
/// Most publishes without PUBACK, including answers. Beyond that an answer is dropped, and the controller asks again.
const UNACKNOWLEDGED_MAX: usize = 2 * WINDOW;
/// Packet ids wrap around at this number, far more than are in use at once.
const PACKET_IDS: u16 = 1_000;
/// Most connections that send their past at once: the first homes go live early, and little is in memory.
const PAST_AT_ONCE: usize = 8;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Connections are opened at this interval, so that a thousand TLS handshakes do not coincide.
const CONNECT_SPACING: Duration = Duration::from_millis(2);
const DISCONNECT_WAIT: Duration = Duration::from_secs(2);

/// Returns the fleet's time, UTC epoch milliseconds.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The settings of a fleet.
#[derive(Clone)]
pub struct FleetConfig {
    /// Number of homes, 1 or more.
    pub homes: u32,
    /// Id of the first home; the others follow.
    pub first_id: i64,
    /// Where the broker or gateway listens.
    pub host: String,
    pub port: u16,
    /// Authority that signed the peer's certificate, PEM; `None` for no TLS.
    pub ca_file: Option<PathBuf>,
    /// User name; empty for none. `{id}` is replaced by the id of the connection's first home.
    pub username: String,
    /// Password; `{id}` is replaced as in the user name.
    pub password: String,
    /// Homes that share a connection, 1 or more; more than 1 needs a peer that lets one client speak for many.
    pub homes_per_connection: u32,
    /// Time between two readings of one home, milliseconds of the fleet's time.
    pub interval_ms: i64,
    /// Seed; the same one makes the same homes.
    pub seed: u64,
    /// Whether some homes have EVs, tanks or devices that know only modes: see [`Home::mixed`].
    pub is_mixed: bool,
    /// How many days each home has lived through without contact when it begins; it sends them first.
    pub past_days: u32,
    /// Whether the plain rule and the same without a battery run beside each home: see [`Fleet::bills`].
    pub compares: bool,
    /// What homes say to commands.
    pub manners: Manners,
}

/// What the homes of a fleet say to commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manners {
    /// They answer as their devices do.
    #[default]
    Answer,
    /// They reject each.
    Reject,
    /// They say nothing.
    KeepSilent,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self {
            homes: 50,
            first_id: 1,
            host: "127.0.0.1".to_owned(),
            port: 1883,
            ca_file: None,
            username: String::new(),
            password: String::new(),
            homes_per_connection: 1,
            interval_ms: 60_000,
            seed: SEED,
            is_mixed: false,
            past_days: 0,
            compares: false,
            manners: Manners::Answer,
        }
    }
}

impl std::fmt::Debug for FleetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetConfig")
            .field("homes", &self.homes)
            .field("first_id", &self.first_id)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("interval_ms", &self.interval_ms)
            .finish_non_exhaustive()
    }
}

/// What the fleet has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Readings published, repeats not counted.
    pub published: u64,
    /// Readings with a PUBACK.
    pub acknowledged: u64,
    /// Commands received, repeats counted.
    pub commands: u64,
    /// Answers to commands that have their PUBACK.
    pub answers: u64,
    /// Connections made, reconnects counted.
    pub connects: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Homes that have sent their past, if they have one, and send readings as they are made.
    pub live: u64,
}

#[derive(Debug, Default)]
struct Counters {
    published: AtomicU64,
    acknowledged: AtomicU64,
    commands: AtomicU64,
    answers: AtomicU64,
    connects: AtomicU64,
    disconnects: AtomicU64,
    live: AtomicU64,
}

/// A running fleet. Dropping it ends it without waiting for anything.
#[derive(Debug)]
pub struct Fleet {
    counters: Arc<Counters>,
    stopping: watch::Sender<bool>,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    link: Arc<Link>,
    publisher: JoinHandle<()>,
    driver: JoinHandle<()>,
}

impl Fleet {
    /// Starts the homes, which connect and reconnect by themselves. `speed` is how many times as fast as the wall
    /// clock `now` runs. Needs a tokio runtime, and a rustls provider where TLS is used.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a fleet keeps its clock and ledger"
    )]
    pub fn start(
        config: &FleetConfig,
        now: Now,
        speed: f64,
        ledger: Option<Arc<Ledger>>,
    ) -> anyhow::Result<Self> {
        ensure!(
            config.homes > 0 && config.homes_per_connection > 0,
            "a fleet has homes"
        );
        ensure!(
            config.interval_ms > 0,
            "the interval is a positive number of milliseconds"
        );
        ensure!(
            speed > 0.0 && speed.is_finite(),
            "the speed is a positive number"
        );
        let first = HouseholdId::new(config.first_id).context("household ids are positive")?;
        let tls = config.ca_file.as_ref().map(transport).transpose()?;
        let (stopping, stop) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let turns = Arc::new(Semaphore::new(PAST_AT_ONCE));
        let mut connections = Vec::new();
        for offset in (0..config.homes).step_by(config.homes_per_connection as usize) {
            let count = config.homes_per_connection.min(config.homes - offset);
            let ids = (offset..offset + count).map(|number| first.get() + i64::from(number));
            let home = if config.is_mixed {
                Home::mixed
            } else {
                Home::new
            };
            let devices: BTreeMap<HouseholdId, Device> = ids
                .filter_map(HouseholdId::new)
                .map(|id| (id, Device::new(home(id, config.seed))))
                .collect();
            let options = options(config, first.get() + i64::from(offset), tls.clone());
            let (client, event_loop) = AsyncClient::new(options, UNACKNOWLEDGED_MAX + WINDOW);
            let link = Arc::new(Link {
                client,
                devices: Mutex::new(devices),
                delivery: Mutex::new(Delivery {
                    online: false,
                    unacknowledged: Unacknowledged::new(),
                }),
                window: Semaphore::new(WINDOW),
                ever_online: watch::Sender::new(false),
                now: Arc::clone(&now),
                counters: Arc::clone(&counters),
                ledger: ledger.clone(),
                manners: config.manners,
            });
            let delay = CONNECT_SPACING.saturating_mul(u32::try_from(connections.len())?);
            let driver = tokio::spawn(drive(Arc::clone(&link), event_loop, delay, stop.clone()));
            let rhythm = Rhythm {
                interval_ms: config.interval_ms,
                phase_ms: config.interval_ms * i64::from(offset) / i64::from(config.homes),
                spacing_ms: config.interval_ms / i64::from(config.homes),
                speed,
            };
            let beginning = Beginning {
                turns: Arc::clone(&turns),
                past_days: config.past_days,
                compares: config.compares,
            };
            let link_of_publisher = Arc::clone(&link);
            let publisher =
                tokio::spawn(publish(link_of_publisher, beginning, rhythm, stop.clone()));
            connections.push(Connection {
                link,
                publisher,
                driver,
            });
        }
        Ok(Self {
            counters,
            stopping,
            connections,
        })
    }

    /// Returns what it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            published: count(&self.counters.published),
            acknowledged: count(&self.counters.acknowledged),
            commands: count(&self.counters.commands),
            answers: count(&self.counters.answers),
            connects: count(&self.counters.connects),
            disconnects: count(&self.counters.disconnects),
            live: count(&self.counters.live),
        }
    }

    /// Returns what its homes have paid and would have paid since they went live; nothing unless it compares.
    #[must_use]
    pub fn bills(&self) -> Bills {
        let mut sum = Bills::default();
        for connection in &self.connections {
            let devices = connection.link.devices();
            devices.values().for_each(|device| sum += device.bills());
        }
        sum
    }

    /// Returns the number of connections, open or not.
    #[must_use]
    pub fn connections_count(&self) -> usize {
        self.connections.len()
    }

    /// Stops making readings, and waits until everything published is acknowledged. Returns the number of publishes that
    /// were not acknowledged after `patience`.
    pub async fn drain(&mut self, patience: Duration) -> usize {
        self.stopping.send_replace(true);
        let deadline = Instant::now() + patience;
        for connection in &mut self.connections {
            // A publisher that waits for room in the window ends only after an acknowledgement.
            if tokio::time::timeout_at(deadline, &mut connection.publisher)
                .await
                .is_err()
            {
                connection.publisher.abort();
            }
        }
        loop {
            let left: usize = self
                .connections
                .iter()
                .map(|it| it.link.delivery().unacknowledged.len())
                .sum();
            if left == 0 || Instant::now() >= deadline {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Disconnects every home, without waiting for acknowledgements.
    pub async fn close(mut self) {
        self.stopping.send_replace(true);
        for connection in &self.connections {
            connection.publisher.abort();
            // If the queue is full or the peer is away, the connection is cut below.
            let _ = connection.link.client.try_disconnect();
        }
        let deadline = Instant::now() + DISCONNECT_WAIT;
        for connection in &mut self.connections {
            let _ = tokio::time::timeout_at(deadline, &mut connection.driver).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.publisher.abort();
        self.driver.abort();
    }
}

/// When the homes of a connection send: home `n` at `phase + n * spacing` into each interval.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    interval_ms: i64,
    phase_ms: i64,
    spacing_ms: i64,
    speed: f64,
}

/// What comes before a home sends its first reading.
#[derive(Debug)]
struct Beginning {
    turns: Arc<Semaphore>,
    past_days: u32,
    compares: bool,
}

/// A publish, which needs its PUBACK.
#[derive(Debug)]
enum Publication {
    Reading { told: Telemetry, since: Instant },
    Past(Batch),
    Answer(Ack),
}

/// One connection, shared by the task that publishes and the task that drives the client library.
struct Link {
    client: AsyncClient,
    devices: Mutex<BTreeMap<HouseholdId, Device>>,
    delivery: Mutex<Delivery>,
    /// A permit for each reading or batch of the past that waits for its PUBACK.
    window: Semaphore,
    ever_online: watch::Sender<bool>,
    now: Now,
    counters: Arc<Counters>,
    ledger: Option<Arc<Ledger>>,
    manners: Manners,
}

/// State under one lock, so that publishes are queued in the order in which the client library gets them.
#[derive(Debug)]
struct Delivery {
    online: bool,
    unacknowledged: Unacknowledged<Publication>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    fn delivery(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<HouseholdId, Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, publication: Publication) {
        let mut delivery = self.delivery();
        delivery.unacknowledged.push(publication);
        self.flush(&mut delivery);
    }

    fn flush(&self, delivery: &mut Delivery) {
        let give = |publication: &Publication| {
            let (topic, payload) = match publication {
                Publication::Reading { told, .. } => match told {
                    Telemetry::Reading(it) => (mqtt::reading_topic(it), mqtt::reading_json(it)),
                    Telemetry::Asset(it) => (mqtt::asset_topic(it), mqtt::asset_json(it)),
                },
                Publication::Past(batch) => (batch.topic.clone(), batch.payload.clone()),
                Publication::Answer(ack) => {
                    (mqtt::ack_topic(ack.household_id), mqtt::ack_json(ack))
                }
            };
            self.client
                .try_publish(topic, QoS::AtLeastOnce, false, payload)
                .is_ok()
        };
        while delivery.online && delivery.unacknowledged.hand_over(give) {}
    }

    fn connected(&self) {
        let ids: Vec<HouseholdId> = self.devices().keys().copied().collect();
        let filters = ids.into_iter().map(|id| SubscribeFilter {
            path: mqtt::command_topic(id),
            qos: QoS::AtLeastOnce,
        });
        let mut delivery = self.delivery();
        // The queue is empty after a disconnect, so there is room.
        let subscribed = self.client.try_subscribe_many(filters);
        debug_assert!(subscribed.is_ok(), "the queue has room for a subscription");
        delivery.online = true;
        self.flush(&mut delivery);
        self.counters.connects.fetch_add(1, Ordering::Relaxed);
        self.ever_online.send_replace(true);
    }

    /// Notes a disconnect. `unacknowledged` repeats publishes, since the client library forgets them without a session.
    fn disconnected(&self, event_loop: &mut EventLoop) {
        let mut delivery = self.delivery();
        event_loop.clean();
        event_loop.pending.clear();
        event_loop.state.events.clear();
        event_loop.state.collision = None;
        delivery.unacknowledged.disconnected();
        if std::mem::take(&mut delivery.online) {
            self.counters.disconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn acknowledged(&self, packet_id: u16) {
        let mut delivery = self.delivery();
        let publication = delivery.unacknowledged.acknowledged(packet_id);
        self.flush(&mut delivery);
        drop(delivery);
        match publication {
            Some(Publication::Reading { told, since }) => {
                self.window.add_permits(1);
                self.counters.acknowledged.fetch_add(1, Ordering::Relaxed);
                if let (Some(ledger), Telemetry::Reading(reading)) = (&self.ledger, &told) {
                    ledger.acknowledged(reading, since.elapsed());
                }
            }
            Some(Publication::Past(batch)) => {
                self.window.add_permits(1);
                let count = batch.readings_count;
                self.counters
                    .acknowledged
                    .fetch_add(count, Ordering::Relaxed);
            }
            Some(Publication::Answer(_)) => {
                self.counters.answers.fetch_add(1, Ordering::Relaxed);
            }
            None => {}
        }
    }

    fn received(&self, topic: &str, payload: &[u8]) {
        let now_ms = (self.now)();
        let mut devices = self.devices();
        let device = mqtt::household_of_topic(topic).and_then(|id| devices.get_mut(&id));
        let Some(device) = device else {
            return debug!(topic, "command for no home of this connection");
        };
        let command = match mqtt::parse_command(payload, device.capacity_kwh()) {
            Ok(command) if device.id() == command.household_id => command,
            Ok(_) => return debug!(topic, "command for another home"),
            Err(error) => return debug!(topic, error, "command does not read"),
        };
        self.counters.commands.fetch_add(1, Ordering::Relaxed);
        let mut ack = device.receive(command, now_ms);
        drop(devices);
        match self.manners {
            Manners::Answer => self.answer(ack),
            Manners::Reject => {
                ack.status = AckStatus::Rejected;
                "out of order".clone_into(&mut ack.reason);
                self.answer(ack);
            }
            Manners::KeepSilent => {}
        }
    }

    /// Sends a reading; waits for room in the window.
    async fn publish(&self, told: Telemetry) {
        self.take_room().await;
        self.counters.published.fetch_add(1, Ordering::Relaxed);
        if let (Some(ledger), Telemetry::Reading(reading)) = (&self.ledger, &told) {
            ledger.sent(reading);
        }
        let since = Instant::now();
        self.send(Publication::Reading { told, since });
    }

    /// Sends a batch of the past; waits for room in the window. The ledger is about live readings.
    async fn publish_past(&self, batch: Batch) {
        self.take_room().await;
        let count = batch.readings_count;
        self.counters.published.fetch_add(count, Ordering::Relaxed);
        self.send(Publication::Past(batch));
    }

    async fn take_room(&self) {
        let permit = self.window.acquire().await;
        permit.expect("nobody closes the window").forget();
    }

    fn answer(&self, ack: Ack) {
        if self.delivery().unacknowledged.len() < UNACKNOWLEDGED_MAX {
            self.send(Publication::Answer(ack));
        }
    }
}

/// Publishes the past, then readings at each home's time, in order. If the window is full it waits, and catches up later.
async fn publish(
    link: Arc<Link>,
    beginning: Beginning,
    rhythm: Rhythm,
    mut stop: watch::Receiver<bool>,
) {
    let mut online = link.ever_online.subscribe();
    tokio::select! {
        _ = online.wait_for(|online| *online) => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    let ids: Vec<HouseholdId> = link.devices().keys().copied().collect();
    go_live(&link, &ids, beginning, &stop).await;
    let now_ms = (link.now)();
    let mut round_ms = now_ms - now_ms.rem_euclid(rhythm.interval_ms) + rhythm.interval_ms;
    loop {
        let mut due_ms = round_ms + rhythm.phase_ms;
        for id in &ids {
            tokio::select! {
                () = until(&link.now, due_ms, rhythm.speed) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let stepped = link.devices().get_mut(id).map(|device| device.step(due_ms));
            for told in stepped.unwrap_or_default() {
                link.publish(told).await;
            }
            due_ms += rhythm.spacing_ms;
        }
        round_ms += rhythm.interval_ms;
    }
}

/// Publishes what the homes have kept of their past, the oldest first, until they have caught up with the time, and then
/// their state. Only a few batches are in memory at once.
async fn go_live(
    link: &Link,
    ids: &[HouseholdId],
    beginning: Beginning,
    stop: &watch::Receiver<bool>,
) {
    let has_past = beginning.past_days > 0;
    let _turn = if has_past {
        beginning.turns.acquire().await.ok()
    } else {
        None
    };
    if has_past {
        let past_ms = i64::from(beginning.past_days) * DAY_MS;
        let mut start_ms = floor_ms((link.now)() - past_ms);
        loop {
            let end_ms = floor_ms((link.now)()).min(start_ms + BATCH_MS);
            if start_ms >= end_ms || *stop.borrow() {
                break;
            }
            for id in ids {
                let kept = link
                    .devices()
                    .get_mut(id)
                    .map(|device| batches(device, start_ms, end_ms));
                for batch in kept.unwrap_or_default() {
                    link.publish_past(batch).await;
                }
            }
            start_ms = end_ms;
        }
    }
    for id in ids {
        let now_ms = (link.now)();
        let told = link.devices().get_mut(id).map(|device| {
            let told = device.step(now_ms);
            if beginning.compares {
                device.compare_from(now_ms);
            }
            told
        });
        link.counters.live.fetch_add(1, Ordering::Relaxed);
        // Without a past, homes begin one after the other.
        for told in told.filter(|_| has_past).into_iter().flatten() {
            link.publish(told).await;
        }
    }
}

/// Waits until the fleet's time is `ts_ms`. Checks at least once a second, in case that time jumps.
async fn until(now: &Now, ts_ms: i64, speed: f64) {
    loop {
        let ahead_ms = ts_ms - now();
        if ahead_ms <= 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "bounded by the interval")]
        let ahead_s = (ahead_ms as f64 / 1e3 / speed).clamp(0.001, 1.0);
        tokio::time::sleep(Duration::from_secs_f64(ahead_s)).await;
    }
}

/// Runs the client library; the only task that polls it.
async fn drive(
    link: Arc<Link>,
    mut event_loop: EventLoop,
    delay: Duration,
    stop: watch::Receiver<bool>,
) {
    tokio::time::sleep(delay).await;
    let mut backoff = BACKOFF_MIN;
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                backoff = BACKOFF_MIN;
                link.connected();
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => link.acknowledged(ack.pkid),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                link.received(&publish.topic, &publish.payload);
            }
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => {
                link.delivery().unacknowledged.left(packet_id);
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(Event::Incoming(_) | Event::Outgoing(_)) => {}
            Err(error) => {
                debug!(%error, "connection lost");
                link.disconnected(&mut event_loop);
                if *stop.borrow() && link.delivery().unacknowledged.len() == 0 {
                    return;
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

fn options(config: &FleetConfig, first_id: i64, tls: Option<Transport>) -> MqttOptions {
    let client_id = format!("home-{first_id}");
    let mut options = MqttOptions::new(client_id, config.host.clone(), config.port);
    options
        .set_keep_alive(Duration::from_secs(30))
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(mqtt::PAYLOAD_BYTES_MAX, mqtt::PAYLOAD_BYTES_MAX);
    if !config.username.is_empty() {
        let fill = |text: &str| text.replace("{id}", &first_id.to_string());
        options.set_credentials(fill(&config.username), fill(&config.password));
    }
    if let Some(transport) = tls {
        options.set_transport(transport);
    }
    options
}

fn transport(ca_file: &PathBuf) -> anyhow::Result<Transport> {
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file)
        .with_context(|| format!("read {}", ca_file.display()))?;
    for certificate in certificates {
        roots
            .add(certificate.context("read a certificate")?)
            .context("trust a certificate")?;
    }
    ensure!(
        !roots.is_empty(),
        "{} holds no certificate",
        ca_file.display()
    );
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Transport::tls_with_config(TlsConfiguration::Rustls(
        Arc::new(client),
    )))
}
