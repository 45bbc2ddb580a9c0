//! `make load`: simulated homes over MQTT against Hearth on the real stack; ends with exit code 1 if a reading is lost.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use loadtest::fleet::FleetConfig;
use loadtest::load::{self, Steady};
use tests::harness::{CassandraFor, HearthProcess, Stack, free_port, hearth_config, hearth_init};

/// Starts Kafka, Cassandra, the schema registry and Mosquitto with TLS, runs every role of Hearth against them, lets
/// homes publish, and compares what was acknowledged with what is stored.
#[derive(Debug, Parser)]
struct Cli {
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    homes: u32,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Time between two readings of one home, milliseconds.
    #[arg(long, default_value_t = 1_000)]
    interval_ms: i64,
    /// Longest time to warm up, which is in no figure, seconds; 0 for none.
    #[arg(long, default_value_t = 120)]
    warm_up_seconds: u64,
    /// Time at each rate of the search for the highest one that holds, seconds; 0 for no search.
    #[arg(long, default_value_t = 20)]
    search_seconds: u64,
    /// Every fifth home has an EV, another fifth a tank of hot water, and the device of a tenth knows only modes. Without,
    /// all homes are as in earlier reports, so that figures stay comparable.
    #[arg(long)]
    mixed: bool,
    #[arg(long, default_value = "target/load/report.json")]
    report: PathBuf,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    // Fails only if one is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    say("starting Kafka, Cassandra, the schema registry and Mosquitto ...");
    let stack = Stack::start(CassandraFor::Figures).await?;
    let http_port = free_port();
    let extra = format!(
        "[http]\nlisten = \"127.0.0.1:{http_port}\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n[operation]\nlog_filter = \"warn\"\n"
    );
    let config = hearth_config(&stack, "", "hearth", &extra)?;
    say("hearth init ...");
    hearth_init(&config).await?;
    let config = config.to_str().context("a path of UTF-8")?;
    let hearth = HearthProcess::start(&["--config", config, "all"], &[])?;
    hearth.wait_ready(http_port).await?;
    let access = stack.mosquitto.home(1);
    let (user, password) = access.credentials.context("homes have credentials")?;
    let scenario = Steady {
        fleet: FleetConfig {
            homes: cli.homes,
            first_id: 1,
            host: access.host,
            port: access.port,
            ca_file: access.ca,
            username: user.replace('1', "{id}"),
            password: password.replace('1', "{id}"),
            homes_per_connection: 1,
            interval_ms: cli.interval_ms,
            is_mixed: cli.mixed,
            ..FleetConfig::default()
        },
        seconds: cli.seconds,
        cql: stack.cassandra.contact_point(),
        keyspace: "hearth".to_owned(),
    };
    say("warming up; these readings are in no figure ...");
    load::warm_up(&scenario, Duration::from_secs(cli.warm_up_seconds), &say).await?;
    say(&format!(
        "{} homes publish for {} s ...",
        cli.homes, cli.seconds
    ));
    let mut reports = vec![load::steady(&scenario, &say).await?];
    if cli.search_seconds > 0 {
        let search = Steady {
            seconds: cli.search_seconds,
            ..scenario
        };
        match load::saturating(&search, &say).await? {
            Some(report) => reports.push(report),
            None => say("no rate holds"),
        }
    }
    let lost: u64 = reports.iter().map(|report| report.readings.lost).sum();
    let steps = reports.iter().flat_map(|report| &report.steps);
    let lost = lost.max(steps.map(|step| step.lost).sum());
    let clean = reports.iter().all(load::Report::is_clean) && lost == 0;
    load::write(&reports, &cli.report)?;
    say(&format!(
        "{}report: {}\nlost = {lost}",
        load::table(&reports),
        cli.report.display()
    ));
    let ended = hearth.terminate(Duration::from_secs(60)).await?;
    ensure!(ended.success(), "hearth ended with {ended}");
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stdout, reason = "progress is what people watch")]
fn say(text: &str) {
    println!("{text}");
}
