//! One partition of the co-partitioned topics: the way of its records. They are decoded, handed to their households,
//! and what these want done goes to the outbox, which makes it durable while the next records are handled. The same
//! records and clock ticks in the same order give the same states and the same effects.

use std::time::Duration;

use household::event::Event;
use household::household::Env;
use household::present::Present;
use platform::log::Record;
use schemas::topic::Topic;
use tokio::time::Instant;

use crate::actors::{Actors, Origin, Outcome, Turn};
use crate::checkpoint::SAVES_TOGETHER_MAX;
use crate::decode;
use crate::effects::EffectBatch;
use crate::failures::{Cause, Failures};
use crate::fence::{Fence, Fenced};
use crate::lag::Health;
use crate::revival::revive;
use crate::setup::Setup;

/// Most homes saved with one tick.
const SAVES_PER_TICK_MAX: usize = 5_000;
/// A partition that has had no record for so long has time to save every home.
const IDLE_AFTER: Duration = Duration::from_millis(500);
/// A commit that crosses a rebalance is refused, and holds with the group's next generation. A partition that is left
/// tries again so often, after such a pause.
const COMMITS_AGAIN_MAX: usize = 4;
const COMMIT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Homes that hear one tick of the clock; a partition with more goes round, some with each tick.
const TICK_HOMES_MAX: usize = 20_000;

/// Homes are summed up at most so often.
const SUM_EVERY: Duration = Duration::from_secs(10);

/// A partition that is further behind has readings in the log that its homes do not know of. Until it has handled
/// those, the clock tells them nothing: it would end slots that are not over.
const BEHIND_RECORDS: i64 = 10_000;

/// A partition and its households.
#[derive(Debug)]
pub struct Partition {
    actors: Actors,
    /// The home that hears the next tick first.
    next_to_tick: usize,
    /// Of the homes met since the first home heard a tick.
    health: Health,
    /// The sum over those, in a round that sums up.
    present: Option<Present>,
    /// When homes were summed up last.
    summed: Instant,
    /// When records were handled last.
    handled: Instant,
}

