//! A home whose next reading makes a plan, so that one message sets everything in motion.

use std::time::Duration;

use anyhow::{Context, ensure};
use schemas::mqtt::rfc3339;
use serde_json::{Value, json};

use super::{Message, MqttAccess, Subscription, http, mosquitto_pub, mosquitto_pub_with, wait_for};

const MINUTE_MS: i64 = 60_000;
const SLOT_MS: i64 = 15 * MINUTE_MS;
const LIMIT: Duration = Duration::from_secs(60);
/// Id of the span by which devices say that they sent a reading.
pub const DEVICE_SPAN: &str = "00f067aa0ba902b7";

/// Puts the tariff `flat` for two days.
pub async fn put_tariff(api_port: u16) -> anyhow::Result<()> {
    let now_ms = platform::clock::wall_ms();
    let hour_ms = 60 * MINUTE_MS;
    let from_ms = now_ms - now_ms.rem_euclid(hour_ms) - hour_ms;
    let period = |hour: i64| {
        let start_ms = from_ms + hour * hour_ms;
        let buy = if hour % 4 < 2 { 0.1 } else { 0.4 };
        json!({"start": rfc3339(start_ms), "end": rfc3339(start_ms + hour_ms), "buy": buy, "sell": 0.05})
    };
    let periods: Vec<Value> = (0..48).map(period).collect();
    let url = format!("http://127.0.0.1:{api_port}/api/tariffs/flat");
    let body = json!({"periods": periods});
    // Not available while the API reads the tariffs that there are.
    wait_for("the tariff", LIMIT, async || {
        let put = http().put(&url).json(&body);
        put.send().await?.error_for_status()?;
        Ok(())
    })
    .await;
    Ok(())
}

/// A home with a battery, which lacks only a reading of its meter to be planned.
#[derive(Debug)]
pub struct TracedHome {
    id: u64,
    /// Start of a slot that has ended.
    slot_ms: i64,
    device: MqttAccess,
    commands: Subscription,
}

impl TracedHome {
    /// Puts its metadata, waits until the engine has them, and sends its battery's state in two slots.
    pub async fn furnish(api_port: u16, id: u64, device: MqttAccess) -> anyhow::Result<Self> {
        let url = format!("http://127.0.0.1:{api_port}/api/households/{id}");
        let metadata = json!({
            "name": "A traced home", "tariff": "flat",
            "battery": {"capacity_kwh": 10.0, "min_soc_kwh": 1.0, "max_soc_kwh": 9.5, "charge_kw": 5.0,
                "discharge_kw": 5.0, "charge_efficiency": 0.95, "discharge_efficiency": 0.95, "wear_cost_per_kwh": 0.01},
        });
        let put = http().put(&url).json(&metadata);
        put.send().await?.error_for_status()?;
        wait_for("the home's row", LIMIT, async || {
            http().get(&url).send().await?.error_for_status()?;
            Ok(())
        })
        .await;
        let commands = Subscription::start(&device, &[&format!("home/{id}/cmd")]).await?;
        let now_ms = platform::clock::wall_ms();
        let slot_ms = now_ms - now_ms.rem_euclid(SLOT_MS) - SLOT_MS;
        let home = Self {
            id,
            slot_ms,
            device,
            commands,
        };
        // The second one ends the slot of the first.
        for after_ms in [0, SLOT_MS] {
            let ts = rfc3339(slot_ms + after_ms);
            let battery = json!({"household_id": id, "ts": ts, "soc_pct": 55.0, "power_w": 0.0});
            home.send("battery", &battery, None).await?;
        }
        let latest = format!("http://127.0.0.1:{api_port}/api/latest/{id}");
        wait_for("the battery's reading", LIMIT, async || {
            let answer = http().get(&latest).send().await?.error_for_status()?;
            let body: Value = answer.json().await?;
            ensure!(
                body["slots"]
                    .as_array()
                    .is_some_and(|slots| !slots.is_empty()),
                "{body}"
            );
            Ok(())
        })
        .await;
        Ok(home)
    }

    /// Sends the reading that is lacking, as part of the trace `trace_id`, if any. It changes the slot that has ended.
    pub async fn send_meter(&self, trace_id: Option<&str>) -> anyhow::Result<()> {
        let ts = rfc3339(self.slot_ms + 1_000);
        let meter = json!({"household_id": self.id, "ts": ts, "consumption_w": 450.0});
        let traceparent = trace_id.map(|trace_id| format!("00-{trace_id}-{DEVICE_SPAN}-01"));
        self.send("meter", &meter, traceparent.as_deref()).await
    }

    /// Waits for the command, and answers that it was applied. Returns what stood beside the command.
    pub async fn apply_command(&self, with_its_trace: bool) -> anyhow::Result<Message> {
        let commands = self.commands.wait_messages(1, LIMIT).await;
        let command = commands.first().context("a command")?.clone();
        let body: Value = serde_json::from_slice(&command.payload)?;
        let now = rfc3339(platform::clock::wall_ms());
        let ack = json!({"command_id": body["command_id"], "ts": now, "status": "applied"});
        let traceparent = command.properties.strip_prefix("traceparent:");
        let traceparent = traceparent.filter(|_| with_its_trace);
        self.send("ack", &ack, traceparent).await?;
        Ok(command)
    }

    async fn send(
        &self,
        kind: &str,
        body: &Value,
        traceparent: Option<&str>,
    ) -> anyhow::Result<()> {
        let topic = format!("home/{}/{kind}", self.id);
        let lines = [body.to_string()];
        match traceparent {
            Some(traceparent) => {
                let property = ["publish", "user-property", "traceparent", traceparent];
                mosquitto_pub_with(&self.device, &topic, &lines, &property).await
            }
            None => mosquitto_pub(&self.device, &topic, &lines).await,
        }
    }
}
