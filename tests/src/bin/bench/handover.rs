//! Moves partitions while readings arrive: a third engine joins, one leaves, all are rolled, one is killed. Some homes are
//! polled all the time to see how late their readings become rows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use model::reading::{Measurement, Reading};
use model::units::{DAY_MS, HouseholdId};
use platform::clock::wall_ms;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use schemas::codec::Codec;
use scylla::client::session::Session;
use scylla::value::{CqlDate, CqlTimestamp};
use tests::harness::{HearthProcess, Stack, cql_session, hearth_config, hearth_init, unique};

use crate::board::Board;
use crate::cli::Cli;
use crate::readings::send_reading;
use crate::say::say;

const HOMES: i64 = 400;
/// Of each home.
const READING_EVERY: Duration = Duration::from_millis(100);
/// Quiet time between two disturbances.
const QUIET: Duration = Duration::from_secs(10);
/// Session timeout, the shortest that a broker allows by default. A crash is noticed only after it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// Longest wait for the last rows.
const LIMIT: Duration = Duration::from_secs(60);
const QUESTIONS_MAX: usize = 32;
/// Homes that are polled all the time, some of each partition.
const WATCHED: usize = 32;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is done to the engines.
#[derive(Debug, Clone, Copy)]
enum Disturbance {
    Nothing,
    Join,
    Leave,
    Roll,
    Crash,
}

impl Disturbance {
    const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Join,
        Self::Leave,
        Self::Roll,
        Self::Crash,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "undisturbed",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Roll => "roll",
            Self::Crash => "crash",
        }
    }
}

/// Measures each disturbance once a run.
pub(crate) async fn measure(stack: &Stack, cli: &Cli, board: &mut Board) -> Result<()> {
    let mut columns = Disturbance::ALL.map(|_| Vec::new());
    for run in 1..=cli.runs {
        say(&format!("handover: run {run} of {} ...", cli.runs));
        let fleet = Fleet::start(stack).await?;
        let longest = fleet.run(stack).await?;
        for ((disturbance, column), longest_ms) in
            Disturbance::ALL.iter().zip(&mut columns).zip(longest)
        {
            say(&format!("  {}: {longest_ms} ms", disturbance.as_str()));
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
            column.push(longest_ms as f64);
        }
    }
    for (disturbance, column) in Disturbance::ALL.into_iter().zip(columns) {
        let name = format!("handover.{}_longest_ms", disturbance.as_str());
        board.add(&name, "ms", column);
    }
    Ok(())
}

/// Two engines, and a third that comes and goes.
struct Fleet {
    config: PathBuf,
    keyspace: String,
    topic: String,
    brokers: String,
    engines: Vec<HearthProcess>,
}

async fn engine(config: &Path) -> Result<HearthProcess> {
    let (engine, _) = HearthProcess::start_role(config, "engine").await?;
    Ok(engine)
}

async fn terminate(engine: HearthProcess) -> Result<()> {
    let ended = engine.terminate(Duration::from_secs(60)).await?;
    ensure!(ended.success(), "an engine ended with {ended}");
    Ok(())
}

impl Fleet {
    async fn start(stack: &Stack) -> Result<Self> {
        let (prefix, keyspace) = (unique("bench-"), unique("bench"));
        let extra = format!(
            "[registry]\nurl = \"\"\n[log.kafka]\nsession_timeout_ms = {}\n[operation]\nlog_filter = \"warn\"\n",
            SESSION_TIMEOUT.as_millis()
        );
        let config = hearth_config(stack, &prefix, &keyspace, &extra)?;
        hearth_init(&config).await?;
        let engines = vec![engine(&config).await?, engine(&config).await?];
        Ok(Self {
            config,
            keyspace,
            topic: format!("{prefix}telemetry"),
            brokers: stack.kafka.brokers(),
            engines,
        })
    }

    /// Returns the longest time from a reading to its row after each disturbance, milliseconds.
    async fn run(mut self, stack: &Stack) -> Result<Vec<i64>> {
        let ends = Arc::new(AtomicBool::new(false));
        let (brokers, topic, stop) = (self.brokers.clone(), self.topic.clone(), ends.clone());
        let sending = std::thread::spawn(move || send(&brokers, &topic, &stop));
        let seen = Arc::new(AtomicI64::new(0));
        let (session, keyspace) = (cql_session(stack).await?, self.keyspace.clone());
        let watching = tokio::spawn(watch(session, keyspace, Arc::clone(&seen)));
        // Wait until every home is known.
        tokio::time::sleep(QUIET).await;
        let mut longest = Vec::new();
        for disturbance in Disturbance::ALL {
            seen.store(0, Ordering::Relaxed);
            self.disturb(disturbance).await?;
            tokio::time::sleep(QUIET).await;
            longest.push(seen.load(Ordering::Relaxed));
        }
        watching.abort();
        ends.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("the sender does not panic")?;
        self.until_stored(stack, &sent).await?;
        for engine in self.engines {
            terminate(engine).await?;
        }
        Ok(longest)
    }

