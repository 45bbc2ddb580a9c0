//! From the log to rows in Cassandra, at default settings: rows per second with a backlog, how late a row is at a steady
//! rate, and what a killed engine costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;
use platform::clock::wall_ms;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use schemas::codec::Codec;
use scylla::client::session::Session;
use tests::harness::{
    HearthProcess, Stack, cql_session, free_port, hearth_config, hearth_init, metric, unique,
};

use crate::board::Board;
use crate::cli::Cli;
use crate::readings::{HOMES, Readings, send_reading};
use crate::say::{Progress, say};
use crate::selection::Selection;

/// Readings a second of a steady stream.
const RATES: [u32; 2] = [1_000, 20_000];
/// How long it is measured, after as long a time without measuring.
const STEADY: Duration = Duration::from_secs(30);
/// Readings that warm the stack up, since a cold Cassandra is slow.
const WARM_UP: u32 = 300_000;
const LIMIT: Duration = Duration::from_secs(300);
const STORED: &str = "hearth_reading_to_store_seconds_count";

/// The selected parts.
pub(crate) async fn measure(
    stack: &Stack,
    cli: &Cli,
    board: &mut Board,
    selection: &Selection<'_>,
) -> Result<()> {
    say("store: warming up ...");
    let warm = Run::new(stack).await?;
    warm.rows_per_s(stack, WARM_UP).await?;
    let (mut rates, mut reread) = (Vec::new(), Vec::new());
    let mut late = RATES.map(|_| Vec::new());
    for run in 1..=cli.runs {
        say(&format!("store: run {run} of {} ...", cli.runs));
        if selection.wants("store.rows_per_s") {
            rates.push(
                Run::new(stack)
                    .await?
                    .rows_per_s(stack, cli.readings)
                    .await?,
            );
        }
        if selection.wants("store.reread_s") {
            reread.push(
                Run::new(stack)
                    .await?
                    .killed(stack, cli.readings, run)
                    .await?,
            );
        }
        for (rate, late) in RATES.into_iter().zip(&mut late) {
            if selection.wants(&steady_name(rate)) {
                late.push(Run::new(stack).await?.p99_ms(stack, rate).await?);
            }
        }
    }
    let mut add = |name: &str, unit, values: Vec<f64>| {
        if !values.is_empty() {
            board.add(name, unit, values);
        }
    };
    add("store.rows_per_s", "rows/s", rates);
    add("store.reread_s", "s", reread);
    for (rate, late) in RATES.into_iter().zip(late) {
        add(&steady_name(rate), "ms", late);
    }
    Ok(())
}

fn steady_name(rate: u32) -> String {
    format!("store.p99_ms_at_{rate}_per_s")
}

/// The topics and tables of one part.
struct Run {
    config: String,
    keyspace: String,
    topic: String,
    port: u16,
}

impl Run {
    async fn new(stack: &Stack) -> Result<Self> {
        let (port, keyspace, prefix) = (free_port(), unique("bench"), unique("bench-"));
        let extra = format!(
            "[registry]\nurl = \"\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[operation]\nlog_filter = \"warn\"\n"
        );
        let config = hearth_config(stack, &prefix, &keyspace, &extra)?;
        hearth_init(&config).await?;
        Ok(Self {
            config: config.to_str().context("a path of UTF-8")?.to_owned(),
            keyspace,
            topic: format!("{prefix}telemetry"),
            port,
        })
    }

    async fn engine(&self) -> Result<HearthProcess> {
        let engine = HearthProcess::start(&["--config", &self.config, "engine"], &[])?;
        engine.wait_ready(self.port).await?;
        Ok(engine)
    }

    /// Measures rows of readings per second, with all of them waiting from the start.
    async fn rows_per_s(&self, stack: &Stack, count: u32) -> Result<f64> {
        let readings = Readings::write(stack.kafka.brokers(), self.topic.clone(), count)?;
        let engine = self.engine().await?;
        let (first, begun) = self.until_stored(1.0).await?;
        let (last, _) = self.until_stored(f64::from(count)).await?;
        let rate = (last - first) / begun.elapsed().as_secs_f64();
        self.check(stack, readings.count).await?;
        engine.kill();
        Ok(rate)
    }

    /// Kills the engine at a random moment; returns the seconds of work that are done twice. Nothing may be lost.
    async fn killed(&self, stack: &Stack, count: u32, run: usize) -> Result<f64> {
        let readings = Readings::write(stack.kafka.brokers(), self.topic.clone(), count)?;
        let engine = self.engine().await?;
        let (_, begun) = self.until_stored(1.0).await?;
        // The current time is random enough.
        let share = (u32::try_from(wall_ms() % 70)? + 20) * count / 100;
        self.until_stored(f64::from(share)).await?;
        let handled = self.handled().await?;
        engine.kill();
        let rate = handled / begun.elapsed().as_secs_f64();
        let engine = self.engine().await?;
        let (begun, mut progress) = (Instant::now(), Progress::start());
        let lost = loop {
            let missing = i64::from(readings.count) - self.rows(stack).await?;
            if missing == 0 || begun.elapsed() > LIMIT {
                break missing;
            }
            progress.say(|| format!("{missing} rows are still missing"));
        };
        ensure!(lost == 0, "{lost} readings are no rows");
        let again = handled + self.handled().await? - f64::from(readings.count);
        say(&format!(
            "  run {run}: killed after {handled} of {count} readings, none lost, about {again} read again"
        ));
        engine.kill();
        Ok(again.max(0.0) / rate)
    }

