//! One partition of the co-partitioned topics: its households in memory, what they order, and how far all of it is
//! durable. The same records and clock ticks in the same order give the same states and the same orders.
//!
//! Orders go to the outbox, which carries them out while the next records are handled. Each home is saved once in a
//! checkpoint interval, the one that changed first before the others, so that snapshots come evenly and the stretch of
//! the log to read again after a crash is bounded by the interval. An offset is committed once everything before it is
//! durable and covered by snapshots.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use household::effect::Effect;
use household::event::Event;
use household::household::{Env, Household, Settings};
use indexmap::IndexMap;
use model::slot::Slot;
use model::units::HouseholdId;
use platform::clock::wall_ms;
use platform::log::{ConsumerControl, Record, TopicPartition};
use schemas::dead_letter::Reason;
use schemas::topic::Topic;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::dead_letter::dead_letter;
use crate::decode::{self, Entry};
use crate::effects::{self, Fence, Fenced, Orders, Outgoing};
use crate::lag::LagBoard;
use crate::outbox::{Outbox, Work};
use crate::resident::Resident;
use crate::tariffs::{ByName, Tariffs};
use crate::unsaved::Unsaved;
use platform::parts::Parts;
use schemas::snapshot::{NextOffsets, SHARD_TOPICS};

/// Most snapshots read at once.
const RESTORES_MAX: usize = 64;
/// Most snapshots in one work of the outbox.
const SAVES_TOGETHER_MAX: usize = 1_000;
/// Most homes saved with one tick.
const SAVES_PER_TICK_MAX: usize = 5_000;
/// A partition that has had no record for so long has time to save every home.
const IDLE_AFTER: Duration = Duration::from_millis(500);
/// Pause between two questions to the log.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A commit that crosses a rebalance is refused, and holds with the group's next generation. Whoever leaves tries again so
/// often, after such a pause.
const COMMITS_AGAIN_MAX: usize = 4;
const COMMIT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Homes that hear one tick of the clock; a partition with more goes round, some with each tick.
const TICK_HOMES_MAX: usize = 20_000;

/// A partition that is further behind has readings in the log that its homes do not know of. Until it has handled
/// those, the clock tells them nothing: it would end slots that are not over.
const BEHIND_RECORDS: i64 = 10_000;

/// What every partition of an engine shares.
#[derive(Clone)]
pub struct Setup {
    pub parts: Parts,
    pub settings: Settings,
    pub tariffs: Tariffs,
    pub control: Arc<dyn ConsumerControl>,
    pub lag: LagBoard,
    pub checkpoint_every: Duration,
    pub checkpoint_records_max: u64,
    pub passivate_after: Duration,
    pub live_homes_max: usize,
    pub rows_wait: bool,
    pub store_slots: bool,
    pub publish_slots: bool,
    /// What a home does with an event: [`Household::handle`], but where a test needs one that fails.
    pub handle: fn(&mut Household, Event, &Env<'_>, &mut Vec<Effect>),
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").finish_non_exhaustive()
    }
}

/// A record that has made its home panic so often is poison.
const FAILURES_MAX: u32 = 2;

/// How often each record made its home panic while it was read again.
type Failures = BTreeMap<(Topic, i64), u32>;

/// A partition and its households.
#[derive(Debug)]
pub struct Partition {
    setup: Setup,
    number: i32,
    fence: Fence,
    outbox: Outbox,
    residents: IndexMap<HouseholdId, Box<Resident>>,
    unsaved: Unsaved,
    /// Whether the log holds this partition from its very beginning, nothing was committed, and no home was let go:
    /// then there is no snapshot that the log does not tell better. `None` until somebody asks.
    is_whole: Option<bool>,
    /// First offset not handled yet, by topic.
    next_offsets: NextOffsets,
    /// What may be committed once the outbox has come that far.
    commits: VecDeque<(u64, NextOffsets)>,
    committed: NextOffsets,
    /// The home that hears the next tick first.
    next_to_tick: usize,
    /// Stale and unplanned homes met since the first home heard a tick.
    health: (usize, usize),
    /// Part of a home that is due to be saved.
    credit: f64,
    ticked: Instant,
    /// When records were handled last.
    handled: Instant,
}

