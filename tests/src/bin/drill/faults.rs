//! What goes wrong, and is mended again.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::LocalBoxFuture;
use loadtest::fleet::Manners;
use platform::clock::wall_ms;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use schemas::mqtt::rfc3339;
use tests::harness::{HearthProcess, MqttAccess, mosquitto_pub};
use tokio::io::AsyncWriteExt;

use crate::scene::{Alert, Scene};
use crate::table::Table;

/// A fault, and the alerts that it raises.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) run:
        for<'a> fn(&'a mut Scene, &'a mut Table) -> LocalBoxFuture<'a, anyhow::Result<()>>,
}

macro_rules! faults {
    ($($name:literal => $run:ident,)*) => {
        &[$(Fault { name: $name, run: |scene, table| Box::pin($run($name, scene, table)) },)*]
    };
}

/// In the order in which they are tried: what takes long to end comes last.
pub(crate) const FAULTS: &[Fault] = faults! {
    "the engine is killed" => engine_killed,
    "the api dies again and again" => api_restarts,
    "payloads that are no JSON" => bad_payloads,
    "strangers without TLS at the gateway" => strangers,
    "a second engine comes and goes" => engines_come_and_go,
    "the limit of open files is nearly reached" => files_run_out,
    "the gateway's certificate ends tomorrow" => certificate_ends,
    "the clock jumps by an hour" => clock_jumps,
    "a topic takes no large records" => topic_refuses,
    "Kafka stutters" => kafka_stutters,
    "Kafka stands still, and a spool file is damaged" => kafka_stands_still,
    "the store stutters" => store_stutters,
    "the store stands still" => store_stands_still,
    "metadata ask for fuller batteries than there are" => batteries_too_empty,
    "devices reject commands" => devices_reject,
    "devices do not answer commands" => devices_silent,
    "the optimizer hangs" => optimizer_hangs,
    "every home falls silent" => homes_silent,
};

const PAGE: &str = "page";
const TICKET: &str = "ticket";

