//! Reproducible chance.

use model::units::HouseholdId;

/// Reproducible random numbers (splitmix64) that differ by seed and home.
#[derive(Debug)]
pub struct Draw(u64);

impl Draw {
    /// Returns the numbers of home `id` in the fleet of `seed`, from the first on.
    #[must_use]
    pub const fn new(seed: u64, id: HouseholdId) -> Self {
        Self(seed ^ id.get().unsigned_abs().wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Returns the numbers that belong to a moment of that home, UTC epoch milliseconds.
    #[must_use]
    pub const fn at(seed: u64, id: HouseholdId, moment_ms: i64) -> Self {
        // Not the step of the generator, or moments would share numbers.
        let moment = moment_ms.unsigned_abs().wrapping_mul(0xa076_1d64_78bd_642f);
        Self::new(seed ^ moment, id)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a whole number below `bound`, which must be more than 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).expect("below a 32-bit bound")
    }

    /// Returns a number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.below(1 << 24)) / f64::from(1 << 24)
    }
}
