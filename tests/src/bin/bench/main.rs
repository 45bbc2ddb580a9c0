//! `make bench`: measures on this machine, several runs each, and writes `target/bench/results.json`.
//!
//! Read figures as ratios within one run: `consume_only` is librdkafka's own rate on the same topic.

mod bridge;
mod cbc;
mod devices;
mod gateway;
mod handover;
mod instances;
mod kafka_streams;
mod million_homes;
mod readings;
mod shares;
mod slots;
mod solvers;
mod store;
mod streams;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use tests::harness::{CommitLog, Stack};

/// Measures Hearth on the real stack.
#[derive(Debug, Parser)]
struct Cli {
    /// Only what starts with this: consume_only, engine, kafka_streams, million_homes, handover, store, gateway, bridge, scheduler, highs, cbc, or a row such as
    /// scheduler.battery.
    #[arg(default_value = "")]
    name: String,
    /// Readings in the topic.
    #[arg(long, default_value_t = 1_000_000, value_parser = readings::count_parser())]
    readings: u32,
    /// Messages over MQTT a run.
    #[arg(long, default_value_t = 400_000)]
    messages: u32,
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Homes in memory at once.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    live_homes: u32,
    /// The same, with every reading also stored as a row.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..))]
    stored_homes: u32,
    /// Minutes that they are watched.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    #[command(flatten)]
    counts: solvers::Counts,
}

/// The prefix that selects a part.
#[derive(Debug)]
struct Selection<'a>(&'a str);

impl Selection<'_> {
    /// Returns whether some rows that start with `name` are selected.
    fn wants(&self, name: &str) -> bool {
        name.starts_with(self.0) || self.0.starts_with(name)
    }

    /// Returns whether only rows that start with `name` are selected.
    fn is_within(&self, name: &str) -> bool {
        self.0.starts_with(name)
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
    // Fails only if one is installed already, which is fine.
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
    if streams::is_wanted(&selection)
        || ["million_homes", "handover", "store", "gateway", "bridge"]
            .into_iter()
            .any(wants)
    {
        let stack = Stack::start(CommitLog::Periodic).await?;
        if streams::is_wanted(&selection) {
            streams::measure(&stack, &cli, &mut board, &selection).await?;
        }
        if wants("million_homes") {
            million_homes::measure(&stack, &cli, &mut board, &selection).await?;
        }
        if wants("handover") {
            handover::measure(&stack, &cli, &mut board).await?;
        }
        if wants("store") {
            store::measure(&stack, &cli, &mut board, &selection).await?;
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

/// Reports the progress of long work every few seconds.
#[derive(Debug)]
struct Progress(Instant);

impl Progress {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn say(&mut self, text: impl FnOnce() -> String) {
        if self.0.elapsed() > Duration::from_secs(10) {
            *self = Self::start();
            say(&format!("  {}", text()));
        }
    }
}

/// Returns user and system time of a process so far, seconds, and its highest resident memory, MB.
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
