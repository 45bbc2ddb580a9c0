//! A fleet in one engine process: every home live, one reading a minute each, through real Kafka, slots stored in real
//! Cassandra, for minutes on end; then the same with every reading stored as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hearth_store::cql::{CqlConfig, CqlStore};
use model::reading::{Measurement, Reading};
use model::units::{DAY_MS, HouseholdId, MINUTE_MS, SlotLength};
use platform::clock::wall_ms;
use platform::metrics::Metrics;
use platform::store::Store;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use schemas::codec::Codec;
use tests::harness::{HearthProcess, Stack, free_port, hearth_config, hearth_init, metric, unique};

use crate::board::Board;
use crate::cli::Cli;
use crate::readings::send_reading;
use crate::say::{Progress, say};
use crate::selection::Selection;
use crate::usage::{resident_bytes, usage};

/// Homes whose rows are compared with what was sent.
const SAMPLE: i64 = 200;
/// Fewer homes are not tried.
const HOMES_MIN: u32 = 100_000;
/// A fleet is too large if more than a hundredth of the time its lag is above this.
const LAG_S_MAX: f64 = 5.0;
/// Longest time until every home is in memory and nothing is behind. All homes are new at once, and Cassandra is cold.
const WARM_LIMIT: Duration = Duration::from_secs(600);

/// Longest time from then to the end of a slot.
const SLOT_LIMIT: Duration = Duration::from_secs(17 * 60);

/// Both fleets, as far as they are selected.
pub(crate) async fn measure(
    stack: &Stack,
    cli: &Cli,
    board: &mut Board,
    selection: &Selection<'_>,
) -> Result<()> {
    let minutes = Duration::from_secs(60 * u64::from(cli.minutes));
    for (name, homes, stores_readings) in [
        ("million_homes", cli.live_homes, false),
        ("million_homes_stored", cli.stored_homes, true),
    ] {
        if selection.wants(name)
            && (stores_readings || !selection.is_within("million_homes_stored"))
        {
            hold(stack, (name, homes, stores_readings), minutes, board).await?;
        }
    }
    Ok(())
}

/// Takes a quarter off the fleet until the machine holds it.
async fn hold(
    stack: &Stack,
    (name, mut homes, stores_readings): (&str, u32, bool),
    minutes: Duration,
    board: &mut Board,
) -> Result<()> {
    loop {
        let fleet = Fleet::new(stack, homes, stores_readings).await?;
        match fleet.run(name, minutes, board).await {
            Err(error) if error.is::<TooMany>() && homes > HOMES_MIN => {
                say(&format!("  {error:#}"));
                homes = homes / 4 * 3;
            }
            outcome => return outcome,
        }
    }
}

/// The engine falls behind.
#[derive(Debug, thiserror::Error)]
#[error("{homes} homes are too many: {why}")]
struct TooMany {
    homes: u32,
    why: String,
}

/// A fleet and the engine that holds it.
struct Fleet {
    homes: u32,
    stores_readings: bool,
    keyspace: String,
    nodes: Vec<String>,
    engine: HearthProcess,
    port: u16,
    brokers: String,
    topic: String,
}

impl Fleet {
    async fn new(stack: &Stack, homes: u32, stores_readings: bool) -> Result<Self> {
        let (port, keyspace, prefix) = (free_port(), unique("bench"), unique("bench-"));
        let extra = format!(
            "[registry]\nurl = \"\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[engine]\n\
             store_readings = {stores_readings}\n[operation]\nlog_filter = \"warn\"\n"
        );
        let config = hearth_config(stack, &prefix, &keyspace, &extra)?;
        hearth_init(&config).await?;
        let config = config.to_str().context("a path of UTF-8")?.to_owned();
        let engine = HearthProcess::start(&["--config", &config, "engine"], &[])?;
        engine.wait_ready(port).await?;
        Ok(Self {
            homes,
            stores_readings,
            keyspace,
            nodes: vec![stack.cassandra.contact_point()],
            engine,
            port,
            brokers: stack.kafka.brokers(),
            topic: format!("{prefix}telemetry"),
        })
    }