    async fn disturb(&mut self, disturbance: Disturbance) -> Result<()> {
        match disturbance {
            Disturbance::Nothing => {}
            Disturbance::Join => self.engines.push(engine(&self.config).await?),
            Disturbance::Leave => terminate(self.engines.pop().context("three engines")?).await?,
            Disturbance::Roll => {
                // Like a rolling update with one extra: the new one is ready before the old one stops.
                for _ in 0..self.engines.len() {
                    self.engines.push(engine(&self.config).await?);
                    terminate(self.engines.remove(0)).await?;
                }
            }
            Disturbance::Crash => {
                self.engines.pop().context("two engines")?.kill();
                tokio::time::sleep(SESSION_TIMEOUT).await;
            }
        }
        Ok(())
    }

    /// Returns, for each home, when its stored readings were made.
    async fn rows(&self, stack: &Stack) -> Result<Vec<Vec<i64>>> {
        let session = cql_session(stack).await?;
        let homes = stream::iter(1..=HOMES);
        let asked = homes.map(|home| rows_of(&session, &self.keyspace, home, 0));
        asked.buffer_unordered(QUESTIONS_MAX).try_collect().await
    }

    /// Waits until every reading is a row.
    async fn until_stored(&self, stack: &Stack, sent: &[i64]) -> Result<()> {
        let begun = Instant::now();
        let wanted: BTreeSet<i64> = sent.iter().copied().collect();
        loop {
            let homes = self.rows(stack).await?;
            let missing: Vec<i64> = homes
                .iter()
                .flat_map(|rows| {
                    let stored: BTreeSet<i64> = rows.iter().copied().collect();
                    wanted.difference(&stored).copied().collect::<Vec<_>>()
                })
                .collect();
            if missing.is_empty() {
                let count = sent.len() * homes.len();
                say(&format!("  {count} readings, none is lost"));
                return Ok(());
            }
            ensure!(
                begun.elapsed() < LIMIT,
                "{} readings from {:?} to {:?} are missing in the store",
                missing.len(),
                missing.iter().min(),
                missing.iter().max()
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Keeps the longest time from a reading until its row was first seen, milliseconds.
async fn watch(session: Session, keyspace: String, longest: Arc<AtomicI64>) -> Result<()> {
    let mut seen_ms = [wall_ms(); WATCHED];
    loop {
        for (home, seen_ms) in (1..).zip(&mut seen_ms) {
            for ts_ms in rows_of(&session, &keyspace, home, *seen_ms).await? {
                longest.fetch_max(wall_ms() - ts_ms, Ordering::Relaxed);
                *seen_ms = (*seen_ms).max(ts_ms);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns when the stored readings of a home after a given time were made.
async fn rows_of(session: &Session, keyspace: &str, home: i64, after_ms: i64) -> Result<Vec<i64>> {
    // A run may cross midnight.
    let query = format!(
        "SELECT ts FROM {keyspace}.meter_readings WHERE household_id = ? AND day IN (?, ?) AND ts > ?"
    );
    // Days are counted from the middle of the range.
    let today = CqlDate(u32::try_from(wall_ms() / DAY_MS)? + (1 << 31));
    let yesterday = CqlDate(today.0 - 1);
    let values = (home, today, yesterday, CqlTimestamp(after_ms));
    let rows = session.query_iter(query, values).await?;
    let rows = rows.rows_stream::<(CqlTimestamp,)>()?;
    let rows = rows.map_ok(|(ts,)| ts.0);
    Ok(rows.try_collect().await?)
}

/// Sends a reading of each home at regular intervals until told to stop; each is made when it is sent. Returns their
/// times once all are delivered.
fn send(brokers: &str, topic: &str, ends: &AtomicBool) -> Result<Vec<i64>> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "2")
        .set("enable.idempotence", "true")
        .create()?;
    let codec = Codec::single_object();
    let (begun, mut sent) = (Instant::now(), Vec::new());
    while !ends.load(Ordering::Relaxed) {
        let ts_ms = wall_ms();
        for home in 1..=HOMES {
            let reading = Reading {
                household_id: HouseholdId::new(home).context("a positive id")?,
                ts_ms,
                measurement: Measurement::Meter {
                    consumption_w: 500.0,
                },
            };
            send_reading(&producer, topic, &codec, &reading)?;
        }
        sent.push(ts_ms);
        let next = READING_EVERY * u32::try_from(sent.len())?;
        while begun.elapsed() < next {
            producer.poll(Duration::from_millis(5));
        }
    }
    producer.flush(LIMIT).context("deliver the readings")?;
    Ok(sent)
}
