//! The chart's page, made from the comments of its values; its copies of alerts and dashboards; its examples.
//! `UPDATE_EXPECT=1 cargo test -p tests --test helm_chart` writes page and copies again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use schemas::topic::{Cleanup, Topic};
use serde_json::{Value, json};
use tests::harness::helm::{chart, objects, render};

/// What stands in the page above the list.
const MARK: &str = "\n## Values\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// Compares a file with what it should hold, or writes it.
fn check_file(path: &Path, expected: &[u8]) {
    if is_update() {
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read(path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not as it should be: UPDATE_EXPECT=1 cargo test -p tests --test helm_chart",
        path.display()
    );
}

/// Helm reads nothing outside of the chart, so it has copies.
pub(crate) fn check_copies() {
    let alerts = std::fs::read(root().join("deploy/alerts.yml")).unwrap();
    check_file(&chart().join("files/alerts.yml"), &alerts);
    let copies = chart().join("files/dashboards");
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(root().join("deploy/grafana/dashboards")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        check_file(&copies.join(&name), &std::fs::read(&path).unwrap());
        names.insert(name);
    }
    for copy in std::fs::read_dir(copies).unwrap() {
        let path = copy.unwrap().path();
        if !names.contains(path.file_name().unwrap()) && is_update() {
            std::fs::remove_file(&path).unwrap();
            continue;
        }
        assert!(
            names.contains(path.file_name().unwrap()),
            "{} has no original",
            path.display()
        );
    }
}

/// Each dashboard is a ConfigMap that Grafana's side car finds.
pub(crate) fn check_dashboards() {
    let values = json!({"metrics": {"dashboards": {"enabled": true, "annotations": {"grafana_folder": "Hearth"}}}});
    let objects = render(None, &values).unwrap();
    let mut count = 0;
    for file in std::fs::read_dir(chart().join("files/dashboards")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let of = format!("hearth-dashboard-{name}");
        let map = objects
            .iter()
            .find(|it| it["kind"] == "ConfigMap" && it["metadata"]["name"] == of);
        let map = map.unwrap_or_else(|| panic!("no {of}"));
        assert_eq!(
            map["metadata"]["labels"]["grafana_dashboard"], "1",
            "{name}"
        );
        assert_eq!(
            map["metadata"]["annotations"],
            json!({"grafana_folder": "Hearth"}),
            "{name}"
        );
        let held: Value =
            serde_json::from_str(map["data"][format!("{name}.json")].as_str().unwrap()).unwrap();
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert!(held == file, "{name} is changed by the template");
        count += 1;
    }
    assert!(count > 0, "no dashboards");
}

pub(crate) fn check_page() {
    let path = chart().join("README.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once(MARK).unwrap();
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let page = format!("{head}{MARK}\n{}", table(&text, &values));
    check_file(&path, page.as_bytes());
}

/// A value of values.yaml: what stands above it and beside it.
struct Entry {
    path: String,
    comment: String,
    inline: String,
}

/// A row for every value with a comment above it. Every leaf has one, or belongs to one that has.
fn table(text: &str, values: &Value) -> String {
    let entries = entries(text);
    let mut out = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    let mut told: Vec<String> = Vec::new();
    for entry in &entries {
        let below = format!("{}.", entry.path);
        let has_rows = entries
            .iter()
            .any(|it| it.path.starts_with(&below) && !it.comment.is_empty());
        if entry.comment.is_empty() {
            let is_told = told.iter().any(|outer| entry.path.starts_with(outer));
            assert!(has_rows || is_told, "{} has no comment", entry.path);
            continue;
        }
        let default = if entry.inline == "|" {
            "see values.yaml".to_owned()
        } else if has_rows {
            String::new()
        } else if entry.inline.is_empty() {
            let value = entry.path.split('.').fold(values, |value, key| &value[key]);
            format!("`{value}`")
        } else {
            format!("`{}`", entry.inline)
        };
        if !has_rows {
            told.push(below);
        }
        let meaning = entry.comment.replace('|', "\\|");
        writeln!(out, "| `{}` | {default} | {meaning} |", entry.path).unwrap();
    }
    out
}

fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    // The indent of a text of several lines.
    let mut in_text = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if in_text.is_some_and(|outer| line.is_empty() || indent > outer) {
            continue;
        }
        in_text = None;
        if let Some(said) = line.strip_prefix('#') {
            comment.push(said.trim());
            continue;
        }
        let key = line.split_once(':').filter(|_| !line.starts_with('-'));
        if let Some((key, inline)) = key {
            parents.retain(|(outer, _)| *outer < indent);
            let parent = parents.last().map(|(_, parent)| format!("{parent}."));
            let path = parent.unwrap_or_default() + key;
            let inline = inline.trim().to_owned();
            in_text = (inline == "|").then_some(indent);
            parents.push((indent, path.clone()));
            let comment = comment.join(" ");
            entries.push(Entry {
                path,
                comment,
                inline,
            });
        }
        comment.clear();
    }
    entries
}

