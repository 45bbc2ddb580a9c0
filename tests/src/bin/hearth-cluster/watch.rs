//! Notes the engines' lag and the cores they use, every quarter of a minute: what the rule for scaling is tried on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tests::harness::http;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::kube::Kube;

const EVERY: Duration = Duration::from_secs(15);
const TICKS_PER_S: f64 = 100.0;

/// The engines at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    seconds: f64,
    lag_s: f64,
    cores: f64,
}

pub(crate) struct Watched {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Seen>>,
}

pub(crate) fn start(kube: Kube, namespace: &'static str) -> Watched {
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let begun = Instant::now();
        let mut seen = Vec::new();
        let mut before: BTreeMap<u32, f64> = used_s();
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = stopped.changed() => return seen,
                _ = ticks.tick() => {}
            }
            let after = used_s();
            let used: f64 = after
                .iter()
                .map(|(pid, s)| s - before.get(pid).copied().unwrap_or(0.0))
                .sum();
            before = after;
            seen.push(Seen {
                seconds: begun.elapsed().as_secs_f64(),
                lag_s: lag_s(&kube, namespace).await,
                cores: used / EVERY.as_secs_f64(),
            });
        }
    });
    Watched { stop, task }
}

impl Watched {
    pub(crate) async fn end(self) -> Vec<Seen> {
        self.stop.send_replace(true);
        self.task.await.unwrap_or_default()
    }
}

/// The greatest lag that an engine tells, seconds; 0 while none answers.
async fn lag_s(kube: &Kube, namespace: &str) -> f64 {
    let mut worst: f64 = 0.0;
    for pod in kube.ready_pods(namespace, "engine").unwrap_or_default() {
        let Some(address) = pod["status"]["podIP"].as_str() else {
            continue;
        };
        let asked = http()
            .get(format!("http://{address}:8080/metrics"))
            .send()
            .await;
        let Ok(answer) = asked else { continue };
        let text = answer.text().await.unwrap_or_default();
        let lag = text.lines().find_map(|line| {
            line.strip_prefix("hearth_consumer_lag_seconds ")?
                .parse::<f64>()
                .ok()
        });
        worst = worst.max(lag.unwrap_or(0.0));
    }
    worst
}

/// Seconds of processor time that each engine has used since its start.
fn used_s() -> BTreeMap<u32, f64> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let engines = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let command = std::fs::read_to_string(process.path().join("cmdline")).ok()?;
        if !command.ends_with("hearth\0engine\0") {
            return None;
        }
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        // After the name: state is the third field, user and system time the 14th and 15th.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some((pid, ticks / TICKS_PER_S))
    });
    engines.collect()
}

pub(crate) fn csv(seen: &[Seen]) -> String {
    let mut text = "seconds,lag_s,cores\n".to_owned();
    for row in seen {
        // A text takes everything.
        let _ = writeln!(text, "{:.0},{:.1},{:.2}", row.seconds, row.lag_s, row.cores);
    }
    text
}
