//! The bridge between a real Mosquitto (TLS) and real Kafka, compared with a plain subscriber of the same broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::harness::{
    HearthProcess, Stack, free_port, hearth_config, hearth_init, metric, unique, wait_for,
};

use crate::board::Board;
use crate::cli::Cli;
use crate::devices::{self, Device, Endpoint, LIMIT, Subscriber};
use crate::say::say;
use crate::shares::Shares;
use crate::usage::usage;

/// Devices that publish at the same time, each for a home of its own.
const PUBLISHERS: u64 = 16;

pub(super) async fn measure(stack: &Stack, cli: &Cli, board: &mut Board) -> Result<()> {
    let (mut rate, mut cpu, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    let mut broker = Vec::new();
    let start_ms = platform::clock::wall_ms() - 200_000_000;
    let each = usize::try_from(u64::from(cli.messages) / PUBLISHERS)?;
    let devices = (1..=PUBLISHERS).map(|home| {
        let access = stack.mosquitto.home(home);
        let credentials = access.credentials.as_ref();
        let credentials = credentials.map(|(user, password)| (user.as_str(), password.as_str()));
        Device::new(home, credentials, start_ms, each)
    });
    let devices: Arc<Vec<Device>> = Arc::new(devices.collect());
    let count = each * devices.len();
    let sent = f64::from(u32::try_from(count)?);
    for _ in 0..cli.runs {
        broker.push(sent / plain(stack, &devices, count).await?.as_secs_f64());
        let (took, cpu_s, topic) = bridged(stack, &devices, sent).await?;
        rate.push(sent / took.as_secs_f64());
        cpu.push(cpu_s * 1e6 / sent);
        let missing = devices::lost(stack, &topic, &devices, start_ms).await?;
        lost.push(f64::from(u32::try_from(missing)?));
    }
    board.add("bridge.broker_messages_per_s", "messages/s", broker);
    board.add("bridge.messages_per_s", "messages/s", rate);
    board.add("bridge.cpu_s_per_million", "s", cpu);
    board.add("bridge.lost", "messages", lost);
    Ok(())
}

/// The same messages to a subscriber that only acknowledges.
async fn plain(stack: &Stack, devices: &Arc<Vec<Device>>, count: usize) -> Result<Duration> {
    let access = stack.mosquitto.bridge();
    let endpoint = Endpoint::to(&access)?;
    let subscriber = Subscriber::start(&endpoint, &access, count).await?;
    let shares = Shares::begin(&[
        ("driver and subscriber", std::process::id()),
        ("Mosquitto", mosquitto(stack)?),
    ])?;
    let begun = Instant::now();
    devices::drive(&endpoint, devices).await?;
    subscriber.finish().await?;
    let took = begun.elapsed();
    say(&format!("{} (plain subscriber)", shares.end()?));
    Ok(took)
}

/// Returns the time until the bridge had everything in Kafka, its CPU seconds, and the topic.
async fn bridged(
    stack: &Stack,
    devices: &Arc<Vec<Device>>,
    sent: f64,
) -> Result<(Duration, f64, String)> {
    let (port, prefix) = (free_port(), unique("bench-"));
    let extra = format!(
        "[registry]\nurl = \"\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[operation]\nlog_filter = \"warn\"\n"
    );
    let config = hearth_config(stack, &prefix, &unique("bench"), &extra)?;
    hearth_init(&config).await?;
    let config = config.to_str().context("a path of UTF-8")?.to_owned();
    let process = HearthProcess::start(&["--config", &config, "bridge"], &[])?;
    process.wait_ready(port).await?;
    let pid = process.process().pid().context("the bridge runs")?;
    let shares = Shares::begin(&[
        ("bridge", pid),
        ("Kafka", stack.kafka.process().pid().context("Kafka runs")?),
        ("Mosquitto", mosquitto(stack)?),
        ("driver", std::process::id()),
    ])?;
    let (before, _) = usage(pid)?;
    let begun = Instant::now();
    devices::drive(&Endpoint::to(&stack.mosquitto.bridge())?, devices).await?;
    wait_for("the bridge to take every message", LIMIT, async || {
        let taken = metric(port, "hearth_readings_total{").await?;
        ensure!(taken >= sent, "{taken} of {sent}");
        Ok(())
    })
    .await;
    let took = begun.elapsed();
    let (after, _) = usage(pid)?;
    say(&shares.end()?);
    process.terminate(Duration::from_secs(60)).await?;
    Ok((took, after - before, format!("{prefix}telemetry")))
}

fn mosquitto(stack: &Stack) -> Result<u32> {
    stack.mosquitto.process().pid().context("Mosquitto runs")
}
