//! The readings for all stream engines: one topic, and the slots that must result from it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::builder::RangedI64ValueParser;
use model::reading::{Measurement, Reading};
use model::units::{DAY_MS, HouseholdId};
use platform::log::partition_of;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use schemas::codec::Codec;

use crate::say::{Progress, say};
use crate::slots::Slots;

/// Homes that send, each once a minute.
pub(crate) const HOMES: u32 = 10_000;
/// Partitions of the topic.
pub(crate) const PARTITIONS: u32 = 8;
/// They start a day before the present and cover less than a day, so none is in the future.
const READINGS_MAX: u32 = 1_400 * HOMES;
const LIMIT: Duration = Duration::from_secs(60);

/// The number of readings to write, from the command line.
pub(crate) fn count_parser() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(READINGS_MAX))
}

/// Readings in a topic.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) count: u32,
    /// The slots that must result.
    pub(crate) slots: Slots,
}

impl Readings {
    /// Writes readings a minute apart, home after home, as a fleet sends them, into a topic that holds nothing.
    pub(crate) fn write(brokers: String, topic: String, count: u32) -> Result<Self> {
        say(&format!("writing {count} readings of {HOMES} homes ..."));
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "1000000")
            .set("compression.type", "lz4")
            .set("enable.idempotence", "true")
            .create()?;
        let codec = Codec::single_object();
        let start_ms = platform::clock::wall_ms() - DAY_MS;
        let (mut slots, mut progress) = (Slots::default(), Progress::start());
        for number in 0..count {
            let home = i64::from(number % HOMES + 1);
            let ts_ms = start_ms + i64::from(number / HOMES) * 60_000;
            let consumption_w = 300.0 + f64::from(number % 97);
            let reading = Reading {
                household_id: HouseholdId::new(home).context("a positive id")?,
                ts_ms,
                measurement: Measurement::Meter { consumption_w },
            };
            send_reading(&producer, &topic, &codec, &reading)?;
            slots.add(home, ts_ms, consumption_w);
            progress.say(|| format!("{number} of {count} written"));
        }
        producer.flush(LIMIT).context("deliver the readings")?;
        let readings = Self {
            brokers,
            topic,
            count,
            slots,
        };
        readings.check_ends()?;
        Ok(readings)
    }

    /// Returns a time limit for one engine over all of them, generous for a busy machine.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(240 + u64::from(self.count) / 4_000)
    }

    /// Offsets count the readings: an engine that has committed as many has read them all.
    fn check_ends(&self) -> Result<()> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create()?;
        let mut sum = 0;
        for partition in 0..i32::try_from(PARTITIONS)? {
            let (_, end) = client.fetch_watermarks(&self.topic, partition, LIMIT)?;
            sum += end;
        }
        ensure!(
            sum == i64::from(self.count),
            "{} has {sum} records",
            self.topic
        );
        Ok(())
    }
}

/// Gives a reading to the producer, for its home's partition; waits while the queue is full.
pub(crate) fn send_reading(
    producer: &BaseProducer,
    topic: &str,
    codec: &Codec,
    reading: &Reading,
) -> Result<()> {
    let (key, value) = (reading.household_id.to_string(), codec.encode(reading)?);
    let mut record = BaseRecord::to(topic)
        .key(&key)
        .payload(&value)
        .partition(partition_of(key.as_bytes(), PARTITIONS));
    while let Err((error, back)) = producer.send(record) {
        let code = error.rdkafka_error_code();
        ensure!(code == Some(RDKafkaErrorCode::QueueFull), "{error}");
        producer.poll(Duration::from_millis(20));
        record = back;
    }
    Ok(())
}
