//! The chart: cases as data, rules that hold for every object of every profile, its page, its copies and its examples.
//! Needs helm, which `deploy/setup.sh test` brings; `make chart` installs it on a real control plane.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;

use hearth::config::Config;
use serde_json::{Value, json};
use tests::harness::helm::{chart, helm, render, render_text};

mod helm_chart {
    pub(crate) mod cases;
    pub(crate) mod page;
    pub(crate) mod scaling;
}
use helm_chart::{cases, page, scaling};

/// The chart's own values, and every profile.
const PROFILES: [Option<&str>; 4] = [None, Some("small"), Some("utility"), Some("demo")];

/// Values that turn on what is off, for rules that hold for everything.
fn everything() -> Value {
    json!({
        "roles": {
            "gateway": {"tlsRoute": {"enabled": true, "parentRefs": [{"name": "a"}], "hostnames": ["a.example.com"]}},
            "engine": {"autoscaling": {"enabled": true}},
            "optimizer": {"autoscaling": {"enabled": true}},
            "api": {
                "autoscaling": {"enabled": true},
                "ingress": {"enabled": true, "host": "a.example.com"},
                "httpRoute": {"enabled": true, "parentRefs": [{"name": "a"}], "hostnames": ["a.example.com"]},
            },
        },
        "metrics": {"podMonitor": {"enabled": true}, "rules": {"enabled": true}, "dashboards": {"enabled": true}},
        "networkPolicy": {"enabled": true},
        "secrets": [{"variable": "HEARTH_STORE__CQL__PASSWORD", "secret": "a", "key": "b"}],
        "env": {"HEARTH_OPERATION__LOG_FORMAT": "text", "POD_NAME": "other"},
        "extraEnv": [{"name": "HEARTH_CONFIG", "value": "/other"}, {"name": "TZ", "value": "UTC"}],
    })
}

/// Every object of every profile.
fn objects() -> Vec<Value> {
    let of_profiles = PROFILES.map(|profile| render(profile, &json!({})).unwrap());
    let all = render(None, &everything()).unwrap();
    of_profiles.into_iter().flatten().chain(all).collect()
}

/// The pods' specs among them, with the names of what makes them.
fn pods(objects: &[Value]) -> Vec<(String, &Value)> {
    let pods = objects.iter().filter_map(|object| {
        let pod = match object["kind"].as_str()? {
            "Pod" => &object["spec"],
            "StatefulSet" | "Deployment" | "Job" => &object["spec"]["template"]["spec"],
            _ => return None,
        };
        Some((object["metadata"]["name"].as_str()?.to_owned(), pod))
    });
    pods.collect()
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn the_chart_lints_with_every_profile() {
    let folder = chart();
    for profile in PROFILES {
        let file = profile.map(|profile| folder.join(format!("values-{profile}.yaml")));
        let mut args = vec!["lint", "--strict", folder.to_str().unwrap()];
        if let Some(file) = &file {
            args.extend(["--values", file.to_str().unwrap()]);
        }
        let output = helm(&args).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{profile:?}: {said}");
    }
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn every_case_renders_as_it_says() {
    let (failures, count) = cases::run();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= 100, "{count} cases");
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn every_pod_satisfies_the_restricted_standard_and_has_limits() {
    let objects = objects();
    let pods = pods(&objects);
    assert!(pods.len() > 25, "{}", pods.len());
    for (name, pod) in pods {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        let profile = &pod["securityContext"]["seccompProfile"];
        assert_eq!(*profile, json!({"type": "RuntimeDefault"}), "{name}");
        for key in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
            assert_eq!(pod[key], Value::Null, "{name} {key}");
        }
        let containers = pod["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{name}");
        let container = &containers[0];
        let rights = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(container["securityContext"], rights, "{name}");
        let resources = &container["resources"];
        assert!(resources["limits"]["memory"].is_string(), "{name}");
        assert_eq!(resources["limits"]["cpu"], Value::Null, "{name}");
        assert!(resources["requests"]["cpu"].is_string(), "{name}");
    }
}

/// Server-side apply refuses a list with the same name twice.
#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn names_in_a_list_are_unique() {
    let objects = objects();
    for (name, pod) in pods(&objects) {
        let container = &pod["containers"][0];
        let lists = [
            (&container["env"], "name"),
            (&container["ports"], "name"),
            (&container["volumeMounts"], "mountPath"),
            (&pod["volumes"], "name"),
        ];
        for (list, key) in lists {
            let members = list.as_array().map_or(&[][..], Vec::as_slice);
            let unique: BTreeSet<&str> =
                members.iter().map(|it| it[key].as_str().unwrap()).collect();
            assert_eq!(unique.len(), members.len(), "{name}: {list}");
        }
    }
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn what_selects_pods_selects_those_of_its_role() {
    for profile in PROFILES {
        let objects = render(profile, &json!({})).unwrap();
        let labels: Vec<&Value> = objects
            .iter()
            .map(|object| &object["spec"]["template"]["metadata"]["labels"])
            .filter(|labels| labels.is_object())
            .collect();
        let mut selectors = 0;
        for object in &objects {
            let selector = match object["kind"].as_str().unwrap() {
                "Service" => &object["spec"]["selector"],
                "PodDisruptionBudget" | "StatefulSet" | "Deployment" => {
                    &object["spec"]["selector"]["matchLabels"]
                }
                _ => continue,
            };
            selectors += 1;
            let selects = |labels: &&&Value| {
                let wanted = selector.as_object().unwrap();
                wanted
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value))
            };
            let count = labels.iter().filter(selects).count();
            assert_eq!(count, 1, "{profile:?}: {object}");
        }
        assert!(selectors > 3, "{profile:?}");
    }
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn configurations_can_be_read_and_variables_are_settings() {
    let settings = serde_json::to_value(Config::default()).unwrap();
    let objects = objects();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hearth.toml");
    for text in objects
        .iter()
        .filter_map(|it| it["data"]["hearth.toml"].as_str())
    {
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file)).unwrap();
    }
    for (name, pod) in pods(&objects) {
        for variable in pod["containers"][0]["env"].as_array().unwrap() {
            let variable = variable["name"].as_str().unwrap();
            let Some(setting) = variable.strip_prefix("HEARTH_") else {
                continue;
            };
            let setting = setting
                .strip_suffix("_FILE")
                .filter(|it| it.ends_with("PASSWORD"))
                .unwrap_or(setting);
            let pointer = format!("/{}", setting.to_lowercase().replace("__", "/"));
            assert!(
                variable == "HEARTH_CONFIG" || settings.pointer(&pointer).is_some(),
                "{name}: {variable} is no setting"
            );
        }
    }
}

