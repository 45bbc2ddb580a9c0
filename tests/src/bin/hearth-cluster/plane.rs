//! A real control plane on free ports of 127.0.0.1: etcd, API server, controller manager and scheduler, and kwok, which
//! plays nodes. Everything ends with this process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tests::harness::{Ca, Process, free_port, scratch_folder};

use crate::kube::{Kube, tool};

const START_MAX: Duration = Duration::from_secs(90);
/// Who may do what; the tokens are their names.
const USERS: [(&str, &str, &str); 6] = [
    ("admin", "admin", "system:masters"),
    ("manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kwok", "kwok", "system:masters"),
    ("a", "system:node:a", "system:nodes"),
    ("b", "system:node:b", "system:nodes"),
];
/// Fake nodes, each in a zone of its own.
const FAKE_NODES: usize = 3;
const DISKS: usize = 40;

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) kube: Kube,
    dir: PathBuf,
    ca: Ca,
    port: u16,
    processes: Vec<Process>,
}

impl Plane {
    /// Starts everything but nodes.
    pub(crate) async fn start() -> Result<Self> {
        let mut plane = Self::start_server_alone().await?;
        plane.start_controllers()?;
        Ok(plane)
    }

    /// Starts etcd and the API server: enough to have objects checked.
    pub(crate) async fn start_server_alone() -> Result<Self> {
        let dir = scratch_folder("plane");
        let ca = Ca::new()?;
        let port = free_port();
        let kube = Kube::new(dir.join("admin.kubeconfig"));
        let mut plane = Self {
            kube,
            dir,
            ca,
            port,
            processes: Vec::new(),
        };
        plane.write_identities()?;
        let etcd = plane.start_etcd()?;
        plane.start_server(&etcd).await?;
        plane.kube.apply(&kinds()?)?;
        plane.kube.run(
            &[
                "wait",
                "--for=condition=Established",
                "crd",
                "--all",
                "--timeout=60s",
            ],
            None,
        )?;
        Ok(plane)
    }

