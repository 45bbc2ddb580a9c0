//! The rule by which engines are scaled: the query as Prometheus answers it, and what the autoscaler of Kubernetes makes of
//! the answers, over recorded lag and over days of changing load. It must not flap, and never want more than partitions.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::harness::helm::render;
use tests::harness::scratch_folder;

const STEP_S: usize = 15;
/// Within this time the number does not go up and down again.
const CALM_S: usize = 1_800;
const PARTITIONS: f64 = 8.0;
const LAG_S_MAX: f64 = 30.0;

pub(crate) fn check() {
    let values = json!({"roles": {"engine": {"autoscaling": {
        "enabled": true, "minReplicas": 1, "partitions": PARTITIONS, "coresPerEngine": 1, "lagSecondsMax": LAG_S_MAX,
    }}}});
    let objects = render(None, &values).unwrap();
    let scaled = objects
        .iter()
        .find(|it| it["kind"] == "ScaledObject")
        .unwrap();
    let query = scaled["spec"]["triggers"][0]["metadata"]["query"]
        .as_str()
        .unwrap();
    check_query(query);
    let behavior = &scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
    let rule = Behavior::read(behavior);
    check_recorded(&rule);
    check_days(&rule);
}

/// What a query is asked with: lag now and two minutes ago, cores in use, engines.
#[derive(Debug, Clone, Copy)]
struct Seen {
    lag_s: Option<(f64, f64)>,
    cores: Option<f64>,
    engines: usize,
}

/// What the query should answer, worked out here.
fn wanted(seen: Seen) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a handful of engines")]
    let engines = seen.engines as f64;
    let by_lag = seen.lag_s.filter(|(now, _)| *now > LAG_S_MAX);
    let by_lag = by_lag.map(|(now, before)| {
        if now >= before {
            2.0 * engines
        } else {
            engines
        }
    });
    let by_cores = seen.cores.map(f64::ceil);
    let most = [by_lag, by_cores].into_iter().flatten().reduce(f64::max)?;
    // The fewest engines of which none has more partitions than with `most`.
    let each = (PARTITIONS / most.clamp(1.0, PARTITIONS)).ceil();
    Some((PARTITIONS / each).ceil())
}

/// What is seen, and how many engines should be wanted.
fn cases() -> Vec<(Seen, Option<f64>)> {
    let seen = |lag_s, cores, engines| Seen {
        lag_s,
        cores,
        engines,
    };
    let calm = Some((0.0, 0.0));
    vec![
        (seen(calm, Some(0.3), 2), Some(1.0)),
        (seen(calm, Some(2.6), 2), Some(3.0)),
        // Five engines would still leave two partitions to one of them, as four do.
        (seen(calm, Some(4.4), 2), Some(4.0)),
        (seen(calm, Some(40.0), 8), Some(8.0)),
        // Too far behind and falling further behind, or not gaining.
        (seen(Some((60.0, 40.0)), Some(1.6), 2), Some(4.0)),
        (seen(Some((60.0, 60.0)), Some(1.6), 4), Some(8.0)),
        // Too far behind, but gaining: none is taken away, none is added.
        (seen(Some((60.0, 80.0)), Some(0.6), 4), Some(4.0)),
        (seen(Some((29.0, 0.0)), Some(0.6), 4), Some(1.0)),
        (seen(None, Some(2.6), 2), Some(3.0)),
        (seen(Some((60.0, 40.0)), None, 2), Some(4.0)),
        // No answer is an error to KEDA, which then keeps what there is.
        (seen(None, None, 0), None),
        (seen(calm, None, 2), None),
    ]
}

