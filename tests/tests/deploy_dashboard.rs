//! The dashboard, the alert rules and the reference name metrics that exist, and Prometheus can read its files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use platform::metrics::Metrics;
use schemas::dead_letter::Reason;
use schemas::topic::Topic;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names as a scrape shows them: of a histogram those with a suffix.
fn exposed_names() -> BTreeSet<String> {
    exposition()
        .lines()
        .filter_map(|line| {
            let end = line.find(['{', ' '])?;
            (!line.starts_with('#')).then(|| line[..end].to_owned())
        })
        .collect()
}

/// A metric with labels shows only once a set of labels was used.
fn exposition() -> String {
    let metrics = Metrics::new();
    for (counter, labels) in [
        (&metrics.readings_total, 2),
        (&metrics.dead_letters_total, 1),
        (&metrics.schedules_total, 2),
        (&metrics.commands_total, 1),
        (&metrics.alerts_total, 1),
        (&metrics.trace_spans_total, 1),
        (&metrics.gateway_refused_total, 1),
        (&metrics.household_failures_total, 1),
        (&metrics.records_refused_total, 1),
        (&metrics.rows_refused_total, 1),
        (&metrics.clock_jumps_total, 1),
    ] {
        counter.with_label_values(&["x"; 2][..labels]).inc();
    }
    metrics
        .consumer_lag_records
        .with_label_values(&["x"])
        .set(1);
    metrics.solve_seconds.with_label_values(&["x"]).observe(1.0);
    metrics.schedule_gap.with_label_values(&["x"]).observe(1.0);
    metrics
        .publish_to_ack_seconds
        .with_label_values(&["x"])
        .observe(1.0);
    metrics.text()
}

/// Every word in `text` that begins with `hearth_`.
fn named_in(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("hearth_"))
        .map(str::to_owned)
        .collect()
}

/// Every value called `expr` in the dashboard.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if let (Value::String(query), "expr") = (field, name.as_str()) {
                    found.push(query.clone());
                } else {
                    queries(field, found);
                }
            }
        }
        Value::Array(entries) => entries.iter().for_each(|entry| queries(entry, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: Value =
        serde_json::from_str(&read("deploy/grafana/dashboards/hearth.json")).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() > 20, "the dashboard has panels: {found:?}");
    let exposed = exposed_names();
    for query in found {
        let named = named_in(&query);
        assert!(!named.is_empty(), "{query} names no metric of Hearth");
        for name in named {
            assert!(exposed.contains(&name), "{name} does not exist: {query}");
        }
    }
}

#[test]
fn the_alert_rules_ask_for_metrics_that_exist() {
    let exposed = exposed_names();
    let named = named_in(&read("deploy/alerts.yml"));
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        assert!(exposed.contains(&name), "{name} does not exist");
    }
}

#[test]
fn the_reference_lists_every_metric_and_no_other() {
    let types = exposition();
    let registered: BTreeSet<String> = types
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(named_in(&read("docs/reference/metrics.md")), registered);
}

#[test]
fn the_reference_lists_every_topic_and_reason() {
    let reference = read("docs/reference/topics.md");
    for topic in Topic::ALL {
        assert!(reference.contains(&format!("| `{topic}` |")), "{topic}");
    }
    for reason in Reason::ALL {
        let reason = reason.as_str();
        assert!(reference.contains(&format!("| `{reason}` |")), "{reason}");
    }
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn prometheus_reads_its_files() {
    // `check config` reads the rule files that the configuration names as well.
    let output = Command::new("promtool")
        .args([
            "check",
            "config",
            "--lint=all",
            "--lint-fatal",
            "prometheus.yml",
        ])
        .current_dir(root().join("deploy"))
        .output()
        .expect("promtool is installed by deploy/setup.sh");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
