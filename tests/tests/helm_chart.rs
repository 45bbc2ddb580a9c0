//! The chart lints and renders every role with what an operator expects. Needs helm, which `deploy/setup.sh test` brings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hearth::config::Config;
use serde_json::{Value, json};

/// Role and kind of its workload.
const ROLES: [(&str, &str); 6] = [
    ("gateway", "StatefulSet"),
    ("bridge", "StatefulSet"),
    ("engine", "StatefulSet"),
    ("optimizer", "Deployment"),
    ("controller", "StatefulSet"),
    ("api", "Deployment"),
];

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/hearth")
}

/// Where deploy/setup.sh puts helm.
fn helm(args: &[&str]) -> Output {
    let cache = std::env::var_os("HEARTH_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/hearth"),
        PathBuf::from,
    );
    Command::new(cache.join("bin/helm"))
        .args(args)
        .arg(chart())
        .output()
        .expect("helm is put into the cache by deploy/setup.sh test")
}

fn text(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr];
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .concat()
}

/// The objects that the chart renders with these settings.
#[track_caller]
fn render(settings: &[&str]) -> Vec<Value> {
    let mut args = vec!["template", "home"];
    for setting in settings {
        args.extend(["--set", setting]);
    }
    let output = helm(&args);
    assert!(output.status.success(), "{}", text(&output));
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    objects
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()
}

#[track_caller]
fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let found: Vec<&Value> = objects.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0]
}

