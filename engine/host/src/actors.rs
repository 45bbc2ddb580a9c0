//! The household actors of a partition: hands them events, and hands on what they want done.
//!
//! A home that panics is left as it is and noted among the failures. Until it has been revived it is told nothing; its
//! records count as seen, and its revival reads them again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use household::effect::Effect;
use household::event::Event;
use household::household::Env;
use household::repair;
use model::slot::Slot;
use model::units::{HouseholdId, SlotLength};
use platform::clock::wall_ms;
use platform::log::{Record, TopicPartition};
use platform::trace::{Caller, Span, SpanKind, Tracer};
use schemas::dead_letter::Reason;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::assignment::Assignment;
use crate::checkpoint::Checkpoint;
use crate::dead_letter::dead_letter;
use crate::decode::HomeEvent;
use crate::deliver::{each, read_patiently};
use crate::effects::{EffectBatch, Refused};
use crate::failures::{Cause, Failures};
use crate::fence::{Fence, Fenced};
use crate::homes::Homes;
use crate::outbox::{Bounds, Outbox};
use crate::ownership::Ownership;
use crate::setup::Setup;
use crate::tariffs::ByName;
use crate::traced;

/// Most slots read at once.
const READS_MAX: usize = 64;

/// The actors, and how far what they do is durable.
#[derive(Debug)]
pub(crate) struct Actors {
    pub(crate) assignment: Assignment,
    pub(crate) outbox: Outbox,
    pub(crate) homes: Homes,
    pub(crate) checkpoint: Checkpoint,
}

/// What is the same for all events of one turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) tariffs: Arc<ByName>,
    pub(crate) now: Instant,
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    Record(TopicPartition, &'a Record),
    /// A slot that was aggregated again.
    Repair,
    /// The clock.
    Tick,
}

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Handled,
    /// The home panicked, and is half changed.
    Panicked,
}

impl Actors {
    /// No home in memory yet. Must be called inside a tokio runtime.
    pub(crate) fn new(setup: Setup, partition: i32, fence: Fence) -> Self {
        let context = &setup.context;
        let ownership = Ownership::new(
            Arc::clone(&context.store),
            Arc::clone(&setup.control),
            partition,
            fence.clone(),
        );
        Self {
            outbox: Outbox::open(
                context.clone(),
                ownership.clone(),
                fence.clone(),
                Bounds {
                    longest: setup.outbox_longest(),
                    records_max: setup.checkpoint_records_max,
                },
            ),
            homes: Homes::new(context.metrics.clone()),
            checkpoint: Checkpoint::new(Instant::now()),
            assignment: Assignment {
                setup,
                partition,
                fence,
                ownership,
            },
        }
    }

    /// A turn that begins now.
    pub(crate) fn turn(&self) -> Turn {
        Turn {
            tariffs: self.assignment.setup.tariffs.current(),
            now: Instant::now(),
        }
    }

    /// Hands records to their homes, which are in memory. A record that has made its home panic too often becomes a dead
    /// letter.
    pub(crate) fn feed(
        &mut self,
        turn: &Turn,
        from: TopicPartition,
        records: &[Record],
        events: Vec<HomeEvent>,
        batch: &mut EffectBatch,
        failures: &mut Failures,
    ) {
        for HomeEvent {
            household_id: id,
            event,
            index,
        } in events
        {
            let record = &records[index];
            let cause = Cause::Record(from.topic, record.offset);
            if failures.has_failed(id) {
                self.count_as_seen(id, from, record);
            } else if failures.is_poison(id, cause) {
                self.count_as_seen(id, from, record);
                let detail = format!("household {id} failed twice on this record");
                let context = &self.assignment.setup.context;
                let letter = dead_letter(context, from, record, Reason::Poison, detail);
                batch.outgoing.extend(letter);
            } else if self.apply(turn, id, event, Origin::Record(from, record), batch)
                == Outcome::Panicked
            {
                self.count_as_seen(id, from, record);
                failures.note(id, cause);
            }
        }
    }

    fn count_as_seen(&mut self, id: HouseholdId, from: TopicPartition, record: &Record) {
        if let Some(home) = self.homes.residents.get_mut(&id) {
            home.next_offsets.advance(from.topic, record.offset + 1);
        }
    }