fn example(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("helm/examples").join(name)).unwrap();
    objects(&text).unwrap()
}

pub(crate) fn check_topics() {
    let topics = example("strimzi-topics.yaml");
    let found: BTreeMap<&str, &Value> = topics
        .iter()
        .map(|topic| (topic["metadata"]["name"].as_str().unwrap(), &topic["spec"]))
        .collect();
    assert_eq!(found.len(), topics.len());
    for topic in Topic::ALL {
        let spec = found[topic.as_str()];
        let (policy, retention_ms) = match topic.cleanup() {
            Cleanup::Delete => ("delete", json!(604_800_000)),
            Cleanup::Compact => ("compact", Value::Null),
            Cleanup::CompactDelete => ("compact,delete", json!(604_800_000)),
        };
        assert_eq!(spec["config"]["cleanup.policy"], policy, "{topic}");
        assert_eq!(spec["config"]["retention.ms"], retention_ms, "{topic}");
        assert_eq!(spec["config"]["max.message.bytes"], 2_097_152, "{topic}");
        assert_eq!(
            spec["partitions"], topics[0]["spec"]["partitions"],
            "{topic}"
        );
    }
    assert_eq!(found.len(), Topic::ALL.len());
    let settings = hearth::config::Config::default();
    let groups = [
        settings.engine.group,
        settings.optimizer.group,
        settings.controller.group,
    ];
    let user = &example("strimzi-user.yaml")[0]["spec"];
    let rules = user["authorization"]["acls"].as_array().unwrap();
    let may = |kind: &str, name: &str| {
        rules
            .iter()
            .any(|rule| rule["resource"]["type"] == kind && rule["resource"]["name"] == name)
    };
    assert!(Topic::ALL.iter().all(|topic| may("topic", topic.as_str())));
    assert!(groups.iter().all(|group| may("group", group)), "{groups:?}");
    assert_eq!(rules.len(), Topic::ALL.len() + groups.len() + 1);
}

pub(crate) fn check_secrets() {
    let made: BTreeMap<String, Value> = example("external-secrets.yaml")
        .into_iter()
        .map(|secret| {
            let name = secret["spec"]["target"]["name"]
                .as_str()
                .unwrap()
                .to_owned();
            (name, secret["spec"]["data"].clone())
        })
        .collect();
    let gateway = render(Some("utility"), &json!({})).unwrap();
    let gateway = gateway
        .iter()
        .find(|it| it["kind"] == "StatefulSet" && it["metadata"]["name"] == "hearth-gateway")
        .unwrap();
    let volumes = gateway["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap();
    let named = volumes
        .iter()
        .filter_map(|it| it["secret"]["secretName"].as_str());
    // The authority of Kafka is made by its operator.
    let named: BTreeSet<&str> = named
        .filter(|name| *name != "kafka-cluster-ca-cert")
        .collect();
    assert_eq!(named, made.keys().map(String::as_str).collect());
    let keys = |name: &str| -> BTreeSet<String> {
        let data = made[name].as_array().unwrap().iter();
        data.map(|it| it["secretKey"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        keys("hearth-kafka"),
        BTreeSet::from(["password".to_owned()])
    );
    assert_eq!(
        keys("hearth-gateway-tls"),
        BTreeSet::from(["tls.crt", "tls.key", "ca.crt"].map(str::to_owned))
    );
}
