//! Which slots of the store a late reading changes, where the length of slots was another one before: the rows that are
//! there keep their length, so no reading stands in two rows or in none.

use model::slot::Slot;
use model::units::{HOUR_MS, SlotLength};

/// Start of the rows to look at for [`spans`]: the longest slot that could hold `start_ms` begins here.
#[must_use]
pub const fn rows_from_ms(start_ms: i64) -> i64 {
    start_ms - start_ms.rem_euclid(HOUR_MS)
}

/// The slots to aggregate anew in place of the one of `length` at `start_ms`, each with its length, ascending: that one
/// itself, or those of the stored `rows` that cover its time. Each length divides the longer ones, so a row of another
/// length lies inside the slot, or the slot inside the row.
#[must_use]
pub fn spans(start_ms: i64, length: SlotLength, rows: &[Slot]) -> Vec<(i64, SlotLength)> {
    let end_ms = start_ms + length.ms();
    let stored: Vec<(i64, SlotLength)> = rows
        .iter()
        .filter_map(|row| Some((row.start_ms, SlotLength::new(row.slot_minutes)?)))
        .filter(|(row_ms, row)| *row_ms < end_ms && start_ms < row_ms + row.ms())
        .collect();
    if stored.contains(&(start_ms, length)) {
        return vec![(start_ms, length)];
    }
    let shortest = stored
        .iter()
        .map(|(_, row)| *row)
        .min_by_key(|row| row.ms());
    let gap = shortest.map_or(
        length,
        |row| if row.ms() < length.ms() { row } else { length },
    );
    let mut spans = Vec::new();
    let mut at_ms = start_ms;
    while at_ms < end_ms {
        let covers =
            |(row_ms, row): &&(i64, SlotLength)| (*row_ms..row_ms + row.ms()).contains(&at_ms);
        let row = stored.iter().filter(covers).max_by_key(|(_, row)| row.ms());
        let span = row.copied().unwrap_or((at_ms, gap));
        at_ms = span.0 + span.1.ms();
        spans.push(span);
    }
    spans
}
