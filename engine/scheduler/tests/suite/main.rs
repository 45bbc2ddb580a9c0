//! The scheduler from outside: cases, refusals, properties, and real homes.

mod agreed;
mod beside;
mod cases;
mod daily;
mod emhass;
mod evcc;
mod explained;
mod extremes;
mod flows;
mod golden;
mod horizons;
mod light;
mod oracle;
mod page;
mod peaks;
mod policies;
mod properties;
mod refusals;
mod responses;
mod scales;
mod scenarios;
mod support;
mod verification;
