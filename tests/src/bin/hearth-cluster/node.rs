//! Real nodes: each a containerd and a kubelet of its own, whose pods are processes of this machine. Runs in namespaces of
//! its own (network, mounts, processes), so that nothing of the machine is touched, and everything ends with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::harness::{Process, free_port, host, scratch_folder};

use crate::kube::tool;
use crate::plane::Plane;

const BRIDGE: &str = "hearth0";
const START_MAX: Duration = Duration::from_secs(60);
/// What the kubelet would set for the whole machine: it finds it set already.
const KERNEL: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
const CGROUPS: &str = "/sys/fs/cgroup";
const PAUSE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";

/// The ground on which nodes stand: a bridge for pods, and mounts that hide what kubelets write.
#[derive(Debug)]
pub(crate) struct Ground {
    dir: PathBuf,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    socket: PathBuf,
    cgroup: String,
    kubelet: Process,
    containerd: Process,
}

impl Ground {
    /// Prepares the namespaces that `unshare` has made.
    pub(crate) fn prepare() -> Result<Self> {
        let links = run("ip", &["-o", "link"])?;
        ensure!(
            links.lines().count() <= 1,
            "not in a network of its own: use make kubelet"
        );
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
        run(
            "ip",
            &["addr", "add", &format!("{}/16", host()), "dev", BRIDGE],
        )?;
        run("ip", &["link", "set", BRIDGE, "up"])?;
        let dir = scratch_folder("ground");
        for folder in [
            "/var/lib/cni",
            "/var/log/containers",
            "/var/log/pods",
            "/run/netns",
        ] {
            std::fs::create_dir_all(folder)?;
            run("mount", &["-t", "tmpfs", "tmpfs", folder])?;
        }
        run("mount", &["--make-rshared", "/"])?;
        for (name, value) in KERNEL {
            let file = dir.join(name.replace('/', "-"));
            std::fs::write(&file, format!("{value}\n"))?;
            run(
                "mount",
                &["--bind", path(&file)?, &format!("/proc/sys/{name}")],
            )?;
        }
        Ok(Self { dir })
    }

