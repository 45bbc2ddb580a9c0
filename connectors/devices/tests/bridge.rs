//! The bridge on a real Mosquitto, which each test starts for itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory_log;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use devices::bridge::{Bridge, BridgeConfig};
use devices::mqtt_client::{MqttEndpoint, MqttProtocol};
use memory_log::{Bench, T0, reading, until};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use schemas::dead_letter::{DeadLetter, Reason};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A broker; ends with the test.
struct Broker {
    port: u16,
    child: Child,
    dir: tempfile::TempDir,
}

impl Broker {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             max_inflight_messages 200\npersistence true\npersistence_location {at}/\nuser root\n"
        );
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let child = run(dir.path(), port).await;
        Self { port, child, dir }
    }

    async fn stop(&mut self) {
        let pid = self.child.id().unwrap().to_string();
        // SIGTERM, so that it writes its sessions down.
        assert!(
            Command::new("kill")
                .arg(pid)
                .status()
                .await
                .unwrap()
                .success()
        );
        self.child.wait().await.unwrap();
    }

    async fn start_again(&mut self) {
        self.child = run(self.dir.path(), self.port).await;
    }

    fn config(&self, protocol: MqttProtocol) -> BridgeConfig {
        BridgeConfig {
            mqtt: MqttEndpoint {
                port: self.port,
                client_id: "bridge".to_owned(),
                protocol,
                ..MqttEndpoint::default()
            },
            group: match protocol {
                MqttProtocol::V4 => String::new(),
                MqttProtocol::V5 => "hearth".to_owned(),
            },
            receive_max: 50,
            ..BridgeConfig::default()
        }
    }

    /// Publishes with QoS 1 and waits until the broker has taken everything.
    async fn publish(&self, messages: Vec<(String, Vec<u8>)>) {
        let mut options = MqttOptions::new("home", "127.0.0.1", self.port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::new(options, messages.len() + 1);
        let mut missing = messages.len();
        for (topic, payload) in messages {
            client
                .try_publish(topic, QoS::AtLeastOnce, false, payload)
                .unwrap();
        }
        while missing > 0 {
            if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.unwrap() {
                missing -= 1;
            }
        }
    }
}

async fn run(dir: &Path, port: u16) -> Child {
    let child = Command::new("mosquitto")
        .arg("-c")
        .arg(dir.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let answers = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answers)
        .await
        .expect("the broker answers");
    child
}

async fn bridge(bench: &Bench, config: BridgeConfig) -> Bridge {
    let bridge = Bridge::start(Arc::clone(&bench.ingest), bench.metrics.clone(), config).unwrap();
    until("it is connected", || bridge.is_connected()).await;
    bridge
}

fn readings(household: i64, range: std::ops::Range<i64>) -> Vec<(String, Vec<u8>)> {
    let one = |i| reading(household, T0 + i * 1_000);
    range
        .map(one)
        .map(|(topic, payload)| (topic, payload.into_bytes()))
        .collect()
}

fn times(range: std::ops::Range<i64>) -> Vec<i64> {
    range.map(|i| T0 + i * 1_000).collect()
}

/// Times without repeats; what is delivered again is known downstream.
fn distinct(bench: &Bench, household: i64) -> Vec<i64> {
    let mut seen = std::collections::BTreeSet::new();
    let mut times = bench.log.times_of(household);
    times.retain(|ts_ms| seen.insert(*ts_ms));
    times
}

