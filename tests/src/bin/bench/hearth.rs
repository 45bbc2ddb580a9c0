//! The `hearth` binary made ready for the bench.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tests::harness::hearth_output;

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