    async fn run(self, name: &str, minutes: Duration, board: &mut Board) -> Result<()> {
        let homes = f64::from(self.homes);
        say(&format!(
            "{name}: {homes} homes, a reading a minute each ..."
        ));
        let ends = Arc::new(AtomicBool::new(false));
        let _sends_until_here = EndsSending(Arc::clone(&ends));
        let sender = Sender {
            homes: self.homes,
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            ends: Arc::clone(&ends),
        };
        let sending = std::thread::spawn(move || sender.run());
        self.until_all_live().await?;
        self.until_slots_end(name).await?;
        let pid = self.engine.process().pid().context("the engine runs")?;
        let (begun, (cpu_before, _)) = (Instant::now(), usage(pid)?);
        let (mut lags_s, mut resident_mb) = (Vec::new(), 0.0_f64);
        let mut progress = Progress::start();
        while begun.elapsed() < minutes {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let lag_s = metric(self.port, "hearth_consumer_lag_seconds ").await?;
            lags_s.push(lag_s);
            let behind_s = lags_s.iter().filter(|lag_s| **lag_s > LAG_S_MAX).count();
            ensure!(
                (100 * behind_s as u64) < minutes.as_secs(),
                self.too_many(format!("{behind_s} s with a lag above {LAG_S_MAX} s"))
            );
            resident_mb = resident_mb.max(resident_bytes(pid)? / 1e6);
            let live = metric(self.port, "hearth_live_households ").await?;
            ensure!(live >= homes, "{live} of {homes} homes are live");
            progress.say(|| {
                let passed = begun.elapsed().as_secs();
                format!("{passed} s: {resident_mb:.0} MB, {lag_s:.1} s behind")
            });
        }
        let (cpu_after, peak_mb) = usage(pid)?;
        let cores = (cpu_after - cpu_before) / begun.elapsed().as_secs_f64();
        let slots = metric(self.port, "hearth_slots_total ").await?;
        ends.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("the sender does not panic")?;
        let rows = self.check_rows().await?;
        lags_s.sort_by(f64::total_cmp);
        let p99 = lags_s[lags_s.len() * 99 / 100];
        #[expect(clippy::cast_precision_loss, reason = "counts of homes and rows")]
        let rows_stored = rows as f64 * homes / SAMPLE as f64;
        say(&format!(
            "  {sent} readings sent; {slots} slots ended; {rows} rows of {SAMPLE} homes are as sent"
        ));
        board.add(&format!("{name}.homes"), "homes", vec![homes]);
        board.add(&format!("{name}.peak_mb"), "MB", vec![peak_mb]);
        board.add(&format!("{name}.cores"), "cores", vec![cores]);
        board.add(&format!("{name}.lag_p99_s"), "s", vec![p99]);
        board.add(
            &format!("{name}.lag_max_s"),
            "s",
            vec![lags_s[lags_s.len() - 1]],
        );
        board.add(&format!("{name}.slots"), "slots", vec![slots]);
        // Extrapolated from the homes that are checked.
        board.add(&format!("{name}.rows"), "rows", vec![rows_stored]);
        // Saving every home would take as long again.
        self.engine.kill();
        Ok(())
    }

    const fn too_many(&self, why: String) -> TooMany {
        TooMany {
            homes: self.homes,
            why,
        }
    }

