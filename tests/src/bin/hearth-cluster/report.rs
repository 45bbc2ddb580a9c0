//! What people and machines are told.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Writes a report, and the folder around it.
pub(crate) fn write(path: &Path, report: &Value) -> Result<()> {
    let folder = path.parent().context("a file in a folder")?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(path, serde_json::to_string_pretty(report)? + "\n").context("write the report")
}

#[expect(clippy::print_stdout, reason = "progress is what people watch")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}
