//! The operator's commands on the embedded log and store, end to end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use devices::ingest::Ingest;
use hearth::config::Config;
use hearth::connect::connect;
use hearth::dead_letters::{self, Filter, Judge, Page, Replayed};
use hearth::demo::{self, DemoOptions};
use hearth::households_import::{self, Imported};
use hearth::roles::{Role, Running};
use model::reading::{Measurement, Reading};
use model::units::{DAY_MS, HouseholdId};
use platform::clock::{Clock, wall_ms};
use platform::role_context::RoleContext;
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::mqtt::{TimeWindow, reading_json, rfc3339};
use schemas::topic::Topic;

const LIMIT: Duration = Duration::from_secs(60);

fn config(dir: &Path) -> Config {
    demo::defaults(&DemoOptions {
        homes: 1,
        speed: 1.0,
        past_days: 0,
        data_dir: dir.to_owned(),
        http_port: 0,
        mqtt_port: 0,
    })
}

async fn ready(config: &Config) -> RoleContext {
    let context = connect(config, Clock::wall()).await.unwrap();
    context.log.init().await.unwrap();
    context.store.init().await.unwrap();
    context
}

fn in_actix(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

fn meter(id: i64, ts_ms: i64) -> Reading {
    Reading {
        household_id: HouseholdId::new(id).unwrap(),
        ts_ms,
        measurement: Measurement::Meter {
            consumption_w: 450.0,
        },
    }
}

/// A gateway whose clock is a day behind refuses what is right as the future.
async fn refuse_by_a_wrong_clock(context: &RoleContext, config: &Config, reading: &Reading) {
    let ingest = Ingest::start(
        Arc::clone(&context.log),
        context.codec.clone(),
        Clock::simulated(wall_ms() - DAY_MS, 1.0),
        context.metrics.clone(),
        context.tracer.clone(),
        &config.ingest,
    )
    .unwrap();
    let topic = format!("home/{}/meter", reading.household_id);
    let payload = Bytes::from(reading_json(reading));
    ingest.accept(&topic, payload).await.unwrap();
    let junk = Bytes::from_static(b"{");
    ingest.accept(&topic, junk).await.unwrap();
    ingest.close().await;
}

/// A record that the engine of another build could not read, under its own key.
async fn refuse_a_record(context: &RoleContext, reading: &Reading) {
    let payload = context.codec.encode(reading).unwrap();
    let letter = DeadLetter {
        source: Topic::Telemetry.to_string(),
        partition: Some(0),
        offset: Some(17),
        reason: Reason::Undecodable,
        detail: "unknown schema".to_owned(),
        refused_ms: wall_ms(),
        payload_bytes: i64::try_from(payload.len()).unwrap(),
        payload,
    };
    let value = context.codec.encode(&letter).unwrap();
    let key = reading.household_id.to_string();
    let produced = context
        .log
        .produce(Topic::DeadLetters, key.as_bytes(), value);
    produced.await.unwrap();
}

fn judge(context: &RoleContext) -> Judge<'_> {
    let now_ms = context.clock.now_ms();
    Judge {
        codec: &context.codec,
        now_ms,
        times: TimeWindow::around(now_ms, i64::MAX, 300_000),
    }
}

async fn replay(context: &RoleContext, dry_run: bool) -> Replayed {
    let judge = judge(context);
    let every = Filter::default();
    let done = dead_letters::replay(context, &every, judge, dry_run, |_| {});
    done.await.unwrap()
}

/// Waits until the store has exactly this reading of its home.
async fn stored(context: &RoleContext, reading: &Reading) {
    let begun = Instant::now();
    loop {
        let (id, ts_ms) = (reading.household_id, reading.ts_ms);
        let found = context
            .store
            .readings(id, ts_ms - DAY_MS, ts_ms + DAY_MS)
            .await;
        let found = found.unwrap();
        if found == [*reading] {
            return;
        }
        assert!(found.is_empty(), "{found:?}");
        assert!(begun.elapsed() < LIMIT, "home {id} has no reading");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn what_a_wrong_clock_refused_is_stored_once_it_is_replayed() {
    in_actix(async {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let context = ready(&config).await;
        let now_ms = wall_ms() / 1_000 * 1_000;
        let (early, foreign) = (meter(7, now_ms - 60_000), meter(8, now_ms - 30_000));
        refuse_by_a_wrong_clock(&context, &config, &early).await;
        refuse_a_record(&context, &foreign).await;

        let page = Page { skip: 0, limit: 2 };
        let listed = dead_letters::list(&context, &Filter::default(), page, false)
            .await
            .unwrap();
        assert!(
            listed.contains("2 of 3 letters\nmore: --skip 2\n"),
            "{listed}"
        );
        let future = Filter {
            reasons: vec![Reason::FutureTime],
            ..Filter::default()
        };
        let listed = dead_letters::list(&context, &future, page, true)
            .await
            .unwrap();
        let line: serde_json::Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(
            (&line["source"], &line["key"]),
            (&"home/7/meter".into(), &"7".into())
        );
        assert_eq!(line["replayed"], false);
        let id = line["id"].as_str().unwrap().parse().unwrap();
        let shown = dead_letters::show(&context, id, judge(&context))
            .await
            .unwrap();
        assert!(shown.contains(&rfc3339(early.ts_ms)), "{shown}");
        assert!(
            shown.contains("now it would be taken as 1 records:\n  telemetry key 7:"),
            "{shown}"
        );

        let dry = replay(&context, true).await;
        assert_eq!((dry.letters, dry.records, dry.before), (2, 2, 0));
        let done = replay(&context, false).await;
        assert_eq!(
            (done.letters, done.records, done.before),
            (2, 2, 0),
            "a dry run marks nothing"
        );
        let whys: Vec<_> = done.refused.iter().collect();
        assert!(
            matches!(whys[..], [(why, 1)] if why.starts_with("bad_json")),
            "{whys:?}"
        );
        let again = replay(&context, false).await;
        assert_eq!(
            (again.letters, again.before),
            (0, 2),
            "nothing goes back twice"
        );
        let listed = dead_letters::list(&context, &future, page, true)
            .await
            .unwrap();
        assert!(listed.contains("\"replayed\":true"), "{listed}");

        let running = Running::start(&[Role::Engine], &config, context.clone())
            .await
            .unwrap();
        stored(&context, &early).await;
        stored(&context, &foreign).await;
        running.close().await;
    });
}

#[test]
fn an_imported_home_is_stored_and_a_second_import_changes_nothing() {
    in_actix(async {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir.path().join("data"));
        let context = ready(&config).await;
        let file = dir.path().join("homes.csv");
        let mut text = std::fs::File::create(&file).unwrap();
        writeln!(text, "household_id,tariff,pv_capacity_kw").unwrap();
        for id in 1..=200 {
            writeln!(text, "{id},flat,9.5").unwrap();
        }
        let total = households_import::check(&file).unwrap();
        assert_eq!(total, 200);
        let import = async |dry_run| {
            let done = households_import::import(&context, &file, total, dry_run).await;
            done.unwrap()
        };
        let all = Imported {
            written: 200,
            unchanged: 0,
        };
        assert_eq!(import(true).await, all);
        assert_eq!(import(false).await, all);
        let running = Running::start(&[Role::Engine], &config, context.clone())
            .await
            .unwrap();
        let begun = Instant::now();
        while import(true).await.unchanged < 200 {
            assert!(begun.elapsed() < LIMIT, "not every home was stored");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(
            import(false).await,
            Imported {
                written: 0,
                unchanged: 200
            }
        );
        running.close().await;
    });
}
