//! The log on Kafka: an idempotent producer with acks=all, and consumers that commit only when asked to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use schemas::topic::{Cleanup, Topic};
use tokio::time::Instant;
use tracing::{info, warn};

use platform::log::{Consumer, Log, LogError, NewRecord, Subscription};
use platform::secret::Secret;
use platform::settings::{BadSetting, is_host_and_port};

mod brokers;
mod consumer;
mod poller;
mod producing;
mod shared;

use brokers::{Asking, Brokers};
use producing::{Answering, WaveProducer};

/// Largest record, bytes: a whole MQTT payload as a dead letter, with room to spare.
const RECORD_BYTES_MAX: &str = "2097152";
const ADMIN_LIMIT: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(3);

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
    fn client(&self) -> ClientConfig {
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

    fn producer(&self, brokers: &Arc<Brokers>) -> Result<WaveProducer, LogError> {
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

    fn name(&self, topic: Topic) -> String {
        format!("{}{topic}", self.prefix)
    }
}

fn setup(error: &KafkaError) -> LogError {
    LogError::Setup(error.to_string())
}

/// The log on Kafka.
pub struct KafkaLog {
    config: KafkaConfig,
    /// Topic names with the prefix.
    names: BTreeMap<Topic, String>,
    /// Replaced after a fatal error of librdkafka.
    producer: RwLock<WaveProducer>,
    /// Held by the call whose records enter the producer's queue.
    turn: tokio::sync::Mutex<()>,
    consumers: Mutex<Vec<std::thread::JoinHandle<()>>>,
    closing: Arc<AtomicBool>,
    brokers: Arc<Brokers>,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// Checks the settings and starts the producer, which connects in the background.
    pub fn connect(config: KafkaConfig) -> Result<Self, LogError> {
        let brokers = Arc::new(Brokers::new(&config.brokers));
        let producer = config.producer(&brokers)?;
        let names = Topic::ALL.map(|topic| (topic, config.name(topic)));
        Ok(Self {
            config,
            names: names.into(),
            producer: RwLock::new(producer),
            turn: tokio::sync::Mutex::default(),
            consumers: Mutex::default(),
            closing: Arc::default(),
            brokers,
        })
    }

    fn producer(&self) -> WaveProducer {
        self.producer.read().expect("no writer panics").clone()
    }

    /// Replaces `broken` if it had a fatal error, which ends an idempotent producer for good. The new one starts a new
    /// sequence. Records that the old one had not delivered were reported as failed.
    fn replace_broken(&self, broken: &WaveProducer) -> Result<(), LogError> {
        if let Some((code, reason)) = broken.client().fatal_error() {
            warn!(%code, reason, "starting a new producer");
            let mut current = self.producer.write().expect("no writer panics");
            if current.client().fatal_error().is_some() {
                *current = self.config.producer(&self.brokers)?;
            }
        }
        Ok(())
    }

    fn admin(&self) -> Result<AdminClient<Asking>, LogError> {
        let context = Asking(Arc::clone(&self.brokers));
        let client = self.config.client().create_with_context(context);
        client.map_err(|error| setup(&error))
    }

    async fn partitions_of_topics(&self) -> Result<BTreeMap<String, usize>, LogError> {
        let producer = self.producer();
        let fetched = tokio::task::spawn_blocking(move || {
            producer
                .client()
                .fetch_metadata(None, ADMIN_LIMIT)
                .map(|metadata| {
                    let topics = metadata.topics().iter();
                    topics
                        .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
                        .collect()
                })
        });
        let fetched = fetched
            .await
            .map_err(|error| LogError::Unavailable(error.to_string()))?;
        fetched.map_err(|error| LogError::Unavailable(error.to_string()))
    }
}

/// Sorts an error of librdkafka by whether repeating helps.
fn classify(error: &KafkaError) -> LogError {
    let reason = error.to_string();
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidMessageSize,
        ) => LogError::Refused(reason),
        Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed,
        ) => LogError::Setup(reason),
        _ => LogError::Unavailable(reason),
    }
}

#[async_trait::async_trait]
impl Log for KafkaLog {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let record = NewRecord {
            topic,
            key,
            value: &value,
        };
        // librdkafka answers before that, with the reason if it gave up.
        let patience = 2 * Duration::from_millis(self.config.delivery_timeout_ms.into());
        let mut failed = self.produce_all(&[record], patience).await;
        failed.pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    fn gives_up_after(&self) -> Duration {
        // A second more for librdkafka to notice and report it.
        Duration::from_millis(u64::from(self.config.delivery_timeout_ms) + 1_000)
    }

