//! Starts real Kafka, Cassandra, Mosquitto and a schema registry on free ports of this machine, runs `hearth` against
//! them, and checks results from outside, never through Hearth's own connectors.
//!
//! Tests that need the stack are `#[ignore]`d, so that a run without it counts them; `make test` runs them all.

mod ca;
mod cache;
mod cassandra;
mod collector;
mod hearth;
mod http;
mod kafka;
mod ledger;
mod mosquitto;
mod mqtt;
mod names;
mod next;
mod outside;
mod phases;
mod process;
mod registry;
mod stack;
mod traced_home;
mod waiting;
mod watchdog;

pub use ca::{Ca, CertFiles};
pub use cache::root as cache_root;
pub use cassandra::{Cassandra, CassandraFor};
pub use collector::{Collector, ReceivedSpan, tree};
pub use hearth::{
    HearthProcess, binary as hearth_binary, hearth_config, hearth_init, hearth_output,
};
pub use http::{http, metric};
pub use kafka::Kafka;
pub use ledger::Ledger;
pub use mosquitto::{BRIDGE_USER, Mosquitto};
pub use mqtt::{
    Message, MqttAccess, Subscription, mosquitto_pub, mosquitto_pub_whole, mosquitto_pub_with,
};
pub use names::{HOMES, free_port, unique, unique_home};
pub use next::next_binary;
pub use outside::{
    KafkaRecord, KafkaTopic, cql, cql_do, cql_session, decode_confluent, kafka_create_topic,
    kafka_delete_topics, kafka_produce, kafka_records,
};
pub use phases::Phases;
pub use process::Process;
pub use registry::Registry;
pub use stack::Stack;
pub use traced_home::{DEVICE_SPAN, TracedHome, put_tariff};
pub use waiting::wait_for;
pub use watchdog::folder as scratch_folder;
