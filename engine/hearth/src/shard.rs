//! The actor of one partition: hosts its households, feeds them records in order, and carries out their effects.
//!
//! One message is finished, effects and all, before the next begins. An offset is committed only at a checkpoint, when
//! everything before it is durable and every household that it touched has a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, Message, WrapFuture};
use connectors::clock::wall_ms;
use connectors::log::{ConsumerControl, Record, TopicPartition};
use connectors::store::Row;
use household::command::Ack;
use household::effect::Effect;
use household::event::Event;
use household::household::{Env, Household, Settings};
use household::metadata::Metadata;
use household::reading::Reading;
use household::schedule::Schedule;
use household::slot::Slot;
use household::units::HouseholdId;
use schemas::codec::CodecError;
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::topic::Topic;
use tracing::{debug, error, info, warn};

use crate::effects::{self, Fence, Fenced, Outgoing};
use crate::lag::LagBoard;
use crate::parts::Parts;
use crate::snapshot::{self, NextOffsets};
use crate::tariffs::Tariffs;

/// Most snapshots read at once.
const RESTORES_MAX: usize = 64;

/// What every shard of an engine shares.
#[derive(Clone)]
pub struct ShardSetup {
    pub parts: Parts,
    pub settings: Settings,
    pub tariffs: Tariffs,
    pub control: Arc<dyn ConsumerControl>,
    pub lag: LagBoard,
    pub checkpoint_every: Duration,
    pub checkpoint_records_max: u64,
    pub passivate_after: Duration,
}

impl std::fmt::Debug for ShardSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardSetup").finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct Shard {
    /// Away while a message is being worked on.
    state: Option<State>,
    mailbox_max: usize,
}

#[derive(Debug)]
struct State {
    setup: ShardSetup,
    partition: i32,
    fence: Fence,
    residents: BTreeMap<HouseholdId, Resident>,
    /// First offset not handled yet, by topic.
    next_offsets: NextOffsets,
    /// The same, as committed last.
    committed: NextOffsets,
    records_since_checkpoint: u64,
    checkpointed: Instant,
}

/// A household in memory.
#[derive(Debug)]
struct Resident {
    household: Household,
    /// First offset, by topic, whose record this state has not seen.
    next_offsets: NextOffsets,
    /// Changed since its snapshot.
    dirty: bool,
    touched: Instant,
    /// The newest request, and when the record that led to it entered the log.
    asked: Option<(String, i64)>,
}

/// A record, decoded.
struct Entry {
    household_id: HouseholdId,
    offset: i64,
    timestamp_ms: i64,
    event: Event,
    /// Index of the record in its batch.
    index: usize,
}

/// Records of one topic of the shard's partition, offsets ascending.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Batch {
    pub topic: Topic,
    pub records: Vec<Record>,
}

/// The host's clock moved on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tick {
    pub now_ms: i64,
}

/// Checkpoint and stop; resolves when the partition may go to another owner.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave;

impl Shard {
    /// A shard for `partition` with no household in memory yet.
    #[must_use]
    pub fn new(setup: ShardSetup, partition: i32, fence: Fence, mailbox_max: usize) -> Self {
        Self {
            mailbox_max,
            state: Some(State {
                setup,
                partition,
                fence,
                residents: BTreeMap::new(),
                next_offsets: NextOffsets::default(),
                committed: NextOffsets::default(),
                records_since_checkpoint: 0,
                checkpointed: Instant::now(),
            }),
        }
    }

    /// Runs `work` with the state while every other message waits. A fenced shard takes nothing more.
    fn exclusively<F, W>(&mut self, work: W) -> AtomicResponse<Self, ()>
    where
        W: FnOnce(State) -> F,
        F: Future<Output = Option<State>> + 'static,
    {
        let state = self.state.take();
        let working = state.map(work);
        AtomicResponse::new(Box::pin(
            async move {
                match working {
                    Some(working) => working.await,
                    None => None,
                }
            }
            .into_actor(self)
            .map(|state, shard, _context| shard.state = state),
        ))
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(self.mailbox_max);
    }
}

impl Handler<Batch> for Shard {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, batch: Batch, _context: &mut Self::Context) -> Self::Result {
        self.exclusively(|mut state| async move {
            let done = state.batch(&batch).await;
            state.unless_fenced(done)
        })
    }
}

