//! The `hearth` binary as the bench meets it: made ready by `init`, watched through its metrics.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tests::harness::{hearth_output, http};

/// Topics and tables for a configuration.
pub(crate) async fn init(config: &Path) -> Result<()> {
    let config = config.to_str().context("a path of UTF-8")?;
    let output = hearth_output(&["--config", config, "init"], &[]).await?;
    ensure!(
        output.status.success(),
        "hearth init: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The sum of the metrics whose lines begin with `start`.
pub(crate) async fn metric(port: u16, start: &str) -> Result<f64> {
    let text = http()
        .get(format!("http://127.0.0.1:{port}/metrics"))
        .send()
        .await?
        .text()
        .await?;
    let values = text.lines().filter(|line| line.starts_with(start));
    Ok(values
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum())
}
