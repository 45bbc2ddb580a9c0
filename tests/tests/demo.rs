//! `hearth demo`: it does everything within a minute, a kill loses no acknowledged reading, and the next start continues
//! from the data on disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use hearth_store::embedded::{EmbeddedStore, EmbeddedStoreConfig};
use model::units::HouseholdId;
use platform::store::Store;
use schemas::mqtt::rfc3339;
use serde_json::{Value, json};
use tests::harness::{
    HearthProcess, MqttAccess, free_port, hearth_output, http, metric, mosquitto_pub_whole,
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(60);

fn start(dir: &Path, http_port: u16, mqtt_port: u16, homes: u32) -> anyhow::Result<HearthProcess> {
    let dir = dir.to_str().context("a path of UTF-8")?;
    let (http_port, mqtt_port) = (http_port.to_string(), mqtt_port.to_string());
    let homes = homes.to_string();
    let args = [
        "demo",
        "--homes",
        &homes,
        "--past-days",
        "2",
        "--data-dir",
        dir,
        "--http-port",
        &http_port,
        "--mqtt-port",
        &mqtt_port,
    ];
    HearthProcess::start(&args, &[])
}

#[tokio::test]
async fn everything_happens_within_a_minute_and_goes_on_after_a_restart() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (port, mqtt_port) = (free_port(), free_port());
    let demo = start(dir.path(), port, mqtt_port, 20)?;
    demo.wait_ready(port).await?;
    for wanted in [
        "hearth_reading_to_store_seconds_count",
        "hearth_slots_total",
        "hearth_schedules_total{",
        "hearth_commands_total{outcome=\"applied\"",
    ] {
        wait_for(wanted, LIMIT, async || {
            let count = metric(port, wanted).await?;
            ensure!(count >= 5.0, "{count}");
            Ok(())
        })
        .await;
    }
    ensure!(
        metric(port, "hearth_dead_letters_total").await? == 0.0,
        "a simulated home sends no nonsense"
    );
    let asked = async |path: &str| -> anyhow::Result<Value> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let answer = http().get(url).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    };
    let slots_of = |latest: &Value| latest["slots"].as_array().map_or(0, Vec::len);
    wait_for(
        "a day of slots, which were lived before",
        LIMIT,
        async || {
            let latest = asked("/api/latest/1").await?;
            ensure!(slots_of(&latest) >= 95, "{}", slots_of(&latest));
            Ok(())
        },
    )
    .await;
    wait_for("true savings of the homes", LIMIT, async || {
        let fleet = asked("/api/fleet").await?;
        ensure!(fleet["savings"]["homes"] == 20, "{}", fleet["savings"]);
        ensure!(fleet["savings"]["saving"].is_number());
        Ok(())
    })
    .await;
    let latest = asked("/api/latest/1").await?;
    let slots = slots_of(&latest);
    let first_now = latest["now"].as_str().context("now")?.to_owned();
    ensure!(
        http()
            .get(format!("http://127.0.0.1:{port}/"))
            .send()
            .await?
            .status()
            .is_success(),
        "the console"
    );
    let listen = format!("127.0.0.1:{port}");
    let ready = async || hearth_output(&["ready"], &[("HEARTH_HTTP__LISTEN", &listen)]).await;
    ensure!(ready().await?.status.success(), "hearth ready");
    let ended = demo.terminate(LIMIT).await?;
    ensure!(ended.success(), "SIGTERM ends it with 0, not {ended}");
    ensure!(
        ready().await?.status.code() == Some(1),
        "nobody is ready there"
    );

    demo.start_again()?;
    demo.wait_ready(port).await?;
    let latest = asked("/api/latest/1").await?;
    ensure!(
        latest["now"].as_str().context("now")? >= first_now.as_str(),
        "time does not go back"
    );
    ensure!(slots_of(&latest) + 2 >= slots, "slots of before are there");
    demo.terminate(LIMIT).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_demo_hears_that_the_folder_is_in_use_and_the_first_outlives_its_clock_file()
-> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    // Where the clock is written to before it gets its name.
    std::fs::create_dir(dir.path().join("clock.new"))?;
    let (port, mqtt_port) = (free_port(), free_port());
    let demo = start(dir.path(), port, mqtt_port, 5)?;
    demo.wait_ready(port).await?;
    let folder = dir.path().to_str().context("a path of UTF-8")?;
    let args = [
        "demo",
        "--data-dir",
        folder,
        "--http-port",
        "0",
        "--mqtt-port",
        "0",
    ];
    let second = hearth_output(&args, &[]).await?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(!second.status.success(), "two demos share a folder");
    let expected = format!("{folder}/log is in use by another process");
    ensure!(said.contains(&expected), "{said}");
    wait_for("slots, whatever the clock file does", LIMIT, async || {
        let count = metric(port, "hearth_slots_total").await?;
        ensure!(count >= 5.0, "{count}");
        Ok(())
    })
    .await;
    demo.terminate(LIMIT).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn five_kills_lose_nothing_that_was_acknowledged() -> anyhow::Result<()> {
    // The outside client is mosquitto_pub, which the set-up of the stack brings.
    const HOME: i64 = 777_777;
    const EACH: i64 = 10;
    let dir = tempfile::tempdir()?;
    let (port, mqtt_port) = (free_port(), free_port());
    let demo = start(dir.path(), port, mqtt_port, 5)?;
    demo.wait_ready(port).await?;
    let access = MqttAccess::plain(mqtt_port);
    let first_ms = platform::clock::wall_ms() - 86_400_000;
    let mut acknowledged: BTreeSet<i64> = BTreeSet::new();
    let mut batch = 0;
    for round in 0..5 {
        for publish in 0..12 {
            let times: Vec<i64> = (0..EACH)
                .map(|number| first_ms + (batch * EACH + number) * 1_000)
                .collect();
            batch += 1;
            let readings: Vec<Value> = times
                .iter()
                .map(|ts_ms| json!({"household_id": HOME, "ts": rfc3339(*ts_ms), "consumption_w": 100 + round}))
                .collect();
            let payload = json!(readings).to_string();
            // The last one is on its way when the process dies; only what was acknowledged counts.
            let publishing = mosquitto_pub_whole(&access, "home/777777/meter", payload.as_bytes());
            if publish == 11 {
                let deadline = Duration::from_millis(u64::try_from(round)? * 3);
                tokio::select! {
                    sent = publishing => if sent.is_ok() { acknowledged.extend(&times); },
                    () = tokio::time::sleep(deadline) => {}
                }
            } else {
                publishing.await?;
                acknowledged.extend(&times);
            }
        }
        demo.kill();
        demo.start_again()?;
        demo.wait_ready(port).await?;
    }
    wait_for("the engine to catch up", LIMIT, async || {
        let url = format!("http://127.0.0.1:{port}/api/latest/{HOME}?hours=48");
        let latest: Value = http()
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let slots = latest["slots"].as_array().context("slots")?;
        ensure!(!slots.is_empty(), "no slots");
        Ok(())
    })
    .await;
    let ended = demo.terminate(LIMIT).await?;
    ensure!(ended.success(), "SIGTERM ends it with 0, not {ended}");
    let store = EmbeddedStore::open(&dir.path().join("store"), EmbeddedStoreConfig::default())?;
    let id = HouseholdId::new(HOME).context("a positive id")?;
    let rows = store.readings(id, first_ms, first_ms + 86_400_000).await?;
    let stored: BTreeSet<i64> = rows.iter().map(|reading| reading.ts_ms).collect();
    let missing: Vec<i64> = acknowledged.difference(&stored).copied().collect();
    ensure!(
        missing.is_empty(),
        "{} of {} acknowledged readings are gone",
        missing.len(),
        acknowledged.len()
    );
    ensure!(
        acknowledged.len() >= 550,
        "{} were acknowledged",
        acknowledged.len()
    );
    ensure!(rows.len() == stored.len(), "a reading is stored once");
    Ok(())
}
