//! Every profile through its life on a real control plane whose namespaces enforce restricted Pod Security: checked by the
//! server, installed, upgraded, rolled back, uninstalled; with Helm 3 and 4.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::harness::helm::{chart, values_file};

use crate::kube::{Helm, Kube};
use crate::report::say;

const LIMIT: &str = "120s";
const CLAIMS_GO: Duration = Duration::from_secs(3);

/// A profile, and what has to be different where there is no cloud.
struct Profile {
    name: &'static str,
    over: Value,
}

fn profiles() -> [Profile; 4] {
    [
        Profile {
            name: "default",
            over: json!({}),
        },
        Profile {
            name: "small",
            over: json!({}),
        },
        // Nobody gives a balancer its address here, for which Helm would wait.
        Profile {
            name: "utility",
            over: json!({"roles": {"gateway": {"service": {"type": "NodePort"}}}}),
        },
        Profile {
            name: "demo",
            over: json!({}),
        },
    ]
}

/// Runs all; returns the lines of a table, each with its seconds.
pub(crate) fn run(kube: &Kube) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for profile in profiles() {
        for helm in Helm::both(kube)? {
            let namespace = format!("{}-{}", profile.name, helm.major);
            add_namespace(kube, &namespace)?;
            let row = live(kube, &helm, &profile, &namespace)
                .with_context(|| format!("profile {} with Helm {}", profile.name, helm.major));
            let row = match row {
                Ok(row) => row,
                Err(failure) => bail!("{failure:?}\n{}", state(kube, &namespace)),
            };
            say(&format!(
                "profile {:8} Helm {}  {row}",
                profile.name, helm.major
            ));
            rows.push(json!({"profile": profile.name, "helm": helm.major, "seconds": row}));
            kube.run(&["delete", "namespace", &namespace, "--wait=false"], None)?;
        }
    }
    Ok(rows)
}

/// A namespace that refuses pods beyond the restricted standard, with every Secret that a profile names.
pub(crate) fn add_namespace(kube: &Kube, name: &str) -> Result<()> {
    let level = |mode: &str| format!("pod-security.kubernetes.io/{mode}");
    let labels = json!({level("enforce"): "restricted", level("warn"): "restricted", level("audit"): "restricted"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    // The controller manager would make it a little later.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
    kube.apply(&[namespace, account])?;
    let pair = ["tls.crt", "tls.key", "ca.crt"].as_slice();
    let secrets = [
        ("hearth-gateway-tls", pair),
        ("hearth-controller-tls", pair),
        ("hearth-bridge-tls", pair),
        ("kafka-cluster-ca-cert", &["ca.crt"]),
        ("hearth-kafka", &["password"]),
        ("hearth-store", &["password"]),
    ];
    let secrets: Vec<Value> = secrets
        .iter()
        .map(|(secret, keys)| {
            let texts: serde_json::Map<String, Value> = keys
                .iter()
                .map(|key| ((*key).to_owned(), json!("for tests")))
                .collect();
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": secret, "namespace": name}, "stringData": texts,
            })
        })
        .collect();
    kube.apply(&secrets)
}

