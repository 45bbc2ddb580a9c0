//! The stream engine beside a bare consumer, on one topic of readings.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use connectors::log::partition_of;
use household::reading::{Measurement, Reading};
use household::units::HouseholdId;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use schemas::codec::Codec;
use tests::harness::{HearthProcess, Stack, free_port, hearth_config, unique, wait_for};

use crate::hearth::{init, metric};
use crate::{Board, Cli, say, usage};

const HOMES: i64 = 10_000;
const PARTITIONS: u32 = 8;
const LIMIT: Duration = Duration::from_secs(240);

/// Writes the readings, then measures each in turn.
pub(crate) async fn measure(stack: &Stack, cli: &Cli, board: &mut Board) -> Result<()> {
    let prefix = unique("bench-");
    let extra = "[registry]\nurl = \"\"\n";
    let keyspace = unique("bench");
    let config = hearth_config(stack, &prefix, &keyspace, extra)?;
    init(&config).await?;
    let topic = format!("{prefix}telemetry");
    say(&format!(
        "writing {} readings of {HOMES} homes ...",
        cli.readings
    ));
    produce(stack, &topic, cli.readings)?;
    let mut consume = Vec::new();
    for _ in 0..cli.runs {
        let (before, _) = usage(std::process::id())?;
        consume_all(stack, &topic, cli.readings)?;
        let (after, _) = usage(std::process::id())?;
        consume.push((after - before) * 1e6 / f64::from(cli.readings));
    }
    board.add("consume_only.cpu_s_per_million", "s", consume);
    let (mut cpu, mut rate, mut peak) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..cli.runs {
        let port = free_port();
        // A store of its own for each run, so that no snapshot lets it skip; tables alike, rows anew.
        let keyspace = unique("bench");
        let group = unique("bench-engine");
        let extra = format!(
            "{extra}[http]\nlisten = \"127.0.0.1:{port}\"\n[engine]\ngroup = \"{group}\"\n[operation]\nlog_filter = \"warn\"\n"
        );
        let config = hearth_config(stack, &prefix, &keyspace, &extra)?;
        init(&config).await?;
        let config = config.to_str().context("a path of UTF-8")?.to_owned();
        let begun = Instant::now();
        let engine = HearthProcess::start(&["--config", &config, "engine"], &[])?;
        engine.wait_ready(port).await?;
        wait_for("the engine to store every reading", LIMIT, async || {
            let stored = metric(port, "hearth_reading_to_store_seconds_count").await?;
            ensure!(stored >= f64::from(cli.readings), "{stored} are stored");
            Ok(())
        })
        .await;
        rate.push(f64::from(cli.readings) / begun.elapsed().as_secs_f64());
        let (cpu_s, peak_mb) = usage(engine.process().pid().context("the engine runs")?)?;
        cpu.push(cpu_s * 1e6 / f64::from(cli.readings));
        peak.push(peak_mb);
        engine.terminate(Duration::from_secs(60)).await?;
    }
    board.add("engine.records_per_s", "records/s", rate);
    board.add("engine.cpu_s_per_million", "s", cpu);
    board.add("engine.peak_mb", "MB", peak);
    Ok(())
}

/// Readings a minute apart, home after home, as a fleet sends them.
fn produce(stack: &Stack, topic: &str, count: u32) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka.brokers())
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000")
        .set("compression.type", "lz4")
        .create()?;
    let codec = Codec::single_object();
    let start_ms = connectors::clock::wall_ms() - 86_400_000;
    for number in 0..i64::from(count) {
        let id = HouseholdId::new(number % HOMES + 1).context("a positive id")?;
        let reading = Reading {
            household_id: id,
            ts_ms: start_ms + number / HOMES * 60_000,
            measurement: Measurement::Meter {
                consumption_w: 300.0 + f64::from(u32::try_from(number % 97)?),
            },
        };
        let (key, value) = (id.to_string(), codec.encode(&reading)?);
        let partition = partition_of(key.as_bytes(), PARTITIONS);
        let mut record = BaseRecord::to(topic)
            .key(&key)
            .payload(&value)
            .partition(partition);
        while let Err((error, back)) = producer.send(record) {
            ensure!(
                error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            producer.poll(Duration::from_millis(20));
            record = back;
        }
    }
    producer
        .flush(Duration::from_secs(60))
        .context("deliver the readings")
}

fn consume_all(stack: &Stack, topic: &str, count: u32) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka.brokers())
        .set("group.id", unique("bench-consume"))
        .set("enable.auto.commit", "false")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS)? {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (begun, mut seen, mut bytes) = (Instant::now(), 0, 0);
    while seen < count {
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            bytes += message?.payload_len();
            seen += 1;
        }
        ensure!(
            begun.elapsed() < LIMIT,
            "{seen} of {count} records, {bytes} bytes"
        );
    }
    Ok(())
}
