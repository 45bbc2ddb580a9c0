//! The fleet against a real Mosquitto on a free port. Ignored unless the set-up for tests was run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use loadtest::fleet::{Fleet, FleetConfig, Now};
use loadtest::ledger::Ledger;
use model::command::{AckStatus, Command, ProgramEntry};
use model::policy::SlotPolicy;
use model::units::HouseholdId;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use schemas::mqtt::{self, TimeWindow};
use tokio::sync::mpsc;
use tokio::time::Instant;

const ORIGIN_MS: i64 = 1_790_000_000_000;
const SPEED: f64 = 60.0;
const PATIENCE: Duration = Duration::from_secs(60);

struct Broker {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Broker {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let conf =
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n");
        std::fs::write(folder.path().join("mosquitto.conf"), conf).unwrap();
        let child = launch(folder.path());
        let broker = Self {
            child,
            port,
            folder,
        };
        broker.ready().await;
        broker
    }

    async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .is_err()
        {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn crash_and_start_again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = launch(self.folder.path());
        self.ready().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps the program where a normal user's PATH does not look.
fn launch(folder: &Path) -> Child {
    let sbin = Path::new("/usr/sbin/mosquitto");
    let program = if sbin.exists() {
        sbin
    } else {
        Path::new("mosquitto")
    };
    Process::new(program)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What is published under `home/`, as an outside client sees it, and a way to publish.
fn listen(port: u16) -> (AsyncClient, mpsc::Receiver<(String, Vec<u8>)>) {
    let mut options = MqttOptions::new("listener", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut event_loop) = AsyncClient::new(options, 100);
    client.try_subscribe("home/+/+", QoS::AtLeastOnce).unwrap();
    let (found, messages) = mpsc::channel(100_000);
    tokio::spawn(async move {
        while let Ok(event) = event_loop.poll().await {
            let message = match event {
                Event::Incoming(Packet::Publish(publish)) => {
                    (publish.topic, publish.payload.to_vec())
                }
                Event::Incoming(Packet::SubAck(_)) => ("subscribed".to_owned(), Vec::new()),
                Event::Incoming(_) | Event::Outgoing(_) => continue,
            };
            if found.send(message).await.is_err() {
                return;
            }
        }
    });
    (client, messages)
}

fn clock() -> Now {
    let start = Instant::now();
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a test")]
    Arc::new(move || ORIGIN_MS + (start.elapsed().as_secs_f64() * 1e3 * SPEED) as i64)
}

async fn until_acknowledged(fleet: &Fleet, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while fleet.counts().acknowledged < count {
        assert!(Instant::now() < deadline, "{:?}", fleet.counts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn every_reading_arrives_and_a_command_is_answered() {
    let broker = Broker::start().await;
    let (client, mut messages) = listen(broker.port);
    assert_eq!(messages.recv().await.unwrap().0, "subscribed");
    let ledger = Arc::new(Ledger::new());
    let config = FleetConfig {
        homes: 20,
        port: broker.port,
        homes_per_connection: 3,
        ..FleetConfig::default()
    };
    let now = clock();
    let mut fleet =
        Fleet::start(&config, Arc::clone(&now), SPEED, Some(Arc::clone(&ledger))).unwrap();
    assert_eq!(fleet.connections_count(), 7);
    until_acknowledged(&fleet, 60).await;
    let entry = ProgramEntry {
        from_ms: now() - 1,
        policy: Some(SlotPolicy::setpoint(1.5)),
        appliances: [].into(),
        evs: [].into(),
        heat: [].into(),
    };
    let command = Command {
        command_id: "2-1-0".to_owned(),
        household_id: HouseholdId::new(2).unwrap(),
        schedule_id: "2-1".to_owned(),
        requested_ms: 0,
        issued_ms: now() - 1,
        expires_ms: now() + 86_400_000,
        battery: None,
        program: vec![entry],
    };
    let topic = mqtt::command_topic(command.household_id);
    client
        .publish(topic, QoS::AtLeastOnce, false, mqtt::command_json(&command))
        .await
        .unwrap();
    until_acknowledged(&fleet, 150).await;
    assert_eq!(fleet.drain(PATIENCE).await, 0);
    let counts = fleet.counts();
    assert_eq!(
        (counts.acknowledged, counts.commands, counts.answers),
        (counts.published, 1, 1)
    );

    let mut readings = BTreeSet::new();
    let mut answers = Vec::new();
    let mut commanded_w = 0;
    while (readings.len() as u64) < counts.published || answers.is_empty() {
        let (topic, payload) = tokio::time::timeout(PATIENCE, messages.recv())
            .await
            .unwrap()
            .unwrap();
        if topic.ends_with("/cmd") {
            continue;
        }
        let parsed = mqtt::parse(
            &topic,
            &payload,
            TimeWindow::around(now(), i64::MAX, 60_000),
        );
        assert_eq!(parsed.refusals, []);
        answers.extend(parsed.acks);
        for reading in parsed.readings {
            commanded_w += usize::from(
                topic == "home/2/battery" && mqtt::reading_json(&reading).contains("1500.0"),
            );
            readings.insert((
                reading.household_id,
                reading.measurement.kind(),
                reading.ts_ms,
            ));
        }
    }
    assert_eq!(answers[0].command_id, "2-1-0");
    assert_eq!(answers[0].status, AckStatus::Applied);
    assert!(commanded_w > 0, "home 2 charges as it was told");
    for (series, first_ms, last_ms) in ledger.series() {
        let arrived: Vec<i64> = readings
            .range((series.0, series.1, first_ms)..=(series.0, series.1, last_ms))
            .map(|it| it.2)
            .collect();
        let compared = ledger.compare(series, &arrived);
        assert_eq!(
            (compared.lost, compared.unknown, compared.sent),
            (0, 0, compared.stored)
        );
    }
    fleet.close().await;
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn a_crash_of_the_broker_leaves_nothing_unacknowledged() {
    let mut broker = Broker::start().await;
    let config = FleetConfig {
        homes: 10,
        port: broker.port,
        homes_per_connection: 5,
        ..FleetConfig::default()
    };
    let mut fleet = Fleet::start(&config, clock(), SPEED, None).unwrap();
    until_acknowledged(&fleet, 30).await;
    broker.crash_and_start_again().await;
    let before = fleet.counts().acknowledged;
    until_acknowledged(&fleet, before + 60).await;
    assert_eq!(fleet.drain(PATIENCE).await, 0);
    let counts = fleet.counts();
    assert_eq!(counts.acknowledged, counts.published);
    assert_eq!((counts.connects, counts.disconnects), (4, 2));
    fleet.close().await;
}