impl Handler<Tick> for Shard {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, tick: Tick, _context: &mut Self::Context) -> Self::Result {
        self.exclusively(move |mut state| async move {
            let done = state.tick(tick.now_ms).await;
            state.unless_fenced(done)
        })
    }
}

impl Handler<Leave> for Shard {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _leave: Leave, _context: &mut Self::Context) -> Self::Result {
        self.exclusively(|mut state| async move {
            if state.checkpoint().await.is_err() {
                warn!(
                    partition = state.partition,
                    "left behind a fence, without a checkpoint"
                );
            }
            state.forget();
            None
        })
    }
}

impl State {
    fn unless_fenced(mut self, done: Result<(), Fenced>) -> Option<Self> {
        match done {
            Ok(()) => Some(self),
            Err(Fenced) => {
                info!(partition = self.partition, "fenced off");
                self.forget();
                None
            }
        }
    }

    fn forget(&mut self) {
        let count = i64::try_from(self.residents.len()).expect("a count fits");
        self.setup.parts.metrics.live_households.sub(count);
        self.setup.lag.clear(self.partition);
        self.residents.clear();
    }

    async fn batch(&mut self, batch: &Batch) -> Result<(), Fenced> {
        let Some(last) = batch.records.last() else {
            return Ok(());
        };
        let (entries, refused) = self.decode(batch);
        effects::produce_patiently(&self.setup.parts, refused, &self.fence).await?;
        self.restore(entries.iter().map(|entry| entry.household_id))
            .await?;
        self.feed(batch, entries).await?;
        if batch.topic == Topic::Telemetry {
            let now_ms = wall_ms();
            let histogram = &self.setup.parts.metrics.reading_to_store_seconds;
            for record in &batch.records {
                histogram.observe(seconds_between(record.timestamp_ms, now_ms));
            }
        }
        self.next_offsets.advance(batch.topic, last.offset + 1);
        self.records_since_checkpoint += batch.records.len() as u64;
        let from = TopicPartition {
            topic: batch.topic,
            partition: self.partition,
        };
        let end = self.setup.control.end_offset(from);
        self.setup.lag.record(from, last, end);
        if self.records_since_checkpoint >= self.setup.checkpoint_records_max {
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Decodes the batch; what does not decode becomes a dead letter.
    fn decode(&self, batch: &Batch) -> (Vec<Entry>, Vec<Outgoing>) {
        let mut entries = Vec::with_capacity(batch.records.len());
        let mut refused = Vec::new();
        for (index, record) in batch.records.iter().enumerate() {
            // A tombstone: an operator withdrew it. There is nothing to tell the household.
            if record.value.is_empty() {
                continue;
            }
            match self.decode_event(batch.topic, &record.value) {
                Ok((household_id, event)) => {
                    let key = household_id.to_string();
                    if record.key.as_deref() == Some(key.as_bytes()) {
                        entries.push(Entry {
                            household_id,
                            offset: record.offset,
                            timestamp_ms: record.timestamp_ms,
                            event,
                            index,
                        });
                    } else {
                        let detail = format!("the record's key is not its household_id {key}");
                        let reason = Reason::HouseholdMismatch;
                        refused.extend(self.dead_letter(batch.topic, record, reason, detail));
                    }
                }
                Err(why) => {
                    let reason = Reason::Undecodable;
                    refused.extend(self.dead_letter(batch.topic, record, reason, why.to_string()));
                }
            }
        }
        (entries, refused)
    }

    fn decode_event(&self, topic: Topic, value: &[u8]) -> Result<(HouseholdId, Event), CodecError> {
        let codec = &self.setup.parts.codec;
        Ok(match topic {
            Topic::Telemetry => {
                let reading: Reading = codec.decode(value)?;
                (reading.household_id, Event::ReadingArrived(reading))
            }
            Topic::Households => {
                let metadata: Metadata = codec.decode(value)?;
                (
                    metadata.household_id,
                    Event::MetadataChanged(Arc::new(metadata)),
                )
            }
            Topic::Schedules => {
                let schedule: Schedule = codec.decode(value)?;
                (
                    schedule.household_id,
                    Event::ScheduleReady(Arc::new(schedule)),
                )
            }
            Topic::Acks => {
                let ack: Ack = codec.decode(value)?;
                (ack.household_id, Event::AckArrived(ack))
            }
            Topic::Tariffs
            | Topic::WeatherForecast
            | Topic::OptimizeRequests
            | Topic::Commands
            | Topic::DeadLetters
            | Topic::Alerts => unreachable!("a shard does not read {topic}"),
        })
    }

    fn dead_letter(
        &self,
        topic: Topic,
        record: &Record,
        reason: Reason,
        detail: String,
    ) -> Option<Outgoing> {
        let origin = TopicPartition {
            topic,
            partition: self.partition,
        };
        dead_letter(&self.setup.parts, origin, record, reason, detail)
    }

    /// Brings the households back that are not in memory: from their snapshot, or new.
    async fn restore(&mut self, ids: impl Iterator<Item = HouseholdId>) -> Result<(), Fenced> {
        let absent: BTreeSet<HouseholdId> =
            ids.filter(|id| !self.residents.contains_key(id)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let parts = &self.setup.parts;
        let fence = &self.fence;
        let partition = self.partition;
        let restored = effects::each(absent, RESTORES_MAX, |id| async move {
            let begun = Instant::now();
            let bytes =
                effects::read_patiently("snapshot", fence, || parts.store.snapshot(id)).await?;
            let resident = Resident::from_snapshot(id, partition, bytes.as_deref());
            parts
                .metrics
                .restore_seconds
                .observe(begun.elapsed().as_secs_f64());
            Ok((id, resident))
        })
        .await?;
        let count = i64::try_from(restored.len()).expect("a count fits");
        parts.metrics.live_households.add(count);
        self.residents.extend(restored);
        Ok(())
    }

    /// Hands the records to their households and carries out what they order. A record that makes its household panic
    /// is a dead letter; its home starts again from its snapshot and its stored readings, the others go on.
    async fn feed(&mut self, batch: &Batch, entries: Vec<Entry>) -> Result<(), Fenced> {
        let mut orders = Vec::new();
        for entry in entries {
            let (id, index) = (entry.household_id, entry.index);
            if self.handle(batch.topic, entry, &mut orders) {
                continue;
            }
            self.carry_out(std::mem::take(&mut orders)).await?;
            let detail = format!("household {id} failed on this record");
            let letter =
                self.dead_letter(batch.topic, &batch.records[index], Reason::Poison, detail);
            effects::produce_patiently(
                &self.setup.parts,
                letter.into_iter().collect(),
                &self.fence,
            )
            .await?;
            self.revive(id).await?;
        }
        self.carry_out(orders).await
    }

    /// False where the household panicked.
    fn handle(&mut self, topic: Topic, entry: Entry, orders: &mut Vec<Effect>) -> bool {
        let resident = self
            .residents
            .get_mut(&entry.household_id)
            .expect("every household of a batch was restored");
        if entry.offset < resident.next_offsets.get(topic) {
            debug!(household = %entry.household_id, offset = entry.offset, "seen before the snapshot");
            return true;
        }
        let answered = match &entry.event {
            Event::ScheduleReady(schedule) => Some(schedule.request_id.clone()),
            Event::ReadingArrived(_)
            | Event::MetadataChanged(_)
            | Event::AckArrived(_)
            | Event::SlotRepaired(_)
            | Event::ClockTicked { .. } => None,
        };
        let tariffs = self.setup.tariffs.current();
        let env = Env {
            settings: &self.setup.settings,
            tariffs: &tariffs,
        };
        let before = orders.len();
        resident.dirty = true;
        resident.touched = Instant::now();
        let household = &mut resident.household;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            household.handle(entry.event, &env, orders);
        }));
        if outcome.is_err() {
            orders.truncate(before);
            return false;
        }
        resident.next_offsets.advance(topic, entry.offset + 1);
        resident.watch_answer(
            &self.setup.parts,
            answered,
            entry.timestamp_ms,
            &orders[before..],
        );
        true
    }

