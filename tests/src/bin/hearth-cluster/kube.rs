//! kubectl and helm against one control plane.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tests::harness::cache_root;

/// A program that `deploy/kubernetes/tools.sh` has brought.
pub(crate) fn tool(name: &str) -> Result<PathBuf> {
    let folder = if ["kubectl", "helm", "helm3"].contains(&name) {
        "bin"
    } else {
        "kubernetes"
    };
    let path = cache_root()?.join(folder).join(name);
    if !path.is_file() {
        bail!(
            "{} is missing: run deploy/kubernetes/tools.sh",
            path.display()
        );
    }
    Ok(path)
}

/// A control plane as its administrator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Kube {
    config: PathBuf,
}

/// A Helm of one major version.
#[derive(Debug, Clone)]
pub(crate) struct Helm {
    binary: PathBuf,
    config: PathBuf,
    /// 3 or 4.
    pub(crate) major: u32,
}

impl Kube {
    pub(crate) fn new(config: PathBuf) -> Self {
        Self { config }
    }

    /// What `kubectl ARGS` prints, or why it failed.
    pub(crate) fn run(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = Command::new(tool("kubectl")?);
        command.arg("--kubeconfig").arg(&self.config).args(args);
        output(command, input)
    }

    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.run(&[args, &["-o", "json"]].concat(), None)?;
        serde_json::from_str(&text).context("read kubectl's JSON")
    }

    /// Objects of `kind`, of every namespace or of one.
    pub(crate) fn list(&self, kind: &str, namespace: Option<&str>) -> Result<Vec<Value>> {
        let of = namespace.map_or(vec!["-A"], |namespace| vec!["-n", namespace]);
        let found = self.json(&[&["get", kind][..], &of].concat())?;
        Ok(found["items"].as_array().cloned().unwrap_or_default())
    }

    /// The pods of a role that are ready.
    pub(crate) fn ready_pods(&self, namespace: &str, role: &str) -> Result<Vec<Value>> {
        let label = format!("app.kubernetes.io/component={role}");
        let found = self.json(&["-n", namespace, "get", "pods", "-l", &label])?;
        let pods = found["items"].as_array().cloned().unwrap_or_default();
        let is_ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        Ok(pods.into_iter().filter(is_ready).collect())
    }

    pub(crate) fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.run(&["apply", "-f", "-"], Some(&list.to_string()))
            .map(drop)
    }

    /// Sends an object for checking only; `Err` says why the server refuses it.
    pub(crate) fn check(&self, object: &Value, namespace: &str) -> Result<()> {
        let args = [
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "-n",
            namespace,
            "-f",
            "-",
        ];
        self.run(&args, Some(&object.to_string())).map(drop)
    }
}

impl Helm {
    /// Both, for the same control plane.
    pub(crate) fn both(kube: &Kube) -> Result<[Self; 2]> {
        let config = kube.config.clone();
        let four = cache_root()?.join("bin/helm");
        let of = |binary, major| Self {
            binary,
            config: config.clone(),
            major,
        };
        Ok([of(tool("helm3")?, 3), of(four, 4)])
    }

    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.arg("--kubeconfig").arg(&self.config).args(args);
        // Its own caches would be shared with the user's.
        let home = self.config.parent().unwrap_or(Path::new("/"));
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, home.join(name));
        }
        output(command, None)
    }
}

fn output(mut command: Command, input: Option<&str>) -> Result<String> {
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("run {:?}", command.get_program()))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        // It may end before it has read everything; its message says why.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
