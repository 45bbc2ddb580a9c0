//! A new build, an old one and the new one again over the same topics, tables, snapshots and spool. The old one stops at
//! what it does not know, goes on with the rest, and loses nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::harness::{
    CassandraFor, HearthProcess, Ledger, MqttAccess, Phases, Stack, cql, free_port, hearth_binary,
    hearth_config, hearth_init, http, kafka_records, metric, mosquitto_pub, next_binary, unique,
    unique_home, wait_for,
};

const MINUTE_MS: i64 = 60_000;
const SLOT_MS: i64 = 15 * MINUTE_MS;
const LIMIT: Duration = Duration::from_secs(90);
const HOMES: usize = 6;

/// One configuration, for which old and new builds take turns.
struct Turns {
    stack: Stack,
    config: PathBuf,
    spool: PathBuf,
    prefix: String,
    keyspace: String,
    mqtt_port: u16,
    old: PathBuf,
    new: PathBuf,
}

impl Turns {
    async fn start() -> anyhow::Result<Self> {
        let (old, new) = (hearth_binary()?, next_binary().await?);
        // A stack of its own, since its log is stopped.
        let stack = Stack::start(CassandraFor::Tests).await?;
        let (prefix, keyspace) = (unique("upgrade-"), unique("upgrade"));
        let mqtt_port = free_port();
        let spool = tests::harness::scratch_folder("upgrade-spool");
        let extra = format!(
            "[engine]\ncheckpoint_ms = 500\n[log.kafka]\nsession_timeout_ms = 6000\ndelivery_timeout_ms = 2000\n\
             [ingest]\nproduce_timeout_ms = 3000\nspool_dir = \"{}\"\n[gateway]\nlisten = \"127.0.0.1:{mqtt_port}\"\n",
            spool.display()
        );
        let config = hearth_config(&stack, &prefix, &keyspace, &extra)?;
        let turns = Self {
            stack,
            config,
            spool,
            prefix,
            keyspace,
            mqtt_port,
            old,
            new,
        };
        // An installation that was once set up by the old build, and then by the new one.
        hearth_init(&turns.config).await?;
        let init = turns.run(&turns.new, "init")?;
        turns.ends(&init).await?;
        ensure!(init.process().ended().is_some_and(|ended| ended.success()));
        Ok(turns)
    }

    fn run(&self, build: &Path, command: &str) -> anyhow::Result<HearthProcess> {
        let config = self.config.to_str().context("a path of UTF-8")?;
        let listen = format!("127.0.0.1:{}", free_port());
        let env = [("HEARTH_HTTP__LISTEN", listen.as_str())];
        HearthProcess::start_binary(build, &["--config", config, command], &env)
    }

    async fn role(&self, build: &Path, role: &str) -> anyhow::Result<(HearthProcess, u16)> {
        HearthProcess::start_role_of(build, &self.config, role).await
    }

    fn gateway(&self, _home: u64) -> MqttAccess {
        MqttAccess::plain(self.mqtt_port)
    }

    async fn send(&self, ledger: &mut Ledger, moments_ms: &[i64]) -> anyhow::Result<()> {
        ledger.send(|home| self.gateway(home), moments_ms).await
    }

    async fn wait_stored(&self, ledger: &Ledger) {
        ledger.wait_stored(&self.stack, &self.keyspace, LIMIT).await;
    }

    async fn ends(&self, process: &HearthProcess) -> anyhow::Result<()> {
        wait_for("a process to end", LIMIT, async || {
            ensure!(process.process().ended().is_some(), "it still runs");
            Ok(())
        })
        .await;
        Ok(())
    }

    /// The old build stops by itself, with an error that says that something is newer.
    async fn stops_at_newer(&self, role: &str) -> anyhow::Result<()> {
        let process = self.run(&self.old, role)?;
        self.ends(&process).await?;
        let ended = process.process().ended().context("it has ended")?;
        let log = process.process().log_tail();
        ensure!(
            ended.code() == Some(1) && log.contains("newer than this"),
            "{role}: {ended}\n{log}"
        );
        Ok(())
    }

    /// The files of the spool and what is in them.
    fn spooled(&self) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&self.spool)? {
            let path = entry?.path();
            if path.is_file() {
                files.insert(path.clone(), std::fs::read(&path)?);
            }
        }
        Ok(files)
    }

    /// Every snapshot with the version of its layout.
    async fn snapshots(&self) -> anyhow::Result<BTreeMap<i64, Vec<u8>>> {
        let query = format!(
            "SELECT household_id, state FROM {}.household_snapshots",
            self.keyspace
        );
        let rows = cql(&self.stack, &query).await?;
        Ok(rows.rows::<(i64, Vec<u8>)>()?.collect::<Result<_, _>>()?)
    }
}

