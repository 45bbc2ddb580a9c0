//! Owners of partitions that sleep, come and go while others go on, also while the store is away: nothing that one does
//! late takes a row or a slot back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::harness::{
    CassandraFor, HearthProcess, Ledger, Phases, Stack, free_port, hearth_config, hearth_init,
    metric, unique, wait_for,
};

const MINUTE_MS: i64 = 60_000;
const SLOT_MS: i64 = 15 * MINUTE_MS;
const LIMIT: Duration = Duration::from_secs(90);
/// Ten times the session.
const SLEEP: Duration = Duration::from_secs(60);
/// How long the store stands still, so that the sleeper falls asleep with rows in its hands.
const STORE_AWAY: Duration = Duration::from_secs(2);
/// How long the load goes on after that the sleeper is awake.
const AWAKE: Duration = Duration::from_secs(10);
/// How long a third engine is there, and how long the store then stays away.
const THIRD: Duration = Duration::from_secs(8);
const HOMES: usize = 12;
/// Between two rounds of the load.
const PAUSE: Duration = Duration::from_millis(200);

struct Engines {
    config: PathBuf,
    keyspace: String,
    bridge: HearthProcess,
}

async fn start(stack: &Stack, name: &str) -> anyhow::Result<Engines> {
    let (prefix, keyspace) = (unique(&format!("{name}-")), unique(name));
    let config = hearth_config(
        stack,
        &prefix,
        &keyspace,
        "[engine]\ncheckpoint_ms = 2000\n[log.kafka]\nsession_timeout_ms = 6000\ndelivery_timeout_ms = 5000\n",
    )?;
    hearth_init(&config).await?;
    let (bridge, _) = HearthProcess::start_role(&config, "bridge").await?;
    Ok(Engines {
        config,
        keyspace,
        bridge,
    })
}

impl Engines {
    async fn engine(&self) -> anyhow::Result<(HearthProcess, u16)> {
        HearthProcess::start_role(&self.config, "engine").await
    }

    async fn end(&self, engines: &[&HearthProcess]) -> anyhow::Result<()> {
        for process in engines.iter().copied().chain([&self.bridge]) {
            let ended = process.terminate(Duration::from_secs(60)).await?;
            ensure!(ended.success(), "a role ended with {ended}");
        }
        Ok(())
    }
}

/// Moments of two slots that have ended and of the one that runs, a minute apart. The even ones are corrected before
/// and during the sleep only, so that nothing later hides a row that goes back.
fn moments() -> (Vec<i64>, Vec<i64>) {
    let now_ms = platform::clock::wall_ms();
    let from_ms = now_ms - now_ms.rem_euclid(SLOT_MS) - 2 * SLOT_MS;
    let all = (0..).map(|minute| from_ms + minute * MINUTE_MS);
    let all = all.take_while(|ts_ms| *ts_ms <= now_ms);
    all.partition(|ts_ms| ts_ms / MINUTE_MS % 2 == 0)
}

/// Readings that the engine on `port` has taken in.
async fn taken(port: u16) -> anyhow::Result<f64> {
    metric(port, "hearth_readings_total").await
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn an_engine_that_slept_past_its_session_takes_no_row_back() -> anyhow::Result<()> {
    let mut phases = Phases::start();
    // A stack of its own, since its store is stopped.
    let stack = Stack::start(CassandraFor::Tests).await?;
    let engines = start(&stack, "sleep").await?;
    let (sleeper, sleeper_port) = engines.engine().await?;
    let (other, other_port) = engines.engine().await?;
    let mut ledger = Ledger::of_homes(HOMES);
    let (even, odd) = moments();
    let mut all = [even, odd.clone()].concat();
    // A device sends its past first.
    all.sort_unstable();
    let both_take = async || {
        let (one, two) = (taken(sleeper_port).await?, taken(other_port).await?);
        ensure!(
            one > 0.0 && two > 0.0,
            "{one} and {two} readings are taken in"
        );
        Ok(())
    };
    load_for(&mut ledger, Duration::from_secs(1), &stack, &all).await?;
    wait_for("both engines to have homes", LIMIT, both_take).await;
    phases.end("start");

    // The store answers nobody, the log goes on: the sleeper holds rows that it has not written.
    stack.cassandra.pause()?;
    load_for(&mut ledger, STORE_AWAY, &stack, &all).await?;
    sleeper.process().pause()?;
    stack.cassandra.resume()?;
    load_for(&mut ledger, SLEEP, &stack, &all).await?;
    phases.end("asleep");
    // The other has all by now. Whatever goes back from here on, the sleeper took it back.
    ledger.wait_stored(&stack, &engines.keyspace, LIMIT).await;
    phases.end("taken over");
    sleeper.process().resume()?;
    load_for(&mut ledger, AWAKE, &stack, &odd).await?;
    ledger.wait_stored(&stack, &engines.keyspace, LIMIT).await;
    phases.end("awake");
    // What they write at their ends counts too.
    engines.end(&[&sleeper, &other]).await?;
    ledger.check_stored(&stack, &engines.keyspace).await?;
    phases.end("end");
    eprintln!("{} readings; {phases}", ledger.sent());
    Ok(())
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn owners_that_change_while_the_store_is_away_lose_no_slot() -> anyhow::Result<()> {
    let mut phases = Phases::start();
    // A stack of its own, since its store is stopped.
    let stack = Stack::start(CassandraFor::Tests).await?;
    let engines = start(&stack, "change").await?;
    let (one, _) = engines.engine().await?;
    let (two, _) = engines.engine().await?;
    let mut ledger = Ledger::of_homes(HOMES);
    let (even, odd) = moments();
    let mut all = [even, odd].concat();
    all.sort_unstable();
    load_for(&mut ledger, STORE_AWAY, &stack, &all).await?;
    ledger.wait_stored(&stack, &engines.keyspace, LIMIT).await;
    phases.end("start");

    stack.cassandra.pause()?;
    load_for(&mut ledger, STORE_AWAY, &stack, &all).await?;
    // It does not become ready without a store, but takes its share of the partitions.
    let config = engines.config.to_str().context("a path of UTF-8")?;
    let listen = format!("127.0.0.1:{}", free_port());
    let env = [("HEARTH_HTTP__LISTEN", listen.as_str())];
    let third = HearthProcess::start(&["--config", config, "engine"], &env)?;
    load_for(&mut ledger, THIRD, &stack, &all).await?;
    let come_back = async {
        load_for(&mut ledger, THIRD, &stack, &all).await?;
        stack.cassandra.resume()
    };
    tokio::try_join!(third.terminate(LIMIT), come_back)?;
    load_for(&mut ledger, STORE_AWAY, &stack, &all).await?;
    phases.end("store away");
    one.kill();
    two.kill();
    let (last, _) = engines.engine().await?;
    ledger.wait_stored(&stack, &engines.keyspace, LIMIT).await;
    phases.end("the last one");
    engines.end(&[&last]).await?;
    ledger.check_stored(&stack, &engines.keyspace).await?;
    phases.end("end");
    eprintln!("{} readings; {phases}", ledger.sent());
    Ok(())
}

/// Every home sends the moments anew again and again, for so long.
async fn load_for(
    ledger: &mut Ledger,
    time: Duration,
    stack: &Stack,
    moments_ms: &[i64],
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        ledger
            .send(|home| stack.mosquitto.home(home), moments_ms)
            .await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