    /// Starts a node and waits until it is ready.
    pub(crate) async fn add_node(
        &self,
        plane: &Plane,
        name: &str,
        images: &[PathBuf],
    ) -> Result<Node> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(dir.join("cni"))?;
        let socket = dir.join("c.sock");
        let containerd = self.start_containerd(&dir, &socket).await?;
        let pause = self.pause_image()?;
        for image in images.iter().chain([&pause]) {
            run(
                "ctr",
                &[
                    "-a",
                    path(&socket)?,
                    "-n",
                    "k8s.io",
                    "images",
                    "import",
                    path(image)?,
                ],
            )?;
        }
        let cgroup = format!("/hearth-{}-{name}", std::process::id());
        for controller in std::fs::read_dir(CGROUPS)? {
            std::fs::create_dir_all(format!("{}{cgroup}", controller?.path().display()))?;
        }
        // A set of processors is empty until it is told.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let of = |cgroup: &str| format!("{CGROUPS}/cpuset{cgroup}/{file}");
            if let Ok(all) = std::fs::read_to_string(of("")) {
                std::fs::write(of(&cgroup), all)?;
            }
        }
        let kubelet = start_kubelet(plane, &dir, name, &socket, &cgroup)?;
        let node = Node {
            name: name.to_owned(),
            socket,
            cgroup,
            kubelet,
            containerd,
        };
        let ready = async || {
            let wait = [
                "wait",
                "--for=condition=Ready",
                &format!("node/{name}"),
                "--timeout=1s",
            ];
            plane.kube.run(&wait, None).is_ok()
        };
        node.kubelet.until(START_MAX, ready).await?;
        Ok(node)
    }

    async fn start_containerd(&self, dir: &Path, socket: &Path) -> Result<Process> {
        let network = json!({
            "cniVersion": "0.4.0", "name": "hearth", "plugins": [{
                "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": self.dir.join("addresses"),
                    "ranges": [[{"subnet": "10.86.0.0/16", "rangeStart": "10.86.1.1", "gateway": host()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        });
        std::fs::write(dir.join("cni/10-hearth.conflist"), network.to_string())?;
        let text = format!(
            r#"
            version = 2
            root = "{dir}/root"
            state = "{dir}/state"
            [grpc]
            address = "{socket}"
            [ttrpc]
            address = "{dir}/t.sock"
            [plugins."io.containerd.internal.v1.opt"]
            path = "{dir}/opt"
            [plugins."io.containerd.grpc.v1.cri"]
            sandbox_image = "localhost/pause:1"
            restrict_oom_score_adj = true
            [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "/usr/lib/cni"
            conf_dir = "{dir}/cni"
            [plugins."io.containerd.grpc.v1.cri".containerd]
            default_runtime_name = "runc"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = false
            "#,
            dir = dir.display(),
            socket = socket.display(),
        );
        let config = dir.join("containerd.toml");
        std::fs::write(&config, text)?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(&config);
        let containerd = Process::start("containerd", command, &dir.join("containerd.log"))?;
        let socket = path(socket)?.to_owned();
        let answers = async || run("ctr", &["-a", &socket, "version"]).is_ok();
        containerd.until(START_MAX, answers).await?;
        Ok(containerd)
    }

    /// The image of the process that holds a pod's namespaces.
    fn pause_image(&self) -> Result<PathBuf> {
        let archive = self.dir.join("pause.tar");
        if archive.exists() {
            return Ok(archive);
        }
        let dir = self.dir.join("pause");
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("pause.c"), PAUSE)?;
        run(
            "gcc",
            &[
                "-static",
                "-O",
                "-o",
                path(&dir.join("pause"))?,
                path(&dir.join("pause.c"))?,
            ],
        )?;
        std::fs::write(
            dir.join("Containerfile"),
            "FROM scratch\nCOPY pause /pause\nENTRYPOINT [\"/pause\"]\n",
        )?;
        run(
            "buildah",
            &[
                "bud",
                "--quiet",
                "--isolation=chroot",
                "-t",
                "localhost/pause:1",
                path(&dir)?,
            ],
        )?;
        let target = format!("docker-archive:{}:localhost/pause:1", archive.display());
        run(
            "buildah",
            &["push", "--quiet", "localhost/pause:1", &target],
        )?;
        Ok(archive)
    }
}

impl Node {
    /// SIGKILL for the first process of a pod's container, as when memory has run out.
    pub(crate) fn kill_container(&self, container_id: &str) -> Result<()> {
        let id = container_id
            .strip_prefix("containerd://")
            .context("an id of containerd")?;
        let socket = path(&self.socket)?;
        run(
            "ctr",
            &[
                "-a", socket, "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", id,
            ],
        )
        .map(drop)
    }

    /// Fails, with its log, if a part of the node has ended.
    pub(crate) fn check(&self) -> Result<()> {
        for process in [&self.kubelet, &self.containerd] {
            ensure!(process.is_running(), "{}", process.log_tail());
        }
        Ok(())
    }

    /// The end of the kubelet's log.
    pub(crate) fn log_tail(&self) -> String {
        self.kubelet.log_tail()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kubelet.kill();
        self.containerd.kill();
        let find = format!(
            "find {CGROUPS}/*{} -depth -type d -exec rmdir {{}} ';' 2>/dev/null",
            self.cgroup
        );
        // Those with processes go when their namespace has ended; empty ones stay and do no harm.
        let _ = run("sh", &["-c", &find]);
    }
}

fn start_kubelet(
    plane: &Plane,
    dir: &Path,
    name: &str,
    socket: &Path,
    cgroup: &str,
) -> Result<Process> {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": "127.0.0.1", "port": free_port(), "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": plane.ca()}},
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "cgroupDriver": "cgroupfs", "cgroupRoot": cgroup, "failCgroupV1": false, "failSwapOn": false,
        "oomScoreAdj": 0, "makeIPTablesUtilChains": false, "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "podLogsDir": dir.join("podlogs"), "syncFrequency": "5s", "resolvConf": "",
    });
    let file = dir.join("kubelet.json");
    std::fs::write(&file, config.to_string())?;
    let mut command = Command::new(tool("kubelet")?);
    command
        .arg("--config")
        .arg(&file)
        .arg("--kubeconfig")
        .arg(plane.kubeconfig(name));
    command
        .arg(format!("--hostname-override={name}"))
        .arg(format!("--node-ip={}", host()));
    command
        .arg("--root-dir")
        .arg(dir.join("kubelet"))
        .arg("--cert-dir")
        .arg(dir.join("pki"));
    Process::start(
        &format!("kubelet {name}"),
        command,
        &dir.join("kubelet.log"),
    )
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path of UTF-8")
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
