//! Kills and outages on the real stack: what was acknowledged is there afterwards, each slot is the sum of its
//! readings, and no schedule is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use loadtest::homes::{self, Home};
use model::reading::{Measurement, Reading};
use model::slot::Slot;
use model::units::HouseholdId;
use schemas::mqtt::{reading_json, reading_topic, rfc3339};
use serde_json::json;
use tests::harness::{
    CassandraFor, HearthProcess, MqttAccess, Stack, cql, hearth_config, hearth_init, http,
    kafka_records, mosquitto_pub, unique, unique_home, wait_for,
};

const LIMIT: Duration = Duration::from_secs(150);
const MINUTE_MS: i64 = 60_000;
/// The default of `engine.hold_minutes`.
const HOLD_MS: i64 = 900_000;
const SLOT_MS: i64 = 15 * MINUTE_MS;

/// Each role as a process of its own, as in a cluster.
struct Roles {
    bridge: HearthProcess,
    engine: HearthProcess,
    optimizer: HearthProcess,
    api: HearthProcess,
    api_port: u16,
    prefix: String,
    keyspace: String,
}

async fn start_roles(stack: &Stack, name: &str) -> anyhow::Result<Roles> {
    let (prefix, keyspace) = (unique(&format!("{name}-")), unique(name));
    let config = hearth_config(
        stack,
        &prefix,
        &keyspace,
        "[engine]\ncheckpoint_ms = 2000\n[log.kafka]\nsession_timeout_ms = 6000\ndelivery_timeout_ms = 5000\n",
    )?;
    hearth_init(&config).await?;
    let start = async |role: &str| HearthProcess::start_role(&config, role).await;
    let (api, api_port) = start("api").await?;
    Ok(Roles {
        engine: start("engine").await?.0,
        optimizer: start("optimizer").await?.0,
        bridge: start("bridge").await?.0,
        api,
        api_port,
        prefix,
        keyspace,
    })
}

impl Roles {
    async fn end(self) -> anyhow::Result<()> {
        for process in [self.bridge, self.engine, self.optimizer, self.api] {
            let ended = process.terminate(Duration::from_secs(60)).await?;
            ensure!(ended.success(), "a role ended with {ended}");
        }
        Ok(())
    }

    /// Readings in the store, by household.
    async fn stored(
        &self,
        stack: &Stack,
        table: &str,
        id: HouseholdId,
    ) -> anyhow::Result<BTreeSet<i64>> {
        let query = format!(
            "SELECT toUnixTimestamp(ts) FROM {}.{table} WHERE household_id = {id} ALLOW FILTERING",
            self.keyspace
        );
        let result = cql(stack, &query).await?;
        let rows = result.rows::<(i64,)>()?.collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().map(|(ts_ms,)| ts_ms).collect())
    }
}

/// A home's readings from `from_ms` on, a minute apart.
fn readings(home: &Home, id: HouseholdId, from_ms: i64, count: i64) -> Vec<Reading> {
    (0..count)
        .map(|minute| from_ms + minute * MINUTE_MS)
        .flat_map(|ts_ms| {
            let reading = |measurement| Reading {
                household_id: id,
                ts_ms,
                measurement,
            };
            [
                reading(Measurement::Pv {
                    pv_w: home.pv_w(ts_ms),
                }),
                reading(Measurement::Battery {
                    soc_pct: 50.0,
                    power_w: 0.0,
                }),
                reading(Measurement::Meter {
                    consumption_w: home.load_w(ts_ms),
                }),
            ]
        })
        .collect()
}

/// Publishes readings in order of time; returns once the broker has acknowledged all.
async fn publish(device: &MqttAccess, readings: &[Reading]) -> anyhow::Result<()> {
    let mut by_topic: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reading in readings {
        by_topic
            .entry(reading_topic(reading))
            .or_default()
            .push(reading_json(reading));
    }
    for (topic, lines) in by_topic {
        mosquitto_pub(device, &topic, &lines).await?;
    }
    Ok(())
}

