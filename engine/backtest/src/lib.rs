//! Backtests: recorded homes are lived through again, and what they would have paid is compared.
//!
//! A home goes on at the finest recorded resolution with a virtual clock. The contender `hearth` is the production's own
//! household and scheduler: readings in, requests solved, programs out, and a device that carries them out in each
//! recorded step. Nothing here reads a clock or draws a random number; only [`command`] does IO.

#![warn(missing_docs)]

pub mod recorded;

pub mod device;

pub mod bound;
pub mod perfect;

pub mod errors;
pub mod live;
pub mod week;

pub mod figures;
pub mod run;

mod chart;
pub mod page;

pub mod source;
pub mod sunshine;
pub mod tariffs;

pub mod layouts;

pub mod command;

#[cfg(test)]
mod tests;
