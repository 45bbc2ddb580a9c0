//! Traces of one process on the embedded log and store, as a collector receives them.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hearth::traces::{Environment, Traces, TracesConfig};
use platform::metrics::Metrics;
use platform::trace::{Caller, SpanKind, TraceContext};
use tests::harness::{
    Collector, DEVICE_SPAN, HearthProcess, MqttAccess, TracedHome, free_port, metric, put_tariff,
    scratch_folder, tree, wait_for,
};

const LIMIT: Duration = Duration::from_secs(30);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Starts every role on embedded log and store. Nobody is at the bridge's broker.
async fn start(name: &str, traces: &str) -> anyhow::Result<(HearthProcess, u16, u16)> {
    let folder = scratch_folder(name);
    let (http_port, mqtt_port, nobody) = (free_port(), free_port(), free_port());
    let config = folder.join("hearth.toml");
    std::fs::write(
        &config,
        format!(
            "[log]\nkind = \"embedded\"\ndir = {log:?}\n[store]\nkind = \"embedded\"\ndir = {store:?}\n\
             [ingest]\nspool_dir = {spool:?}\n[gateway]\nlisten = \"127.0.0.1:{mqtt_port}\"\n\
             [bridge.mqtt]\nport = {nobody}\n[http]\nlisten = \"127.0.0.1:{http_port}\"\n\
             [engine]\ntick_ms = 100\n[traces]\n{traces}\n",
            log = folder.join("log"),
            store = folder.join("store"),
            spool = folder.join("spool"),
        ),
    )?;
    let config = config.to_str().context("a path of UTF-8")?;
    let hearth = HearthProcess::start(&["--config", config, "all"], &[])?;
    // Not ready without a broker for the bridge, so its probe of life is what counts.
    wait_for("the gateway", LIMIT, async || {
        std::net::TcpStream::connect(("127.0.0.1", mqtt_port))?;
        std::net::TcpStream::connect(("127.0.0.1", http_port))?;
        Ok(())
    })
    .await;
    Ok((hearth, http_port, mqtt_port))
}

/// No message begins a trace by itself here, so all that is received is of the devices' own traces.
#[tokio::test]
async fn one_trace_leads_from_a_reading_to_the_answer_of_its_command() -> anyhow::Result<()> {
    let collector = Collector::start()?;
    let traces = format!("endpoint = \"{}\"\nsampled_share = 0.0", collector.url());
    let (hearth, port, mqtt_port) = start("traces", &traces).await?;
    put_tariff(port).await?;
    let device = || MqttAccess::plain(mqtt_port).v5();
    // As soon as this one has its command, the engine knows the tariff.
    let first = TracedHome::furnish(port, 1, device()).await?;
    first.send_meter(None).await?;
    let command = first.apply_command(true).await?;
    ensure!(command.properties.is_empty(), "{}", command.properties);

    let home = TracedHome::furnish(port, 2, device()).await?;
    home.send_meter(Some(TRACE)).await?;
    home.apply_command(true).await?;
    let expected = "\
receive meter
  publish telemetry
    process telemetry: slot, plan requested
      publish optimize-requests
        process optimize-requests
          publish schedules
            process schedules: command issued
              publish commands
                deliver command: sent, answered
                  receive ack
                    publish acks
                      process acks
                        write rows
              write rows
          solve
      write rows
";
    wait_for("the whole trace", LIMIT, async || {
        let found = tree(&collector.trace(TRACE), DEVICE_SPAN, false);
        // A home that does not hold all of the slot's readings has it aggregated again.
        let found = found.replace("slot to aggregate again", "slot");
        ensure!(found == expected, "{found}");
        Ok(())
    })
    .await;
    let spans = collector.trace(TRACE);
    ensure!(collector.spans().len() == spans.len(), "another trace");
    ensure!(
        spans
            .iter()
            .all(|span| span.service == "hearth" && !span.is_failed)
    );
    ensure!(spans.iter().all(|span| span.start_ns <= span.end_ns));
    let attribute = |name: &str, key: &str| {
        let span = spans.iter().find(|span| span.name == name);
        span.and_then(|span| Some((span.kind, span.attributes.get(key)?.clone())))
    };
    for (name, kind, key, value) in [
        ("receive meter", "consumer", "messaging.system", "mqtt"),
        (
            "receive meter",
            "consumer",
            "messaging.destination.name",
            "home/2/meter",
        ),
        (
            "publish telemetry",
            "producer",
            "messaging.system",
            "hearth",
        ),
        ("publish telemetry", "producer", "hearth.stored_in", "log"),
        ("process telemetry", "consumer", "hearth.household_id", "2"),
        ("write rows", "client", "db.operation.name", "write"),
        ("solve", "internal", "hearth.plan.status", "optimal"),
        ("deliver command", "producer", "hearth.outcome", "applied"),
    ] {
        let found = attribute(name, key);
        ensure!(
            found == Some((kind, value.to_owned())),
            "{name} {key}: {found:?}"
        );
    }
    let outcome = attribute("process telemetry", "hearth.outcome");
    let outcome = outcome.context("no outcome")?.1;
    ensure!(
        ["accepted", "late"].contains(&outcome.as_str()),
        "{outcome}"
    );
    wait_for("the count of the spans", LIMIT, async || {
        let exported = metric(port, "hearth_trace_spans_total{outcome=\"exported\"}").await?;
        ensure!(exported == 16.0, "{exported} of 16 spans");
        Ok(())
    })
    .await;
    ensure!(hearth.terminate(LIMIT).await?.success());
    Ok(())
}