/// Prometheus itself answers the query of the chart.
fn check_query(query: &str) {
    let mut text = "rule_files: []\nevaluation_interval: 15s\ntests:\n".to_owned();
    for (seen, expected) in cases() {
        assert_eq!(wanted(seen), expected, "{seen:?}");
        writeln!(text, "- interval: 15s\n  input_series:").unwrap();
        for engine in 0..seen.engines {
            let labels = format!("{{namespace=\"homes\",pod=\"hearth-engine-{engine}\"");
            if let Some((now, before)) = seen.lag_s {
                // Ten minutes in steps of 15 s, the last two of another value.
                let lag = format!("hearth_consumer_lag_seconds{labels}}}");
                writeln!(
                    text,
                    "  - {{ series: '{lag}', values: '{before}x32 {now}x20' }}"
                )
                .unwrap();
            }
            if let Some(cores) = seen.cores {
                #[expect(clippy::cast_precision_loss, reason = "a handful of engines")]
                let step = cores * 15.0 / seen.engines as f64;
                let used =
                    format!("container_cpu_usage_seconds_total{labels},container=\"engine\"}}");
                writeln!(text, "  - {{ series: '{used}', values: '0+{step}x60' }}").unwrap();
            }
        }
        // Another release's engines are none of ours.
        writeln!(text, "  - {{ series: 'hearth_consumer_lag_seconds{{namespace=\"other\",pod=\"hearth-engine-0\"}}', values: '900x60' }}").unwrap();
        let samples = expected.map_or_else(|| "[]".to_owned(), |it| format!("[{{ value: {it} }}]"));
        let expr = serde_json::to_string(query).unwrap();
        writeln!(
            text,
            "  promql_expr_test: [{{ expr: {expr}, eval_time: 9m, exp_samples: {samples} }}]"
        )
        .unwrap();
    }
    let file = scratch_folder("scaling").join("tests.yml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// How the autoscaler of Kubernetes follows what is wanted.
#[derive(Debug)]
struct Behavior {
    up_s: usize,
    down_s: usize,
    up_percent: usize,
    up_every_s: usize,
    down_percent: usize,
    down_every_s: usize,
}

/// The autoscaler over time.
struct Autoscaler<'a> {
    rule: &'a Behavior,
    engines: usize,
    /// Recommendations, one a step.
    recommended: Vec<usize>,
    /// Numbers, one a step.
    numbers: Vec<usize>,
}

impl Behavior {
    fn read(behavior: &Value) -> Self {
        let number = |pointer: &str| {
            let number = behavior.pointer(pointer).and_then(Value::as_u64);
            usize::try_from(number.unwrap_or_else(|| panic!("no {pointer}"))).unwrap()
        };
        assert_eq!(behavior["scaleUp"]["policies"][0]["type"], "Percent");
        assert_eq!(behavior["scaleDown"]["policies"][0]["type"], "Percent");
        Self {
            up_s: number("/scaleUp/stabilizationWindowSeconds"),
            down_s: number("/scaleDown/stabilizationWindowSeconds"),
            up_percent: number("/scaleUp/policies/0/value"),
            up_every_s: number("/scaleUp/policies/0/periodSeconds"),
            down_percent: number("/scaleDown/policies/0/value"),
            down_every_s: number("/scaleDown/policies/0/periodSeconds"),
        }
    }
}

impl<'a> Autoscaler<'a> {
    fn new(rule: &'a Behavior, engines: usize) -> Self {
        Self {
            rule,
            engines,
            // What there is when it begins counts as a first recommendation.
            recommended: vec![engines],
            numbers: Vec::new(),
        }
    }

    /// The number so many seconds ago.
    fn before(&self, seconds: usize) -> usize {
        let steps = seconds / STEP_S;
        let at = self.numbers.len().saturating_sub(steps);
        self.numbers.get(at).copied().unwrap_or(self.engines)
    }

    fn step(&mut self, wanted: Option<f64>) {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a handful"
        )]
        let wanted = match wanted {
            // Within a tenth it is left alone; without an answer too.
            Some(wanted) if (wanted / self.engines as f64 - 1.0).abs() > 0.1 => wanted as usize,
            _ => self.engines,
        };
        self.recommended.push(wanted);
        let last = |seconds: usize| {
            let from = self.recommended.len().saturating_sub(seconds / STEP_S + 1);
            self.recommended[from..].iter().copied()
        };
        let up = last(self.rule.up_s).min().unwrap_or(wanted);
        let down = last(self.rule.down_s).max().unwrap_or(wanted);
        if up > self.engines {
            let from = self.before(self.rule.up_every_s).min(self.engines);
            let most = from + (from * self.rule.up_percent).div_ceil(100);
            self.engines = up.min(most.max(self.engines));
        } else if down < self.engines {
            let from = self.before(self.rule.down_every_s).max(self.engines);
            let least = from - (from * self.rule.down_percent).div_ceil(100);
            self.engines = down.max(least.min(self.engines));
        }
        self.numbers.push(self.engines);
    }

    /// How often the number went up and soon down again, or down and soon up.
    fn flaps(&self) -> usize {
        let mut flaps = 0;
        let mut last: Option<(usize, bool)> = None;
        for (at, pair) in self.numbers.windows(2).enumerate() {
            if pair[0] == pair[1] {
                continue;
            }
            let is_up = pair[1] > pair[0];
            if let Some((before, was_up)) = last {
                flaps += usize::from(was_up != is_up && (at - before) * STEP_S < CALM_S);
            }
            last = Some((at, is_up));
        }
        flaps
    }

    fn changes(&self) -> usize {
        self.numbers
            .windows(2)
            .filter(|pair| pair[0] != pair[1])
            .count()
    }
}