async fn furnish(port: u16, id: HouseholdId) -> anyhow::Result<()> {
    let now_ms = platform::clock::wall_ms();
    let tariff = homes::prices(now_ms - 60 * MINUTE_MS, now_ms + 30 * 60 * MINUTE_MS);
    let periods: Vec<_> = tariff
        .periods
        .iter()
        .map(|period| {
            json!({"start": rfc3339(period.start_ms), "end": rfc3339(period.end_ms),
                   "buy": period.buy_per_kwh, "sell": period.sell_per_kwh})
        })
        .collect();
    let base = format!("http://127.0.0.1:{port}/api");
    let put = http()
        .put(format!("{base}/tariffs/{}", tariff.name))
        .json(&json!({"periods": periods}));
    put.send().await?.error_for_status()?;
    let body = json!({
        "name": "A real home", "pv_capacity_kw": 5.0, "tariff": tariff.name,
        "battery": {"capacity_kwh": 10.0, "min_soc_kwh": 1.0, "max_soc_kwh": 9.5, "charge_kw": 5.0,
            "discharge_kw": 5.0, "charge_efficiency": 0.95, "discharge_efficiency": 0.95, "wear_cost_per_kwh": 0.01},
    });
    let put = http().put(format!("{base}/households/{id}")).json(&body);
    put.send().await?.error_for_status()?;
    Ok(())
}

/// What each ended slot must hold, computed from the input alone: mean, count and highest load.
fn offline(readings: &[Reading], end_ms: i64) -> BTreeMap<i64, Slot> {
    let mut sorted = readings.to_vec();
    sorted.sort_by_key(|reading| (reading.ts_ms, reading.measurement.kind()));
    let mut by_slot: BTreeMap<i64, Vec<Reading>> = BTreeMap::new();
    for reading in &sorted {
        by_slot
            .entry(reading.ts_ms - reading.ts_ms.rem_euclid(SLOT_MS))
            .or_default()
            .push(*reading);
    }
    by_slot
        .into_iter()
        .filter(|(start_ms, _)| start_ms + SLOT_MS <= end_ms)
        .map(|(start_ms, _)| {
            let before_end = sorted.iter().filter(|read| read.ts_ms < start_ms + SLOT_MS);
            let timed = before_end.map(|read| (read.ts_ms, read.measurement));
            (start_ms, Slot::of(start_ms, 15, HOLD_MS, i64::MAX, timed))
        })
        .collect()
}

/// What is killed, in turn.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Engine,
    Optimizer,
    Bridge,
    Kafka,
    Cassandra,
    EngineAndOptimizer,
}

impl Victim {
    const ALL: [Self; 6] = [
        Self::Engine,
        Self::Optimizer,
        Self::Bridge,
        Self::Kafka,
        Self::Cassandra,
        Self::EngineAndOptimizer,
    ];