/// A device that knows nothing of traces: the delivery of its command ends with its answer all the same.
#[tokio::test]
async fn an_answer_without_a_trace_ends_the_delivery() -> anyhow::Result<()> {
    let collector = Collector::start()?;
    let traces = format!("endpoint = \"{}\"\nsampled_share = 1.0", collector.url());
    let (hearth, port, mqtt_port) = start("untraced-acks", &traces).await?;
    put_tariff(port).await?;
    let home = TracedHome::furnish(port, 1, MqttAccess::plain(mqtt_port)).await?;
    home.send_meter(None).await?;
    home.apply_command(false).await?;
    let (delivery, ack) = wait_for("the delivery", LIMIT, async || {
        let find = |name: &str| collector.spans().into_iter().find(|span| span.name == name);
        let delivery = find("deliver command").context("no delivery")?;
        Ok((delivery, find("publish acks").context("no answer")?))
    })
    .await;
    ensure!(
        delivery.attributes["hearth.outcome"] == "applied",
        "{delivery:?}"
    );
    ensure!(delivery.trace_id != ack.trace_id, "one trace");
    ensure!(delivery.links == [ack.trace_id], "{:?}", delivery.links);
    // The metadata came over HTTP, which begins a trace as well.
    let put = collector
        .spans()
        .into_iter()
        .find(|span| span.kind == "server");
    let put = put.context("no span of the API")?;
    ensure!(put.name == "PUT /api/households/{id}", "{}", put.name);
    ensure!(hearth.terminate(LIMIT).await?.success());
    Ok(())
}

fn config(collector: &str) -> TracesConfig {
    TracesConfig {
        endpoint: collector.to_owned(),
        sampled_share: 1.0,
        timeout_ms: 500,
        ..TracesConfig::default()
    }
}

fn begin(config: &TracesConfig, metrics: &Metrics) -> Traces {
    // What the client needs is installed by the first test that asks.
    let _ = tests::harness::http();
    Traces::start(
        config,
        &Environment::default(),
        "hearth-test",
        "kafka",
        metrics,
    )
    .expect("good settings")
}

fn spans(metrics: &Metrics, outcome: &str) -> u64 {
    let counter = &metrics.trace_spans_total;
    counter.with_label_values(&[outcome]).get()
}