    /// Measures the time within which 99 of 100 readings are rows, milliseconds.
    async fn p99_ms(&self, stack: &Stack, rate: u32) -> Result<f64> {
        let engine = self.engine().await?;
        let ends = Arc::new(AtomicBool::new(false));
        let sending = std::thread::spawn({
            let (brokers, topic, ends) = (stack.kafka.brokers(), self.topic.clone(), ends.clone());
            move || send(&brokers, &topic, rate, &ends)
        });
        tokio::time::sleep(STEADY).await;
        let before = self.buckets().await?;
        tokio::time::sleep(STEADY).await;
        let after = self.buckets().await?;
        ends.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("the sender does not panic")?;
        self.until_stored(f64::from(sent)).await?;
        self.check(stack, sent).await?;
        engine.kill();
        p99(&before, &after).context("readings became rows")
    }

    async fn until_stored(&self, count: f64) -> Result<(f64, Instant)> {
        let (begun, mut progress) = (Instant::now(), Progress::start());
        loop {
            let stored = metric(self.port, STORED).await?;
            if stored >= count {
                return Ok((stored, Instant::now()));
            }
            ensure!(
                begun.elapsed() < LIMIT,
                "{stored} of {count} readings are stored"
            );
            progress.say(|| format!("{stored} of {count} readings are stored"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn handled(&self) -> Result<f64> {
        metric(self.port, "hearth_readings_total").await
    }

    /// Upper bounds in seconds of the histogram from reading to row, and how many lie below each.
    async fn buckets(&self) -> Result<Vec<(f64, f64)>> {
        let text = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await?;
        let text = text.text().await?;
        let start = "hearth_reading_to_store_seconds_bucket{le=\"";
        let buckets = text.lines().filter_map(|line| {
            let (bound, count) = line.strip_prefix(start)?.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.parse().ok()?))
        });
        Ok(buckets.collect())
    }

    async fn check(&self, stack: &Stack, count: u32) -> Result<()> {
        let rows = self.rows(stack).await?;
        ensure!(rows == i64::from(count), "{count} readings are {rows} rows");
        Ok(())
    }

    async fn rows(&self, stack: &Stack) -> Result<i64> {
        let session: Session = cql_session(stack).await?;
        let query = format!("SELECT ts FROM {}.meter_readings", self.keyspace);
        let mut statement = scylla::statement::Statement::new(query);
        statement.set_page_size(5_000);
        let rows = session.query_iter(statement, ()).await?;
        let rows = rows.rows_stream::<(scylla::value::CqlTimestamp,)>()?;
        let count = futures::StreamExt::fold(rows, 0, async |count, _| count + 1).await;
        Ok(count)
    }
}

/// Returns a percentile. Readings are taken as evenly spread within its bucket.
fn p99(before: &[(f64, f64)], after: &[(f64, f64)]) -> Option<f64> {
    let counts: Vec<(f64, f64)> = before
        .iter()
        .zip(after)
        .map(|((bound, before), (_, after))| (*bound, after - before))
        .collect();
    let wanted = counts.last()?.1 * 0.99;
    let place = counts.iter().position(|(_, count)| *count >= wanted)?;
    let (to, count) = counts[place];
    let (from, below) = match place {
        0 => (0.0, 0.0),
        place => counts[place - 1],
    };
    // Beyond the last bound the value is unknown.
    let to = if to.is_finite() { to } else { from };
    Some((from + (to - from) * (wanted - below) / (count - below).max(1.0)) * 1_000.0)
}

/// Sends this many readings per second until told to stop, each made when it is sent; returns how many.
fn send(brokers: &str, topic: &str, rate: u32, ends: &AtomicBool) -> Result<u32> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "2")
        .set("enable.idempotence", "true")
        .create()?;
    let codec = Codec::single_object();
    let (begun, mut sent) = (Instant::now(), 0_u32);
    while !ends.load(Ordering::Relaxed) {
        let due = begun.elapsed().as_secs_f64() * f64::from(rate);
        while f64::from(sent) < due {
            let reading = Reading {
                household_id: HouseholdId::new(i64::from(sent % HOMES + 1)).context("an id")?,
                ts_ms: wall_ms(),
                measurement: Measurement::Meter {
                    consumption_w: 500.0,
                },
            };
            send_reading(&producer, topic, &codec, &reading)?;
            sent += 1;
        }
        producer.poll(Duration::from_millis(1));
    }
    producer.flush(LIMIT).context("deliver the readings")?;
    Ok(sent)
}
