//! The operator's commands: their arguments, and how they run.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use model::units::HouseholdId;
use platform::clock::Clock;
use schemas::dead_letter::Reason;

use crate::config::Config;
use crate::connect;
use crate::dead_letters::{self, Filter, Judge, LetterId, Page, Replayed};
use crate::households_import;
use platform::role_context::RoleContext;

const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// `hearth households`.
#[derive(Debug, Subcommand)]
pub enum HouseholdsCommand {
    /// Imports metadata of many homes from a CSV file; docs/how-to/import-households.md lists its columns.
    ///
    /// Every row is checked first, and nothing is written if one is wrong. Homes for which the store already has the
    /// same metadata are skipped, so a file may be imported again.
    Import {
        /// CSV file with a header line.
        file: PathBuf,
        /// Checks the file and compares it with the store, but writes nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `hearth dead-letters`.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Lists dead letters, newest first.
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Most letters to list.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Letters to skip.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
        skip: u32,
        /// Prints one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Shows one letter with its bytes, and the result that a replay would have now.
    Show {
        /// PARTITION:OFFSET as shown by `list`.
        id: LetterId,
    },
    /// Writes letters back to their topics, each once. Skips those that would be refused again.
    Replay {
        #[command(flatten)]
        filter: FilterArgs,
        /// Replays every letter; needed if no filter is given.
        #[arg(long)]
        all: bool,
        /// Shows what would be done, but writes nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// A filter of letters; every criterion that is given must match.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// PARTITION:OFFSET as shown by `list`.
    ids: Vec<LetterId>,
    /// Reason such as future_time; may be given several times.
    #[arg(long, value_parser = parse_reason)]
    reason: Vec<Reason>,
    /// Refused at or after this time, such as 2026-03-01T06:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time_ms)]
    since: Option<i64>,
    /// Refused before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time_ms)]
    until: Option<i64>,
    /// Topic that it came from, such as telemetry or home/+/meter.
    #[arg(long, value_name = "TOPIC")]
    source: Option<String>,
    /// Home that it belongs to.
    #[arg(long, value_name = "ID", value_parser = parse_household)]
    household: Option<HouseholdId>,
}

impl From<&FilterArgs> for Filter {
    fn from(args: &FilterArgs) -> Self {
        Self {
            ids: args.ids.clone(),
            reasons: args.reason.clone(),
            since_ms: args.since,
            until_ms: args.until,
            source: args.source.clone(),
            household: args.household,
        }
    }
}

fn parse_reason(text: &str) -> Result<Reason, String> {
    let known = Reason::ALL.iter().find(|reason| reason.as_str() == text);
    known.copied().ok_or_else(|| {
        let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn parse_time_ms(text: &str) -> Result<i64, String> {
    let time = text.parse().map(jiff::Timestamp::as_millisecond);
    time.map_err(|_| "expected an RFC 3339 time with an offset".to_owned())
}

fn parse_household(text: &str) -> Result<HouseholdId, String> {
    HouseholdId::parse(text).ok_or_else(|| "expected a positive whole number".to_owned())
}

/// Runs `hearth households …`.
pub async fn households(command: &HouseholdsCommand, config: &Config) -> Result<()> {
    let HouseholdsCommand::Import { file, dry_run } = command;
    let total = households_import::check(file)?;
    say(&format!("{total} homes, every row is valid\n"));
    let context = connect::connect(config, Clock::wall()).await?;
    let done = households_import::import(&context, file, total, *dry_run).await;
    close(&context).await;
    let done = done?;
    let written = if *dry_run {
        "would be written"
    } else {
        "written"
    };
    print(&format!(
        "{} {written}, {} unchanged\n",
        done.written, done.unchanged
    ))
}

/// Runs `hearth dead-letters …`.
pub async fn dead_letters(command: &DeadLettersCommand, config: &Config) -> Result<()> {
    if let DeadLettersCommand::Replay {
        filter, all: false, ..
    } = command
        && Filter::from(filter).is_open()
    {
        bail!("which letters? Give a filter, or --all");
    }
    let context = connect::connect(config, Clock::wall()).await?;
    let text = run(command, &context, config).await;
    close(&context).await;
    print(&text?)
}

async fn run(
    command: &DeadLettersCommand,
    context: &RoleContext,
    config: &Config,
) -> Result<String> {
    let now_ms = context.clock.now_ms();
    let judge = Judge {
        codec: &context.codec,
        now_ms,
        times: config.ingest.times(now_ms),
    };
    match command {
        DeadLettersCommand::List {
            filter,
            limit,
            skip,
            json,
        } => {
            let page = Page {
                skip: *skip as usize,
                limit: *limit as usize,
            };
            dead_letters::list(context, &filter.into(), page, *json).await
        }
        DeadLettersCommand::Show { id } => dead_letters::show(context, *id, judge).await,
        DeadLettersCommand::Replay {
            filter, dry_run, ..
        } => {
            let mut told = Instant::now();
            let progress = |done: &Replayed| {
                if told.elapsed() >= PROGRESS_EVERY {
                    told = Instant::now();
                    say(&format!("{} letters so far\n", done.letters));
                }
            };
            let done =
                dead_letters::replay(context, &filter.into(), judge, *dry_run, progress).await?;
            Ok(replayed_text(&done, *dry_run))
        }
    }
}

fn replayed_text(done: &Replayed, dry_run: bool) -> String {
    let verb = if dry_run {
        "would be replayed"
    } else {
        "replayed"
    };
    let mut text = format!(
        "{} letters {verb} as {} records\n",
        done.letters, done.records
    );
    text += &format!("{} were replayed before\n", done.before);
    text += &format!(
        "{} would be refused again\n",
        done.refused.values().sum::<u64>()
    );
    for (why, count) in &done.refused {
        text += &format!("  {count}: {why}\n");
    }
    if done.unreadable > 0 {
        text += &format!("{} records cannot be read\n", done.unreadable);
    }
    text
}

async fn close(context: &RoleContext) {
    context.log.close().await;
    context.store.close().await;
}

fn say(text: &str) {
    // Standard error may be closed; the command goes on.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .context("write to standard output")
}