#[tokio::test]
async fn a_collector_that_is_away_stops_nothing_and_each_span_is_counted() -> anyhow::Result<()> {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let metrics = Metrics::new();
    let settings = TracesConfig {
        queue_spans_max: 100,
        ..config(&nobody)
    };
    let traces = begin(&settings, &metrics);
    let tracer = traces.tracer();
    let begun = Instant::now();
    for number in 0..10_000 {
        let mut span = tracer.head(SpanKind::Internal, Caller::Unknown, || "work".to_owned());
        ensure!(span.is_recorded());
        span.set("number", i64::from(number));
    }
    // The queue holds 100, and the sender may have taken some more of them meanwhile.
    let dropped = spans(&metrics, "dropped");
    ensure!((5_000..=9_900).contains(&dropped), "{dropped} dropped");
    ensure!(begun.elapsed() < Duration::from_secs(30), "somebody waited");
    traces.close().await;
    let failed = spans(&metrics, "failed");
    let dropped = spans(&metrics, "dropped");
    ensure!(spans(&metrics, "exported") == 0 && dropped + failed <= 10_000);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_comes_late_gets_what_waited() -> anyhow::Result<()> {
    let port = free_port();
    let metrics = Metrics::new();
    let traces = begin(&config(&format!("http://127.0.0.1:{port}/")), &metrics);
    drop(
        traces
            .tracer()
            .head(SpanKind::Internal, Caller::Unknown, || "early".to_owned()),
    );
    tokio::time::sleep(Duration::from_millis(700)).await;
    let collector = Collector::start_on(port)?;
    wait_for("the span", LIMIT, async || {
        ensure!(collector.spans().len() == 1, "{}", collector.spans().len());
        ensure!(spans(&metrics, "exported") == 1, "not counted");
        Ok(())
    })
    .await;
    // What ends just before the process does is sent too.
    drop(
        traces
            .tracer()
            .head(SpanKind::Internal, Caller::Unknown, || "last".to_owned()),
    );
    traces.close().await;
    let names: Vec<String> = collector
        .spans()
        .into_iter()
        .map(|span| span.name)
        .collect();
    ensure!(names == ["early", "last"], "{names:?}");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_refuses_is_asked_once_and_one_that_is_busy_again() -> anyhow::Result<()> {
    let collector = Collector::start()?;
    let metrics = Metrics::new();
    let mut settings = config(&format!("{}/v1/traces", collector.url()));
    settings.headers = "authorization=Bearer%20s3cret,x-tenant = home "
        .to_owned()
        .into();
    let traces = begin(&settings, &metrics);
    let work = || {
        drop(
            traces
                .tracer()
                .head(SpanKind::Internal, Caller::Unknown, || "work".to_owned()),
        );
    };
    collector.answer_with(400);
    work();
    wait_for("the refusal", LIMIT, async || {
        ensure!(spans(&metrics, "failed") == 1, "not counted");
        Ok(())
    })
    .await;
    ensure!(collector.headers().len() == 1, "asked again");
    collector.answer_with(503);
    work();
    wait_for("two attempts", LIMIT, async || {
        ensure!(
            collector.headers().len() >= 3,
            "{}",
            collector.headers().len()
        );
        Ok(())
    })
    .await;
    collector.answer_with(200);
    wait_for("the span", LIMIT, async || {
        ensure!(spans(&metrics, "exported") == 1, "not counted");
        Ok(())
    })
    .await;
    let headers = collector.headers();
    ensure!(headers[0]["authorization"] == "Bearer s3cret" && headers[0]["x-tenant"] == "home");
    ensure!(headers[0]["content-type"] == "application/x-protobuf");
    ensure!(
        !format!("{settings:?} {traces:?}").contains("s3cret"),
        "a secret is shown"
    );
    traces.close().await;
    Ok(())
}

#[tokio::test]
async fn the_head_decides_and_everything_behind_follows() -> anyhow::Result<()> {
    let collector = Collector::start()?;
    let metrics = Metrics::new();
    let settings = TracesConfig {
        sampled_share: 0.25,
        ..config(&collector.url())
    };
    let tracer = begin(&settings, &metrics).tracer();
    let head = |caller| tracer.head(SpanKind::Consumer, caller, || "head".to_owned());
    let recorded = (0..10_000)
        .filter(|_| head(Caller::Unknown).is_recorded())
        .count();
    // Binomial, standard deviation 43: ten of them.
    ensure!((2_070..=2_930).contains(&recorded), "{recorded} of 10,000");
    let text = |flags: &str| format!("00-{TRACE}-{DEVICE_SPAN}-{flags}");
    let say = |flags: &str| Caller::read(text(flags).as_bytes());
    ensure!((0..100).all(|_| !head(say("00")).is_recorded()));
    let followed = head(say("01")).context();
    ensure!(followed.is_some_and(|context| context.trace_id() == TRACE));
    // As many as may be followed in a second, and a share of the rest. Within two seconds, twice as many.
    let begun = Instant::now();
    let recorded = (0..10_000)
        .filter(|_| head(say("01")).is_recorded())
        .count();
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("a short time") + 2;
    let most = 2_930 + 10 * seconds;
    ensure!((2_070..=most).contains(&recorded), "{recorded} of 10,000");
    // Without a context nothing behind the head begins anything.
    ensure!(
        !tracer
            .child(None, "child", SpanKind::Internal)
            .is_recorded()
    );
    let settings = TracesConfig {
        followed_per_s_max: 0,
        sampled_share: 0.0,
        ..config(&collector.url())
    };
    let deaf = begin(&settings, &metrics).tracer();
    let caller = Caller::read(text("01").as_bytes());
    ensure!(
        !deaf
            .head(SpanKind::Consumer, caller, || "head".to_owned())
            .is_recorded()
    );
    let context = TraceContext::parse(text("01").as_bytes());
    ensure!(
        deaf.child(context, "child", SpanKind::Internal)
            .is_recorded()
    );
    Ok(())
}

#[tokio::test]
async fn the_environment_stands_in_for_settings_that_are_empty() -> anyhow::Result<()> {
    let _ = tests::harness::http();
    let collector = Collector::start()?;
    let environment = |is_disabled| Environment {
        is_disabled,
        endpoint: collector.url(),
        headers: "x-tenant=env".to_owned().into(),
    };
    let metrics = Metrics::new();
    let start = |config: &TracesConfig, environment: &Environment| {
        Traces::start(config, environment, "hearth-test", "kafka", &metrics)
    };
    let off = start(&TracesConfig::default(), &Environment::default())?;
    ensure!(!off.tracer().is_on());
    ensure!(!start(&config(""), &environment(true))?.tracer().is_on());
    let on = start(&config(""), &environment(false))?;
    drop(
        on.tracer()
            .head(SpanKind::Internal, Caller::Unknown, || "work".to_owned()),
    );
    on.close().await;
    ensure!(collector.headers().len() == 1 && collector.headers()[0]["x-tenant"] == "env");
    let missing = TracesConfig {
        ca_file: Some("/nowhere/ca.pem".into()),
        ..config("https://collector:4318")
    };
    let error = start(&missing, &Environment::default()).map(drop);
    ensure!(error.is_err_and(|error| format!("{error:#}").contains("/nowhere/ca.pem")));
    Ok(())
}
