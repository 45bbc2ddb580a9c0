//! Numbers that several parts share: limits of a search, what counts as zero, and comparisons without NaN.

/// Longest time of one search of [`crate::solve`], seconds of wall time.
pub const SEARCH_SECONDS_MAX: f64 = 10.0;

/// The relative gap of a plan about which nothing is proven.
pub const GAP_MAX: f64 = 1e6;

/// Largest error in a balance or a bound that counts as zero: kW, kWh or degrees; relative to the bound if that is above 1.
pub const TOLERANCE: f64 = 1e-9;

/// How far a content may miss a bound before the bound counts as out of reach, kWh.
pub(crate) const REACH_KWH: f64 = 1e-9;

/// Lengths below this count as zero, kWh.
pub(crate) const SLIVER_KWH: f64 = 1e-12;

/// Returns the larger of two numbers, neither of which is NaN. This is one instruction; `f64::max` checks for NaN and is
/// four.
pub(crate) const fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// Returns the smaller of two numbers, neither of which is NaN.
pub(crate) const fn smaller(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
