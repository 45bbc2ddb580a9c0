//! The results: shown while they come in, and kept for `results.json`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::say::say;

/// One line of `results.json`.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    unit: &'static str,
    min: f64,
    median: f64,
    max: f64,
    runs: usize,
    commit: String,
}

/// All of them, with the commit that was measured.
pub(crate) struct Board {
    rows: Vec<Row>,
    commit: String,
}

impl Board {
    /// Shows the head of the table.
    pub(crate) fn new() -> Self {
        say(&format!(
            "{:<36} {:>12} {:>12} {:>12}",
            "", "min", "median", "max"
        ));
        Self {
            rows: Vec::new(),
            commit: commit(),
        }
    }

    pub(crate) fn add(&mut self, name: &str, unit: &'static str, mut values: Vec<f64>) {
        values.sort_by(f64::total_cmp);
        let row = Row {
            name: name.to_owned(),
            unit,
            min: values[0],
            median: values[values.len() / 2],
            max: values[values.len() - 1],
            runs: values.len(),
            commit: self.commit.clone(),
        };
        say(&format!(
            "{:<36} {:>12.3} {:>12.3} {:>12.3}  {}",
            row.name, row.min, row.median, row.max, row.unit
        ));
        self.rows.push(row);
    }

    /// Writes them to `file`, below a folder that may have to be made.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let folder = file.parent().context("a file lies in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        std::fs::write(file, serde_json::to_string_pretty(&self.rows)? + "\n")
            .context("write the results")?;
        say(&format!("results: {}", file.display()));
        Ok(())
    }
}

fn commit() -> String {
    let output = std::process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
