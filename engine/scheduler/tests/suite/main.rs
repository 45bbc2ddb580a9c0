//! The scheduler from outside: cases, refusals, properties, and real homes.

mod agreed;
mod cases;
mod explained;
mod golden;
mod horizons;
mod oracle;
mod properties;
mod refusals;
mod support;
mod verification;
