//! The log on Kafka: an idempotent producer with acks=all, and consumers that commit only when asked to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer;
use schemas::topic::{Cleanup, Topic};
use tokio::time::Instant;
use tracing::{info, warn};

use platform::log::{Consumer, Log, LogError, NewRecord, Subscription};

mod brokers;
mod config;
mod consumer;
mod failures;
mod headers;
mod poller;
mod producing;
mod shared;

pub use config::KafkaConfig;

use brokers::{Asking, Brokers};
use config::RECORD_BYTES_MAX;
use failures::{classify, setup};
use producing::WaveProducer;

const ADMIN_LIMIT: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(3);

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

#[async_trait::async_trait]
impl Log for KafkaLog {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let value = value.as_slice();
        let trace = None;
        let record = NewRecord {
            topic,
            key,
            value,
            trace,
        };
        self.produce_traced(record).await
    }

    async fn produce_traced(&self, record: NewRecord<'_>) -> Result<(), LogError> {
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
