//! The command line.

use clap::Parser;

use crate::{readings, solvers};

/// Measures Hearth on the real stack.
#[derive(Debug, Parser)]
pub(crate) struct Cli {
    /// Only what starts with this: consume_only, engine, kafka_streams, million_homes, handover, store, gateway, bridge, scheduler, highs, cbc, backtest, traces, or a row such as
    /// scheduler.battery.
    #[arg(default_value = "")]
    pub(crate) name: String,
    /// Readings in the topic.
    #[arg(long, default_value_t = 1_000_000, value_parser = readings::count_parser())]
    pub(crate) readings: u32,
    /// Messages over MQTT a run.
    #[arg(long, default_value_t = 400_000)]
    pub(crate) messages: u32,
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: usize,
    /// Homes in memory at once.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) live_homes: u32,
    /// The same, with every reading also stored as a row; a quarter fewer each time that the engine falls behind.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stored_homes: u32,
    /// Minutes that they are watched.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) minutes: u32,
    #[command(flatten)]
    pub(crate) counts: solvers::Counts,
}