    async fn produce_all(
        &self,
        records: &[NewRecord<'_>],
        limit: Duration,
    ) -> Vec<(usize, LogError)> {
        if self.closing.load(Ordering::Relaxed) {
            let closed = records.iter().enumerate();
            return closed.map(|(index, _)| (index, LogError::Closed)).collect();
        }
        let producer = self.producer();
        let name = |record: &NewRecord<'_>| self.names[&record.topic].as_str();
        let deadline = Instant::now() + limit;
        let (failed, unanswered) =
            producing::produce(&producer, &self.turn, records, name, deadline).await;
        if failed.is_empty() && unanswered.is_empty() {
            return Vec::new();
        }
        let replaced = self.replace_broken(&producer);
        let failed = failed
            .into_iter()
            .map(|(index, error)| (index, classify(&error)));
        let unanswered = unanswered
            .into_iter()
            .map(|index| (index, LogError::no_answer()));
        let mut all: Vec<_> = failed.chain(unanswered).collect();
        all.sort_by_key(|(index, _)| *index);
        if let Err(error) = replaced {
            warn!(%error, "there is no new producer");
        }
        all
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, LogError> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(LogError::Closed);
        }
        let closing = Arc::clone(&self.closing);
        let (consumer, thread) =
            consumer::start(&self.config, subscription, closing, &self.brokers).await?;
        let mut consumers = self.consumers.lock().expect("no holder panics");
        consumers.retain(|thread| !thread.is_finished());
        consumers.push(thread);
        Ok(consumer)
    }

    async fn init(&self) -> Result<(), LogError> {
        let there = self.partitions_of_topics().await?;
        let retention_ms = (u64::from(self.config.retention_hours) * 3_600_000).to_string();
        let names: Vec<(Topic, String)> = Topic::ALL
            .into_iter()
            .map(|topic| (topic, self.config.name(topic)))
            .collect();
        let missing = names.iter().filter(|(_, name)| !there.contains_key(name));
        let wanted: Vec<NewTopic<'_>> = missing
            .map(|(topic, name)| {
                let replication = TopicReplication::Fixed(self.config.replication);
                let new = NewTopic::new(name, self.config.partitions, replication)
                    .set("max.message.bytes", RECORD_BYTES_MAX);
                match topic.cleanup() {
                    Cleanup::Delete => new
                        .set("cleanup.policy", "delete")
                        .set("retention.ms", &retention_ms),
                    Cleanup::Compact => new.set("cleanup.policy", "compact"),
                    Cleanup::CompactDelete => new
                        .set("cleanup.policy", "compact,delete")
                        .set("retention.ms", &retention_ms),
                }
            })
            .collect();
        // librdkafka reports an empty list as an error.
        if !wanted.is_empty() {
            let options = AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT));
            let created = self.admin()?.create_topics(&wanted, &options).await;
            for made in created.map_err(|error| LogError::Unavailable(error.to_string()))? {
                match made {
                    Ok(topic) => info!(topic, "created"),
                    Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, code)) => {
                        return Err(LogError::Setup(format!("create {topic}: {code}")));
                    }
                }
            }
        }
        for (_, name) in &names {
            let wanted = usize::try_from(self.config.partitions).unwrap_or(0);
            if let Some(found) = there.get(name).filter(|found| **found != wanted) {
                let reason = format!(
                    "topic {name} has {found} partitions, log.kafka.partitions is {wanted}"
                );
                return Err(LogError::Setup(reason));
            }
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        let producer = self.producer();
        let topic = self.config.name(Topic::Telemetry);
        let asked = tokio::task::spawn_blocking(move || {
            producer
                .client()
                .fetch_metadata(Some(&topic), PING_LIMIT)
                .map(drop)
        });
        let answered = asked
            .await
            .map_err(|error| LogError::Unavailable(error.to_string()))?;
        answered.map_err(|error| LogError::Unavailable(error.to_string()))?;
        self.brokers.heard();
        Ok(())
    }

    async fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.consumers.lock().expect("no holder panics"));
        let producer = self.producer();
        let patience = Duration::from_millis(self.config.delivery_timeout_ms.into());
        let closed = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    warn!("a consumer failed");
                }
            }
            if let Err(error) = producer.flush(patience) {
                warn!(%error, "not everything was delivered");
            }
        });
        if closed.await.is_err() {
            warn!("closing Kafka failed");
        }
    }
}
