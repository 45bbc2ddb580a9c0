//! The servers, the roles, the homes and Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use loadtest::fleet::{Fleet, FleetConfig, Manners};
use loadtest::homes::{self, Home, SEED};
use model::units::{DAY_MS, HouseholdId};
use platform::clock::wall_ms;
use schemas::mqtt::rfc3339;
use serde_json::{Value, json};
use tests::harness::{
    Ca, CassandraFor, CertFiles, Haste, HearthProcess, Prometheus, Stack, free_port, hearth_config,
    hearth_init, http, scratch_folder,
};

use crate::table::Table;

/// More than the twenty below which a share of homes says nothing.
const HOMES: u32 = 24;
const ROLES: [&str; 6] = [
    "gateway",
    "bridge",
    "engine",
    "optimizer",
    "controller",
    "api",
];
const FIRE_LIMIT: Duration = Duration::from_secs(400);
const END_LIMIT: Duration = Duration::from_secs(300);

/// Slots of a minute and short horizons, so that plans are made and end while somebody waits.
const SETTINGS: &str = r#"
[engine]
slot_minutes = 1
horizon_slots = 2
program_slots = 2
stale_minutes = 1
grace_minutes = 1
checkpoint_ms = 2000
[log.kafka]
session_timeout_ms = 6000
delivery_timeout_ms = 10000
[store.cql]
request_timeout_ms = 1000
[operation]
log_filter = "warn"
"#;

/// Everything that runs.
pub(crate) struct Scene {
    pub(crate) stack: Stack,
    pub(crate) prefix: String,
    pub(crate) config: PathBuf,
    roles: BTreeMap<&'static str, HearthProcess>,
    ports: BTreeMap<&'static str, u16>,
    pub(crate) gateway_port: u16,
    pub(crate) ca: Ca,
    fleet: Option<Fleet>,
    prometheus: Prometheus,
    /// A file that says by how much the clock of the api is off.
    pub(crate) clock_file: PathBuf,
    is_clock_faked: bool,
}

impl Scene {
    pub(crate) async fn start(haste: Haste) -> anyhow::Result<Self> {
        let stack = Stack::start(CassandraFor::Tests).await?;
        let ca = Ca::new()?;
        let certificate = ca.issue("gateway")?;
        let gateway_port = free_port();
        let prefix = "drill-".to_owned();
        let gateway = gateway_settings(gateway_port, &certificate, &ca);
        let config = hearth_config(&stack, &prefix, "drill", &format!("{SETTINGS}{gateway}"))?;
        // Safe to repeat; with such short timeouts a busy machine may need more than one try.
        let mut tries = 1;
        while let Err(reason) = hearth_init(&config).await {
            ensure!(tries < 5, "{reason:#}");
            tries += 1;
        }
        let clock_file = scratch_folder("clock").join("offset");
        std::fs::write(&clock_file, "+0").context("write the clock's offset")?;
        let fake = faketime();
        let (mut roles, mut ports) = (BTreeMap::new(), BTreeMap::new());
        for role in ROLES {
            let port = free_port();
            ports.insert(role, port);
            let fake = fake.as_deref().filter(|_| role == "api");
            roles.insert(role, start_role(&config, role, port, fake, &clock_file)?);
        }
        for (role, process) in &roles {
            process.wait_ready(ports[role]).await?;
        }
        let of_roles: Vec<u16> = ports.values().copied().collect();
        let prometheus = Prometheus::start(&of_roles, haste).await?;
        let mut scene = Self {
            stack,
            prefix,
            config,
            roles,
            ports,
            gateway_port,
            ca,
            fleet: None,
            prometheus,
            clock_file,
            is_clock_faked: fake.is_some(),
        };
        scene.furnish(true).await?;
        scene.speak(Manners::Answer)?;
        scene.calm().await?;
        Ok(scene)
    }

    pub(crate) fn role(&self, role: &str) -> &HearthProcess {
        &self.roles[role]
    }

    pub(crate) fn port(&self, role: &str) -> u16 {
        self.ports[role]
    }

    pub(crate) const fn is_clock_faked(&self) -> bool {
        self.is_clock_faked
    }

    /// Starts a role again that was killed, and waits until it is ready.
    pub(crate) async fn revive(&self, role: &str) -> anyhow::Result<()> {
        self.role(role).start_again()?;
        self.role(role).wait_ready(self.port(role)).await
    }

    /// Lets the homes speak, with these manners.
    pub(crate) fn speak(&mut self, manners: Manners) -> anyhow::Result<()> {
        let config = FleetConfig {
            homes: HOMES,
            port: self.gateway_port,
            ca_file: Some(self.ca.path()),
            interval_ms: 2_000,
            manners,
            ..FleetConfig::default()
        };
        self.fleet = Some(Fleet::start(&config, Arc::new(wall_ms), 1.0, None)?);
        Ok(())
    }

    /// Lets every home fall silent.
    pub(crate) async fn hush(&mut self) {
        if let Some(fleet) = self.fleet.take() {
            fleet.close().await;
        }
    }

