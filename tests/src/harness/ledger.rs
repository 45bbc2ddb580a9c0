//! What the homes of a test have measured, by their own account, and whether the store says the same.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use model::reading::{Measurement, Reading};
use model::slot::Slot;
use model::units::HouseholdId;
use schemas::mqtt::reading_json;

use super::{MqttAccess, Stack, cql, mosquitto_pub, unique_home, wait_for};

const MINUTE_MS: i64 = 60_000;
const SLOT_MS: i64 = 15 * MINUTE_MS;
/// The default of `engine.hold_minutes`.
const HOLD_MS: i64 = 15 * MINUTE_MS;

/// Homes, and the newest load that each has sent for each moment. A moment that is sent again is a correction.
#[derive(Debug)]
pub struct Ledger {
    homes: Vec<u64>,
    newest: BTreeMap<u64, BTreeMap<i64, f64>>,
    sent: u64,
}

impl Ledger {
    /// So many homes that no other test has.
    #[must_use]
    pub fn of_homes(count: usize) -> Self {
        Self {
            homes: (0..count).map(|_| unique_home()).collect(),
            newest: BTreeMap::new(),
            sent: 0,
        }
    }

    /// The homes.
    #[must_use]
    pub fn homes(&self) -> &[u64] {
        &self.homes
    }

    /// How many readings were sent and acknowledged.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Every home sends a load for each moment, which no home has sent before. Returns once all are acknowledged.
    pub async fn send(
        &mut self,
        access: impl Fn(u64) -> MqttAccess,
        moments_ms: &[i64],
    ) -> anyhow::Result<()> {
        let mut sending = Vec::new();
        for home in &self.homes {
            let household_id = household(*home)?;
            let mut lines = Vec::new();
            for ts_ms in moments_ms {
                self.sent += 1;
                // Whole numbers, whose sums are exact, and none twice.
                let consumption_w = f64::from(u32::try_from(self.sent)?);
                let measurement = Measurement::Meter { consumption_w };
                lines.push(reading_json(&Reading {
                    household_id,
                    ts_ms: *ts_ms,
                    measurement,
                }));
                let newest = self.newest.entry(*home).or_default();
                newest.insert(*ts_ms, consumption_w);
            }
            let device = access(*home);
            sending.push(async move {
                let topic = format!("home/{home}/meter");
                mosquitto_pub(&device, &topic, &lines).await
            });
        }
        futures::future::try_join_all(sending).await?;
        Ok(())
    }

    /// Waits until each row holds the newest value that was sent for its moment, each ended slot is the aggregate of
    /// these, and there are no other rows.
    pub async fn wait_stored(&self, stack: &Stack, keyspace: &str, limit: Duration) {
        for (home, newest) in &self.newest {
            wait_for("rows and slots as sent", limit, async || {
                rows_are(stack, keyspace, *home, newest).await?;
                slots_are(stack, keyspace, *home, newest).await
            })
            .await;
        }
    }

    /// The same, as it is now.
    pub async fn check_stored(&self, stack: &Stack, keyspace: &str) -> anyhow::Result<()> {
        for (home, newest) in &self.newest {
            rows_are(stack, keyspace, *home, newest).await?;
            slots_are(stack, keyspace, *home, newest).await?;
        }
        Ok(())
    }
}

fn household(home: u64) -> anyhow::Result<HouseholdId> {
    HouseholdId::new(i64::try_from(home)?).context("a positive id")
}

async fn rows_are(
    stack: &Stack,
    keyspace: &str,
    home: u64,
    newest: &BTreeMap<i64, f64>,
) -> anyhow::Result<()> {
    let query = format!(
        "SELECT toUnixTimestamp(ts), consumption_w FROM {keyspace}.meter_readings WHERE household_id = {home} ALLOW FILTERING"
    );
    let rows = cql(stack, &query).await?;
    let rows: BTreeMap<i64, f64> = rows.rows::<(i64, f64)>()?.collect::<Result<_, _>>()?;
    let missing = newest.keys().filter(|ts_ms| !rows.contains_key(ts_ms));
    let missing = missing.count();
    let others = rows.keys().filter(|ts_ms| !newest.contains_key(ts_ms));
    let others = others.count();
    ensure!(
        missing == 0 && others == 0,
        "home {home}: {missing} rows are missing, {others} are of nobody"
    );
    let old: Vec<_> = newest
        .iter()
        .filter_map(|(ts_ms, sent)| (rows[ts_ms] != *sent).then_some((ts_ms, rows[ts_ms], sent)))
        .collect();
    ensure!(
        old.is_empty(),
        "home {home}: {} rows are not the newest (time, stored, sent): {old:?}",
        old.len()
    );
    Ok(())
}

async fn slots_are(
    stack: &Stack,
    keyspace: &str,
    home: u64,
    newest: &BTreeMap<i64, f64>,
) -> anyhow::Result<()> {
    let query = format!(
        "SELECT toUnixTimestamp(start), load_w_sum, load_w_count, load_w_max FROM {keyspace}.slots WHERE household_id = {home} ALLOW FILTERING"
    );
    let rows = cql(stack, &query).await?;
    let rows: BTreeMap<i64, _> = rows
        .rows::<(i64, f64, i32, f64)>()?
        .map(|row| row.map(|row| (row.0, row)))
        .collect::<Result<_, _>>()?;
    for slot in ended_slots(newest) {
        let wanted = (
            slot.start_ms,
            slot.load_w.sum,
            i32::try_from(slot.load_w.count)?,
            slot.load_w.max,
        );
        let stored = rows.get(&slot.start_ms);
        ensure!(
            stored == Some(&wanted),
            "home {home}: slot {stored:?} is stored, {wanted:?} was computed"
        );
    }
    Ok(())
}

/// The slots with a reading that have ended by the newest moment, computed from the readings alone.
fn ended_slots(newest: &BTreeMap<i64, f64>) -> Vec<Slot> {
    let Some((last_ms, _)) = newest.last_key_value() else {
        return Vec::new();
    };
    let mut starts: Vec<i64> = newest.keys().map(|ts_ms| start_of(*ts_ms)).collect();
    starts.dedup();
    starts.retain(|start_ms| start_ms + SLOT_MS <= *last_ms);
    let slot = |start_ms: i64| {
        let until = newest.range(..start_ms + SLOT_MS);
        let load = |(ts_ms, watts): (&i64, &f64)| {
            let consumption_w = *watts;
            (*ts_ms, Measurement::Meter { consumption_w })
        };
        Slot::of(start_ms, 15, HOLD_MS, i64::MAX, until.map(load))
    };
    starts.into_iter().map(slot).collect()
}

const fn start_of(ts_ms: i64) -> i64 {
    ts_ms - ts_ms.rem_euclid(SLOT_MS)
}