/// Lag and cores of a real engine that was stopped, asleep and killed, and whose store stood still twice, as recorded.
fn check_recorded(rule: &Behavior) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm_chart/recorded_lag.csv");
    let text = std::fs::read_to_string(file).unwrap();
    // Without a lag no engine answered.
    let rows: Vec<(Option<f64>, f64)> = text
        .lines()
        .skip(1)
        .map(|line| {
            let mut cells = line.split(',').skip(1);
            let (lag, cores) = (cells.next().unwrap(), cells.next().unwrap());
            (lag.parse().ok(), cores.parse().unwrap())
        })
        .collect();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let worst = rows.iter().filter_map(|row| row.0).fold(0.0, f64::max);
    assert!(worst > LAG_S_MAX, "nothing to scale for: {worst}");
    // As it was, and as if it had lasted two and four times as long.
    for slower in [1, 2, 4] {
        let rows: Vec<(Option<f64>, f64)> =
            rows.iter().flat_map(|row| vec![*row; slower]).collect();
        let mut scaler = Autoscaler::new(rule, 2);
        // The same again and again, with hours of calm between.
        for _ in 0..3 {
            for at in 0..rows.len() + 960 {
                let lag = |at: usize| rows.get(at).map_or(Some(0.0), |row| row.0);
                let before = lag(at.saturating_sub(120 / STEP_S));
                let seen = Seen {
                    lag_s: lag(at).zip(before),
                    cores: Some(rows.get(at).map_or(0.2, |row| row.1)),
                    engines: scaler.engines,
                };
                scaler.step(wanted(seen));
            }
        }
        assert_eq!(scaler.flaps(), 0, "{:?}", scaler.numbers);
        assert!(scaler.changes() <= 3 * 6, "{:?}", scaler.numbers);
        assert_eq!(scaler.engines, 1);
        let most = scaler.numbers.iter().max();
        assert!(
            slower == 1 || most > Some(&2),
            "it never scaled up: {slower}"
        );
    }
}

/// Five days of load that follows the sun and jitters, with an hour of three times the load each day. Engines have a core
/// and a half each; what they cannot do waits.
fn check_days(rule: &Behavior) {
    let mut scaler = Autoscaler::new(rule, 2);
    let (mut behind, mut lags): (f64, Vec<f64>) = (0.0, Vec::new());
    let mut worst: f64 = 0.0;
    let mut random: u64 = 7;
    let steps = 5 * 86_400 / STEP_S;
    for at in 0..steps {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        #[expect(clippy::cast_precision_loss, reason = "for a picture of a day")]
        let (jitter, hour) = (
            (random >> 40) as f64 / (1 << 24) as f64 - 0.5,
            (at * STEP_S % 86_400) as f64 / 3_600.0,
        );
        let day = 2.2 - 1.8 * (std::f64::consts::TAU * (hour - 1.0) / 24.0).cos();
        let burst = if (18.0..19.0).contains(&hour) {
            3.0
        } else {
            1.0
        };
        let load = day * burst * (1.0 + 0.3 * jitter);
        #[expect(clippy::cast_precision_loss, reason = "a handful of engines")]
        let able = 1.5 * scaler.engines as f64;
        // Seconds of work that wait.
        let step = 15.0;
        let used = (load + behind / step).min(able);
        behind = (behind + (load - used) * step).max(0.0);
        let lag = behind / load;
        worst = worst.max(lag);
        lags.push(lag);
        let lag_s = Some((lag, lags[at.saturating_sub(120 / STEP_S)]));
        scaler.step(wanted(Seen {
            lag_s,
            cores: Some(used),
            engines: scaler.engines,
        }));
    }
    assert_eq!(scaler.flaps(), 0, "{} changes", scaler.changes());
    assert!(
        scaler.changes() <= 5 * 16,
        "{} changes in five days",
        scaler.changes()
    );
    assert!(worst < 600.0, "{worst} s behind");
    assert!(scaler.numbers.iter().all(|number| *number <= 8));
}