fn live(kube: &Kube, helm: &Helm, profile: &Profile, namespace: &str) -> Result<Value> {
    let chart = chart();
    let chart = chart.to_str().context("a path of UTF-8")?;
    let mut files: Vec<PathBuf> = Vec::new();
    if profile.name != "default" {
        files.push(format!("{chart}/values-{}.yaml", profile.name).into());
    }
    let as_it_is = files.clone();
    files.push(values_file(&profile.over)?);
    let call = |verb: &[&str], files: &[PathBuf], rest: &[&str]| -> Result<String> {
        let mut args = verb.to_vec();
        args.extend(["hearth", chart, "-n", namespace]);
        for file in files {
            args.extend(["--values", file.to_str().context("a path of UTF-8")?]);
        }
        args.extend(rest);
        helm.run(&args)
    };
    let mut seconds = serde_json::Map::new();
    let mut lap = |name: &str, begun: Instant| {
        let took = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        seconds.insert(name.to_owned(), json!(took));
    };
    let begun = Instant::now();
    call(&["install"], &as_it_is, &["--dry-run=server"]).context("check by the server")?;
    lap("checked", begun);
    let begun = Instant::now();
    let said = call(&["install"], &files, &["--wait", "--timeout", LIMIT]).context("install")?;
    ensure!(said.contains("Is it ready?"), "no notes: {said}");
    check_running(kube, namespace, "hearth:0.1.0")?;
    lap("installed", begun);
    let begun = Instant::now();
    let set = [
        "--set",
        "image.tag=next",
        "--set",
        "podAnnotations.changed=yes",
        "--wait",
        "--timeout",
        LIMIT,
    ];
    call(&["upgrade"], &files, &set).context("upgrade")?;
    check_running(kube, namespace, "hearth:next")?;
    lap("upgraded", begun);
    let begun = Instant::now();
    helm.run(&[
        "rollback",
        "hearth",
        "1",
        "-n",
        namespace,
        "--wait",
        "--timeout",
        LIMIT,
    ])
    .context("roll back")?;
    check_running(kube, namespace, "hearth:0.1.0")?;
    lap("rolled back", begun);
    let begun = Instant::now();
    helm.run(&[
        "uninstall",
        "hearth",
        "-n",
        namespace,
        "--wait",
        "--timeout",
        LIMIT,
    ])
    .context("uninstall")?;
    check_gone(kube, namespace)?;
    lap("uninstalled", begun);
    Ok(Value::Object(seconds))
}

/// Every workload has its pods, all of one image, and nothing else runs.
fn check_running(kube: &Kube, namespace: &str, image: &str) -> Result<()> {
    let mut wanted = 0;
    for kind in ["statefulsets", "deployments"] {
        for workload in kube.list(kind, Some(namespace))? {
            let (name, spec) = (&workload["metadata"]["name"], &workload["spec"]["replicas"]);
            let ready = &workload["status"]["readyReplicas"];
            ensure!(spec == ready, "{name}: {ready} of {spec} ready");
            wanted += spec.as_u64().unwrap_or(0);
        }
    }
    let pods = kube.list("pods", Some(namespace))?;
    let running = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let images: Vec<&Value> = running
        .map(|pod| &pod["spec"]["containers"][0]["image"])
        .collect();
    ensure!(
        images.len() as u64 == wanted,
        "{} pods, not {wanted}",
        images.len()
    );
    ensure!(
        images.iter().all(|found| **found == image),
        "{images:?} are not {image}"
    );
    ensure!(wanted > 0, "nothing runs");
    Ok(())
}

/// What is left of a release: the claims that hold acknowledged readings, and nothing else.
fn check_gone(kube: &Kube, namespace: &str) -> Result<()> {
    let kinds = "statefulsets,deployments,services,configmaps,jobs,poddisruptionbudgets,networkpolicies,serviceaccounts,\
                 horizontalpodautoscalers,podmonitors,prometheusrules,scaledobjects,httproutes";
    let left: Vec<String> = kube
        .list(kinds, Some(namespace))?
        .iter()
        .filter_map(|object| {
            Some(format!(
                "{}/{}",
                object["kind"].as_str()?,
                object["metadata"]["name"].as_str()?
            ))
        })
        .filter(|name| name != "ConfigMap/kube-root-ca.crt" && name != "ServiceAccount/default")
        .collect();
    ensure!(left.is_empty(), "left after uninstalling: {left:?}");
    // The controller of the claims' owner removes those that go with it, a little later.
    std::thread::sleep(CLAIMS_GO);
    for claim in kube.list("persistentvolumeclaims", Some(namespace))? {
        let name = claim["metadata"]["name"].as_str().unwrap_or_default();
        let is_spool = name.contains("gateway") || name.contains("bridge");
        ensure!(
            is_spool || !claim["metadata"]["deletionTimestamp"].is_null(),
            "{name} is left"
        );
    }
    Ok(())
}

/// What a person would look at first.
fn state(kube: &Kube, namespace: &str) -> String {
    let look = |args: &[&str]| {
        kube.run(args, None)
            .unwrap_or_else(|failure| failure.to_string())
    };
    let pods = look(&["-n", namespace, "get", "pods,jobs,pvc", "-o", "wide"]);
    let events = look(&["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"]);
    let tail: Vec<&str> = events.lines().rev().take(20).collect();
    format!("{pods}\n{}", tail.join("\n"))
}
