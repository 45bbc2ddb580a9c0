//! Finds the jars and tools that `deploy/setup.sh test` has installed. Downloads nothing itself.

use std::path::PathBuf;

use anyhow::{Context, ensure};

const POM: &str = include_str!("../../../deploy/stack/pom.xml");

/// Returns the folder of one complete component.
pub(super) fn folder(parent: &str, component: &str) -> anyhow::Result<PathBuf> {
    let folder = root()?
        .join(parent)
        .join(format!("{component}-{}", version(component)));
    ensure!(
        folder.join(".complete").exists(),
        "{} is missing: run deploy/setup.sh test",
        folder.display()
    );
    Ok(folder)
}

/// Returns `$HEARTH_CACHE` or its default.
///
/// # Errors
/// If neither it nor `$HOME` is set.
pub fn root() -> anyhow::Result<PathBuf> {
    if let Some(cache) = std::env::var_os("HEARTH_CACHE") {
        return Ok(cache.into());
    }
    let home = std::env::var_os("HOME").context("neither HEARTH_CACHE nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/hearth"))
}

/// Reads versions from the pom, the only place that has them.
fn version(component: &str) -> &'static str {
    let open = format!("<{component}.version>");
    let after = POM
        .split_once(&open)
        .expect("the pom has a version for each component")
        .1;
    after.split_once('<').expect("the pom is XML").0
}
