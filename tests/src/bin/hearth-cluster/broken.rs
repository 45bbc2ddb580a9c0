//! Manifests of the chart with one thing wrong each: a real API server refuses every one, so that what it takes is worth
//! something.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::harness::helm::{objects, render};

use crate::kube::Kube;
use crate::profiles::add_namespace;
use crate::say;

const NAMESPACE: &str = "broken";

/// Where something is wrong: kind and name, place (`main/…`: in the first container), what stands there (null: nothing), and
/// a part of the server's answer.
type Broken = (
    &'static str,
    &'static str,
    &'static str,
    Value,
    &'static str,
);

fn broken() -> Vec<Broken> {
    const ENGINE: &str = "StatefulSet/hearth-engine";
    const API: &str = "Deployment/hearth-api";
    vec![
        (
            "a field that does not exist",
            ENGINE,
            "/spec/replica",
            json!(2),
            "unknown field",
        ),
        (
            "replicas as text",
            ENGINE,
            "/spec/replicas",
            json!("two"),
            "",
        ),
        (
            "fewer replicas than none",
            API,
            "/spec/replicas",
            json!(-1),
            "greater than or equal to 0",
        ),
        (
            "a selector that selects other pods",
            ENGINE,
            "/spec/selector/matchLabels/app.kubernetes.io~1name",
            json!("other"),
            "selector",
        ),
        (
            "a version of the API that is gone",
            "PodDisruptionBudget/hearth-api",
            "/apiVersion",
            json!("policy/v1beta1"),
            "no matches",
        ),
        (
            "a budget with both limits",
            "PodDisruptionBudget/hearth-api",
            "/spec/minAvailable",
            json!(1),
            "mutually exclusive",
        ),
        (
            "a policy for pods that are not ready",
            "PodDisruptionBudget/hearth-api",
            "/spec/unhealthyPodEvictionPolicy",
            json!("Never"),
            "unhealthyPodEvictionPolicy",
        ),
        (
            "a port's name that is too long",
            ENGINE,
            "main/ports/0/name",
            json!("a-name-of-sixteen"),
            "no more than 15",
        ),
        (
            "a port that does not exist",
            API,
            "main/ports/0/containerPort",
            json!(80_000),
            "between 1 and 65535",
        ),
        (
            "a request above its limit",
            ENGINE,
            "main/resources/requests/memory",
            json!("9Gi"),
            "less than or equal to memory limit",
        ),
        (
            "a quantity that is none",
            ENGINE,
            "main/resources/limits/memory",
            json!("2Gigs"),
            "quantit",
        ),
        (
            "a volume that does not exist",
            ENGINE,
            "main/volumeMounts/0/name",
            json!("other"),
            "Not found",
        ),
        (
            "two ways to probe at once",
            API,
            "main/livenessProbe/tcpSocket",
            json!({"port": 8080}),
            "may not specify more than 1",
        ),
        (
            "a probe that never runs",
            API,
            "main/readinessProbe/periodSeconds",
            json!(-5),
            "greater than or equal to 0",
        ),
        (
            "a pause longer than the grace",
            API,
            "main/lifecycle/preStop/sleep/seconds",
            json!(4_000),
            "terminationGracePeriodSeconds",
        ),
        (
            "a variable with value and source",
            ENGINE,
            "main/env/0/value",
            json!("a"),
            "may not be specified when",
        ),
        (
            "a variable without name",
            ENGINE,
            "main/env/0/name",
            json!(""),
            "name",
        ),
        (
            "a name that is none",
            ENGINE,
            "/metadata/name",
            json!("Hearth_engine"),
            "metadata.name",
        ),
        (
            "a label that is none",
            ENGINE,
            "/metadata/labels/a",
            json!("not/a label"),
            "metadata.labels",
        ),
        (
            "pods of a Deployment that never start again",
            API,
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "restartPolicy",
        ),
        (
            "a rolling update that cannot move",
            API,
            "/spec/strategy/rollingUpdate",
            json!({"maxUnavailable": 0, "maxSurge": 0}),
            "may not be 0",
        ),
        (
            "a policy of claims",
            "StatefulSet/hearth-gateway",
            "/spec/persistentVolumeClaimRetentionPolicy/whenScaled",
            json!("Keep"),
            "whenScaled",
        ),
        (
            "a claim without size",
            "StatefulSet/hearth-gateway",
            "/spec/volumeClaimTemplates/0/spec/resources",
            Value::Null,
            "storage",
        ),
        (
            "spread by a label that matches twice",
            API,
            "/spec/template/spec/topologySpreadConstraints/0/matchLabelKeys",
            json!(["app.kubernetes.io/name"]),
            "matchLabelKeys",
        ),
        (
            "spread over nothing",
            API,
            "/spec/template/spec/topologySpreadConstraints/0/topologyKey",
            json!(""),
            "topologyKey",
        ),
        (
            "a network that is none",
            "NetworkPolicy/hearth-gateway",
            "/spec/ingress/0/from",
            json!([{"ipBlock": {"cidr": "10.0.0.0/99"}}]),
            "cidr",
        ),
        (
            "an autoscaler with less than it begins with",
            "HorizontalPodAutoscaler/hearth-optimizer",
            "/spec/maxReplicas",
            json!(1),
            "maxReplicas",
        ),
        (
            "an autoscaler above all percent",
            "HorizontalPodAutoscaler/hearth-optimizer",
            "/spec/metrics/0/resource/target/averageUtilization",
            json!(0),
            "averageUtilization",
        ),
        (
            "a Service of no known type",
            "Service/hearth-api",
            "/spec/type",
            json!("External"),
            "Unsupported value",
        ),
        (
            "a Service with two ports of one name",
            "Service/hearth-gateway-pods",
            "/spec/ports/1/name",
            json!("http"),
            "Duplicate",
        ),
        (
            "a schedule of no calendar",
            "Job/hearth-init",
            "/spec/backoffLimit",
            json!(-1),
            "backoffLimit",
        ),
        (
            "a job that starts for ever",
            "Job/hearth-init",
            "/spec/template/spec/restartPolicy",
            json!("Always"),
            "restartPolicy",
        ),
        (
            "a monitor without pods",
            "PodMonitor/hearth",
            "/spec/podMetricsEndpoints",
            Value::Null,
            "podMetricsEndpoints",
        ),
        (
            "a scaler of nothing",
            "ScaledObject/hearth-engine",
            "/spec/scaleTargetRef/name",
            Value::Null,
            "name",
        ),
        (
            "a fallback of no known kind",
            "ScaledObject/hearth-engine",
            "/spec/fallback/behavior",
            json!("guess"),
            "behavior",
        ),
        (
            "a route to a port that does not exist",
            "HTTPRoute/hearth-api",
            "/spec/rules/0/backendRefs/0/port",
            json!(0),
            "port",
        ),
        (
            "a rule without expression",
            "PrometheusRule/hearth",
            "/spec/groups/0/rules/0/expr",
            Value::Null,
            "expr",
        ),
    ]
}

