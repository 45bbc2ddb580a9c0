//! A database on disk that is opened again in this process after a write has failed: a full disk, a failed fsync, no
//! more open files. It knows no database; how one is opened is an argument.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use crate::report::Outage;
use crate::retry::Backoff;

/// Longest time between two looks while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Pauses between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Bytes that are written again together.
const CHUNK: usize = 64 << 10;

/// An open database, or none while it is being opened again.
#[derive(Debug)]
pub struct Reopened<T> {
    open: RwLock<Option<T>>,
    /// Whether it is being opened again. New readers are turned away, so that those that read now come to an end.
    is_away: AtomicBool,
    outage: Outage,
}

impl<T> Reopened<T> {
    /// Holds `open`; log lines call it `name`.
    pub fn new(name: &str, open: T) -> Self {
        Self {
            open: RwLock::new(Some(open)),
            is_away: AtomicBool::new(false),
            outage: Outage::of(name),
        }
    }

    /// Does `work` with the database; `None` while it is being opened again.
    pub fn with<R>(&self, work: impl FnOnce(&T) -> R) -> Option<R> {
        if !self.is_open() {
            return None;
        }
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(work)
    }

    /// Whether it takes reads and writes now.
    pub fn is_open(&self) -> bool {
        !self.is_away.load(Ordering::Acquire)
    }

    /// A write has become durable.
    pub fn succeeded(&self, backoff: &mut Backoff) {
        if self.outage.is_away() {
            backoff.reset();
            self.outage.succeeded();
        }
    }

    /// Closes the database after `failure` and opens it with `open` until that succeeds. `turn` is called while this waits and
    /// says whether to go on; then the result is false.
    pub fn reopen(
        &self,
        failure: impl Display,
        backoff: &mut Backoff,
        mut open: impl FnMut() -> Result<T, String>,
        mut turn: impl FnMut() -> bool,
    ) -> bool {
        self.is_away.store(true, Ordering::Release);
        self.outage.failed(failure);
        loop {
            let until = Instant::now() + backoff.next_pause();
            while Instant::now() < until {
                if !turn() {
                    return false;
                }
                std::thread::sleep(LOOK_EVERY);
            }
            let mut held = loop {
                match self.open.try_write() {
                    Ok(held) => break held,
                    Err(TryLockError::Poisoned(held)) => break held.into_inner(),
                    Err(TryLockError::WouldBlock) if !turn() => return false,
                    Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_EVERY),
                }
            };
            // The old one goes first: it holds the lock of the folder.
            drop(held.take());
            match open() {
                Ok(opened) => {
                    *held = Some(opened);
                    self.is_away.store(false, Ordering::Release);
                    return true;
                }
                Err(error) => self.outage.failed(error),
            }
        }
    }
}

/// The pauses of [`Reopened::reopen`]; one for as long as the database lives.
#[must_use]
pub fn pauses() -> Backoff {
    Backoff::new(PAUSE_MIN, PAUSE_MAX)
}

/// Writes what the files of `dir` with this extension hold once more, and syncs them. After a failed fsync the kernel takes
/// pages for written that are not on the disk, and a later fsync leaves them out: a hole in the middle of a journal,
/// which would hide what stands behind it after a loss of power. Zeros are left out, since files grow ahead.
pub fn write_again(dir: &Path, extension: &str) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            write_file_again(&OpenOptions::new().read(true).write(true).open(path)?)?;
        }
    }
    Ok(())
}

fn write_file_again(file: &File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let count = file.read_at(&mut chunk, at)?;
        if count == 0 {
            return file.sync_all();
        }
        let bytes = &chunk[..count];
        if bytes.iter().any(|byte| *byte != 0) {
            file.write_all_at(bytes, at)?;
        }
        at += u64::try_from(count).expect("a count fits");
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Reopened, pauses, write_again};

    #[test]
    fn the_old_one_is_gone_before_the_next_is_opened() {
        let alive = std::sync::Arc::new(());
        let database = Reopened::new("test", std::sync::Arc::clone(&alive));
        let (mut attempts, mut turns) = (0, 0);
        let reopened = database.reopen(
            "no space",
            &mut pauses(),
            || {
                assert_eq!(std::sync::Arc::strong_count(&alive), 1);
                assert!(database.with(|_| ()).is_none(), "nobody reads now");
                attempts += 1;
                (attempts == 3)
                    .then(|| std::sync::Arc::clone(&alive))
                    .ok_or_else(|| "still none".to_owned())
            },
            || {
                turns += 1;
                true
            },
        );
        assert!(reopened && attempts == 3 && turns > 0);
        assert!(database.is_open() && database.with(|_| ()).is_some());
        let ended = database.reopen("again", &mut pauses(), || panic!("closed"), || false);
        assert!(!ended && !database.is_open());
    }

    #[test]
    fn what_is_written_again_is_the_same() {
        let dir = std::env::temp_dir().join(format!("hearth-reopen-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut bytes = vec![0; 3 * CHUNK + 5];
        bytes[7] = 1;
        bytes[2 * CHUNK + 1] = 2;
        std::fs::write(dir.join("1.jnl"), &bytes).unwrap();
        std::fs::write(dir.join("2.jnl"), b"").unwrap();
        write_again(&dir, "jnl").unwrap();
        assert_eq!(std::fs::read(dir.join("1.jnl")).unwrap(), bytes);
        assert_eq!(std::fs::read(dir.join("2.jnl")).unwrap(), b"");
        std::fs::remove_dir_all(&dir).unwrap();
        write_again(&dir, "jnl").unwrap();
    }
}
