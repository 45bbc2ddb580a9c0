//! `make kubelet`: the image and the chart on two real nodes, with Kafka, Cassandra, the registry and Mosquitto beside them.
//! Homes publish and get commands while an upgrade rolls every role, processes are killed and a node is drained. No
//! acknowledged reading may be missing in the store.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use loadtest::fleet::FleetConfig;
use loadtest::homes;
use loadtest::load::{self, Steady};
use serde_json::{Value, json};
use tests::harness::helm::{chart, values_file};
use tests::harness::{CassandraFor, Stack, cql, hearth_config, http};

use crate::kube::Helm;
use crate::node::{Ground, Node};
use crate::plane::{Plane, disk, disk_class};
use crate::report::{say, write};
use crate::watch;

const NAMESPACE: &str = "homes";
const LIMIT: &str = "300s";
const DISKS: usize = 6;
/// User and group of the image.
const USER: u32 = 10_001;
const CALM: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(120);
/// Hearth's slots here: with the usual quarter of an hour few plans would fall into the run.
const SLOT_MINUTES: &str = "1";

/// What is run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Archive with the image.
    #[arg(long, default_value = "target/image/hearth.tar")]
    image: PathBuf,
    /// Its name.
    #[arg(long, default_value = "localhost/hearth")]
    repository: String,
    /// Its tag.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    #[arg(long, default_value_t = 200)]
    homes: u32,
    /// How long homes publish.
    #[arg(long, default_value_t = 420)]
    seconds: u64,
    #[arg(long, default_value = "target/kubelet/report.json")]
    report: PathBuf,
}

/// Everything that runs.
struct Site {
    plane: Plane,
    nodes: Vec<Node>,
    stack: Stack,
    helm: Helm,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let ground = Ground::prepare()?;
    say("starting Kafka, Cassandra, the schema registry and Mosquitto ...");
    let stack = Stack::start(CassandraFor::Tests).await?;
    say("starting a control plane and two nodes ...");
    let plane = Plane::start().await?;
    let images = [options.image.clone()];
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        nodes.push(ground.add_node(&plane, name, &images).await?);
    }
    let [_, helm] = Helm::both(&plane.kube)?;
    let site = Site {
        plane,
        nodes,
        stack,
        helm,
    };
    let done = site.prove(options).await;
    if done.is_err() {
        say(&site.state());
    }
    done
}

impl Site {
    async fn prove(&self, options: &Options) -> Result<()> {
        self.furnish_cluster()?;
        let mut steps = Vec::new();
        let begun = Instant::now();
        self.release(&["install"], options, json!({}))
            .context("install")?;
        step(
            &mut steps,
            "the utility profile is installed and ready",
            begun,
        );
        self.furnish_homes(options.homes).await?;
        let scenario = self.scenario(options);
        let watched = watch::start(self.plane.kube.clone(), NAMESPACE);
        let publishing =
            tokio::spawn(async move { load::steady(&scenario, &|text| say(text)).await });
        tokio::time::sleep(CALM).await;
        self.disturb(options, &mut steps).await?;
        say("waiting for the end of the readings ...");
        let report = publishing.await.context("the load")??;
        let lags = watched.end().await;
        let plans = self.count("schedules").await?;
        let commands = self.count("commands").await?;
        let text = load::table(std::slice::from_ref(&report));
        say(&format!(
            "{text}{plans} homes have plans, {commands} have commands\nlost = {}",
            report.readings.lost
        ));
        self.plane.check()?;
        self.nodes.iter().try_for_each(Node::check)?;
        ensure!(
            plans > 0 && report.commands > 0,
            "no plans or commands flow"
        );
        let whole = json!({"steps": steps, "load": report, "homes_with_plans": plans, "homes_with_commands": commands});
        write(&options.report, &whole)?;
        std::fs::write(options.report.with_file_name("lag.csv"), watch::csv(&lags))?;
        ensure!(report.is_clean(), "readings are lost or counted twice");
        say(&format!(
            "all is well; report: {}",
            options.report.display()
        ));
        Ok(())
    }

