//! PuLP and CBC in a separate Python environment, through `tests/bench/cbc.py`. They are not part of Hearth and are
//! installed once into the cache folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use model::problem::Problem;
use serde::Deserialize;

const PULP: &str = "3.3.2";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/cbc.py");

/// What a solver found for one home.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Answer {
    /// From the problem in memory to its plan, microseconds.
    pub(crate) us: f64,
    pub(crate) objective: f64,
    /// False if it ran out of time.
    pub(crate) is_proven: bool,
}

/// A Python with PuLP.
#[derive(Debug)]
pub(crate) struct Cbc {
    python: PathBuf,
}

impl Cbc {
    /// Installs PuLP unless it is there.
    ///
    /// # Errors
    /// If Python, its `venv` or `pip` are missing, or PuLP has no CBC for this machine.
    pub(crate) fn prepare() -> Result<Self> {
        let folder = tests::harness::cache_root()?.join(format!("pulp-{PULP}"));
        let cbc = Self {
            python: folder.join("bin/python"),
        };
        let complete = folder.join(".complete");
        if !complete.exists() {
            run(Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder))?;
            let install = ["-m", "pip", "install", "--quiet", &format!("pulp=={PULP}")];
            run(Command::new(&cbc.python).args(install))?;
            std::fs::write(&complete, "").context("mark PuLP as installed")?;
        }
        let asks = "import pulp, sys; sys.exit(not pulp.PULP_CBC_CMD(msg=False).available())";
        run(Command::new(&cbc.python).args(["-c", asks])).context("CBC does not start")?;
        Ok(cbc)
    }

    /// Solves the homes in `file`, one after the other.
    pub(crate) fn solve(&self, file: &Path) -> Result<Vec<Answer>> {
        let output = run(Command::new(&self.python).arg(SCRIPT).arg(file))?;
        let lines = output.lines();
        lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("read {line}")))
            .collect()
    }
}

/// Writes `problems` for the script.
pub(crate) fn write_homes(file: &Path, problems: &[Problem]) -> Result<()> {
    let mut text = String::new();
    for problem in problems {
        text += &serde_json::to_string(problem)?;
        text.push('\n');
    }
    write(file, &text)
}

/// Writes `count` programs without a home, which show what starting CBC takes.
pub(crate) fn write_nothing(file: &Path, count: usize) -> Result<()> {
    write(file, &"null\n".repeat(count))
}

fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().context("a file in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Standard output of `command`, which must succeed.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => bail!("{name}: {error}"),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().last().unwrap_or("no reason given");
    ensure!(output.status.success(), "{name}: {last}");
    String::from_utf8(output.stdout).context("read what Python printed")
}
