//! A gateway starts and takes readings in while log, store and schema registry are away: the spool holds them.

use std::time::Duration;

use anyhow::ensure;
use model::reading::{Measurement, Reading};
use model::units::HouseholdId;
use platform::clock::wall_ms;
use schemas::mqtt::reading_json;
use tests::harness::{
    HearthProcess, MqttAccess, free_port, metric, mosquitto_pub, scratch_folder, wait_for,
};

const READINGS: i64 = 5;
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_gateway_starts_and_acknowledges_while_nothing_else_is_there() -> anyhow::Result<()> {
    let folder = scratch_folder("gateway-alone");
    let (mqtt_port, nobody) = (free_port(), free_port());
    let config = folder.join("hearth.toml");
    let spool = folder.join("spool");
    std::fs::write(
        &config,
        format!(
            "[log]\nkind = \"kafka\"\n[log.kafka]\nbrokers = \"127.0.0.1:{nobody}\"\n\
             [store]\nkind = \"cql\"\n[store.cql]\nnodes = [\"127.0.0.1:{nobody}\"]\n\
             [registry]\nurl = \"http://127.0.0.1:{nobody}\"\n\
             [gateway]\nlisten = \"127.0.0.1:{mqtt_port}\"\n[ingest]\nspool_dir = {spool:?}\n"
        ),
    )?;
    // Ready, though all it would connect to is away.
    let (gateway, port) = HearthProcess::start_role(&config, "gateway").await?;
    let household_id = HouseholdId::new(7).expect("a positive id");
    let now_ms = wall_ms();
    let readings = (0..READINGS).map(|second| {
        reading_json(&Reading {
            household_id,
            ts_ms: now_ms - second * 1_000,
            measurement: Measurement::Meter {
                consumption_w: 450.0,
            },
        })
    });
    let readings: Vec<String> = readings.collect();
    // Returns once each is acknowledged.
    mosquitto_pub(&MqttAccess::plain(mqtt_port), "home/7/meter", &readings).await?;
    let spooled = "hearth_readings_total{kind=\"meter\",outcome=\"spooled\"}";
    wait_for("the readings in the spool", LIMIT, async || {
        let count = metric(port, spooled).await?;
        ensure!(count == 5.0, "{count} are spooled");
        ensure!(metric(port, "hearth_spool_bytes").await? > 0.0, "no bytes");
        Ok(())
    })
    .await;
    // It is ready still, and leaves in peace with what it holds.
    gateway.wait_ready(port).await?;
    let ended = gateway.terminate(LIMIT).await?;
    ensure!(ended.success(), "the gateway ended with {ended}");
    // The next one has it all.
    let (gateway, port) = HearthProcess::start_role(&config, "gateway").await?;
    let held = metric(port, "hearth_spool_bytes").await?;
    ensure!(held > 0.0, "the spool is empty");
    gateway.kill();
    Ok(())
}
