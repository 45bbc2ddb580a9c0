//! Runs the whole real stack in the foreground until Ctrl-C or SIGTERM, and says how to reach it.

use std::time::Instant;

use anyhow::Context;
use tests::harness::{CassandraFor, Stack, hearth_config};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "the addresses are what this program is for"
)]
async fn main() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    println!("starting Kafka, Cassandra, the schema registry and Mosquitto ...");
    let start = Instant::now();
    let stack = tokio::select! {
        stack = Stack::start(CassandraFor::Figures) => stack?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let config = hearth_config(&stack, "", "hearth", "")?;
    let device = stack.mosquitto.home(1);
    let (user, password) = device.credentials.context("homes have credentials")?;
    println!("up after {:.1} s\n", start.elapsed().as_secs_f64());
    println!("Kafka            {}", stack.kafka.brokers());
    println!("Cassandra (CQL)  {}", stack.cassandra.contact_point());
    println!("schema registry  {}", stack.registry.url());
    println!("Mosquitto (TLS)  127.0.0.1:{}", stack.mosquitto.port());
    println!("  trust          {}", stack.mosquitto.ca().path().display());
    println!("  home 1         user {user}, password {password}; other homes alike");
    println!("\nhearth --config {}\n", config.display());
    println!("{}", std::fs::read_to_string(&config)?);
    println!("Ctrl-C stops everything and removes its files.");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
