//! The router and its shards, in virtual time: whatever one shard waits for, the others go on, and a partition that is
//! taken away goes in time. A shard that has ended ends the engine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[allow(
    unreachable_pub,
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "shared by several tests"
)]
mod fakes;

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Arbiter;
use fakes::{MORNING_MS, World, home, meter, telemetry, until};
use host::router::{Router, RouterError};
use host::setup::Setup;
use platform::log::LogEvent;
use platform::store::Row;
use schemas::dead_letter::DeadLetter;
use schemas::topic::Topic;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

struct Running {
    world: World,
    stop: watch::Sender<bool>,
    router: JoinHandle<Result<(), RouterError>>,
    taking_over: watch::Receiver<usize>,
}

impl Running {
    fn start(adapt: impl FnOnce(&mut Setup)) -> Self {
        let mut world = World::new();
        let mut setup = world.setup();
        adapt(&mut setup);
        let router = Router::new(setup, vec![Arbiter::current()], Duration::from_secs(1));
        let taking_over = router.taking_over();
        let (stop, stopped) = watch::channel(false);
        let router = tokio::task::spawn_local(router.run(world.consumer(), stopped));
        Self {
            world,
            stop,
            router,
            taking_over,
        }
    }

    async fn assign(&self, partitions: &[i32]) {
        let partitions = partitions.iter().map(|partition| telemetry(*partition));
        let assigned = LogEvent::Assigned(partitions.collect());
        self.world.events.send(assigned).await.unwrap();
    }

    /// A reading of home 1 in partition 0, of home 2 in partition 1, and so on.
    async fn read(&self, partition: i32, minute: i64) {
        let id = home(i64::from(partition) + 1);
        let reading = meter(id, MORNING_MS + minute * 60_000, 500.0);
        let record = self.world.append(partition, id, &reading);
        let records = LogEvent::Records {
            from: telemetry(partition),
            records: vec![record],
        };
        self.world.events.send(records).await.unwrap();
    }

    /// Rows of the home of a partition.
    fn rows_count(&self, partition: i32) -> usize {
        let id = home(i64::from(partition) + 1);
        let rows = self.world.store.rows.lock().unwrap();
        let is_of = |row: &&Row| match row {
            Row::Reading(reading) => reading.household_id == id,
            Row::Asset(reading) => reading.household_id == id,
            Row::Slot { household_id, .. } | Row::Snapshot { household_id, .. } => {
                *household_id == id
            }
            Row::Schedule(_)
            | Row::Command(_)
            | Row::CommandAnswer(_)
            | Row::Household(_)
            | Row::Tariff(_) => false,
        };
        rows.iter().filter(is_of).count()
    }

    async fn revoke(&self, partition: i32) -> Duration {
        let (done, is_done) = oneshot::channel();
        let begun = Instant::now();
        let partitions = vec![telemetry(partition)];
        let revoked = LogEvent::Revoked { partitions, done };
        self.world.events.send(revoked).await.unwrap();
        is_done.await.unwrap();
        begun.elapsed()
    }
}

/// Actors need a system; here on one thread, in virtual time.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let mut runtime = Some(runtime);
    actix::System::with_tokio_rt(move || runtime.take().unwrap()).block_on(test);
}

#[test]
fn a_shard_that_dies_ends_the_engine_with_an_error() {
    run(async {
        let running = Running::start(|_| {});
        *running.world.store.deadly.lock().unwrap() = Some(home(2));
        running.assign(&[0, 1]).await;
        running.read(0, 0).await;
        running.read(1, 0).await;
        let ended = running.router.await.unwrap();
        assert_eq!(ended, Err(RouterError::ShardDied(1)));
        // What the others had is finished first.
        let committed = running.world.group.committed.lock().unwrap().clone();
        assert_eq!(committed.get(&telemetry(0)), Some(&1));
    });
}

#[test]
fn partitions_that_move_are_counted() {
    run(async {
        let running = Running::start(|_| {});
        running.assign(&[0, 1, 2]).await;
        running.revoke(1).await;
        let metrics = &running.world.metrics;
        assert_eq!(metrics.owned_partitions.get(), 2);
        let moves = |event| {
            let moves = &metrics.partition_moves_total;
            moves.with_label_values(&[event]).get()
        };
        assert_eq!((moves("assigned"), moves("revoked")), (3, 1));
    });
}

#[test]
fn a_shard_that_is_fenced_off_while_it_is_assigned_ends_the_engine_with_an_error() {
    run(async {
        let running = Running::start(|_| {});
        running.world.group.refuses.store(true, Ordering::SeqCst);
        running.assign(&[0]).await;
        running.read(0, 0).await;
        let ended = running.router.await.unwrap();
        assert_eq!(ended, Err(RouterError::ShardFenced(0)));
    });
}

#[test]
fn a_subscription_that_ends_ends_the_engine_with_an_error() {
    run(async {
        let running = Running::start(|_| {});
        running.assign(&[0]).await;
        drop(running.world.events);
        let ended = running.router.await.unwrap();
        assert_eq!(ended, Err(RouterError::SubscriptionEnded));
    });
}

