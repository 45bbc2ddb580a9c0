//! A helper shell that outlives this process. When the pipe to it closes, for whatever reason, it kills the processes
//! started here and removes their folders. So nothing stays behind, even after SIGKILL.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Each process watched leads its own group, so its children go with it.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pids=
while read -r verb pid; do
    case $verb in
        watch) pids="$pids $pid" ;;
        forget) rest=; for p in $pids; do [ "$p" = "$pid" ] || rest="$rest $p"; done; pids=$rest ;;
    esac
done
for p in $pids; do kill -s KILL -- "-$p"; done
[ -n "$HEARTH_KEEP" ] && exit
for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && exit; sleep 0.2; done
"#;

struct Watchdog {
    pipe: Mutex<ChildStdin>,
    folder: PathBuf,
}

#[expect(
    clippy::zombie_processes,
    reason = "it ends after this process, which cannot wait"
)]
fn watchdog() -> &'static Watchdog {
    static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
    WATCHDOG.get_or_init(|| {
        let folder = tempfile::Builder::new()
            .prefix("hearth-stack-")
            .tempdir()
            .expect("a temporary folder can be made")
            .keep();
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "hearth-watchdog"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        let pipe = shell.stdin.take().expect("stdin is piped");
        Watchdog {
            pipe: Mutex::new(pipe),
            folder,
        }
    })
}

fn tell(verb: &str, pid: u32) {
    let mut pipe = watchdog()
        .pipe
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    writeln!(pipe, "{verb} {pid}").expect("the watchdog lives as long as this process");
}

/// Makes the process group `pid` die with this process.
pub(super) fn watch(pid: u32) {
    tell("watch", pid);
}

/// Forgets a process that has ended, since its id may be reused.
pub(super) fn forget(pid: u32) {
    tell("forget", pid);
}

/// A new empty folder that is removed when this process ends (unless `HEARTH_KEEP` is set).
pub fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = root().join(format!("{name}-{number}"));
    std::fs::create_dir_all(&folder).expect("a folder can be made in the temporary folder");
    folder
}

fn root() -> &'static Path {
    &watchdog().folder
}