    /// The authority that signs the server's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.ca.path()
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.kubeconfig"))
    }

    /// Adds three nodes that kwok plays, in three zones, and disks for them.
    pub(crate) fn add_fake_nodes(&mut self) -> Result<()> {
        let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/stages.yaml");
        let mut kwok = Command::new(tool("kwok")?);
        kwok.arg("--kubeconfig")
            .arg(self.kubeconfig("kwok"))
            .arg("--config")
            .arg(stages);
        kwok.args([
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        ]);
        kwok.args([
            "--node-lease-duration-seconds=40",
            "--cidr=10.0.0.1/24",
            "--node-ip=10.0.0.1",
        ]);
        kwok.arg(format!("--server-address=127.0.0.1:{}", free_port()));
        self.run("kwok", kwok)?;
        let nodes = (0..FAKE_NODES).map(fake_node);
        let disks =
            (0..DISKS).map(|number| disk(&self.dir.join("disks").join(number.to_string()), number));
        let objects: Vec<Value> = nodes.chain(disks).chain([disk_class()]).collect();
        self.kube.apply(&objects)?;
        self.kube.run(
            &[
                "wait",
                "--for=condition=Ready",
                "node",
                "--all",
                "--timeout=60s",
            ],
            None,
        )?;
        Ok(())
    }

    fn write_identities(&self) -> Result<()> {
        let mut tokens = String::new();
        for (number, (name, user, group)) in USERS.iter().enumerate() {
            tokens += &format!("{name}-token,{user},{number}");
            tokens += &if group.is_empty() {
                "\n".to_owned()
            } else {
                format!(",{group}\n")
            };
            let config = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "it",
                "clusters": [{"name": "it", "cluster": {
                    "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": self.ca.path(),
                }}],
                "users": [{"name": "it", "user": {"token": format!("{name}-token")}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            });
            std::fs::write(self.kubeconfig(name), config.to_string())?;
        }
        std::fs::write(self.dir.join("tokens.csv"), tokens)?;
        let accounts = KeyPair::generate()?;
        std::fs::write(self.dir.join("accounts.key"), accounts.serialize_pem())?;
        std::fs::write(self.dir.join("accounts.pub"), accounts.public_key_pem())?;
        Ok(())
    }

    fn start_etcd(&mut self) -> Result<String> {
        let data = self.dir.join("etcd");
        let client = format!("http://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        let mut etcd = Command::new(tool("etcd")?);
        etcd.args(["--name", "one", "--unsafe-no-fsync", "--data-dir"])
            .arg(data);
        etcd.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        etcd.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        etcd.args(["--initial-cluster", &format!("one={peer}")]);
        self.run("etcd", etcd)?;
        Ok(client)
    }

    async fn start_server(&mut self, etcd: &str) -> Result<()> {
        let cert = self.ca.issue("kube-apiserver")?;
        let mut server = Command::new(tool("kube-apiserver")?);
        server.arg(format!("--etcd-servers={etcd}"));
        server.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"]);
        server.arg(format!("--secure-port={}", self.port));
        server.args([
            "--authorization-mode=Node,RBAC",
            "--endpoint-reconciler-type=none",
        ]);
        server.args([
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
        ]);
        server.arg("--service-account-issuer=https://kubernetes.default.svc");
        let files = [
            ("tls-cert-file", cert.cert),
            ("tls-private-key-file", cert.key),
            ("token-auth-file", self.dir.join("tokens.csv")),
            ("service-account-key-file", self.dir.join("accounts.pub")),
            (
                "service-account-signing-key-file",
                self.dir.join("accounts.key"),
            ),
        ];
        for (flag, file) in files {
            server.arg(format!("--{flag}={}", file.display()));
        }
        self.run("kube-apiserver", server)?;
        let kube = self.kube.clone();
        let server = self
            .processes
            .last()
            .context("the server was just started")?;
        let ready = async || kube.run(&["get", "--raw", "/readyz"], None).is_ok();
        server.until(START_MAX, ready).await
    }

    fn start_controllers(&mut self) -> Result<()> {
        for (program, user) in [
            ("kube-controller-manager", "manager"),
            ("kube-scheduler", "scheduler"),
        ] {
            let mut command = Command::new(tool(program)?);
            for flag in [
                "kubeconfig",
                "authentication-kubeconfig",
                "authorization-kubeconfig",
            ] {
                command.arg(format!("--{flag}={}", self.kubeconfig(user).display()));
            }
            command.args(["--bind-address=127.0.0.1", "--leader-elect=false"]);
            command.arg(format!("--secure-port={}", free_port()));
            if user == "manager" {
                command.arg("--use-service-account-credentials=true");
                command.arg(format!("--root-ca-file={}", self.ca.path().display()));
                let key = self.dir.join("accounts.key");
                command.arg(format!(
                    "--service-account-private-key-file={}",
                    key.display()
                ));
            }
            self.run(program, command)?;
        }
        Ok(())
    }

    fn run(&mut self, name: &str, command: Command) -> Result<()> {
        let log = self.dir.join(format!("{name}.log"));
        self.processes.push(Process::start(name, command, &log)?);
        Ok(())
    }

    /// Fails, with its log, if a part of the control plane has ended.
    pub(crate) fn check(&self) -> Result<()> {
        for process in &self.processes {
            anyhow::ensure!(process.is_running(), "{}", process.log_tail());
        }
        Ok(())
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Those that ask the server end before it.
        while let Some(process) = self.processes.pop() {
            process.kill();
        }
    }
}

fn fake_node(number: usize) -> Value {
    let name = format!("fake-{number}");
    let labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": format!("zone-{number}"),
    });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": labels},
    })
}

pub(crate) fn disk_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "disks", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    })
}

pub(crate) fn disk(path: &Path, number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("disk-{number}")},
        "spec": {
            "capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "disks",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": path, "type": "DirectoryOrCreate"},
        },
    })
}

/// The kinds that operators bring, as `deploy/kubernetes/kinds.yaml` has them.
fn kinds() -> Result<Vec<Value>> {
    let kinds: Vec<Value> =
        serde_saphyr::from_str(include_str!("../../../../deploy/kubernetes/kinds.yaml"))?;
    let definition = |it: &Value| {
        let (group, plural) = (it["group"].as_str()?, it["plural"].as_str()?);
        let kind = it["kind"].as_str()?;
        Some(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{group}"),
                // Groups of Kubernetes ask for it.
                "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
            },
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "versions": [{
                    "name": it["version"], "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": it["spec"]}}},
                }],
            },
        }))
    };
    let definitions: Option<Vec<Value>> = kinds.iter().map(definition).collect();
    definitions.context("a kind without group or plural")
}
