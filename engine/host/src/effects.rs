//! Carries out what households order: rows first, then records. Repeats until done, or until fenced off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use household::effect::{Effect, Refusal};
use household::windows::RAW_NUMBERS_MAX;
use model::reading::ReadingOutcome;
use model::reading::{Kind, Reading};
use model::slot::HouseholdSlot;
use model::units::HouseholdId;
use platform::log::{LogError, NewRecord};
use platform::metrics::Metrics;
use platform::store::{Row, StoreError};
use schemas::codec::Message;
use schemas::mqtt::rfc3339;
use schemas::topic::Topic;
use tracing::{error, warn};

use crate::outbox::Work;
use crate::partition::Setup;
use crate::resident::Resident;
use platform::parts::Parts;

/// Most rows in one write.
const ROWS_MAX: usize = 2_000;
/// Longest wait for records to be durable before they are produced again.
const PRODUCE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Raised when the partition is no longer ours: whoever works behind it gives up.
#[derive(Debug, Clone)]
pub struct Fence(Arc<AtomicBool>);

/// The fence was raised before the work was durable. The next owner of the partition does it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("another owner has the partition")]
pub struct Fenced;

impl Fence {
    /// A fence that is not raised yet.
    #[must_use]
    pub fn open() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Stops the work behind it, for good.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn check(&self) -> Result<(), Fenced> {
        if self.0.load(Ordering::Acquire) {
            Err(Fenced)
        } else {
            Ok(())
        }
    }
}

/// A record that waits to be produced.
#[derive(Debug)]
pub struct Outgoing {
    pub topic: Topic,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// What households order, sorted by where it goes.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Of the household that was told something last, not sorted yet.
    pub(crate) ordered: Vec<Effect>,
    pub(crate) rows: Vec<Row>,
    pub(crate) outgoing: Vec<Outgoing>,
    /// Slots to aggregate again once the rows are durable.
    pub(crate) repairs: BTreeSet<(HouseholdId, i64)>,
    /// When the log took the readings that led to all this, wall clock.
    pub(crate) readings_ms: Vec<i64>,
    /// Readings by kind and outcome.
    counts: BTreeMap<(Kind, ReadingOutcome), u64>,
}

impl Orders {
    /// Nothing but these records.
    pub(crate) fn with(outgoing: Vec<Outgoing>) -> Self {
        Self {
            outgoing,
            ..Self::default()
        }
    }

    /// Sorts what `home` has ordered. Says why it refuses the reading that it was given, where it does.
    pub(crate) fn sort(&mut self, setup: &Setup, home: &mut Resident) -> Option<String> {
        let parts = &setup.parts;
        let mut refused = None;
        let mut ordered = std::mem::take(&mut self.ordered);
        for effect in ordered.drain(..) {
            match effect {
                Effect::StoreReading(reading) if setup.rows_wait => {
                    home.wait_with_reading(reading);
                }
                Effect::StoreReading(reading) => self.rows.push(Row::Reading(reading)),
                Effect::StoreSlot { household_id, slot } => {
                    self.store_slot(setup, home, HouseholdSlot { household_id, slot });
                }
                Effect::StoreMetadata(metadata) => self.rows.push(Row::Household(metadata)),
                Effect::StoreSchedule(schedule) => self.rows.push(Row::Schedule(schedule)),
                Effect::StoreCommand(progress) => self.rows.push(Row::Command(progress)),
                Effect::RequestOptimize(request) => {
                    self.send(parts, request.household_id, request.as_ref());
                }
                Effect::SendCommand(command) => self.send(parts, command.household_id, &command),
                Effect::RaiseAlert(alert) => {
                    let kind = alert.kind.as_str();
                    parts.metrics.alerts_total.with_label_values(&[kind]).inc();
                    self.send(parts, alert.household_id, &alert);
                }
                Effect::RepairSlot {
                    household_id,
                    start_ms,
                } => {
                    self.repairs.insert((household_id, start_ms));
                }
                Effect::RefuseReading { reading, refusal } => {
                    refused = Some(why_refused(&reading, refusal, home));
                }
                Effect::CountReading { kind, outcome } => {
                    *self.counts.entry((kind, outcome)).or_default() += 1;
                }
            }
        }
        self.ordered = ordered;
        refused
    }

    fn store_slot(&mut self, setup: &Setup, home: &mut Resident, slot: HouseholdSlot) {
        setup.parts.metrics.slots_total.inc();
        if setup.publish_slots {
            self.send(&setup.parts, slot.household_id, &slot);
        }
        let HouseholdSlot { household_id, slot } = slot;
        if setup.store_slots && setup.rows_wait {
            home.wait_with_slot(slot);
        } else if setup.store_slots {
            self.rows.push(Row::Slot { household_id, slot });
        }
    }

    fn send<T: Message>(&mut self, parts: &Parts, household_id: HouseholdId, value: &T) {
        self.outgoing.extend(outgoing(parts, household_id, value));
    }

    /// Adds the readings to the process's count.
    pub(crate) fn count(&mut self, metrics: &Metrics) {
        for ((kind, outcome), count) in std::mem::take(&mut self.counts) {
            metrics.count_readings(kind, outcome, count);
        }
    }

    pub(crate) fn into_work(self) -> Work {
        Work {
            rows: self.rows,
            outgoing: self.outgoing,
            readings_ms: self.readings_ms,
            ..Work::default()
        }
    }
}

