//! A bounded queue on disk for records that cannot go into the log now. An append resolves once it would survive a crash.
//! A full spool refuses appends; it never drops records. Records drained just before a crash may be handed out again.
//!
//! Records are in segment files, oldest first. One thread owns the files; appends that arrive together share one sync.
//! If a disk corrupts part of a file, only the records in that part are lost; this is counted, and the file is kept.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use platform::lifetime::{Alive, Ended};
use tokio::sync::{Notify, mpsc, oneshot};

mod disk;
mod frame;
mod record;
mod segment;
mod segments;

pub use record::{Recovered, SpoolError, SpoolLimits, SpooledRecord};

use disk::MachineDisk;
use segments::Segments;

/// Most appends that wait for one sync.
const APPENDS_MAX: usize = 1_024;

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    commands: mpsc::Sender<Command>,
    state: Arc<State>,
    thread: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
    ended: Ended,
}

/// State that can be read without asking the thread.
#[derive(Debug, Default)]
struct State {
    /// Records that are appended, or about to be, and not yet released.
    pending: AtomicU64,
    /// Bytes on disk.
    bytes: AtomicU64,
    is_full: AtomicBool,
    /// Damaged places found since the last call of `take_damaged`.
    damaged: AtomicU64,
    /// Notified of every successful append.
    appended: Notify,
}

#[derive(Debug)]
enum Command {
    Append {
        records: Vec<SpooledRecord>,
        done: oneshot::Sender<Result<(), SpoolError>>,
    },
    Oldest {
        records_max: usize,
        bytes_max: usize,
        done: oneshot::Sender<Result<Vec<SpooledRecord>, SpoolError>>,
    },
    Release {
        count: usize,
        done: oneshot::Sender<Result<(), SpoolError>>,
    },
    Close,
}

/// An append that is queued but not yet on disk.
#[derive(Debug)]
pub struct Appending(oneshot::Receiver<Result<(), SpoolError>>);

impl Appending {
    /// Resolves once the records would survive a crash.
    pub async fn durable(self) -> Result<(), SpoolError> {
        self.0.await.unwrap_or(Err(SpoolError::Closed))
    }
}

impl Spool {
    /// Opens the spool in `dir` and reads what an earlier process left there. Blocks while it reads.
    pub fn open(dir: &Path, limits: SpoolLimits) -> Result<(Self, Recovered), SpoolError> {
        let (mut segments, recovered) = Segments::open(dir, limits, Box::new(MachineDisk))?;
        let state = Arc::new(State::default());
        state.pending.store(recovered.records, Ordering::SeqCst);
        state.bytes.store(segments.bytes(), Ordering::SeqCst);
        state
            .damaged
            .store(segments.take_damaged(), Ordering::SeqCst);
        let (commands, inbox) = mpsc::channel(APPENDS_MAX);
        let owner = Owner {
            segments,
            state: Arc::clone(&state),
        };
        let (alive, ended) = Alive::new();
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || {
                let _alive = alive;
                owner.run(inbox);
            })
            .map_err(|error| SpoolError::io(dir, &error))?;
        let spool = Self {
            commands,
            state,
            thread: std::sync::Mutex::new(Some(thread)),
            ended,
        };
        Ok((spool, recovered))
    }

    /// Appends records; they are all kept or all refused. They have their place in the queue when this returns; `durable`
    /// tells when they are on disk.
    pub async fn append(&self, records: Vec<SpooledRecord>) -> Appending {
        let (done, wait) = oneshot::channel();
        // If the spool is closed, `done` is dropped, and `durable` fails.
        if let Ok(place) = self.commands.reserve().await {
            self.state
                .pending
                .fetch_add(records.len() as u64, Ordering::SeqCst);
            place.send(Command::Append { records, done });
        }
        Appending(wait)
    }

    /// Returns the oldest records within both limits, but at least one if there is one. They stay until released.
    pub async fn oldest(
        &self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<SpooledRecord>, SpoolError> {
        self.ask(|done| Command::Oldest {
            records_max,
            bytes_max,
            done,
        })
        .await
    }

    /// Removes the `count` oldest records, which are durable elsewhere.
    pub async fn release(&self, count: usize) -> Result<(), SpoolError> {
        self.ask(|done| Command::Release { count, done }).await
    }

    /// Returns whether it is empty, with no append under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.pending.load(Ordering::SeqCst) == 0
    }

    /// Returns whether the last append was refused for lack of room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state.is_full.load(Ordering::SeqCst)
    }

    /// Returns the end of its thread, which comes after [`Spool::close`] or a panic.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::SeqCst)
    }

    /// Returns how many places with unreadable records were found in its files since the last call.
    #[must_use]
    pub fn take_damaged(&self) -> u64 {
        self.state.damaged.swap(0, Ordering::SeqCst)
    }

    /// Waits until something has been appended since the last call.
    pub async fn appended(&self) {
        self.state.appended.notified().await;
    }

    /// Finishes earlier calls and closes the files. Records stay for the next start.
    pub async fn close(&self) {
        // If the thread has ended already, there is nothing to close.
        let _ = self.commands.send(Command::Close).await;
        let thread = self
            .thread
            .lock()
            .expect("no panic while it is held")
            .take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the spool's thread panicked");
            }
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, SpoolError>>) -> Command,
    ) -> Result<T, SpoolError> {
        let (done, wait) = oneshot::channel();
        self.commands
            .send(command(done))
            .await
            .map_err(|_| SpoolError::Closed)?;
        wait.await.unwrap_or(Err(SpoolError::Closed))
    }
}