#[test]
fn a_full_shard_holds_up_nobody_and_goes_in_time() {
    run(async {
        let running = Running::start(|setup| setup.checkpoint_records_max = 1);
        running.assign(&[0, 1]).await;
        running.read(0, 0).await;
        running.read(1, 0).await;
        until(|| running.rows_count(0) > 0 && running.rows_count(1) > 0).await;
        running.world.store.is_away.store(true, Ordering::SeqCst);
        // More than the outbox, the shard, and the channel hold together.
        for minute in 1..60 {
            running.read(0, minute).await;
        }
        let paused = || running.world.group.paused.lock().unwrap().clone();
        until(|| paused().contains(&telemetry(0))).await;
        assert!(!paused().contains(&telemetry(1)));
        // The lag grows, though nothing is handled.
        let lag = || running.world.metrics.consumer_lag_seconds.get();
        until(|| lag() > 0.5).await;
        // The consumer waits for 10 s.
        let waited = running.revoke(0).await;
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        running.world.store.is_away.store(false, Ordering::SeqCst);
        let before = (running.rows_count(0), running.rows_count(1));
        running.read(1, 1).await;
        until(|| running.rows_count(1) > before.1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(running.rows_count(0), before.0, "written behind the fence");
        running.stop.send_replace(true);
        assert_eq!(running.router.await.unwrap(), Ok(()));
    });
}

/// A rolling update waits for it before it stops the next engine.
#[test]
fn a_partition_is_taken_over_once_its_homes_are_back() {
    run(async {
        let running = Running::start(|_| {});
        assert_eq!(*running.taking_over.borrow(), 0);
        running.world.store.is_silent.store(true, Ordering::SeqCst);
        running.assign(&[0, 1]).await;
        running.read(0, 0).await;
        // Its first tick is all that partition 1 waits for.
        until(|| *running.taking_over.borrow() == 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(*running.taking_over.borrow(), 1);
        running.world.store.is_silent.store(false, Ordering::SeqCst);
        until(|| *running.taking_over.borrow() == 0).await;
        running.revoke(0).await;
        running.assign(&[0]).await;
        until(|| *running.taking_over.borrow() == 1).await;
        until(|| *running.taking_over.borrow() == 0).await;
        running.stop.send_replace(true);
        assert_eq!(running.router.await.unwrap(), Ok(()));
    });
}

#[test]
fn a_shard_that_was_full_goes_on_where_it_was() {
    run(async {
        let running = Running::start(|setup| setup.checkpoint_records_max = 1);
        running.assign(&[0]).await;
        running.read(0, 0).await;
        until(|| running.rows_count(0) > 0).await;
        running.world.store.is_away.store(true, Ordering::SeqCst);
        for minute in 1..60 {
            running.read(0, minute).await;
        }
        let group = running.world.group.clone();
        until(|| !group.paused.lock().unwrap().is_empty()).await;
        running.world.store.is_away.store(false, Ordering::SeqCst);
        until(|| group.committed.lock().unwrap().get(&telemetry(0)) == Some(&60)).await;
        assert!(group.paused.lock().unwrap().is_empty());
        running.stop.send_replace(true);
        assert_eq!(running.router.await.unwrap(), Ok(()));
    });
}

/// A value of a schema that this build does not know.
fn newer_value() -> Vec<u8> {
    [&[0xc3, 0x01][..], &[9; 8], &[0; 20]].concat()
}

#[test]
fn a_newer_record_ends_the_engine_and_is_neither_refused_nor_passed_over() {
    run(async {
        let running = Running::start(|_| {});
        running.assign(&[0]).await;
        running.read(0, 0).await;
        let value = newer_value();
        let record = running
            .world
            .append_bytes(Topic::Telemetry, 0, home(1), value);
        let records = LogEvent::Records {
            from: telemetry(0),
            records: vec![record],
        };
        running.world.events.send(records).await.unwrap();
        let ended = running.router.await.unwrap();
        assert!(
            matches!(ended, Err(RouterError::ShardGaveUp { partition: 0, .. })),
            "{ended:?}"
        );
        assert!(running.world.log.values::<DeadLetter>().is_empty());
        let committed = running.world.group.committed.lock().unwrap().clone();
        assert!(committed.get(&telemetry(0)).is_none_or(|next| *next <= 1));
    });
}

#[test]
fn a_newer_snapshot_ends_the_engine_and_stays() {
    run(async {
        let running = Running::start(|_| {});
        let newer = Row::Snapshot {
            household_id: home(1),
            state: vec![99, 1, 2, 3],
        };
        running.world.store.rows.lock().unwrap().push(newer.clone());
        running.assign(&[0]).await;
        running.read(0, 0).await;
        let ended = running.router.await.unwrap();
        assert!(
            matches!(ended, Err(RouterError::ShardGaveUp { partition: 0, .. })),
            "{ended:?}"
        );
        assert_eq!(*running.world.store.rows.lock().unwrap(), [newer]);
    });
}

/// The number of partitions was changed while nothing was on its way.
#[test]
fn a_home_goes_on_on_another_partition() {
    run(async {
        let running = Running::start(|_| {});
        running.assign(&[0]).await;
        running.read(0, 0).await;
        running.read(0, 20).await;
        until(|| running.rows_count(0) >= 3).await;
        running.stop.send_replace(true);
        running.router.await.unwrap().unwrap();
        let before = running.world.store.rows.lock().unwrap().clone();
        let running = Running::start(|_| {});
        running.world.store.rows.lock().unwrap().extend(before);
        running.assign(&[1]).await;
        // Its first reading there ends the slot that was open on the other partition.
        let reading = meter(home(1), MORNING_MS + 40 * 60_000, 500.0);
        let record = running.world.append(1, home(1), &reading);
        let records = LogEvent::Records {
            from: telemetry(1),
            records: vec![record],
        };
        running.world.events.send(records).await.unwrap();
        let ended_ms = MORNING_MS + 15 * 60_000;
        until(|| {
            let rows = running.world.store.rows.lock().unwrap();
            rows.iter()
                .any(|row| matches!(row, Row::Slot { slot, .. } if slot.start_ms == ended_ms))
        })
        .await;
        running.stop.send_replace(true);
        assert_eq!(running.router.await.unwrap(), Ok(()));
    });
}