    /// Dies without a warning, is away for a moment, and comes back.
    async fn die(self, stack: &Stack, roles: &Roles) -> anyhow::Result<()> {
        let processes: &[&HearthProcess] = match self {
            Self::Engine => &[&roles.engine],
            Self::Optimizer => &[&roles.optimizer],
            Self::Bridge => &[&roles.bridge],
            Self::EngineAndOptimizer => &[&roles.engine, &roles.optimizer],
            Self::Kafka => {
                stack.kafka.kill();
                return stack.kafka.start_again().await;
            }
            Self::Cassandra => {
                stack.cassandra.kill();
                return stack.cassandra.start_again().await;
            }
        };
        processes.iter().for_each(|process| process.kill());
        tokio::time::sleep(Duration::from_secs(1)).await;
        processes
            .iter()
            .try_for_each(|process| process.start_again())
    }
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn whatever_is_killed_under_load_nothing_is_lost() -> anyhow::Result<()> {
    // A stack of its own, since its servers are killed.
    let stack = Stack::start(CassandraFor::Tests).await?;
    let roles = start_roles(&stack, "kill").await?;
    let numbers: Vec<u64> = (0..4).map(|_| unique_home()).collect();
    let now_ms = platform::clock::wall_ms();
    let from_ms = now_ms - now_ms.rem_euclid(SLOT_MS) - 5 * 60 * MINUTE_MS;
    let minutes = (now_ms - from_ms) / MINUTE_MS;
    // The ledger: what the devices sent, and the MQTT broker acknowledged.
    let mut ledger: BTreeMap<u64, Vec<Reading>> = BTreeMap::new();
    for number in &numbers {
        let id = HouseholdId::new(i64::try_from(*number)?).context("a positive id")?;
        furnish(roles.api_port, id).await?;
        ledger.insert(*number, readings(&Home::new(id, 3), id, from_ms, minutes));
    }
    let parts = Victim::ALL.len();
    for (part, victim) in Victim::ALL.into_iter().enumerate() {
        let send = async {
            for (number, input) in &ledger {
                let device = stack.mosquitto.home(*number);
                let length = input.len().div_ceil(parts);
                let until = ((part + 1) * length).min(input.len());
                for piece in input[part * length..until].chunks(length.div_ceil(4)) {
                    publish(&device, piece).await?;
                }
            }
            anyhow::Ok(())
        };
        let die = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            victim.die(&stack, &roles).await
        };
        tokio::try_join!(send, die)?;
    }
    for (number, input) in &ledger {
        let id = HouseholdId::new(i64::try_from(*number)?).context("a positive id")?;
        let last_ms = input.last().context("there is input")?.ts_ms;
        every_reading_is_stored(&stack, &roles, id, input).await;
        slots_are_as_computed(&stack, &roles.keyspace, id, &offline(input, last_ms)).await;
    }
    no_schedule_is_lost(&stack, &roles).await?;
    let sent: usize = ledger.values().map(Vec::len).sum();
    let topic = format!("{}telemetry", roles.prefix);
    let records = kafka_records(&stack.kafka.brokers(), &topic, LIMIT).await?;
    eprintln!(
        "{sent} readings acknowledged, {} records in the log, killed in turn: {:?}; none is lost",
        records.len(),
        Victim::ALL
    );
    roles.end().await
}

/// Each acknowledged reading is a row, and no other is.
async fn every_reading_is_stored(
    stack: &Stack,
    roles: &Roles,
    id: HouseholdId,
    acknowledged: &[Reading],
) {
    let expected: BTreeSet<i64> = acknowledged.iter().map(|reading| reading.ts_ms).collect();
    for table in ["meter_readings", "pv_generation", "battery_state"] {
        wait_for("every acknowledged reading", LIMIT, async || {
            let stored = roles.stored(stack, table, id).await?;
            let missing = expected.difference(&stored).count();
            ensure!(
                missing == 0,
                "home {id}: {missing} of {} are not in {table}",
                expected.len()
            );
            let others = stored.difference(&expected).count();
            ensure!(others == 0, "home {id}: {others} more are in {table}");
            Ok(())
        })
        .await;
    }
}

async fn slots_are_as_computed(
    stack: &Stack,
    keyspace: &str,
    id: HouseholdId,
    expected: &BTreeMap<i64, Slot>,
) {
    let query = format!(
        "SELECT toUnixTimestamp(start), load_w_sum, load_w_count, load_w_max, pv_w_sum, soc_pct FROM {keyspace}.slots WHERE household_id = {id} ALLOW FILTERING"
    );
    wait_for("every slot to be as computed", LIMIT, async || {
        let result = cql(stack, &query).await?;
        let rows = result
            .rows::<(i64, f64, i32, f64, f64, f64)>()?
            .collect::<Result<Vec<_>, _>>()?;
        let stored: BTreeMap<i64, _> = rows.into_iter().map(|row| (row.0, row)).collect();
        for (start_ms, slot) in expected {
            let row = stored
                .get(start_ms)
                .with_context(|| format!("home {id}: no slot {start_ms}"))?;
            let wanted = (
                *start_ms,
                slot.load_w.sum,
                i32::try_from(slot.load_w.count)?,
                slot.load_w.max,
                slot.pv_w.sum,
                slot.soc_pct.unwrap_or(f64::NAN),
            );
            ensure!(
                *row == wanted,
                "home {id}: {row:?} is stored, {wanted:?} was computed"
            );
        }
        Ok(())
    })
    .await;
}

