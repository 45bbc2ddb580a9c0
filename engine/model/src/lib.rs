//! The domain model: homes, readings, slots, tariffs, problems, plans, commands.
//! Plain values. Nothing here reads a clock, does IO, or draws a random number.

#![warn(missing_docs)]

pub mod units;
pub mod zone;

pub mod asset;
pub mod metadata;
pub mod reading;
pub mod rolling;
pub mod slot;
pub mod tariff;
pub mod weather;

pub mod limits;

pub mod battery;
pub mod policy;
pub mod problem;
pub mod request;
pub mod rung;
pub mod scenario;
pub mod schedule;
pub mod signal;

pub mod command;

pub mod alert;
