//! A fleet of simulated homes over MQTT, made of real load, PV and prices; scenarios; the ledger of what was sent.
//! It knows Hearth from outside only: MQTT, and for the check CQL.

pub mod device;
pub mod fleet;
pub mod homes;
pub mod ledger;
pub mod load;
mod outbox;
