//! Running a plugin as a container runtime does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use serde_json::{Value, json};

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Our plugin that gives interfaces.
pub(crate) fn cni() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pointsman-cni"))
}

/// Our plugin that gives addresses.
pub(crate) fn ipam() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pointsman-ipam"))
}

/// The reference's plugin that gives addresses.
pub(crate) fn host_local() -> PathBuf {
    let path = Path::new(REFERENCE).join("host-local");
    assert!(path.exists(), "{} is missing: apt-get install containernetworking-plugins", path.display());
    path
}

/// What a plugin answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Answer {
    /// It must be a result, or nothing.
    pub(crate) fn result(&self) -> Value {
        assert!(self.status.success(), "{} {}", self.stderr, String::from_utf8_lossy(&self.stdout));
        match self.stdout.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&self.stdout).unwrap(),
        }
    }

    /// It must be an error as the specification has it; returns its code and all that it says.
    pub(crate) fn error(&self) -> (u64, String) {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        let error: Value = serde_json::from_slice(&self.stdout).unwrap();
        let object = error.as_object().unwrap();
        assert!(
            object.keys().all(|key| ["cniVersion", "code", "msg", "details"].contains(&key.as_str())),
            "{error}"
        );
        assert!(error["cniVersion"].is_string() && !error["msg"].as_str().unwrap().is_empty(), "{error}");
        let details = error.get("details").and_then(Value::as_str).unwrap_or_default();
        (error["code"].as_u64().unwrap(), format!("{}: {details}", error["msg"].as_str().unwrap()))
    }

    /// The addresses of a result.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let result = self.result();
        let ips = result["ips"].as_array().unwrap().iter();
        ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
    }
}

/// A request, with what belongs to most of them.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    variables: Vec<(String, String)>,
    input: Vec<u8>,
}

impl Call {
    pub(crate) fn new(command: &str, container: &str, config: &Value) -> Self {
        let variables = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", container),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/proc/self/ns/net"),
            ("CNI_PATH", REFERENCE),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { variables, input: config.to_string().into_bytes() }
    }

    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn run(&self, plugin: &Path) -> Answer {
        let mut command = Command::new(plugin);
        command.env_clear().envs(self.variables.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = thread::scope(|scope| {
            // It may not want to hear everything.
            scope.spawn(move || stdin.write_all(&self.input));
            child.wait_with_output().unwrap()
        });
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Answer { status: output.status, stdout: output.stdout, stderr }
    }
}

/// A folder of its own, with a network's configuration that keeps everything there.
pub(crate) struct Node(tempfile::TempDir);

impl Node {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A network with these ranges.
    pub(crate) fn config(&self, ipam: &str, ranges: &Value) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "pointsman-cni",
            "stateDir": self.path("state"), "networkFile": self.path("network.json"),
            "gateSocket": self.path("cni.sock"), "gateTimeout": "100ms",
            "ipam": {"type": ipam, "dataDir": self.path("networks"), "ranges": ranges}
        })
    }

    /// What is in the network's folder, but for the lock and what was given away last.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.path("networks/pods")).into_iter().flatten().flatten();
        let names = listed.map(|file| file.file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        names.sort();
        names
    }

    /// Nothing is left of any attachment.
    pub(crate) fn must_be_clean(&self) {
        assert!(self.addresses().is_empty(), "{:?}", self.addresses());
        for folder in ["state", "networks/pods/.pointsman"] {
            let left: Vec<_> = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
