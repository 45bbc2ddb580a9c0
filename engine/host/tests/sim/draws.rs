//! Numbers drawn from a seed. The same seed draws the same numbers (splitmix64).

/// A stream of draws.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In `[from, to]`.
    pub fn within(&mut self, from: i64, to: i64) -> i64 {
        let span = to.abs_diff(from) + 1;
        from + i64::try_from(self.next() % span).expect("a span of draws is small")
    }

    /// Below `count`, which is more than 0.
    pub fn index(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("a length fits");
        usize::try_from(self.next() % count).expect("below a length")
    }

    pub const fn permille(&mut self, share: u64) -> bool {
        self.next() % 1_000 < share
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// A power in W with digits behind the point, so that sums depend on their order.
    pub fn watts(&mut self) -> f64 {
        let centiwatts = i32::try_from(self.within(0, 900_000)).expect("it is in range");
        f64::from(centiwatts) / 97.0
    }
}
