//! The bridge on its own: messages from Mosquitto to the log.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::harness::{
    HearthProcess, Stack, free_port, hearth_config, kafka_records, mosquitto_pub, unique, wait_for,
};

use crate::hearth::{init, metric};
use crate::{Board, Cli, usage};

const LIMIT: Duration = Duration::from_secs(240);

/// Rate, processor time and losses of the bridge, a few publishers at once.
pub(crate) async fn measure(stack: &Stack, cli: &Cli, board: &mut Board) -> Result<()> {
    const PUBLISHERS: u64 = 8;
    let (mut rate, mut cpu, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..cli.runs {
        let (port, prefix) = (free_port(), unique("bench-"));
        let extra = format!(
            "[registry]\nurl = \"\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[operation]\nlog_filter = \"warn\"\n"
        );
        let config = hearth_config(stack, &prefix, &unique("bench"), &extra)?;
        init(&config).await?;
        let config = config.to_str().context("a path of UTF-8")?.to_owned();
        let process = HearthProcess::start(&["--config", &config, "bridge"], &[])?;
        process.wait_ready(port).await?;
        let pid = process.process().pid().context("the bridge runs")?;
        let (cpu_before, _) = usage(pid)?;
        let each = u64::from(cli.messages) / PUBLISHERS;
        let begun = Instant::now();
        let publishing = (1..=PUBLISHERS).map(|home| {
            let lines: Vec<String> = (0..each).map(|number| line(home, run, number)).collect();
            let access = stack.mosquitto.home(home);
            async move { mosquitto_pub(&access, &format!("home/{home}/meter"), &lines).await }
        });
        for published in futures::future::join_all(publishing).await {
            published?;
        }
        let sent = each * PUBLISHERS;
        #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
        let sent_f = sent as f64;
        wait_for("the bridge to take every message", LIMIT, async || {
            let taken = metric(port, "hearth_readings_total{").await?;
            ensure!(taken >= sent_f, "{taken} of {sent}");
            Ok(())
        })
        .await;
        rate.push(sent_f / begun.elapsed().as_secs_f64());
        let (cpu_after, _) = usage(pid)?;
        cpu.push((cpu_after - cpu_before) * 1e6 / sent_f);
        process.terminate(Duration::from_secs(60)).await?;
        let topic = format!("{prefix}telemetry");
        let records = kafka_records(&stack.kafka.brokers(), &topic, LIMIT).await?;
        let distinct: std::collections::BTreeSet<&[u8]> = records
            .iter()
            .filter_map(|record| record.value.as_deref())
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
        lost.push(sent_f - distinct.len() as f64);
    }
    board.add("bridge.messages_per_s", "messages/s", rate);
    board.add("bridge.cpu_s_per_million", "s", cpu);
    board.add("bridge.lost", "messages", lost);
    Ok(())
}

fn line(home: u64, run: usize, number: u64) -> String {
    let ts_ms = connectors::clock::wall_ms() - 40_000_000 + i64::try_from(number).expect("small");
    let ts = schemas::mqtt::rfc3339(ts_ms);
    format!(r#"{{"household_id":{home},"ts":"{ts}","consumption_w":{run}.{number}}}"#)
}
