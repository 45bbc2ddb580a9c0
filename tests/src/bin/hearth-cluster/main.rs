//! `make chart` and `make kubelet`: the chart on a real control plane, and on a real kubelet.

mod broken;
mod kube;
mod node;
mod plane;
mod profiles;
mod proof;
mod report;
mod watch;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use plane::Plane;
use report::{say, write};
use serde_json::json;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every profile with Helm 3 and 4, and what a server refuses.
    Chart {
        /// Only what the API server says of the objects, without installing anything; needs etcd and the API server alone.
        #[arg(long)]
        check: bool,
        /// File for the report.
        #[arg(long, default_value = "target/chart/report.json")]
        report: PathBuf,
    },
    /// The image on two real nodes under load. Needs namespaces of its own: see `make kubelet`.
    Kubelet {
        #[command(flatten)]
        options: proof::Options,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Chart { check: true, .. } => check().await,
        Command::Chart { report, .. } => chart(&report).await,
        Command::Kubelet { options } => proof::run(&options).await,
    }
}

async fn check() -> Result<()> {
    say("starting etcd and the API server ...");
    let plane = Plane::start_server_alone().await?;
    broken::run(&plane.kube)?;
    broken::check_examples(&plane.kube)?;
    plane.check()
}

async fn chart(report: &std::path::Path) -> Result<()> {
    say("starting etcd, API server, controller manager, scheduler and kwok ...");
    let begun = Instant::now();
    let mut plane = Plane::start().await?;
    plane.add_fake_nodes()?;
    say(&format!("up after {:.1} s", begun.elapsed().as_secs_f64()));
    let refused = broken::run(&plane.kube)?;
    let examples = broken::check_examples(&plane.kube)?;
    let profiles = profiles::run(&plane.kube)?;
    plane.check()?;
    let text = json!({"refused": refused, "examples": examples, "profiles": profiles});
    write(report, &text)?;
    say(&format!(
        "all is well after {:.1} s; report: {}",
        begun.elapsed().as_secs_f64(),
        report.display()
    ));
    Ok(())
}
