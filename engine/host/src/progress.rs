//! Which records of a partition are still being worked on, when they end in any order. Pure.

use std::collections::BTreeSet;

/// One partition of one topic.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Offsets begun and not ended.
    open: BTreeSet<i64>,
    /// One past the highest offset begun.
    begun: i64,
    committed: i64,
}

impl Progress {
    /// The record at `offset`, which is higher than every one before, is being worked on.
    pub(crate) fn begin(&mut self, offset: i64) {
        self.open.insert(offset);
        self.begun = self.begun.max(offset + 1);
    }

    /// The record at `offset` is done.
    pub(crate) fn end(&mut self, offset: i64) {
        self.open.remove(&offset);
    }

    /// The offset before which everything is done, unless that is committed.
    pub(crate) fn to_commit(&self) -> Option<i64> {
        let next_offset = self.open.first().copied().unwrap_or(self.begun);
        (next_offset > self.committed).then_some(next_offset)
    }

    /// Everything before `next_offset` is committed.
    pub(crate) fn committed(&mut self, next_offset: i64) {
        self.committed = self.committed.max(next_offset);
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn the_oldest_that_is_open_holds_the_rest() {
        let mut progress = Progress::default();
        for offset in [7, 8, 10] {
            progress.begin(offset);
        }
        progress.committed(7);
        progress.end(10);
        progress.end(8);
        assert_eq!(progress.to_commit(), None);
        progress.end(7);
        assert_eq!(progress.to_commit(), Some(11));
        progress.committed(11);
        progress.begin(11);
        assert_eq!((progress.open_count(), progress.to_commit()), (1, None));
        progress.end(11);
        assert_eq!(progress.to_commit(), Some(12));
    }
}
