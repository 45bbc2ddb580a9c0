//! The API knows a home's open slot though no reading is a row, also while its engine has died and its partition moves.

use std::time::Duration;

use anyhow::{Context, ensure};
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;
use platform::clock::wall_ms;
use schemas::codec::Codec;
use serde_json::Value;
use tests::harness::{
    HearthProcess, Stack, hearth_config, hearth_init, http, kafka_produce, unique, wait_for,
};

const LIMIT: Duration = Duration::from_secs(60);
const HOME: i64 = 31;
const READINGS: i64 = 5;

/// Readings in the home's newest slot, and their mean load, W.
async fn newest_slot(api_port: u16) -> anyhow::Result<(i64, f64)> {
    let url = format!("http://127.0.0.1:{api_port}/api/latest/{HOME}");
    let answer = http().get(url).send().await?.error_for_status()?;
    let latest: Value = answer.json().await?;
    let slots = latest["slots"].as_array().context("slots")?;
    let newest = slots.last().context("no slot is known")?;
    let samples = newest["samples"].as_i64().context("samples")?;
    let mean_w = newest["load_w"]["mean"].as_f64().context("a mean load")?;
    Ok((samples, mean_w))
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn an_open_slot_is_known_whoever_owns_the_home() -> anyhow::Result<()> {
    let stack = Stack::shared().await;
    let prefix = unique("live-");
    // One slot lasts an hour, so that it rarely ends in the midst of this.
    let extra = "[registry]\nurl = \"\"\n[engine]\nstore_readings = false\ncheckpoint_ms = 500\nslot_minutes = 60\n\
                 [log.kafka]\nsession_timeout_ms = 6000\n";
    let config = hearth_config(stack, &prefix, &unique("live"), extra)?;
    hearth_init(&config).await?;
    let (api, api_port) = HearthProcess::start_role(&config, "api").await?;
    let (first, _) = HearthProcess::start_role(&config, "engine").await?;
    let codec = Codec::single_object();
    let now_ms = wall_ms();
    let slot_ms = now_ms - now_ms.rem_euclid(3_600_000);
    let mut records = Vec::new();
    for number in 0..READINGS {
        let reading = Reading {
            household_id: HouseholdId::new(HOME).context("a positive id")?,
            ts_ms: slot_ms + number * 1_000,
            measurement: Measurement::Meter {
                consumption_w: 400.0,
            },
        };
        records.push((HOME.to_string(), codec.encode(&reading)?));
    }
    let topic = format!("{prefix}telemetry");
    kafka_produce(&stack.kafka.brokers(), &topic, &records).await?;
    let known = async || {
        let newest = newest_slot(api_port).await?;
        ensure!(newest == (READINGS, 400.0), "{newest:?}");
        Ok(())
    };
    wait_for("the open slot", LIMIT, known).await;
    // A second engine takes its share, the first one dies, and at last none is there: the slot is always known.
    let (second, _) = HearthProcess::start_role(&config, "engine").await?;
    known().await?;
    first.kill();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        known().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(
        second.terminate(LIMIT).await?.success(),
        "the second engine"
    );
    known().await?;
    ensure!(api.terminate(LIMIT).await?.success(), "the API");
    Ok(())
}
