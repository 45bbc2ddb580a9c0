//! The one thread that appends: it takes everything that waits, makes it durable with one fsync, and only then answers.
//! It never waits for more to come.

use std::collections::BTreeMap;

use bytes::Bytes;
use fjall::{PersistMode, WriteBatch};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::Shared;
use super::tables::{End, Stored, Tables, from_fjall, group_key, record_key};
use crate::clock::wall_ms;
use crate::log::{LogError, TopicPartition};

/// What callers ask of the writer.
#[derive(Debug)]
pub(super) enum Job {
    Append(Append),
    Commit {
        group: String,
        next_offsets: Vec<(TopicPartition, i64)>,
        done: oneshot::Sender<Result<(), LogError>>,
    },
}

#[derive(Debug)]
pub(super) struct Append {
    pub(super) to: TopicPartition,
    pub(super) key: Bytes,
    pub(super) value: Vec<u8>,
    pub(super) done: oneshot::Sender<Result<(), LogError>>,
    /// Room in the queue, given back once the record is written.
    pub(super) room: OwnedSemaphorePermit,
}

pub(super) struct Writer {
    pub(super) tables: Tables,
    pub(super) shared: std::sync::Arc<Shared>,
    pub(super) ends: BTreeMap<TopicPartition, End>,
    /// Tells readers that there is more; its end tells them that the log is closed.
    pub(super) news: watch::Sender<()>,
    pub(super) batch_records_max: usize,
}

impl Writer {
    /// Runs until every sender is gone.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut waiting = vec![first];
            while waiting.len() < self.batch_records_max
                && let Ok(job) = jobs.try_recv()
            {
                waiting.push(job);
            }
            self.write(waiting);
        }
    }

    fn write(&mut self, jobs: Vec<Job>) {
        let mut batch = self.tables.database.batch().durability(Some(PersistMode::SyncAll));
        let mut ends: BTreeMap<TopicPartition, End> = BTreeMap::new();
        let mut commits: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        let mut waiting = Vec::with_capacity(jobs.len());
        let timestamp_ms = wall_ms();
        for job in jobs {
            match job {
                Job::Append(append) => {
                    let end = ends.entry(append.to).or_insert(self.ends[&append.to]);
                    waiting.push((append.done, Some(append.room)));
                    self.append(
                        &mut batch,
                        end,
                        append.to,
                        Stored {
                            timestamp_ms,
                            bytes_so_far: 0,
                            key: append.key,
                            value: append.value.into(),
                        },
                    );
                }
                Job::Commit { group, next_offsets, done } => {
                    for (at, offset) in next_offsets {
                        // A key may stand in a batch once.
                        commits.insert(group_key(&group, at), offset);
                    }
                    waiting.push((done, None));
                }
            }
        }
        for (key, offset) in commits {
            batch.insert(self.tables.offsets(), key, offset.to_be_bytes());
        }
        let outcome = batch.commit();
        if outcome.is_ok() && !ends.is_empty() {
            for (at, end) in ends {
                self.shared.set_end(at, end.next_offset);
                self.ends.insert(at, end);
            }
            self.news.send_replace(());
        }
        for (done, room) in waiting {
            drop(room);
            // A caller that stopped waiting needs no answer.
            let _ = done.send(outcome.as_ref().map(|()| ()).map_err(from_fjall));
        }
    }

    fn append(
        &self,
        batch: &mut WriteBatch,
        end: &mut End,
        to: TopicPartition,
        mut record: Stored,
    ) {
        let bytes = record.key.len() + record.value.len();
        end.bytes_so_far += u64::try_from(bytes).expect("a record's size has been checked");
        record.bytes_so_far = end.bytes_so_far;
        let key = record_key(to.partition, end.next_offset);
        batch.insert(self.tables.topic(to.topic), key, record.bytes());
        end.next_offset += 1;
    }
}
