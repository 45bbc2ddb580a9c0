//! `hearth demo`: every role in one process on embedded log and store, with a simulated fleet over MQTT.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::body::SavingsBody;
use loadtest::bills::Bills;
use loadtest::fleet::{Counts, Fleet, FleetConfig};
use loadtest::homes::{self, Home, SEED};
use model::units::{DAY_MS, HouseholdId};
use platform::clock::{Clock, wall_ms};
use schemas::codec::Message;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::config::{Config, LogKind, StoreKind};
use crate::connect;
use crate::roles::{self, Role, RoleFailure, Running};
use platform::role_context::RoleContext;

/// File in which the demo keeps the simulated time.
const CLOCK_FILE: &str = "clock";
/// Pause between two lines of the summary.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How far ahead prices are written.
const PRICES_AHEAD_MS: i64 = 2 * DAY_MS;

/// Options of the command line.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    pub homes: u32,
    /// How many times as fast as the wall clock the time runs.
    pub speed: f64,
    /// How many days the homes have lived through when the demo starts for the first time.
    pub past_days: u32,
    pub data_dir: PathBuf,
    pub http_port: u16,
    pub mqtt_port: u16,
}

/// Reads `--speed`.
pub fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.1..=3600.0).contains(&speed) => Ok(speed),
        _ => Err("expected a number from 0.1 to 3600".to_owned()),
    }
}

/// Returns the demo's defaults, which the file and the environment override.
#[must_use]
pub fn defaults(options: &DemoOptions) -> Config {
    let mut config = Config::default();
    config.log.kind = LogKind::Embedded;
    config.log.dir = options.data_dir.join("log");
    config.store.kind = StoreKind::Embedded;
    config.store.dir = options.data_dir.join("store");
    config.ingest.spool_dir = options.data_dir.join("spool");
    config.http.listen = format!("127.0.0.1:{}", options.http_port);
    config.gateway.listen = format!("127.0.0.1:{}", options.mqtt_port);
    config.engine.checkpoint_ms = 5_000;
    config.engine.tick_ms = 250;
    "warn,rumqttc=error".clone_into(&mut config.operation.log_filter);
    config
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: &DemoOptions, config: &Config) -> Result<()> {
    if config.log.kind != LogKind::Embedded || config.store.kind != StoreKind::Embedded {
        bail!("the demo runs on the embedded log and store; for others use hearth all");
    }
    std::fs::create_dir_all(&options.data_dir)
        .with_context(|| format!("create {}", options.data_dir.display()))?;
    // What is on disk already is a past of its own, and an earlier one would come too late for it.
    let is_first =
        std::fs::read_dir(&config.log.dir).map_or(true, |mut found| found.next().is_none());
    let clock_file = options.data_dir.join(CLOCK_FILE);
    let clock = resume_clock(&clock_file, options.speed)?;
    let context = connect::connect(config, clock).await?;
    context.log.init().await.context("create the topics")?;
    context.store.init().await.context("create the tables")?;
    furnish(&context, options.homes).await?;
    let all = [
        Role::Gateway,
        Role::Engine,
        Role::Optimizer,
        Role::Controller,
        Role::Api,
    ];
    let running = Running::start(&all, config, context).await?;
    let gateway = running
        .gateway
        .as_ref()
        .context("the demo has a gateway")?
        .local_addr();
    let fleet = FleetConfig {
        homes: options.homes,
        first_id: 1,
        host: gateway.ip().to_string(),
        port: gateway.port(),
        is_mixed: true,
        past_days: if is_first { options.past_days } else { 0 },
        compares: true,
        ..FleetConfig::default()
    };
    let now = Arc::new(move || clock.now_ms());
    let mut fleet = Fleet::start(&fleet, now, clock.speed(), None).context("start the fleet")?;
    say(&format!(
        "hearth demo: {} homes, time runs {} times as fast\n  console  http://{http}/\n  API      http://{http}/api/latest/1   http://{http}/api/schedule/1\n  metrics  http://{http}/metrics\n  MQTT     {gateway}   (mosquitto_sub -p {} -t 'home/1/#' -v)\n  data     {}\nCtrl-C drains and stops; the next start goes on from what is on disk.\n\n",
        options.homes,
        clock.speed(),
        gateway.port(),
        options.data_dir.display(),
        http = running.http.address(),
    ));
    let show = Show {
        running: &running,
        fleet: &fleet,
        homes: options.homes,
        clock_file: &clock_file,
    };
    let failed = show.until_told().await?;
    say("\ndraining\n");
    let left = fleet.drain(Duration::from_secs(5)).await;
    if left > 0 {
        warn!(left, "readings of the fleet were not acknowledged");
    }
    fleet.close().await;
    tell("the clock", &mut false, &keep_clock(&clock_file, clock));
    running.close().await;
    Ok(failed?)
}

/// Returns a clock that continues where it stopped, never behind what is on disk. At speed 1 it is the wall clock.
fn resume_clock(file: &Path, speed: f64) -> Result<Clock> {
    if is_wall(speed) {
        return Ok(Clock::wall());
    }
    let origin_ms = match std::fs::read_to_string(file) {
        Ok(text) => text
            .trim()
            .parse()
            .with_context(|| format!("{} holds no time in milliseconds", file.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => wall_ms(),
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    };
    Ok(Clock::simulated(origin_ms, speed))
}

#[expect(
    clippy::float_cmp,
    reason = "1 is what the command line gives for the wall clock"
)]
fn is_wall(speed: f64) -> bool {
    speed == 1.0
}

