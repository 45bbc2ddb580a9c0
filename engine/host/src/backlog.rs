//! Rows that wait for the store, and how many writes are under way. Pure: no clock, no IO.
//!
//! Rows of one place wait together, and the place that has waited longest is written first, with everything it has by
//! then. While the store keeps up, a row is written at once and alone. While it does not, places wait, and each write
//! takes its share of them: the more places wait, the more of them share a write. Nothing is held back for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use model::units::HouseholdId;
use platform::store::{Place, Row};

/// Most rows in one write.
pub(crate) const WRITE_ROWS_MAX: usize = 100;
/// Most bytes in one write, but for a single row that has more.
pub(crate) const WRITE_BYTES_MAX: usize = 32 * 1024;
/// No more is taken in while so many rows wait or are being written.
const ROWS_MAX: usize = 50_000;
/// The same in bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Writes under way at first, and at most.
const WINDOW_FIRST: f64 = 16.0;
const WINDOW_MAX: f64 = 64.0;
/// A store that takes so many times its best is asked for less at a time.
const SLOW: f64 = 4.0;
/// A difference below this is no sign of anything.
const JITTER: Duration = Duration::from_millis(20);

/// Number of a push; they ascend from 1.
pub(crate) type Ticket = u64;

/// Rows by place, the place that has waited longest first.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    turns: VecDeque<Place>,
    places: HashMap<Place, VecDeque<Waiting>>,
    pushes: Ticket,
    /// Rows not written yet, by their push.
    unwritten: BTreeMap<Ticket, usize>,
    rows_count: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    row: Row,
    ticket: Ticket,
    /// Of the rows that this one has replaced.
    replaced: Vec<Ticket>,
}

/// Whose state the row is.
const fn saved_home(row: &Row) -> Option<HouseholdId> {
    match row {
        Row::Snapshot { household_id, .. } => Some(*household_id),
        Row::Reading(_)
        | Row::Asset(_)
        | Row::Slot { .. }
        | Row::Schedule(_)
        | Row::Command(_)
        | Row::CommandAnswer(_)
        | Row::Household(_)
        | Row::Tariff(_) => None,
    }
}

/// Rows to be written together, those of one place in the order in which they came.
#[derive(Debug)]
pub(crate) struct WriteBatch {
    pub(crate) rows: Vec<Row>,
    tickets: Vec<Ticket>,
    bytes: usize,
}

impl Backlog {
    /// Takes rows in. The ticket tells when all of them are written.
    pub(crate) fn push(&mut self, rows: Vec<Row>) -> Ticket {
        self.pushes += 1;
        let ticket = self.pushes;
        if !rows.is_empty() {
            self.unwritten.insert(ticket, rows.len());
        }
        for row in rows {
            let place = row.place();
            let waiting = self.places.entry(place.clone()).or_default();
            if waiting.is_empty() {
                self.turns.push_back(place);
            }
            self.rows_count += 1;
            self.bytes += row.size();
            if let Some(home) = saved_home(&row)
                && let Some(older) = waiting
                    .iter_mut()
                    .find(|held| saved_home(&held.row) == Some(home))
            {
                // A state holds all that the one before it does.
                self.bytes -= older.row.size();
                older.row = row;
                older.replaced.push(ticket);
            } else {
                waiting.push_back(Waiting {
                    row,
                    ticket,
                    replaced: Vec::new(),
                });
            }
        }
        ticket
    }

    /// Takes out what is to be written next, if `writes_max` writes share what waits.
    pub(crate) fn next(&mut self, writes_max: usize) -> Option<WriteBatch> {
        let mut batch = WriteBatch {
            rows: Vec::new(),
            tickets: Vec::new(),
            bytes: 0,
        };
        let share = self.turns.len().div_ceil(writes_max.max(1));
        for _ in 0..share {
            let Some(place) = self.turns.pop_front() else {
                break;
            };
            let waiting = self.places.get_mut(&place).expect("a place with a turn");
            while let Some(first) = waiting.front()
                && batch.has_room_for(&first.row)
            {
                batch.add(waiting.pop_front().expect("it is there"));
            }
            if waiting.is_empty() {
                self.places.remove(&place);
            } else {
                self.turns.push_front(place);
                break;
            }
        }
        (!batch.rows.is_empty()).then_some(batch)
    }

    /// A batch is written.
    pub(crate) fn written(&mut self, batch: &Receipt) {
        self.rows_count -= batch.tickets.len();
        self.bytes -= batch.bytes;
        for ticket in &batch.tickets {
            let left = self.unwritten.get_mut(ticket);
            let left = left.expect("a row is written once");
            *left -= 1;
            if *left == 0 {
                self.unwritten.remove(ticket);
            }
        }
    }

    /// Whether the rows of this push and of all before it are written.
    pub(crate) fn is_written(&self, ticket: Ticket) -> bool {
        self.unwritten
            .first_key_value()
            .is_none_or(|(oldest, _)| *oldest > ticket)
    }

    /// Whether more may be taken in.
    pub(crate) const fn has_room(&self) -> bool {
        self.rows_count < ROWS_MAX && self.bytes < BYTES_MAX
    }

    /// Whether rows wait that are not being written.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.turns.is_empty()
    }
}

/// What a batch was made of, for when it is written.
#[derive(Debug)]
pub(crate) struct Receipt {
    tickets: Vec<Ticket>,
    bytes: usize,
}

impl WriteBatch {
    /// There is always room for a first row.
    fn has_room_for(&self, row: &Row) -> bool {
        self.rows.is_empty()
            || self.rows.len() < WRITE_ROWS_MAX && self.bytes + row.size() <= WRITE_BYTES_MAX
    }

    fn add(&mut self, waiting: Waiting) {
        self.bytes += waiting.row.size();
        self.tickets.push(waiting.ticket);
        self.tickets.extend(waiting.replaced);
        self.rows.push(waiting.row);
    }

    /// The rows, and what to give back once they are written.
    pub(crate) fn split(self) -> (Vec<Row>, Receipt) {
        let receipt = Receipt {
            tickets: self.tickets,
            bytes: self.bytes,
        };
        (self.rows, receipt)
    }
}

/// How many writes may be under way: one more for each round of quick ones while rows wait, fewer when the store takes
/// much longer than at its best. More would wait in the store, where rows of a place do not come together.
#[derive(Debug)]
pub(crate) struct Window {
    limit: f64,
    best: Duration,
}

impl Window {
    pub(crate) const fn new() -> Self {
        Self {
            limit: WINDOW_FIRST,
            best: Duration::MAX,
        }
    }

    /// 1 or more.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to the largest window"
    )]
    pub(crate) const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A write took so long, while other rows waited or none did.
    pub(crate) fn observe(&mut self, latency: Duration, is_waiting: bool) {
        // The best of long ago counts for less and less: the store may have changed.
        self.best = self.best.saturating_add(self.best / 1_000).min(latency);
        if latency > self.best.mul_f64(SLOW) + JITTER {
            self.limit = (self.limit * 0.95).max(1.0);
        } else if is_waiting {
            self.limit = (self.limit + 1.0 / self.limit).min(WINDOW_MAX);
        }
    }
}

#[cfg(test)]
mod tests;
