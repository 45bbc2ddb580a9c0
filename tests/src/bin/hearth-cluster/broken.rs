//! Manifests of the chart with one thing wrong each: a real API server refuses every one, so that what it takes is worth
//! something.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::harness::helm::{objects, render};

use crate::kube::Kube;
use crate::profiles::add_namespace;
use crate::report::say;

const NAMESPACE: &str = "broken";

/// A manifest with one thing wrong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Broken {
    what: String,
    object: String,
    place: String,
    value: Value,
    says: String,
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
    let broken: Vec<Broken> = serde_saphyr::from_str(include_str!("broken.yaml"))?;
    let (mut taken, mut otherwise) = (Vec::new(), Vec::new());
    for case in &broken {
        let object = changed(find(&chart, &case.object)?, &case.place, &case.value)
            .with_context(|| case.what.clone())?;
        match kube
            .check(&object, NAMESPACE)
            .map_err(|said| said.to_string())
        {
            Ok(()) => taken.push(&case.what),
            Err(said) if said.contains(&case.says) => {}
            Err(said) => otherwise.push(format!("{}: {said}", case.what)),
        }
    }
    ensure!(
        otherwise.is_empty(),
        "refused otherwise:\n{}",
        otherwise.join("\n")
    );
    ensure!(taken.is_empty(), "the server took {taken:?}");
    let count = broken.len();
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
