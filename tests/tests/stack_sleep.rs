//! An engine that stands still for a minute under load and wakes: no row goes back to what it was before.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use hearth_store::cql::{CqlConfig, CqlStore};
use model::reading::{Measurement, Reading};
use model::units::{HouseholdId, MINUTE_MS};
use platform::clock::wall_ms;
use platform::metrics::Metrics;
use platform::store::Store;
use schemas::codec::Codec;
use tests::harness::{
    HearthProcess, Stack, hearth_config, hearth_init, kafka_produce, unique, wait_for,
};

const HOMES: i64 = 60;
const SLOT_MS: i64 = 15 * MINUTE_MS;
/// Time in which every home sends a reading of one minute, and corrects two of before.
const ROUND: Duration = Duration::from_millis(400);
/// How far back a round corrects: within the slot or the one before, and where a slot is aggregated again from its rows.
const CORRECTED_MINUTES: [i64; 2] = [4, 50];
const WARM_ROUNDS: i64 = 25;
const ASLEEP: Duration = Duration::from_secs(60);
const AWAKE_ROUNDS: i64 = 40;
const LIMIT: Duration = Duration::from_secs(120);

/// The newest power of each home and minute, as it was sent.
struct Ledger {
    topic: String,
    brokers: String,
    begin_ms: i64,
    rounds: i64,
    newest: BTreeMap<(HouseholdId, i64), f64>,
}

impl Ledger {
    async fn send_round(&mut self) -> anyhow::Result<()> {
        let minute = self.rounds;
        let corrected = CORRECTED_MINUTES.map(|back| minute - back);
        let mut records = Vec::new();
        for home in 1..=HOMES {
            let household_id = HouseholdId::new(home).context("a positive id")?;
            for of in [minute].into_iter().chain(corrected).filter(|of| *of >= 0) {
                // Whole watts, so that sums are exact, and another value each time.
                let consumption_w = f64::from(i32::try_from(minute * 10 + home % 10)?);
                let ts_ms = self.begin_ms + of * MINUTE_MS;
                let measurement = Measurement::Meter { consumption_w };
                let reading = Reading {
                    household_id,
                    ts_ms,
                    measurement,
                };
                let value = Codec::single_object().encode(&reading)?;
                records.push((household_id.to_string(), value));
                self.newest.insert((household_id, ts_ms), consumption_w);
            }
        }
        kafka_produce(&self.brokers, &self.topic, &records).await?;
        self.rounds += 1;
        Ok(())
    }

    async fn send_rounds(&mut self, until: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(ROUND);
        while !until(self) {
            ticks.tick().await;
            self.send_round().await?;
        }
        Ok(())
    }

    /// Rows that are not as they were sent last, and slots that are not the mean of these.
    async fn differences(&self, store: &CqlStore) -> anyhow::Result<Vec<String>> {
        let mut differences = Vec::new();
        let end_ms = self.begin_ms + self.rounds * MINUTE_MS;
        for home in 1..=HOMES {
            let id = HouseholdId::new(home).context("a positive id")?;
            let rows = store.readings(id, self.begin_ms, end_ms).await?;
            let rows: BTreeMap<i64, Measurement> = rows
                .iter()
                .map(|row| (row.ts_ms, row.measurement))
                .collect();
            let sent = self.newest.range((id, self.begin_ms)..(id, end_ms));
            for ((_, ts_ms), consumption_w) in sent {
                let wanted = Measurement::Meter {
                    consumption_w: *consumption_w,
                };
                if rows.get(ts_ms) != Some(&wanted) {
                    let found = rows.get(ts_ms);
                    differences.push(format!(
                        "home {id} at {ts_ms}: {found:?}, sent last {consumption_w}"
                    ));
                }
            }
            let slots = store.slots(id, self.begin_ms, end_ms).await?;
            let slots: BTreeMap<i64, Option<f64>> = slots
                .iter()
                .map(|slot| (slot.start_ms, slot.load_w.mean()))
                .collect();
            // The last minute of the last slot is over, and a little more.
            let mut start_ms = self.begin_ms;
            while start_ms + 2 * SLOT_MS < end_ms {
                let of_slot = self.newest.range((id, start_ms)..(id, start_ms + SLOT_MS));
                let mean = of_slot.map(|(_, watts)| watts).sum::<f64>() / 15.0;
                let found = slots.get(&start_ms).copied().flatten();
                if found.is_none_or(|found| (found - mean).abs() > 1e-6) {
                    differences.push(format!(
                        "slot {start_ms} of home {id}: {found:?}, mean of what was sent {mean}"
                    ));
                }
                start_ms += SLOT_MS;
            }
        }
        Ok(differences)
    }
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn an_engine_that_sleeps_past_its_session_takes_no_row_back() -> anyhow::Result<()> {
    let stack = Stack::shared().await;
    let (prefix, keyspace) = (unique("sleep-"), unique("sleep"));
    let extra = "[registry]\nurl = \"\"\n[log.kafka]\nsession_timeout_ms = 6000\n";
    let config = hearth_config(stack, &prefix, &keyspace, extra)?;
    hearth_init(&config).await?;
    let (first, _) = HearthProcess::start_role(&config, "engine").await?;
    let (second, _) = HearthProcess::start_role(&config, "engine").await?;
    let now_ms = wall_ms();
    let mut ledger = Ledger {
        topic: format!("{prefix}telemetry"),
        brokers: stack.kafka.brokers(),
        // Whole slots, all of them over.
        begin_ms: now_ms - now_ms.rem_euclid(SLOT_MS) - 40 * SLOT_MS,
        rounds: 0,
        newest: BTreeMap::new(),
    };
    ledger
        .send_rounds(|sent| sent.rounds >= WARM_ROUNDS)
        .await?;
    // In the midst of its work.
    first.process().pause()?;
    let wakes = tokio::time::Instant::now() + ASLEEP;
    ledger
        .send_rounds(|_| tokio::time::Instant::now() >= wakes)
        .await?;
    first.process().resume()?;
    let awake = ledger.rounds + AWAKE_ROUNDS;
    ledger.send_rounds(|sent| sent.rounds >= awake).await?;

    let store = CqlConfig {
        nodes: vec![stack.cassandra.contact_point()],
        keyspace,
        ..CqlConfig::default()
    };
    let store = CqlStore::connect(store, Metrics::new()).await?;
    let what = "rows and slots as they were sent last";
    wait_for(what, LIMIT, async || {
        let differences = ledger.differences(&store).await?;
        let some = &differences[..differences.len().min(5)];
        ensure!(
            differences.is_empty(),
            "{} differ: {some:?}",
            differences.len()
        );
        Ok(())
    })
    .await;
    // The sleeper has its place in the group again, and both leave in peace.
    for engine in [first, second] {
        let ended = engine.terminate(LIMIT).await?;
        ensure!(ended.success(), "an engine ended with {ended}");
    }
    Ok(())
}