    /// Puts a household that panicked back: its snapshot, then the stored readings of the last day over it.
    async fn revive(&mut self, id: HouseholdId) -> Result<(), Fenced> {
        error!(household = %id, partition = self.partition, "household failed, starting it again");
        let Some(failed) = self.residents.remove(&id) else {
            return Ok(());
        };
        self.setup.parts.metrics.live_households.dec();
        self.restore(std::iter::once(id)).await?;
        let next_offsets = failed.next_offsets;
        let Some(resident) = self.residents.get_mut(&id) else {
            return Ok(());
        };
        // What came between the snapshot and the failure is durable in the store, and not in the log's future.
        resident.next_offsets = next_offsets;
        resident.dirty = true;
        let from_ms = resident.household.watermark_ms() - self.setup.settings.grace_ms;
        let parts = &self.setup.parts;
        let readings = effects::read_patiently("readings", &self.fence, || {
            parts.store.readings(id, from_ms, i64::MAX)
        })
        .await?;
        let tariffs = self.setup.tariffs.current();
        let env = Env {
            settings: &self.setup.settings,
            tariffs: &tariffs,
        };
        let mut orders = Vec::new();
        let household = &mut resident.household;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for reading in readings {
                household.handle(Event::ReadingArrived(reading), &env, &mut orders);
            }
        }));
        if outcome.is_err() {
            error!(household = %id, "its stored readings make it fail, starting it empty");
            resident.household = Household::new(id);
            orders.clear();
        }
        Box::pin(self.carry_out(orders)).await
    }

    /// Makes effects durable: rows, then records, then the repairs that need the rows.
    async fn carry_out(&mut self, orders: Vec<Effect>) -> Result<(), Fenced> {
        if orders.is_empty() {
            return Ok(());
        }
        let sorted = effects::sort(&self.setup.parts, orders);
        effects::write_patiently(&self.setup.parts, sorted.rows, &self.fence).await?;
        effects::produce_patiently(&self.setup.parts, sorted.outgoing, &self.fence).await?;
        if sorted.repairs.is_empty() {
            return Ok(());
        }
        let mut orders = Vec::new();
        for (id, start_ms) in sorted.repairs {
            let slot = self.aggregate(id, start_ms).await?;
            let tariffs = self.setup.tariffs.current();
            let env = Env {
                settings: &self.setup.settings,
                tariffs: &tariffs,
            };
            if let Some(resident) = self.residents.get_mut(&id) {
                resident.dirty = true;
                resident
                    .household
                    .handle(Event::SlotRepaired(slot), &env, &mut orders);
            }
        }
        Box::pin(self.carry_out(orders)).await
    }

    async fn aggregate(&self, id: HouseholdId, start_ms: i64) -> Result<Slot, Fenced> {
        let length = self.setup.settings.slot;
        let store = &self.setup.parts.store;
        let readings = effects::read_patiently("readings", &self.fence, || {
            store.readings(id, start_ms, start_ms + length.ms())
        })
        .await?;
        Ok(Slot::of(start_ms, length.minutes(), &readings))
    }

    async fn tick(&mut self, now_ms: i64) -> Result<(), Fenced> {
        let tariffs = self.setup.tariffs.current();
        let env = Env {
            settings: &self.setup.settings,
            tariffs: &tariffs,
        };
        let mut orders = Vec::new();
        let mut failed = Vec::new();
        for (id, resident) in &mut self.residents {
            let before = orders.len();
            let household = &mut resident.household;
            let event = Event::ClockTicked { now_ms };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                household.handle(event, &env, &mut orders);
            }));
            if outcome.is_err() {
                orders.truncate(before);
                failed.push(*id);
            } else if orders.len() > before {
                resident.dirty = true;
                resident.watch_answer(&self.setup.parts, None, wall_ms(), &orders[before..]);
            }
        }
        self.carry_out(orders).await?;
        for id in failed {
            self.revive(id).await?;
        }
        self.report_health(now_ms);
        if self.checkpointed.elapsed() >= self.setup.checkpoint_every {
            self.checkpoint().await?;
        }
        Ok(())
    }

    fn report_health(&self, now_ms: i64) {
        let residents = self.residents.values();
        let settings = &self.setup.settings;
        let stale = residents
            .clone()
            .filter(|home| home.household.is_stale(now_ms, settings));
        let unplanned = residents
            .clone()
            .filter(|home| home.household.has_metadata() && !home.household.is_planned(now_ms));
        self.setup
            .lag
            .health(self.partition, stale.count(), unplanned.count());
    }

    /// Snapshots what changed, then commits everything that was handled. Homes without traffic leave memory.
    async fn checkpoint(&mut self) -> Result<(), Fenced> {
        let mut rows = Vec::new();
        for (id, resident) in &self.residents {
            if resident.dirty {
                let state =
                    snapshot::encode(self.partition, &resident.next_offsets, &resident.household);
                rows.push(Row::Snapshot {
                    household_id: *id,
                    state,
                });
            }
        }
        let (homes_count, begun) = (rows.len(), Instant::now());
        effects::write_patiently(&self.setup.parts, rows, &self.fence).await?;
        for resident in self.residents.values_mut() {
            resident.dirty = false;
        }
        self.commit().await?;
        let passivate_after = self.setup.passivate_after;
        let before = self.residents.len();
        self.residents
            .retain(|_, resident| resident.touched.elapsed() < passivate_after);
        let gone = i64::try_from(before - self.residents.len()).expect("a count fits");
        self.setup.parts.metrics.live_households.sub(gone);
        self.records_since_checkpoint = 0;
        self.checkpointed = Instant::now();
        debug!(partition = self.partition, homes_count, elapsed = ?begun.elapsed(), "checkpoint");
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Fenced> {
        if self.next_offsets == self.committed {
            return Ok(());
        }
        let partition = self.partition;
        let offsets = self
            .next_offsets
            .iter()
            .map(|(topic, offset)| (TopicPartition { topic, partition }, offset))
            .collect();
        match self.setup.control.commit(offsets).await {
            Ok(()) => self.committed = self.next_offsets,
            // The next checkpoint commits again; until then a restart reads a little more.
            Err(reason) if reason.is_retryable() => warn!(partition, %reason, "commit later"),
            Err(reason) => {
                warn!(partition, %reason, "partition is no longer ours");
                return Err(Fenced);
            }
        }
        Ok(())
    }
}

