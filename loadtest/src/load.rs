//! Scenarios of load against a running Hearth, and their check from outside: what was acknowledged to the devices is
//! compared with the rows that the store has, read over CQL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use model::reading::Kind;
use model::units::DAY_MS;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlTimestamp};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::info;

use crate::fleet::{Fleet, FleetConfig, Now};
use crate::ledger::{Comparison, LatencyMs, Ledger, Series, latency_histogram};

const READS_MAX: usize = 64;
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
const ACKNOWLEDGE_PATIENCE: Duration = Duration::from_secs(60);
/// The check gives up when the store has gained nothing for this long.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(60);
const PROBE_PAUSE: Duration = Duration::from_millis(200);
const PROBES_MAX: usize = 512;
const PROBE_POLL_MIN: Duration = Duration::from_millis(5);
const PROBE_POLL_MAX: Duration = Duration::from_millis(500);
const PROBE_PATIENCE: Duration = Duration::from_secs(120);

/// A scenario: a fleet that publishes at a steady rate.
#[derive(Debug, Clone)]
pub struct Steady {
    pub fleet: FleetConfig,
    /// How long readings are published, once every home is connected.
    pub seconds: u64,
    /// CQL contact point, `HOST:PORT`.
    pub cql: String,
    pub keyspace: String,
}

/// What a scenario came to: one entry of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub scenario: String,
    pub homes: u32,
    pub seconds: f64,
    /// `sent`, `acknowledged`, `stored`, `lost`, `duplicated`, `unknown`.
    #[serde(flatten)]
    pub readings: Comparison,
    pub readings_per_s: f64,
    /// From PUBLISH to PUBACK, as the devices saw it.
    pub latency_ms: Option<LatencyMs>,
    /// From PUBACK to the row being readable, of the samples that arrived.
    pub store_latency_ms: Option<LatencyMs>,
    /// Samples that did not arrive in time and are in no percentile.
    pub store_probes_unanswered: u64,
    /// From the last PUBACK until every acknowledged reading was stored; `None` if that never came.
    pub catch_up_s: Option<f64>,
    pub connects: u64,
    pub disconnects: u64,
    pub commands: u64,
}

impl Report {
    /// Whether everything that was acknowledged is stored once, and everything that was sent was acknowledged.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        let readings = &self.readings;
        readings.acknowledged > 0
            && readings.acknowledged == readings.sent
            && readings.lost == 0
            && readings.duplicated == 0
            && readings.unknown == 0
    }
}

/// Runs one scenario.
pub async fn steady(scenario: &Steady) -> anyhow::Result<Report> {
    let store = Arc::new(Outside::connect(&scenario.cql, &scenario.keyspace).await?);
    let ledger = Arc::new(Ledger::new());
    let now: Now = Arc::new(wall_ms);
    let mut fleet = Fleet::start(&scenario.fleet, now, 1.0, Some(Arc::clone(&ledger)))?;
    all_connected(&fleet).await?;
    info!(
        homes = scenario.fleet.homes,
        seconds = scenario.seconds,
        "publishing"
    );
    let start = Instant::now();
    let end = start + Duration::from_secs(scenario.seconds);
    let probe = tokio::spawn(probe(Arc::clone(&store), Arc::clone(&ledger), end));
    tokio::time::sleep_until(end).await;
    let elapsed_s = start.elapsed().as_secs_f64();
    let unacknowledged = fleet.drain(ACKNOWLEDGE_PATIENCE).await;
    let last_puback = Instant::now();
    info!(unacknowledged, "published; waiting for the store");
    let (readings, all_stored) = catch_up(&store, &ledger).await?;
    let probes = probe.await.context("probe the store")??;
    let counts = fleet.counts();
    fleet.close().await;
    #[expect(clippy::cast_precision_loss, reason = "a count of readings in minutes")]
    let readings_per_s = readings.acknowledged as f64 / elapsed_s;
    Ok(Report {
        scenario: "steady".to_owned(),
        homes: scenario.fleet.homes,
        seconds: elapsed_s,
        readings,
        readings_per_s,
        latency_ms: ledger.latency(),
        store_latency_ms: probes.latency,
        store_probes_unanswered: probes.unanswered,
        catch_up_s: all_stored.map(|at| at.duration_since(last_puback).as_secs_f64()),
        connects: counts.connects,
        disconnects: counts.disconnects,
        commands: counts.commands,
    })
}

