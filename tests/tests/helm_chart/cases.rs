//! Cases as data: values, and what the chart makes of them. Each file of `tests/tests/helm_cases` is a list of cases:
//!
//! - `name`; `profile` (of `values-PROFILE.yaml`) and `values` over it
//! - `refused`: helm refuses them, and says this
//! - `expect`: by `KIND/NAME` what is found there. `absent` for no such object, and for KIND alone a count. Places are JSON
//!   pointers; `pod/…` stands for the pod's spec, `main/…` for its first container, `env/NAME` for a variable of that. A
//!   place that ends with `+` holds at least what is given; `absent` is nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tests::harness::helm::render;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    profile: Option<String>,
    #[serde(default = "no_values")]
    values: Value,
    refused: Option<String>,
    #[serde(default)]
    expect: BTreeMap<String, Value>,
}

fn no_values() -> Value {
    json!({})
}

/// Every case of every file; what failed, and how many there are.
pub(crate) fn run() -> (Vec<String>, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm_cases");
    let mut cases: Vec<Case> = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        cases.extend(serde_saphyr::from_str::<Vec<Case>>(&text).unwrap());
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = cases.len().div_ceil(threads);
    let failures = std::thread::scope(|scope| {
        let running: Vec<_> = cases
            .chunks(share)
            .map(|cases| scope.spawn(|| cases.iter().flat_map(failures).collect::<Vec<String>>()))
            .collect();
        let ended = running.into_iter().map(|thread| thread.join().unwrap());
        ended.flatten().collect()
    });
    (failures, cases.len())
}

fn failures(case: &Case) -> Vec<String> {
    let rendered = render(case.profile.as_deref(), &case.values);
    let found = match (rendered, &case.refused) {
        (Ok(_), Some(_)) => vec!["was taken".to_owned()],
        (Err(said), Some(expected)) => {
            let said = format!("{said:#}");
            let is_said = said.contains(expected.as_str());
            if is_said {
                vec![]
            } else {
                vec![format!("refused with {said}")]
            }
        }
        (Err(said), None) => vec![format!("was refused: {said:#}")],
        (Ok(objects), None) => {
            assert!(!case.expect.is_empty(), "{} expects nothing", case.name);
            let expected = case.expect.iter();
            expected
                .flat_map(|(object, expected)| differences(&objects, object, expected))
                .collect()
        }
    };
    let name = &case.name;
    found
        .into_iter()
        .map(|what| format!("{name}: {what}"))
        .collect()
}

/// What differs between the object called `name` (`KIND/NAME` or `KIND`) and what is expected of it.
fn differences(objects: &[Value], name: &str, expected: &Value) -> Vec<String> {
    let Some((kind, of)) = name.split_once('/') else {
        let count = objects.iter().filter(|it| it["kind"] == name).count();
        let is_so = *expected == json!(count);
        return if is_so {
            vec![]
        } else {
            vec![format!("{count} of {name}")]
        };
    };
    let object = objects
        .iter()
        .find(|it| it["kind"] == kind && it["metadata"]["name"] == of);
    match (object, expected) {
        (None, Value::String(text)) if text == "absent" => vec![],
        (None, _) => vec![format!("there is no {name}")],
        (Some(object), Value::Object(places)) => places
            .iter()
            .filter_map(|(place, expected)| difference(object, place, expected))
            .map(|difference| format!("{name} {difference}"))
            .collect(),
        (Some(_), _) => vec![format!("there is {name}")],
    }
}

fn difference(object: &Value, place: &str, expected: &Value) -> Option<String> {
    let (path, is_part) = match place.strip_suffix('+') {
        Some(path) => (path, true),
        None => (place, false),
    };
    let found = find(object, path);
    let is_so = match (&found, expected) {
        (None, Value::String(text)) => text == "absent",
        (None, _) => false,
        (Some(found), expected) if is_part => holds(found, expected),
        (Some(found), expected) => found == expected,
    };
    (!is_so).then(|| {
        let found = found.map_or_else(|| "nothing".to_owned(), |found| found.to_string());
        format!("{place} is {found}")
    })
}

fn find(object: &Value, path: &str) -> Option<Value> {
    let spec = match object["kind"].as_str() {
        Some("Pod") => "/spec",
        _ => "/spec/template/spec",
    };
    if let Some(name) = path.strip_prefix("env/") {
        let variables = object.pointer(&format!("{spec}/containers/0/env"))?;
        let mut variables = variables.as_array()?.iter();
        let variable = variables.find(|variable| variable["name"] == name)?;
        return variable.get("value").or(variable.get("valueFrom")).cloned();
    }
    let pointer = if let Some(rest) = path.strip_prefix("pod/") {
        format!("{spec}/{rest}")
    } else if let Some(rest) = path.strip_prefix("main/") {
        format!("{spec}/containers/0/{rest}")
    } else {
        path.to_owned()
    };
    object.pointer(&pointer).cloned()
}

/// Whether `found` has at least what `part` has: of a list the members, of an object the fields, of a text the words.
fn holds(found: &Value, part: &Value) -> bool {
    match (found, part) {
        (Value::Array(found), Value::Array(parts)) => parts
            .iter()
            .all(|part| found.iter().any(|found| holds(found, part))),
        (Value::Object(found), Value::Object(parts)) => parts
            .iter()
            .all(|(key, part)| found.get(key).is_some_and(|found| holds(found, part))),
        (Value::String(found), Value::String(part)) => found.contains(part.as_str()),
        (found, part) => found == part,
    }
}
