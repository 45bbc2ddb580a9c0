//! The log of the simulation, and the way back to its consumer group, as one owner sees them. A record's place is taken
//! when its produce is first polled, as in the real ones.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::units::HouseholdId;
use platform::log::{
    Consumer, ConsumerControl, Log, LogError, LogEvent, Record, Subscription, TopicPartition,
};
use schemas::topic::Topic;
use tokio::sync::mpsc;

use super::faults::{Fate, Fault};
use super::invariants;
use super::state::{end_of, records};
use super::world::Life;

/// One owner's way to the log.
#[derive(Debug)]
pub struct SimLog(pub Arc<Life>);

fn unavailable() -> LogError {
    LogError::Unavailable("simulated".to_owned())
}

#[async_trait::async_trait]
impl Log for SimLog {
    async fn produce(&self, topic: Topic, key: &[u8], value: Vec<u8>) -> Result<(), LogError> {
        let (life, world) = (&self.0, &self.0.world);
        life.point().await;
        let fate = {
            let state = &mut *world.state();
            invariants::on_produce(state, topic, &value, life.number);
            // For good, as if it were too large.
            let may_be_refused = matches!(
                topic,
                Topic::Alerts | Topic::Commands | Topic::OptimizeRequests
            );
            if may_be_refused && !state.faults.calm && state.draws.permille(state.faults.share / 4)
            {
                state.faults.count(Fault::LogRefused);
                return Err(LogError::Refused("simulated".to_owned()));
            }
            state.faults.of_produce(&mut state.draws)
        };
        if matches!(fate, Fate::Done | Fate::AnswerLost) {
            world.append_by(Some(life), topic, key, value);
        }
        life.point().await;
        tokio::time::sleep(world.delay(Fault::LogSlow)).await;
        life.point().await;
        match fate {
            Fate::Done => Ok(()),
            Fate::Refused => Err(LogError::Setup("simulated".to_owned())),
            Fate::Unavailable | Fate::InPart | Fate::AnswerLost | Fate::LandsLate(_) => {
                Err(unavailable())
            }
        }
    }

    /// Hands out what is there, without a group: the tariffs.
    async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, LogError> {
        let (events, received) = mpsc::channel(16);
        let topic = *subscription.topics.first().expect("it wants a topic");
        let (at, records) = {
            let state = self.0.world.state();
            let mut held = state.log.iter().filter(|(at, _)| at.topic == topic);
            let (at, _) = held.next().expect("it was filled before");
            (*at, records(&state, *at, 0, usize::MAX))
        };
        for event in [
            LogEvent::Assigned(vec![at]),
            LogEvent::Records { from: at, records },
            LogEvent::CaughtUp(at),
        ] {
            events
                .try_send(event)
                .expect("there is room for three events");
        }
        let life = Arc::clone(&self.0);
        // Open as long as its owner lives.
        tokio::spawn(async move {
            life.ended().await;
            drop(events);
        });
        Ok(Consumer {
            events: received,
            control: Arc::new(SimControl::new(Arc::clone(&self.0), at.partition)),
        })
    }

    async fn init(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        Ok(())
    }

    async fn close(&self) {}
}

/// The consumer group, as the owner of one partition sees it.
#[derive(Debug)]
pub struct SimControl {
    life: Arc<Life>,
    partition: i32,
    paused: Mutex<BTreeSet<TopicPartition>>,
    patience: Mutex<Duration>,
}

impl SimControl {
    pub fn new(life: Arc<Life>, partition: i32) -> Self {
        Self {
            life,
            partition,
            paused: Mutex::default(),
            patience: Mutex::new(Duration::from_secs(30)),
        }
    }

    /// How long the group will wait for the owner to leave.
    pub fn wait_for(&self, patience: Duration) {
        *self.patience.lock().expect("no holder panics") = patience;
    }

    pub fn is_paused(&self, at: TopicPartition) -> bool {
        let paused = self.paused.lock().expect("no holder panics");
        paused.contains(&at)
    }
}

#[async_trait::async_trait]
impl ConsumerControl for SimControl {
    async fn commit(&self, next_offsets: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        let (life, world) = (&self.life, &self.life.world);
        life.point().await;
        tokio::time::sleep(world.delay(Fault::LogSlow)).await;
        life.point().await;
        let fate = {
            let state = &mut *world.state();
            if !state.is_owner(self.partition, life.number) {
                state.faults.count(Fault::CommitByFormerOwner);
                return Err(LogError::Refused("the partition has gone".to_owned()));
            }
            let fate = state.faults.of_commit(&mut state.draws);
            if matches!(fate, Fate::Done | Fate::AnswerLost) {
                invariants::on_commit(state, self.partition, &next_offsets);
                state.committed.extend(next_offsets);
            }
            fate
        };
        life.point().await;
        if fate == Fate::Done {
            Ok(())
        } else {
            Err(unavailable())
        }
    }

    async fn committed(&self, partition: TopicPartition) -> Result<Option<i64>, LogError> {
        self.life.point().await;
        Ok(self.life.world.state().committed.get(&partition).copied())
    }

    fn pause(&self, partition: TopicPartition) {
        let mut paused = self.paused.lock().expect("no holder panics");
        paused.insert(partition);
    }

    fn resume(&self, partition: TopicPartition) {
        let mut paused = self.paused.lock().expect("no holder panics");
        paused.remove(&partition);
    }

    fn revoke_patience(&self) -> Duration {
        *self.patience.lock().expect("no holder panics")
    }

    fn end_offset(&self, partition: TopicPartition) -> Option<i64> {
        let state = &mut *self.life.world.state();
        if !state.faults.calm && state.draws.permille(state.faults.share / 4) {
            state.faults.count(Fault::EndOffsetUnknown);
            return None;
        }
        Some(end_of(state, partition))
    }

    async fn read(
        &self,
        partition: TopicPartition,
        offsets: Range<i64>,
        key: &[u8],
    ) -> Result<Vec<Record>, LogError> {
        let (life, world) = (&self.life, &self.life.world);
        life.point().await;
        tokio::time::sleep(world.delay(Fault::LogSlow)).await;
        life.point().await;
        let state = &mut *world.state();
        if state.faults.of_produce(&mut state.draws) != Fate::Done {
            return Err(unavailable());
        }
        let count = usize::try_from(offsets.end - offsets.start).expect("a range ascends");
        let text = std::str::from_utf8(key).expect("a key is a home's id");
        let id = HouseholdId::parse(text).expect("a key is a home's id");
        // As after a crash, what led to its commands is told to the home again.
        state.commanded.remove(&(life.number, id));
        let mut records = records(state, partition, offsets.start, count);
        records.retain(|record| record.key.as_deref() == Some(key));
        Ok(records)
    }

    async fn is_unread_and_whole(&self, partitions: &[TopicPartition]) -> Result<bool, LogError> {
        self.life.point().await;
        let state = &mut *self.life.world.state();
        if !state.faults.calm && state.draws.permille(250) {
            state.faults.count(Fault::BeginningUnknown);
            return Err(unavailable());
        }
        let committed = &state.committed;
        Ok(partitions.iter().all(|at| !committed.contains_key(at)))
    }
}