/// Does `work` again and again until the alerts fire.
async fn meanwhile(
    scene: &Scene,
    alerts: &[Alert],
    mut work: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<std::collections::BTreeMap<Alert, Duration>> {
    let working = async {
        loop {
            if let Err(reason) = work().await {
                return reason;
            }
        }
    };
    tokio::select! {
        fired = scene.fire(alerts) => Ok(fired),
        reason = working => Err(reason),
    }
}

async fn engine_killed(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [("HearthDown", PAGE), ("HearthRoleMissing", PAGE)];
    scene.role("engine").kill();
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    scene.revive("engine").await?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn api_restarts(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [("HearthRestarting", TICKET)];
    let fired = meanwhile(scene, &alerts, async || {
        scene.role("api").kill();
        scene.revive("api").await?;
        // Long enough to be asked once.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        Ok(())
    })
    .await?;
    let mended = Instant::now();
    if !scene.role("api").process().is_running() {
        scene.revive("api").await?;
    }
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn bad_payloads(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [("HearthDeadLetters", TICKET)];
    let device = device(scene);
    let lines = vec!["no json".to_owned(); 20];
    let fired = meanwhile(scene, &alerts, async || {
        mosquitto_pub(&device, "home/1/meter", &lines).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    })
    .await?;
    let mended = Instant::now();
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

fn device(scene: &Scene) -> MqttAccess {
    MqttAccess {
        ca: Some(scene.ca.path()),
        ..MqttAccess::plain(scene.gateway_port)
    }
}

async fn strangers(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [("HearthGatewayRefusing", TICKET)];
    let port = scene.gateway_port;
    let fired = meanwhile(scene, &alerts, async || {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        // The gateway may close first.
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    })
    .await?;
    let mended = Instant::now();
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn engines_come_and_go(
    name: &str,
    scene: &mut Scene,
    table: &mut Table,
) -> anyhow::Result<()> {
    let alerts = [("HearthRebalancing", TICKET)];
    let fired = meanwhile(scene, &alerts, async || {
        let (second, _) = HearthProcess::start_role(&scene.config, "engine").await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        second.terminate(Duration::from_secs(60)).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    })
    .await?;
    let mended = Instant::now();
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn files_run_out(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [("HearthFilesRunningOut", PAGE)];
    let pid = scene.role("gateway").process().pid().context("it runs")?;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let limit = |files: usize| {
        let mut prlimit = Command::new("prlimit");
        prlimit.arg(format!("--pid={pid}"));
        prlimit.arg(format!("--nofile={files}:"));
        let status = prlimit.status().context("run prlimit")?;
        ensure!(status.success(), "prlimit: {status}");
        anyhow::Ok(())
    };
    limit(open + 3)?;
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    limit(10_000)?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn certificate_ends(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [
        ("HearthCertificateExpiring", TICKET),
        ("HearthCertificateExpiring", PAGE),
    ];
    let tomorrow = rfc3339(wall_ms() + 86_400_000);
    let mut parts = tomorrow[..10].split('-');
    let mut part = || parts.next().context("a date");
    let end = (part()?.parse()?, part()?.parse()?, part()?.parse()?);
    scene.ca.issue_until("gateway", Some(end))?;
    scene.role("gateway").kill();
    scene.revive("gateway").await?;
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    scene.ca.issue("gateway")?;
    scene.role("gateway").kill();
    scene.revive("gateway").await?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn clock_jumps(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    if !scene.is_clock_faked() {
        table.say("libfaketime is not installed: left out");
        return Ok(());
    }
    let alerts = [("HearthClockJumped", TICKET)];
    std::fs::write(&scene.clock_file, "+3600")?;
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    std::fs::write(&scene.clock_file, "+0")?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn topic_refuses(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [("HearthRefused", TICKET)];
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", scene.stack.kafka.brokers())
        .create()?;
    let topic = format!("{}optimize-requests", scene.prefix);
    let set = async |bytes: &str| {
        let config = AlterConfig::new(ResourceSpecifier::Topic(&topic));
        let config = config.set("max.message.bytes", bytes);
        let done = admin.alter_configs([&config], &AdminOptions::new()).await?;
        for outcome in done {
            outcome.map_err(|(_, code)| anyhow::anyhow!("set {topic}: {code}"))?;
        }
        anyhow::Ok(())
    };
    set("100").await?;
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    set("4000000").await?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn kafka_stutters(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [("HearthAckSlow", PAGE)];
    let kafka = &scene.stack.kafka;
    let fired = meanwhile(scene, &alerts, async || {
        kafka.pause()?;
        tokio::time::sleep(Duration::from_secs(8)).await;
        kafka.resume()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    })
    .await?;
    let mended = Instant::now();
    kafka.resume()?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn kafka_stands_still(
    name: &str,
    scene: &mut Scene,
    table: &mut Table,
) -> anyhow::Result<()> {
    let away = [("HearthSpooling", PAGE)];
    let damaged = [("HearthSpoolDamaged", TICKET)];
    scene.stack.kafka.pause()?;
    let spooled = scene.fire(&away).await;
    scene.role("gateway").kill();
    damage(&scene.spool("gateway"))?;
    scene.role("gateway").start_again()?;
    let seen = scene.fire(&damaged).await;
    let mended = Instant::now();
    scene.stack.kafka.resume()?;
    scene.see_off(table, name, &away, &spooled, mended).await;
    scene.see_off(table, name, &damaged, &seen, mended).await;
    Ok(())
}

/// Turns a byte in the middle of the largest file of a spool.
fn damage(spool: &std::path::Path) -> anyhow::Result<()> {
    let mut largest = (0, None);
    for file in std::fs::read_dir(spool)? {
        let file = file?;
        let bytes = file.metadata()?.len();
        if bytes > largest.0 {
            largest = (bytes, Some(file.path()));
        }
    }
    let file = largest.1.context("the spool has a file")?;
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, bytes)?;
    Ok(())
}

async fn store_stutters(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [("HearthStoreSlow", TICKET)];
    let cassandra = &scene.stack.cassandra;
    let fired = meanwhile(scene, &alerts, async || {
        cassandra.pause()?;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        cassandra.resume()?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    })
    .await?;
    let mended = Instant::now();
    cassandra.resume()?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn store_stands_still(
    name: &str,
    scene: &mut Scene,
    table: &mut Table,
) -> anyhow::Result<()> {
    let alerts = [("HearthLagging", PAGE), ("HearthStoreRetrying", TICKET)];
    scene.stack.cassandra.pause()?;
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    scene.stack.cassandra.resume()?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn batteries_too_empty(
    name: &str,
    scene: &mut Scene,
    table: &mut Table,
) -> anyhow::Result<()> {
    let alerts = [("HearthPlansRelaxed", TICKET)];
    scene.furnish(false).await?;
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    scene.furnish(true).await?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn devices_reject(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    ill_mannered(
        name,
        scene,
        table,
        Manners::Reject,
        "HearthCommandsRejected",
    )
    .await
}

async fn devices_silent(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    ill_mannered(
        name,
        scene,
        table,
        Manners::KeepSilent,
        "HearthCommandsUnanswered",
    )
    .await
}

async fn ill_mannered(
    name: &str,
    scene: &mut Scene,
    table: &mut Table,
    manners: Manners,
    alert: &'static str,
) -> anyhow::Result<()> {
    let alerts = [(alert, TICKET)];
    scene.hush().await;
    scene.speak(manners)?;
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    scene.hush().await;
    scene.speak(Manners::Answer)?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}

async fn optimizer_hangs(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let unplanned = [
        ("HearthHomesUnplanned", PAGE),
        ("HearthHomesUnplanned", TICKET),
    ];
    let late = [("HearthPlansLate", TICKET)];
    scene.role("optimizer").process().pause()?;
    let fired = scene.fire(&unplanned).await;
    let mended = Instant::now();
    scene.role("optimizer").process().resume()?;
    let came = scene.fire(&late).await;
    scene.see_off(table, name, &late, &came, mended).await;
    scene.see_off(table, name, &unplanned, &fired, mended).await;
    Ok(())
}

async fn homes_silent(name: &str, scene: &mut Scene, table: &mut Table) -> anyhow::Result<()> {
    let alerts = [
        ("HearthReadingsDropped", PAGE),
        ("HearthHomesStale", PAGE),
        ("HearthHomesStale", TICKET),
    ];
    scene.hush().await;
    let fired = scene.fire(&alerts).await;
    let mended = Instant::now();
    scene.speak(Manners::Answer)?;
    scene.see_off(table, name, &alerts, &fired, mended).await;
    Ok(())
}
