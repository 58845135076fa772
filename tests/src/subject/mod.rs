//! What scenarios about packets work on: a bed, objects, the proxy, and the sentences to speak of them.

mod all_kinds;
mod clients;
mod contained;
mod differing;
mod predictions;
mod sentences;
mod switching;
mod under_way;

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::bed::{Bed, Family, Layout, POD_PORT, Pod};
use crate::cluster::{Cluster, Endpoint, Service, Slice};
use crate::mode::Mode;
use crate::ordinary::User;
use crate::place::Protocol;
use crate::proxy::{Environment, Proxy};
use crate::rules::Rules;
use crate::suite::Circumstances;

use predictions::Predictions;

pub use differing::{Difference, Said};
pub use sentences::{Seen, Who, answerer};
pub use switching::{has_chains, has_nftables};
pub use under_way::UnderWay;

/// A bed, the cluster that the proxy serves on it, and the proxy once it runs.
#[derive(Debug)]
pub struct Subject {
    circumstances: Circumstances,
    /// The network.
    pub bed: Bed,
    /// The objects that the next sync serves.
    pub cluster: Cluster,
    proxy: Option<Proxy>,
    /// What asks for the mode.
    mode_args: Vec<String>,
    args: Vec<String>,
    environment: Environment,
    user: User,
    /// What trace is asked to predict, if it is.
    predictions: Option<Predictions>,
}

impl Subject {
    /// Three pods on this node and two on the other; the proxy is told where pods are, and not started yet.
    ///
    /// # Errors
    /// When the bed cannot be made.
    pub fn prepare(circumstances: Circumstances) -> Result<Self> {
        let cidrs = Family::BOTH.map(Family::cluster_cidr).join(",");
        Ok(Self {
            circumstances,
            bed: Bed::new(Layout::Routed, 3, 2)?,
            cluster: Cluster::default(),
            proxy: None,
            mode_args: owned(circumstances.mode.args),
            args: owned(&["--cluster-cidr", &cidrs]),
            environment: Vec::new(),
            user: User::Starter,
            predictions: None,
        })
    }

    /// What there is to know after a failure.
    #[must_use]
    pub fn explain(&self) -> String {
        let log = self.proxy.as_ref().map(Proxy::log).unwrap_or_default();
        let routes = [&["route"][..], &["-6", "route"]].map(|args| {
            let output = self.bed.node.output("ip", args).unwrap_or_else(|error| format!("{error:#}"));
            format!("--- ip {}\n{output}", args.join(" "))
        });
        format!("--- the proxy's log\n{log}\n{}{}", self.rules().explain(), routes.concat())
    }

    /// The family that the scenario runs in.
    #[must_use]
    pub fn family(&self) -> Family {
        self.circumstances.family
    }

