//! The gateway on real Kafka: messages with QoS 1 and acks=all, and the cost of an idle connection.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::harness::{HearthProcess, Stack, free_port, hearth_config, hearth_init, metric, unique};

use crate::board::Board;
use crate::cli::Cli;
use crate::devices::{self, Device, Endpoint};
use crate::say::say;
use crate::selection::Selection;
use crate::shares::Shares;
use crate::usage::{resident_bytes, usage};

/// Devices that send at the same time, each for a home of its own.
const SENDING: u64 = 48;
/// Devices that are connected at the same time and idle.
const IDLE: u64 = 10_000;
/// Messages sent before measuring starts, so that connections to Kafka are open.
const WARM_EACH: usize = 200;

/// A gateway of its own.
struct Running {
    process: HearthProcess,
    pid: u32,
    endpoint: Endpoint,
    http_port: u16,
    prefix: String,
}

impl Running {
    async fn start(stack: &Stack) -> Result<Self> {
        let (http_port, mqtt_port, prefix) = (free_port(), free_port(), unique("bench-"));
        let extra = format!(
            "[registry]\nurl = \"\"\n[http]\nlisten = \"127.0.0.1:{http_port}\"\n\
             [gateway]\nlisten = \"127.0.0.1:{mqtt_port}\"\n[operation]\nlog_filter = \"warn\"\n"
        );
        let config = hearth_config(stack, &prefix, &unique("bench"), &extra)?;
        hearth_init(&config).await?;
        let config = config.to_str().context("a path of UTF-8")?.to_owned();
        let process = HearthProcess::start(&["--config", &config, "gateway"], &[])?;
        process.wait_ready(http_port).await?;
        Ok(Self {
            pid: process.process().pid().context("the gateway runs")?,
            process,
            endpoint: Endpoint::plain(mqtt_port),
            http_port,
            prefix,
        })
    }

    async fn stop(self) -> Result<()> {
        self.process.terminate(Duration::from_secs(60)).await?;
        Ok(())
    }
}

pub(super) async fn measure(
    stack: &Stack,
    cli: &Cli,
    board: &mut Board,
    selection: &Selection<'_>,
) -> Result<()> {
    if ["messages_per_s", "cpu_s_per_million", "lost"]
        .iter()
        .any(|row| selection.wants(&format!("gateway.{row}")))
    {
        throughput(stack, cli, board).await?;
    }
    if ["connections", "bytes_per_connection"]
        .iter()
        .any(|row| selection.wants(&format!("gateway.{row}")))
    {
        connections(stack, board).await?;
    }
    Ok(())
}

async fn throughput(stack: &Stack, cli: &Cli, board: &mut Board) -> Result<()> {
    let (mut rate, mut cpu, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    let start_ms = platform::clock::wall_ms() - 40_000_000;
    let each = usize::try_from(u64::from(cli.messages) / SENDING)?;
    let of = |homes: std::ops::RangeInclusive<u64>, each| -> Arc<Vec<Device>> {
        let devices = homes.map(|home| Device::new(home, None, start_ms, each));
        Arc::new(devices.collect())
    };
    let (warm, all) = (
        of(1_001..=1_000 + SENDING, WARM_EACH),
        of(1..=SENDING, each),
    );
    let sent = f64::from(u32::try_from(each * all.len())?);
    for _ in 0..cli.runs {
        let gateway = Running::start(stack).await?;
        devices::drive(&gateway.endpoint, &warm).await?;
        let shares = Shares::begin(&[
            ("gateway", gateway.pid),
            ("Kafka", stack.kafka.process().pid().context("Kafka runs")?),
            ("driver", std::process::id()),
        ])?;
        let (before, _) = usage(gateway.pid)?;
        let took = devices::drive(&gateway.endpoint, &all).await?;
        let (after, _) = usage(gateway.pid)?;
        say(&shares.end()?);
        rate.push(sent / took.as_secs_f64());
        cpu.push((after - before) * 1e6 / sent);
        let topic = format!("{}telemetry", gateway.prefix);
        gateway.stop().await?;
        let missing = devices::lost(stack, &topic, &all, start_ms).await?;
        lost.push(f64::from(u32::try_from(missing)?));
    }
    board.add("gateway.messages_per_s", "messages/s", rate);
    board.add("gateway.cpu_s_per_million", "s", cpu);
    board.add("gateway.lost", "messages", lost);
    Ok(())
}

async fn connections(stack: &Stack, board: &mut Board) -> Result<()> {
    // For the devices here; the gateway inherits it.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        most > IDLE + 1_000,
        "only {most} open files are allowed (ulimit -Hn), {IDLE} connections need more"
    );
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let gateway = Running::start(stack).await?;
    // The first connections cause allocations that all later ones share.
    drop(devices::settle(&gateway.endpoint, 100_001..100_101).await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = resident_bytes(gateway.pid)?;
    let devices = devices::settle(&gateway.endpoint, 1..IDLE + 1).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = resident_bytes(gateway.pid)?;
    let connected = metric(gateway.http_port, "hearth_gateway_connections ").await?;
    board.add("gateway.connections", "connections", vec![connected]);
    board.add(
        "gateway.bytes_per_connection",
        "bytes",
        vec![(after - before) / connected],
    );
    drop(devices);
    gateway.stop().await
}