const BOTH: [MqttProtocol; 2] = [MqttProtocol::V4, MqttProtocol::V5];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_taken_in_in_order_and_bad_ones_are_dead_letters() {
    for protocol in BOTH {
        let (bench, broker) = (Bench::new(), Broker::start().await);
        let bridge = bridge(&bench, broker.config(protocol)).await;
        let mut messages = readings(1, 0..400);
        messages.push(("home/2/meter".to_owned(), b"not json".to_vec()));
        messages.push(("home/2/pv".to_owned(), vec![b'x'; 400_000]));
        messages.extend(readings(1, 400..800));
        broker.publish(messages).await;
        until("everything is there", || bench.log.records().len() == 802).await;
        assert_eq!(bench.log.times_of(1), times(0..800));
        let letters = bench.log.read::<DeadLetter>();
        let reasons: Vec<_> = letters.iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons, [Reason::BadJson, Reason::Oversized]);
        let acks = bench
            .metrics
            .publish_to_ack_seconds
            .with_label_values(&["bridge"]);
        until("all are acknowledged", || acks.get_sample_count() == 802).await;
        bridge.close().await;
        bench.ingest.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_durable_is_not_acknowledged_and_the_broker_keeps_it() {
    for protocol in BOTH {
        let bench = Bench::with(|config| config.spool_bytes_max = 1);
        let broker = Broker::start().await;
        let first = bridge(&bench, broker.config(protocol)).await;
        bench.log.switch_off(true);
        broker.publish(readings(1, 0..300)).await;
        until("the log is known to be away", || bench.ingest.is_spooling()).await;
        let acks = bench
            .metrics
            .publish_to_ack_seconds
            .with_label_values(&["bridge"]);
        assert_eq!(acks.get_sample_count(), 0);
        // As if it were killed: nothing is said to the broker.
        drop(first);
        bench.ingest.close().await;
        assert!(bench.log.records().is_empty());

        let Bench { log, dir, .. } = bench;
        log.switch_off(false);
        let again = Bench::on(log, dir, |_| ());
        let second = bridge(&again, broker.config(protocol)).await;
        until("everything is there", || distinct(&again, 1).len() == 300).await;
        assert_eq!(distinct(&again, 1), times(0..300), "{protocol:?}");
        second.close().await;
        again.ingest.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_log_is_waited_for_in_order() {
    let bench = Bench::with(|config| config.spool_bytes_max = 4_000);
    let broker = Broker::start().await;
    let bridge = bridge(&bench, broker.config(MqttProtocol::V5)).await;
    broker.publish(readings(1, 0..100)).await;
    until("the first are there", || bench.log.records().len() == 100).await;
    bench.log.switch_off(true);
    broker.publish(readings(1, 100..500)).await;
    until("the spool is in use", || {
        bench.metrics.spool_bytes.get() > 3_000
    })
    .await;
    bench.log.switch_off(false);
    until("everything is there", || distinct(&bench, 1).len() == 500).await;
    assert_eq!(distinct(&bench, 1), times(0..500));
    bridge.close().await;
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_may_come_late_and_go_in_between() {
    for protocol in BOTH {
        let (bench, mut broker) = (Bench::new(), Broker::start().await);
        broker.stop().await;
        let (ingest, config) = (Arc::clone(&bench.ingest), broker.config(protocol));
        let bridge = Bridge::start(ingest, bench.metrics.clone(), config).unwrap();
        broker.start_again().await;
        until("it is connected", || bridge.is_connected()).await;
        broker.publish(readings(1, 0..50)).await;
        until("the first are there", || distinct(&bench, 1).len() == 50).await;
        broker.stop().await;
        until("it is disconnected", || !bridge.is_connected()).await;
        broker.start_again().await;
        if protocol == MqttProtocol::V5 {
            // Mosquitto forgets shared subscriptions when it restarts.
            until("it is connected again", || bridge.is_connected()).await;
        }
        broker.publish(readings(1, 50..100)).await;
        until("all are there", || distinct(&bench, 1).len() == 100).await;
        bridge.close().await;
        bench.ingest.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bridges_share_the_messages() {
    let (one, two, broker) = (Bench::new(), Bench::new(), Broker::start().await);
    let first = bridge(&one, broker.config(MqttProtocol::V5)).await;
    let mut config = broker.config(MqttProtocol::V5);
    config.mqtt.client_id = "bridge-2".to_owned();
    let second = bridge(&two, config).await;
    for household in 1..=10 {
        broker.publish(readings(household, 0..20)).await;
    }
    let counts = || (one.log.records().len(), two.log.records().len());
    until("each message is in one of them", || {
        counts().0 + counts().1 == 200
    })
    .await;
    assert!(counts().0 > 0 && counts().1 > 0, "{:?}", counts());
    first.close().await;
    second.close().await;
}
