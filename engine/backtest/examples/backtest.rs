//! The command without the rest of Hearth: `cargo run --release -p backtest --example backtest -- DATA --out DIR`.

use anyhow::Result;
use backtest::command::{Options, execute};
use clap::Parser;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> Result<()> {
    execute(&Cli::parse().options).map(drop)
}