fn why_refused(reading: &Reading, refusal: Refusal, home: &Resident) -> String {
    let ts = rfc3339(reading.ts_ms);
    match refusal {
        Refusal::Late => {
            let watermark = rfc3339(home.household.watermark_ms());
            format!(
                "ts is {ts}, but the home has come to {watermark} and engine.grace_minutes are over"
            )
        }
        Refusal::Full => format!(
            "ts is {ts}, but the home holds {RAW_NUMBERS_MAX} numbers of open slots already"
        ),
    }
}

/// One record of ours, keyed by its household. `None`, with an error in the log, where a value does not fit its schema:
/// that is a fault of ours, and no reason to stop a partition.
pub fn outgoing<T: Message>(
    parts: &Parts,
    household_id: HouseholdId,
    value: &T,
) -> Option<Outgoing> {
    match parts.codec.encode(value) {
        Ok(bytes) => Some(Outgoing {
            topic: T::TOPIC,
            key: household_id.to_string().into_bytes(),
            value: bytes,
        }),
        Err(reason) => {
            error!(topic = %T::TOPIC, %household_id, %reason, "could not encode a record");
            None
        }
    }
}

/// Writes rows, as often as it takes.
pub async fn write_patiently(parts: &Parts, rows: Vec<Row>, fence: &Fence) -> Result<(), Fenced> {
    let mut rows = rows;
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS_MAX));
        write_chunk(parts, rows, fence).await?;
        rows = rest;
    }
    Ok(())
}

async fn write_chunk(parts: &Parts, rows: Vec<Row>, fence: &Fence) -> Result<(), Fenced> {
    let mut pause = PAUSE_MIN;
    loop {
        fence.check()?;
        match parts.store.write(rows.clone()).await {
            Ok(()) => return Ok(()),
            Err(reason @ StoreError::Unavailable(_)) => {
                warn!(%reason, rows_count = rows.len(), "store does not take rows, trying again");
            }
            // Going on would lose readings, so the partition waits for a person, and says so.
            Err(reason @ (StoreError::Refused(_) | StoreError::Corrupt { .. })) => {
                error!(%reason, rows_count = rows.len(), "store refuses rows");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Produces records, as often as it takes. Of a key's records in one topic the last stays the last: where one fails, those
/// behind it are produced again after it.
pub async fn produce_patiently(
    parts: &Parts,
    outgoing: Vec<Outgoing>,
    fence: &Fence,
) -> Result<(), Fenced> {
    let mut left = outgoing;
    let mut pause = PAUSE_MIN;
    while !left.is_empty() {
        fence.check()?;
        let failed = produce_once(parts, &left).await?;
        if failed.is_empty() {
            return Ok(());
        }
        left = from_failures(left, &failed);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Ok(())
}

/// Produces each record once. Answers with the places of those that are to be tried again.
async fn produce_once(parts: &Parts, outgoing: &[Outgoing]) -> Result<BTreeSet<usize>, Fenced> {
    let mut again = BTreeSet::new();
    let records = outgoing.iter().map(|record| NewRecord {
        topic: record.topic,
        key: &record.key,
        value: &record.value,
    });
    let records: Vec<NewRecord<'_>> = records.collect();
    for (place, reason) in parts.log.produce_all(&records, PRODUCE_MAX).await {
        let topic = outgoing[place].topic;
        match reason {
            LogError::Unavailable(_) => {
                warn!(%topic, %reason, "log does not take a record, trying again");
            }
            LogError::Closed => return Err(Fenced),
            LogError::Refused(_) => {
                let bytes = outgoing[place].value.len();
                error!(%topic, %reason, bytes, "log refuses a record");
                continue;
            }
            LogError::Setup(_) => error!(%topic, %reason, "log is not set up"),
        }
        again.insert(place);
    }
    Ok(again)
}

/// Of each key's records in one topic, the first that failed and all behind it.
fn from_failures(records: Vec<Outgoing>, failed: &BTreeSet<usize>) -> Vec<Outgoing> {
    let mut broken: BTreeSet<(Topic, Vec<u8>)> = BTreeSet::new();
    let numbered = records.into_iter().enumerate();
    let again = numbered.filter(|(index, record)| {
        let place = (record.topic, record.key.clone());
        if failed.contains(index) {
            broken.insert(place);
            return true;
        }
        broken.contains(&place)
    });
    again.map(|(_, record)| record).collect()
}

/// Reads through `read` until it succeeds, or the fence is raised.
pub async fn read_patiently<T, E, F>(
    what: &str,
    fence: &Fence,
    read: impl Fn() -> F,
) -> Result<T, Fenced>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = PAUSE_MIN;
    loop {
        fence.check()?;
        match read().await {
            Ok(value) => return Ok(value),
            Err(reason) => warn!(what, %reason, "cannot be read, trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Runs `work` for each of `keys`, at most `concurrency_max` at a time.
pub async fn each<K, T, F>(
    keys: impl IntoIterator<Item = K>,
    concurrency_max: usize,
    work: impl Fn(K) -> F,
) -> Result<Vec<T>, Fenced>
where
    F: Future<Output = Result<T, Fenced>>,
{
    stream::iter(keys.into_iter().map(work))
        .buffer_unordered(concurrency_max)
        .try_collect()
        .await
}