    async fn until_all_live(&self) -> Result<()> {
        let (begun, mut progress) = (Instant::now(), Progress::start());
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let live = metric(self.port, "hearth_live_households ").await?;
            let lag_s = metric(self.port, "hearth_consumer_lag_seconds ").await?;
            if live >= f64::from(self.homes) && lag_s < 1.0 {
                return Ok(());
            }
            progress.say(|| format!("{live} homes are live, {lag_s:.1} s behind"));
            ensure!(
                begun.elapsed() < WARM_LIMIT,
                self.too_many(format!("{live} are live, {lag_s:.0} s behind"))
            );
        }
    }

    /// Slots end together, on the quarter of an hour; from then on each home's is stored with its next snapshot, within
    /// another. What is measured begins here, so that it has all of this work in it.
    async fn until_slots_end(&self, name: &str) -> Result<()> {
        let (begun, mut progress) = (Instant::now(), Progress::start());
        while metric(self.port, "hearth_slots_total ").await? == 0.0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            progress.say(|| format!("{name}: every home is live, waiting for a slot to end"));
            ensure!(begun.elapsed() < SLOT_LIMIT, "no slot has ended");
        }
        Ok(())
    }

    /// Compares the rows of some homes with what was sent: whole slots, and readings where they are stored.
    async fn check_rows(&self) -> Result<usize> {
        let config = CqlConfig {
            nodes: self.nodes.clone(),
            keyspace: self.keyspace.clone(),
            ..CqlConfig::default()
        };
        let store = CqlStore::connect(config, Metrics::new()).await?;
        let (from_ms, to_ms) = (wall_ms() - DAY_MS, wall_ms() + DAY_MS);
        let step = i64::from(self.homes) / SAMPLE;
        let (mut slots_count, mut readings_count) = (0, 0);
        for number in 0..SAMPLE {
            let id = HouseholdId::new(number * step + 1).context("a positive id")?;
            let slots = store.slots(id, from_ms, to_ms).await?;
            // The first slot began before the fleet did.
            for slot in slots.iter().skip(1) {
                let (count, mean_w) = (slot.load_w.count, slot.load_w.mean());
                ensure!(
                    count == 15 && mean_w == Some(watts(id)),
                    "home {id}: {slot:?}"
                );
                slots_count += 1;
            }
            slots_count += slots.len().min(1);
            let readings = store.readings(id, from_ms, to_ms).await?;
            let is_right = |read: &Reading| {
                read.measurement
                    == Measurement::Meter {
                        consumption_w: watts(id),
                    }
            };
            ensure!(readings.iter().all(is_right), "home {id}: {readings:?}");
            let apart = readings
                .windows(2)
                .all(|two| two[1].ts_ms - two[0].ts_ms == MINUTE_MS);
            ensure!(apart, "home {id}: a reading is missing among {readings:?}");
            readings_count += readings.len();
        }
        ensure!(slots_count > 0, "no slot is stored");
        ensure!(
            (readings_count > 0) == self.stores_readings,
            "{readings_count} readings are stored"
        );
        Ok(slots_count + readings_count)
    }
}

/// Ends a sender when it goes out of scope.
struct EndsSending(Arc<AtomicBool>);

impl Drop for EndsSending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends one reading of each home a minute, evenly.
struct Sender {
    homes: u32,
    brokers: String,
    topic: String,
    ends: Arc<AtomicBool>,
}

impl Sender {
    /// Sends until told to stop; returns how many were delivered.
    fn run(self) -> Result<u64> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("linger.ms", "20")
            .set("compression.type", "lz4")
            .set("enable.idempotence", "true")
            .create()?;
        let codec = Codec::single_object();
        let first_ms = SlotLength::new(1)
            .context("a minute")?
            .start_of_ms(wall_ms());
        let (begun, mut sent) = (Instant::now(), 0_u64);
        while !self.ends.load(Ordering::Relaxed) {
            let due = begun.elapsed().as_secs_f64() * f64::from(self.homes) / 60.0;
            #[expect(clippy::cast_precision_loss, reason = "a count of readings")]
            while (sent as f64) < due {
                let (round, home) = (sent / u64::from(self.homes), sent % u64::from(self.homes));
                let id = HouseholdId::new(i64::try_from(home)? + 1).context("a positive id")?;
                // Each home has its time within the minute, so that its readings are a minute apart.
                let place_ms = i64::try_from(home * 60_000 / u64::from(self.homes))?;
                let ts_ms = first_ms + i64::try_from(round)? * MINUTE_MS + place_ms;
                self.send(&producer, &codec, id, ts_ms)?;
                sent += 1;
            }
            producer.poll(Duration::from_millis(5));
        }
        producer
            .flush(Duration::from_secs(60))
            .context("deliver the readings")?;
        Ok(sent)
    }

    fn send(
        &self,
        producer: &BaseProducer,
        codec: &Codec,
        id: HouseholdId,
        ts_ms: i64,
    ) -> Result<()> {
        let reading = Reading {
            household_id: id,
            ts_ms,
            measurement: Measurement::Meter {
                consumption_w: watts(id),
            },
        };
        send_reading(producer, &self.topic, codec, &reading)
    }
}

/// The constant load of a home, so that the mean of its slots is known.
fn watts(id: HouseholdId) -> f64 {
    300.0 + f64::from(u32::try_from(id.get() % 97).expect("below 97"))
}