/// Writes the time to the file, a little ahead, so that a killed demo does not go back. The wall clock needs no file.
fn keep_clock(file: &Path, clock: Clock) -> Result<()> {
    if is_wall(clock.speed()) {
        return Ok(());
    }
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds of a clock")]
    let ahead_ms = (2.0 * LOOK_EVERY.as_secs_f64() * 1e3 * clock.speed()) as i64;
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, (clock.now_ms() + ahead_ms).to_string())
        .and_then(|()| std::fs::rename(&fresh, file))
        .with_context(|| format!("write {}", file.display()))
}

/// Writes the homes' metadata and the prices.
async fn furnish(context: &RoleContext, homes: u32) -> Result<()> {
    renew_prices(context).await?;
    let ids = (1..=i64::from(homes)).filter_map(HouseholdId::new);
    let metadata = ids.map(|id| {
        let metadata = Home::mixed(id, SEED).metadata();
        produce(context, id.to_string(), metadata)
    });
    for produced in futures::future::join_all(metadata).await {
        produced?;
    }
    Ok(())
}

async fn renew_prices(context: &RoleContext) -> Result<()> {
    let now_ms = context.clock.now_ms();
    let tariff = homes::prices(now_ms - DAY_MS, now_ms + PRICES_AHEAD_MS);
    produce(context, tariff.name.clone(), tariff).await
}

async fn produce<T: Message>(context: &RoleContext, key: String, value: T) -> Result<()> {
    let bytes = context.codec.encode(&value)?;
    context
        .log
        .produce(T::TOPIC, key.as_bytes(), bytes)
        .await
        .context("write to the log")
}

/// What goes on while the demo runs.
struct Show<'a> {
    running: &'a Running,
    fleet: &'a Fleet,
    homes: u32,
    clock_file: &'a Path,
}

/// Whether things could not be written when they were last tried.
#[derive(Default)]
struct Failed {
    prices: bool,
    clock: bool,
}

impl Show<'_> {
    /// Prints the summary until told to stop; keeps prices, bills and files up to date.
    async fn until_told(&self) -> Result<Result<(), RoleFailure>> {
        let context = &self.running.context;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = std::pin::pin!(roles::until_told(self.running));
        let in_place = std::io::stdout().is_terminal();
        let mut priced_until_ms = context.clock.now_ms() + PRICES_AHEAD_MS;
        let mut failed = Failed::default();
        loop {
            tokio::select! {
                told = &mut told => return told,
                _ = looks.tick() => {}
            }
            if priced_until_ms - context.clock.now_ms() < PRICES_AHEAD_MS - DAY_MS / 4
                && tell("prices", &mut failed.prices, &renew_prices(context).await)
            {
                priced_until_ms = context.clock.now_ms() + PRICES_AHEAD_MS;
            }
            let kept = keep_clock(self.clock_file, context.clock);
            tell("the clock", &mut failed.clock, &kept);
            let (counts, bills) = (self.fleet.counts(), self.fleet.bills());
            if let (Some(api), true) = (self.running.http.api(), bills.homes > 0) {
                api.tell_savings(savings(&bills));
            }
            let line = self.line(&counts, &bills);
            say(&if in_place {
                format!("\r\x1b[2K{line}")
            } else {
                format!("{line}\n")
            });
        }
    }

    fn line(&self, counts: &Counts, bills: &Bills) -> String {
        let context = &self.running.context;
        let metrics = &context.metrics;
        let sum = |name: &str| sum_of(&metrics.text(), name);
        let progress = if counts.live < u64::from(self.homes) {
            format!("live homes {} of {}", counts.live, self.homes)
        } else {
            said_of(bills)
        };
        format!(
            "{}  readings {} acknowledged, {} stored | slots {} | schedules {} | commands {} sent, {} applied | dead letters {} | {progress}",
            schemas::mqtt::rfc3339(context.clock.now_ms() / 1000 * 1000),
            counts.acknowledged,
            metrics.reading_to_store_seconds.get_sample_count(),
            metrics.slots_total.get(),
            sum("hearth_schedules_total"),
            counts.commands,
            sum("hearth_commands_total{outcome=\"applied\""),
            sum("hearth_dead_letters_total"),
        )
    }
}

/// Says what the simulated meters have saved. The prices are in euros.
fn said_of(bills: &Bills) -> String {
    let rule = bills.rule - bills.hearth;
    // A share of next to nothing says nothing.
    let share = if bills.rule > 1.0 {
        format!(" ({:.1} %)", 100.0 * rule / bills.rule)
    } else {
        String::new()
    };
    let none = bills.none - bills.hearth;
    format!("saved {rule:.2} EUR{share} against the rule, {none:.2} against no battery")
}

fn savings(bills: &Bills) -> SavingsBody {
    SavingsBody {
        since: schemas::mqtt::rfc3339(bills.since_ms),
        homes: bills.homes,
        cost: bills.hearth,
        rule_cost: bills.rule,
        no_battery_cost: bills.none,
        saving: bills.rule - bills.hearth,
    }
}

/// Reports an outcome and returns whether it succeeded. A full disk or a log that is away does not end the demo: it is
/// logged once, and again when it is over.
fn tell(what: &str, has_failed: &mut bool, outcome: &Result<()>) -> bool {
    let failed = match outcome {
        Ok(()) if *has_failed => {
            warn!(what, "written again");
            false
        }
        Ok(()) => false,
        Err(error) if !*has_failed => {
            warn!(
                what,
                error = format!("{error:#}"),
                "cannot be written, trying again"
            );
            true
        }
        Err(_) => true,
    };
    *has_failed = failed;
    !failed
}

/// Returns the sum of the metrics whose line starts with `start`.
fn sum_of(text: &str, start: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(start))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .fold(0.0, |sum, value| sum + value)
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Standard output may be closed; the demo goes on.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