/// Moments of two slots that have ended and of the one that runs, a minute apart, in `parts` by turns.
fn moments<const PARTS: usize>() -> [Vec<i64>; PARTS] {
    let now_ms = platform::clock::wall_ms();
    let from_ms = now_ms - now_ms.rem_euclid(SLOT_MS) - 2 * SLOT_MS;
    let all = (0..).map(|minute| from_ms + minute * MINUTE_MS);
    let all: Vec<i64> = all.take_while(|ts_ms| *ts_ms <= now_ms).collect();
    let length = all.len().div_ceil(PARTS);
    let mut parts = all.chunks(length).map(<[i64]>::to_vec);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn a_build_in_between_that_knows_less_loses_nothing() -> anyhow::Result<()> {
    let mut phases = Phases::start();
    let turns = Turns::start().await?;
    let mut ledger = Ledger::of_homes(HOMES);
    let [first, spooled, by_old, letters] = moments();
    phases.end("build and start");

    // The new build: rows, snapshots, and readings that wait in the spool.
    let (engine, _) = turns.role(&turns.new, "engine").await?;
    let (gateway, gateway_port) = turns.role(&turns.new, "gateway").await?;
    turns.send(&mut ledger, &first).await?;
    turns.wait_stored(&ledger).await;
    wait_for("snapshots", LIMIT, async || {
        let snapshots = turns.snapshots().await?;
        ensure!(snapshots.len() == HOMES, "{} are there", snapshots.len());
        Ok(())
    })
    .await;
    turns.stack.kafka.pause()?;
    turns.send(&mut ledger, &spooled).await?;
    let waiting = metric(gateway_port, "hearth_spool_bytes").await?;
    ensure!(waiting > 0.0, "nothing is spooled");
    gateway.kill();
    engine.kill();
    turns.stack.kafka.resume()?;
    phases.end("new");

    // The old build: its engine stops at snapshots and records, and its gateway hands on what it need not understand.
    let before = turns.snapshots().await?;
    let (api, api_port) = turns.role(&turns.old, "api").await?;
    for home in ledger.homes() {
        // For this the engine needs the home's snapshot.
        let url = format!("http://127.0.0.1:{api_port}/api/households/{home}");
        let body = serde_json::json!({"name": "A home", "pv_capacity_kw": 5.0, "tariff": "flat"});
        let put = http().put(url).json(&body).send().await?;
        put.error_for_status()?;
    }
    let ended = api.terminate(LIMIT).await?;
    ensure!(ended.success(), "the API ended with {ended}");
    turns.stops_at_newer("engine").await?;
    let (gateway, gateway_port) = turns.role(&turns.old, "gateway").await?;
    turns.send(&mut ledger, &by_old).await?;
    wait_for("the spool to be drained", LIMIT, async || {
        let waiting = metric(gateway_port, "hearth_spool_bytes").await?;
        ensure!(waiting == 0.0, "{waiting} bytes wait");
        Ok(())
    })
    .await;
    turns.stops_at_newer("engine").await?;
    let ended = gateway.terminate(LIMIT).await?;
    ensure!(ended.success(), "the gateway ended with {ended}");
    ensure!(turns.snapshots().await? == before, "a snapshot has changed");
    phases.end("old");

    // The new build again: all that it, the spool and the old gateway have left.
    let (engine, _) = turns.role(&turns.new, "engine").await?;
    let (gateway, _) = turns.role(&turns.new, "gateway").await?;
    turns.wait_stored(&ledger).await;
    phases.end("new again");

    // A spool with a record of a topic that the old build does not know.
    turns.stack.kafka.pause()?;
    turns.send(&mut ledger, &letters).await?;
    let home = unique_home();
    let refused = ["no reading".to_owned()];
    mosquitto_pub(
        &turns.gateway(home),
        &format!("home/{home}/meter"),
        &refused,
    )
    .await?;
    gateway.kill();
    turns.stack.kafka.resume()?;
    let before = turns.spooled()?;
    turns.stops_at_newer("gateway").await?;
    ensure!(turns.spooled()? == before, "the spool has changed");
    let (gateway, _) = turns.role(&turns.new, "gateway").await?;
    turns.wait_stored(&ledger).await;
    let brokers = turns.stack.kafka.brokers();
    let topic = format!("{}refusals", turns.prefix);
    wait_for("the dead letter", LIMIT, async || {
        let records = kafka_records(&brokers, &topic, LIMIT).await?;
        ensure!(records.len() == 1, "{} are there", records.len());
        Ok(())
    })
    .await;
    phases.end("a topic more");
    for process in [gateway, engine] {
        let ended = process.terminate(LIMIT).await?;
        ensure!(ended.success(), "a role ended with {ended}");
    }
    phases.end("end");
    eprintln!("{} readings; {phases}", ledger.sent());
    Ok(())
}