    /// What happens while homes publish.
    async fn disturb(&self, options: &Options, steps: &mut Vec<Value>) -> Result<()> {
        let begun = Instant::now();
        self.release(
            &["upgrade"],
            options,
            json!({"podAnnotations": {"changed": "yes"}}),
        )
        .context("upgrade")?;
        step(steps, "helm upgrade has replaced every pod", begun);
        for pod in ["hearth-engine-0", "hearth-bridge-0", "hearth-controller-0"] {
            tokio::time::sleep(CALM).await;
            let begun = Instant::now();
            self.kill(pod)
                .await
                .with_context(|| format!("kill {pod}"))?;
            step(
                steps,
                &format!("{pod} was killed and is ready again"),
                begun,
            );
        }
        tokio::time::sleep(CALM).await;
        let begun = Instant::now();
        let drain = [
            "drain",
            "a",
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            "--timeout=240s",
        ];
        self.plane.kube.run(&drain, None).context("drain")?;
        self.until_ready().await?;
        step(
            steps,
            "node a is drained, and its pods are ready on the other",
            begun,
        );
        self.plane.kube.run(&["uncordon", "a"], None)?;
        Ok(())
    }

    /// Namespace, secrets and disks.
    fn furnish_cluster(&self) -> Result<()> {
        crate::profiles::add_namespace(&self.plane.kube, NAMESPACE)?;
        let authority = self.stack.mosquitto.ca();
        let ca = std::fs::read_to_string(authority.path())?;
        let gateway = authority.issue("hearth-gateway")?;
        let tls = json!({
            "ca.crt": ca,
            "tls.crt": std::fs::read_to_string(gateway.cert)?,
            "tls.key": std::fs::read_to_string(gateway.key)?,
        });
        let file = hearth_config(&self.stack, "", "hearth", "")?;
        // In a pod the authority is elsewhere.
        let config = std::fs::read_to_string(file)?;
        let config = config.replace(
            &authority.path().display().to_string(),
            "/etc/hearth/tls/ca.crt",
        );
        let secret = |name: &str, texts: Value| {
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": texts,
            })
        };
        let mut objects = vec![
            secret("hearth-gateway-tls", tls),
            secret("hearth-bridge-tls", json!({"ca.crt": ca})),
            secret("hearth-controller-tls", json!({"ca.crt": ca})),
            secret("hearth-config", json!({"hearth.toml": config})),
            disk_class(),
        ];
        for number in 0..DISKS {
            let folder = tests::harness::scratch_folder("disk");
            std::os::unix::fs::chown(&folder, Some(USER), Some(USER))?;
            objects.push(disk(&folder, number));
        }
        self.plane.kube.apply(&objects)
    }

    /// The utility profile, as small as two cores need it, for the services of this machine.
    fn release(&self, verb: &[&str], options: &Options, over: Value) -> Result<()> {
        let small =
            json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}});
        let role = |more: Value| {
            let mut role = json!({"resources": small});
            merge(&mut role, more);
            role
        };
        let off = json!({"autoscaling": {"enabled": false}});
        let mut values = json!({
            "image": {"repository": options.repository, "tag": options.tag, "pullPolicy": "Never"},
            "configSecret": "hearth-config",
            "secrets": [], "extraVolumes": [], "extraVolumeMounts": [],
            "env": {"HEARTH_ENGINE__SLOT_MINUTES": SLOT_MINUTES, "HEARTH_ENGINE__GRACE_MINUTES": "1"},
            "init": role(json!({})),
            "roles": {
                "gateway": role(json!({"replicas": 1, "service": {"type": "ClusterIP", "externalTrafficPolicy": ""}})),
                "bridge": role(json!({"replicas": 2})),
                "engine": role(json!({"replicas": 2, "autoscaling": {"enabled": false}})),
                "optimizer": role(off),
                "controller": role(json!({"replicas": 2})),
                "api": role(json!({"replicas": 2})),
            },
        });
        merge(&mut values, over);
        let (chart, values) = (chart(), values_file(&values)?);
        let profile = chart.join("values-utility.yaml");
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path of UTF-8");
        let (chart, profile, values) = (text(&chart)?, text(&profile)?, text(&values)?);
        let rest = [
            "hearth", &chart, "-n", NAMESPACE, "--values", &profile, "--values", &values,
        ];
        let wait = ["--wait", "--timeout", LIMIT];
        self.helm.run(&[verb, &rest, &wait].concat()).map(drop)
    }

    /// Prices, and metadata of every home, through the API of a pod.
    async fn furnish_homes(&self, homes_count: u32) -> Result<()> {
        let pods = self.plane.kube.ready_pods(NAMESPACE, "api")?;
        let address = pods.first().context("no api")?["status"]["podIP"]
            .as_str()
            .context("no address")?
            .to_owned();
        let base = format!("http://{address}:8080/api");
        let now_ms = i64::try_from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)?
                .as_millis(),
        )?;
        let tariff = homes::prices(now_ms - 3_600_000, now_ms + 36 * 3_600_000);
        let time = |ms: i64| json!(schemas::time::rfc3339(ms));
        let periods: Vec<Value> = tariff
            .periods
            .iter()
            .map(|period| {
                json!({"start": time(period.start_ms), "end": time(period.end_ms), "buy": period.buy_per_kwh, "sell": period.sell_per_kwh})
            })
            .collect();
        let put = http()
            .put(format!("{base}/tariffs/{}", tariff.name))
            .json(&json!({"periods": periods}));
        put.send().await?.error_for_status()?;
        let home = json!({
            "name": "A home", "pv_capacity_kw": 5.0, "tariff": tariff.name,
            "battery": {"capacity_kwh": 10.0, "min_soc_kwh": 1.0, "max_soc_kwh": 9.5, "charge_kw": 5.0, "discharge_kw": 5.0,
                "charge_efficiency": 0.95, "discharge_efficiency": 0.95, "wear_cost_per_kwh": 0.01},
        });
        for id in 1..=homes_count {
            let put = http().put(format!("{base}/households/{id}")).json(&home);
            put.send().await?.error_for_status()?;
        }
        Ok(())
    }

    fn scenario(&self, options: &Options) -> Steady {
        let access = self.stack.mosquitto.home(1);
        let (user, password) = access.credentials.unwrap_or_default();
        Steady {
            fleet: FleetConfig {
                homes: options.homes,
                first_id: 1,
                host: access.host,
                port: access.port,
                ca_file: access.ca,
                username: user.replace('1', "{id}"),
                password: password.replace('1', "{id}"),
                interval_ms: 2_000,
                ..FleetConfig::default()
            },
            seconds: options.seconds,
            cql: self.stack.cassandra.contact_point(),
            keyspace: "hearth".to_owned(),
        }
    }

    /// SIGKILL for a pod's process; waits until Kubernetes has started it again and it is ready.
    async fn kill(&self, name: &str) -> Result<()> {
        let get = ["-n", NAMESPACE, "get", "pod", name];
        let before = self.plane.kube.json(&get)?;
        let status = &before["status"]["containerStatuses"][0];
        let id = status["containerID"].as_str().context("it does not run")?;
        let node = &before["spec"]["nodeName"];
        let node = self
            .nodes
            .iter()
            .find(|it| *node == it.name)
            .context("no such node")?;
        node.kill_container(id)?;
        let restarts = status["restartCount"].as_u64().unwrap_or(0);
        self.until(&format!("{name} to start again"), || {
            let after = self.plane.kube.json(&get)?;
            let status = &after["status"]["containerStatuses"][0];
            Ok(status["restartCount"].as_u64() > Some(restarts) && status["ready"] == true)
        })
        .await
    }

    async fn until_ready(&self) -> Result<()> {
        self.until("every pod to be ready", || {
            for kind in ["statefulsets", "deployments"] {
                for workload in self.plane.kube.list(kind, Some(NAMESPACE))? {
                    let status = &workload["status"];
                    if status["readyReplicas"] != workload["spec"]["replicas"]
                        || status["updatedReplicas"] != workload["spec"]["replicas"]
                    {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        })
        .await
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !is_so()? {
            if begun.elapsed() > PATIENCE {
                bail!("waited {PATIENCE:?} for {what}");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Homes with a row in a table.
    async fn count(&self, table: &str) -> Result<usize> {
        let query = format!("SELECT DISTINCT household_id FROM hearth.{table}");
        Ok(cql(&self.stack, &query).await?.rows_num())
    }

    /// What a person would look at first.
    fn state(&self) -> String {
        let look = |args: &[&str]| {
            self.plane
                .kube
                .run(args, None)
                .unwrap_or_else(|failure| failure.to_string())
        };
        let pods = look(&["-n", NAMESPACE, "get", "pods,jobs,pvc", "-o", "wide"]);
        let events = look(&["-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp"]);
        let tail: Vec<&str> = events.lines().rev().take(30).collect();
        let logs: Vec<String> = self.nodes.iter().map(Node::log_tail).collect();
        format!("{pods}\n{}\n{}", tail.join("\n"), logs.join("\n"))
    }
}

fn step(steps: &mut Vec<Value>, what: &str, begun: Instant) {
    let seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    say(&format!("{what} ({seconds} s)"));
    steps.push(json!({"what": what, "seconds": seconds}));
}

fn merge(values: &mut Value, over: Value) {
    match (values, over) {
        (Value::Object(values), Value::Object(over)) => {
            for (key, value) in over {
                merge(values.entry(key).or_insert(Value::Null), value);
            }
        }
        (value, over) => *value = over,
    }
}
