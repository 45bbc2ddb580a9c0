//! Load scenarios against a running Hearth, and their check from outside: the acknowledged readings are compared with the
//! rows in the store, read over CQL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use model::units::{DAY_MS, MINUTE_MS};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fleet::{Fleet, FleetConfig, Now};
use crate::ledger::{Comparison, LatencyMs, Ledger, Series, latency_histogram};

mod outside;
mod search;

use outside::Outside;
use search::Search;

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
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// A round of warming up, seconds.
const WARM_UP_ROUND_S: u64 = 10;
/// The stack is warm if rows are this quick in a round, or hardly quicker than in the round before.
const WARM_P99_MS: f64 = 250.0;
const WARM_GAIN_MIN: f64 = 0.8;
/// A rate holds if its last reading is stored within this time, and at least this share of the planned readings was sent.
const LAG_S_MAX: f64 = 5.0;
const PUBLISHED_SHARE_MIN: f64 = 0.9;
/// Below this, several readings of a home would have the same millisecond.
const INTERVAL_MS_MIN: i64 = 10;
/// Hearth's default slot: homes may get a new program when one begins.
const SLOT_MS: i64 = 15 * MINUTE_MS;
#[expect(clippy::cast_precision_loss, reason = "a day has 96 slots")]
const SLOTS_PER_DAY: f64 = (DAY_MS / SLOT_MS) as f64;

/// Tells people the progress of a scenario.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

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

/// The result of a scenario: one element of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub scenario: String,
    pub homes: u32,
    pub seconds: f64,
    /// `sent`, `acknowledged`, `stored`, `lost`, `duplicated`, `unknown`.
    #[serde(flatten)]
    pub readings: Comparison,
    pub readings_per_s: f64,
    /// From PUBLISH to PUBACK, as measured by the devices.
    pub latency_ms: Option<LatencyMs>,
    /// From PUBACK until the row can be read, for the probes that arrived.
    pub store_latency_ms: Option<LatencyMs>,
    /// Probes that did not arrive in time, which are in no percentile.
    pub store_probes_unanswered: u64,
    /// From the last PUBACK until every acknowledged reading was stored; `None` if that never came.
    pub catch_up_s: Option<f64>,
    pub connects: u64,
    pub disconnects: u64,
    /// That the homes received, repeats counted.
    pub commands: u64,
    /// Commands that a home would get in a day whose every slot brings as many as those that began in the run, or, if
    /// none did, as the run itself.
    pub commands_per_home_day: f64,
    /// The rates that a search tried. The figures above are those of the highest rate that held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// One rate of a search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Step {
    /// Planned readings per second.
    pub offered_per_s: f64,
    /// Acknowledged readings per second.
    pub acknowledged_per_s: f64,
    pub stored_p99_ms: Option<f64>,
    pub catch_up_s: Option<f64>,
    pub lost: u64,
    pub held: bool,
}

impl Report {
    /// Returns whether every reading that was sent was acknowledged and is stored exactly once.
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

/// Publishes in short rounds, which are in no figure, until the stack does not get quicker or `limit` has passed. JVMs
/// must compile their hot code first.
pub async fn warm_up(scenario: &Steady, limit: Duration, say: Say<'_>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let round = Steady {
        seconds: WARM_UP_ROUND_S,
        ..scenario.clone()
    };
    let mut before_ms = f64::INFINITY;
    while begun.elapsed() < limit {
        let report = run("warm-up", &round, say).await?;
        let p99_ms = report.store_latency_ms.map_or(f64::INFINITY, |ms| ms.p99);
        if p99_ms < WARM_P99_MS || p99_ms.is_finite() && p99_ms > WARM_GAIN_MIN * before_ms {
            break;
        }
        before_ms = p99_ms;
    }
    say(&format!("warm after {} s", begun.elapsed().as_secs()));
    Ok(())
}

/// Runs one scenario at its steady rate.
pub async fn steady(scenario: &Steady, say: Say<'_>) -> anyhow::Result<Report> {
    run("steady", scenario, say).await
}

/// Finds the highest rate with which the store keeps up; each is tried for the scenario's time. Returns nothing if no
/// rate holds.
pub async fn saturating(scenario: &Steady, say: Say<'_>) -> anyhow::Result<Option<Report>> {
    let homes = f64::from(scenario.fleet.homes);
    // Each home sends up to three readings at a time; the actual number is counted.
    let rate_of = |interval_ms: f64, per_round: f64| homes * per_round * 1_000.0 / interval_ms;
    #[expect(clippy::cast_precision_loss, reason = "an interval of milliseconds")]
    let (first_ms, min_ms) = (scenario.fleet.interval_ms as f64, INTERVAL_MS_MIN as f64);
    let mut per_round = 3.0;
    let mut search = Search::new(rate_of(first_ms, per_round), rate_of(min_ms, per_round));
    let mut steps = Vec::new();
    let mut best: Option<Report> = None;
    while let Some(rate) = search.next() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounded, and within the bounds"
        )]
        let interval_ms = (rate_of(1.0, 3.0) / rate).round().max(min_ms) as i64;
        let mut step = scenario.clone();
        step.fleet.interval_ms = interval_ms;
        say(&format!("trying {rate:.0} readings a second ..."));
        let report = run("saturating", &step, say).await?;
        if best.is_none() && steps.is_empty() {
            // Not every home has a PV plant or a battery.
            per_round = (report.readings_per_s / rate_of(first_ms, 1.0)).clamp(0.1, 3.0);
        }
        let offered_per_s = rate * per_round / 3.0;
        let held = report.is_clean()
            && report.readings_per_s >= PUBLISHED_SHARE_MIN * offered_per_s
            && report.store_probes_unanswered == 0
            && report.catch_up_s.is_some_and(|s| s <= LAG_S_MAX)
            && report
                .store_latency_ms
                .is_none_or(|ms| ms.p99 <= 1e3 * LAG_S_MAX);
        search.note(rate, held);
        steps.push(Step {
            offered_per_s,
            acknowledged_per_s: report.readings_per_s,
            stored_p99_ms: report.store_latency_ms.map(|ms| ms.p99),
            catch_up_s: report.catch_up_s,
            lost: report.readings.lost,
            held,
        });
        say(&format!(
            "{:.0} a second {}",
            report.readings_per_s,
            if held { "hold" } else { "are too many" }
        ));
        let is_better = |known: &Report| known.readings_per_s < report.readings_per_s;
        if held && best.as_ref().is_none_or(is_better) {
            best = Some(report);
        }
    }
    Ok(best.map(|best| Report { steps, ..best }))
}

