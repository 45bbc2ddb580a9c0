//! The tariffs as the log has them. A PUT is merged into what holds here and produced whole, so that engine, store and
//! API see the same prices; what it does not speak of stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use model::tariff::{PricePeriod, Tariff};
use model::units::DAY_MS;
use platform::log::{Consumer, LogError, LogEvent, Start, Subscription};
use platform::retry::Backoff;
use platform::role_context::RoleContext;
use schemas::topic::Topic;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::problem::Refused;

/// How long prices of the past are kept, ms: as far as `GET /api/latest` reaches.
const KEPT_MS: i64 = 31 * DAY_MS;
/// How long a PUT waits until it reads in the log what it wrote there.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Follows the topic. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Prices {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Prices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prices").finish_non_exhaustive()
    }
}

struct Shared {
    context: RoleContext,
    by_name: RwLock<BTreeMap<String, Arc<Tariff>>>,
    /// Whether the topic has been read to its end once.
    is_whole: watch::Sender<bool>,
    /// Counts records, so that a PUT can wait for its own.
    records_count: watch::Sender<u64>,
    /// One PUT at a time.
    putting: Mutex<()>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Prices {
    /// Starts to read, and goes on trying while the log is away. Must be called inside a runtime.
    pub(crate) fn start(context: &RoleContext) -> Self {
        let shared = Arc::new(Shared {
            context: context.clone(),
            by_name: RwLock::default(),
            is_whole: watch::Sender::new(false),
            records_count: watch::Sender::new(0),
            putting: Mutex::new(()),
            task: std::sync::Mutex::new(None),
        });
        let task = tokio::spawn(follow(Arc::clone(&shared)));
        *shared.task.lock().expect("no holder panics") = Some(task);
        Self { shared }
    }

    pub(crate) fn close(&self) {
        let task = self.shared.task.lock().expect("no holder panics").take();
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Every tariff, by name.
    pub(crate) fn all(&self) -> Result<Vec<Arc<Tariff>>, Refused> {
        self.check_whole()?;
        let by_name = self.shared.by_name.read().expect("no writer panics");
        Ok(by_name.values().cloned().collect())
    }

    /// What is in force under `name`.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Arc<Tariff>>, Refused> {
        self.check_whole()?;
        let by_name = self.shared.by_name.read().expect("no writer panics");
        Ok(by_name.get(name).cloned())
    }

    /// Puts the periods of `newer` over those that hold, and returns what holds then. Without periods nothing changes.
    pub(crate) async fn put(&self, newer: &Tariff, now_ms: i64) -> Result<Arc<Tariff>, Refused> {
        let _one: MutexGuard<'_, ()> = self.shared.putting.lock().await;
        let before = self.get(&newer.name)?;
        if newer.periods.is_empty() {
            let unknown = || {
                let detail = format!(
                    "there is no tariff {:?}, and no period is given",
                    newer.name
                );
                Refused::invalid(Some("periods".to_owned()), detail)
            };
            return before.ok_or_else(unknown);
        }
        let known = before.as_ref().map_or(&[][..], |before| &before.periods);
        let merged = Tariff {
            name: newer.name.clone(),
            periods: merged(known, &newer.periods, now_ms - KEPT_MS),
            stated: Vec::new(),
        };
        merged.check()?;
        let context = &self.shared.context;
        let bytes = context.codec.encode(&merged);
        let bytes = bytes.map_err(|error| Refused::bad_request(error.to_string()))?;
        let mut records_count = self.shared.records_count.subscribe();
        records_count.mark_unchanged();
        context
            .log
            .produce(Topic::Tariffs, merged.name.as_bytes(), bytes)
            .await?;
        // The next PUT begins from this one.
        let is_seen = async {
            loop {
                let held = self.get(&merged.name);
                if let Ok(Some(held)) = held
                    && *held == merged
                {
                    return held;
                }
                if records_count.changed().await.is_err() {
                    return Arc::new(merged.clone());
                }
            }
        };
        let seen = tokio::time::timeout(SEEN_WITHIN, is_seen).await;
        Ok(seen.unwrap_or_else(|_| Arc::new(merged.clone())))
    }

    fn check_whole(&self) -> Result<(), Refused> {
        if *self.shared.is_whole.borrow() {
            return Ok(());
        }
        Err(Refused::unavailable(
            "the tariffs are still being read".to_owned(),
        ))
    }
}

/// `newer` over `known`: each keeps what the other does not speak of, and where both do `newer` holds. Both ascend
/// without overlap, as does the result. What ended by `kept_from_ms` is left out.
fn merged(known: &[PricePeriod], newer: &[PricePeriod], kept_from_ms: i64) -> Vec<PricePeriod> {
    let mut periods = newer.to_vec();
    for period in known {
        let mut from_ms = period.start_ms;
        let first = newer.partition_point(|over| over.end_ms <= period.start_ms);
        for over in newer[first..]
            .iter()
            .take_while(|over| over.start_ms < period.end_ms)
        {
            if from_ms < over.start_ms {
                periods.push(PricePeriod {
                    start_ms: from_ms,
                    end_ms: over.start_ms,
                    ..*period
                });
            }
            from_ms = over.end_ms;
        }
        if from_ms < period.end_ms {
            periods.push(PricePeriod {
                start_ms: from_ms,
                ..*period
            });
        }
    }
    periods.retain(|period| period.end_ms > kept_from_ms);
    periods.sort_by_key(|period| period.start_ms);
    periods
}

async fn follow(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    loop {
        match subscribe(&shared.context).await {
            Ok(consumer) => {
                backoff.reset();
                read(&shared, consumer).await;
                info!("the subscription to tariffs ended, subscribe again");
            }
            Err(reason) => warn!(%reason, "cannot subscribe to tariffs"),
        }
        backoff.pause().await;
    }
}

async fn subscribe(context: &RoleContext) -> Result<Consumer, LogError> {
    let subscription = Subscription {
        group: None,
        member: None,
        topics: vec![Topic::Tariffs],
        start: Start::Earliest,
        batch_max: 100,
    };
    context.log.subscribe(subscription).await
}

async fn read(shared: &Shared, mut consumer: Consumer) {
    let mut behind = BTreeSet::new();
    while let Some(event) = consumer.events.recv().await {
        match event {
            LogEvent::Assigned(partitions) => behind.extend(partitions),
            LogEvent::Records { records, .. } => {
                for record in &records {
                    take(shared, &record.value);
                }
                shared.records_count.send_modify(|count| *count += 1);
            }
            LogEvent::Revoked { done, .. } => {
                let _ = done.send(());
            }
            LogEvent::CaughtUp(partition) => {
                behind.remove(&partition);
                if behind.is_empty() {
                    shared.is_whole.send_replace(true);
                }
            }
        }
    }
}

/// What does not decode is the engine's to refuse.
fn take(shared: &Shared, value: &[u8]) {
    let Ok(tariff) = shared.context.codec.decode::<Tariff>(value) else {
        return;
    };
    let mut by_name = shared.by_name.write().expect("no writer panics");
    by_name.insert(tariff.name.clone(), Arc::new(tariff));
}

#[cfg(test)]
mod tests {
    use super::{PricePeriod, merged};

