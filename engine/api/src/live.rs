//! What happens in the fleet, as it happens: one consumer without a group hands it to those who wait for a schedule, to
//! the clients of `/api/events`, and to the sums of `/api/fleet`. It keeps nothing of what nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use model::alert::Alert;
use model::command::Command;
use model::schedule::Schedule;
use model::slot::HouseholdSlot;
use model::units::HouseholdId;
use platform::log::{
    Consumer, ConsumerControl, LogError, LogEvent, Record, Start, Subscription, TopicPartition,
};
use platform::retry::Backoff;
use platform::role_context::RoleContext;
use schemas::topic::Topic;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::body::SavingsBody;
use crate::events::Event;
use crate::fleet::Fleet;
use crate::problem::Refused;

/// Most requests that wait for a schedule at once.
const WAITERS_MAX: usize = 1_000;
/// Events that a client may be behind before it is cut.
const EVENTS_MAX: usize = 1_024;
/// Most records of one partition that are searched for a home's alerts.
const ALERTS_SEARCHED_MAX: i64 = 20_000;
/// Homes in a page of the store's.
const HOMES_TOGETHER_MAX: usize = 1_000;
/// Pauses before log or store are asked again.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The running consumer and those who listen to it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

struct Shared {
    context: RoleContext,
    events: broadcast::Sender<Arc<Event>>,
    waiters: Mutex<BTreeMap<String, oneshot::Sender<Arc<Schedule>>>>,
    fleet: Mutex<Fleet>,
    /// The way back to the log, while there is a subscription.
    log: Mutex<Option<Subscribed>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Subscribed {
    control: Arc<dyn ConsumerControl>,
    partitions: BTreeSet<TopicPartition>,
}

/// Someone who waits for one schedule; going away ends the wait.
#[derive(Debug)]
pub(crate) struct Waiter {
    live: Live,
    schedule_id: String,
    answered: oneshot::Receiver<Arc<Schedule>>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        lock(&self.live.shared.waiters).remove(&self.schedule_id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl Live {
    /// Starts to listen, and goes on trying while the log is away. Must be called inside a runtime.
    pub(crate) fn start(context: &RoleContext) -> Self {
        let shared = Arc::new(Shared {
            context: context.clone(),
            events: broadcast::Sender::new(EVENTS_MAX),
            waiters: Mutex::default(),
            fleet: Mutex::new(Fleet::new(context.clock.now_ms())),
            log: Mutex::new(None),
            task: Mutex::new(None),
        });
        let (listening, learning) = (listen(Arc::clone(&shared)), learn(Arc::clone(&shared)));
        let task = tokio::spawn(async move {
            tokio::join!(listening, learning);
        });
        *lock(&shared.task) = Some(task);
        Self { shared }
    }

    /// Ends it, and every stream of events.
    pub(crate) fn close(&self) {
        if let Some(task) = lock(&self.shared.task).take() {
            task.abort();
        }
        // Nobody may be listening.
        let _ = self.shared.events.send(Arc::new(Event::End));
    }

    /// Events from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.shared.events.subscribe()
    }

    /// What is known of the fleet, looked at by `look`.
    pub(crate) fn fleet<T>(&self, look: impl FnOnce(&Fleet) -> T) -> T {
        look(&lock(&self.shared.fleet))
    }

    /// Takes over what someone who knows the meters tells of bills.
    pub(crate) fn tell_savings(&self, savings: SavingsBody) {
        lock(&self.shared.fleet).tell_savings(savings);
    }

    /// Begins to wait for a schedule, which should not be asked for before.
    pub(crate) fn wait_for(&self, schedule_id: &str) -> Result<Waiter, Refused> {
        let (answer, answered) = oneshot::channel();
        let mut waiters = lock(&self.shared.waiters);
        if waiters.len() >= WAITERS_MAX {
            return Err(Refused::unavailable(format!(
                "{WAITERS_MAX} requests wait for their schedules already; ask without wait"
            )));
        }
        waiters.insert(schedule_id.to_owned(), answer);
        Ok(Waiter {
            live: self.clone(),
            schedule_id: schedule_id.to_owned(),
            answered,
        })
    }

    /// A home's alerts as far as the newest of its partition's records reach, the oldest first. They are read from the
    /// topic, which is the only place that has them: they are few, and a table would be a second truth.
    pub(crate) async fn alerts(&self, id: HouseholdId) -> Result<Vec<Alert>, Refused> {
        let key = id.to_string();
        let (control, partition) = {
            let log = lock(&self.shared.log);
            let log = log
                .as_ref()
                .ok_or_else(|| Refused::unavailable("the log has not answered yet".to_owned()))?;
            let of_alerts = |it: &&TopicPartition| it.topic == Topic::Alerts;
            let count = log.partitions.iter().filter(of_alerts).count();
            let count = u32::try_from(count).expect("partitions are few");
            if count == 0 {
                return Ok(Vec::new());
            }
            let partition = TopicPartition {
                topic: Topic::Alerts,
                partition: platform::log::partition_of(key.as_bytes(), count),
            };
            (Arc::clone(&log.control), partition)
        };
        let held = control.offsets_now(partition).await?;
        let from = held.start.max(held.end - ALERTS_SEARCHED_MAX);
        let records = control
            .read(partition, from..held.end, key.as_bytes())
            .await?;
        let codec = &self.shared.context.codec;
        let alerts = records
            .iter()
            .filter_map(|record| codec.decode(&record.value).ok());
        Ok(alerts.collect())
    }
}

impl Waiter {
    /// The schedule, or `None` if it has not come within `limit`.
    pub(crate) async fn wait(mut self, limit: Duration) -> Result<Option<Arc<Schedule>>, Refused> {
        let answered = tokio::time::timeout(limit, &mut self.answered).await;
        if let Ok(Ok(schedule)) = answered {
            return Ok(Some(schedule));
        }
        // It may have passed while the log was away.
        let store = &self.live.shared.context.store;
        Ok(store.schedule(&self.schedule_id).await?.map(Arc::new))
    }
}

/// Reads once which homes there are, so that one that fell silent before the start is missed too.
async fn learn(shared: Arc<Shared>) {
    let store = &shared.context.store;
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    let mut after = None;
    loop {
        match store.households(after, HOMES_TOGETHER_MAX).await {
            Ok(page) => {
                backoff.reset();
                let mut fleet = lock(&shared.fleet);
                let has_room = page.iter().all(|home| fleet.know(home.household_id));
                after = page.last().map(|home| home.household_id);
                if !has_room || page.len() < HOMES_TOGETHER_MAX {
                    return;
                }
            }
            Err(reason) => {
                warn!(%reason, "cannot read which homes there are, trying again");
                backoff.pause().await;
            }
        }
    }
}

async fn listen(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    loop {
        match subscribe(&shared.context).await {
            Ok(consumer) => {
                backoff.reset();
                hear(&shared, consumer).await;
                *lock(&shared.log) = None;
                info!("the subscription to events ended, subscribe again");
            }
            Err(reason) => warn!(%reason, "cannot subscribe to events"),
        }
        backoff.pause().await;
    }
}

async fn subscribe(context: &RoleContext) -> Result<Consumer, LogError> {
    let subscription = Subscription {
        group: None,
        member: None,
        topics: vec![
            Topic::Schedules,
            Topic::Slots,
            Topic::Commands,
            Topic::Alerts,
        ],
        start: Start::Latest,
        batch_max: 500,
    };
    context.log.subscribe(subscription).await
}

async fn hear(shared: &Shared, mut consumer: Consumer) {
    while let Some(event) = consumer.events.recv().await {
        match event {
            LogEvent::Assigned(partitions) => {
                let mut log = lock(&shared.log);
                let subscribed = log.get_or_insert_with(|| Subscribed {
                    control: Arc::clone(&consumer.control),
                    partitions: BTreeSet::new(),
                });
                subscribed.partitions.extend(partitions);
            }
            LogEvent::Records { from, records } => {
                for record in &records {
                    take(shared, from, record);
                }
            }
            LogEvent::Revoked { done, .. } => {
                let _ = done.send(());
            }
            LogEvent::CaughtUp(_) => {}
        }
    }
}

/// What does not decode is the engine's to refuse.
fn take(shared: &Shared, from: TopicPartition, record: &Record) {
    if record.value.is_empty() {
        return;
    }
    let codec = &shared.context.codec;
    let id = || format!("{}-{}-{}", from.topic, from.partition, record.offset);
    let is_heard = shared.events.receiver_count() > 0;
    let event = match from.topic {
        Topic::Schedules => {
            let Ok(schedule) = codec.decode::<Schedule>(&record.value) else {
                return;
            };
            let schedule = Arc::new(schedule);
            if let Some(waiter) = lock(&shared.waiters).remove(&schedule.schedule_id) {
                // It may have given up.
                let _ = waiter.send(Arc::clone(&schedule));
            }
            lock(&shared.fleet).plan(&schedule);
            is_heard.then(|| Event::schedule(&id(), &schedule))
        }
        Topic::Slots => {
            let Ok(slot) = codec.decode::<HouseholdSlot>(&record.value) else {
                return;
            };
            lock(&shared.fleet).measure(&slot);
            is_heard.then(|| Event::slot(&id(), &slot))
        }
        Topic::Commands if is_heard => {
            let command = codec.decode::<Command>(&record.value);
            command.ok().map(|command| Event::command(&id(), &command))
        }
        Topic::Alerts if is_heard => {
            let alert = codec.decode::<Alert>(&record.value);
            alert.ok().map(|alert| Event::alert(&id(), &alert))
        }
        Topic::Commands
        | Topic::Alerts
        | Topic::Telemetry
        | Topic::Households
        | Topic::Tariffs
        | Topic::WeatherForecast
        | Topic::OptimizeRequests
        | Topic::Acks
        | Topic::DeadLetters => None,
    };
    if let Some(event) = event {
        // Everybody may have left.
        let _ = shared.events.send(Arc::new(event));
    }
}
