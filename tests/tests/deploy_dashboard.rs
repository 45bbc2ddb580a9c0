//! Dashboards, rules, runbooks and the reference name what exists, and Prometheus can read its files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::{BTreeMap, BTreeSet};
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
    metrics.role_info.with_label_values(&["x"]).set(1);
    let expiry = &metrics.certificate_expiry_timestamp_seconds;
    expiry.with_label_values(&["x"]).set(1.0);
    let fleet = &metrics.fleet;
    for gauge in [
        &fleet.power_watts,
        &fleet.steered_battery_watts,
        &fleet.battery_watt_hours,
        &fleet.money_per_hour,
    ] {
        gauge.with_label_values(&["x"]).set(1.0);
    }
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

/// The dashboards by name.
fn dashboards() -> BTreeMap<String, Value> {
    let folder = root().join("deploy/grafana/dashboards");
    let files = std::fs::read_dir(folder).unwrap();
    let found = files.map(|file| {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        (name, serde_json::from_str(&text).unwrap())
    });
    found.collect()
}

/// Every name of a recording rule in `text`.
fn recorded_in(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '_' | ':'))
        .map(|word| word.trim_end_matches(':'))
        .filter(|word| word.starts_with("hearth:"))
        .map(str::to_owned)
        .collect()
}

/// The rules of one file, all groups.
fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read("deploy/alerts.yml")).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

#[test]
fn the_dashboards_ask_for_metrics_that_exist() {
    let exposed = exposed_names();
    let recorded: BTreeSet<String> = rules()
        .iter()
        .filter_map(|rule| rule["record"].as_str().map(str::to_owned))
        .collect();
    let dashboards = dashboards();
    let names: Vec<&str> = dashboards.keys().map(String::as_str).collect();
    let expected = [
        "capacity",
        "engine",
        "fleet",
        "gateway",
        "optimizer",
        "pipeline",
        "store",
    ];
    assert_eq!(names, expected);
    for (name, dashboard) in &dashboards {
        let mut found = Vec::new();
        queries(dashboard, &mut found);
        assert!(found.len() > 10, "{name} has panels: {found:?}");
        for query in found {
            for metric in named_in(&query) {
                assert!(
                    exposed.contains(&metric),
                    "{metric} does not exist: {query}"
                );
            }
            for rule in recorded_in(&query) {
                assert!(recorded.contains(&rule), "no rule records {rule}: {query}");
            }
            assert!(query.contains(r#"namespace=~"$namespace""#), "{query}");
        }
    }
}

/// What somebody who sees it for the first time needs.
#[test]
fn each_panel_says_what_it_shows_and_in_what_unit() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(uids.insert(dashboard["uid"].to_string()), "{name}");
        assert_eq!(dashboard["links"][0]["tags"][0], "hearth", "{name}");
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}");
            assert!(!title.is_empty(), "{name}");
            let kind = panel["type"].as_str().unwrap();
            if matches!(kind, "row" | "text") {
                continue;
            }
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|says| says.len() > 5),
                "{name}: {title} has no description"
            );
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            assert!(unit.is_string(), "{name}: {title} has no unit");
        }
    }
}

#[test]
fn the_rules_ask_for_metrics_that_exist() {
    let exposed = exposed_names();
    let rules = rules();
    let text = |rule: &Value, field: &str| rule[field].as_str().unwrap_or_default().to_owned();
    let recorded: BTreeSet<String> = rules.iter().map(|rule| text(rule, "record")).collect();
    for rule in &rules {
        let query = text(rule, "expr");
        let named = named_in(&query);
        let rules_used = recorded_in(&query);
        for name in &named {
            assert!(exposed.contains(name), "{name} does not exist: {query}");
        }
        for name in &rules_used {
            assert!(recorded.contains(name), "no rule records {name}: {query}");
        }
        let is_of_processes = query.contains("up{") || query.contains("process_");
        assert!(
            !named.is_empty() || !rules_used.is_empty() || is_of_processes,
            "{query}"
        );
    }
}

/// Each alert has its page, which begins with its name, and each page its alert; each has cases in which it fires and
/// in which it does not.
#[test]
fn each_alert_has_a_runbook_and_cases() {
    let cases = read("deploy/alerts_test.yml");
    let mut pages = BTreeSet::new();
    let rules = rules();
    let alerts = rules.iter().filter(|rule| rule["alert"].is_string());
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(matches!(severity, "page" | "ticket"), "{name}");
        assert!(alert["annotations"]["summary"].is_string(), "{name}");
        let page = alert["annotations"]["runbook_url"].as_str().unwrap();
        let text = read(page);
        assert!(
            text.starts_with(&format!("# {name}\n")),
            "{page} is of another alert"
        );
        for part in [
            "## How to see it",
            "## What to do",
            "## How to know that it is over",
        ] {
            assert!(text.contains(part), "{page}: {part}");
        }
        pages.insert(page.to_owned());
        let fires = format!(r#"alertname="{name}", alertstate="firing", "#);
        assert!(cases.contains(&fires), "{name} fires in no case");
        let quiet = cases.split("- expr: ").any(|case| {
            case.contains(&format!(r#"alertname="{name}""#)) && case.contains("exp_samples: []")
        });
        assert!(quiet, "{name} is quiet in no case");
    }
    let files = std::fs::read_dir(root().join("docs/runbooks")).unwrap();
    for file in files {
        let name = file.unwrap().file_name().into_string().unwrap();
        let is_page = pages.contains(&format!("docs/runbooks/{name}"));
        assert!(is_page || name == "README.md", "{name} is of no alert");
    }
}

#[test]
fn the_reference_lists_every_metric_and_no_other() {
    let types = exposition();
    let registered: BTreeSet<String> = types
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .filter(|name| name.starts_with("hearth_"))
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

/// A word of promtool's on files of `deploy/`.
#[track_caller]
fn promtool(args: &[&str]) {
    let output = Command::new("promtool")
        .args(args)
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

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn prometheus_reads_its_files() {
    // `check config` reads the rule files that the configuration names as well.
    let lint = ["check", "config", "--lint=all", "--lint-fatal"];
    promtool(&[&lint[..], &["prometheus.yml"]].concat());
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn alerts_fire_and_end_in_their_cases() {
    promtool(&["test", "rules", "alerts_test.yml"]);
}

/// Grafana's own types know every field and value.
#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn the_dashboards_are_what_grafana_reads() {
    let types = tests::harness::cache_root().unwrap().join("grafana-types");
    let check = |files: &[PathBuf]| {
        let mut node = Command::new("node");
        node.arg(root().join("tests/grafana/check.mjs")).arg(&types);
        node.args(files)
            .output()
            .expect("node is installed by deploy/setup.sh")
    };
    let folder = root().join("deploy/grafana/dashboards");
    let files = std::fs::read_dir(folder).unwrap();
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    let output = check(&files);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The check sees a word that is no value of its field.
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.json");
    let text = read("deploy/grafana/dashboards/fleet.json");
    let changed = text.replace(r#""drawStyle": "line""#, r#""drawStyle": "lines""#);
    assert_ne!(changed, text);
    std::fs::write(&wrong, changed).unwrap();
    assert!(!check(&[wrong]).status.success());
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn the_dashboards_are_as_written() {
    let output = Command::new("python3")
        .args(["deploy/grafana/dashboards.py", "--check"])
        .current_dir(root())
        .output()
        .expect("python3 is installed by deploy/setup.sh");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
