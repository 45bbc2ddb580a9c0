//! Tracks whether a partition has been read to the ends that `commands` and `acks` had when it was taken over. Only the
//! log's own answers count. Until they show that the end is reached, the log is asked again.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use schemas::topic::Topic;
use tokio::sync::Semaphore;

use super::pending::Pending;
use platform::log::{ConsumerControl, LogError, TopicPartition};
use platform::retry::Backoff;

/// Most partitions that are asked about at the same time.
const ASKS_MAX: usize = 4;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The log's answer about one topic in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    /// Offsets that it holds.
    pub(super) offsets: Range<i64>,
    /// Committed offset of our group.
    pub(super) committed: Option<i64>,
}

/// The log's answers about a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extents {
    pub(super) commands: Extent,
    pub(super) acks: Extent,
}

/// The offset up to which one topic must be read.
#[derive(Debug)]
struct Goal {
    /// The end offset in the first answer.
    end: i64,
    /// Whether no record below that end will come, because all are deleted or the group has committed beyond them.
    is_void: bool,
}

impl Goal {
    fn is_reached(&self, last: Option<i64>) -> bool {
        self.is_void || last.is_some_and(|last| last + 1 >= self.end)
    }
}

/// The progress of one partition to its ends.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// Number of this take-over. Answers to questions of an earlier one are ignored.
    pub(super) number: u64,
    commands: Option<Goal>,
    acks: Option<Goal>,
    backoff: Backoff,
}

impl CatchUp {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            commands: None,
            acks: None,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
        }
    }

    /// Returns the pause before the log is asked again.
    pub(super) fn next_pause(&mut self) -> Duration {
        self.backoff.next_pause()
    }

    /// Takes an answer of the log. The ends of the first answer stay.
    pub(super) fn learn(&mut self, extents: &Extents) {
        let learn = |goal: &mut Option<Goal>, extent: &Extent| {
            let is_first = goal.is_none();
            let goal = goal.get_or_insert(Goal {
                end: extent.offsets.end,
                is_void: false,
            });
            // Later answers contain our own commit, which follows what was read.
            let passed = extent.committed.filter(|_| is_first);
            goal.is_void |=
                extent.offsets.start >= goal.end || passed.is_some_and(|at| at >= goal.end);
        };
        learn(&mut self.commands, &extents.commands);
        learn(&mut self.acks, &extents.acks);
    }

    /// Tells `pending` which topics have been read to their end.
    pub(super) fn check(&self, pending: &mut Pending) {
        let reached = |goal: &Option<Goal>, last| {
            let goal = goal.as_ref();
            goal.is_some_and(|goal| goal.is_reached(last))
        };
        if !pending.commands().caught_up && reached(&self.commands, pending.commands().last) {
            pending.commands_caught_up();
        }
        if !pending.acks().caught_up && reached(&self.acks, pending.acks().last) {
            pending.acks_caught_up();
        }
    }
}

/// Asks the log, a limited number of questions at a time.
#[derive(Debug, Clone)]
pub(super) struct Asker(Arc<Semaphore>);

impl Asker {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ASKS_MAX)))
    }

    /// Asks what a partition holds, after `pause`.
    pub(super) async fn ask(
        self,
        control: Arc<dyn ConsumerControl>,
        partition: i32,
        pause: Duration,
    ) -> Result<Extents, LogError> {
        tokio::time::sleep(pause).await;
        let _place = self.0.acquire().await.map_err(|_| LogError::Closed)?;
        let extent = async |topic| -> Result<Extent, LogError> {
            let at = TopicPartition { topic, partition };
            // Ask for the commit first: if it is beyond the end, that is not because records came in between.
            let committed = control.committed(at).await?;
            let offsets = control.offsets_now(at).await?;
            Ok(Extent { offsets, committed })
        };
        Ok(Extents {
            commands: extent(Topic::Commands).await?,
            acks: extent(Topic::Acks).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CatchUp, Extent, Extents};
    use crate::controller::pending::Pending;

    fn extents(first: i64, end: i64, committed: Option<i64>) -> Extents {
        let extent = Extent {
            offsets: first..end,
            committed,
        };
        Extents {
            commands: extent.clone(),
            acks: extent,
        }
    }

    /// Checks whether a partition that was read up to `last` (or not at all) is ready after these answers.
    #[track_caller]
    fn check(answers: &[Extents], last: Option<i64>, expected: bool) {
        let (mut catch_up, mut pending) = (CatchUp::new(0), Pending::new(1));
        for answer in answers {
            catch_up.learn(answer);
        }
        if let Some(last) = last {
            pending.skip_command(last);
            pending.skip_ack(last);
        }
        catch_up.check(&mut pending);
        assert_eq!(pending.is_ready(), expected);
    }

    #[test]
    fn only_the_end_counts() {
        check(&[], Some(1_000), false);
        check(&[extents(0, 10, None)], None, false);
        check(&[extents(0, 10, None)], Some(8), false);
        check(&[extents(0, 10, None)], Some(9), true);
        // Later records do not move the goal.
        check(&[extents(0, 10, None), extents(0, 99, None)], Some(9), true);
    }

    #[test]
    fn what_will_never_come_is_not_waited_for() {
        check(&[extents(10, 10, None)], None, true);
        check(&[extents(0, 10, Some(10))], None, true);
        check(&[extents(0, 10, Some(9))], None, false);
        // Deleted in the meantime, in part and as a whole.
        check(&[extents(0, 10, None), extents(9, 12, None)], None, false);
        check(&[extents(0, 10, None), extents(10, 12, None)], None, true);
        // Our own commit of a later record does not count.
        check(
            &[extents(0, 10, None), extents(0, 10, Some(10))],
            None,
            false,
        );
    }
}
