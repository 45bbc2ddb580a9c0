//! `make drill`: raises each alert of `deploy/alerts.yml` once for real, on real Kafka, Cassandra and Mosquitto with each
//! role as a process of its own, and sees it end in a real Prometheus. Prints a table for docs/runbooks/README.md.

mod faults;
mod scene;
mod table;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use tests::harness::Haste;

use crate::faults::FAULTS;
use crate::scene::Scene;
use crate::table::Table;

/// Durations of the rules are a sixtieth, and some thresholds are lower: homes and outages are few and short here.
const HASTE: Haste = Haste {
    times: 60,
    replaced: &[
        // An outage of seconds is behind by seconds, and spools kilobytes.
        (
            "max by (namespace) (hearth_consumer_lag_seconds) > 120",
            "max by (namespace) (hearth_consumer_lag_seconds) > 5",
        ),
        (
            "(hearth_spool_bytes) > 100e6",
            "(hearth_spool_bytes) > 10e3",
        ),
        (
            "_to_command_seconds_bucket[15m]))) > 60",
            "_to_command_seconds_bucket[15m]))) > 5",
        ),
        // Two dozen homes write little.
        (
            "rate(hearth_store_retries_total[5m])) > 1",
            "rate(hearth_store_retries_total[5m])) > 0.2",
        ),
        // Eight partitions between two engines, a few times.
        (
            "> 3 * sum by (namespace) (hearth_owned_partitions)",
            "> 0.5 * sum by (namespace) (hearth_owned_partitions)",
        ),
        // Plans and commands come once a minute.
        (
            r#"{outcome=~"expired|superseded"}[15m]"#,
            r#"{outcome=~"expired|superseded"}[90m]"#,
        ),
        (r#"{outcome="sent"}[15m]"#, r#"{outcome="sent"}[90m]"#),
        (
            r#"{outcome="rejected"}[15m]"#,
            r#"{outcome="rejected"}[90m]"#,
        ),
        (
            r#"{status=~"relaxed|infeasible"}[30m]"#,
            r#"{status=~"relaxed|infeasible"}[90m]"#,
        ),
        (
            r#"{status!="superseded"}[30m]"#,
            r#"{status!="superseded"}[90m]"#,
        ),
        // Acknowledgements come in bursts while Kafka stutters.
        (
            "hearth_publish_to_ack_seconds_bucket[5m]",
            "hearth_publish_to_ack_seconds_bucket[20m]",
        ),
        // Nobody waits for six minutes until a ticket ends.
        ("_households:ratio[6h]", "_households:ratio[2h]"),
        // An hour after the start.
        (
            "process_start_time_seconds < 3600",
            "process_start_time_seconds < 60",
        ),
    ],
};

/// Raises the alerts and sees them end.
#[derive(Debug, Parser)]
struct Cli {
    /// Only faults whose names contain this.
    #[arg(default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    // Fails only if one is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let begun = Instant::now();
    let mut scene = Scene::start(HASTE).await?;
    let mut table = Table::new();
    for fault in FAULTS.iter().filter(|fault| fault.name.contains(&cli.only)) {
        table.say(&format!("-- {}", fault.name));
        if let Err(reason) = (fault.run)(&mut scene, &mut table).await {
            table.fail(&format!("{reason:#}"));
        }
    }
    scene.end().await?;
    table.print(begun.elapsed(), &scene::never_raised(&table)?);
    Ok(if table.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