    /// Tells a home, which is in memory, what has happened. Its effects go into `batch`.
    pub(crate) fn apply(
        &mut self,
        turn: &Turn,
        id: HouseholdId,
        event: Event,
        origin: Origin<'_>,
        batch: &mut EffectBatch,
    ) -> Outcome {
        let (setup, checkpoint) = (&self.assignment.setup, &mut self.checkpoint);
        let home = self.homes.residents.get_mut(&id);
        let home = home.expect("a home that is told something is in memory");
        match origin {
            Origin::Record(from, record) => {
                if record.offset < home.next_offsets.get(from.topic) {
                    debug!(household = %id, record.offset, "seen before the snapshot");
                    return Outcome::Handled;
                }
                home.touched = turn.now;
                home.change(&mut checkpoint.unsaved, &checkpoint.next_offsets, turn.now);
            }
            Origin::Repair => {
                home.change(&mut checkpoint.unsaved, &checkpoint.next_offsets, turn.now);
            }
            // Most ticks change nothing that is worth a snapshot.
            Origin::Tick => {}
        }
        let answered = match &event {
            Event::ScheduleReady(schedule) => Some(schedule.request_id.clone()),
            Event::ReadingArrived(_)
            | Event::AssetRead(_)
            | Event::MetadataChanged(_)
            | Event::AckArrived(_)
            | Event::SlotRepaired(_)
            | Event::ClockTicked { .. } => None,
        };
        let env = Env {
            settings: &setup.settings,
            tariffs: &turn.tariffs,
            now_ms: Some(setup.context.clock.now_ms()),
        };
        let (household, handle, fresh) = (&mut home.household, setup.handle, &mut batch.fresh);
        let mut span = origin.span(&setup.context.tracer, id);
        let entered = span.enter();
        let outcome = catch_unwind(AssertUnwindSafe(|| handle(household, event, &env, fresh)));
        drop(entered);
        if outcome.is_err() {
            fresh.clear();
            span.fail("the home panicked");
            let failures = &setup.context.metrics.household_failures_total;
            failures.with_label_values(&[origin.as_str()]).inc();
            home.failed_ticks_count += u32::from(matches!(origin, Origin::Tick));
            return Outcome::Panicked;
        }
        match origin {
            Origin::Record(from, record) => {
                home.next_offsets.advance(from.topic, record.offset + 1);
                home.failed_ticks_count = 0;
            }
            Origin::Tick => home.failed_ticks_count = 0,
            Origin::Repair => {}
        }
        if fresh.is_empty() {
            return Outcome::Handled;
        }
        home.change(&mut checkpoint.unsaved, &checkpoint.next_offsets, turn.now);
        home.watch_answer(
            &setup.context,
            answered.as_deref(),
            origin.since_ms(),
            fresh,
        );
        if !span.is_recorded() {
            span = origin.own_trace(&setup.context.tracer, id, &batch.fresh);
        }
        traced::describe(&mut span, &batch.fresh);
        let refused = batch.route(setup, home, &span);
        if let (Some(refused), Origin::Record(from, record)) = (refused, origin) {
            let Refused { reason, detail } = refused;
            let entered = span.enter();
            let letter = dead_letter(&setup.context, from, record, reason, detail);
            drop(entered);
            batch.outgoing.extend(letter);
        }
        Outcome::Handled
    }

    /// Hands effects to the outbox. Slots that need the store are aggregated once it has what they need.
    pub(crate) async fn carry_out(
        &mut self,
        turn: &Turn,
        mut batch: EffectBatch,
        failures: &mut Failures,
    ) -> Result<(), Fenced> {
        loop {
            batch.count(&self.assignment.setup.context.metrics);
            let repairs = std::mem::take(&mut batch.repairs);
            self.outbox.send(batch.into_delivery()).await?;
            if repairs.is_empty() {
                return Ok(());
            }
            self.outbox.settled().await?;
            let this = &*self;
            let aggregate = |(id, start_ms)| async move {
                let slots = this.aggregate(id, start_ms).await?;
                Ok(slots.into_iter().map(|slot| (id, slot)).collect::<Vec<_>>())
            };
            let mut slots = each(repairs, READS_MAX, aggregate).await?.concat();
            slots.sort_by_key(|(id, slot)| (*id, slot.start_ms));
            // A row of a greater length is aggregated for each slot that lies in it.
            slots.dedup_by_key(|(id, slot)| (*id, slot.start_ms));
            batch = EffectBatch::default();
            for (id, slot) in slots {
                self.repair(turn, id, slot, &mut batch, failures);
            }
        }
    }

