//! `make bench`: measures on this machine, several runs each, and writes `target/bench/results.json`.
//!
//! Figures are to be read as ratios within one run: `consume_only` is librdkafka's own rate on the same topic.

mod bridge;
mod cbc;
mod devices;
mod gateway;
mod instances;
mod shares;
mod solvers;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use connectors::log::partition_of;
use household::reading::{Measurement, Reading};
use household::units::HouseholdId;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use schemas::codec::Codec;
use serde::Serialize;
use tests::harness::{
    HearthProcess, Stack, free_port, hearth_config, hearth_output, http, unique, wait_for,
};

const HOMES: i64 = 10_000;
const PARTITIONS: u32 = 8;
const LIMIT: Duration = Duration::from_secs(240);

/// Measures Hearth on the real stack.
#[derive(Debug, Parser)]
struct Cli {
    /// Only what starts with this: consume_only, engine, gateway, bridge, scheduler, highs, cbc, or a row such as
    /// scheduler.battery.
    #[arg(default_value = "")]
    name: String,
    /// Readings in the topic.
    #[arg(long, default_value_t = 300_000)]
    readings: u32,
    /// Messages over MQTT a run.
    #[arg(long, default_value_t = 400_000)]
    messages: u32,
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    counts: solvers::Counts,
}

/// The prefix that selects a part.
#[derive(Debug)]
struct Selection<'a>(&'a str);

impl Selection<'_> {
    /// Whether rows that start with `name` are selected, or some of them.
    fn wants(&self, name: &str) -> bool {
        name.starts_with(self.0) || self.0.starts_with(name)
    }
}

/// One line of `results.json`.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    unit: &'static str,
    min: f64,
    median: f64,
    max: f64,
    runs: usize,
    commit: String,
}

struct Board {
    rows: Vec<Row>,
    commit: String,
}

impl Board {
    fn add(&mut self, name: &str, unit: &'static str, mut values: Vec<f64>) {
        values.sort_by(f64::total_cmp);
        let row = Row {
            name: name.to_owned(),
            unit,
            min: values[0],
            median: values[values.len() / 2],
            max: values[values.len() - 1],
            runs: values.len(),
            commit: self.commit.clone(),
        };
        say(&format!(
            "{:<36} {:>12.3} {:>12.3} {:>12.3}  {}",
            row.name, row.min, row.median, row.max, row.unit
        ));
        self.rows.push(row);
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Some(homes) = cli.counts.worker {
        return solvers::work(homes);
    }
    // Fails only when one is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let selection = Selection(&cli.name);
    let wants = |name: &str| selection.wants(name);
    let mut board = Board {
        rows: Vec::new(),
        commit: commit(),
    };
    say(&format!(
        "{:<36} {:>12} {:>12} {:>12}",
        "", "min", "median", "max"
    ));
    if wants("scheduler") || wants("highs") || wants("cbc") {
        solvers::measure(&mut board, &cli.counts, cli.runs, &selection)?;
    }
    if ["consume_only", "engine", "gateway", "bridge"]
        .into_iter()
        .any(wants)
    {
        let stack = Stack::start().await?;
        if wants("consume_only") || wants("engine") {
            streams(&stack, &cli, &mut board).await?;
        }
        if wants("gateway") {
            gateway::measure(&stack, &cli, &mut board, &selection).await?;
        }
        if wants("bridge") {
            bridge::measure(&stack, &cli, &mut board).await?;
        }
    }
    let file = Path::new("target/bench/results.json");
    std::fs::create_dir_all("target/bench").context("create target/bench")?;
    std::fs::write(file, serde_json::to_string_pretty(&board.rows)? + "\n")
        .context("write the results")?;
    say(&format!("results: {}", file.display()));
    Ok(())
}

fn commit() -> String {
    let output = std::process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn say(text: &str) {
    println!("{text}");
}

/// User and system time of a process so far, seconds, and its highest resident memory, MB.
fn usage(pid: u32) -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("stat has a name")?
        .1
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak_kb = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or(0.0);
    Ok((ticks / 100.0, peak_kb / 1024.0))
}

async fn metric(port: u16, start: &str) -> Result<f64> {
    let text = http()
        .get(format!("http://127.0.0.1:{port}/metrics"))
        .send()
        .await?
        .text()
        .await?;
    let values = text.lines().filter(|line| line.starts_with(start));
    Ok(values
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum())
}

async fn streams(stack: &Stack, cli: &Cli, board: &mut Board) -> Result<()> {
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

async fn init(config: &Path) -> Result<()> {
    let config = config.to_str().context("a path of UTF-8")?;
    let output = hearth_output(&["--config", config, "init"], &[]).await?;
    ensure!(
        output.status.success(),
        "hearth init: {}",
        String::from_utf8_lossy(&output.stderr)
    );
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