async fn run(name: &str, scenario: &Steady, say: Say<'_>) -> anyhow::Result<Report> {
    let store = Arc::new(Outside::connect(&scenario.cql, &scenario.keyspace).await?);
    let ledger = Arc::new(Ledger::new());
    let now: Now = Arc::new(wall_ms);
    let mut fleet = Fleet::start(&scenario.fleet, now, 1.0, Some(Arc::clone(&ledger)))?;
    all_connected(&fleet).await?;
    let (start, start_ms) = (Instant::now(), wall_ms());
    let end = start + Duration::from_secs(scenario.seconds);
    let probe = tokio::spawn(probe(Arc::clone(&store), Arc::clone(&ledger), end));
    while Instant::now() < end {
        tokio::time::sleep_until(end.min(Instant::now() + PROGRESS_EVERY)).await;
        let counts = fleet.counts();
        say(&format!(
            "{name}: {} of {} s, {} readings published, {} acknowledged",
            start.elapsed().as_secs(),
            scenario.seconds,
            counts.published,
            counts.acknowledged
        ));
    }
    let elapsed_s = start.elapsed().as_secs_f64();
    fleet.drain(ACKNOWLEDGE_PATIENCE).await;
    let last_puback = Instant::now();
    say(&format!("{name}: waiting for the store ..."));
    let (readings, all_stored) = catch_up(&store, &ledger).await?;
    let probes = probe.await.context("probe the store")??;
    let counts = fleet.counts();
    let slots_begun = wall_ms() / SLOT_MS - start_ms / SLOT_MS;
    fleet.close().await;
    #[expect(clippy::cast_precision_loss, reason = "a count of readings in minutes")]
    let readings_per_s = readings.acknowledged as f64 / elapsed_s;
    Ok(Report {
        scenario: name.to_owned(),
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
        commands_per_home_day: per_home_day(counts.commands, scenario.fleet.homes, slots_begun),
        steps: Vec::new(),
    })
}

fn per_home_day(commands: u64, homes: u32, slots_begun: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    let per_slot = commands as f64 / slots_begun.max(1) as f64;
    per_slot / f64::from(homes) * SLOTS_PER_DAY
}

/// Writes the reports as JSON, a list with one element for each scenario.
pub fn write(reports: &[Report], file: &Path) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut text = serde_json::to_string_pretty(reports).context("write JSON")?;
    text.push('\n');
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Formats a short table for people.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut text = String::from(
        "scenario       sent  acknowledged    stored  lost  duplicated  a second  ack p50/p99 ms  stored p50/p99 ms  catch-up  commands a home and day\n",
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
            "{:<10} {:>8} {:>13} {:>9} {:>5} {:>11} {:>9.0} {:>15} {:>18} {:>9} {:>24.1}\n",
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
            report.commands_per_home_day,
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

/// Reads until every acknowledged reading is stored, or until no further row appears.
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

/// How long the probes took from PUBACK until they could be read.
#[derive(Debug, Default)]
struct Probes {
    /// Of the probes that arrived.
    latency: Option<LatencyMs>,
    /// Probes that had not arrived when they were given up. They are in no percentile, so the percentiles are too good
    /// if this is not 0.
    unanswered: u64,
}

/// Follows acknowledged readings into the store. Starts a new probe at a steady pace until `end`, however long others take.
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

/// Returns the time from a reading's PUBACK until it could be read, to within a tenth; `None` if it did not arrive.
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
            commands_per_home_day: 12.5,
            steps: Vec::new(),
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
        assert_eq!(value["commands_per_home_day"], 12.5);
        let table = table(&[report(good)]);
        assert!(table.contains("never") && table.contains("12.5"), "{table}");
    }

    #[test]
    fn commands_of_a_run_are_told_for_a_day() {
        // 50 homes, of which half got a new program in one of two slots that began: 12.5 a slot, a quarter of a home.
        assert_eq!(per_home_day(25, 50, 2), 24.0);
        // A run within a slot.
        assert_eq!(per_home_day(50, 50, 0), 96.0);
        assert_eq!(per_home_day(0, 50, 0), 0.0);
    }
}
