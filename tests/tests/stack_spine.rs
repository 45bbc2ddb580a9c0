//! One home's way through everything, on the real stack, watched from outside: MQTT over TLS in, rows in Cassandra,
//! Avro in Kafka, a schedule that balances, a command out over MQTT, an ack recorded.

use std::time::Duration;

use anyhow::{Context, ensure};
use apache_avro::types::Value as Avro;
use loadtest::homes::{self, Home};
use model::units::HouseholdId;
use schemas::mqtt::rfc3339;
use serde_json::{Value, json};
use tests::harness::{
    HearthProcess, Stack, Subscription, cql, decode_confluent, free_port, hearth_config,
    hearth_init, http, kafka_records, mosquitto_pub, unique, unique_home, wait_for,
};

const LIMIT: Duration = Duration::from_secs(90);
const MINUTE_MS: i64 = 60_000;
const STEP_MS: i64 = 5 * MINUTE_MS;
const CAPACITY_KWH: f64 = 10.0;

/// The home's last 26 hours, every five minutes, until now: (time, load, PV, SoC).
fn recorded(home: &Home, now_ms: i64) -> Vec<(i64, f64, f64, f64)> {
    let first_ms = now_ms - now_ms.rem_euclid(STEP_MS) - 26 * 60 * MINUTE_MS;
    let at = (0..)
        .map(|step| first_ms + step * STEP_MS)
        .take_while(|ts_ms| *ts_ms <= now_ms);
    at.map(|ts_ms| (ts_ms, home.load_w(ts_ms), home.pv_w(ts_ms), 55.0))
        .collect()
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn a_reading_goes_in_and_a_command_comes_out() -> anyhow::Result<()> {
    let stack = Stack::shared().await;
    let number = unique_home();
    let id = HouseholdId::new(i64::try_from(number)?).context("a positive id")?;
    let (prefix, keyspace, port) = (unique("spine-"), unique("spine"), free_port());
    let extra =
        format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n");
    let config = hearth_config(stack, &prefix, &keyspace, &extra)?;
    hearth_init(&config).await?;
    hearth_init(&config).await.context("again")?;
    let config = config.to_str().context("a path of UTF-8")?;
    let hearth = HearthProcess::start(&["--config", config, "all"], &[])?;
    hearth.wait_ready(port).await?;

    let device = stack.mosquitto.home(number);
    let commands = Subscription::start(&device, &[&format!("home/{number}/cmd")]).await?;
    let now_ms = platform::clock::wall_ms();
    let readings = recorded(&Home::new(id, 7), now_ms);
    publish(&device, number, &readings).await?;
    furnish(port, id, now_ms).await?;

    rows_are_stored(stack, &keyspace, number, &readings).await?;
    records_decode(stack, &prefix, number, readings.len()).await?;
    let schedule = a_schedule_balances(port, number).await?;
    let command = the_command_arrives(&commands, number, &schedule).await?;
    let ack = json!({"command_id": command["command_id"], "ts": rfc3339(platform::clock::wall_ms()), "status": "applied"});
    mosquitto_pub(&device, &format!("home/{number}/ack"), &[ack.to_string()]).await?;
    the_ack_is_recorded(stack, &keyspace, number, &command).await?;
    what_if_moves_no_battery(port, number).await?;
    let ended = hearth.terminate(Duration::from_secs(60)).await?;
    ensure!(
        ended.success(),
        "SIGTERM drains and ends with 0, not {ended}"
    );
    Ok(())
}

async fn publish(
    device: &tests::harness::MqttAccess,
    number: u64,
    readings: &[(i64, f64, f64, f64)],
) -> anyhow::Result<()> {
    let line = |ts_ms: i64, values: Value| {
        let mut object = json!({"household_id": number, "ts": rfc3339(ts_ms)});
        let all = object.as_object_mut().expect("an object");
        all.extend(values.as_object().expect("an object").clone());
        object.to_string()
    };
    let meter: Vec<String> = readings
        .iter()
        .map(|at| line(at.0, json!({"consumption_w": at.1})))
        .collect();
    let pv: Vec<String> = readings
        .iter()
        .map(|at| line(at.0, json!({"pv_w": at.2})))
        .collect();
    let battery: Vec<String> = readings
        .iter()
        .map(|at| line(at.0, json!({"soc_pct": at.3, "power_w": 0.0})))
        .collect();
    // The newest first would make the rest late; a device sends its past first.
    mosquitto_pub(device, &format!("home/{number}/pv"), &pv).await?;
    mosquitto_pub(device, &format!("home/{number}/battery"), &battery).await?;
    mosquitto_pub(device, &format!("home/{number}/meter"), &meter).await
}

async fn furnish(port: u16, id: HouseholdId, now_ms: i64) -> anyhow::Result<()> {
    let base = format!("http://127.0.0.1:{port}/api");
    let tariff = homes::prices(now_ms - 60 * MINUTE_MS, now_ms + 36 * 60 * MINUTE_MS);
    let periods: Vec<Value> = tariff
        .periods
        .iter()
        .map(|period| {
            json!({"start": rfc3339(period.start_ms), "end": rfc3339(period.end_ms),
                   "buy": period.buy_per_kwh, "sell": period.sell_per_kwh})
        })
        .collect();
    let put = http().put(format!("{base}/tariffs/{}", tariff.name));
    put.json(&json!({"periods": periods}))
        .send()
        .await?
        .error_for_status()?;
    let metadata = json!({
        "name": "A real home", "pv_capacity_kw": 5.0, "tariff": tariff.name,
        "battery": {"capacity_kwh": CAPACITY_KWH, "min_soc_kwh": 1.0, "max_soc_kwh": 9.5, "charge_kw": 5.0,
            "discharge_kw": 5.0, "charge_efficiency": 0.95, "discharge_efficiency": 0.95, "wear_cost_per_kwh": 0.01},
    });
    let put = http().put(format!("{base}/households/{id}"));
    put.json(&metadata).send().await?.error_for_status()?;
    Ok(())
}

async fn rows_are_stored(
    stack: &Stack,
    keyspace: &str,
    number: u64,
    readings: &[(i64, f64, f64, f64)],
) -> anyhow::Result<()> {
    for (table, column) in [
        ("meter_readings", "consumption_w"),
        ("pv_generation", "pv_w"),
        ("battery_state", "soc_pct"),
    ] {
        let query = format!(
            "SELECT toUnixTimestamp(ts), {column} FROM {keyspace}.{table} WHERE household_id = {number} ALLOW FILTERING"
        );
        let mut expected: Vec<(i64, f64)> = readings
            .iter()
            .map(|at| {
                let value = if table == "meter_readings" {
                    at.1
                } else if table == "pv_generation" {
                    at.2
                } else {
                    at.3
                };
                (at.0, value)
            })
            .collect();
        expected.sort_by_key(|row| row.0);
        wait_for("every reading's row", LIMIT, async || {
            let result = cql(stack, &query).await?;
            let mut rows = result
                .rows::<(i64, f64)>()?
                .collect::<Result<Vec<_>, _>>()?;
            rows.sort_by_key(|row| row.0);
            ensure!(
                rows.len() == expected.len(),
                "{table}: {} of {} rows",
                rows.len(),
                expected.len()
            );
            let same = |(row, want): (&(i64, f64), &(i64, f64))| {
                row.0 == want.0 && (row.1 - want.1).abs() <= 1e-9 * want.1.abs().max(1.0)
            };
            ensure!(
                rows.iter().zip(&expected).all(same),
                "{table}: a row differs"
            );
            Ok(())
        })
        .await;
    }
    Ok(())
}

async fn records_decode(
    stack: &Stack,
    prefix: &str,
    number: u64,
    count: usize,
) -> anyhow::Result<()> {
    let topic = format!("{prefix}telemetry");
    let records = kafka_records(&stack.kafka.brokers(), &topic, LIMIT).await?;
    let own: Vec<_> = records
        .iter()
        .filter(|record| record.key_text() == number.to_string())
        .collect();
    ensure!(
        own.len() >= 3 * count,
        "{} of {} records",
        own.len(),
        3 * count
    );
    let partitions: std::collections::BTreeSet<i32> =
        own.iter().map(|record| record.partition).collect();
    ensure!(
        partitions.len() == 1,
        "one home lies on one partition, not on {partitions:?}"
    );
    for record in own {
        let value = record.value.as_deref().context("a record has a value")?;
        let decoded = decode_confluent(&stack.registry.url(), value).await?;
        let Avro::Record(fields) = decoded else {
            anyhow::bail!("{decoded:?} is no record");
        };
        let household = fields
            .iter()
            .find(|(name, _)| name == "household_id")
            .map(|(_, value)| value);
        ensure!(
            household == Some(&Avro::Long(i64::try_from(number)?)),
            "{household:?}"
        );
    }
    Ok(())
}

/// The home's own schedule, once there is one; its balances are computed here anew.
async fn a_schedule_balances(port: u16, number: u64) -> anyhow::Result<Value> {
    let url = format!("http://127.0.0.1:{port}/api/schedule/{number}");
    let schedule: Value = wait_for("a schedule", LIMIT, async || {
        Ok(http()
            .get(&url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    })
    .await;
    ensure!(schedule["status"] == "optimal", "{}", schedule["status"]);
    let slots = schedule["slots"]
        .as_array()
        .context("a schedule has slots")?;
    ensure!(slots.len() >= 90, "{} slots", slots.len());
    let mut soc_kwh = 0.55 * CAPACITY_KWH;
    for slot in slots {
        let at = |name: &str| slot[name].as_f64().unwrap_or(f64::NAN);
        let supply = at("pv_kw") + at("grid_import_kw") + at("battery_discharge_kw");
        let demand = at("load_kw") + at("grid_export_kw") + at("battery_charge_kw");
        ensure!(
            (supply - demand).abs() < 1e-6,
            "power does not balance: {slot}"
        );
        soc_kwh += 0.25 * (0.95 * at("battery_charge_kw") - at("battery_discharge_kw") / 0.95);
        ensure!(
            (soc_kwh - at("soc_kwh")).abs() < 1e-6,
            "SoC is {soc_kwh}: {slot}"
        );
        ensure!(
            (1.0 - 1e-6..=9.5 + 1e-6).contains(&soc_kwh),
            "SoC leaves its bounds: {slot}"
        );
        ensure!(
            at("battery_charge_kw") * at("battery_discharge_kw") == 0.0,
            "both ways: {slot}"
        );
        ensure!(
            at("grid_import_kw") * at("grid_export_kw") == 0.0,
            "both ways: {slot}"
        );
    }
    let cost = |of: &str| schedule[of]["cost"].as_f64().unwrap_or(f64::NAN);
    ensure!(
        cost("metrics").is_finite() && cost("baseline").is_finite(),
        "costs are known"
    );
    Ok(schedule)
}

async fn the_command_arrives(
    commands: &Subscription,
    number: u64,
    schedule: &Value,
) -> anyhow::Result<Value> {
    let messages = commands.wait_messages(1, LIMIT).await;
    let first = messages.first().context("a message came")?;
    ensure!(
        first.topic == format!("home/{number}/cmd"),
        "{}",
        first.topic
    );
    let command: Value = serde_json::from_slice(&first.payload)?;
    ensure!(command["household_id"] == number, "{command}");
    let id = schedule["id"].as_str().context("a schedule has an id")?;
    ensure!(id.starts_with(&format!("{number}-")), "{id}");
    let start = command["program"][0]["from"]
        .as_str()
        .context("a program has a start")?;
    let slots = schedule["slots"]
        .as_array()
        .context("a schedule has slots")?;
    ensure!(
        slots.iter().any(|slot| slot["start"] == start),
        "{command} is for no slot of {id}"
    );
    ensure!(
        command["version"] == 2
            && command["program"][0]["battery"]["mode"].is_string()
            && command["fallback"] == "self_consumption",
        "{command}"
    );
    Ok(command)
}

async fn the_ack_is_recorded(
    stack: &Stack,
    keyspace: &str,
    number: u64,
    command: &Value,
) -> anyhow::Result<()> {
    let wanted = command["command_id"]
        .as_str()
        .context("a command has an id")?;
    let query = format!(
        "SELECT command_id, state FROM {keyspace}.commands WHERE household_id = {number} ALLOW FILTERING"
    );
    wait_for("the command's state", LIMIT, async || {
        let result = cql(stack, &query).await?;
        let rows = result
            .rows::<(String, Option<String>)>()?
            .collect::<Result<Vec<_>, _>>()?;
        let applied = rows
            .iter()
            .any(|(id, state)| id == wanted && state.as_deref() == Some("applied"));
        ensure!(applied, "{wanted} is not applied in {rows:?}");
        Ok(())
    })
    .await;
    Ok(())
}

/// A question with a value of its own is answered, and is not the home's schedule.
async fn what_if_moves_no_battery(port: u16, number: u64) -> anyhow::Result<()> {
    let url = format!("http://127.0.0.1:{port}/api/optimize?wait=30");
    let body = json!({"household_id": number, "grid": {"import_limit_kw": 20.0, "export_limit_kw": 0.0}, "pv_curtailable": true});
    let answer: Value = http()
        .post(&url)
        .json(&body)
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    ensure!(answer["adopted"] == false, "{answer}");
    let slots = answer["slots"].as_array().context("the answer has slots")?;
    ensure!(
        slots.iter().all(|slot| slot["grid_export_kw"] == 0.0),
        "nothing is exported"
    );
    let bad = json!({"household_id": number, "load_kw": [-1.0]});
    let refused = http().post(&url).json(&bad).send().await?;
    ensure!(refused.status() == 422, "{}", refused.status());
    let document: Value = refused.json().await?;
    ensure!(
        document["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("load_kw")),
        "{document}"
    );
    Ok(())
}
