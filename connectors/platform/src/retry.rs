//! Back-off with jitter: pauses between attempts grow up to a limit, and each is partly random, so that processes that
//! failed together do not retry together.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// How much longer each pause is than the one before, before jitter.
const FACTOR: u32 = 2;

/// The pauses of one retry loop. The n-th pause is between half and all of `min * 2^n`, at most `max`.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    /// The next pause without jitter.
    next: Duration,
    random: u64,
}

impl Backoff {
    /// Makes pauses of up to `min` at first and up to `max` in the end, different in every process. A `max` below `min`
    /// counts as `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        // The standard library's hasher has random keys.
        Self::seeded(min, max, RandomState::new().build_hasher().finish())
    }

    /// Does what [`Backoff::new`] does with a given seed. Equal seeds give equal pauses.
    #[must_use]
    pub const fn seeded(min: Duration, max: Duration, seed: u64) -> Self {
        Self {
            min,
            max,
            next: min,
            random: seed,
        }
    }

    /// Returns the pause before the next attempt. The one after it is longer.
    #[must_use]
    pub fn next_pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(FACTOR).min(self.max).max(self.min);
        let half = whole / 2;
        half.saturating_add((whole - half).mul_f64(self.draw()))
    }

    /// Notes that an attempt succeeded: the next pause is short again.
    pub const fn reset(&mut self) {
        self.next = self.min;
    }

    /// Sleeps for [`Backoff::next_pause`].
    pub async fn pause(&mut self) {
        let pause = self.next_pause();
        tokio::time::sleep(pause).await;
    }

    /// Returns a random number in `[0, 1)`, from the upper 32 bits of `SplitMix64`.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let upper = u32::try_from(bits >> 32).expect("32 bits");
        f64::from(upper) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn pauses_grow_up_to_the_limit_and_start_again_after_a_success() {
        for seed in 0..1_000 {
            let mut backoff = Backoff::seeded(MIN, MAX, seed);
            for _ in 0..2 {
                for whole_ms in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
                    let whole = Duration::from_millis(whole_ms);
                    let pause = backoff.next_pause();
                    assert!(whole / 2 <= pause && pause <= whole, "{pause:?}");
                }
                backoff.reset();
            }
        }
    }

    #[test]
    fn processes_that_fail_together_come_back_apart() {
        let first = |seed| Backoff::seeded(MIN, MAX, seed).next_pause().as_millis();
        let mut by_tenth = [0_u32; 10];
        for seed in 0..10_000 {
            let tenth = (first(seed) - 50) / 5;
            by_tenth[usize::try_from(tenth.min(9)).unwrap()] += 1;
        }
        // 1,000 each are expected, with a standard deviation of 30.
        let is_even = by_tenth.iter().all(|count| (850..1_150).contains(count));
        assert!(is_even, "{by_tenth:?}");
        assert_eq!(first(7), first(7), "equal seeds");
    }

    #[test]
    fn odd_limits_neither_panic_nor_stop_pausing() {
        let mut backoff = Backoff::new(MAX, MIN);
        assert!(backoff.next_pause() <= MAX);
        assert!(
            backoff.next_pause() >= MAX / 2,
            "a limit below the first pause"
        );
        let mut longest = Backoff::new(Duration::MAX / 2, Duration::MAX);
        for _ in 0..100 {
            assert!(longest.next_pause() >= Duration::MAX / 4);
        }
    }
}