impl Partition {
    /// A partition with no household in memory yet. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(setup: Setup, number: i32, fence: Fence) -> Self {
        Self {
            actors: Actors::new(setup, number, fence),
            next_to_tick: 0,
            health: Health::default(),
            present: Some(Present::default()),
            summed: Instant::now(),
            handled: Instant::now(),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> i32 {
        self.actors.assignment.partition
    }

    /// Handles records of one topic, offsets ascending.
    pub async fn take_in(&mut self, topic: Topic, records: &[Record]) -> Result<(), Fenced> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(());
        };
        let actors = &mut self.actors;
        let from = actors.assignment.of(topic);
        actors.checkpoint.next_offsets.advance(topic, first.offset);
        let context = &actors.assignment.setup.context;
        let (events, undecoded) = decode::home_events(&context.codec, topic, records)
            .map_err(|newer| actors.assignment.fence.give_up(newer.to_string()))?;
        let letters = decode::dead_letters(context, from, records, undecoded);
        actors
            .homes
            .restore(
                events.iter().map(|event| event.household_id),
                &actors.assignment,
                &mut actors.checkpoint,
                &mut actors.outbox,
            )
            .await?;
        let turn = actors.turn();
        let mut batch = EffectBatch::with(letters);
        let mut failures = Failures::default();
        actors.feed(&turn, from, records, events, &mut batch, &mut failures);
        batch.records_count = records.len();
        if topic == Topic::Telemetry {
            batch
                .readings_ms
                .extend(records.iter().map(|record| record.timestamp_ms));
        }
        let checkpoint = &mut actors.checkpoint;
        checkpoint.next_offsets.advance(topic, last.offset + 1);
        self.handled = Instant::now();
        self.carry_out(&turn, batch, failures).await?;
        let actors = &mut self.actors;
        let setup = &actors.assignment.setup;
        setup.lag.handled(from, last);
        let (max, checkpoint) = (setup.checkpoint_records_max, &actors.checkpoint);
        let beyond = checkpoint.unsaved.beyond(max, &checkpoint.next_offsets);
        actors.save(beyond).await?;
        if beyond > 0 {
            // What was saved so the last time is durable by now, and records may come faster than ticks.
            actors.commit().await?;
        }
        Ok(())
    }

    /// Tells homes the time, saves those whose turn it is, commits, and lets go of homes that have long been silent.
    pub async fn tick(&mut self, now_ms: i64) -> Result<(), Fenced> {
        let turn = self.actors.turn();
        if !self.is_behind() {
            self.tick_homes(now_ms, &turn).await?;
        }
        let actors = &mut self.actors;
        let every = actors.assignment.setup.save_every();
        let checkpoint = &mut actors.checkpoint;
        let mut due = checkpoint.due(every, turn.now);
        if turn.now.duration_since(self.handled) >= IDLE_AFTER {
            due = checkpoint.unsaved.count();
        }
        // What is left has its turn with the next tick; the records that came meanwhile do not wait for it.
        actors.save(due.min(SAVES_PER_TICK_MAX)).await?;
        actors.commit().await
    }

    /// Saves homes, the one that changed first before the others, until all are saved or `save_max` has passed, and
    /// commits. What the homes that are left have seen is read again by the next owner.
    pub async fn leave(&mut self, save_max: Duration) -> Result<(), Fenced> {
        let begun = Instant::now();
        let actors = &mut self.actors;
        while actors.checkpoint.unsaved.count() > 0 && begun.elapsed() < save_max {
            actors.save(SAVES_TOGETHER_MAX).await?;
            actors.outbox.settled().await?;
        }
        actors.checkpoint.note_commit(&actors.outbox);
        actors.outbox.settled().await?;
        actors.commit().await?;
        for _ in 0..COMMITS_AGAIN_MAX {
            if actors.checkpoint.is_committed() {
                break;
            }
            tokio::time::sleep(COMMIT_AGAIN_AFTER).await;
            actors.commit().await?;
        }
        Ok(())
    }

    /// Lets every home go, saved or not.
    pub fn forget(&mut self) {
        self.actors.homes.clear();
    }

    /// Whether the partition is about to go, so that nothing more is begun.
    pub(crate) fn is_leaving(&self) -> bool {
        self.actors.assignment.fence.is_leaving()
    }

    /// Whether much of the telemetry is still to be read, or nobody knows yet whether there is some.
    fn is_behind(&self) -> bool {
        let topic = Topic::Telemetry;
        let assignment = &self.actors.assignment;
        let end = assignment.setup.control.end_offset(assignment.of(topic));
        let next = self.actors.checkpoint.next_offsets.get(topic);
        end.is_none_or(|end| end - next > BEHIND_RECORDS)
    }

    /// Tells the next homes the time, and lets those go that have long been silent.
    async fn tick_homes(&mut self, now_ms: i64, turn: &Turn) -> Result<(), Fenced> {
        let (mut batch, mut failures) = (EffectBatch::default(), Failures::default());
        let actors = &mut self.actors;
        let end = (self.next_to_tick + TICK_HOMES_MAX).min(actors.homes.residents.len());
        while self.next_to_tick < end
            && let Some((id, home)) = actors.homes.residents.get_index(self.next_to_tick)
        {
            let (id, index) = (*id, self.next_to_tick);
            self.next_to_tick += 1;
            if home.is_quarantined() {
                self.health.quarantined_count += 1;
                continue;
            }
            let event = Event::ClockTicked { now_ms };
            if actors.apply(turn, id, event, Origin::Tick, &mut batch) == Outcome::Panicked {
                failures.note(id, Cause::Tick);
                continue;
            }
            let home = &actors.homes.residents[index].household;
            let is_stale = home.is_stale(now_ms, &actors.assignment.setup.settings);
            let is_unplanned = home.has_metadata() && !home.is_planned(now_ms);
            if let Some(sum) = &mut self.present {
                let env = Env {
                    settings: &actors.assignment.setup.settings,
                    tariffs: &turn.tariffs,
                    now_ms: Some(now_ms),
                };
                *sum += home.present(now_ms, &env).unwrap_or_default();
            }
            self.health.stale_count += usize::from(is_stale);
            self.health.unplanned_count += usize::from(is_unplanned);
        }
        if self.next_to_tick >= actors.homes.residents.len() {
            self.end_round(now_ms, turn.now);
        }
        self.carry_out(turn, batch, failures).await
    }

    /// Every home has heard a tick.
    fn end_round(&mut self, now_ms: i64, now: Instant) {
        self.next_to_tick = 0;
        let (number, mut health) = (self.number(), std::mem::take(&mut self.health));
        let actors = &mut self.actors;
        let setup = &actors.assignment.setup;
        let stale_from_ms = now_ms - setup.settings.stale_after_ms;
        health.stale_count += actors.homes.asleep_since(stale_from_ms);
        health.known_count = actors.homes.known_count();
        health.unsaved_count = actors.checkpoint.unsaved.count();
        setup.lag.health(number, health);
        if let Some(sum) = self.present.take() {
            setup.lag.present(number, sum);
            self.summed = now;
        } else if now.duration_since(self.summed) >= SUM_EVERY {
            self.present = Some(Present::default());
        }
        let after = setup.passivate_after;
        let is_over = |touched| now.duration_since(touched) >= after;
        actors
            .homes
            .fall_asleep(&actors.outbox, |home| is_over(home.touched));
    }

    /// Carries out what homes want done, and revives those that failed.
    async fn carry_out(
        &mut self,
        turn: &Turn,
        batch: EffectBatch,
        mut failures: Failures,
    ) -> Result<(), Fenced> {
        self.actors.carry_out(turn, batch, &mut failures).await?;
        revive(&mut self.actors, turn, &mut failures).await
    }
}
