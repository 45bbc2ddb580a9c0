//! Rules of the repository that a compiler does not check: dependency arrows, circles, sizes, words.
//! Rules for dependencies are in deny.toml.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

mod tidy {
    pub(crate) mod circles;
}
use tidy::circles;

/// The crates of this workspace that each of them may use. ARCHITECTURE.md lists the same.
const ARROWS: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("forecast", &["model"]),
    ("household", &["model", "forecast"]),
    ("backtest", &["model", "forecast", "household", "scheduler"]),
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
    // Uses the log only in its tests.
    ("devices", &["model", "schemas", "platform", "hearth-log"]),
    ("loadtest", &["model", "schemas"]),
    (
        "hearth",
        &[
            "backtest",
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
            "backtest",
            "model",
            "forecast",
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

/// Returns the files that `git ls-files -z` lists with these arguments, each ended by a zero byte.
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

/// Build output in the repository would hide a missing build step on another machine.
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
        if !["model", "forecast", "household", "scheduler", "schemas"].contains(&name) {
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
fn files_stay_readable() {
    for path in tracked_files() {
        let size = path.metadata().unwrap().len();
        // Two are generated, the third is served as one document.
        let is_whole = path
            .file_name()
            .is_some_and(|name| name == "Cargo.lock" || name == "go.sum" || name == "openapi.json");
        assert!(
            is_whole || size <= 40_000,
            "{} has {size} bytes",
            path.display()
        );
    }
}

const RUST_BYTES_MAX: u64 = 30_000;

#[test]
fn rust_files_are_small() {
    for path in tracked_files() {
        let is_rust = path.extension().is_some_and(|ending| ending == "rs");
        let size = path.metadata().unwrap().len();
        assert!(
            !is_rust || size <= RUST_BYTES_MAX,
            "{} has {size} bytes, split it",
            name_of(&path)
        );
    }
}

#[test]
fn files_of_a_crate_use_each_other_in_no_circle() {
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for root in target_roots() {
        let circles = circles::circles(&circles::uses_of_files(&root));
        let circles = circles.iter();
        found.extend(circles.map(|circle| circle.iter().map(|path| name_of(path)).collect()));
    }
    assert!(found.is_empty(), "files in a circle: {found:#?}");
}

/// The first files of our libraries and binaries.
fn target_roots() -> BTreeSet<PathBuf> {
    let mut roots = BTreeSet::new();
    for package in packages() {
        if !package["source"].is_null() {
            continue;
        }
        for target in package["targets"].as_array().unwrap() {
            let kinds = target["kind"].as_array().unwrap();
            if kinds
                .iter()
                .any(|kind| kind == "lib" || kind == "bin" || kind == "test")
            {
                roots.insert(PathBuf::from(target["src_path"].as_str().unwrap()));
            }
        }
    }
    assert!(roots.len() > 5, "the crates have libraries and binaries");
    roots
}

/// A path of the repository as git writes it.
fn name_of(path: &Path) -> String {
    let below = path.strip_prefix(root()).unwrap_or(path);
    below.display().to_string()
}

/// A test that needs the real stack must be marked `#[ignore]`, which the runner counts. A test that just returns early
/// would look as if it had run.
#[test]
fn a_skipped_test_says_so() {
    // Assembled here, so that this file does not match itself.
    let asks = ["env::var(\"ST", "ACK\")"].concat();
    for path in tracked_files() {
        let name = name_of(&path);
        if !name.ends_with(".rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&asks), "{name}: use #[ignore = \"why\"]");
        if name.starts_with("tests/tests/stack_") {
            let tests = text.matches("#[test").count() + text.matches("#[tokio::test").count();
            let ignored = text.matches("#[ignore = ").count();
            assert_eq!(
                tests, ignored,
                "{name}: every test says #[ignore = \"why\"]"
            );
        }
    }
}

#[test]
fn adr_numbers_are_unique_and_stand_in_their_titles() {
    let mut numbers = BTreeSet::new();
    for path in tracked_files() {
        let name = name_of(&path);
        let Some(file) = name.strip_prefix("docs/adr/") else {
            continue;
        };
        let (number, _) = file.split_once('-').expect("NNNN-what-it-decides.md");
        assert!(
            number.len() == 4 && numbers.insert(number.to_owned()),
            "{name}: its number is taken or has not four digits"
        );
        let text = std::fs::read_to_string(&path).unwrap();
        let title = text.lines().next().unwrap_or_default();
        let wanted = number.trim_start_matches('0');
        assert!(
            title.starts_with('#') && title.contains(wanted),
            "{name}: its title does not say {wanted}: {title}"
        );
    }
    assert!(!numbers.is_empty(), "there are decisions");
}

#[test]
fn no_merge_was_left_half_done() {
    // Assembled here, so that this file does not match itself.
    let marks = ["<", ">", "|"].map(|mark| mark.repeat(7) + " ");
    for path in tracked_files() {
        let name = name_of(&path);
        let kept = [".orig", ".rej"]
            .iter()
            .any(|ending| name.ends_with(ending));
        assert!(!kept, "{name} is what a merge left");
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for (at, line) in text.lines().enumerate() {
            let left = marks.iter().any(|mark| line.starts_with(mark.as_str()));
            assert!(!left, "{name}:{}: a conflict is not resolved", at + 1);
        }
    }
}

#[test]
fn nothing_is_left_for_later_and_no_path_of_one_machine_is_named() {
    // Assembled here, so that this file does not match itself.
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
