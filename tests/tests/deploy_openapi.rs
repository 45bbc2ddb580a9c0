//! `openapi.json` describes the routes and bodies that there are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::path::Path;

use api::body::{
    AlertsBody, CommandsBody, FleetBody, LatestBody, MetadataBody, OptimizeBody, ProblemDocument,
    ScheduleBody, TariffBody, TariffsBody,
};
use api::log_filter::{LogFilterBody, LogFilterChange};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

fn source(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../engine/api")
        .join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn description() -> Value {
    serde_json::from_str(&source("openapi.json")).unwrap()
}

/// A value that fits `schema`, with every property.
fn example(all: &Value, schema: &Value) -> Value {
    if let Some(path) = schema["$ref"].as_str() {
        let target = all.pointer(path.trim_start_matches('#'));
        return example(
            all,
            target.unwrap_or_else(|| panic!("{path} leads nowhere")),
        );
    }
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    if let Some(first) = schema["oneOf"].get(0) {
        return example(all, first);
    }
    let kind = schema["type"].get(0).unwrap_or(&schema["type"]);
    match kind.as_str().unwrap_or_else(|| panic!("no type: {schema}")) {
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let mut fields: Map<String, Value> = properties
                .map(|(name, field)| (name.clone(), example(all, field)))
                .collect();
            if schema["additionalProperties"].is_object() {
                fields.insert(
                    "x".to_owned(),
                    example(all, &schema["additionalProperties"]),
                );
            }
            Value::Object(fields)
        }
        "array" => json!([example(all, &schema["items"])]),
        "string" if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
        "string" => json!("x"),
        "integer" => json!(1),
        "number" => json!(0.5),
        "boolean" => json!(true),
        other => panic!("unknown type {other}"),
    }
}

/// Paths of all fields.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(children) => {
            for (name, child) in children {
                let path = format!("{path}.{name}");
                fields(child, &path, found);
                found.insert(path);
            }
        }
        Value::Array(children) => children.iter().for_each(|child| fields(child, path, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The schema's example reads as `T`, and `T` has the fields of the schema, no more and no fewer.
#[track_caller]
fn agrees<T: DeserializeOwned + Serialize>(schema: &str) {
    let all = description();
    let described = example(&all, &all["components"]["schemas"][schema]);
    let body: T = serde_json::from_value(described.clone())
        .unwrap_or_else(|error| panic!("{schema}: {error}"));
    let (mut expected, mut written) = (BTreeSet::new(), BTreeSet::new());
    fields(&described, "", &mut expected);
    fields(&serde_json::to_value(body).unwrap(), "", &mut written);
    assert_eq!(written, expected, "{schema}");
}

#[test]
fn bodies_are_those_of_the_code() {
    agrees::<LatestBody>("Latest");
    agrees::<ScheduleBody>("Schedule");
    agrees::<MetadataBody>("Household");
    agrees::<TariffBody>("Tariff");
    agrees::<ProblemDocument>("Problem");
    agrees::<OptimizeBody>("OptimizeRequest");
    agrees::<FleetBody>("Fleet");
    agrees::<CommandsBody>("Commands");
    agrees::<AlertsBody>("Alerts");
    agrees::<TariffsBody>("Tariffs");
    agrees::<LogFilterBody>("LogFilter");
    agrees::<LogFilterChange>("LogFilterChange");
}

#[test]
fn routes_are_those_of_the_code() {
    let code = source("src/routes.rs") + &source("src/server.rs");
    let mut served = BTreeSet::new();
    for resource in code.split("known(").skip(1) {
        let Some((path, rest)) = resource
            .trim_start()
            .trim_start_matches('"')
            .split_once('"')
        else {
            continue;
        };
        // HEAD is GET without the body.
        let methods = [
            ("reading()", "get"),
            ("web::get()", "get"),
            ("web::put()", "put"),
            ("web::post()", "post"),
        ];
        let methods = methods.iter().filter(|(call, _)| rest.contains(call));
        served.extend(methods.map(|(_, method)| format!("{method} {path}")));
    }
    assert!(served.len() >= 18, "{served:?}");
    let all = description();
    let mut described = BTreeSet::new();
    for (path, methods) in all["paths"].as_object().unwrap() {
        described.extend(
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|method| format!("{method} {path}")),
        );
    }
    assert_eq!(described, served);
}

#[test]
fn every_reference_leads_somewhere() {
    let all = description();
    let text = all.to_string();
    let references = text.split("\"$ref\":\"#").skip(1);
    let mut count = 0;
    for reference in references.filter_map(|rest| rest.split('"').next()) {
        assert!(all.pointer(reference).is_some(), "{reference}");
        count += 1;
    }
    assert!(count > 20);
}
