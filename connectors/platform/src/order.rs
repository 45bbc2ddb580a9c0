//! The order of writes: of two rows for one place in the store the one with the higher order holds, whichever lands last.
//!
//! An order is `epoch + sequence`, microseconds in form and compared as a number. An owner of a partition claims an epoch
//! from the store, at least [`ORDERS_PER_EPOCH`] above the one before, and may use the sequences below that count. So every
//! order of an owner lies above every order of all owners before it, however long these sleep and whatever their clocks
//! say.
//!
//! An epoch is no less than the store's own time where the store has one. That decides nothing between owners. It keeps
//! orders near the time, which stores with a CQL interface count on: Scylla refuses a timestamp more than three days
//! ahead, compaction by time windows sorts files by it, and rows of builds before epochs carry it. An owner that claims
//! more often than once in 8.4 s, on and on, runs ahead of the time by as much as it is faster; the numbers last until
//! the year 292,000.

/// Orders in one epoch: writes of one owner before it has to claim again. 2^23, which is 8.4 s in microseconds.
pub const ORDERS_PER_EPOCH: i64 = 1 << 23;

/// The first epoch of a partition lies so far ahead of the store's time, microseconds: a day. Rows of builds before
/// epochs were written by the clocks of their hosts, and lose as long as these were no further ahead.
pub const FIRST_AHEAD_US: i64 = 86_400_000_000;

/// Under this number in place of a partition's, tariffs have their epoch.
pub const TARIFFS: i32 = -1;

/// What an owner of a partition claims from the store; 0 or more, higher with each claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(i64);

impl Epoch {
    /// The epoch that a store has written down as `number`.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The epoch of the next claim after `last`, if there was one. `now_us` is the store's time in microseconds since
    /// 1970, or 0 if it has none. `None` once the numbers have come to their end.
    #[must_use]
    pub fn after(last: Option<Self>, now_us: i64) -> Option<Self> {
        let next = match last {
            None => now_us.checked_add(FIRST_AHEAD_US)?,
            Some(last) => last.0.checked_add(ORDERS_PER_EPOCH)?.max(now_us),
        };
        // The last order of an epoch is a number too.
        next.checked_add(ORDERS_PER_EPOCH)?;
        Some(Self(next))
    }

    /// The order with this sequence; `None` when the epoch has no more.
    #[must_use]
    pub fn order(self, sequence: i64) -> Option<Order> {
        (0..ORDERS_PER_EPOCH)
            .contains(&sequence)
            .then(|| Order(self.0 + sequence))
    }

    /// The order of a record that all owners write alike, by its offset in the log.
    #[must_use]
    pub const fn of_record(self, offset: i64) -> Order {
        Order(self.0.saturating_add(offset))
    }
}

/// The place of a write in the order of writes; the higher one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(i64);

impl Order {
    /// Below every write: of rows that were stored before orders were.
    pub const NONE: Self = Self(i64::MIN);

    /// The order that a store has written down as `number`.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// As a number, which is what CQL takes for a timestamp in microseconds.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_764_259_200_000_000;

    #[test]
    fn every_order_of_an_epoch_lies_above_all_of_the_one_before() {
        let first = Epoch::after(None, NOW_US).unwrap();
        assert_eq!(first.get(), NOW_US + FIRST_AHEAD_US);
        // At once, with the store's clock a year back, or a year ahead.
        for now_us in [
            NOW_US,
            NOW_US - 31_536_000_000_000,
            NOW_US + 31_536_000_000_000,
        ] {
            let second = Epoch::after(Some(first), now_us).unwrap();
            let last = first.order(ORDERS_PER_EPOCH - 1).unwrap();
            assert!(second.order(0).unwrap() > last, "{now_us}");
        }
        assert_eq!(first.order(ORDERS_PER_EPOCH), None);
        assert_eq!(first.order(-1), None);
    }

    #[test]
    fn an_epoch_follows_the_stores_time_once_that_is_ahead() {
        let last = Epoch::new(NOW_US);
        let hour_us = 3_600_000_000;
        assert_eq!(
            Epoch::after(Some(last), NOW_US + hour_us),
            Some(Epoch::new(NOW_US + hour_us))
        );
        assert_eq!(
            Epoch::after(Some(last), 0),
            Some(Epoch::new(NOW_US + ORDERS_PER_EPOCH))
        );
    }

    #[test]
    fn the_numbers_end_with_none_and_never_wrap() {
        let last = Epoch::new(i64::MAX - 2 * ORDERS_PER_EPOCH);
        let end = Epoch::after(Some(last), 0).unwrap();
        assert!(end.order(ORDERS_PER_EPOCH - 1).unwrap() > last.order(0).unwrap());
        assert_eq!(Epoch::after(Some(end), 0), None);
        assert_eq!(Epoch::after(None, i64::MAX), None);
        assert_eq!(end.of_record(i64::MAX), Order::new(i64::MAX));
    }
}
