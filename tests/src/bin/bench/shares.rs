//! The share of the machine that each process took while something was measured.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::usage::usage;

/// Processes from one moment on.
pub(super) struct Shares {
    begun: Instant,
    /// Name, id, CPU seconds at the beginning.
    parts: Vec<(&'static str, u32, f64)>,
}

impl Shares {
    pub(super) fn begin(processes: &[(&'static str, u32)]) -> Result<Self> {
        let begun = Instant::now();
        let parts = processes.iter().map(|(name, pid)| {
            let (cpu_s, _) = usage(*pid)?;
            Ok((*name, *pid, cpu_s))
        });
        Ok(Self {
            begun,
            parts: parts.collect::<Result<_>>()?,
        })
    }

    /// One line for people.
    pub(super) fn end(&self) -> Result<String> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let cores = f64::from(u32::try_from(std::thread::available_parallelism()?.get())?);
        let mut line = format!("  {seconds:.1} s on {cores} cores:");
        for (name, pid, before) in &self.parts {
            let (after, _) = usage(*pid)?;
            let percent = (after - before) * 100.0 / seconds / cores;
            write!(line, " {name} {percent:.0} %,").context("write to a string")?;
        }
        line.pop();
        Ok(line)
    }
}
