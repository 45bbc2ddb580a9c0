//! The household: a pure state machine. Events in, effects out.
//! Nothing here reads a clock, does IO, or draws a random number: time and configuration are arguments.

#![warn(missing_docs)]

mod adopted;
mod alerts;
pub mod asset_problems;
pub mod assets;
mod closed_slots;
pub mod commanding;
mod drawn;
pub mod effect;
pub mod event;
pub mod household;
pub mod inputs;
pub mod invariants;
mod lasting;
mod open_slot;
mod packed;
pub mod past;
pub mod planning;
pub mod plausible;
pub mod present;
pub mod program;
mod refused;
mod remembering;
pub mod repair;
pub mod runs;
mod saved_windows;
pub mod settings;
mod slot_commands;
mod told;
pub mod unplannable;
pub mod windows;

#[cfg(test)]
mod tests;