impl Resident {
    fn from_snapshot(id: HouseholdId, partition: i32, bytes: Option<&[u8]>) -> Self {
        let restored = bytes.and_then(|bytes| match snapshot::decode(bytes, partition) {
            Ok(state) => Some(state),
            Err(reason) => {
                error!(household = %id, %reason, "snapshot is unusable, starting the home empty");
                None
            }
        });
        let (next_offsets, household) =
            restored.unwrap_or_else(|| (NextOffsets::default(), Household::new(id)));
        Self {
            household,
            next_offsets,
            dirty: false,
            touched: Instant::now(),
            asked: None,
        }
    }

    /// Measures the way from a reading to the command that came of it.
    fn watch_answer(
        &mut self,
        parts: &Parts,
        answered: Option<String>,
        timestamp_ms: i64,
        orders: &[Effect],
    ) {
        for order in orders {
            if let Effect::RequestOptimize(request) = order {
                self.asked = Some((request.request_id.clone(), timestamp_ms));
            }
        }
        let sent = orders
            .iter()
            .any(|order| matches!(order, Effect::SendCommand(_)));
        if let (Some(answered), Some((asked, asked_ms))) = (answered, &self.asked)
            && sent
            && *asked == answered
        {
            let seconds = seconds_between(*asked_ms, wall_ms());
            parts.metrics.reading_to_command_seconds.observe(seconds);
        }
    }
}

