#![allow(clippy::unwrap_used)]
use connectors::log::kafka::{KafkaConfig, KafkaLog};
use connectors::log::*;
use schemas::topic::Topic;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn config(prefix: &str) -> KafkaConfig {
    KafkaConfig {
        brokers: "127.0.0.1:29392".into(),
        prefix: prefix.into(),
        session_timeout_ms: 6000,
        ..KafkaConfig::default()
    }
}
fn sub(group: Option<&str>, topics: &[Topic]) -> Subscription {
    Subscription {
        group: group.map(str::to_owned),
        member: None,
        topics: topics.to_vec(),
        start: Start::Earliest,
        batch_max: 500,
    }
}
fn prefix(name: &str) -> String {
    format!("{name}{}.", connectors::clock::wall_ms())
}

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput() {
    let log = Arc::new(KafkaLog::connect(config(&prefix("tp"))).unwrap());
    log.init().await.unwrap();
    log.init().await.unwrap();
    let n = 300_000u32;
    let (t, c) = (Instant::now(), cpu_s());
    let mut set = tokio::task::JoinSet::new();
    for lane in 0..16u32 {
        let log = Arc::clone(&log);
        set.spawn(async move {
            use futures::StreamExt;
            futures::stream::iter((0..n).filter(|x| x % 16 == lane))
                .map(|i| {
                    let log = &log;
                    async move {
                        log.produce(
                            Topic::Telemetry,
                            (i % 5000).to_string().as_bytes(),
                            vec![7; 40],
                        )
                        .await
                        .unwrap();
                    }
                })
                .buffer_unordered(512)
                .for_each(|()| async {})
                .await;
        });
    }
    while let Some(r) = set.join_next().await {
        r.unwrap();
    }
    println!(
        "produce {n}: {:.2} s, cpu {:.2} s",
        t.elapsed().as_secs_f64(),
        cpu_s() - c
    );
    for pause_us in [0u64, 2000] {
        let (t, c) = (Instant::now(), cpu_s());
        let mut consumer = log
            .subscribe(sub(Some(&format!("g{pause_us}")), &[Topic::Telemetry]))
            .await
            .unwrap();
        let mut first = None;
        let mut got = 0u32;
        let mut batches = 0;
        let mut next: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        while got < n {
            if let LogEvent::Records { from, records } = consumer.events.recv().await.unwrap() {
                first.get_or_insert_with(Instant::now);
                for r in &records {
                    let e = next.entry(from).or_default();
                    assert_eq!(r.offset, *e);
                    *e += 1;
                }
                got += records.len() as u32;
                batches += 1;
                if pause_us > 0 {
                    tokio::time::sleep(Duration::from_micros(pause_us)).await;
                }
            }
        }
        println!(
            "consume pause {pause_us} us: total {:.2} s, from first {:.2} s, cpu {:.2} s, batches {batches}",
            t.elapsed().as_secs_f64(),
            first.unwrap().elapsed().as_secs_f64(),
            cpu_s() - c
        );
        consumer
            .control
            .commit(next.into_iter().collect())
            .await
            .unwrap();
    }
    let t = Instant::now();
    for _ in 0..100 {
        log.produce(Topic::Acks, b"1", vec![1]).await.unwrap();
    }
    println!("one by one {:.2} ms", t.elapsed().as_secs_f64() * 10.0);
    // latency produce -> consumer
    let mut consumer = log
        .subscribe(sub(Some("lat"), &[Topic::Commands]))
        .await
        .unwrap();
    while !matches!(consumer.events.recv().await.unwrap(), LogEvent::Assigned(_)) {}
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut worst = Duration::ZERO;
    let mut sum = Duration::ZERO;
    for _ in 0..50 {
        let t = Instant::now();
        log.produce(Topic::Commands, b"1", vec![1]).await.unwrap();
        while !matches!(
            consumer.events.recv().await.unwrap(),
            LogEvent::Records { .. }
        ) {}
        worst = worst.max(t.elapsed());
        sum += t.elapsed();
    }
    println!("end to end mean {:?} worst {:?}", sum / 50, worst);
    let t = Instant::now();
    drop(consumer);
    log.close().await;
    println!("close {:?}", t.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_while_revoked() {
    let log = KafkaLog::connect(config(&prefix("rb"))).unwrap();
    log.init().await.unwrap();
    for i in 0..400 {
        log.produce(Topic::Telemetry, i.to_string().as_bytes(), vec![1])
            .await
            .unwrap();
    }
    let mine = || sub(Some("g"), &[Topic::Telemetry, Topic::Acks]);
    let mut first = log.subscribe(mine()).await.unwrap();
    let mut next: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let mut got = 0;
    while got < 400 {
        if let LogEvent::Records { from, records } = first.events.recv().await.unwrap() {
            got += records.len();
            next.insert(from, records.last().unwrap().offset + 1);
        }
    }
    let t = Instant::now();
    let mut second = log.subscribe(mine()).await.unwrap();
    let mut held = [16, 0];
    let mut repeated = 0;
    while held != [8, 8] {
        let (i, e) = tokio::select! { e = first.events.recv() => (0, e.unwrap()), e = second.events.recv() => (1, e.unwrap()) };
        match e {
            LogEvent::Assigned(p) => held[i] += p.len(),
            LogEvent::Revoked { partitions, done } => {
                if i == 0 {
                    first
                        .control
                        .commit(
                            next.clone()
                                .into_iter()
                                .filter(|(of, _)| partitions.contains(of))
                                .collect(),
                        )
                        .await
                        .unwrap();
                    println!("committed in revoke at {:?}", t.elapsed());
                }
                held[i] -= partitions.len();
                done.send(()).unwrap();
            }
            LogEvent::Records { records, .. } => repeated += records.len(),
            LogEvent::CaughtUp(_) => {}
        }
    }
    println!("balanced after {:?}, repeated {repeated}", t.elapsed());
    assert_eq!(repeated, 0);
    let t = Instant::now();
    drop(first);
    let mut p = BTreeSet::new();
    while p.len() < 16 {
        match second.events.recv().await.unwrap() {
            LogEvent::Assigned(x) => p.extend(x),
            LogEvent::Revoked { done, .. } => drop(done),
            _ => panic!(),
        }
    }
    println!("taken over after {:?}", t.elapsed());
    drop(second);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_member() {
    let log = KafkaLog::connect(config(&prefix("st"))).unwrap();
    log.init().await.unwrap();
    let mine = |m: &str| Subscription {
        member: Some(m.into()),
        ..sub(Some("g"), &[Topic::Telemetry])
    };
    let mut a = log.subscribe(mine("a")).await.unwrap();
    let mut b = log.subscribe(mine("b")).await.unwrap();
    let mut held = [0usize, 0];
    while held != [4, 4] {
        let (i, e) = tokio::select! { e = a.events.recv() => (0, e.unwrap()), e = b.events.recv() => (1, e.unwrap()) };
        match e {
            LogEvent::Assigned(p) => held[i] += p.len(),
            LogEvent::Revoked { partitions, done } => {
                held[i] -= partitions.len();
                drop(done)
            }
            _ => {}
        }
    }
    let t = Instant::now();
    drop(b);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut b = log.subscribe(mine("b")).await.unwrap();
    let mut n = 0;
    while n < 4 {
        if let LogEvent::Assigned(p) = b.events.recv().await.unwrap() {
            n += p.len()
        }
    }
    println!(
        "static member back after {:?}; other disturbed: {}",
        t.elapsed(),
        a.events.try_recv().is_ok()
    );
    // the same name twice: the first is fenced and told
    let mut c = log.subscribe(mine("b")).await.unwrap();
    let mut n = 0;
    while n < 4 {
        if let LogEvent::Assigned(p) = c.events.recv().await.unwrap() {
            n += p.len()
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        while let Some(e) = b.events.recv().await {
            if let LogEvent::Revoked { done, .. } = e {
                drop(done)
            }
        }
    })
    .await;
    println!("fenced member told: {:?}", ended.is_ok());
    drop((a, b, c));
    log.close().await;
}
