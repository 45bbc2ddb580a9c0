//! What clients do beside publishing with QoS 1: taken properly, or refused so that client and operator find out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory_log;
mod raw_mqtt;

use std::sync::Arc;

use devices::gateway::{Gateway, GatewayConfig};
use memory_log::{Bench, T0, reading, until};
use raw_mqtt::{BOTH, CONNACK, Hello, Level, PINGRESP, PUBCOMP, PUBREC, Raw, text};
use schemas::dead_letter::{DeadLetter, Reason};

/// First bytes of PUBLISH.
const QOS_2: u8 = 0x34;
const QOS_2_AGAIN: u8 = 0x3c;

async fn open(bench: &Bench, change: impl FnOnce(&mut GatewayConfig)) -> Gateway {
    let mut config = GatewayConfig {
        listen: "127.0.0.1:0".to_owned(),
        ..GatewayConfig::default()
    };
    change(&mut config);
    let ingest = Arc::clone(&bench.ingest);
    Gateway::start(ingest, bench.clock, bench.metrics.clone(), config)
        .await
        .unwrap()
}

fn refused(bench: &Bench, reason: &str) -> u64 {
    let counter = &bench.metrics.gateway_refused_total;
    counter.with_label_values(&[reason]).get()
}

async fn answer(device: &mut Raw, kind: u8) -> (u16, u8) {
    device.receive().await.unwrap().answer(kind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_is_taken_once_and_recorded_when_it_is_durable() {
    let bench = Bench::with(|config| config.produce_timeout_ms = 120_000);
    let gateway = open(&bench, |_| ()).await;
    for (home, level) in [(1, Level::Four), (2, Level::Five)] {
        let mut device = Raw::connect(gateway.local_addr(), level, "d").await;
        let (topic, payload) = reading(home, T0);
        bench.log.stick(true);
        for first in [QOS_2, QOS_2_AGAIN, QOS_2_AGAIN] {
            device
                .publish_with(first, &topic, 1, payload.as_bytes())
                .await;
        }
        device.ping().await;
        let next = device.receive().await.unwrap();
        assert_eq!(
            next.kind, PINGRESP,
            "nothing is recorded before it is durable"
        );
        bench.log.stick(false);
        assert_eq!(answer(&mut device, PUBREC).await, (1, 0));
        device
            .publish_with(QOS_2_AGAIN, &topic, 1, payload.as_bytes())
            .await;
        assert_eq!(answer(&mut device, PUBREC).await, (1, 0));
        let not_found = if level == Level::Five { 0x92 } else { 0 };
        for reason in [0, not_found] {
            device.release(1).await;
            assert_eq!(answer(&mut device, PUBCOMP).await, (1, reason));
        }
        assert_eq!(bench.log.times_of(home), [T0], "once");

        // The packet id is free again.
        let (topic, payload) = reading(home, T0 + 1);
        device
            .publish_with(QOS_2, &topic, 1, payload.as_bytes())
            .await;
        assert_eq!(answer(&mut device, PUBREC).await, (1, 0));
        assert_eq!(bench.log.times_of(home), [T0, T0 + 1]);
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_is_taken_once_over_connections_of_one_session() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    for (home, level) in [(1, Level::Four), (2, Level::Five)] {
        let hello = Hello {
            clean: false,
            ..Hello::new(level, "d")
        };
        let (topic, payload) = reading(home, T0);
        for is_again in [false, true] {
            let mut device = Raw::tcp(gateway.local_addr(), level).await;
            assert_eq!(device.greet(hello).await, is_again);
            let first = if is_again { QOS_2_AGAIN } else { QOS_2 };
            for id in 1..=3 {
                device
                    .publish_with(first, &topic, id, payload.as_bytes())
                    .await;
                assert_eq!(answer(&mut device, PUBREC).await, (id, 0));
            }
            if is_again {
                device.release(2).await;
                assert_eq!(answer(&mut device, PUBCOMP).await, (2, 0));
            }
        }
        assert_eq!(bench.log.times_of(home), [T0; 3]);
        // A clean start knows nothing of it.
        let mut device = Raw::tcp(gateway.local_addr(), level).await;
        assert!(!device.greet(Hello::new(level, "d")).await);
        device
            .publish_with(QOS_2_AGAIN, &topic, 1, payload.as_bytes())
            .await;
        assert_eq!(answer(&mut device, PUBREC).await, (1, 0));
        assert_eq!(bench.log.times_of(home), [T0; 4]);
        drop(device);
        until("all have left", || {
            bench.metrics.gateway_connections.get() == 0
        })
        .await;
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_that_is_refused_says_so() {
    let bench = Bench::with(|config| config.spool_bytes_max = 1);
    let gateway = open(&bench, |config| config.patience_ms = 1).await;
    for (number, level) in (1..).zip(BOTH) {
        // Too large for a device.
        let mut cloud = Raw::connect(gateway.local_addr(), level, "cloud").await;
        cloud
            .publish_with(QOS_2, "home/5/cmd", 1, &vec![b' '; 20_000])
            .await;
        if level == Level::Five {
            assert_eq!(answer(&mut cloud, PUBREC).await, (1, 0x97));
            cloud.release(1).await;
            assert_eq!(answer(&mut cloud, PUBCOMP).await, (1, 0x92));
        } else {
            cloud.ends(0).await;
        }
        until("it is counted", || {
            refused(&bench, "message_too_large") == number
        })
        .await;

        // Neither log nor spool takes it.
        bench.log.switch_off(true);
        let mut device = Raw::connect(gateway.local_addr(), level, "d").await;
        let (topic, payload) = reading(4, T0);
        device
            .publish_with(QOS_2, &topic, 1, payload.as_bytes())
            .await;
        device.ends(0x97).await;
        bench.log.switch_off(false);
        until("the log is back", || !bench.ingest.is_spooling()).await;
        until("it is counted", || refused(&bench, "not_durable") == number).await;

        // Released before it was recorded.
        bench.log.stick(true);
        let mut device = Raw::connect(gateway.local_addr(), level, "d").await;
        device
            .publish_with(QOS_2, &topic, 1, payload.as_bytes())
            .await;
        device.release(1).await;
        device.ends(0x82).await;
        bench.log.stick(false);
        until("it is counted", || refused(&bench, "protocol") == number).await;
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_a_bound_number_of_qos_2_publishes_under_way() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    let mut device = Raw::connect(gateway.local_addr(), Level::Four, "d").await;
    let (topic, payload) = reading(4, T0);
    for id in 1..=1_024 {
        device
            .publish_with(QOS_2, &topic, id, payload.as_bytes())
            .await;
        assert_eq!(answer(&mut device, PUBREC).await, (id, 0));
    }
    device
        .publish_with(QOS_2, &topic, 1_025, payload.as_bytes())
        .await;
    device.ends(0).await;
    until("it is counted", || refused(&bench, "qos2_max") == 1).await;
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_publishes_are_answered() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    for (number, level) in (1..).zip(BOTH) {
        let mut device = Raw::connect(gateway.local_addr(), level, "d").await;
        let (topic, payload) = reading(number, T0);
        // Retained, again, under a packet id that is in use, and with nothing in it.
        for first in [0x33, 0x3a, 0x32] {
            device
                .publish_with(first, &topic, 1, payload.as_bytes())
                .await;
        }
        device.publish(&topic, 2, b"").await;
        for id in [1, 1, 1, 2] {
            assert_eq!(device.receive().await.unwrap().puback(), (id, 0));
        }
        assert_eq!(bench.log.times_of(number), [T0; 3]);
        assert_eq!(refused(&bench, "retain"), number as u64);
        let long = "x".repeat(65_535);
        device.publish(&long, 3, payload.as_bytes()).await;
        assert_eq!(device.receive().await.unwrap().puback(), (3, 0));
        let letters = bench.log.read::<DeadLetter>();
        let [.., empty, unknown] = letters.as_slice() else {
            panic!("{} letters", letters.len())
        };
        assert_eq!(empty.reason, Reason::BadJson);
        assert_eq!(unknown.reason, Reason::UnknownTopic);
        // QoS 3 is none.
        device
            .publish_with(0x36, &topic, 4, payload.as_bytes())
            .await;
        while device.receive().await.is_some() {}
        until("it is counted", || {
            refused(&bench, "protocol") == number as u64
        })
        .await;
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_to_what_is_not_for_devices_are_refused_and_counted() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    for (number, level) in (1..).zip(BOTH) {
        let mut device = Raw::connect(gateway.local_addr(), level, "d").await;
        for (filter, reason) in [
            ("$SYS/#", 0x87),
            ("home/1/meter", 0x87),
            ("+/+/cmd", 0x87),
            ("$share/g/home/1/cmd", 0x9e),
        ] {
            let expected = if level == Level::Five { reason } else { 0x80 };
            assert_eq!(device.subscribe(filter).await, expected, "{filter}");
        }
        assert_eq!(device.subscribe("home/1/cmd").await, 1);
        assert_eq!(refused(&bench, "subscription"), 3 * number);
        assert_eq!(refused(&bench, "shared_subscription"), number);
    }
    gateway.close().await;
}

/// CONNECT with these flags and this payload; the answer.
async fn connack(raw: &mut Raw, flags: u8, payload: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.push(if raw.level == Level::Five { 5 } else { 4 });
    body.extend([flags, 0, 0]);
    if raw.level == Level::Five {
        body.push(0);
    }
    body.extend(payload.concat());
    raw.packet(0x10, &body).await;
    let connack = raw.receive().await.unwrap();
    assert_eq!(connack.kind, CONNACK, "{connack:?}");
    connack.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_ways_to_connect() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    let address = gateway.local_addr();
    for (number, level) in (1..).zip(BOTH) {
        // A will, with QoS 2 and to be retained: the client is taken, its will is not.
        let mut raw = Raw::tcp(address, level).await;
        let mut will = vec![text("w"), text("home/1/meter"), text("gone")];
        if level == Level::Five {
            will.insert(1, vec![0]);
        }
        assert_eq!(connack(&mut raw, 0b11_0110, &will).await[1], 0);
        drop(raw);
        assert_eq!(refused(&bench, "will"), number);

        // No client id: one is made up, unless nobody could come back to its session.
        let mut raw = Raw::tcp(address, level).await;
        assert_eq!(connack(&mut raw, 2, &[text("")]).await[1], 0);
        let mut raw = Raw::tcp(address, level).await;
        let answer = connack(&mut raw, 0, &[text("")]).await;
        if level == Level::Five {
            assert_eq!(answer[1], 0);
        } else {
            assert_eq!(answer[1], 2, "identifier rejected");
            assert_eq!(raw.receive().await, None);
            until("it is counted", || refused(&bench, "client_id") == 1).await;
        }
    }
    assert!(bench.log.records().is_empty());
    // A version that nobody speaks.
    let mut raw = Raw::tcp(address, Level::Four).await;
    raw.send(b"\x10\x0d\0\x04MQTT\x06\x02\0\0\0\x01x").await;
    while raw.receive().await.is_some() {}
    until("it is counted", || refused(&bench, "protocol") == 1).await;
    gateway.close().await;
}
