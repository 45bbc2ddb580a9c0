//! The controller between a log and a real broker (Mosquitto): commands leave at once and again until they are
//! answered, none twice after its answer, through restarts of either side.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod controller_log;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use devices::controller::{Controller, ControllerConfig, ControllerError};
use devices::mqtt_client::{MqttEndpoint, MqttProtocol};
use hearth_log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use model::command::{Ack, AckStatus, Command, ProgramEntry};
use model::policy::SlotPolicy;
use model::units::{HouseholdId, MINUTE_MS};
use platform::clock::Clock;
use platform::log::Log;
use platform::metrics::Metrics;
use platform::trace::Tracer;
use schemas::codec::Codec;
use schemas::mqtt::parse_command;
use schemas::topic::Topic;
use tokio::sync::mpsc;

use controller_log::MemoryLog;

/// Hearth's clock runs this much faster here: a slot of 15 minutes takes 9 s.
const SPEED: f64 = 100.0;
const SLOT_MS: i64 = 15 * MINUTE_MS;
const ORIGIN_MS: i64 = 1_757_671_200_000;
/// Every wait ends within this, or the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Mosquitto of this test's own.
struct Broker {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Broker {
    async fn start(port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        std::fs::write(&config, text).unwrap();
        let program = ["/usr/sbin/mosquitto", "mosquitto"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .unwrap_or("mosquitto");
        let process = Process::new(program)
            .arg("-c")
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed");
        let broker = Self {
            process,
            port,
            _dir: dir,
        };
        within("the broker listens", async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        broker
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

/// Every home's device: shows the commands that arrive.
struct Devices {
    arrived: mpsc::Receiver<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl Devices {
    async fn listen(port: u16) -> Self {
        let options = rumqttc::MqttOptions::new(format!("devices-{port}"), "127.0.0.1", port);
        let (client, mut connection) = rumqttc::AsyncClient::new(options, 10);
        let (arriving, arrived) = mpsc::channel(1000);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ready = Some(ready);
            loop {
                match connection.poll().await {
                    Ok(rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_))) => {
                        let qos = rumqttc::QoS::AtLeastOnce;
                        client.subscribe("home/+/cmd", qos).await.unwrap();
                    }
                    Ok(rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_))) => {
                        ready.take().map(|ready| ready.send(()));
                    }
                    Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish))) => {
                        let command = parse_command(&publish.payload, 0.0).unwrap();
                        assert_eq!(publish.topic, format!("home/{}/cmd", command.household_id));
                        if arriving.send(command).await.is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        within("devices subscribe", is_ready).await.unwrap();
        Self { arrived, task }
    }

    async fn next(&mut self) -> Command {
        within("a command arrives", self.arrived.recv())
            .await
            .unwrap()
    }

    /// Waits for `count` commands of `wanted`; the ids of all that arrived meanwhile.
    async fn until(&mut self, wanted: &Command, mut count: usize) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        while count > 0 {
            let command = self.next().await;
            count -= usize::from(command.command_id == wanted.command_id);
            seen.insert(command.command_id);
        }
        seen
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Bench {
    log: Arc<dyn Log>,
    memory: MemoryLog,
    clock: Clock,
    config: ControllerConfig,
}

impl Bench {
    fn new(port: u16, protocol: MqttProtocol) -> Self {
        let memory = MemoryLog::default();
        Self {
            log: Arc::new(memory.clone()),
            memory,
            clock: Clock::simulated(ORIGIN_MS, SPEED),
            config: ControllerConfig {
                endpoints: vec![MqttEndpoint {
                    port,
                    protocol,
                    ..MqttEndpoint::default()
                }],
                retry_ms: 10_000,
                commit_every_ms: 20,
                ..ControllerConfig::default()
            },
        }
    }

    async fn start(&self) -> (Controller, Metrics) {
        let metrics = Metrics::new();
        let log = Arc::clone(&self.log);
        let codec = Codec::single_object();
        let config = self.config.clone();
        let off = Tracer::off();
        let controller = Controller::start(log, codec, self.clock, metrics.clone(), off, config);
        (controller.await.unwrap(), metrics)
    }

    /// Writes a command whose slot begins `delay_ms` from now.
    async fn order(&self, home: i64, delay_ms: i64) -> Command {
        let now_ms = self.clock.now_ms();
        self.order_at(home, now_ms + delay_ms, now_ms).await
    }

    async fn order_at(&self, home: i64, from_ms: i64, issued_ms: i64) -> Command {
        let schedule_id = format!("{home}-{from_ms}-{issued_ms}");
        let entry = ProgramEntry {
            from_ms,
            policy: Some(SlotPolicy::setpoint(-1.5)),
            appliances: BTreeMap::from([("dishwasher".to_owned(), true)]),
            evs: BTreeMap::new(),
            heat: BTreeMap::new(),
        };
        let command = Command {
            command_id: format!("{schedule_id}-0"),
            household_id: HouseholdId::new(home).unwrap(),
            schedule_id,
            requested_ms: issued_ms,
            issued_ms,
            expires_ms: from_ms + SLOT_MS,
            battery: None,
            program: vec![entry],
        };
        self.repeat(&command).await;
        command
    }

    async fn repeat(&self, command: &Command) {
        let value = Codec::single_object().encode(command).unwrap();
        let key = command.household_id.to_string();
        self.log
            .produce(Topic::Commands, key.as_bytes(), value)
            .await
            .unwrap();
    }

    async fn answer(&self, command: &Command, status: AckStatus) {
        let ack = Ack {
            household_id: command.household_id,
            command_id: command.command_id.clone(),
            ts_ms: self.clock.now_ms(),
            status,
            reason: String::new(),
        };
        let value = Codec::single_object().encode(&ack).unwrap();
        let key = command.household_id.to_string();
        self.log
            .produce(Topic::Acks, key.as_bytes(), value)
            .await
            .unwrap();
    }
}

fn counted(metrics: &Metrics, outcome: &str) -> u64 {
    metrics.commands_total.with_label_values(&[outcome]).get()
}

async fn counts(metrics: &Metrics, outcome: &str, number: u64) {
    within(&format!("{number} {outcome}"), async {
        while counted(metrics, outcome) < number {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(counted(metrics, outcome), number, "{outcome}");
}

async fn sends_at_once_until_answered(protocol: MqttProtocol) {
    let broker = Broker::start(free_port()).await;
    let bench = Bench::new(broker.port, protocol);
    let mut devices = Devices::listen(broker.port).await;
    let (controller, metrics) = bench.start().await;
    // It is sent when it is made, before its first entry begins.
    let one = bench.order(1, 900_000).await;
    let arrived = devices.next().await;
    assert!(bench.clock.now_ms() < one.from_ms(), "late");
    // The wire carries no time of request.
    let expected = Command {
        requested_ms: arrived.requested_ms,
        ..one.clone()
    };
    assert_eq!(arrived, expected);
    devices.until(&one, 2).await;
    bench.answer(&one, AckStatus::Applied).await;
    counts(&metrics, "applied", 1).await;
    let two = bench.order(2, 0).await;
    // What was on its way to the first may still come, then never again.
    devices.until(&two, 1).await;
    let seen = devices.until(&two, 3).await;
    assert_eq!(seen, BTreeSet::from([two.command_id.clone()]));
    bench.answer(&two, AckStatus::Rejected).await;
    counts(&metrics, "rejected", 1).await;
    assert_eq!(counted(&metrics, "sent"), 2);
    assert!(counted(&metrics, "retried") >= 5);
    controller.close().await;
}

#[tokio::test]
async fn sends_at_once_until_answered_over_mqtt_3() {
    sends_at_once_until_answered(MqttProtocol::V4).await;
}

#[tokio::test]
async fn sends_at_once_until_answered_over_mqtt_5() {
    sends_at_once_until_answered(MqttProtocol::V5).await;
}

/// Restarts with and without a last commit; the engine has written the first command again in between.
async fn restart_repeats_nothing(commits: bool) {
    let broker = Broker::start(free_port()).await;
    let bench = Bench::new(broker.port, MqttProtocol::V5);
    let mut devices = Devices::listen(broker.port).await;
    let (controller, metrics) = bench.start().await;
    let one = bench.order(1, 0).await;
    devices.until(&one, 1).await;
    bench.memory.refuse_commits(!commits);
    bench.answer(&one, AckStatus::Applied).await;
    counts(&metrics, "applied", 1).await;
    let two = bench.order(2, 0).await;
    devices.until(&two, 1).await;
    controller.close().await;
    bench.memory.refuse_commits(false);
    bench.repeat(&one).await;
    drop(devices);

    let mut devices = Devices::listen(broker.port).await;
    let (controller, metrics) = bench.start().await;
    let seen = devices.until(&two, 3).await;
    assert_eq!(seen, BTreeSet::from([two.command_id.clone()]));
    bench.answer(&two, AckStatus::Applied).await;
    counts(&metrics, "applied", 1).await;
    assert_eq!(counted(&metrics, "sent"), 1);
    controller.close().await;
}

#[tokio::test]
async fn a_restart_repeats_nothing_that_was_answered() {
    restart_repeats_nothing(true).await;
}

#[tokio::test]
async fn a_crash_repeats_nothing_that_was_answered() {
    restart_repeats_nothing(false).await;
}

/// A topic of which nothing comes has not been read to its end, however long that lasts.
#[tokio::test]
async fn silence_is_not_the_end_of_a_topic() {
    let broker = Broker::start(free_port()).await;
    let bench = Bench::new(broker.port, MqttProtocol::V5);
    let mut devices = Devices::listen(broker.port).await;
    let (controller, metrics) = bench.start().await;
    let one = bench.order(1, 0).await;
    devices.until(&one, 1).await;
    bench.memory.refuse_commits(true);
    bench.answer(&one, AckStatus::Applied).await;
    counts(&metrics, "applied", 1).await;
    controller.close().await;
    bench.memory.refuse_commits(false);
    drop(devices);

    bench.memory.stall(Some(Topic::Acks));
    let mut devices = Devices::listen(broker.port).await;
    let (controller, metrics) = bench.start().await;
    let two = bench.order(2, 0).await;
    let asked = bench.memory.asks_count();
    within("the log is asked again and again", async {
        while bench.memory.asks_count() < asked + 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(counted(&metrics, "sent"), 0, "the answer is still to come");
    bench.memory.stall(None);
    let seen = devices.until(&two, 2).await;
    assert_eq!(seen, BTreeSet::from([two.command_id.clone()]));
    controller.close().await;
}

#[tokio::test]
async fn its_end_is_seen_and_it_is_not_ready_then() {
    let broker = Broker::start(free_port()).await;
    let bench = Bench::new(broker.port, MqttProtocol::V5);
    let (controller, _metrics) = bench.start().await;
    within("it is ready", async {
        while controller.readiness().check().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(controller.is_alive());
    bench.memory.refuse_subscriptions();
    within("it ends", controller.ended().wait()).await;
    assert!(!controller.is_alive() && controller.readiness().check().is_err());
    controller.close().await;
}

#[tokio::test]
async fn a_restart_of_everything_on_the_embedded_log_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(EmbeddedLog::open(dir.path(), EmbeddedLogConfig::default()).unwrap());
    let broker = Broker::start(free_port()).await;
    let mut bench = Bench::new(broker.port, MqttProtocol::V5);
    bench.log = open();
    bench.log.init().await.unwrap();
    let mut devices = Devices::listen(broker.port).await;
    let (controller, metrics) = bench.start().await;
    let mut unanswered = BTreeSet::new();
    for home in 1..=20 {
        let command = bench.order(home, 0).await;
        devices.until(&command, 1).await;
        if home % 2 == 0 {
            bench.answer(&command, AckStatus::Applied).await;
        } else {
            unanswered.insert(command.command_id);
        }
    }
    counts(&metrics, "applied", 10).await;
    controller.close().await;
    bench.log.close().await;
    drop(std::mem::replace(
        &mut bench.log,
        Arc::new(bench.memory.clone()),
    ));
    drop(devices);

    bench.log = open();
    let mut devices = Devices::listen(broker.port).await;
    let (controller, metrics) = bench.start().await;
    let mut seen = BTreeSet::new();
    while counted(&metrics, "retried") < 30 {
        seen.insert(devices.next().await.command_id);
    }
    assert_eq!(seen, unanswered);
    controller.close().await;
}

#[tokio::test]
async fn the_later_command_holds_and_what_expired_stays_away() {
    let broker = Broker::start(free_port()).await;
    let bench = Bench::new(broker.port, MqttProtocol::V5);
    let mut devices = Devices::listen(broker.port).await;
    let (controller, metrics) = bench.start().await;
    // What is read before the controller has caught up is not counted.
    let first = bench.order(9, 0).await;
    devices.until(&first, 1).await;
    bench.answer(&first, AckStatus::Applied).await;
    let start_ms = bench.clock.now_ms() + 120_000;
    let new = bench.order_at(1, start_ms, ORIGIN_MS + 2).await;
    let old = bench.order_at(1, start_ms, ORIGIN_MS + 1).await;
    let newest = bench.order_at(1, start_ms, ORIGIN_MS + 3).await;
    counts(&metrics, "superseded", 2).await;
    bench.order(3, -SLOT_MS).await;
    counts(&metrics, "expired", 1).await;
    let seen = devices.until(&newest, 2).await;
    assert!(!seen.contains(&old.command_id));
    // What was on its way to the device may still come, then never again.
    let seen = devices.until(&newest, 2).await;
    assert_eq!(seen, BTreeSet::from([newest.command_id.clone()]), "{new:?}");
    // Nobody answers, until it expires.
    counts(&metrics, "expired", 2).await;
    // Nothing is held any more: everything but the last record is committed.
    within("all is committed", async {
        while bench.memory.committed(Topic::Commands) != Some(4) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    controller.close().await;
}

#[tokio::test]
async fn waits_for_the_broker_and_through_its_restart() {
    let port = free_port();
    let bench = Bench::new(port, MqttProtocol::V5);
    let (controller, metrics) = bench.start().await;
    let one = bench.order(1, 0).await;
    let broker = Broker::start(port).await;
    let mut devices = Devices::listen(port).await;
    devices.until(&one, 1).await;
    drop(broker);
    bench.answer(&one, AckStatus::Applied).await;
    counts(&metrics, "applied", 1).await;
    let two = bench.order(2, 0).await;
    let _broker = Broker::start(port).await;
    let seen = devices.until(&two, 2).await;
    assert_eq!(seen, BTreeSet::from([two.command_id.clone()]));
    controller.close().await;
}

#[tokio::test]
async fn many_commands_wait_in_the_log_and_all_arrive() {
    let broker = Broker::start(free_port()).await;
    let mut bench = Bench::new(broker.port, MqttProtocol::V5);
    bench.config.pending_max = 20;
    bench.config.batch_max = 5;
    let mut devices = Devices::listen(broker.port).await;
    let mut waiting = BTreeSet::new();
    for home in 1..=100 {
        // As each slot ends, those that wait come in; ten begin with every tenth of a slot.
        let command = bench.order(home, home / 10 * SLOT_MS / 10).await;
        waiting.insert(command.command_id);
    }
    let (controller, _metrics) = bench.start().await;
    while !waiting.is_empty() {
        let command = devices.next().await;
        waiting.remove(&command.command_id);
    }
    assert!(bench.memory.pauses_count() > 0, "never full");
    controller.close().await;
}

#[tokio::test]
async fn refuses_to_start_without_an_endpoint() {
    let mut bench = Bench::new(1, MqttProtocol::V5);
    bench.config.endpoints.clear();
    let error = Controller::start(
        Arc::clone(&bench.log),
        Codec::single_object(),
        bench.clock,
        Metrics::new(),
        Tracer::off(),
        bench.config.clone(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, ControllerError::NoEndpoint));
    bench
        .config
        .reach_gateway("127.0.0.1:1234".parse().unwrap());
    assert_eq!(bench.config.endpoints[0].port, 1234);
}