/// Rights that the restricted standard forbids, at a pod of the chart.
fn forbidden() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "a privileged container",
            "/spec/containers/0/securityContext/privileged",
            json!(true),
        ),
        (
            "escalation",
            "/spec/containers/0/securityContext/allowPrivilegeEscalation",
            json!(true),
        ),
        (
            "capabilities",
            "/spec/containers/0/securityContext/capabilities",
            json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        ),
        (
            "capabilities that are kept",
            "/spec/containers/0/securityContext/capabilities",
            Value::Null,
        ),
        ("root", "/spec/securityContext/runAsUser", json!(0)),
        (
            "no word against root",
            "/spec/securityContext/runAsNonRoot",
            json!(false),
        ),
        (
            "no seccomp",
            "/spec/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
        ),
        ("the host's network", "/spec/hostNetwork", json!(true)),
        (
            "the host's files",
            "/spec/volumes/0",
            json!({"name": "config", "hostPath": {"path": "/"}}),
        ),
    ]
}

/// Checks that each is refused, and that all are taken as the chart makes them. Returns how many were refused.
pub(crate) fn run(kube: &Kube) -> Result<usize> {
    add_namespace(kube, NAMESPACE)?;
    let chart = render(
        Some("utility"),
        &json!({"roles": {"engine": {"autoscaling": {"enabled": true}}}}),
    )?;
    for object in &chart {
        kube.check(object, NAMESPACE)
            .with_context(|| format!("as it is: {object}"))?;
    }
    let mut taken = Vec::new();
    let broken = broken();
    for (what, name, place, value, says) in &broken {
        let object = changed(find(&chart, name)?, place, value)?;
        match kube.check(&object, NAMESPACE) {
            Ok(()) => taken.push((*what).to_owned()),
            Err(said) => {
                let said = said.to_string();
                ensure!(said.contains(says), "{what}: {said}");
            }
        }
    }
    let pod = find(&chart, "Pod/hearth-test")?;
    let forbidden = forbidden();
    for (what, place, value) in &forbidden {
        match kube.check(&changed(pod, place, value)?, NAMESPACE) {
            Ok(()) => taken.push((*what).to_owned()),
            Err(said) => {
                let said = said.to_string();
                ensure!(said.contains("PodSecurity \"restricted:"), "{what}: {said}");
            }
        }
    }
    ensure!(taken.is_empty(), "the server took {taken:?}");
    let count = broken.len() + forbidden.len();
    say(&format!(
        "{} objects are taken as they are, {count} broken ones are refused",
        chart.len()
    ));
    Ok(count)
}

/// The examples beside the chart.
pub(crate) fn check_examples(kube: &Kube) -> Result<usize> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/examples");
    let mut count = 0;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        for mut object in objects(&std::fs::read_to_string(&path)?)? {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
            kube.check(&object, NAMESPACE)
                .with_context(|| path.display().to_string())?;
            count += 1;
        }
    }
    say(&format!("{count} objects of the examples are taken"));
    Ok(count)
}

fn find<'a>(objects: &'a [Value], name: &str) -> Result<&'a Value> {
    let (kind, name) = name.split_once('/').context("KIND/NAME")?;
    let mut objects = objects.iter();
    let found = objects.find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.with_context(|| format!("the chart has no {kind} {name}"))
}

/// The object with `value` at `place`, or with nothing there for null.
fn changed(object: &Value, place: &str, value: &Value) -> Result<Value> {
    let mut object = object.clone();
    let place = match place.strip_prefix("main") {
        Some(rest) => format!("/spec/template/spec/containers/0{rest}"),
        None => place.to_owned(),
    };
    let (parent, key) = place.rsplit_once('/').context("a JSON pointer")?;
    let key = key.replace("~1", "/");
    let parent = object
        .pointer_mut(parent)
        .with_context(|| format!("nothing at {parent}"))?;
    match (parent, value) {
        (Value::Object(fields), Value::Null) => {
            fields
                .remove(&key)
                .with_context(|| format!("nothing at {place}"))?;
        }
        (Value::Object(fields), value) => {
            fields.insert(key, value.clone());
        }
        (Value::Array(members), value) => {
            *members
                .get_mut(key.parse::<usize>()?)
                .context("no such member")? = value.clone();
        }
        _ => anyhow::bail!("{place} is in no object"),
    }
    Ok(object)
}
