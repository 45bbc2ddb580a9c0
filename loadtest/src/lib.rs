//! A fleet of simulated homes over MQTT, made from recorded load, PV and prices; load scenarios; the ledger of what was
//! sent. It uses Hearth only from outside: over MQTT, and over CQL for the check.

pub mod bills;
pub mod device;
pub mod draw;
pub mod fleet;
pub mod homes;
pub mod ledger;
pub mod load;
pub mod plant;

mod appliance;
mod backlog;
mod calendar;
mod ev;
mod tank;
mod unacknowledged;
