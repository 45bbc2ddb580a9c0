//! The order of writes. Of two writes to the same row, the one with the higher order wins, whichever arrives last.
//!
//! An order is `epoch + sequence`, a number in the form of microseconds. The owner of a partition claims an epoch from
//! the store, at least [`ORDERS_PER_EPOCH`] above the previous one, and uses sequences below that count. So every order
//! of an owner is above every order of all earlier owners, however long those sleep and whatever their clocks say.
//!
//! An epoch is at least the store's own time, if the store has one. That does not matter between owners. It keeps orders
//! close to real time, which CQL stores rely on: Scylla refuses a timestamp more than three days ahead, time-window
//! compaction sorts files by it, and rows written before epochs existed carry it. An owner that keeps claiming more often
//! than once in 8.4 s gets ahead of real time. The numbers last until the year 292,000.

/// Number of orders in one epoch: how many writes an owner may make before it must claim again. 2^23, which is 8.4 s in
/// microseconds.
pub const ORDERS_PER_EPOCH: i64 = 1 << 23;

/// How far the first epoch of a partition is ahead of the store's time, microseconds: a day. Rows from before epochs
/// carry their host's clock; they lose against newer rows unless that clock was more than a day ahead.
pub const FIRST_AHEAD_US: i64 = 86_400_000_000;

/// The number under which tariffs have their epoch, in place of a partition's.
pub const TARIFFS: i32 = -1;

/// The number that an owner of a partition claims from the store; 0 or more, higher with each claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(i64);

impl Epoch {
    /// Returns the epoch that a store keeps as `number`.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Returns it as a number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Returns the epoch of the next claim after `last`, if there was one. `now_us` is the store's time in microseconds
    /// since 1970, or 0 if it has none. Returns `None` when no number is left.
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

    /// Returns the order with this sequence, or `None` if the epoch has no such sequence.
    #[must_use]
    pub fn order(self, sequence: i64) -> Option<Order> {
        (0..ORDERS_PER_EPOCH)
            .contains(&sequence)
            .then(|| Order(self.0 + sequence))
    }

    /// Returns the order of a row that every owner writes the same way, by its record's offset in the log.
    #[must_use]
    pub const fn of_record(self, offset: i64) -> Order {
        Order(self.0.saturating_add(offset))
    }
}

/// The position of a write in the order of writes; the higher one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(i64);

impl Order {
    /// Below every write: the order of rows that were stored before orders existed.
    pub const NONE: Self = Self(i64::MIN);

    /// Returns the order that a store keeps as `number`.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Returns it as a number, which CQL takes as a timestamp in microseconds.
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
        // Immediately, or with the store's clock a year back or a year ahead.
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