    /// Writes prices and the homes' metadata. Unless `is_true`, batteries must be fuller than they are.
    pub(crate) async fn furnish(&self, is_true: bool) -> anyhow::Result<()> {
        let now_ms = wall_ms();
        let tariff = homes::prices(now_ms - DAY_MS, now_ms + 2 * DAY_MS);
        let periods = tariff.periods.iter().map(|period| {
            json!({"start": rfc3339(period.start_ms), "end": rfc3339(period.end_ms),
                   "buy": period.buy_per_kwh, "sell": period.sell_per_kwh})
        });
        let periods: Vec<Value> = periods.collect();
        self.put(
            &format!("tariffs/{}", tariff.name),
            &json!({ "periods": periods }),
        )
        .await?;
        for number in 1..=i64::from(HOMES) {
            let id = HouseholdId::new(number).context("a positive id")?;
            let home = Home::new(id, SEED).metadata();
            let battery = home.battery.map(|battery| {
                let (least_kwh, most_kwh) = if is_true {
                    (battery.min_soc_kwh, battery.max_soc_kwh)
                } else {
                    (0.98 * battery.capacity_kwh, 0.99 * battery.capacity_kwh)
                };
                json!({"capacity_kwh": battery.capacity_kwh, "min_soc_kwh": least_kwh,
                       "max_soc_kwh": most_kwh, "charge_kw": battery.charge_kw,
                       "discharge_kw": battery.discharge_kw,
                       "charge_efficiency": battery.charge_efficiency,
                       "discharge_efficiency": battery.discharge_efficiency,
                       "wear_cost_per_kwh": battery.wear_cost_per_kwh})
            });
            let body = json!({"name": home.name, "pv_capacity_kw": home.pv_capacity_kw,
                "tariff": home.tariff, "battery": battery});
            self.put(&format!("households/{number}"), &body).await?;
        }
        Ok(())
    }

    /// Tries again while the log is just coming back.
    async fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.port("api"));
        let begun = Instant::now();
        loop {
            let answer = http().put(&url).json(body).send().await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            let text = answer.text().await?;
            let is_over = !status.is_server_error() || begun.elapsed() > END_LIMIT;
            ensure!(!is_over, "{path}: {status}: {text}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until nothing is pending or firing.
    async fn calm(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut quiet_since = Instant::now();
        loop {
            let alerts = self.prometheus.alerts().await?;
            if !alerts.is_empty() {
                quiet_since = Instant::now();
            }
            if quiet_since.elapsed() > Duration::from_secs(5) {
                return Ok(());
            }
            ensure!(begun.elapsed() < END_LIMIT, "no calm: {alerts:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until each of the alerts fires; how long each took.
    pub(crate) async fn fire(&self, alerts: &[Alert]) -> BTreeMap<Alert, Duration> {
        self.reach(alerts, true, FIRE_LIMIT, Instant::now()).await
    }

    async fn reach(
        &self,
        alerts: &[Alert],
        is_wanted: bool,
        limit: Duration,
        begun: Instant,
    ) -> BTreeMap<Alert, Duration> {
        let mut reached = BTreeMap::new();
        while reached.len() < alerts.len() && begun.elapsed() < limit {
            let raised = self.prometheus.alerts().await.unwrap_or_default();
            for (name, severity) in alerts {
                let is_firing = raised.iter().any(|alert| {
                    alert.is_firing && alert.name == *name && alert.severity == *severity
                });
                if is_firing == is_wanted {
                    reached
                        .entry((*name, *severity))
                        .or_insert_with(|| begun.elapsed());
                }
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        reached
    }

    /// Waits until none of the alerts fires since the fault was mended, and notes in the table what came and went.
    pub(crate) async fn see_off(
        &self,
        table: &mut Table,
        fault: &str,
        alerts: &[Alert],
        fired: &BTreeMap<Alert, Duration>,
        mended: Instant,
    ) {
        let came: Vec<Alert> = alerts
            .iter()
            .copied()
            .filter(|alert| fired.contains_key(alert))
            .collect();
        let ended = self.reach(&came, false, END_LIMIT, mended).await;
        for alert in alerts {
            table.note(
                *alert,
                fault,
                fired.get(alert).copied(),
                ended.get(alert).copied(),
            );
        }
    }

    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.hush().await;
        for process in self.roles.values() {
            if process.process().is_running() {
                process.terminate(Duration::from_secs(60)).await?;
            }
        }
        Ok(())
    }

    /// Folder of the spool of a role.
    pub(crate) fn spool(&self, role: &str) -> PathBuf {
        spool_of(&self.config, role)
    }
}

/// Name and severity.
pub(crate) type Alert = (&'static str, &'static str);

fn gateway_settings(port: u16, certificate: &CertFiles, ca: &Ca) -> String {
    format!(
        "[gateway]\nlisten = \"127.0.0.1:{port}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n\
         [[controller.endpoints]]\nhost = \"127.0.0.1\"\nport = {port}\nca_file = \"{}\"\n",
        certificate.cert.display(),
        certificate.key.display(),
        ca.path().display()
    )
}

fn spool_of(config: &Path, role: &str) -> PathBuf {
    let parent = config.parent().unwrap_or(config);
    parent.join(format!("spool-{role}"))
}

fn start_role(
    config: &Path,
    role: &str,
    port: u16,
    fake: Option<&str>,
    clock_file: &Path,
) -> anyhow::Result<HearthProcess> {
    let listen = format!("127.0.0.1:{port}");
    let spool = spool_of(config, role);
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path of UTF-8");
    let (config, spool, clock_file) = (text(config)?, text(&spool)?, text(clock_file)?);
    let mut env = vec![
        ("HEARTH_HTTP__LISTEN", listen.as_str()),
        ("HEARTH_INGEST__SPOOL_DIR", spool.as_str()),
    ];
    if let Some(library) = fake {
        env.extend([
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", clock_file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
    }
    HearthProcess::start(&["--config", &config, role], &env)
}

/// Debian's libfaketime, if it is installed.
fn faketime() -> Option<String> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut libraries = folders.filter_map(|folder| {
        let library = folder.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library
            .exists()
            .then(|| library.to_string_lossy().into_owned())
    });
    libraries.next()
}

/// Alerts of the rules that no fault raised.
pub(crate) fn never_raised(table: &Table) -> anyhow::Result<Vec<String>> {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts.yml");
    let rules = std::fs::read_to_string(rules)?;
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    Ok(names.difference(&table.raised()).cloned().collect())
}
