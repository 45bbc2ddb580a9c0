//! `hearth-load`: simulated homes over MQTT against a running Hearth, then the check that nothing was lost.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use loadtest::fleet::FleetConfig;
use loadtest::load::{self, Steady};
use tracing::{Level, info};

/// Publishes readings of simulated homes over MQTT, waits until the store has caught up, and compares the acknowledged
/// readings with the stored ones. Ends with exit code 1 if a reading is lost.
#[derive(Debug, Parser)]
#[command(name = "hearth-load", version, max_term_width = 100)]
struct Cli {
    /// MQTT broker or gateway.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    mqtt: String,
    /// Authority of the broker's certificate, PEM; without it, no TLS.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// MQTT user; {id} is replaced by the id of the connection's first home.
    #[arg(long, default_value = "")]
    user: String,
    /// MQTT password; {id} is replaced likewise.
    #[arg(
        long,
        default_value = "",
        env = "HEARTH_LOAD_PASSWORD",
        hide_env_values = true
    )]
    password: String,
    /// Address of the store's CQL interface.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9042")]
    cql: String,
    #[arg(long, default_value = "hearth")]
    keyspace: String,
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    homes: u32,
    /// Id of the first home.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    first_id: i64,
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Time between two rounds of readings of one home, each up to three messages.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(i64).range(10..))]
    interval_ms: i64,
    /// Homes that share a connection; more than 1 only if one client may speak for many.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    homes_per_connection: u32,
    /// Every fifth home has an EV, another fifth a tank of hot water, and the device of a tenth knows only modes. Without,
    /// all homes are as in earlier reports, so that figures stay comparable.
    #[arg(long)]
    mixed: bool,
    /// File for the report.
    #[arg(long, value_name = "FILE", default_value = "target/load/report.json")]
    report: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("no other provider was installed before");
    tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_writer(std::io::stderr)
        .init();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // If standard error is closed, the failure cannot be shown.
            let _ = writeln!(std::io::stderr(), "hearth-load: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the scenario; returns whether nothing was lost.
fn run(cli: &Cli) -> Result<bool> {
    let (host, port) = cli.mqtt.rsplit_once(':').context("--mqtt is HOST:PORT")?;
    let scenario = Steady {
        fleet: FleetConfig {
            homes: cli.homes,
            first_id: cli.first_id,
            host: host.to_owned(),
            port: port.parse().context("--mqtt is HOST:PORT")?,
            ca_file: cli.ca.clone(),
            username: cli.user.clone(),
            password: cli.password.clone(),
            homes_per_connection: cli.homes_per_connection,
            interval_ms: cli.interval_ms,
            is_mixed: cli.mixed,
            ..FleetConfig::default()
        },
        seconds: cli.seconds,
        cql: cli.cql.clone(),
        keyspace: cli.keyspace.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(load::steady(&scenario, &|text| info!("{text}")))?;
    let clean = report.is_clean();
    let reports = [report];
    load::write(&reports, &cli.report)?;
    let text = format!(
        "{}report: {}\n",
        load::table(&reports),
        cli.report.display()
    );
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write to standard output")?;
    Ok(clean)
}
