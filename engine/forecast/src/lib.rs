//! Forecasts of a home's load and PV power, as weighted scenarios out of its own past.
//!
//! [`home::HomeForecast`] is what a home remembers: give it each slot that ends, and ask it for the slots to come. Plain
//! values: nothing here reads a clock, does IO, draws a random number, or knows time zones. The same slots in the same
//! order give the same bytes on every machine: the mathematical functions are those of the crate `libm`.

#![warn(missing_docs)]

pub mod local_time;

pub mod horizon;
pub mod scenarios;

pub mod irradiance;
pub mod sun;

pub mod plant;
pub mod pv;

pub mod profiles;

pub mod load;
pub mod young;

pub mod compete;

pub mod home;

#[cfg(test)]
mod tests;
