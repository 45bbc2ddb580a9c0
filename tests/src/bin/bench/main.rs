//! `make bench`: measures on this machine, several runs each, and writes `target/bench/results.json`.
//!
//! Read figures as ratios within one run: `consume_only` is librdkafka's own rate on the same topic.

mod backtests;
mod board;
mod bridge;
mod cbc;
mod cli;
mod devices;
mod figures;
mod gateway;
mod handover;
mod instances;
mod kafka_streams;
mod million_homes;
mod readings;
mod say;
mod selection;
mod shares;
mod slots;
mod solvers;
mod store;
mod streams;
mod traces;
mod usage;

use std::path::Path;

use anyhow::Result;
use clap::Parser;
use tests::harness::{CassandraFor, Stack};

use board::Board;
use cli::Cli;
use selection::Selection;

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
    let mut board = Board::new();
    if wants("scheduler") || wants("highs") || wants("cbc") {
        solvers::measure(&mut board, &cli.counts, cli.runs, &selection)?;
    }
    if wants("backtest") {
        backtests::measure(&mut board, cli.runs, &selection)?;
    }
    if wants("traces") {
        traces::measure(&mut board, cli.runs, &selection).await?;
    }
    if streams::is_wanted(&selection)
        || ["million_homes", "handover", "store", "gateway", "bridge"]
            .into_iter()
            .any(wants)
    {
        let stack = Stack::start(CassandraFor::Figures).await?;
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
    board.write(Path::new("target/bench/results.json"))
}
