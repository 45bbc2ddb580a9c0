//! Log lines of a process as an operator's tools read them, and its filter, which changes while it runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::harness::{
    HearthProcess, MqttAccess, free_port, http, mosquitto_pub, scratch_folder, wait_for,
};

const LIMIT: Duration = Duration::from_secs(30);
/// The fields of a line that `docs/reference/logs.md` describes.
const FIELDS: [&str; 9] = [
    "ts",
    "level",
    "target",
    "role",
    "message",
    "trace_id",
    "span_id",
    "held_back",
    "fields",
];
const ALWAYS: [&str; 5] = ["ts", "level", "target", "role", "message"];

/// A gateway that is alone in the world and writes JSON.
struct Alone {
    process: HearthProcess,
    config: PathBuf,
    http_port: u16,
    mqtt_port: u16,
}

impl Alone {
    async fn start(name: &str) -> anyhow::Result<Self> {
        let folder = scratch_folder(name);
        let (config, mqtt_port) = (folder.join("hearth.toml"), free_port());
        let alone = settings(&folder, mqtt_port, "info");
        std::fs::write(&config, alone)?;
        let (process, http_port) = HearthProcess::start_role(&config, "gateway").await?;
        Ok(Self {
            process,
            config,
            http_port,
            mqtt_port,
        })
    }

    /// Every line up to now. Each must be an object.
    fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.process.process().log())?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines();
        lines
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    async fn put(&self, body: &Value) -> anyhow::Result<reqwest::Response> {
        let put = http().put(self.url()).json(body);
        Ok(put.send().await?)
    }

    /// The filter in force and the configured one.
    async fn filters(&self) -> anyhow::Result<(String, String)> {
        let answer = http().get(self.url()).send().await?.error_for_status()?;
        let body: Value = answer.json().await?;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Ok((text("filter"), text("configured")))
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/log-filter", self.http_port)
    }

    /// Whether what the gateway does is written at level `DEBUG`.
    fn has_debug(&self) -> anyhow::Result<bool> {
        Ok(self.lines()?.iter().any(|line| line["level"] == "DEBUG"))
    }

    async fn wait_filter(&self, expected: (&str, &str)) {
        wait_for("the filter", LIMIT, async || {
            let found = self.filters().await?;
            ensure!(
                (found.0.as_str(), found.1.as_str()) == expected,
                "{found:?}"
            );
            Ok(())
        })
        .await;
    }
}

fn settings(folder: &std::path::Path, mqtt_port: u16, filter: &str) -> String {
    let nobody = 1;
    format!(
        "[log]\nkind = \"kafka\"\n[log.kafka]\nbrokers = \"127.0.0.1:{nobody}\"\n\
         [gateway]\nlisten = \"127.0.0.1:{mqtt_port}\"\n[ingest]\nspool_dir = {:?}\n\
         [operation]\nlog_format = \"json\"\nlog_filter = \"{filter}\"\n",
        folder.join("spool")
    )
}

#[tokio::test]
async fn every_line_has_the_documented_fields() -> anyhow::Result<()> {
    let alone = Alone::start("log-lines").await?;
    let changed = alone.put(&json!({"filter": "debug"})).await?;
    ensure!(changed.status().is_success(), "{changed:?}");
    let lines = ["no reading".to_owned(), "{}".to_owned()];
    mosquitto_pub(&MqttAccess::plain(alone.mqtt_port), "home/7/meter", &lines).await?;
    wait_for("lines of a library and of ours", LIMIT, async || {
        let lines = alone.lines()?;
        let has = |message: &str| lines.iter().any(|line| line["message"] == message);
        ensure!(
            has("away") && has("gateway") && alone.has_debug()?,
            "{lines:?}"
        );
        Ok(())
    })
    .await;
    ensure!(alone.process.terminate(LIMIT).await?.success());
    for line in alone.lines()? {
        let object = line.as_object().context("an object")?;
        ensure!(
            object.keys().all(|key| FIELDS.contains(&key.as_str())),
            "{line}"
        );
        ensure!(
            ALWAYS
                .iter()
                .all(|key| object.get(*key).is_some_and(Value::is_string)),
            "{line}"
        );
        ensure!(line["role"] == "gateway", "{line}");
        ensure!(line.get("fields").is_none_or(Value::is_object), "{line}");
        let message = line["message"].as_str().unwrap_or_default();
        ensure!(!message.is_empty() && line["target"] != "log", "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn the_filter_changes_while_a_process_runs() -> anyhow::Result<()> {
    let alone = Alone::start("log-filter").await?;
    alone.wait_filter(("info", "info")).await;
    ensure!(!alone.has_debug()?);
    // What cannot be understood changes nothing, and neither does a page in somebody's browser.
    for (body, field) in [
        (json!({"filter": "info,=,"}), "filter"),
        (json!({"filter": "x".repeat(5_000)}), "filter"),
        (json!({"filter": "debug", "for_s": 0}), "for_s"),
        (json!({"filter": "debug", "for": 5}), "for"),
    ] {
        let answer = alone.put(&body).await?;
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await?;
        ensure!(
            status == 422 && problem["field"] == field,
            "{body}: {status} {problem}"
        );
    }
    let simple = http().put(alone.url()).body("{\"filter\":\"debug\"}");
    ensure!(simple.send().await?.status().as_u16() == 415);
    alone.wait_filter(("info", "info")).await;
    ensure!(!alone.has_debug()?);

    // For a while, and back by itself.
    let answer = alone.put(&json!({"filter": "debug", "for_s": 2})).await?;
    ensure!(answer.status().is_success());
    let body: Value = answer.json().await?;
    ensure!(
        body == json!({"filter": "debug", "configured": "info"}),
        "{body}"
    );
    mosquitto_pub(
        &MqttAccess::plain(alone.mqtt_port),
        "home/7/meter",
        &["{}".to_owned()],
    )
    .await?;
    wait_for("a line of level DEBUG", LIMIT, async || {
        ensure!(alone.has_debug()?);
        Ok(())
    })
    .await;
    alone.wait_filter(("info", "info")).await;

    // Until it is taken back.
    alone.put(&json!({"filter": "error"})).await?;
    alone.wait_filter(("error", "info")).await;
    alone.put(&json!({"filter": null})).await?;
    alone.wait_filter(("info", "info")).await;

    // What the configuration says by now.
    let folder = alone.config.parent().context("a folder")?;
    let pid = alone.process.process().pid().context("it runs")?;
    let hang_up = || {
        kill(
            Pid::from_raw(i32::try_from(pid).expect("an id fits")),
            Signal::SIGHUP,
        )
    };
    std::fs::write(
        &alone.config,
        settings(folder, alone.mqtt_port, "warn,devices=debug"),
    )?;
    hang_up()?;
    alone
        .wait_filter(("warn,devices=debug", "warn,devices=debug"))
        .await;
    std::fs::write(&alone.config, "[operation]\nlog_filter = \"info,=\"\n")?;
    hang_up()?;
    wait_for("the complaint", LIMIT, async || {
        let lines = alone.lines()?;
        let is_it = |line: &Value| line["message"] == "the configuration cannot be read again";
        ensure!(lines.iter().any(is_it));
        Ok(())
    })
    .await;
    alone
        .wait_filter(("warn,devices=debug", "warn,devices=debug"))
        .await;
    let changes = alone.lines()?;
    let changes = changes
        .iter()
        .filter(|line| line["message"] == "the log filter was changed");
    // Not the one to `error`, which a line of level WARN does not pass.
    ensure!(changes.count() == 2, "each change is a line");
    ensure!(alone.process.terminate(LIMIT).await?.success());
    Ok(())
}
