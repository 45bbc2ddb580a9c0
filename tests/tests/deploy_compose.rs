//! The Compose file runs every role, binds ports to loopback only, and its settings can be read.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::{Path, PathBuf};

use hearth::config::Config;
use serde_json::{Value, json};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn compose() -> Value {
    let text = std::fs::read_to_string(deploy().join("compose.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn every_role_runs_after_init() {
    let compose = compose();
    for role in [
        "gateway",
        "bridge",
        "engine",
        "optimizer",
        "controller",
        "api",
    ] {
        let service = &compose["services"][role];
        assert_eq!(service["command"], json!([role]));
        assert_eq!(
            service["depends_on"]["init"]["condition"],
            "service_completed_successfully"
        );
        assert_eq!(
            service["environment"]["HEARTH_CONFIG"],
            "/etc/hearth/hearth.toml"
        );
    }
    assert_eq!(compose["services"]["init"]["command"], json!(["init"]));
}

#[test]
fn ports_are_bound_to_loopback_and_differ() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap().values();
    let ports = services
        .filter_map(|service| service["ports"].as_array())
        .flatten();
    let ports: Vec<&str> = ports.map(|port| port.as_str().unwrap()).collect();
    assert!(ports.len() >= 6, "{ports:?}");
    let mut hosts: Vec<&str> = ports
        .iter()
        .map(|port| port.rsplit_once(':').unwrap().0)
        .collect();
    assert!(
        hosts.iter().all(|host| host.starts_with("127.0.0.1:")),
        "{ports:?}"
    );
    hosts.sort_unstable();
    hosts.dedup();
    assert_eq!(hosts.len(), ports.len(), "{ports:?}");
}

/// Whatever runs for good says whether it is well, and what runs once does not.
#[test]
fn every_service_says_whether_it_is_well() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        let check = &service["healthcheck"];
        if service["restart"] == "no" {
            assert!(check.is_null() || check["disable"] == true, "{name}");
            continue;
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        let test = check["test"]
            .as_array()
            .unwrap_or_else(|| panic!("{name} has no check"));
        assert!(
            matches!(test[0].as_str(), Some("CMD" | "CMD-SHELL")),
            "{name}"
        );
        for field in ["interval", "timeout"] {
            assert!(
                check[field]
                    .as_str()
                    .is_some_and(|time| time.ends_with('s')),
                "{name}"
            );
        }
    }
}

/// Prometheus asks every role, tells Alertmanager, and keeps what the objectives look back to.
#[test]
fn prometheus_knows_every_role_and_alertmanager() {
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(deploy().join(name)).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    };
    let prometheus = read("prometheus.yml");
    let targets = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"];
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let roles = services.iter().filter(|(_, service)| {
        let command = &service["command"];
        service["image"] == "hearth:local" && command != &json!(["init"])
    });
    let expected: Vec<String> = roles.map(|(name, _)| format!("{name}:8080")).collect();
    let mut found: Vec<String> = serde_json::from_value(targets.clone()).unwrap();
    found.sort();
    assert_eq!(found, expected);
    let managers = &prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"];
    assert_eq!(managers, &json!(["alertmanager:9093"]));
    let keeps = json!("--storage.tsdb.retention.time=31d");
    let command = services["prometheus"]["command"].as_array().unwrap();
    assert!(command.contains(&keeps), "{command:?}");
    let manager = read("alertmanager.yml");
    let receivers = manager["receivers"].as_array().unwrap().iter();
    let named: Vec<&Value> = receivers.map(|receiver| &receiver["name"]).collect();
    assert!(named.contains(&&manager["route"]["receiver"]));
    assert!(named.contains(&&manager["route"]["routes"][0]["receiver"]));
}

#[test]
fn mounted_files_are_there() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let there = match source.strip_prefix("./") {
                Some(path) => deploy().join(path).exists(),
                None => compose["volumes"].as_object().unwrap().contains_key(source),
            };
            assert!(there, "{name}: {source}");
        }
    }
}

#[test]
fn the_settings_can_be_read_and_name_services() {
    let config = Config::load(Some(&deploy().join("hearth.toml"))).unwrap();
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let mut hosts: Vec<&str> = config.store.cql.nodes.iter().map(String::as_str).collect();
    hosts.extend([config.log.kafka.brokers.as_str(), &config.bridge.mqtt.host]);
    hosts.extend(
        config
            .controller
            .endpoints
            .iter()
            .map(|endpoint| endpoint.host.as_str()),
    );
    for host in hosts {
        let name = host.split(':').next().unwrap();
        assert!(services.contains_key(name), "{name} is no service");
    }
}