/// Writes the reports as JSON, a list with an entry for each scenario.
pub fn write(reports: &[Report], file: &Path) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut text = serde_json::to_string_pretty(reports).context("write JSON")?;
    text.push('\n');
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// A short table for people.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut text = String::from(
        "scenario      sent  acknowledged    stored  lost  duplicated  a second  ack p50/p99 ms  stored p50/p99 ms  catch-up\n",
    );
    for report in reports {
        let readings = &report.readings;
        let mut stored = percentiles(report.store_latency_ms);
        if report.store_probes_unanswered > 0 {
            stored.push_str(&format!(", {} never", report.store_probes_unanswered));
        }
        let catch_up = report
            .catch_up_s
            .map_or("never".to_owned(), |s| format!("{s:.1} s"));
        text.push_str(&format!(
            "{:<9} {:>8} {:>13} {:>9} {:>5} {:>11} {:>9.0} {:>15} {:>18} {:>9}\n",
            report.scenario,
            readings.sent,
            readings.acknowledged,
            readings.stored,
            readings.lost,
            readings.duplicated,
            report.readings_per_s,
            percentiles(report.latency_ms),
            stored,
            catch_up,
        ));
    }
    text
}

fn percentiles(latency: Option<LatencyMs>) -> String {
    latency.map_or("-".to_owned(), |ms| format!("{:.1}/{:.1}", ms.p50, ms.p99))
}

