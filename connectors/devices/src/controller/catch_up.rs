//! Whether a partition has been read to the ends that `commands` and `acks` had when it was taken over. Only what the log
//! tells counts. While it does not tell, or the end does not come, it is asked again; silence means nothing.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use schemas::topic::Topic;
use tokio::sync::Semaphore;

use super::pending::Pending;
use platform::log::{ConsumerControl, LogError, TopicPartition};
use platform::retry::Backoff;

/// Partitions that are asked about at the same time.
const ASKS_MAX: usize = 4;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What the log says of one topic in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    /// What it holds.
    pub(super) offsets: Range<i64>,
    /// Where our group would go on.
    pub(super) committed: Option<i64>,
}

/// What the log says of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extents {
    pub(super) commands: Extent,
    pub(super) acks: Extent,
}

/// How far one topic must be read.
#[derive(Debug)]
struct Goal {
    /// The end that it had first.
    end: i64,
    /// Whether no record below that end will come: all are deleted, or the group has passed them.
    is_void: bool,
}

impl Goal {
    fn is_reached(&self, last: Option<i64>) -> bool {
        self.is_void || last.is_some_and(|last| last + 1 >= self.end)
    }
}

/// The way of one partition to its ends.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// Of this take-over; an answer to a question of an earlier one says nothing.
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

    /// The pause before the log is asked again.
    pub(super) fn next_pause(&mut self) -> Duration {
        self.backoff.next_pause()
    }

    /// The log has told. The ends of its first answer stay.
    pub(super) fn learn(&mut self, extents: &Extents) {
        let learn = |goal: &mut Option<Goal>, extent: &Extent| {
            let is_first = goal.is_none();
            let goal = goal.get_or_insert(Goal {
                end: extent.offsets.end,
                is_void: false,
            });
            // Later it is our own commit, which follows what was read.
            let passed = extent.committed.filter(|_| is_first);
            goal.is_void |=
                extent.offsets.start >= goal.end || passed.is_some_and(|at| at >= goal.end);
        };
        learn(&mut self.commands, &extents.commands);
        learn(&mut self.acks, &extents.acks);
    }

    /// Tells `pending` what has been read to its end.
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

/// Asks the log, so many at a time.
#[derive(Debug, Clone)]
pub(super) struct Asker(Arc<Semaphore>);

impl Asker {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ASKS_MAX)))
    }

    /// What a partition holds, asked after `pause`.
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
            // The commit first: a place beyond the end is then no place that somebody reached in between.
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

    /// Whether a partition of which nothing has been read, or records up to `last`, is ready after these answers.
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
        // What came later does not move the goal.
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
        // Our own commit of something read later says nothing.
        check(
            &[extents(0, 10, None), extents(0, 10, Some(10))],
            None,
            false,
        );
    }
}
