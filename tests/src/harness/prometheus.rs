//! A real Prometheus (Debian's), with the rules and the scrape configuration of `deploy/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{Process, free_port, http, unique, watchdog};

const START_LIMIT: Duration = Duration::from_secs(30);

/// How the rules are made fit for a test that has no hours.
#[derive(Debug, Clone, Copy)]
pub struct Haste {
    /// Every `for`, range and offset is so many times as short, and at least a second.
    pub times: u64,
    /// Other texts of the rules that are replaced; each must be there.
    pub replaced: &'static [(&'static str, &'static str)],
}

/// A running Prometheus, which asks its targets each second.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    process: Process,
}

/// An alert as Prometheus has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedAlert {
    pub name: String,
    pub severity: String,
    pub is_firing: bool,
}

impl Prometheus {
    /// Starts with `deploy/prometheus.yml`, whose targets are replaced by these ports of 127.0.0.1, and the rules of
    /// `deploy/alerts.yml` in haste.
    pub async fn start(ports: &[u16], haste: Haste) -> anyhow::Result<Self> {
        let dir = watchdog::folder(&unique("prometheus"));
        let rules = hastened(&deployed("alerts.yml")?, haste)?;
        std::fs::write(dir.join("alerts.yml"), rules).context("write the rules")?;
        let config = configuration(&deployed("prometheus.yml")?, ports)?;
        std::fs::write(dir.join("prometheus.yml"), config).context("write the configuration")?;
        let port = free_port();
        let mut command = Command::new("prometheus");
        command
            .arg("--config.file=prometheus.yml")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.path=tsdb", "--log.level=warn"])
            .current_dir(&dir);
        let process = Process::start("prometheus", command, &dir.join("prometheus.log"))?;
        let prometheus = Self { port, process };
        let ready = format!("http://127.0.0.1:{port}/-/ready");
        prometheus
            .process
            .until(START_LIMIT, async || {
                let answer = http().get(&ready).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            })
            .await?;
        Ok(prometheus)
    }

    /// The process, for its id and log.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// How many series an expression has now.
    pub async fn series_count(&self, expression: &str) -> anyhow::Result<usize> {
        let found = self
            .get("query", &[("query", expression)])
            .await
            .with_context(|| expression.to_owned())?;
        let result = found["result"].as_array().context("a result")?;
        Ok(result.len())
    }

    /// What is pending or firing.
    pub async fn alerts(&self) -> anyhow::Result<Vec<RaisedAlert>> {
        let found = self.get("alerts", &[]).await?;
        let alerts = found["alerts"].as_array().context("alerts")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let raised = alerts.iter().map(|alert| RaisedAlert {
            name: text(&alert["labels"]["alertname"]),
            severity: text(&alert["labels"]["severity"]),
            is_firing: alert["state"] == "firing",
        });
        Ok(raised.collect())
    }

    /// The rules as Prometheus has them: name, expression, and why it could not be evaluated.
    pub async fn rules(&self) -> anyhow::Result<Vec<(String, String, String)>> {
        let found = self.get("rules", &[]).await?;
        let groups = found["groups"].as_array().context("groups")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rules = groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .map(|rule| {
                (
                    text(&rule["name"]),
                    text(&rule["query"]),
                    text(&rule["lastError"]),
                )
            });
        Ok(rules.collect())
    }

    async fn get(&self, what: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/{what}", self.port);
        let answer = http().get(url).query(query).send().await?;
        let mut body: Value = answer.json().await?;
        ensure!(body["status"] == "success", "{body}");
        Ok(body["data"].take())
    }
}

fn deployed(name: &str) -> anyhow::Result<String> {
    let deploy: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    std::fs::read_to_string(deploy.join(name)).with_context(|| name.to_owned())
}

/// The configuration with other targets, and without Alertmanager.
fn configuration(text: &str, ports: &[u16]) -> anyhow::Result<String> {
    let mut config: Value = serde_saphyr::from_str(text)?;
    let targets: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    config["scrape_configs"][0]["static_configs"] = json!([{ "targets": targets }]);
    config["global"] = json!({ "scrape_interval": "1s", "evaluation_interval": "1s" });
    let config = config.as_object_mut().context("a mapping")?;
    config.remove("alerting");
    // JSON is YAML.
    Ok(serde_json::to_string(config)?)
}

/// Rules in haste. Ranges stand in brackets, other durations behind `for:` and `offset`.
pub(super) fn hastened(rules: &str, haste: Haste) -> anyhow::Result<String> {
    let mut rules = rules.to_owned();
    for (from, to) in haste.replaced {
        ensure!(rules.contains(from), "the rules have no {from:?}");
        rules = rules.replace(from, to);
    }
    for before in ["[", "for: ", "offset "] {
        let mut pieces = rules.split(before);
        let mut done = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let end = piece
                .find(|letter: char| !letter.is_ascii_alphanumeric())
                .unwrap_or(piece.len());
            let (duration, rest) = piece.split_at(end);
            done.push_str(before);
            match seconds(duration) {
                Some(whole_s) => {
                    let short_s = (whole_s / haste.times).max(1);
                    done.push_str(&format!("{short_s}s"));
                }
                None => done.push_str(duration),
            }
            done.push_str(rest);
        }
        rules = done;
    }
    Ok(rules)
}

/// `90s`, `5m`, `1h` or `3d` in seconds.
fn seconds(duration: &str) -> Option<u64> {
    let unit_s = match duration.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u64 = duration[..duration.len() - 1].parse().ok()?;
    Some(count * unit_s)
}

#[cfg(test)]
mod tests {
    use super::{Haste, hastened};

    #[test]
    fn durations_shrink_and_nothing_else_does() {
        let haste = Haste {
            times: 60,
            replaced: &[("> 120", "> 3")],
        };
        let rules =
            "expr: rate(a_5m[10m] offset 1h) > 120 and b[3d] / 14 * 86400\nfor: 5m\nfor: 30s\n";
        let expected =
            "expr: rate(a_5m[10s] offset 60s) > 3 and b[4320s] / 14 * 86400\nfor: 5s\nfor: 1s\n";
        assert_eq!(hastened(rules, haste).unwrap(), expected);
        let missing = Haste {
            times: 1,
            replaced: &[("nowhere", "")],
        };
        assert!(hastened(rules, missing).is_err());
    }
}
