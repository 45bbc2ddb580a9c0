//! Rules of the repository that a compiler does not check: dependency arrows, licences, sources, sizes, words.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate of ours may use, ours only. ARCHITECTURE.md draws the same.
const ARROWS: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("household", &["model"]),
    ("scheduler", &["model"]),
    ("schemas", &["model"]),
    ("platform", &["model", "schemas"]),
    (
        "host",
        &["model", "household", "scheduler", "schemas", "platform"],
    ),
    (
        "api",
        &["model", "household", "scheduler", "schemas", "platform"],
    ),
    ("hearth-log", &["model", "schemas", "platform"]),
    ("hearth-store", &["model", "schemas", "platform"]),
    // The log for its tests alone.
    ("devices", &["model", "schemas", "platform", "hearth-log"]),
    ("loadtest", &["model", "schemas"]),
    (
        "hearth",
        &[
            "model",
            "household",
            "scheduler",
            "schemas",
            "platform",
            "host",
            "api",
            "hearth-log",
            "hearth-store",
            "devices",
            "loadtest",
        ],
    ),
    (
        "tests",
        &[
            "model",
            "household",
            "scheduler",
            "schemas",
            "platform",
            "host",
            "api",
            "hearth-log",
            "hearth-store",
            "devices",
            "loadtest",
            "hearth",
        ],
    ),
];

/// Licences that a closed or open product may ship with.
const LICENCES: [&str; 17] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
    "bzip2-1.0.6",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// What `git ls-files -z` with these arguments names, each ended by a zero byte.
fn ls_files(args: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .args(args)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "the repository is a git checkout");
    output.stdout
}

fn tracked_files() -> Vec<PathBuf> {
    ls_files(&[])
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| root().join(String::from_utf8_lossy(name).as_ref()))
        .filter(|path| path.is_file())
        .collect()
}

/// What a build left would pass for done on a machine where it is not.
#[test]
fn nothing_that_git_ignores_is_tracked() {
    let found = ls_files(&["--cached", "--ignored", "--exclude-standard"]);
    let found = String::from_utf8_lossy(&found);
    assert!(found.is_empty(), "tracked, though ignored:\n{found}");
}

#[test]
fn dependency_arrows_point_inwards() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ARROWS
        .iter()
        .map(|(name, uses)| (*name, uses.iter().copied().collect()))
        .collect();
    let mut seen = BTreeSet::new();
    for package in packages()
        .iter()
        .filter(|package| package["source"].is_null())
    {
        let name = package["name"].as_str().unwrap();
        let may = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no line in ARROWS"));
        seen.insert(name.to_owned());
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let ours = allowed.contains_key(used);
            assert!(
                !ours || used == name || may.contains(used),
                "{name} must not depend on {used}"
            );
        }
    }
    assert_eq!(
        seen.len(),
        ARROWS.len(),
        "every crate in ARROWS exists: {seen:?}"
    );
}

#[test]
fn pure_crates_have_no_runtime_and_no_io() {
    let forbidden = [
        "tokio", "rdkafka", "scylla", "fjall", "reqwest", "actix", "rumqttc", "rand",
    ];
    for package in packages()
        .iter()
        .filter(|package| package["source"].is_null())
    {
        let name = package["name"].as_str().unwrap();
        if !["model", "household", "scheduler", "schemas"].contains(&name) {
            continue;
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            assert!(
                !forbidden.contains(&used),
                "{name} is pure and must not use {used}"
            );
        }
    }
}

#[test]
fn licences_may_be_shipped() {
    let mut refused = Vec::new();
    for package in &packages() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        if !may_ship(licence) {
            refused.push(format!("{name}: {licence}"));
        }
    }
    assert!(refused.is_empty(), "licences to look at: {refused:#?}");
}

/// Whether an SPDX expression leaves a choice of allowed licences; `/` is the old way to write OR.
fn may_ship(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], " ").replace('/', " OR ");
    // OR binds weaker than AND, so this is exact for every expression without an OR inside parentheses under an AND,
    // and stricter in no case that occurs: such an expression fails here and is looked at.
    expression.split(" OR ").any(|choice| {
        choice
            .split(" AND ")
            .all(|licence| LICENCES.contains(&licence.trim()))
    })
}

#[test]
fn a_licence_expression_is_read_right() {
    assert!(may_ship("MIT OR Apache-2.0"));
    assert!(may_ship("MIT/GPL-3.0"));
    assert!(may_ship("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!may_ship("GPL-3.0-only"));
    assert!(!may_ship("MIT AND GPL-3.0-only"));
    assert!(!may_ship("none"));
}

#[test]
fn dependencies_come_from_the_registry() {
    for package in &packages() {
        if let Some(source) = package["source"].as_str() {
            assert!(
                source.starts_with("registry+"),
                "{}: {source}",
                package["name"]
            );
        }
    }
}

#[test]
fn files_stay_readable() {
    for path in tracked_files() {
        let size = path.metadata().unwrap().len();
        let generated = path.file_name().is_some_and(|name| name == "Cargo.lock");
        assert!(
            generated || size <= 40_000,
            "{} has {size} bytes",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_for_later_and_no_path_of_one_machine_is_named() {
    // Put together here, so that this file does not find itself.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["X", "XX:"].concat(),
        ["/wo", "rk/"].concat(),
    ];
    for path in tracked_files() {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for word in &words {
            assert!(
                !text.contains(word.as_str()),
                "{} holds {word}",
                path.display()
            );
        }
    }
}

#[test]
fn architecture_names_files_that_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut named = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let is_path = quoted.contains('/') && !quoted.contains([' ', '{', '<', ':', '*', '(']);
        if is_path && !quoted.starts_with(['/', '.']) {
            named += 1;
            assert!(
                root().join(quoted).exists(),
                "ARCHITECTURE.md names {quoted}"
            );
        }
    }
    assert!(named > 20, "the code map names its files");
}

#[test]
fn readme_gives_the_two_commands() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["make demo", "make test"] {
        assert!(text.contains(command), "README.md does not say {command}");
    }
}
