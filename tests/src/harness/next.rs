//! The build of tomorrow: `hearth` with the feature `next`, whose formats are one version newer.

use std::path::PathBuf;

use anyhow::{Context, ensure};

use super::hearth::binary;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// A test that knows nothing of the formats. With a test among what is built, cargo gives the dependencies the same
/// features as where it builds all tests, and need not build them anew.
const ANY_TEST: &str = "suite";

/// Builds `hearth-next` beside `hearth` and gives its path. What does not depend on the formats is not built again.
pub async fn next_binary() -> anyhow::Result<PathBuf> {
    let beside = binary()?;
    let folder = beside.parent().context("a binary lies in a folder")?;
    let target = folder.parent().context("a profile's folder lies in one")?;
    let mut cargo = tokio::process::Command::new(env!("CARGO"));
    cargo
        .current_dir(ROOT)
        .args(["build", "--workspace", "--bin", "hearth-next"])
        .args(["--test", ANY_TEST])
        .args(["--features", "hearth/next", "--target-dir"])
        .arg(target);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.output().await.context("run cargo")?;
    ensure!(
        built.status.success(),
        "cargo build: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(folder.join("hearth-next"))
}