    /// The mode that the scenario runs in.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.circumstances.mode
    }

    /// The mode's rules.
    #[must_use]
    pub fn rules(&self) -> Rules<'_> {
        self.rules_of(self.mode())
    }

    /// Another mode's rules.
    #[must_use]
    pub fn rules_of(&self, mode: Mode) -> Rules<'_> {
        Rules::new(&self.bed.node, mode, self.family())
    }

    /// Joins pods by a bridge instead of by an interface each.
    ///
    /// # Errors
    /// When the bed cannot be made anew.
    pub fn use_bridge(&mut self) -> Result<()> {
        for name in ["node", "peer", "client", "pod-1", "pod-2", "pod-3"] {
            std::process::Command::new("ip").args(["netns", "delete", name]).status()?;
        }
        self.bed = Bed::new(Layout::Bridged, 3, 2)?;
        Ok(())
    }

    /// Gives the proxy further arguments; before it starts.
    pub fn args(&mut self, args: &[&str]) {
        self.args.extend(owned(args));
    }

    /// Starts the proxy with other arguments than the usual ones, but the mode and the node's name.
    pub fn only_args(&mut self, args: &[&str]) {
        self.args = owned(args);
    }

    /// Starts the proxy with other arguments in place of those that ask for the mode.
    pub fn ask_for_mode(&mut self, args: &[&str]) {
        self.mode_args = owned(args);
    }

    /// Starts the proxy with a variable in its environment.
    pub fn environment(&mut self, name: &'static str, value: String) {
        self.environment.push((name, value));
    }

    /// Starts the proxy as somebody else; not as an ordinary user, who could not read its manifests.
    pub fn run_as(&mut self, user: User) {
        self.user = user;
    }

    /// All arguments that the proxy is started with.
    #[must_use]
    pub fn all_args(&self) -> Vec<String> {
        self.args_after(&self.mode_args)
    }

    /// The same in another mode.
    #[must_use]
    pub fn all_args_in(&self, mode: Mode) -> Vec<String> {
        self.args_after(&owned(mode.args))
    }

    fn args_after(&self, mode_args: &[String]) -> Vec<String> {
        let node = owned(&["--hostname-override", "node"]);
        mode_args.iter().chain(&node).chain(&self.args).cloned().collect()
    }

    /// Serves the cluster as it is now: starts the proxy, or saves the manifests and waits.
    ///
    /// # Errors
    /// When it does not sync; with its log.
    pub fn sync(&mut self) -> Result<()> {
        match &self.proxy {
            Some(proxy) => proxy.serve(&self.cluster),
            None => {
                self.launch()?;
                self.proxy()?.await_line_with("synced").map(drop)
            }
        }
    }

    /// Starts the proxy on the cluster as it is now, and does not wait.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch(&mut self) -> Result<()> {
        let environment = self.environment.clone();
        let (node, args) = (&self.bed.node, self.all_args());
        self.proxy = Some(Proxy::launch_with_rights(node, &self.cluster, self.user, environment, &args)?);
        Ok(())
    }

    /// Whether the proxy was started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.proxy.is_some()
    }

    /// The running proxy.
    ///
    /// # Errors
    /// When none was started.
    pub fn proxy(&mut self) -> Result<&mut Proxy> {
        self.proxy.as_mut().context("the proxy was not started")
    }

    /// Starts the proxy again after it ended.
    ///
    /// # Errors
    /// When it does not sync; with its log.
    pub fn restart(&mut self) -> Result<()> {
        let mut proxy = self.take_proxy()?;
        let result = proxy.start_again(&self.bed.node);
        self.give_proxy(proxy);
        result
    }

    /// Takes the proxy out, to do something with it while others hold on to the rest.
    ///
    /// # Errors
    /// When none was started.
    pub fn take_proxy(&mut self) -> Result<Proxy> {
        self.proxy.take().context("the proxy was not started")
    }

    /// Puts it back.
    pub fn give_proxy(&mut self, proxy: Proxy) {
        self.proxy = Some(proxy);
    }

    /// The next sync starts another one.
    pub fn forget_proxy(&mut self) {
        self.proxy = None;
    }

    /// How much the last sync had to do.
    ///
    /// # Errors
    /// When there was none, or its line does not say.
    pub fn last_operations(&mut self) -> Result<usize> {
        let line = self.proxy()?.last_line_with("synced").context("it never synced")?;
        let number = line.split("operations=").nth(1).context("the line does not say how many operations")?;
        let number: String = number.chars().take_while(char::is_ascii_digit).collect();
        number.parse().context("operations is no number")
    }

    /// Waits for the repair that follows what was done to the rules.
    ///
    /// # Errors
    /// When that fails, or there is none; with the proxy's log.
    pub fn await_repair(&mut self, doing: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let proxy = self.take_proxy()?;
        let repaired = proxy.await_sync_after(|| doing(self)).and_then(|()| proxy.await_quiet());
        self.give_proxy(proxy);
        repaired
    }

    /// A Service `web` with ClusterIP 10 and port 80.
    #[must_use]
    pub fn web(&self) -> Service {
        Service::new("web", self.family().cluster_ip(10)).tcp("http", 80)
    }

    /// A slice for port `http` of a Service, with these pods ready.
    #[must_use]
    pub fn slice(&self, service: &str, pods: &[&str]) -> Slice {
        self.slice_of(service, pods.iter().map(|pod| self.endpoint(pod)))
    }

    /// A slice for port `http` of a Service.
    pub fn slice_of(&self, service: &str, endpoints: impl IntoIterator<Item = Endpoint>) -> Slice {
        Slice::new(service, self.family(), endpoints).port("http", Protocol::Tcp, POD_PORT)
    }

    /// A pod, `pod-1` or `remote-1`, as a ready endpoint.
    #[must_use]
    pub fn endpoint(&self, pod: &str) -> Endpoint {
        self.endpoint_in(pod, self.family())
    }

    /// A pod as a ready endpoint in a family.
    ///
    /// # Panics
    /// When there is no such pod.
    #[must_use]
    pub fn endpoint_in(&self, pod: &str, family: Family) -> Endpoint {
        Endpoint::of(self.named(pod), family)
    }

    fn named(&self, name: &str) -> &Pod {
        match name.split_once('-') {
            Some(("remote", number)) => self.bed.remote_pod(number.parse().unwrap_or(1)),
            Some((_, number)) => self.bed.pod(number.parse().unwrap_or(1)),
            None => panic!("{name} is no pod"),
        }
    }

    /// Serves `web` on these pods.
    ///
    /// # Errors
    /// As [`Subject::sync`].
    pub fn serve_web(&mut self, pods: &[&str]) -> Result<()> {
        self.serve(self.web(), pods)
    }

    /// Serves a variant of `web` on these pods.
    ///
    /// # Errors
    /// As [`Subject::sync`].
    pub fn serve(&mut self, web: Service, pods: &[&str]) -> Result<()> {
        let slice = self.slice("web", pods);
        self.cluster.put(web).put_slice(slice);
        self.sync()
    }

    /// Where `web` is.
    #[must_use]
    pub fn web_address(&self) -> SocketAddr {
        (self.family().cluster_ip(10), 80).into()
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}