/// The thread that owns the files.
struct Owner {
    segments: Segments,
    state: Arc<State>,
}

type Waiting = (u64, oneshot::Sender<Result<(), SpoolError>>);

impl Owner {
    fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(APPENDS_MAX);
        loop {
            batch.clear();
            if inbox.blocking_recv_many(&mut batch, APPENDS_MAX) == 0 {
                return;
            }
            let mut waiting = Vec::new();
            for command in batch.drain(..) {
                match command {
                    Command::Append { records, done } => {
                        let count = records.len() as u64;
                        let written = self.segments.write(&records);
                        let is_full = matches!(written, Err(SpoolError::Full { .. }));
                        self.state.is_full.store(is_full, Ordering::SeqCst);
                        match written {
                            Ok(()) => waiting.push((count, done)),
                            Err(error) => self.refuse(count, done, error),
                        }
                        if self.segments.is_newest_full() {
                            self.sync(&mut waiting);
                        }
                    }
                    Command::Oldest {
                        records_max,
                        bytes_max,
                        done,
                    } => {
                        self.sync(&mut waiting);
                        let oldest = self.segments.oldest(records_max, bytes_max);
                        self.state
                            .pending
                            .fetch_sub(self.segments.take_lost(), Ordering::SeqCst);
                        self.state
                            .damaged
                            .fetch_add(self.segments.take_damaged(), Ordering::SeqCst);
                        // The caller may be gone and need no answer.
                        let _ = done.send(oldest);
                    }
                    Command::Release { count, done } => {
                        self.sync(&mut waiting);
                        self.segments.release(count);
                        self.state.is_full.store(false, Ordering::SeqCst);
                        self.state
                            .bytes
                            .store(self.segments.bytes(), Ordering::SeqCst);
                        self.state.pending.fetch_sub(count as u64, Ordering::SeqCst);
                        // The caller may be gone.
                        let _ = done.send(Ok(()));
                    }
                    Command::Close => {
                        self.sync(&mut waiting);
                        return;
                    }
                }
            }
            self.sync(&mut waiting);
        }
    }

    /// Makes written records durable and answers the waiting appends.
    fn sync(&mut self, waiting: &mut Vec<Waiting>) {
        if waiting.is_empty() {
            return;
        }
        let synced = self.segments.sync();
        self.state
            .bytes
            .store(self.segments.bytes(), Ordering::SeqCst);
        for (count, done) in waiting.drain(..) {
            match &synced {
                Ok(()) => {
                    self.state.appended.notify_one();
                    // The caller may be gone; the record is kept nevertheless.
                    let _ = done.send(Ok(()));
                }
                Err(error) => self.refuse(count, done, error.clone()),
            }
        }
    }

    fn refuse(&self, count: u64, done: oneshot::Sender<Result<(), SpoolError>>, error: SpoolError) {
        self.state.pending.fetch_sub(count, Ordering::SeqCst);
        // The caller may be gone; then nobody acknowledges either.
        let _ = done.send(Err(error));
    }
}
