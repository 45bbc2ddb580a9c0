//! The household: a pure state machine and the words that the rest of Hearth speaks.
//! Nothing here reads a clock, does IO, or draws a random number: time and configuration are arguments.

mod closed_slots;
pub mod command;
pub mod commanding;
pub mod effect;
pub mod event;
pub mod household;
pub mod invariants;
pub mod limits;
pub mod metadata;
mod open_slot;
pub mod planning;
pub mod problem;
pub mod reading;
pub mod schedule;
pub mod slot;
pub mod tariff;
pub mod units;
pub mod windows;

#[cfg(test)]
mod tests;
