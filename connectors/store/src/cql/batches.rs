//! Packs the rows of a write into batches. Pure.
//!
//! A request costs a node far more than a row in it. Partitions may share a batch, unlogged, if the same replicas hold
//! them: then the node that is asked passes on no row that it does not hold itself.

use std::collections::BTreeMap;

use super::rows::{Cell, Grouped, size_of};
use super::statements::Insert;

/// Who holds a partition: hosts and their shards, ascending.
pub(super) type Replicas = Vec<(u128, u32)>;

/// Of one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows_max: usize,
    pub(super) partitions_max: usize,
    /// A row that has more goes alone.
    pub(super) bytes_max: usize,
}

/// Rows sent together, each with its statement.
#[derive(Debug, Default)]
pub(super) struct RowBatch {
    pub(super) inserts: Vec<Insert>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A batch that takes more rows.
#[derive(Debug, Default)]
struct Open {
    batch: RowBatch,
    partitions_count: usize,
    bytes: usize,
}

/// Packs `grouped` within `limits`. `replicas` tells who holds a partition, by one of its rows; it is asked only if there
/// is more than one partition.
pub(super) fn batches(
    grouped: Grouped,
    limits: Limits,
    replicas: impl Fn(Insert, &[Cell]) -> Replicas,
) -> Vec<RowBatch> {
    let is_alone = grouped.len() == 1;
    let mut full = Vec::new();
    let mut open: BTreeMap<Replicas, Open> = BTreeMap::new();
    for rows in grouped.into_values() {
        let Some(((insert, _), cells)) = rows.first_key_value() else {
            continue;
        };
        let held_by = if is_alone {
            Replicas::new()
        } else {
            replicas(*insert, cells)
        };
        let open = open.entry(held_by).or_default();
        if open.partitions_count >= limits.partitions_max {
            full.push(open.close());
        }
        open.partitions_count += 1;
        for ((insert, _), cells) in rows {
            let size = size_of(&cells);
            let rows_count = open.batch.rows.len();
            if rows_count > 0
                && (rows_count >= limits.rows_max || open.bytes + size > limits.bytes_max)
            {
                full.push(open.close());
                open.partitions_count = 1;
            }
            open.bytes += size;
            open.batch.inserts.push(insert);
            open.batch.rows.push(cells);
        }
    }
    full.extend(open.into_values().map(|open| open.batch));
    full
}

impl Open {
    fn close(&mut self) -> RowBatch {
        std::mem::take(self).batch
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use scylla::value::CqlValue;

    use super::super::rows::PartitionKey;
    use super::*;

    const LIMITS: Limits = Limits {
        rows_max: 10,
        partitions_max: 3,
        bytes_max: 400,
    };

    fn number(value: i64) -> Cell {
        Cell::Set(CqlValue::BigInt(value))
    }

    fn home(row: &[Cell]) -> i64 {
        let Cell::Set(CqlValue::BigInt(home)) = &row[0] else {
            unreachable!("{row:?}")
        };
        *home
    }

    /// Homes by number, each with so many rows.
    fn grouped(homes: &[usize]) -> Grouped {
        let homes = homes.iter().zip(1..).filter(|(rows, _)| **rows > 0);
        let rows = |home: i64, count: usize| {
            let row = |ts| {
                (
                    (Insert::Meter, (ts, String::new())),
                    vec![number(home), number(ts)],
                )
            };
            (0..).take(count).map(row).collect()
        };
        homes
            .map(|(count, home)| (PartitionKey::HomeDay(home, 0), rows(home, *count)))
            .collect()
    }

    fn homes(batches: &[RowBatch]) -> Vec<Vec<i64>> {
        let of = |batch: &RowBatch| batch.rows.iter().map(|row| home(row)).collect();
        batches.iter().map(of).collect()
    }

    #[test]
    fn partitions_share_a_batch_if_the_same_nodes_hold_them() {
        let odd_and_even =
            |_: Insert, row: &[Cell]| vec![(u128::from(home(row).unsigned_abs()) % 2, 0)];
        let packed = batches(grouped(&[1, 2, 1, 1, 1]), LIMITS, odd_and_even);
        assert_eq!(homes(&packed), [vec![2, 2, 4], vec![1, 3, 5]]);
    }

    #[test]
    fn one_partition_needs_no_look_at_the_cluster() {
        let packed = batches(grouped(&[0, 2]), LIMITS, |_, _| unreachable!());
        assert_eq!(homes(&packed), [[2, 2]]);
    }

    proptest! {
        #[test]
        fn every_row_is_sent_once_within_the_limits(
            counts in prop::collection::vec(0..30_usize, 0..12),
            nodes in 1..4_u128,
        ) {
            let held_by = |row: &[Cell]| vec![(u128::from(home(row).unsigned_abs()) % nodes, 0)];
            let packed = batches(grouped(&counts), LIMITS, |_, row| held_by(row));
            let mut sent = vec![0; counts.len()];
            for batch in &packed {
                prop_assert_eq!(batch.inserts.len(), batch.rows.len());
                prop_assert!((1..=LIMITS.rows_max).contains(&batch.rows.len()));
                prop_assert!(batch.rows.iter().map(|row| size_of(row)).sum::<usize>() <= LIMITS.bytes_max);
                let partitions: BTreeSet<i64> = batch.rows.iter().map(|row| home(row)).collect();
                prop_assert!(partitions.len() <= LIMITS.partitions_max);
                let nodes: BTreeSet<Replicas> = batch.rows.iter().map(|row| held_by(row)).collect();
                prop_assert_eq!(nodes.len(), 1);
                for row in &batch.rows {
                    sent[usize::try_from(home(row) - 1).unwrap()] += 1;
                }
            }
            prop_assert_eq!(sent, counts);
        }
    }

    #[test]
    fn a_row_beyond_the_limit_of_bytes_goes_alone() {
        let limits = Limits {
            bytes_max: 20,
            ..LIMITS
        };
        let packed = batches(grouped(&[2, 1]), limits, |_, _| Replicas::new());
        assert_eq!(homes(&packed), [[1], [1], [2]]);
    }
}
