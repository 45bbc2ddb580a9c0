//! Reads Kafka, Cassandra and the registry with plain clients, never through Hearth's connectors.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::response::query_result::QueryRowsResult;

use super::{Stack, http};

const KAFKA_LIMIT: Duration = Duration::from_secs(30);

/// One record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaRecord {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl KafkaRecord {
    /// The key as text; empty when there is none.
    #[must_use]
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The text of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

fn headers(message: &impl Message) -> Vec<(String, Vec<u8>)> {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let pairs = headers.map(|header| {
        let value = header.value.unwrap_or_default().to_vec();
        (header.key.to_owned(), value)
    });
    pairs.collect()
}

/// Every record of a topic from its beginning to its present end, partition by partition in order of offset.
pub async fn kafka_records(
    brokers: &str,
    topic: &str,
    limit: Duration,
) -> anyhow::Result<Vec<KafkaRecord>> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_topic(&brokers, &topic, limit)).await?
}

fn read_topic(brokers: &str, topic: &str, limit: Duration) -> anyhow::Result<Vec<KafkaRecord>> {
    let read = KafkaTopic::open(brokers, topic, limit)?;
    let mut records = read.collect::<anyhow::Result<Vec<_>>>()?;
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// The records of a topic one by one, for topics too large for memory: partitions mixed, each in its order. Records of
/// aborted transactions are left out.
pub struct KafkaTopic {
    consumer: BaseConsumer,
    topic: String,
    open: BTreeSet<i32>,
    deadline: Instant,
}

impl KafkaTopic {
    /// Reads from the beginning to the present end, which must be reached before `limit` has passed.
    pub fn open(brokers: &str, topic: &str, limit: Duration) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "outside")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()?;
        let metadata = consumer
            .fetch_metadata(Some(topic), limit)
            .context("fetch metadata")?;
        let found = metadata.topics().first();
        let partitions = found.map_or(&[][..], |found| found.partitions());
        ensure!(!partitions.is_empty(), "there is no topic {topic}");
        let open: BTreeSet<i32> = partitions.iter().map(|partition| partition.id()).collect();
        let mut assignment = TopicPartitionList::new();
        for partition in &open {
            assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            open,
            deadline: Instant::now() + limit,
        })
    }
}

impl std::fmt::Debug for KafkaTopic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut topic = f.debug_struct("KafkaTopic");
        topic.field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Iterator for KafkaTopic {
    type Item = anyhow::Result<KafkaRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.open.is_empty() {
            if Instant::now() > self.deadline {
                self.open.clear();
                return Some(Err(anyhow!("read {}: too slow", self.topic)));
            }
            match self.consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(message)) => {
                    return Some(Ok(KafkaRecord {
                        partition: message.partition(),
                        offset: message.offset(),
                        timestamp_ms: message.timestamp().to_millis(),
                        key: message.key().map(<[u8]>::to_vec),
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: headers(&message),
                    }));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) => {
                    self.open.clear();
                    return Some(Err(anyhow!("read {}: {error}", self.topic)));
                }
            }
        }
        None
    }
}

/// Creates a topic with one replica.
pub async fn kafka_create_topic(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?;
    let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(KAFKA_LIMIT));
    for made in admin.create_topics([&wanted], &options).await? {
        made.map_err(|(topic, code)| anyhow::anyhow!("create topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Deletes topics; missing ones are no error.
pub async fn kafka_delete_topics(brokers: &str, topics: &[&str]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?;
    let options = AdminOptions::new().operation_timeout(Some(KAFKA_LIMIT));
    for deleted in admin.delete_topics(topics, &options).await? {
        match deleted {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((topic, code)) => bail!("delete topic {topic}: {code}"),
        }
    }
    Ok(())
}

/// Writes records (key, value) with the partitioner that other clients use; returns when all are acknowledged.
pub async fn kafka_produce(
    brokers: &str,
    topic: &str,
    records: &[(String, Vec<u8>)],
) -> anyhow::Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .create()?;
    let sent = records.iter().map(|(key, value)| {
        producer.send(FutureRecord::to(topic).key(key).payload(value), KAFKA_LIMIT)
    });
    for delivery in futures::future::join_all(sent).await {
        delivery
            .map_err(|(error, _)| error)
            .context("produce a record")?;
    }
    Ok(())
}

/// Opens a CQL session. It belongs to the runtime of the calling test.
pub async fn cql_session(stack: &Stack) -> anyhow::Result<Session> {
    let session = SessionBuilder::new()
        .known_node(stack.cassandra.contact_point())
        .build()
        .await;
    session.context("connect to Cassandra")
}

/// Returns the rows of one query, all at once: `cql(stack, "SELECT …").await?.rows::<(i64, f64)>()`.
pub async fn cql(stack: &Stack, query: &str) -> anyhow::Result<QueryRowsResult> {
    let session = cql_session(stack).await?;
    let result = session
        .query_unpaged(query, &[])
        .await
        .with_context(|| query.to_owned())?;
    Ok(result.into_rows_result()?)
}

/// A statement without rows.
pub async fn cql_do(stack: &Stack, statement: &str) -> anyhow::Result<()> {
    let session = cql_session(stack).await?;
    let result = session.query_unpaged(statement, &[]).await;
    result.map(drop).with_context(|| statement.to_owned())
}

/// Decodes a value in the Confluent wire format with the writer's schema, which the registry returns by its id.
pub async fn decode_confluent(registry_url: &str, bytes: &[u8]) -> anyhow::Result<Value> {
    let (magic, rest) = bytes.split_first().context("the value is empty")?;
    ensure!(*magic == 0, "the first byte is {magic}, not 0");
    let (id, mut datum) = rest
        .split_first_chunk::<4>()
        .context("the value has no schema id")?;
    let schema = schema(registry_url, u32::from_be_bytes(*id)).await?;
    let value = GenericDatumReader::builder(&schema)
        .build()?
        .read_value(&mut datum)?;
    ensure!(
        datum.is_empty(),
        "{} bytes stand behind the datum",
        datum.len()
    );
    Ok(value)
}

/// A schema never changes under its id, so it is asked for once.
async fn schema(registry_url: &str, id: u32) -> anyhow::Result<Schema> {
    static KNOWN: OnceLock<Mutex<HashMap<String, Schema>>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    let url = format!("{registry_url}/schemas/ids/{id}");
    if let Some(schema) = known
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&url)
    {
        return Ok(schema.clone());
    }
    let answer = http().get(&url).send().await?.error_for_status()?;
    let answer: serde_json::Value = answer.json().await?;
    let text = answer["schema"]
        .as_str()
        .context("the registry's answer holds no schema")?;
    let schema = Schema::parse_str(text)?;
    known
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(url, schema.clone());
    Ok(schema)
}
