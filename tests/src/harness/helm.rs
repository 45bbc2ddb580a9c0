//! Helm as `deploy/setup.sh test` installs it, on the chart of this checkout.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{cache_root, watchdog};

/// Returns the chart's folder.
#[must_use]
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/hearth")
}

/// Runs `helm ARGS`.
pub fn helm(args: &[&str]) -> anyhow::Result<Output> {
    let binary = cache_root()?.join("bin/helm");
    let output = Command::new(&binary).args(args).output();
    output.with_context(|| format!("run {}: deploy/setup.sh test installs it", binary.display()))
}

/// Returns a file that holds `values` for `helm --values`.
pub fn values_file(values: &Value) -> anyhow::Result<PathBuf> {
    let file = watchdog::folder("values").join("values.json");
    std::fs::write(&file, serde_json::to_vec(values)?).context("write the values")?;
    Ok(file)
}

/// Renders the chart for release `hearth` in namespace `homes`, with a profile (`values-PROFILE.yaml`) if one is given, and
/// `values` over it. The objects, hooks and tests among them.
///
/// # Errors
/// With what helm says if it refuses.
pub fn render(profile: Option<&str>, values: &Value) -> anyhow::Result<Vec<Value>> {
    objects(&render_text(profile, values)?)
}

/// The same as text.
pub fn render_text(profile: Option<&str>, values: &Value) -> anyhow::Result<String> {
    let chart = chart();
    let profile = profile.map(|profile| chart.join(format!("values-{profile}.yaml")));
    let values = values_file(values)?;
    let mut args = vec!["template", "hearth", "--namespace", "homes"];
    for file in profile.iter().chain([&values]) {
        args.extend(["--values", file.to_str().context("a path of UTF-8")?]);
    }
    args.push(chart.to_str().context("a path of UTF-8")?);
    let output = helm(&args)?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The objects of a text of YAML documents, the empty ones left out.
pub fn objects(text: &str) -> anyhow::Result<Vec<Value>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).context("read the objects")?;
    let objects: Vec<Value> = objects.into_iter().filter(|it| !it.is_null()).collect();
    for object in &objects {
        ensure!(object["kind"].is_string(), "an object without kind");
    }
    Ok(objects)
}
