//! Settings of Kafka, and the clients of librdkafka that they make.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform::log::LogError;
use platform::secret::Secret;
use platform::settings::{BadSetting, is_host_and_port};
use rdkafka::ClientConfig;
use schemas::topic::Topic;

use super::brokers::Brokers;
use super::failures::setup;
use super::producing::{Answering, WaveProducer};

/// Largest record, bytes: a whole MQTT payload as a dead letter, with room to spare.
pub(super) const RECORD_BYTES_MAX: &str = "2097152";

const WITHOUT_TLS: &str =
    "this build has neither TLS nor SCRAM for Kafka; build with the feature kafka-tls";

platform::settings! {
    /// Settings of Kafka.
    pub struct KafkaConfig {
        /// Brokers to connect to first; the cluster names the rest.
        #[expects("HOST:PORT, several with commas", are_brokers)]
        brokers: String = "127.0.0.1:9092".to_owned(),
        /// Prefix of every topic and group.
        #[expects("letters, digits, . _ and -", is_topic_text)]
        prefix: String = String::new(),
        /// Partitions of topics that `hearth init` creates. All topics of the engine need the same number.
        #[range(1..=10_000)]
        partitions: i32 = 8,
        /// Replicas of topics that `hearth init` creates.
        #[range(1..=100)]
        replication: i32 = 1,
        /// Hours that topics without compaction keep their records.
        #[range(1..=876_000)]
        retention_hours: u32 = 168,
        /// Longest wait for a record to be durable, milliseconds. After that (and a second more) the ingest spools it.
        #[range(100..=900_000)]
        delivery_timeout_ms: u32 = 10_000,
        /// Time without a heartbeat after which a consumer's partitions move, milliseconds.
        #[range(100..=1_800_000)]
        session_timeout_ms: u32 = 30_000,
        /// Protocol for the connections to brokers.
        #[expects("plaintext, ssl, sasl_plaintext or sasl_ssl", is_protocol)]
        security_protocol: String = "plaintext".to_owned(),
        /// How Hearth authenticates; empty for not at all.
        #[expects("empty, SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN", is_mechanism)]
        sasl_mechanism: String = String::new(),
        /// User name; empty for none.
        sasl_username: String = String::new(),
        /// Password of that user.
        sasl_password: Secret = Secret::default(),
        /// PEM file of the authority that signed the brokers' certificates; empty for the system's authorities.
        ca_file: String = String::new(),
        /// Other librdkafka properties, for the producer and consumers.
        properties: BTreeMap<String, String> = BTreeMap::new(),
        ; together check_together
    }
}

fn are_brokers(text: &str) -> bool {
    text.split(',')
        .all(|broker| is_host_and_port(broker.trim()))
}

fn is_topic_text(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c))
}

fn is_protocol(text: &str) -> bool {
    ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&text)
}

fn is_mechanism(text: &str) -> bool {
    ["", "SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"].contains(&text)
}

fn check_together(config: &KafkaConfig, section: &str, bad: &mut Vec<BadSetting>) {
    let mut wrong = |key, expected| bad.push(BadSetting::new(section, key, expected));
    if config.security_protocol.starts_with("sasl") && config.sasl_mechanism.is_empty() {
        wrong(
            "sasl_mechanism",
            "expected a mechanism if security_protocol has SASL",
        );
    }
    if cfg!(feature = "kafka-tls") {
        return;
    }
    if config.security_protocol.ends_with("ssl") {
        wrong("security_protocol", WITHOUT_TLS);
    }
    if config.sasl_mechanism.starts_with("SCRAM") {
        wrong("sasl_mechanism", WITHOUT_TLS);
    }
}

impl KafkaConfig {
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("security.protocol", &self.security_protocol)
            .set("reconnect.backoff.max.ms", "2000");
        if !self.sasl_mechanism.is_empty() {
            client
                .set("sasl.mechanism", &self.sasl_mechanism)
                .set("sasl.username", &self.sasl_username)
                .set("sasl.password", self.sasl_password.expose());
        }
        if !self.ca_file.is_empty() {
            client.set("ssl.ca.location", &self.ca_file);
        }
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client
    }

    pub(super) fn producer(&self, brokers: &Arc<Brokers>) -> Result<WaveProducer, LogError> {
        self.client()
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("message.max.bytes", RECORD_BYTES_MAX)
            .set("message.timeout.ms", self.delivery_timeout_ms.to_string())
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "131072")
            .create_with_context(Answering(Arc::clone(brokers)))
            .map_err(|error| setup(&error))
    }

    pub(super) fn name(&self, topic: Topic) -> String {
        format!("{}{topic}", self.prefix)
    }
}
