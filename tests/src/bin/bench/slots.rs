//! The slots that must result from the readings, and the comparison with an output topic.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Result, bail};

const SLOT_MS: i64 = 900_000;
/// Tolerance: sums in another order round differently.
const SUM_DIFFERENCE_MAX: f64 = 1e-9;
/// Most differences that a message names.
const NAMED: usize = 3;

/// One value of an output: the aggregate of a home's readings in one slot so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SlotValue {
    pub(crate) home: i64,
    pub(crate) start_ms: i64,
    pub(crate) sum: f64,
    pub(crate) count: i64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl SlotValue {
    fn key(&self) -> (i64, i64) {
        (self.home, self.start_ms)
    }

    fn equals(&self, other: &Self) -> bool {
        self.count == other.count
            && (self.sum - other.sum).abs() <= SUM_DIFFERENCE_MAX * self.sum.abs().max(1.0)
            && self.min.total_cmp(&other.min).is_eq()
            && self.max.total_cmp(&other.max).is_eq()
    }
}

/// Every slot of every home, by home and start.
#[derive(Debug, Default)]
pub(crate) struct Slots(HashMap<(i64, i64), SlotValue>);

impl Slots {
    /// Adds a reading of `home` to its slot.
    pub(crate) fn add(&mut self, home: i64, ts_ms: i64, consumption_w: f64) {
        let start_ms = ts_ms - ts_ms.rem_euclid(SLOT_MS);
        let reading = SlotValue {
            home,
            start_ms,
            sum: consumption_w,
            count: 1,
            min: consumption_w,
            max: consumption_w,
        };
        match self.0.entry(reading.key()) {
            Entry::Vacant(slot) => drop(slot.insert(reading)),
            Entry::Occupied(mut slot) => {
                let slot = slot.get_mut();
                slot.sum += reading.sum;
                slot.count += 1;
                slot.min = slot.min.min(reading.min);
                slot.max = slot.max.max(reading.max);
            }
        }
    }

    /// Compares the last of `values` for each slot with these slots: none may be missing, be more or differ.
    ///
    /// # Errors
    /// Says how many slots differ, with the first few; or returns the error of `values`.
    pub(crate) fn check(&self, values: impl IntoIterator<Item = Result<SlotValue>>) -> Result<()> {
        let mut last = HashMap::with_capacity(self.0.len());
        for value in values {
            let value = value?;
            last.insert(value.key(), value);
        }
        let mut differences = Vec::new();
        for (key, written) in &self.0 {
            match last.remove(key) {
                None => differences.push(format!("{written:?} is missing")),
                Some(found) if !found.equals(written) => {
                    differences.push(format!("{found:?} instead of {written:?}"));
                }
                Some(_) => {}
            }
        }
        differences.extend(last.values().map(|found| format!("{found:?} is no slot")));
        if differences.is_empty() {
            return Ok(());
        }
        let (count, slots) = (differences.len(), self.0.len());
        differences.truncate(NAMED);
        bail!(
            "{count} differences in {slots} slots: {}",
            differences.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: SlotValue = SlotValue {
        home: 7,
        start_ms: SLOT_MS,
        sum: 500.0,
        count: 2,
        min: 200.0,
        max: 300.0,
    };
    const SECOND: SlotValue = SlotValue {
        home: 7,
        start_ms: 2 * SLOT_MS,
        sum: 100.0,
        count: 1,
        min: 100.0,
        max: 100.0,
    };

    /// Checks whether an output of these values is right for the two slots above.
    #[track_caller]
    fn check(values: &[SlotValue], expected: bool) {
        let mut slots = Slots::default();
        slots.add(7, SLOT_MS, 300.0);
        slots.add(7, 2 * SLOT_MS - 1, 200.0);
        slots.add(7, 2 * SLOT_MS, 100.0);
        let outcome = slots.check(values.iter().copied().map(Ok));
        assert_eq!(outcome.is_ok(), expected, "{outcome:?}");
    }

    #[test]
    fn the_last_value_of_every_slot_counts() {
        let early = SlotValue { count: 1, ..FIRST };
        let no_slot = SlotValue { home: 8, ..FIRST };
        check(&[FIRST, SECOND], true);
        check(&[early, SECOND, FIRST], true);
        check(&[FIRST, SECOND, early], false);
        check(&[FIRST], false);
        check(&[FIRST, SECOND, no_slot], false);
    }

    #[test]
    fn every_number_counts() {
        let rounded = FIRST.sum + 1e-10;
        check(
            &[
                SlotValue {
                    sum: rounded,
                    ..FIRST
                },
                SECOND,
            ],
            true,
        );
        check(
            &[
                SlotValue {
                    sum: 500.1,
                    ..FIRST
                },
                SECOND,
            ],
            false,
        );
        check(
            &[
                SlotValue {
                    min: 200.1,
                    ..FIRST
                },
                SECOND,
            ],
            false,
        );
        check(
            &[
                SlotValue {
                    max: 300.1,
                    ..FIRST
                },
                SECOND,
            ],
            false,
        );
        check(
            &[
                SlotValue {
                    sum: f64::NAN,
                    ..FIRST
                },
                SECOND,
            ],
            false,
        );
    }

    #[test]
    fn an_output_that_cannot_be_read_is_none() {
        let broken = std::iter::once_with(|| bail!("not a slot"));
        assert!(Slots::default().check(broken).is_err());
    }
}