/// Every request in Kafka has its schedule in Kafka and in the store.
async fn no_schedule_is_lost(stack: &Stack, roles: &Roles) -> anyhow::Result<()> {
    let brokers = stack.kafka.brokers();
    let (asked, answered) = (
        format!("{}optimize-requests", roles.prefix),
        format!("{}schedules", roles.prefix),
    );
    wait_for("every request to have its schedule", LIMIT, async || {
        let ids = async |topic: &str, field: &str| -> anyhow::Result<BTreeSet<String>> {
            let mut ids = BTreeSet::new();
            for record in kafka_records(&brokers, topic, LIMIT).await? {
                let value = record.value.context("a record has a value")?;
                let value = tests::harness::decode_confluent(&stack.registry.url(), &value).await?;
                let apache_avro::types::Value::Record(fields) = value else {
                    anyhow::bail!("no record");
                };
                let found = fields.into_iter().find(|(name, _)| name == field);
                if let Some((_, apache_avro::types::Value::String(id))) = found {
                    ids.insert(id);
                }
            }
            Ok(ids)
        };
        let requests = ids(&asked, "request_id").await?;
        let schedules = ids(&answered, "schedule_id").await?;
        ensure!(!requests.is_empty(), "nothing was asked yet");
        let missing: Vec<_> = requests.difference(&schedules).collect();
        ensure!(
            missing.is_empty(),
            "{} of {} requests have no schedule",
            missing.len(),
            requests.len()
        );
        let query = format!("SELECT schedule_id FROM {}.schedules_by_id", roles.keyspace);
        let result = cql(stack, &query).await?;
        let rows = result.rows::<(String,)>()?.collect::<Result<Vec<_>, _>>()?;
        let stored: BTreeSet<String> = rows.into_iter().map(|(id,)| id).collect();
        let missing = schedules.difference(&stored).count();
        ensure!(missing == 0, "{missing} schedules are not stored");
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn kafka_and_the_store_away_for_half_a_minute_lose_nothing() -> anyhow::Result<()> {
    // A stack of its own, since it is stopped.
    let stack = Stack::start(CassandraFor::Tests).await?;
    let roles = start_roles(&stack, "outage").await?;
    let numbers: Vec<u64> = (0..4).map(|_| unique_home()).collect();
    let now_ms = platform::clock::wall_ms();
    let mut sent: BTreeMap<u64, Vec<Reading>> = BTreeMap::new();
    let send = async |minute: i64, sent: &mut BTreeMap<u64, Vec<Reading>>| -> anyhow::Result<()> {
        for number in &numbers {
            let id = HouseholdId::new(i64::try_from(*number)?).context("a positive id")?;
            let from_ms = now_ms - 6 * 60 * MINUTE_MS + minute * MINUTE_MS;
            let piece = readings(&Home::new(id, 5), id, from_ms, 1);
            publish(&stack.mosquitto.home(*number), &piece).await?;
            sent.entry(*number).or_default().extend(piece);
        }
        Ok(())
    };
    for minute in 0..10 {
        send(minute, &mut sent).await?;
    }
    stack.kafka.stop().await?;
    stack.cassandra.stop().await?;
    let begun = std::time::Instant::now();
    let mut minute = 10;
    while begun.elapsed() < Duration::from_secs(30) {
        send(minute, &mut sent).await?;
        minute += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    tokio::try_join!(stack.kafka.start_again(), stack.cassandra.start_again())?;
    for _ in 0..10 {
        send(minute, &mut sent).await?;
        minute += 1;
    }
    for (number, input) in &sent {
        let id = HouseholdId::new(i64::try_from(*number)?).context("a positive id")?;
        every_reading_is_stored(&stack, &roles, id, input).await;
    }
    roles.end().await
}