async fn all_connected(fleet: &Fleet) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONNECT_PATIENCE;
    let wanted = fleet.connections_count() as u64;
    while fleet.counts().connects < wanted {
        let connects = fleet.counts().connects;
        ensure!(
            Instant::now() < deadline,
            "only {connects} of {wanted} connections were made"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Reads until every acknowledged reading is there, or until nothing more comes.
async fn catch_up(
    store: &Outside,
    ledger: &Ledger,
) -> anyhow::Result<(Comparison, Option<Instant>)> {
    let mut complete: BTreeMap<Series, Comparison> = BTreeMap::new();
    let mut stored_before = 0;
    let mut gained = Instant::now();
    loop {
        let waiting: Vec<_> = ledger
            .series()
            .into_iter()
            .filter(|(series, ..)| !complete.contains_key(series))
            .collect();
        let compared: Vec<(Series, Comparison)> = stream::iter(waiting)
            .map(async |(series, first_ms, last_ms)| {
                let rows_ms = store.times(series, first_ms, last_ms).await?;
                anyhow::Ok((series, ledger.compare(series, &rows_ms)))
            })
            .buffer_unordered(READS_MAX)
            .try_collect()
            .await?;
        let mut total = Comparison::default();
        for (series, comparison) in compared {
            if comparison.lost == 0 {
                complete.insert(series, comparison);
            } else {
                total += comparison;
            }
        }
        let done = total == Comparison::default();
        complete
            .values()
            .for_each(|comparison| total += *comparison);
        if done {
            return Ok((total, Some(Instant::now())));
        }
        if total.stored > stored_before {
            stored_before = total.stored;
            gained = Instant::now();
        } else if gained.elapsed() > CATCH_UP_PATIENCE {
            return Ok((total, None));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How long sampled readings took from PUBACK to being readable.
#[derive(Debug, Default)]
struct Probes {
    /// Of those that arrived.
    latency: Option<LatencyMs>,
    /// Those that had not arrived when they were given up: they are in no percentile, so that the percentiles are too
    /// good where this is not 0.
    unanswered: u64,
}

/// Follows acknowledged readings into the store, a new one at a steady pace until `end`, however long the others take.
async fn probe(store: Arc<Outside>, ledger: Arc<Ledger>, end: Instant) -> anyhow::Result<Probes> {
    let mut followed = JoinSet::new();
    while Instant::now() < end {
        tokio::time::sleep(PROBE_PAUSE).await;
        if let Some(newest) = ledger.newest()
            && followed.len() < PROBES_MAX
        {
            followed.spawn(follow(Arc::clone(&store), newest));
        }
    }
    let mut latency_us = latency_histogram();
    let mut unanswered = 0;
    while let Some(result) = followed.join_next().await {
        match result.context("follow a reading")?? {
            Some(after) => {
                let after_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                latency_us.saturating_record(after_us);
            }
            None => unanswered += 1,
        }
    }
    Ok(Probes {
        latency: LatencyMs::of(&latency_us),
        unanswered,
    })
}

/// Time from the PUBACK of a reading until it was readable, to a tenth; `None` where it did not come.
async fn follow(
    store: Arc<Outside>,
    (series, ts_ms, acknowledged): (Series, i64, std::time::Instant),
) -> anyhow::Result<Option<Duration>> {
    loop {
        if !store.times(series, ts_ms, ts_ms).await?.is_empty() {
            return Ok(Some(acknowledged.elapsed()));
        }
        let waited = acknowledged.elapsed();
        if waited > PROBE_PATIENCE {
            return Ok(None);
        }
        tokio::time::sleep((waited / 10).clamp(PROBE_POLL_MIN, PROBE_POLL_MAX)).await;
    }
}

/// The store as an outside client sees it.
#[derive(Debug)]
struct Outside {
    session: Session,
    statements: BTreeMap<Kind, PreparedStatement>,
}

impl Outside {
    async fn connect(contact_point: &str, keyspace: &str) -> anyhow::Result<Self> {
        let plain = keyspace
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        ensure!(
            plain && !keyspace.is_empty(),
            "{keyspace:?} is not the name of a keyspace"
        );
        let builder = SessionBuilder::new().known_node(contact_point);
        let session = builder.build().await.context("connect over CQL")?;
        let mut statements = BTreeMap::new();
        for kind in Kind::ALL {
            let table = table_of(kind);
            let question = format!(
                "SELECT ts FROM {keyspace}.{table} \
                 WHERE household_id = ? AND day = ? AND ts >= ? AND ts <= ?"
            );
            let mut statement = session
                .prepare(question)
                .await
                .context("prepare a question")?;
            statement.set_consistency(Consistency::One);
            statement.set_is_idempotent(true);
            statements.insert(kind, statement);
        }
        Ok(Self {
            session,
            statements,
        })
    }

    /// Times of the rows from `first_ms` to `last_ms`, both included.
    async fn times(
        &self,
        (household_id, kind): Series,
        first_ms: i64,
        last_ms: i64,
    ) -> anyhow::Result<Vec<i64>> {
        let statement = &self.statements[&kind];
        let mut times_ms = Vec::new();
        for day in first_ms.div_euclid(DAY_MS)..=last_ms.div_euclid(DAY_MS) {
            let day = CqlDate(u32::try_from(day + (1 << 31)).context("a day of this era")?);
            let bounds = (CqlTimestamp(first_ms), CqlTimestamp(last_ms));
            let values = (household_id.get(), day, bounds.0, bounds.1);
            let rows = self.session.execute_iter(statement.clone(), values).await?;
            let mut rows = rows.rows_stream::<(CqlTimestamp,)>()?;
            while let Some((ts,)) = rows.try_next().await? {
                times_ms.push(ts.0);
            }
        }
        Ok(times_ms)
    }
}

const fn table_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Meter => "meter_readings",
        Kind::Pv => "pv_generation",
        Kind::Battery => "battery_state",
    }
}

fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(readings: Comparison) -> Report {
        Report {
            scenario: "steady".to_owned(),
            homes: 2,
            seconds: 1.0,
            readings,
            readings_per_s: 4.0,
            latency_ms: Some(LatencyMs {
                p50: 1.0,
                p99: 2.0,
                p999: 3.0,
            }),
            store_latency_ms: None,
            store_probes_unanswered: 0,
            catch_up_s: None,
            connects: 2,
            disconnects: 0,
            commands: 0,
        }
    }

    #[test]
    fn a_report_is_clean_only_when_everything_is_there_once() {
        let good = Comparison {
            sent: 4,
            acknowledged: 4,
            stored: 4,
            ..Comparison::default()
        };
        assert!(report(good).is_clean());
        for bad in [
            Comparison::default(),
            Comparison {
                acknowledged: 3,
                stored: 3,
                ..good
            },
            Comparison {
                stored: 3,
                lost: 1,
                ..good
            },
            Comparison {
                duplicated: 1,
                ..good
            },
            Comparison { unknown: 1, ..good },
        ] {
            assert!(!report(bad).is_clean(), "{bad:?}");
        }
    }

    #[test]
    fn the_report_has_the_public_names() {
        let good = Comparison {
            sent: 4,
            acknowledged: 4,
            stored: 4,
            ..Comparison::default()
        };
        let value = serde_json::to_value(report(good)).unwrap();
        for name in ["sent", "stored", "lost", "duplicated", "catch_up_s"] {
            assert!(value.get(name).is_some(), "{name} is missing");
        }
        assert_eq!(value["latency_ms"]["p999"], 3.0);
        assert!(table(&[report(good)]).contains("never"));
    }
}