    fn repair(
        &mut self,
        turn: &Turn,
        id: HouseholdId,
        slot: Slot,
        batch: &mut EffectBatch,
        failures: &mut Failures,
    ) {
        let cause = Cause::Repair(slot.start_ms);
        if failures.has_failed(id) {
            // Its revival reads the late reading again, which asks for the repair again.
            return;
        }
        if failures.is_poison(id, cause) {
            let start_ms = slot.start_ms;
            error!(household = %id, start_ms, "household failed twice on this slot, which stays as it was");
            return;
        }
        let event = Event::SlotRepaired(slot);
        if self.apply(turn, id, event, Origin::Repair, batch) == Outcome::Panicked {
            failures.note(id, cause);
        }
    }

    /// The slot at `start_ms` from its stored readings, or what rows of another length there are of its time.
    async fn aggregate(&self, id: HouseholdId, start_ms: i64) -> Result<Vec<Slot>, Fenced> {
        let Assignment { setup, fence, .. } = &self.assignment;
        let (settings, store) = (&setup.settings, &setup.context.store);
        let (length, hold_ms) = (settings.slot, settings.hold_ms);
        let rows = read_patiently("slots", fence, || {
            let from_ms = repair::rows_from_ms(start_ms);
            store.slots(id, from_ms, start_ms + length.ms())
        })
        .await?;
        let spans = repair::spans(start_ms, length, &rows);
        let (Some((first_ms, _)), Some((last_ms, last))) = (spans.first(), spans.last()) else {
            return Ok(Vec::new());
        };
        // What came before holds on into the slot.
        let readings = read_patiently("readings", fence, || {
            store.readings(id, first_ms - hold_ms, last_ms + last.ms())
        })
        .await?;
        let slot = |(start_ms, length): &(i64, SlotLength)| {
            let end_ms = start_ms + length.ms();
            let counting = readings.iter().filter(|read| read.ts_ms < end_ms);
            let timed = counting.map(|read| (read.ts_ms, read.measurement));
            Slot::of(*start_ms, length.minutes(), hold_ms, i64::MAX, timed)
        };
        Ok(spans.iter().map(slot).collect())
    }

    /// Saves the `count` homes that changed first.
    pub(crate) async fn save(&mut self, count: usize) -> Result<(), Fenced> {
        let partition = self.assignment.partition;
        let residents = &mut self.homes.residents;
        self.checkpoint
            .save(count, partition, residents, &mut self.outbox)
            .await
    }

    /// Commits what has become durable.
    pub(crate) async fn commit(&mut self) -> Result<(), Fenced> {
        self.checkpoint.commit(&self.assignment, &self.outbox).await
    }
}

impl Origin<'_> {
    /// Metric label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Record(..) => "record",
            Self::Repair => "repair",
            Self::Tick => "tick",
        }
    }

    /// Begins the handling of a record whose trace is recorded.
    fn span(self, tracer: &Tracer, id: HouseholdId) -> Span {
        let Self::Record(from, record) = self else {
            return Span::none();
        };
        let mut span = tracer.process(record.trace, from.topic, from.partition, record.offset);
        span.set("hearth.household_id", id.get());
        span
    }

    /// Begins a trace where what is to be done came of no message.
    fn own_trace(self, tracer: &Tracer, id: HouseholdId, effects: &[Effect]) -> Span {
        let name = match self {
            Self::Tick => "household tick",
            Self::Repair => "household repair",
            // Its message was not chosen.
            Self::Record(..) => return Span::none(),
        };
        if !tracer.is_on() || !traced::are_worth_a_trace(effects) {
            return Span::none();
        }
        let mut span = tracer.head(SpanKind::Internal, Caller::Unknown, || name.to_owned());
        span.set("hearth.household_id", id.get());
        span
    }

    /// When what led to the event entered the log, wall clock.
    fn since_ms(self) -> i64 {
        match self {
            Self::Record(_, record) => record.timestamp_ms,
            Self::Repair | Self::Tick => wall_ms(),
        }
    }
}
