//! What scenarios work on: a node with a proxy in nftables mode, and somebody who asks it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::suite::Circumstances;
use testbed::{Family, Subject, User, binary_for, mode, program_as};

pub(crate) struct Tools {
    pub(crate) subject: Subject,
    /// Where the proxy's socket is.
    folder: TempDir,
}

impl Tools {
    /// Three pods on the node, two on another, and nothing that is served.
    pub(crate) fn prepare() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // So that it is the socket that others may not use.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let mut subject = Subject::prepare(Circumstances { mode: mode::NFTABLES, family: Family::V4 })?;
        let socket = folder.path().join("p.sock").to_string_lossy().into_owned();
        subject.args(&["--socket", &socket]);
        Ok(Self { subject, folder })
    }

    /// Serves `web` behind a load balancer, with endpoints in every state, and names a headless Service.
    pub(crate) fn serve(&mut self) -> Result<()> {
        let s = &mut self.subject;
        let web = s.web().node_port(30080).load_balancer_ip("192.0.2.7".parse()?).external_local();
        let endpoints = [
            s.endpoint("pod-1"),
            s.endpoint("remote-1"),
            s.endpoint("pod-2").not_ready(),
            s.endpoint("pod-3").terminating(),
        ];
        let slice = s.slice_of("web", endpoints);
        s.cluster.put(web).put_slice(slice);
        let headless = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "test"},
            "spec": {"clusterIP": "None", "ports": [{"port": 5432}]},
        });
        s.cluster.put_other("db", headless);
        s.sync()
    }

    /// What `pointsman` does, given these arguments, and asked by somebody.
    pub(crate) fn ask_as(&self, user: User, args: &[&str]) -> Result<Output> {
        let mut command = program_as(user, &binary_for(user)?);
        command.args(args).arg("--socket").arg(self.folder.path().join("p.sock"));
        self.subject.bed.node.run(|| command.output())?.context("cannot run pointsman")
    }

    /// What it says, which must be no error.
    pub(crate) fn said(&self, args: &[&str]) -> Result<String> {
        let output = self.ask_as(User::Starter, args)?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What it says to programs.
    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.said(&[args, &["-o", "json"]].concat())?)?)
    }

    /// The one line of the error that it ends with.
    pub(crate) fn refused(&self, user: User, args: &[&str]) -> Result<String> {
        let output = self.ask_as(user, args)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{args:?}: {said}");
        ensure!(said.lines().count() == 1, "{said}");
        Ok(said)
    }

    /// An endpoint of `web` as it is written.
    pub(crate) fn address(&self, pod: &str) -> String {
        format!("{}:8080", self.subject.endpoint(pod).address)
    }
}

/// Whether a line of a text has all of these words.
pub(crate) fn ensure_line(text: &str, words: &[&str]) -> Result<()> {
    let has = text.lines().any(|line| {
        let line: Vec<_> = line.split_whitespace().collect();
        words.iter().all(|word| line.contains(word))
    });
    ensure!(has, "no line with {words:?} in\n{text}");
    Ok(())
}
