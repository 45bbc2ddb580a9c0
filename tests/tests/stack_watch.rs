//! A real Prometheus watches a running Hearth: every query of dashboards and rules has a series, but for those that only
//! a fault or a certain set-up brings about.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::harness::{
    Haste, HearthProcess, MqttAccess, Prometheus, free_port, mosquitto_pub, wait_for,
};

const LIMIT: Duration = Duration::from_secs(150);
/// Hours become minutes, so that rates over an hour are known soon.
const HASTE: Haste = Haste {
    times: 60,
    replaced: &[],
};

/// Queries without a series in a demo without faults, and why that is right.
const WITHOUT: &[(&str, &str)] = &[
    ("ALERTS", "nothing is wrong"),
    (
        "hearth_certificate_expiry_timestamp_seconds",
        "the demo has no certificates",
    ),
    ("absent(", "every role is there"),
];

/// The queries of all dashboards, by dashboard and panel.
fn queries() -> anyhow::Result<Vec<(String, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/dashboards");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file?.path())?)?;
        for panel in dashboard["panels"].as_array().context("panels")? {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().context("a query")?;
                let query = query
                    .replace("$__rate_interval", "20s")
                    .replace("$job", ".*")
                    .replace("$namespace", ".*");
                found.push((format!("{}: {}", dashboard["title"], panel["title"]), query));
            }
        }
    }
    Ok(found)
}

/// A comparison that keeps its series, whatever it says.
fn kept(query: &str) -> String {
    ["==", ">", "<"]
        .iter()
        .fold(query.to_owned(), |query, sign| {
            query.replace(&format!(" {sign} "), &format!(" {sign} bool "))
        })
}

fn may_lack(query: &str) -> bool {
    WITHOUT.iter().any(|(part, _)| query.contains(part))
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn every_query_of_dashboards_and_rules_has_a_series() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (port, mqtt_port) = (free_port(), free_port());
    let data = dir.path().to_str().context("a path of UTF-8")?;
    let (http, mqtt) = (port.to_string(), mqtt_port.to_string());
    let args = [
        "demo",
        "--homes",
        "20",
        "--past-days",
        "1",
        "--data-dir",
        data,
        "--http-port",
        &http,
        "--mqtt-port",
        &mqtt,
    ];
    let demo = HearthProcess::start(&args, &[])?;
    demo.wait_ready(port).await?;
    let prometheus = Prometheus::start(&[port], HASTE).await?;
    mosquitto_pub(
        &MqttAccess::plain(mqtt_port),
        "home/1/meter",
        &["no json".to_owned()],
    )
    .await?;
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    for (place, query) in queries()? {
        wanted.insert(query, place);
    }
    ensure!(wanted.len() > 100, "{} queries", wanted.len());
    for (name, query, _) in prometheus.rules().await? {
        wanted.insert(kept(&query), name);
    }
    wanted.retain(|query, _| !may_lack(query));
    // What has a series once is done; some need a plan, others a minute of counting.
    wait_for("a series of every query", LIMIT, async || {
        let mut missing = BTreeMap::new();
        for (query, place) in &wanted {
            if prometheus.series_count(query).await? == 0 {
                missing.insert(query.clone(), place.clone());
            }
        }
        wanted = missing;
        ensure!(wanted.is_empty(), "{wanted:#?}");
        Ok(())
    })
    .await;
    for (name, query, error) in prometheus.rules().await? {
        ensure!(error.is_empty(), "{name}: {error}: {query}");
    }
    Ok(())
}
