//! One trace through every process, on real Kafka and Cassandra, over a real broker.

use std::time::Duration;

use anyhow::ensure;
use tests::harness::{
    Collector, DEVICE_SPAN, HearthProcess, Stack, TracedHome, hearth_config, hearth_init,
    kafka_records, put_tariff, tree, unique, unique_home, wait_for,
};

const LIMIT: Duration = Duration::from_secs(90);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
#[ignore = "needs the real stack: make test, or cargo test -- --ignored"]
async fn one_trace_leads_through_every_process() -> anyhow::Result<()> {
    let stack = Stack::shared().await;
    let collector = Collector::start()?;
    let (prefix, keyspace) = (unique("traces-"), unique("traces"));
    let extra = format!(
        "[traces]\nendpoint = \"{}\"\nsampled_share = 0.0\n",
        collector.url()
    );
    let config = hearth_config(stack, &prefix, &keyspace, &extra)?;
    hearth_init(&config).await?;
    let (api, port) = HearthProcess::start_role(&config, "api").await?;
    // The engine reads the tariffs before it starts.
    put_tariff(port).await?;
    let mut roles = vec![api];
    for role in ["engine", "optimizer", "controller", "bridge"] {
        roles.push(HearthProcess::start_role(&config, role).await?.0);
    }
    let id = unique_home();
    let home = TracedHome::furnish(port, id, stack.mosquitto.home(id).v5()).await?;
    home.send_meter(Some(TRACE)).await?;
    home.apply_command(true).await?;
    let expected = "\
receive meter (hearth-bridge)
  publish telemetry (hearth-bridge)
    process telemetry (hearth-engine): slot, plan requested
      publish optimize-requests (hearth-engine)
        process optimize-requests (hearth-optimizer)
          publish schedules (hearth-optimizer)
            process schedules (hearth-engine): command issued
              publish commands (hearth-engine)
                deliver command (hearth-controller): sent, answered
                  receive ack (hearth-bridge)
                    publish acks (hearth-bridge)
                      process acks (hearth-engine)
                        write rows (hearth-engine)
              write rows (hearth-engine)
          solve (hearth-optimizer)
      write rows (hearth-engine)
";
    wait_for("the whole trace", LIMIT, async || {
        let found = tree(&collector.trace(TRACE), DEVICE_SPAN, true);
        // A home that does not hold all of the slot's readings has it aggregated again.
        let found = found.replace("slot to aggregate again", "slot");
        ensure!(found == expected, "{found}");
        Ok(())
    })
    .await;
    // Other programs find the context where the W3C and Kafka's users expect it.
    let topic = format!("{prefix}commands");
    let records = kafka_records(&stack.kafka.brokers(), &topic, LIMIT).await?;
    let publish = collector.trace(TRACE);
    let publish = publish.iter().find(|span| span.name == "publish commands");
    let expected = publish.map(|span| format!("00-{TRACE}-{}-01", span.span_id));
    let found = records
        .iter()
        .find(|record| record.key_text() == id.to_string());
    let found = found.and_then(|record| record.header("traceparent"));
    ensure!(
        found.is_some() && found == expected,
        "{found:?}, not {expected:?}"
    );
    ensure!(
        collector.spans().iter().all(|span| span.trace_id == TRACE),
        "another trace"
    );
    for role in roles {
        ensure!(role.terminate(LIMIT).await?.success());
    }
    Ok(())
}
