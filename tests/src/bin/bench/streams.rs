//! The engine, Kafka Streams and a bare consumer: the same readings in the same run, one after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use model::slot::HouseholdSlot;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::codec::Codec;
use schemas::topic::Topic;
use tests::harness::{
    HearthProcess, KafkaRecord, KafkaTopic, Stack, free_port, hearth_config, hearth_init,
    kafka_delete_topics, unique,
};

use crate::board::Board;
use crate::cli::Cli;
use crate::figures::Figures;
use crate::kafka_streams::{Group, Guarantee, KafkaStreams};
use crate::readings::{PARTITIONS, Readings};
use crate::say::{Progress, say};
use crate::selection::Selection;
use crate::slots::SlotValue;
use crate::usage::usage;

const EXTRA: &str = "[registry]\nurl = \"\"\n";

/// Who reads the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    ConsumeOnly,
    KafkaStreams(Guarantee),
    Engine,
}

impl Contender {
    /// In the order of a run. The engine comes last, since its store still compacts after it has ended.
    const ALL: [Self; 4] = [
        Self::ConsumeOnly,
        Self::KafkaStreams(Guarantee::ExactlyOnce),
        Self::KafkaStreams(Guarantee::AtLeastOnce),
        Self::Engine,
    ];

    /// Its name in rows.
    const fn as_str(self) -> &'static str {
        match self {
            Self::ConsumeOnly => "consume_only",
            Self::KafkaStreams(Guarantee::ExactlyOnce) => "kafka_streams_eos",
            Self::KafkaStreams(Guarantee::AtLeastOnce) => "kafka_streams_alo",
            Self::Engine => "engine",
        }
    }

    /// A ratio needs both of its sides.
    fn is_wanted(self, selection: &Selection) -> bool {
        selection.wants(self.as_str()) || selection.is_within("engine.ratio")
    }
}

/// Whether anything here is selected.
pub(crate) fn is_wanted(selection: &Selection) -> bool {
    let mut all = Contender::ALL.iter();
    all.any(|contender| contender.is_wanted(selection))
}

/// Writes the readings, then measures the selected engines. Each run measures all of them, so that a machine that gets
/// busier affects all equally.
pub(crate) async fn measure(
    stack: &Stack,
    cli: &Cli,
    board: &mut Board,
    selection: &Selection<'_>,
) -> Result<()> {
    let wanted = Contender::ALL.into_iter();
    let wanted = wanted.filter(|contender| contender.is_wanted(selection));
    let mut measured: Vec<(Contender, Vec<Figures>)> = wanted.map(|one| (one, vec![])).collect();
    let is_opponent = |one: &Contender| matches!(one, Contender::KafkaStreams(_));
    if measured.iter().any(|(contender, _)| is_opponent(contender)) {
        // If it cannot be built, fail before anything is measured.
        KafkaStreams::prepare()?;
    }
    let prefix = unique("bench-");
    hearth_init(&hearth_config(stack, &prefix, &unique("bench"), EXTRA)?).await?;
    let (brokers, topic) = (stack.kafka.brokers(), format!("{prefix}telemetry"));
    let readings = Readings::write(brokers, topic, cli.readings)?;
    for run in 1..=cli.runs {
        for (contender, figures) in &mut measured {
            let name = contender.as_str();
            say(&format!("{name}: run {run} of {} ...", cli.runs));
            let measured = match contender {
                Contender::ConsumeOnly => consume_only(&readings)?,
                Contender::KafkaStreams(guarantee) => {
                    KafkaStreams::prepare()?.run(&readings, *guarantee).await?
                }
                Contender::Engine => engine(stack, &prefix, &readings).await?,
            };
            say(&format!("  {measured}"));
            figures.push(measured);
        }
    }
    for (contender, figures) in &measured {
        add_rows(board, contender.as_str(), figures);
    }
    add_ratios(board, &measured);
    Ok(())
}

fn add_rows(board: &mut Board, name: &str, figures: &[Figures]) {
    let column = |of: fn(&Figures) -> f64| figures.iter().map(of).collect();
    let rate = column(|figures| figures.records_per_s);
    board.add(&format!("{name}.records_per_s"), "records/s", rate);
    let cpu = column(|figures| figures.cpu_s_per_million);
    board.add(&format!("{name}.cpu_s_per_million"), "s", cpu);
    let peak: Option<Vec<f64>> = figures.iter().map(|figures| figures.peak_mb).collect();
    if let Some(peak) = peak {
        board.add(&format!("{name}.peak_mb"), "MB", peak);
    }
}

