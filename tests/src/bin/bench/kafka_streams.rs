//! The same slots by Kafka Streams: the application in `tests/kafka-streams`, built into the cache folder when it is
//! not there, run until it has committed every reading, and its output checked.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tests::harness::{
    KafkaRecord, KafkaTopic, Process, cache_root, kafka_create_topic, kafka_delete_topics,
    scratch_folder, unique,
};

use crate::figures::Figures;
use crate::readings::{PARTITIONS, Readings};
use crate::say::{Progress, say};
use crate::slots::SlotValue;
use crate::usage::usage;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kafka-streams");
const SCHEMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../schemas/avro/telemetry.avsc"
);
/// The best JVM options of those tried. With the JVM's defaults here (G1 and a quarter of the machine's memory) it took
/// a tenth to a quarter more processor time and more than twice the memory.
const JVM_OPTIONS: [&str; 3] = ["-XX:+UseParallelGC", "-Xms512m", "-Xmx512m"];
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Its processing guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guarantee {
    /// Exactly once, each update of a slot written through.
    ExactlyOnce,
    /// At least once, updates merged in a cache of 10 MB.
    AtLeastOnce,
}

impl Guarantee {
    /// As the application's command line has it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "eos",
            Self::AtLeastOnce => "alo",
        }
    }
}

/// The application, built.
#[derive(Debug)]
pub(crate) struct KafkaStreams {
    jars: PathBuf,
}

impl KafkaStreams {
    /// Builds it unless this state of its sources is built already.
    ///
    /// # Errors
    /// If Maven fails, or the cache folder cannot be written.
    pub(crate) fn prepare() -> Result<Self> {
        let project = Path::new(PROJECT);
        let mut hasher = DefaultHasher::new();
        hash(&project.join("pom.xml"), &mut hasher)?;
        hash(&project.join("src"), &mut hasher)?;
        let cache = cache_root()?;
        let folder = cache.join(format!("kafka-streams-{:016x}", hasher.finish()));
        // The folder gets this name only once it is complete.
        if !folder.exists() {
            say("building the Kafka Streams application (Maven) ...");
            build(project, &cache, &folder)?;
        }
        let jars = folder.join("jars").join("*");
        Ok(Self { jars })
    }

    /// One run over all readings, from the start of the process to the last commit.
    pub(crate) async fn run(&self, readings: &Readings, guarantee: Guarantee) -> Result<Figures> {
        let (brokers, input) = (readings.brokers.as_str(), readings.topic.as_str());
        let application = unique(&format!("bench-{}", guarantee.as_str()));
        let output = format!("{application}-slots");
        kafka_create_topic(brokers, &output, i32::try_from(PARTITIONS)?).await?;
        let folder = scratch_folder(&application);
        let mut command = Command::new("java");
        command
            .args(JVM_OPTIONS)
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(&self.jars)
            .arg("hearth.streams.Main")
            .args([brokers, input, &output, &application])
            .arg(folder.join("state"))
            .args([guarantee.as_str(), SCHEMA])
            .current_dir(&folder);
        let group = Group::new(readings, &application)?;
        let log = folder.join("kafka-streams.log");
        let limit = readings.limit();
        let begun = Instant::now();
        let process = Process::start(&application, command, &log)?;
        let mut progress = Progress::start();
        process
            .until(limit, async || {
                let committed = group.committed().await.unwrap_or(0);
                progress.say(|| format!("{committed} of {} committed", readings.count));
                committed >= i64::from(readings.count)
            })
            .await?;
        let elapsed = begun.elapsed();
        let (cpu_s, peak_mb) = usage(process.pid().context("Kafka Streams runs")?)?;
        let status = process.terminate(STOP_LIMIT).await?;
        ensure!(status.success(), "{status}\n{}", process.log_tail());
        let values = KafkaTopic::open(brokers, &output, limit)?;
        let values = values.map(|record| slot_value(&record?));
        let outcome = tokio::task::block_in_place(|| readings.slots.check(values));
        outcome.with_context(|| format!("the output of {application}"))?;
        // The next run should not share the broker with the compaction of this one's topics.
        let changelog = format!("{application}-slots-changelog");
        kafka_delete_topics(brokers, &[&output, &changelog]).await?;
        Ok(Figures::new(readings.count, elapsed, cpu_s, Some(peak_mb)))
    }
}

/// Takes names and contents into the hash, of a folder all that is in it.
fn hash(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    path.file_name().hash(hasher);
    if path.is_file() {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        bytes.hash(hasher);
        return Ok(());
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().try_for_each(|path| hash(path, hasher))
}

fn build(project: &Path, cache: &Path, folder: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(cache)
        .context("make a folder to build in")?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-C", "package", "-f"])
        .arg(project.join("pom.xml"))
        .arg(format!("-Dbuild.folder={}", scratch.path().display()))
        .output()
        .context("run mvn")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "mvn package: {said}");
    // If another process was first, its result stays.
    if let Err(error) = std::fs::rename(scratch.path(), folder) {
        ensure!(
            folder.exists(),
            "put {} in place: {error}",
            folder.display()
        );
    }
    Ok(())
}

/// The application's consumer group as seen from outside: a client that never joins it.
pub(crate) struct Group {
    client: Arc<BaseConsumer>,
    partitions: TopicPartitionList,
}

impl Group {
    pub(crate) fn new(readings: &Readings, group: &str) -> Result<Self> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &readings.brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            // Else a question waits for the transaction that is open.
            .set("isolation.level", "read_uncommitted")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..i32::try_from(PARTITIONS)? {
            partitions.add_partition(&readings.topic, partition);
        }
        Ok(Self {
            client: Arc::new(client),
            partitions,
        })
    }

    /// Committed offsets, all partitions together. At the topic's end that is the number of
    /// readings, which are all it holds.
    pub(crate) async fn committed(&self) -> Result<i64> {
        let (client, partitions) = (self.client.clone(), self.partitions.clone());
        let asked =
            tokio::task::spawn_blocking(move || client.committed_offsets(partitions, ANSWER_LIMIT));
        let offsets = asked.await??;
        let counts = offsets
            .elements()
            .into_iter()
            .map(|one| match one.offset() {
                Offset::Offset(offset) => offset,
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => 0,
            });
        Ok(counts.sum())
    }
}

/// A record of the output topic: [`tests/kafka-streams/README.md`](../../../kafka-streams/README.md) has its layout.
fn slot_value(record: &KafkaRecord) -> Result<SlotValue> {
    let value = record.value.as_deref().unwrap_or_default();
    let (words, []) = value.as_chunks::<8>() else {
        bail!("{} bytes", value.len());
    };
    let &[sum, count, min, max, start_ms] = words else {
        bail!("{} words", words.len());
    };
    Ok(SlotValue {
        home: record.key_text().parse().context("a home's number")?,
        start_ms: i64::from_be_bytes(start_ms),
        sum: f64::from_be_bytes(sum),
        count: i64::from_be_bytes(count),
        min: f64::from_be_bytes(min),
        max: f64::from_be_bytes(max),
    })
}
