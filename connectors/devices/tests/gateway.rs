//! The gateway, byte by byte and with clients made elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory_log;
mod raw_mqtt;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use devices::gateway::{Gateway, GatewayConfig, GatewayError};
use memory_log::{Bench, T0, reading, until};
use raw_mqtt::{BOTH, Hello, Level, PINGRESP, PUBACK, Raw};
use schemas::dead_letter::{DeadLetter, Reason};
use tokio::process::Command;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puback_comes_once_the_log_has_it_and_in_order() {
    let bench = Bench::with(|config| config.produce_timeout_ms = 120_000);
    let gateway = open(&bench, |_| ()).await;
    for level in BOTH {
        let mut device = Raw::connect(gateway.local_addr(), level, "d").await;
        bench.log.stick(true);
        for id in 1..=20 {
            let (topic, payload) = reading(1 + i64::from(id) % 3, T0 + i64::from(id));
            device.publish(&topic, id, payload.as_bytes()).await;
        }
        device.ping().await;
        assert_eq!(
            device.receive().await.unwrap().kind,
            PINGRESP,
            "nothing acknowledged yet"
        );
        bench.log.stick(false);
        for id in 1..=20 {
            assert_eq!(device.receive().await.unwrap().puback(), (id, 0));
        }
    }
    let acks = bench
        .metrics
        .publish_to_ack_seconds
        .with_label_values(&["gateway"]);
    assert_eq!(acks.get_sample_count(), 40);
    assert_eq!(bench.log.times_of(1).len(), 12);
    gateway.close().await;
    assert_eq!(bench.metrics.gateway_connections.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_that_are_too_large() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    for (level, letters) in [(Level::Four, 1), (Level::Five, 2)] {
        let mut device = Raw::connect(gateway.local_addr(), level, "d").await;
        device
            .publish("home/1/meter", 1, &vec![b'x'; 700_000])
            .await;
        assert_eq!(device.receive().await.unwrap().puback(), (1, 0));
        let dead = bench.log.read::<DeadLetter>();
        assert_eq!((dead.len(), dead[0].reason), (letters, Reason::Oversized));
        assert_eq!(
            (dead[0].payload_bytes, dead[0].payload.len()),
            (700_000, 256 * 1024)
        );

        // The length alone is enough to be refused; nothing is kept of it.
        let mut header = vec![0x32, 0x80, 0x80, 0x80, 1];
        header.extend([0; 100]);
        device.send(&header).await;
        device.ends(0x95).await;
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_reading_is_safe_nowhere_it_waits_and_then_goes_in_order() {
    let bench = Bench::with(|config| config.spool_bytes_max = 300);
    let gateway = open(&bench, |_| ()).await;
    bench.log.switch_off(true);
    let mut device = Raw::connect(gateway.local_addr(), Level::Four, "d").await;
    for id in 1..=30 {
        let (topic, payload) = reading(4, T0 + i64::from(id));
        device.publish(&topic, id, payload.as_bytes()).await;
    }
    let mut acknowledged = 0;
    loop {
        device.ping().await;
        let before = acknowledged;
        let mut next = device.receive().await.unwrap();
        while next.kind == PUBACK {
            acknowledged += 1;
            assert_eq!(next.puback(), (acknowledged, 0));
            next = device.receive().await.unwrap();
        }
        assert_eq!(next.kind, PINGRESP);
        if acknowledged > 0 && acknowledged == before {
            break;
        }
    }
    assert!(acknowledged < 30, "the spool holds a few only");
    bench.log.switch_off(false);
    for id in acknowledged + 1..=30 {
        assert_eq!(device.receive().await.unwrap().puback(), (id, 0));
    }
    until("the spool is empty", || !bench.ingest.is_spooling()).await;
    let mut times = bench.log.times_of(4);
    times.dedup();
    assert_eq!(times, (1..=30).map(|i| T0 + i).collect::<Vec<_>>());
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_patience_the_client_is_sent_away_without_puback() {
    let bench = Bench::with(|config| config.spool_bytes_max = 1);
    let gateway = open(&bench, |config| config.patience_ms = 1).await;
    bench.log.switch_off(true);
    for level in BOTH {
        let mut device = Raw::connect(gateway.local_addr(), level, "d").await;
        let (topic, payload) = reading(4, T0);
        device.publish(&topic, 1, payload.as_bytes()).await;
        device.ends(0x97).await;
    }
    bench.log.switch_off(false);
    until("the log is back", || !bench.ingest.is_spooling()).await;
    let mut device = Raw::connect(gateway.local_addr(), Level::Five, "d").await;
    let (topic, payload) = reading(4, T0);
    device.publish(&topic, 1, payload.as_bytes()).await;
    assert_eq!(device.receive().await.unwrap().puback(), (1, 0));
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_reach_the_homes_device_and_status_is_kept() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    for level in BOTH {
        let mut cloud = Raw::connect(gateway.local_addr(), Level::Five, "cloud").await;
        cloud.publish("home/5/cmd", 1, b"{}").await;
        assert_eq!(
            cloud.receive().await.unwrap().puback(),
            (1, 0x10),
            "nobody is there"
        );
        cloud.publish_with(0x33, "home/5/status", 2, b"kept").await;
        assert_eq!(cloud.receive().await.unwrap().puback(), (2, 0x10));

        let mut device = Raw::connect(gateway.local_addr(), level, "device").await;
        assert_eq!(device.subscribe("home/5/#").await, 1);
        let kept = device.receive().await.unwrap();
        let (topic, id, payload) = kept.publish(level);
        assert_eq!(
            (topic.as_str(), payload.as_slice()),
            ("home/5/status", b"kept".as_slice())
        );
        assert_eq!(kept.flags & 1, 1, "marked as retained");
        device.acknowledge(id).await;
        // Overlapping filters deliver once.
        assert_eq!(device.subscribe("home/+/cmd").await, 1);

        // More than may be unacknowledged at a time.
        for i in 10..80 {
            cloud.publish("home/5/cmd", i, &i.to_be_bytes()).await;
            assert_eq!(cloud.receive().await.unwrap().puback(), (i, 0));
        }
        for i in 10..80_u16 {
            let (topic, id, payload) = device.receive().await.unwrap().publish(level);
            assert_eq!(
                (topic.as_str(), payload),
                ("home/5/cmd", i.to_be_bytes().to_vec())
            );
            device.acknowledge(id).await;
        }
        cloud.publish("home/6/cmd", 90, b"{}").await;
        assert_eq!(
            cloud.receive().await.unwrap().puback(),
            (90, 0),
            "home/+/cmd"
        );
        cloud.publish("home/6/status", 91, b"{}").await;
        assert_eq!(cloud.receive().await.unwrap().puback(), (91, 0x10));
        cloud.publish("home/6/cmd", 92, &vec![b' '; 20_000]).await;
        assert_eq!(cloud.receive().await.unwrap().puback(), (92, 0x97));
        cloud.publish_with(0x33, "home/5/status", 93, b"").await;
        assert_eq!(cloud.receive().await.unwrap().puback().0, 93);
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_device_stops_being_delivered_to_and_its_publisher_learns_so() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    let mut device = Raw::connect(gateway.local_addr(), Level::Four, "device").await;
    assert_eq!(device.subscribe("home/5/cmd").await, 1);
    let mut cloud = Raw::connect(gateway.local_addr(), Level::Five, "cloud").await;
    let mut undelivered = 0;
    for id in 1..=1_000 {
        cloud.publish("home/5/cmd", id, b"{}").await;
        undelivered += usize::from(cloud.receive().await.unwrap().puback() == (id, 0x10));
    }
    assert!(
        undelivered > 500,
        "{undelivered}: the device acknowledged nothing"
    );
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_id_is_taken_over_with_its_session() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    for level in BOTH {
        let id = format!("d{level:?}");
        let hello = Hello {
            clean: false,
            ..Hello::new(level, &id)
        };
        let mut first = Raw::tcp(gateway.local_addr(), level).await;
        assert!(!first.greet(hello).await);
        assert_eq!(first.subscribe("home/9/cmd").await, 1);
        let mut second = Raw::tcp(gateway.local_addr(), level).await;
        assert!(second.greet(hello).await, "the session is found");
        first.ends(0x8e).await;
        drop(second);
        until("the second has left", || {
            bench.metrics.gateway_connections.get() == 0
        })
        .await;

        let mut third = Raw::tcp(gateway.local_addr(), level).await;
        assert!(third.greet(hello).await);
        let mut cloud = Raw::connect(gateway.local_addr(), Level::Five, "cloud").await;
        cloud.publish("home/9/cmd", 1, b"{}").await;
        assert_eq!(
            cloud.receive().await.unwrap().puback(),
            (1, 0),
            "its subscription is alive"
        );
        assert_eq!(
            third.receive().await.unwrap().publish(level).0,
            "home/9/cmd"
        );

        // A clean start forgets.
        let mut fourth = Raw::tcp(gateway.local_addr(), level).await;
        assert!(!fourth.greet(Hello::new(level, &id)).await);
        cloud.publish("home/9/cmd", 2, b"{}").await;
        assert_eq!(cloud.receive().await.unwrap().puback(), (2, 0x10));
        drop((third, fourth, cloud));
        until("all have left", || {
            bench.metrics.gateway_connections.get() == 0
        })
        .await;
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_is_told_what_was_refused() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    let mut device = Raw::connect(gateway.local_addr(), Level::Four, "d").await;
    assert_eq!(device.subscribe("home/3/status").await, 1);
    device.publish("home/3/pv", 1, b"not json").await;
    let mut received = [
        device.receive().await.unwrap(),
        device.receive().await.unwrap(),
    ];
    received.sort_by_key(|packet| packet.kind);
    assert_eq!(received[1].puback(), (1, 0));
    let (topic, _, payload) = received[0].publish(Level::Four);
    let status: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (topic.as_str(), &status["last_reason"]),
        ("home/3/status", &"bad_json".into())
    );
    assert_eq!(status["refused"], 1);
    gateway.close().await;
}

/// A clock that is wrong either way, and a value that nobody can have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_is_told_of_its_clock_and_of_impossible_values() {
    let bench = Bench::with(|config| config.past_days_max = 90);
    let gateway = open(&bench, |_| ()).await;
    for (home, ts, load, expected) in [
        (11, "2000-01-01T00:00:00Z", "450", "time"),
        (12, "2099-01-01T00:00:00Z", "450", "time"),
        (13, "2000-01-01T00:00:00Z", "1e400", ""),
    ] {
        let mut device = Raw::connect(gateway.local_addr(), Level::Four, "d").await;
        let status = format!("home/{home}/status");
        assert_eq!(device.subscribe(&status).await, 1);
        let payload = format!(r#"{{"household_id":{home},"ts":"{ts}","consumption_w":{load}}}"#);
        let topic = format!("home/{home}/meter");
        device.publish(&topic, 1, payload.as_bytes()).await;
        let mut received = [
            device.receive().await.unwrap(),
            device.receive().await.unwrap(),
        ];
        received.sort_by_key(|packet| packet.kind);
        assert_eq!(received[1].puback(), (1, 0));
        let (told, _, payload) = received[0].publish(Level::Four);
        let status: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let reason = status["last_reason"].as_str().unwrap();
        assert_eq!(told, format!("home/{home}/status"));
        assert!(reason.contains(expected) && !reason.is_empty(), "{status}");
        assert!(!status["detail"].as_str().unwrap().is_empty(), "{status}");
    }
    assert!(bench.log.times_of(11).is_empty());
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_while_the_spool_has_room_and_its_end_is_seen() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    bench.log.switch_off(true);
    let mut device = Raw::connect(gateway.local_addr(), Level::Four, "d").await;
    let (topic, payload) = reading(4, T0);
    device.publish(&topic, 1, payload.as_bytes()).await;
    assert_eq!(device.receive().await.unwrap().puback(), (1, 0));
    assert!(bench.ingest.is_spooling());
    let readiness = gateway.readiness();
    assert_eq!(readiness.check(), Ok(()), "the log is away");
    let ended = gateway.ended();
    assert!(!ended.is_over());
    gateway.close().await;
    ended.wait().await;
    assert!(readiness.check().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_speak_properly_are_closed() {
    let bench = Bench::new();
    let gateway = open(&bench, |config| {
        config.connect_timeout_ms = 200;
        config.connections_max = 4;
    })
    .await;
    let address = gateway.local_addr();
    let mut silent = Raw::tcp(address, Level::Four).await;
    assert_eq!(silent.receive().await, None, "no CONNECT in time");
    let bad: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x32, 5, 0, 1, b'x', 0, 1],
        &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 0],
        &[0x10, 3, 0, 4, b'M'],
        &[0xf0, 0, 0, 0],
    ];
    for bytes in bad {
        let mut raw = Raw::tcp(address, Level::Four).await;
        raw.send(bytes).await;
        while raw.receive().await.is_some() {}
    }
    for level in BOTH {
        let mut raw = Raw::tcp(address, level).await;
        let hello = Hello {
            keep_alive_s: 1,
            ..Hello::new(level, "d")
        };
        raw.greet(hello).await;
        raw.ends(0x8d).await;
    }
    until("all have left", || {
        bench.metrics.gateway_connections.get() == 0
    })
    .await;
    let mut held = Vec::new();
    for i in 0..4 {
        held.push(Raw::connect(address, Level::Five, &i.to_string()).await);
    }
    let mut fifth = Raw::tcp(address, Level::Five).await;
    assert_eq!(fifth.receive().await, None, "too many");
    gateway.close().await;
    for mut raw in held {
        raw.ends(0x8b).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_to_all_means_loopback() {
    let bench = Bench::new();
    let config = GatewayConfig {
        listen: "0.0.0.0:0".to_owned(),
        ..GatewayConfig::default()
    };
    let ingest = Arc::clone(&bench.ingest);
    let started = Gateway::start(ingest, bench.clock, bench.metrics.clone(), config).await;
    assert!(
        matches!(&started, Err(GatewayError::Setting(bad)) if bad.key == "gateway.auth"),
        "{started:?}"
    );
}

/// Publishes with a real client, all at once, and waits for every PUBACK.
async fn pipelined(address: SocketAddr, level: Level, household: i64, count: i64) {
    let port = address.port();
    let all = (0..count).map(|i| reading(household, T0 + i * 1_000));
    let mut acknowledged = 0;
    let mut seen = 0;
    match level {
        Level::Four => {
            let mut options = rumqttc::MqttOptions::new(format!("h{household}"), "127.0.0.1", port);
            options.set_inflight(500);
            let (client, mut events) = rumqttc::AsyncClient::new(options, 10_000);
            for (topic, payload) in all {
                client
                    .try_publish(topic, rumqttc::QoS::AtLeastOnce, false, payload)
                    .unwrap();
            }
            while acknowledged < count {
                if let rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_)) =
                    events.poll().await.unwrap()
                {
                    acknowledged += 1;
                }
            }
        }
        Level::Five => {
            let mut options =
                rumqttc::v5::MqttOptions::new(format!("h{household}"), "127.0.0.1", port);
            options.set_clean_start(true);
            let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 10_000);
            for (topic, payload) in all {
                let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
                client.try_publish(topic, qos, false, payload).unwrap();
            }
            while acknowledged < count {
                let event = events.poll().await.unwrap();
                if let rumqttc::v5::Event::Incoming(rumqttc::v5::mqttbytes::v5::Packet::PubAck(_)) =
                    event
                {
                    acknowledged += 1;
                }
                seen += 1;
                assert!(seen < 100_000);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_pipeline_keep_each_homes_order() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    let address = gateway.local_addr();
    let clients = (1..=6).map(|household| {
        let level = BOTH[usize::try_from(household % 2).unwrap()];
        tokio::spawn(pipelined(address, level, household, 1_500))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    for household in 1..=6 {
        let expected: Vec<_> = (0..1_500).map(|i| T0 + i * 1_000).collect();
        assert_eq!(bench.log.times_of(household), expected, "home {household}");
    }
    gateway.close().await;
    bench.ingest.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquittos_clients_are_served() {
    let bench = Bench::new();
    let gateway = open(&bench, |_| ()).await;
    let port = gateway.local_addr().port().to_string();
    for (i, version) in ["311", "5"].into_iter().enumerate() {
        let common = ["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", "1"];
        let mut device = Command::new("mosquitto_sub")
            .args(common)
            .args(["-t", "home/2/cmd", "-C", "1", "-W", "60", "-i", version])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (topic, payload) = reading(2, T0 + i64::try_from(i).unwrap());
        let publish = |topic: &str, payload: &str| {
            Command::new("mosquitto_pub")
                .args(common)
                .args(["-t", topic, "-m", payload])
                .status()
        };
        assert!(publish(&topic, &payload).await.unwrap().success());
        assert_eq!(
            bench.log.times_of(2).len(),
            i + 1,
            "durable when mosquitto_pub returns"
        );
        let mut cloud = Raw::connect(gateway.local_addr(), Level::Five, "cloud").await;
        let mut reason = 0x10;
        while reason != 0 {
            cloud.publish("home/2/cmd", 1, b"go").await;
            reason = cloud.receive().await.unwrap().puback().1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut output = String::new();
        let stdout = device.stdout.as_mut().unwrap();
        tokio::io::AsyncReadExt::read_to_string(stdout, &mut output)
            .await
            .unwrap();
        assert_eq!(output, "go\n");
        assert!(device.wait().await.unwrap().success());
    }
    gateway.close().await;
}