/// Adds ratios of processor time within the same run, if both sides were measured: Kafka Streams to the engine, and the
/// engine to a bare consumer.
fn add_ratios(board: &mut Board, measured: &[(Contender, Vec<Figures>)]) {
    let of = |wanted| measured.iter().find(|(contender, _)| *contender == wanted);
    let Some((_, engine)) = of(Contender::Engine) else {
        return;
    };
    for (contender, figures) in measured {
        let name = format!("engine.ratio_to_{}", contender.as_str());
        let pairs = engine.iter().zip(figures);
        let pairs =
            pairs.map(|(engine, other)| (engine.cpu_s_per_million, other.cpu_s_per_million));
        let ratios = match contender {
            Contender::Engine => continue,
            Contender::ConsumeOnly => pairs.map(|(engine, other)| engine / other).collect(),
            Contender::KafkaStreams(_) => pairs.map(|(engine, other)| other / engine).collect(),
        };
        board.add(&name, "times", ratios);
    }
}

/// librdkafka alone: takes every record and looks at none.
fn consume_only(readings: &Readings) -> Result<Figures> {
    let (before_s, _) = usage(std::process::id())?;
    let begun = Instant::now();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &readings.brokers)
        .set("group.id", unique("bench-consume"))
        .set("enable.auto.commit", "false")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS)? {
        list.add_partition_offset(&readings.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (count, mut seen, mut progress) = (readings.count, 0, Progress::start());
    while seen < count {
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            message?;
            seen += 1;
            // Reading the clock for each record would affect the result.
            if seen % 4_096 != 0 {
                continue;
            }
        }
        progress.say(|| format!("{seen} of {count} read"));
        ensure!(begun.elapsed() < readings.limit(), "{seen} of {count}");
    }
    let time = begun.elapsed();
    let (after_s, _) = usage(std::process::id())?;
    Ok(Figures::new(count, time, after_s - before_s, None))
}

/// Settings for comparison with Kafka Streams: the same windows to a topic, durable state, offsets committed.
/// Rows of readings and slots are measured elsewhere. Each reading counts the same, as in the sums of Kafka Streams.
const ENGINE: &str = "store_readings = false\nstore_slots = false\npublish_slots = true\nhold_minutes = 0\n\
     tick_ms = 250\n";

/// From the start of the process until every reading's effects are durable and committed.
async fn engine(stack: &Stack, prefix: &str, readings: &Readings) -> Result<Figures> {
    let port = free_port();
    // A store of its own for each run, so that no snapshot lets it skip.
    let keyspace = unique("bench");
    let group = unique("bench-engine");
    let extra = format!(
        "{EXTRA}[http]\nlisten = \"127.0.0.1:{port}\"\n[engine]\ngroup = \"{group}\"\n{ENGINE}[operation]\nlog_filter = \"warn\"\n"
    );
    let config = hearth_config(stack, prefix, &keyspace, &extra)?;
    hearth_init(&config).await?;
    let config = config.to_str().context("a path of UTF-8")?.to_owned();
    let committed = Group::new(readings, &format!("{prefix}{group}"))?;
    let (begun, mut progress) = (Instant::now(), Progress::start());
    let engine = HearthProcess::start(&["--config", &config, "engine"], &[])?;
    let process = engine.process();
    process
        .until(readings.limit(), async || {
            let committed = committed.committed().await.unwrap_or(0);
            progress.say(|| format!("{committed} of {} committed", readings.count));
            committed >= i64::from(readings.count)
        })
        .await?;
    let time = begun.elapsed();
    let (cpu_s, peak_mb) = usage(process.pid().context("the engine runs")?)?;
    engine.terminate(Duration::from_secs(60)).await?;
    let (brokers, output) = (&readings.brokers, format!("{prefix}{}", Topic::Slots));
    let codec = Codec::single_object();
    let values = KafkaTopic::open(brokers, &output, readings.limit())?;
    let values = values.map(|record| slot_value(&codec, &record?));
    let outcome = tokio::task::block_in_place(|| readings.slots.check(values));
    outcome.context("the slots of the engine")?;
    // The next run has its own.
    kafka_delete_topics(brokers, &[&output]).await?;
    Ok(Figures::new(readings.count, time, cpu_s, Some(peak_mb)))
}

fn slot_value(codec: &Codec, record: &KafkaRecord) -> Result<SlotValue> {
    let HouseholdSlot { household_id, slot } =
        codec.decode(record.value.as_deref().unwrap_or_default())?;
    let load_w = slot.load_w;
    Ok(SlotValue {
        home: household_id.get(),
        start_ms: slot.start_ms,
        sum: load_w.sum,
        count: i64::from(load_w.count),
        min: load_w.min,
        max: load_w.max,
    })
}
