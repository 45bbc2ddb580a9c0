//! The world of a run: its state, which outlives every crash, and its clock. Owners of partitions come and go on it, each
//! with a life that can end at any of its calls.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use platform::log::{TopicPartition, partition_of};
use platform::order::Order;
use platform::store::Row;
use schemas::topic::Topic;
use tokio::sync::watch;
use tokio::time::Instant;

use super::draws::Draws;
use super::faults::{Fault, Faults};
use super::invariants;
use super::offline::Offline;
use super::rows::{RowKey, Stored};
use super::scenario::Scenario;
use super::state::{Kept, State};

thread_local! {
    /// The world of the run that this thread is at.
    static PRESENT: RefCell<Weak<World>> = const { RefCell::new(Weak::new()) };
}

/// The engine's clock in the present world.
pub fn present_clock_ms() -> i64 {
    let world = PRESENT.with_borrow(Weak::upgrade);
    world.expect("a run is on").clock_ms()
}

/// The world of one run.
#[derive(Debug)]
pub struct World {
    pub scenario: Scenario,
    began: Instant,
    state: Mutex<State>,
}

impl World {
    pub fn new(scenario: Scenario, mut draws: Draws) -> Arc<Self> {
        let share = draws.one_of(&[0, 10, 50, 150, 300]);
        let commit_share = draws.one_of(&[share, share, 900, 990]);
        let state = State {
            faults: Faults::new(share, commit_share),
            draws,
            partitions_count: scenario.partitions_count,
            log: BTreeMap::new(),
            committed: BTreeMap::new(),
            owners: BTreeMap::new(),
            rows: BTreeMap::new(),
            writes_count: 0,
            epochs: BTreeMap::new(),
            offline: Offline::new(scenario.settings),
            due: BTreeMap::new(),
            schedules: BTreeMap::new(),
            dead_letters: BTreeSet::new(),
            commanded: BTreeMap::new(),
            violations: Vec::new(),
            lives_count: 0,
            sleepers_count: 0,
            handed_count: 0,
            clock_off_ms: 0,
            stands_at_ms: None,
        };
        let world = Arc::new(Self {
            scenario,
            began: Instant::now(),
            state: Mutex::new(state),
        });
        PRESENT.set(Arc::downgrade(&world));
        world
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The time of devices.
    pub fn event_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).expect("a run is short");
        self.scenario.begins_ms + elapsed * self.scenario.speed
    }

    /// The engine's clock.
    pub fn clock_ms(&self) -> i64 {
        let state = self.state();
        let off_ms = state.clock_off_ms;
        let stands_at_ms = state.stands_at_ms;
        drop(state);
        stands_at_ms.unwrap_or_else(|| self.event_ms() + off_ms)
    }

    /// Appends a record; from this moment it is there for good.
    pub fn append(&self, topic: Topic, key: &[u8], value: Vec<u8>) {
        self.append_by(None, topic, key, value);
    }

    /// The same, by an owner.
    pub fn append_by(&self, life: Option<&Life>, topic: Topic, key: &[u8], value: Vec<u8>) {
        let timestamp_ms = self.event_ms();
        let mut state = self.state();
        let partition = partition_of(key, state.partitions_count);
        let at = TopicPartition { topic, partition };
        let is_of_former_owner =
            life.is_some_and(|life| life.has_slept() && !state.is_owner(partition, life.number));
        if is_of_former_owner {
            state.faults.count(Fault::RecordByFormerOwner);
        }
        let kept = Kept {
            key: key.to_vec(),
            value,
            timestamp_ms,
            is_of_former_owner,
        };
        invariants::on_append(&mut state, at, &kept);
        state.log.entry(at).or_default().push(kept);
    }

    /// The rows of a write with this order land.
    pub fn land(&self, rows: Vec<Row>, order: Order) {
        let state = &mut *self.state();
        for row in rows {
            invariants::on_row(state, &row);
            let key = RowKey::of(&row);
            match state.rows.get_mut(&key) {
                Some(stored) => stored.take(row, order),
                None => {
                    state.rows.insert(key, Stored { row, order });
                }
            }
        }
    }

    pub fn delay(&self, slow: Fault) -> Duration {
        let state = &mut *self.state();
        state.faults.delay(slow, &mut state.draws)
    }

    pub fn draw(&self) -> u64 {
        self.state().draws.next()
    }

    pub fn count(&self, fault: Fault) {
        self.state().faults.count(fault);
    }

    pub fn violation(&self, what: String) {
        self.state().violations.push(what);
    }

    pub fn is_calm(&self) -> bool {
        self.state().faults.calm
    }
}

/// One owner's life. When it has ended, none of its calls ever returns.
#[derive(Debug)]
pub struct Life {
    pub number: u64,
    pub world: Arc<World>,
    /// Calls until it ends; `u64::MAX` for a long life.
    points_left: AtomicU64,
    asleep_until: Mutex<Option<Instant>>,
    dead: watch::Sender<bool>,
}

impl Life {
    /// A new owner of `partition`.
    pub fn begin(world: &Arc<World>, partition: i32) -> Arc<Self> {
        let mut state = world.state();
        state.lives_count += 1;
        let number = state.lives_count;
        state.owners.insert(partition, number);
        drop(state);
        Arc::new(Self {
            number,
            world: Arc::clone(world),
            points_left: AtomicU64::new(u64::MAX),
            asleep_until: Mutex::new(None),
            dead: watch::channel(false).0,
        })
    }

    /// Ends it at its `calls`-th call from now.
    pub fn end_after(&self, calls: u64) {
        self.points_left.store(calls, Ordering::Relaxed);
    }

    /// It stands still for `span`: its next call goes on only then.
    pub fn sleep(&self, span: Duration) {
        let until = Instant::now() + span;
        *self.asleep_until.lock().expect("no holder panics") = Some(until);
    }

    pub fn has_slept(&self) -> bool {
        self.asleep_until
            .lock()
            .expect("no holder panics")
            .is_some()
    }

    /// Ends it now.
    pub fn end(&self) {
        self.dead.send_replace(true);
    }

    pub fn is_over(&self) -> bool {
        *self.dead.borrow()
    }

    pub async fn ended(&self) {
        let mut dead = self.dead.subscribe();
        // The sender lives as long as this does.
        let _ = dead.wait_for(|dead| *dead).await;
    }

    /// A place where the process may die.
    pub async fn point(&self) {
        let asleep_until = *self.asleep_until.lock().expect("no holder panics");
        if let Some(until) = asleep_until {
            tokio::time::sleep_until(until).await;
        }
        let left = self.points_left.load(Ordering::Relaxed);
        if left == 0 && !self.is_over() {
            self.world.count(Fault::CrashInCall);
            self.end();
        } else if left != u64::MAX {
            self.points_left
                .store(left.saturating_sub(1), Ordering::Relaxed);
        }
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}
