//! A release has the same bytes wherever it is made. Needs helm, which `deploy/setup.sh test` brings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the functions of the release script print.
#[track_caller]
fn script(calls: &str, arguments: &[&Path]) -> String {
    let release = root().join("deploy/release.sh");
    let output = Command::new("bash")
        .args(["-c", &format!("source \"$1\"; shift; {calls}"), "-"])
        .arg(release)
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{calls}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a folder of the same files each time, in another order and with other times and rights.
fn folder(at: &Path, names: &[&str], mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    for name in names {
        let path = at.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("I am {name}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn an_archive_says_nothing_of_who_made_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, two) = (
        scratch.path().join("one"),
        scratch.path().join("deeper/two"),
    );
    folder(&one, &["b", "a/c", "a/d"], 0o600);
    folder(&two, &["a/d", "a/c", "b"], 0o664);
    let archives = [(&one, "1.tgz"), (&two, "2.tgz")].map(|(from, to)| {
        let to = scratch.path().join(to);
        script("pack \"$1\" \"$2\" 1700000000", &[&to, from]);
        fs::read(to).unwrap()
    });
    assert!(archives[0] == archives[1] && !archives[0].is_empty());
}

#[test]
fn the_chart_is_packed_the_same_each_time_and_helm_reads_it() {
    let scratch = tempfile::tempdir().unwrap();
    let archives = ["1", "2"].map(|name| {
        let copy = scratch.path().join(name);
        let copied = Command::new("cp")
            .arg("-r")
            .args([root().join("helm"), copy.clone()])
            .status()
            .unwrap();
        assert!(copied.success());
        let to = scratch.path().join(format!("{name}.tgz"));
        script(
            "pack_chart \"$1\" \"$2\" 1700000000",
            &[&copy.join("hearth"), &to],
        );
        fs::read(to).unwrap()
    });
    assert!(archives[0] == archives[1]);
    let shown = script(
        "\"$cache/bin/helm\" show chart \"$1\"",
        &[&scratch.path().join("1.tgz")],
    );
    assert!(shown.contains("name: hearth"), "{shown}");
}

#[test]
fn notes_are_the_section_of_the_version() {
    let scratch = tempfile::tempdir().unwrap();
    let (cargo, changes) = (
        scratch.path().join("Cargo.toml"),
        scratch.path().join("CHANGELOG.md"),
    );
    let manifest = "[workspace]\nversion = \"9\"\n[workspace.package]\nversion = \"1.2.3\"\n[x]\nversion = \"8\"\n";
    fs::write(&cargo, manifest).unwrap();
    assert_eq!(script("version_of \"$1\"", &[&cargo]), "1.2.3\n");
    let text = "# Changelog\n\n## Unreleased\n\n- next\n\n## 1.2.3 - 2026-11-28\n\n### Added\n\n- this\n\n## 1.2.2\n\n- old\n";
    fs::write(&changes, text).unwrap();
    let notes = |version: &str| script(&format!("notes_of \"$1\" {version}"), &[&changes]);
    assert_eq!(notes("1.2.3"), "### Added\n\n- this\n\n");
    assert_eq!(notes("1.2.2"), "- old\n");
    assert_eq!(notes("2.0.0"), "- next\n\n");
    // The one that the next release would have.
    let next = script("notes_of \"$1\" 999.0.0", &[&root().join("CHANGELOG.md")]);
    assert!(next.contains("### "), "{next}");
}

#[test]
fn a_list_of_contents_says_nothing_of_time_and_place() {
    let scratch = tempfile::tempdir().unwrap();
    let boms = ["/build/one", "/build/two"].map(|place| {
        let bom = scratch.path().join("bom.json");
        let text = format!(
            r#"{{"serialNumber":"urn:uuid:{place}","bomFormat":"CycloneDX","metadata":{{"timestamp":"{place}","component":{{"bom-ref":"path+file://{place}/engine/hearth#0.1.0"}}}}}}"#
        );
        fs::write(&bom, text).unwrap();
        script(&format!("steady_bom {place} <\"$1\""), &[&bom])
    });
    assert_eq!(boms[0], boms[1]);
    assert!(
        boms[0].contains("path+file:///hearth/engine/hearth#0.1.0"),
        "{}",
        boms[0]
    );
}