/// A dead letter for a record of the log, counted.
pub fn dead_letter(
    parts: &Parts,
    origin: TopicPartition,
    record: &Record,
    reason: Reason,
    detail: String,
) -> Option<Outgoing> {
    let TopicPartition { topic, partition } = origin;
    parts
        .metrics
        .dead_letters_total
        .with_label_values(&[reason.as_str()])
        .inc();
    warn!(%topic, partition, offset = record.offset, reason = reason.as_str(), detail, "dead letter");
    let letter = DeadLetter {
        source: topic.to_string(),
        partition: Some(partition),
        offset: Some(record.offset),
        reason,
        detail,
        refused_ms: wall_ms(),
        payload_bytes: i64::try_from(record.value.len()).expect("a record's length fits"),
        payload: record.value.to_vec(),
    };
    match parts.codec.encode(&letter) {
        Ok(value) => Some(Outgoing {
            topic: Topic::DeadLetters,
            key: record.key.as_deref().unwrap_or_default().to_vec(),
            value,
        }),
        Err(reason) => {
            error!(%topic, partition, offset = record.offset, %reason, "could not encode a dead letter");
            None
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a span of milliseconds")]
fn seconds_between(from_ms: i64, to_ms: i64) -> f64 {
    (to_ms - from_ms).max(0) as f64 / 1e3
}
