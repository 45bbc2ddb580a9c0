//! Numbers that several parts share: limits of a search, what counts as zero, and comparisons without NaN.

/// Longest time that [`crate::solve`] gives one search, seconds of wall time.
pub const SEARCH_SECONDS_MAX: f64 = 10.0;

/// The gap of a plan of which nothing is proven.
pub const GAP_MAX: f64 = 1e6;

/// What counts as zero in a balance or a bound: kW, kWh or degrees, relative to the bound where that is above 1.
pub const TOLERANCE: f64 = 1e-9;

/// By how much a content may miss a bound before that counts as out of reach, kWh.
pub(crate) const REACH_KWH: f64 = 1e-9;

/// Lengths below this are nothing, kWh.
pub(crate) const SLIVER_KWH: f64 = 1e-12;

/// The larger of two numbers that are none of them NaN. One instruction, where `f64::max`, which looks for NaN, is four.
pub(crate) const fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The smaller one, likewise.
pub(crate) const fn smaller(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