impl Partition {
    /// A partition with no household in memory yet. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(setup: Setup, number: i32, fence: Fence) -> Self {
        let outbox = Outbox::open(setup.parts.clone(), fence.clone());
        Self {
            setup,
            number,
            fence,
            outbox,
            residents: IndexMap::new(),
            unsaved: Unsaved::default(),
            is_whole: None,
            next_offsets: NextOffsets::default(),
            commits: VecDeque::new(),
            committed: NextOffsets::default(),
            next_to_tick: 0,
            health: (0, 0),
            credit: 0.0,
            ticked: Instant::now(),
            handled: Instant::now(),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> i32 {
        self.number
    }

    /// Handles records of one topic, offsets ascending.
    pub async fn take_in(&mut self, topic: Topic, records: &[Record]) -> Result<(), Fenced> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(());
        };
        let from = self.at(topic);
        self.next_offsets.advance(topic, first.offset);
        let (entries, refused) = decode::entries(&self.setup.parts, from, records);
        self.restore(entries.iter().map(|entry| entry.household_id))
            .await?;
        let mut orders = Orders::with(refused);
        self.feed(from, records, entries, &mut orders).await?;
        if topic == Topic::Telemetry {
            orders
                .readings_ms
                .extend(records.iter().map(|record| record.timestamp_ms));
        }
        self.next_offsets.advance(topic, last.offset + 1);
        self.handled = Instant::now();
        self.carry_out(orders).await?;
        let end = self.setup.control.end_offset(from);
        self.setup.lag.record(from, last, end);
        let (max, now) = (self.setup.checkpoint_records_max, &self.next_offsets);
        let beyond = self.unsaved.beyond(max, now);
        self.save(beyond).await?;
        if beyond > 0 {
            // What was saved so the last time is durable by now, and records may come faster than ticks.
            self.commit().await?;
        }
        Ok(())
    }

    /// Tells homes the time, saves those whose turn it is, commits, and lets go of homes that have long been silent.
    pub async fn tick(&mut self, now_ms: i64) -> Result<(), Fenced> {
        let now = Instant::now();
        if !self.is_behind() {
            self.tick_homes(now_ms, now).await?;
        }
        let every = self.setup.checkpoint_every;
        let share = now.duration_since(self.ticked).as_secs_f64()
            / every.as_secs_f64().max(f64::MIN_POSITIVE);
        self.ticked = now;
        let due = if now.duration_since(self.handled) >= IDLE_AFTER {
            self.unsaved.count()
        } else {
            self.due(share).max(self.unsaved.overdue(every, now))
        };
        // What is left has its turn with the next tick; the records that came meanwhile do not wait for it.
        self.save(due.min(SAVES_PER_TICK_MAX)).await?;
        self.commit().await
    }

    /// Saves homes, the one that changed first before the others, until all are saved or `save_max` has passed, and
    /// commits. What the homes that are left have seen is read again by the next owner.
    pub async fn leave(&mut self, save_max: Duration) -> Result<(), Fenced> {
        let begun = Instant::now();
        while self.unsaved.count() > 0 && begun.elapsed() < save_max {
            self.save(SAVES_TOGETHER_MAX).await?;
            self.outbox.settled().await?;
        }
        self.note_commit();
        self.outbox.settled().await?;
        self.commit().await?;
        for _ in 0..COMMITS_AGAIN_MAX {
            if self.commits.is_empty() {
                break;
            }
            tokio::time::sleep(COMMIT_AGAIN_AFTER).await;
            self.commit().await?;
        }
        Ok(())
    }

    /// Lets every home go, saved or not.
    pub fn forget(&mut self) {
        self.live(-count(self.residents.len()));
        self.setup.lag.clear(self.number);
        self.residents.clear();
    }

    /// Whether much of the telemetry is still to be read, or nobody knows yet whether there is some.
    fn is_behind(&self) -> bool {
        let topic = Topic::Telemetry;
        let end = self.setup.control.end_offset(self.at(topic));
        end.is_none_or(|end| end - self.next_offsets.get(topic) > BEHIND_RECORDS)
    }

    fn at(&self, topic: Topic) -> TopicPartition {
        TopicPartition {
            topic,
            partition: self.number,
        }
    }

    fn live(&self, change: i64) {
        self.setup.parts.metrics.live_households.add(change);
    }

    /// Brings the households back that are not in memory: from their snapshot, or new.
    async fn restore(&mut self, ids: impl Iterator<Item = HouseholdId>) -> Result<(), Fenced> {
        let mut wanted: Vec<HouseholdId> = ids.collect();
        wanted.sort_unstable();
        wanted.dedup();
        let is_absent = |id: &HouseholdId| !self.residents.contains_key(id);
        let absent: Vec<HouseholdId> = wanted.iter().copied().filter(is_absent).collect();
        if absent.is_empty() {
            return Ok(());
        }
        self.make_room(absent.len(), &wanted).await?;
        self.bring_back(absent).await
    }

    async fn bring_back(&mut self, absent: Vec<HouseholdId>) -> Result<(), Fenced> {
        let count_restored = count(absent.len());
        if self.is_whole().await? {
            let newborn = absent
                .into_iter()
                .map(|id| (id, Box::new(Resident::newborn(id))));
            self.residents.extend(newborn);
        } else {
            let (setup, fence, number) = (&self.setup, &self.fence, self.number);
            let mut restored = effects::each(absent, RESTORES_MAX, |id| async move {
                let begun = Instant::now();
                let (parts, metrics) = (&setup.parts, &setup.parts.metrics);
                let snapshot =
                    effects::read_patiently("snapshot", fence, || parts.store.snapshot(id)).await?;
                let resident = Resident::from_snapshot(id, number, snapshot.as_deref());
                let elapsed = begun.elapsed().as_secs_f64();
                metrics.restore_seconds.observe(elapsed);
                Ok((id, Box::new(resident)))
            })
            .await?;
            self.write_again(&mut restored).await?;
            self.residents.extend(restored);
        }
        self.live(count_restored);
        Ok(())
    }

    /// Writes the snapshots that `homes` came from again. An owner that died may have left a newer one on its way, which
    /// lands after this one was read. Whoever came after would believe it and pass over records whose effects are
    /// carried out here once more, perhaps not to their end. Written later, the older one holds.
    async fn write_again(
        &mut self,
        homes: &mut [(HouseholdId, Box<Resident>)],
    ) -> Result<(), Fenced> {
        let mut work = Work::default();
        for (_, home) in homes {
            home.saved_in = self.outbox.sent() + 1;
            work.restored.push(home.snapshot(self.number));
        }
        self.outbox.send(work).await
    }

    /// Whether nobody before can have saved a home of this partition. Whoever finds it so commits the beginning before
    /// anything is written, so that whoever comes after looks for snapshots: one who did not would write old rows anew,
    /// and one behind him, with a snapshot from before, would pass over what puts them right.
    async fn is_whole(&mut self) -> Result<bool, Fenced> {
        if let Some(is_whole) = self.is_whole {
            return Ok(is_whole);
        }
        let topics = SHARD_TOPICS.map(|topic| self.at(topic));
        let beginning = || topics.map(|of| (of, 0)).to_vec();
        let control = &self.setup.control;
        let is_whole = loop {
            self.fence.check()?;
            let reason = match control.is_unread_and_whole(&topics).await {
                Ok(false) => break false,
                Ok(true) => match control.commit(beginning()).await {
                    Ok(()) => break true,
                    Err(reason) => reason,
                },
                Err(reason) => reason,
            };
            warn!(partition = self.number, %reason, "cannot tell whether the log is whole");
            if !reason.is_retryable() {
                return Err(Fenced);
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        };
        self.is_whole = Some(is_whole);
        Ok(is_whole)
    }

    /// Lets homes go, the longest silent of some first, so that `more` fit. Their snapshots become durable before; those
    /// of `wanted`, which ascend, stay.
    async fn make_room(&mut self, more: usize, wanted: &[HouseholdId]) -> Result<(), Fenced> {
        let max = self.setup.live_homes_max.max(wanted.len());
        let Some(excess) = (self.residents.len() + more).checked_sub(max + 1) else {
            return Ok(());
        };
        // A tenth more than asked, so that not every batch comes here.
        let leaving = (excess + 1 + max / 10).min(self.residents.len());
        let is_wanted = |home: &Resident| wanted.binary_search(&home.household.id()).is_ok();
        let may_go = |partition: &Self| {
            let durable = partition.outbox.durable();
            let homes = partition.residents.values();
            homes
                .filter(|home| home.is_durable(durable) && !is_wanted(home))
                .count()
        };
        if may_go(self) < leaving {
            self.save(leaving).await?;
            self.outbox.settled().await?;
        }
        let durable = self.outbox.durable();
        let homes = self.residents.values();
        let saved = homes.filter(|home| home.is_durable(durable) && !is_wanted(home));
        let mut touched: Vec<Instant> = saved.map(|home| home.touched).collect();
        let last = leaving.min(touched.len()).saturating_sub(1);
        if touched.is_empty() {
            return Ok(());
        }
        let (_, until, _) = touched.select_nth_unstable(last);
        let (until, mut left) = (*until, leaving);
        self.let_go(|home| {
            let goes = left > 0 && home.touched <= until && !is_wanted(home);
            left -= usize::from(goes);
            goes
        });
        Ok(())
    }

    /// Lets the homes go whose snapshot is durable and of which `is_over` says so.
    fn let_go(&mut self, mut is_over: impl FnMut(&Resident) -> bool) {
        let (before, durable) = (self.residents.len(), self.outbox.durable());
        self.residents
            .retain(|_, home| !home.is_durable(durable) || !is_over(home));
        let left = before - self.residents.len();
        if left > 0 {
            // They come back from their snapshots, not from the log.
            self.is_whole = Some(false);
        }
        self.live(-count(left));
    }

    /// Hands the records to their households. A record that makes its household panic is tried again on the home as it
    /// was before; when it fails again it is a dead letter, and the home goes on without it.
    async fn feed(
        &mut self,
        from: TopicPartition,
        records: &[Record],
        entries: Vec<Entry>,
        orders: &mut Orders,
    ) -> Result<(), Fenced> {
        let tariffs = self.setup.tariffs.current();
        let (since, now) = (self.next_offsets, Instant::now());
        for entry in entries {
            let (id, record) = (entry.household_id, &records[entry.index]);
            if self.handle(from.topic, record, entry, &tariffs, (since, now), orders) {
                continue;
            }
            self.revive(id, now, std::mem::take(orders)).await?;
            if let Ok((household_id, event)) =
                decode::event(&self.setup.parts.codec, from.topic, &record.value)
            {
                let again = Entry {
                    household_id,
                    event,
                    index: 0,
                };
                if self.handle(from.topic, record, again, &tariffs, (since, now), orders) {
                    continue;
                }
            }
            self.revive(id, now, std::mem::take(orders)).await?;
            orders.outgoing.extend(self.poison(id, from, record));
            if let Some(home) = self.residents.get_mut(&id) {
                home.next_offsets.advance(from.topic, record.offset + 1);
            }
        }
        Ok(())
    }

    /// False where the household panicked.
    fn handle(
        &mut self,
        topic: Topic,
        record: &Record,
        entry: Entry,
        tariffs: &ByName,
        (since, now): (NextOffsets, Instant),
        orders: &mut Orders,
    ) -> bool {
        let Entry {
            household_id: id,
            event,
            ..
        } = entry;
        let home = self
            .residents
            .get_mut(&id)
            .expect("every household of a batch was restored");
        if record.offset < home.next_offsets.get(topic) {
            debug!(household = %id, record.offset, "seen before the snapshot");
            return true;
        }
        let answered = match &event {
            Event::ScheduleReady(schedule) => Some(schedule.request_id.clone()),
            Event::ReadingArrived(_)
            | Event::MetadataChanged(_)
            | Event::AckArrived(_)
            | Event::SlotRepaired(_)
            | Event::ClockTicked { .. } => None,
        };
        let env = Env {
            settings: &self.setup.settings,
            tariffs,
        };
        home.change(&mut self.unsaved, &since, now);
        home.touched = now;
        let ordered = &mut orders.ordered;
        let (household, handle) = (&mut home.household, self.setup.handle);
        let outcome = catch_unwind(AssertUnwindSafe(|| handle(household, event, &env, ordered)));
        if outcome.is_err() {
            ordered.clear();
            return false;
        }
        home.next_offsets.advance(topic, record.offset + 1);
        home.watch_answer(
            &self.setup.parts,
            answered.as_deref(),
            record.timestamp_ms,
            ordered,
        );
        let refused = orders.sort(&self.setup, home);
        if let Some(detail) = refused {
            let (parts, from) = (&self.setup.parts, self.at(topic));
            let letter = dead_letter(parts, from, record, Reason::OutOfRange, detail);
            orders.outgoing.extend(letter);
        }
        true
    }

    /// Puts a household that panicked back as after a crash: its snapshot, and over it what it has seen since, out of the
    /// log. Effects of the latter are carried out again; `orders` are what was ordered before.
    async fn revive(
        &mut self,
        id: HouseholdId,
        now: Instant,
        mut orders: Orders,
    ) -> Result<(), Fenced> {
        error!(household = %id, partition = self.number, "household failed, starting it again");
        let (mut seen, mut failures) = (None, Failures::new());
        while let Some(mut failed) = self.residents.swap_remove(&id) {
            self.live(-1);
            orders.rows.extend(failed.take_rows());
            Box::pin(self.carry_out(std::mem::take(&mut orders))).await?;
            self.outbox.settled().await?;
            // What was in the log may have been committed since: its snapshot is the truth.
            self.is_whole = Some(false);
            // In its own place: to make room would let others go that have a record in hand, and pass this one over.
            self.bring_back(vec![id]).await?;
            if let Some(home) = self.residents.get_mut(&id) {
                home.is_unsaved = failed.is_unsaved;
                home.touched = now;
            }
            let seen = seen.get_or_insert(failed.next_offsets);
            let replayed = self
                .replay(id, seen, now, &mut failures, &mut orders)
                .await?;
            if replayed {
                Box::pin(self.carry_out(orders)).await?;
                break;
            }
        }
        Ok(())
    }

    /// Hands a home that was restored the records up to `seen` once more. False where one makes it panic; one that has
    /// done so twice is passed over, for it is a dead letter.
    async fn replay(
        &mut self,
        id: HouseholdId,
        seen: &NextOffsets,
        now: Instant,
        failures: &mut Failures,
        orders: &mut Orders,
    ) -> Result<bool, Fenced> {
        let Some(home) = self.residents.get(&id) else {
            return Ok(true);
        };
        let (restored, key) = (home.next_offsets, id.to_string());
        let tariffs = self.setup.tariffs.current();
        for topic in SHARD_TOPICS {
            let offsets = restored.get(topic)..seen.get(topic);
            if offsets.is_empty() {
                continue;
            }
            let (from, control) = (self.at(topic), &self.setup.control);
            let records = effects::read_patiently("records", &self.fence, || {
                control.read(from, offsets.clone(), key.as_bytes())
            })
            .await?;
            // What is no event is a dead letter already.
            let (entries, _) = decode::entries(&self.setup.parts, from, &records);
            for entry in entries {
                let record = &records[entry.index];
                let failed = failures.entry((topic, record.offset)).or_default();
                if *failed == FAILURES_MAX {
                    orders.outgoing.extend(self.poison(id, from, record));
                } else if !self.handle(topic, record, entry, &tariffs, (*seen, now), orders) {
                    *failed += 1;
                    return Ok(false);
                }
            }
            if let Some(home) = self.residents.get_mut(&id) {
                home.next_offsets.advance(topic, offsets.end);
            }
        }
        Ok(true)
    }

    fn poison(&self, id: HouseholdId, from: TopicPartition, record: &Record) -> Option<Outgoing> {
        let detail = format!("household {id} failed twice on this record");
        dead_letter(&self.setup.parts, from, record, Reason::Poison, detail)
    }

    /// Hands orders to the outbox; slots that need the store are aggregated once it has what they need.
    async fn carry_out(&mut self, mut orders: Orders) -> Result<(), Fenced> {
        orders.count(&self.setup.parts.metrics);
        let repairs = std::mem::take(&mut orders.repairs);
        for (id, _) in &repairs {
            if let Some(home) = self.residents.get_mut(id) {
                orders.rows.extend(home.take_rows());
            }
        }
        self.outbox.send(orders.into_work()).await?;
        if repairs.is_empty() {
            return Ok(());
        }
        self.outbox.settled().await?;
        let this = &*self;
        let aggregate = |(id, start_ms)| async move {
            let slot = this.aggregate(id, start_ms).await?;
            Ok((id, slot))
        };
        let mut slots = effects::each(repairs, RESTORES_MAX, aggregate).await?;
        slots.sort_by_key(|(id, slot)| (*id, slot.start_ms));
        let tariffs = self.setup.tariffs.current();
        let mut orders = Orders::default();
        for (id, slot) in slots {
            let env = Env {
                settings: &self.setup.settings,
                tariffs: &tariffs,
            };
            let Some(home) = self.residents.get_mut(&id) else {
                continue;
            };
            home.change(&mut self.unsaved, &self.next_offsets, Instant::now());
            let event = Event::SlotRepaired(slot);
            home.household.handle(event, &env, &mut orders.ordered);
            orders.sort(&self.setup, home);
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

    /// Tells the next homes the time, and lets those go that have long been silent.
    async fn tick_homes(&mut self, now_ms: i64, now: Instant) -> Result<(), Fenced> {
        let tariffs = self.setup.tariffs.current();
        let mut orders = Orders::default();
        let mut failed = Vec::new();
        let end = (self.next_to_tick + TICK_HOMES_MAX).min(self.residents.len());
        while self.next_to_tick < end
            && let Some((id, home)) = self.residents.get_index_mut(self.next_to_tick)
        {
            self.next_to_tick += 1;
            let env = Env {
                settings: &self.setup.settings,
                tariffs: &tariffs,
            };
            let (household, ordered) = (&mut home.household, &mut orders.ordered);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                household.handle(Event::ClockTicked { now_ms }, &env, ordered);
            }));
            if outcome.is_err() {
                ordered.clear();
                failed.push(*id);
                continue;
            }
            self.health.0 += usize::from(household.is_stale(now_ms, env.settings));
            let is_unplanned = household.has_metadata() && !household.is_planned(now_ms);
            self.health.1 += usize::from(is_unplanned);
            if ordered.is_empty() {
                continue;
            }
            home.change(&mut self.unsaved, &self.next_offsets, now);
            home.watch_answer(&self.setup.parts, None, wall_ms(), ordered);
            orders.sort(&self.setup, home);
        }
        if self.next_to_tick >= self.residents.len() {
            self.end_round(now);
        }
        self.carry_out(orders).await?;
        for id in failed {
            self.revive(id, now, Orders::default()).await?;
        }
        Ok(())
    }

    /// Every home has heard a tick.
    fn end_round(&mut self, now: Instant) {
        let (stale, unplanned) = std::mem::take(&mut self.health);
        self.setup.lag.health(self.number, stale, unplanned);
        self.next_to_tick = 0;
        let after = self.setup.passivate_after;
        self.let_go(|home| now.duration_since(home.touched) >= after);
    }

    /// How many homes have their turn to be saved: their share of the time that has passed.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of homes, 0 or more"
    )]
    fn due(&mut self, share: f64) -> usize {
        let count = self.unsaved.count() as f64;
        self.credit = (self.credit + count * share).min(count);
        let whole = self.credit.floor();
        self.credit -= whole;
        whole as usize
    }

    /// Orders the snapshots of the `count` homes that changed first, and notes what may be committed behind them.
    async fn save(&mut self, count: usize) -> Result<(), Fenced> {
        let mut left = count.min(self.unsaved.count());
        while left > 0 {
            let homes = self.unsaved.take(left.min(SAVES_TOGETHER_MAX));
            left -= homes.len();
            let mut work = Work::default();
            let saved_in = self.outbox.sent() + 1;
            for id in homes {
                let Some(home) = self.residents.get_mut(&id) else {
                    continue;
                };
                home.is_unsaved = false;
                home.saved_in = saved_in;
                work.rows.extend(home.take_rows());
                work.snapshots.push(home.snapshot(self.number));
            }
            self.outbox.send(work).await?;
        }
        if count > 0 {
            self.note_commit();
        }
        Ok(())
    }

    /// What is handled and saved so far may be committed when all that was sent is durable.
    fn note_commit(&mut self) {
        let offsets = self.unsaved.since().unwrap_or(self.next_offsets);
        let newest = self
            .commits
            .back()
            .map_or(self.committed, |newest| newest.1);
        if offsets != newest {
            self.commits.push_back((self.outbox.sent(), offsets));
        }
    }

    /// Commits what has become durable.
    async fn commit(&mut self) -> Result<(), Fenced> {
        let durable = self.outbox.durable();
        let mut ready = None;
        while let Some((sent, offsets)) = self.commits.front()
            && *sent <= durable
        {
            ready = Some(*offsets);
            self.commits.pop_front();
        }
        let Some(ready) = ready else { return Ok(()) };
        let offsets = ready.iter().map(|(topic, next)| (self.at(topic), next));
        match self.setup.control.commit(offsets.collect()).await {
            Ok(()) => self.committed = ready,
            // It is committed with the next ones; until then a restart reads a little more.
            Err(reason) if reason.is_retryable() => {
                warn!(partition = self.number, %reason, "commit later");
                self.commits.push_front((durable, ready));
            }
            Err(reason) => {
                warn!(partition = self.number, %reason, "partition is no longer ours");
                return Err(Fenced);
            }
        }
        Ok(())
    }
}

fn count(homes: usize) -> i64 {
    i64::try_from(homes).expect("a count fits")
}
