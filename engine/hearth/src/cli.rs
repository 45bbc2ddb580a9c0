//! The command line: reads it and runs what it names.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{Config, ConfigError};
use crate::demo::{self, DemoOptions};
use crate::log_lines::{speak, while_looked_after};
use crate::operator::{self, DeadLettersCommand, HouseholdsCommand};
use crate::roles::{self, Role};
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

/// Event-stream engine for fleets of smart homes.
///
/// Every setting has a default, a line in the file given by --config, and an environment variable
/// HEARTH_SECTION__KEY (such as HEARTH_LOG__KIND=embedded). `hearth config` prints them all.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// TOML file with settings.
    #[arg(long, global = true, env = "HEARTH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything in one process with a simulated fleet; needs no services.
    Demo(Demo),
    /// Serves devices over MQTT; sends PUBACK only once a reading is durable.
    Gateway,
    /// Reads from an existing MQTT broker into the log.
    Bridge,
    /// Hosts the household actors.
    Engine,
    /// Solves optimize requests.
    Optimizer,
    /// Sends commands to devices at the right time.
    Controller,
    /// Serves the HTTP API and the console.
    Api,
    /// Runs every role in one process, with the configured MQTT, log and store.
    All,
    /// Creates topics and tables and registers schemas; safe to repeat.
    Init,
    /// Solves one problem (JSON as in POST /api/optimize) and prints the schedule.
    Solve {
        /// File with the problem; `-` reads standard input.
        file: PathBuf,
    },
    /// Replays recorded homes and compares what they would have paid; writes report.json and report.html.
    Backtest(backtest::command::Options),
    /// Manages many homes at once.
    #[command(subcommand)]
    Households(HouseholdsCommand),
    /// Lists, shows and replays refused records.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Prints every setting as it will be used; secrets are hidden.
    Config,
}

#[derive(Debug, Args)]
struct Demo {
    /// Number of simulated homes; their ids start at 1.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    homes: u32,
    /// How many times as fast as real time; 1 uses the wall clock.
    #[arg(long, default_value_t = 60.0, value_parser = demo::parse_speed)]
    speed: f64,
    /// Days of the past that the homes send when the demo starts for the first time; 0 for none.
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u32).range(0..=60))]
    past_days: u32,
    /// Folder for log, store and spool.
    #[arg(long, default_value = "hearth-data")]
    data_dir: PathBuf,
    /// Port of console and API on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Port for MQTT on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 1883)]
    mqtt_port: u16,
}

/// Runs the command that the process was started with. The exit code is 2 for bad settings, 1 for any other failure.
///
/// # Panics
/// If a TLS provider was installed before.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("no other provider was installed before");
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If standard error is closed, the failure cannot be shown.
            let _ = writeln!(std::io::stderr(), "hearth: {failure:#}");
            if failure.downcast_ref::<ConfigError>().is_some() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let file = cli.config.as_deref();
    let role = |role| run_roles(&[role], file);
    match &cli.command {
        Command::Demo(options) => run_demo(options, file),
        Command::Gateway => role(Role::Gateway),
        Command::Bridge => role(Role::Bridge),
        Command::Engine => role(Role::Engine),
        Command::Optimizer => role(Role::Optimizer),
        Command::Controller => role(Role::Controller),
        Command::Api => role(Role::Api),
        Command::All => run_roles(&Role::ALL, file),
        Command::Init => {
            let config = Config::load(file)?;
            speak(&config.operation, "init");
            system()?.block_on(roles::init(&config))
        }
        Command::Solve { file } => solve(file),
        Command::Backtest(options) => {
            let report = backtest::command::execute(options)?;
            print(&backtest::page::text(&report))
        }
        Command::Households(command) => {
            let config = Config::load(file)?;
            speak(&config.operation, "households");
            system()?.block_on(operator::households(command, &config))
        }
        Command::DeadLetters(command) => {
            let config = Config::load(file)?;
            speak(&config.operation, "dead-letters");
            system()?.block_on(operator::dead_letters(command, &config))
        }
        Command::Config => {
            let config = Config::load(file)?;
            print(&toml::to_string(&config).context("write the settings")?)
        }
    }
}

fn run_roles(roles: &[Role], file: Option<&Path>) -> Result<()> {
    let config = Config::load(file)?;
    let role = match roles {
        [role] => role.as_str(),
        _ => "all",
    };
    speak(&config.operation, role);
    let load = || Config::load(file);
    system()?.block_on(while_looked_after(roles::run(roles, &config), load))
}

fn run_demo(options: &Demo, file: Option<&Path>) -> Result<()> {
    let options = DemoOptions {
        homes: options.homes,
        speed: options.speed,
        past_days: options.past_days,
        data_dir: options.data_dir.clone(),
        http_port: options.http_port,
        mqtt_port: options.mqtt_port,
    };
    let load = || Config::load_over(&demo::defaults(&options), file);
    let config = load()?;
    speak(&config.operation, "demo");
    system()?.block_on(while_looked_after(demo::run(&options, &config), load))
}

/// Actors need an actix system; everything else shares its runtime.
fn system() -> Result<actix::SystemRunner> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let mut runtime = Some(runtime);
    Ok(actix::System::with_tokio_rt(move || {
        runtime.take().expect("a system makes one runtime")
    }))
}

fn solve(file: &Path) -> Result<()> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    }
    print(&crate::solve::solve_json(&text)?)
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write to standard output")
}
