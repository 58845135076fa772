//! A node of the cluster.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::underlay::{Lan, Underlay};
use crate::api_server::ApiServer;
use crate::bed::Family;
use crate::cni::{self, List, Runtime};
use crate::namespace::Namespace;
use crate::place::Place;
use crate::proxy::{self, Proxy};
use crate::waiting::await_that;

/// What the daemon writes for container runtimes.
pub const CONFLIST: &str = "/etc/cni/net.d/10-pointsman.conflist";

/// The range of a node's pods.
#[must_use]
pub fn pod_cidr(family: Family, node: u8) -> String {
    match family {
        Family::V4 => format!("10.244.{node}.0/24"),
        Family::V6 => format!("fd00:10:244:{node:x}::/64"),
    }
}

/// A node: namespaces, what attaches pods, and the daemon once it runs.
pub struct Node {
    number: u8,
    lan: Lan,
    /// Where it is.
    pub namespace: Namespace,
    /// What attaches its pods.
    pub runtime: Runtime,
    daemon: Option<Proxy>,
}

impl Node {
    pub(super) fn new(underlay: &Underlay, number: u8, lan: Lan) -> Result<Self> {
        let namespace = cni::node(&format!("node-{number}"))?;
        underlay.plug(&namespace, number, lan)?;
        let runtime = Runtime::on(&namespace)?;
        Ok(Self { number, lan, namespace, runtime, daemon: None })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The network that it is on.
    #[must_use]
    pub fn lan(&self) -> Lan {
        self.lan
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Its address.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        self.lan.address(family, self.number)
    }

    /// A place to connect from.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place::of(&self.namespace)
    }

    /// As the API server has it.
    #[must_use]
    pub fn object(&self, families: &[Family]) -> Value {
        let cidrs: Vec<String> = families.iter().map(|family| pod_cidr(*family, self.number)).collect();
        let address = |family: &Family| json!({ "type": "InternalIP", "address": self.address(*family) });
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": self.name(), "labels": { "kubernetes.io/hostname": self.name() } },
            "spec": { "podCIDR": cidrs.first(), "podCIDRs": cidrs },
            "status": { "addresses": Family::BOTH.iter().map(address).collect::<Vec<_>>() },
        })
    }

    /// Whether the daemon was started and not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.daemon.is_some()
    }

    /// Starts the daemon, and does not wait.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch(&mut self, server: &ApiServer, args: &[&str]) -> Result<()> {
        let own = ["--hostname-override", self.name()];
        let args: Vec<String> = own.iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        self.daemon = Some(Proxy::launch_with_api(&self.namespace, server, &args)?);
        Ok(())
    }

    /// The daemon.
    ///
    /// # Errors
    /// When it does not run.
    pub fn daemon(&self) -> Result<&Proxy> {
        self.daemon.as_ref().with_context(|| format!("nothing runs on {}", self.name()))
    }

    /// Ends the daemon as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("nothing runs there")?;
        daemon.kill().map(drop)
    }

    /// Asks the daemon to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not run.
    pub fn terminate(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("nothing runs there")?;
        daemon.terminate().map(drop)
    }

    /// Waits until the daemon has written what runtimes attach pods by.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn await_ready(&self) -> Result<()> {
        let ready = || self.namespace.run(|| fs::exists(CONFLIST))?.map_err(Into::into);
        let waited = await_that("the network is ready", ready);
        waited.with_context(|| format!("{}\n{}", self.name(), self.explain()))
    }

    /// What the daemon has written for runtimes.
    ///
    /// # Errors
    /// When it has not.
    pub fn list(&self) -> Result<List> {
        let text = self.namespace.run(|| fs::read_to_string(CONFLIST))?;
        List::read(&text.with_context(|| format!("{} has no {CONFLIST}", self.name()))?)
    }

    /// Runs `pointsman` on the node until it ends, and returns what it said.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(proxy::binary()?);
        command.args(args);
        let output = self.namespace.run(|| command.output())?.context("cannot run pointsman")?;
        if !output.status.success() {
            bail!("pointsman {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What there is to know after a failure.
    #[must_use]
    pub fn explain(&self) -> String {
        let log = self.daemon.as_ref().map(Proxy::log).unwrap_or_default();
        let lists: [&[&str]; 4] = [
            &["-4", "route"],
            &["-6", "route"],
            &["-details", "link"],
            &["neighbour", "show", "nud", "permanent"],
        ];
        let shown = lists.iter().map(|args| {
            let output = self.namespace.output("ip", args).unwrap_or_else(|error| format!("{error:#}"));
            format!("--- {}: ip {}\n{output}", self.name(), args.join(" "))
        });
        let shown: String = shown.collect();
        format!("--- {}: the daemon's log\n{log}\n{shown}", self.name())
    }
}