fn variables(container: &Value) -> BTreeMap<&str, &Value> {
    let variables = container["env"].as_array().unwrap().iter();
    variables
        .map(|variable| (variable["name"].as_str().unwrap(), variable))
        .collect()
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn the_chart_lints() {
    let output = helm(&["lint", "--strict"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn every_role_has_probes_ports_resources_and_no_rights() {
    let objects = render(&[]);
    for (role, kind) in ROLES {
        let workload = find(&objects, kind, &format!("home-hearth-{role}"));
        let pod = &workload["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["args"], json!([role]));
        for (probe, path) in [
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ] {
            assert_eq!(
                container[probe]["httpGet"],
                json!({"path": path, "port": "http"}),
                "{role} {probe}"
            );
        }
        let ports = container["ports"].as_array().unwrap();
        assert!(
            ports.contains(&json!({"name": "http", "containerPort": 8080})),
            "{role}: {ports:?}"
        );
        assert_eq!(ports.len(), if role == "gateway" { 2 } else { 1 });
        let annotations = &workload["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(annotations["prometheus.io/port"], "8080");
        assert!(
            container["resources"]["requests"]["cpu"].is_string(),
            "{role}"
        );
        assert!(
            container["resources"]["limits"]["memory"].is_string(),
            "{role}"
        );
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(
            container["securityContext"]["allowPrivilegeEscalation"],
            false
        );
        assert_eq!(
            container["securityContext"]["capabilities"]["drop"],
            json!(["ALL"])
        );
        let selector = &workload["spec"]["selector"]["matchLabels"];
        let labels = workload["spec"]["template"]["metadata"]["labels"]
            .as_object()
            .unwrap();
        for (label, value) in selector.as_object().unwrap() {
            assert_eq!(labels.get(label), Some(value), "{role} {label}");
        }
        let budget = find(
            &objects,
            "PodDisruptionBudget",
            &format!("home-hearth-{role}"),
        );
        assert_eq!(&budget["spec"]["selector"]["matchLabels"], selector);
    }
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn stable_roles_know_their_name_and_keep_their_spool() {
    let objects = render(&[]);
    for (role, kind) in ROLES.into_iter().filter(|(_, kind)| *kind == "StatefulSet") {
        let workload = find(&objects, kind, &format!("home-hearth-{role}"));
        let service = workload["spec"]["serviceName"].as_str().unwrap();
        assert_eq!(
            find(&objects, "Service", service)["spec"]["clusterIP"],
            "None"
        );
        let claims = workload["spec"]["volumeClaimTemplates"]
            .as_array()
            .map_or(0, Vec::len);
        let spooled = role == "gateway" || role == "bridge";
        assert_eq!(claims, usize::from(spooled), "{role}");
        let variables = variables(&workload["spec"]["template"]["spec"]["containers"][0]);
        if spooled {
            let folder = variables["HEARTH_INGEST__SPOOL_DIR"]["value"]
                .as_str()
                .unwrap();
            assert!(folder.starts_with("/var/lib/hearth/"), "{role}");
        } else {
            let member = format!("HEARTH_{}__MEMBER", role.to_uppercase());
            assert_eq!(
                variables[member.as_str()]["valueFrom"]["fieldRef"]["fieldPath"],
                "metadata.name"
            );
        }
    }
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn init_runs_before_the_roles_and_their_configuration_can_be_read() {
    let objects = render(&[]);
    let job = find(&objects, "Job", "home-hearth-init");
    assert_eq!(
        job["metadata"]["annotations"]["helm.sh/hook"],
        "pre-install,pre-upgrade"
    );
    assert_eq!(
        job["spec"]["template"]["spec"]["containers"][0]["args"],
        json!(["init"])
    );
    let of_roles = &find(&objects, "ConfigMap", "home-hearth")["data"]["hearth.toml"];
    assert_eq!(
        &find(&objects, "ConfigMap", "home-hearth-init")["data"]["hearth.toml"],
        of_roles
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hearth.toml");
    std::fs::write(&file, of_roles.as_str().unwrap()).unwrap();
    Config::load(Some(&file)).unwrap();
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn variables_of_the_chart_are_settings() {
    let settings = serde_json::to_value(Config::default()).unwrap();
    for object in render(&[]) {
        let containers = object["spec"]["template"]["spec"]["containers"].as_array();
        for container in containers.into_iter().flatten() {
            for name in variables(container)
                .into_keys()
                .filter(|name| name.contains("__"))
            {
                let key = name
                    .strip_prefix("HEARTH_")
                    .unwrap()
                    .to_lowercase()
                    .replace("__", "/");
                assert!(
                    settings.pointer(&format!("/{key}")).is_some(),
                    "{name} is no setting"
                );
            }
        }
    }
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn secrets_come_as_files() {
    let objects = render(&[
        "secrets[0].variable=HEARTH_LOG__KAFKA__SASL_PASSWORD",
        "secrets[0].secret=kafka-credentials",
        "secrets[0].key=password",
        "configSecret=hearth-config",
    ]);
    assert!(objects.iter().all(|object| object["kind"] != "ConfigMap"));
    let pod = &find(&objects, "Deployment", "home-hearth-api")["spec"]["template"]["spec"];
    let variables = variables(&pod["containers"][0]);
    let file = variables["HEARTH_LOG__KAFKA__SASL_PASSWORD_FILE"]["value"]
        .as_str()
        .unwrap();
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount["mountPath"] == file)
        .unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes
        .iter()
        .find(|volume| volume["name"] == mount["name"])
        .unwrap();
    assert_eq!(volume["secret"]["secretName"], "kafka-credentials");
    assert_eq!(
        volume["secret"]["items"],
        json!([{"key": "password", "path": "value"}])
    );
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn a_role_that_is_off_leaves_nothing_and_network_policies_come_on_demand() {
    let objects = render(&["roles.bridge.enabled=false", "networkPolicy.enabled=true"]);
    let names = objects
        .iter()
        .map(|object| object["metadata"]["name"].as_str().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("bridge")));
    let policies = objects
        .iter()
        .filter(|object| object["kind"] == "NetworkPolicy")
        .count();
    assert_eq!(policies, ROLES.len() - 1);
}

#[test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
fn values_that_cannot_be_meant_are_refused() {
    for setting in [
        "roles.engine.replicas=-1",
        "roles.engin.enabled=true",
        "roles.jobs.enabled=true",
        "ports.http=80",
        "image.pullPolicy=Sometimes",
        "env.lower=1",
    ] {
        let output = helm(&["template", "home", "--set", setting]);
        assert!(!output.status.success(), "{setting} is taken");
    }
}