    /// Periods as (start, end, price).
    #[track_caller]
    fn check(known: &[(i64, i64, f64)], newer: &[(i64, i64, f64)], expected: &[(i64, i64, f64)]) {
        let periods = |of: &[(i64, i64, f64)]| -> Vec<PricePeriod> {
            let periods = of.iter().map(|&(start_ms, end_ms, price)| PricePeriod {
                start_ms,
                end_ms,
                buy_per_kwh: price,
                sell_per_kwh: 0.0,
            });
            periods.collect()
        };
        assert_eq!(
            merged(&periods(known), &periods(newer), 0),
            periods(expected)
        );
    }

    #[test]
    fn what_is_known_stays_known() {
        let today = [(0, 10, 1.0), (10, 20, 2.0)];
        check(
            &today,
            &[(20, 30, 3.0)],
            &[(0, 10, 1.0), (10, 20, 2.0), (20, 30, 3.0)],
        );
        check(&today, &[], &today);
        check(&[], &today, &today);
        check(&today, &[(10, 20, 5.0)], &[(0, 10, 1.0), (10, 20, 5.0)]);
        check(
            &today,
            &[(5, 15, 5.0)],
            &[(0, 5, 1.0), (5, 15, 5.0), (15, 20, 2.0)],
        );
        // A new period inside a long one, two of them, and one over all.
        check(
            &[(0, 100, 1.0)],
            &[(40, 50, 2.0)],
            &[(0, 40, 1.0), (40, 50, 2.0), (50, 100, 1.0)],
        );
        check(
            &[(0, 100, 1.0)],
            &[(10, 20, 2.0), (20, 30, 3.0)],
            &[(0, 10, 1.0), (10, 20, 2.0), (20, 30, 3.0), (30, 100, 1.0)],
        );
        check(&today, &[(0, 100, 9.0)], &[(0, 100, 9.0)]);
    }

    #[test]
    fn the_past_is_left_out() {
        let period = |start_ms, end_ms| PricePeriod {
            start_ms,
            end_ms,
            buy_per_kwh: 0.1,
            sell_per_kwh: 0.1,
        };
        let known = [period(0, 10), period(10, 20)];
        assert_eq!(
            merged(&known, &[period(20, 30)], 10),
            [period(10, 20), period(20, 30)]
        );
    }
}
