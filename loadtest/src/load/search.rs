//! The search for the highest rate that holds: doubling until one fails, then halving the gap. Reads no clock.

/// Rates whose ratio is below this count as the same.
const CLOSE_ENOUGH: f64 = 1.1;

/// The rates tried so far, in readings per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Search {
    first: f64,
    /// Highest rate that may be tried.
    max: f64,
    held: Option<f64>,
    failed: Option<f64>,
}

impl Search {
    /// Starts at `first`, which is more than 0 and at most `max`.
    pub(super) const fn new(first: f64, max: f64) -> Self {
        Self {
            first,
            max,
            held: None,
            failed: None,
        }
    }

    /// Returns the rate to try next; nothing if the search is over.
    pub(super) fn next(&self) -> Option<f64> {
        match (self.held, self.failed) {
            (None, None) => Some(self.first),
            (Some(held), None) => (held < self.max).then(|| (2.0 * held).min(self.max)),
            (None, Some(failed)) => (failed > self.first / 16.0).then_some(failed / 2.0),
            (Some(held), Some(failed)) => {
                (failed / held > CLOSE_ENOUGH).then(|| (held * failed).sqrt())
            }
        }
    }

    /// Notes whether `rate` held.
    pub(super) fn note(&mut self, rate: f64, has_held: bool) {
        if has_held {
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        } else {
            self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the rates that are tried if everything up to `limit` holds.
    fn tried(limit: f64, max: f64) -> (Vec<f64>, Option<f64>) {
        let mut search = Search::new(1_000.0, max);
        let mut rates = Vec::new();
        while let Some(rate) = search.next() {
            assert!(rates.len() < 20, "it ends: {rates:?}");
            rates.push(rate);
            search.note(rate, rate <= limit);
        }
        (rates, search.held)
    }

    #[test]
    fn it_doubles_and_then_closes_in() {
        let (rates, held) = tried(5_000.0, 1e6);
        assert_eq!(rates[..4], [1_000.0, 2_000.0, 4_000.0, 8_000.0]);
        let held = held.expect("some rate holds");
        assert!((4_500.0..=5_000.0).contains(&held), "{held}");
    }

    #[test]
    fn it_ends_at_the_highest_rate_there_is() {
        let (rates, held) = tried(1e9, 3_000.0);
        assert_eq!(rates, [1_000.0, 2_000.0, 3_000.0]);
        assert_eq!(held, Some(3_000.0));
    }

    #[test]
    fn it_goes_down_where_the_first_rate_fails_and_gives_up() {
        let (rates, held) = tried(300.0, 1e6);
        assert_eq!(rates[..3], [1_000.0, 500.0, 250.0]);
        assert!(
            held.is_some_and(|held| (270.0..=300.0).contains(&held)),
            "{held:?}"
        );
        let (rates, held) = tried(0.0, 1e6);
        assert_eq!((rates.len(), held), (5, None));
    }
}
