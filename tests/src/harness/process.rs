//! One child process: started, stopped, killed, paused, started again with the same arguments. Its output goes into a
//! file; it dies with this process.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::watchdog;

const LOG_TAIL_BYTES: u64 = 6_000;

/// A child process that can be started more than once.
#[derive(Debug)]
pub struct Process {
    name: String,
    command: Mutex<Command>,
    child: Mutex<Option<Child>>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, whose output is appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).process_group(0);
        let process = Self {
            name: name.to_owned(),
            command: Mutex::new(command),
            child: Mutex::new(None),
            log: log.to_owned(),
        };
        process.start_again()?;
        Ok(process)
    }

    /// Starts it again after it was stopped or killed, or has ended.
    pub fn start_again(&self) -> anyhow::Result<()> {
        let mut child = self.child();
        if let Some(running) = child.as_mut() {
            if running.try_wait()?.is_none() {
                bail!("{} runs already", self.name);
            }
            watchdog::forget(running.id());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = self.command.lock().unwrap_or_else(PoisonError::into_inner);
        command.stdout(log.try_clone()?).stderr(log);
        let started = command
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        watchdog::watch(started.id());
        *child = Some(started);
        Ok(())
    }

    /// Waits until `probe` returns true. Fails, with the end of the log, if the process ends or `limit` passes first.
    pub async fn until(
        &self,
        limit: Duration,
        mut probe: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                bail!("{} ended: {status}\n{}", self.name, self.log_tail());
            }
            if probe().await {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!(
                    "{} is not ready after {limit:?}\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends SIGTERM and waits for the end. Kills it, and fails, if that takes longer than `limit`.
    pub async fn terminate(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGCONT)?;
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if start.elapsed() > limit {
                self.kill();
                bail!(
                    "{} did not end within {limit:?} of SIGTERM\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends SIGKILL to it and its children, and waits for its end. Does nothing if it has ended already.
    pub fn kill(&self) {
        let mut child = self.child();
        if let Some(running) = child.as_mut() {
            if let Ok(None) = running.try_wait() {
                // Only its own process group, which it has led since its start.
                let _ = kill(Pid::from_raw(-pid_of(running).as_raw()), Signal::SIGKILL);
                let _ = running.wait();
            }
            watchdog::forget(running.id());
        }
        *child = None;
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT after [`Process::pause`].
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// How it ended; none while it runs or is paused.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child();
        let Some(started) = child.as_mut() else {
            return Some(ExitStatus::from_raw(Signal::SIGKILL as i32));
        };
        let status = started.try_wait().expect("a child's state can be asked")?;
        watchdog::forget(started.id());
        Some(status)
    }

    /// Whether it runs (or is paused).
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.ended().is_none()
    }

    /// The process id while it is there.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// The file that holds its output.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its output, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let tail = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = tail().unwrap_or_else(|error| format!("(no log: {error})"));
        format!("--- end of {}'s log ---\n{text}\n---", self.name)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let mut child = self.child();
        let running = child
            .as_mut()
            .with_context(|| format!("{} does not run", self.name))?;
        if let Some(status) = running.try_wait()? {
            bail!("{} has ended: {status}\n{}", self.name, self.log_tail());
        }
        kill(pid_of(running), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process ids fit i32"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