/// Kubernetes would end a role that is still draining, or start it again while it waits for log and store.
#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn kubernetes_is_more_patient_than_hearth() {
    let operation = Config::default().operation;
    let objects = objects();
    for (name, pod) in pods(&objects) {
        let container = &pod["containers"][0];
        let Some(grace) = pod["terminationGracePeriodSeconds"].as_u64() else {
            continue;
        };
        let mut env = container["env"].as_array().unwrap().iter();
        let drain = env
            .find(|it| it["name"] == "HEARTH_OPERATION__DRAIN_S_MAX")
            .unwrap();
        let drain: u64 = drain["value"].as_str().unwrap().parse().unwrap();
        let pause = &container["lifecycle"]["preStop"]["sleep"]["seconds"];
        assert!(grace >= drain + pause.as_u64().unwrap_or(0) + 10, "{name}");
        assert!(drain >= operation.drain_s_max, "{name}");
        let probe = &container["startupProbe"];
        let patience =
            probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
        assert!(patience >= operation.start_s_max + 30, "{name}");
    }
}

/// Argo CD and Flux render again and again, without a cluster, and would see a difference each time.
#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn the_same_values_render_the_same_text() {
    let values = everything();
    assert_eq!(
        render_text(None, &values).unwrap(),
        render_text(None, &values).unwrap()
    );
    let templates = chart().join("templates");
    for file in [templates.clone(), templates.join("tests")] {
        for file in std::fs::read_dir(file).unwrap() {
            let path = file.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            for word in [
                "lookup ",
                "rand",
                "now ",
                "uuidv4",
                "genSelfSigned",
                ".Capabilities",
                "getHostByName",
            ] {
                assert!(!text.contains(word), "{} holds {word}", path.display());
            }
        }
    }
}

#[test]
fn alerts_and_dashboards_are_those_of_deploy() {
    page::check_copies();
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn dashboards_are_found_by_grafana() {
    page::check_dashboards();
}

#[test]
fn the_page_lists_every_value() {
    page::check_page();
}

#[test]
fn examples_are_what_init_creates() {
    page::check_topics();
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn examples_make_the_secrets_that_the_utility_names() {
    page::check_secrets();
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn engines_follow_recorded_lag_without_flapping() {
    scaling::check();
}
