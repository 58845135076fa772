//! What scenarios work on, and the sentences they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::suite::Circumstances;
use testbed::{Bed, Cluster, Family, Layout, Outcome, POD_PORT, Place, Protocol, Proxy};

/// Connections for each endpoint that ought to be chosen: one of three is missed once in 10^10 runs.
const TRIES: usize = 20;

/// A bed, the cluster that the proxy serves on it, and the proxy once it runs.
pub(crate) struct Subject {
    circumstances: Circumstances,
    pub(crate) bed: Bed,
    pub(crate) cluster: Cluster,
    proxy: Option<Proxy>,
    args: Vec<String>,
}

/// Someone who connects.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) ip: IpAddr,
}

/// As whom a pod sees its client.
#[derive(Clone, Copy)]
pub(crate) enum Seen {
    /// As itself.
    AsItself,
    /// As this node.
    Masqueraded,
}

impl Subject {
    /// Three pods on this node and two on the other; the proxy is told where pods are, and not started yet.
    pub(crate) fn prepare(circumstances: Circumstances) -> Result<Self> {
        let bed = Bed::new(Layout::Routed, 3, 2)?;
        let cidrs = Family::BOTH.map(Family::cluster_cidr).join(",");
        let args =
            ["--proxy-mode", circumstances.mode, "--hostname-override", "node", "--cluster-cidr", &cidrs];
        let args = args.map(str::to_owned).to_vec();
        Ok(Self { circumstances, bed, cluster: Cluster::default(), proxy: None, args })
    }

    /// What there is to know after a failure.
    pub(crate) fn explain(&self) -> String {
        let log = self.proxy.as_ref().map(Proxy::log).unwrap_or_default();
        let tables = [("nft", &["list", "ruleset"][..]), ("ip", &["route"]), ("ip", &["-6", "route"])];
        let shown = tables.map(|(program, args)| {
            let output = self.bed.node.output(program, args).unwrap_or_else(|error| format!("{error:#}"));
            format!("--- {program} {}\n{output}", args.join(" "))
        });
        format!("--- the proxy's log\n{log}\n{}", shown.concat())
    }

    pub(crate) fn family(&self) -> Family {
        self.circumstances.family
    }

    /// Joins pods by a bridge instead of by an interface each.
    pub(crate) fn use_bridge(&mut self) -> Result<()> {
        for name in ["node", "peer", "client", "pod-1", "pod-2", "pod-3"] {
            std::process::Command::new("ip").args(["netns", "delete", name]).status()?;
        }
        self.bed = Bed::new(Layout::Bridged, 3, 2)?;
        Ok(())
    }

    /// Gives the proxy further arguments; before it starts.
    pub(crate) fn args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    /// Starts the proxy with other arguments than the usual ones, but the mode and the node's name.
    pub(crate) fn only_args(&mut self, args: &[&str]) {
        self.args.truncate(4);
        self.args(args);
    }

    /// Serves the cluster as it is now: starts the proxy, or saves the manifests and waits.
    pub(crate) fn sync(&mut self) -> Result<()> {
        match &self.proxy {
            Some(proxy) => proxy.serve(&self.cluster),
            None => {
                self.proxy = Some(Proxy::start(&self.bed.node, &self.cluster, &self.args)?);
                Ok(())
            }
        }
    }

    /// The running proxy.
    pub(crate) fn proxy(&mut self) -> Result<&mut Proxy> {
        self.proxy.as_mut().ok_or_else(|| anyhow::anyhow!("the proxy was not started"))
    }

    /// Starts the proxy again after it ended.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let mut proxy = self.take_proxy()?;
        let result = proxy.start_again(&self.bed.node);
        self.give_proxy(proxy);
        result
    }

    /// Takes the proxy out, to do something with it while others hold on to the rest.
    pub(crate) fn take_proxy(&mut self) -> Result<Proxy> {
        self.proxy.take().ok_or_else(|| anyhow::anyhow!("the proxy was not started"))
    }

    /// Puts it back.
    pub(crate) fn give_proxy(&mut self, proxy: Proxy) {
        self.proxy = Some(proxy);
    }

    /// The next sync starts another one.
    pub(crate) fn forget_proxy(&mut self) {
        self.proxy = None;
    }

    /// Does to the proxy's rules what a careless administrator might.
    pub(crate) fn damage(&self) -> Result<()> {
        let (table, ip) = match self.family() {
            Family::V4 => ("ip pointsman", "198.51.100.1"),
            Family::V6 => ("ip6 pointsman", "fd00:198::1"),
        };
        let commands = [
            format!("flush map {table} endpoints"),
            format!("flush chain {table} services"),
            format!("add element {table} cluster-ips {{ {ip} }}"),
            format!("flush map {table} picks"),
            format!("add element {table} service-ips {{ {ip} . tcp . 80 : 0x00000063 }}"),
            format!("delete chain {table} nat-output"),
            format!("add chain {table} stray"),
            format!("add rule {table} stray drop"),
            format!("add set {table} odd {{ type inet_service; }}"),
        ];
        commands.iter().try_for_each(|command| self.bed.node.output("nft", &[command]).map(drop))
    }

    /// Removes one element of the proxy's, which decides where traffic goes.
    pub(crate) fn damage_slightly(&self) -> Result<()> {
        let (family, ip) =
            (if self.family() == Family::V4 { "ip" } else { "ip6" }, self.family().cluster_ip(10));
        let command = format!("delete element {family} pointsman service-ips {{ {ip} . tcp . 80 }}");
        self.bed.node.output("nft", &[&command]).map(drop)
    }

    /// Puts rules in place of the proxy's as another version of it might have left them.
    pub(crate) fn leave_another_layout(&self) -> Result<()> {
        let family = if self.family() == Family::V4 { "ip" } else { "ip6" };
        let layout = format!(
            "delete table {family} pointsman; add table {family} pointsman; \
             add set {family} pointsman cluster-ips {{ type inet_service; }}; \
             add set {family} pointsman former {{ type inet_service; }}; \
             add chain {family} pointsman services {{ type filter hook input priority 0; }}; \
             add rule {family} pointsman services tcp dport @former drop"
        );
        self.bed.node.output("nft", &[&layout]).map(drop)
    }

    /// A Service `web` with ClusterIP 10 and port 80.
    pub(crate) fn web(&self) -> Service {
        Service::new("web", self.family().cluster_ip(10)).tcp("http", 80)
    }

    /// A slice for port `http` of a Service, with these pods ready.
    pub(crate) fn slice(&self, service: &str, pods: &[&str]) -> Slice {
        self.slice_of(service, pods.iter().map(|pod| self.endpoint(pod)))
    }

    /// A slice for port `http` of a Service.
    pub(crate) fn slice_of(&self, service: &str, endpoints: impl IntoIterator<Item = Endpoint>) -> Slice {
        Slice::new(service, self.family(), endpoints).port("http", Protocol::Tcp, POD_PORT)
    }

    /// A pod as a ready endpoint.
    pub(crate) fn endpoint(&self, pod: &str) -> Endpoint {
        self.endpoint_in(pod, self.family())
    }

    /// A pod as a ready endpoint in a family.
    pub(crate) fn endpoint_in(&self, pod: &str, family: Family) -> Endpoint {
        Endpoint::of(self.named(pod), family)
    }

    fn named(&self, name: &str) -> &testbed::Pod {
        match name.split_once('-') {
            Some(("remote", number)) => self.bed.remote_pod(number.parse().unwrap_or(1)),
            Some((_, number)) => self.bed.pod(number.parse().unwrap_or(1)),
            None => panic!("{name} is no pod"),
        }
    }

    /// Serves `web` on these pods.
    pub(crate) fn serve_web(&mut self, pods: &[&str]) -> Result<()> {
        self.serve(self.web(), pods)
    }

    /// Serves a variant of `web` on these pods.
    pub(crate) fn serve(&mut self, web: Service, pods: &[&str]) -> Result<()> {
        let slice = self.slice("web", pods);
        self.cluster.put(web).put_slice(slice);
        self.sync()
    }

    /// Where `web` is.
    pub(crate) fn web_address(&self) -> SocketAddr {
        (self.family().cluster_ip(10), 80).into()
    }

    pub(crate) fn pod(&self, number: u8) -> Who<'_> {
        Who { place: Place::of(self.bed.pod_namespace(number)), ip: self.bed.pod(number).ip(self.family()) }
    }

    pub(crate) fn node(&self) -> Who<'_> {
        Who { place: Place::of(&self.bed.node), ip: self.family().node() }
    }

    pub(crate) fn client(&self) -> Who<'_> {
        let ip = self.family().client();
        Who { place: Place::of(&self.bed.client).from_address(ip), ip }
    }

    pub(crate) fn foreign_client(&self) -> Who<'_> {
        let ip = self.family().foreign_client();
        Who { place: Place::of(&self.bed.client).from_address(ip), ip }
    }

    /// Over TCP, exactly these pods answer, and see the client so.
    pub(crate) fn reaches(
        &self,
        who: Who<'_>,
        to: impl Into<SocketAddr>,
        pods: &[&str],
        seen: Seen,
    ) -> Result<BTreeMap<Outcome, usize>> {
        self.reaches_over(Protocol::Tcp, who, to, pods, seen)
    }

    /// Exactly these pods answer, and see the client so; how often each did.
    pub(crate) fn reaches_over(
        &self,
        protocol: Protocol,
        who: Who<'_>,
        to: impl Into<SocketAddr>,
        pods: &[&str],
        seen: Seen,
    ) -> Result<BTreeMap<Outcome, usize>> {
        let to = to.into();
        let counts = who.place.connect_times(protocol, to, TRIES * pods.len())?;
        let expected: BTreeSet<Outcome> = pods
            .iter()
            .map(|pod| Outcome::Answered { by: (*pod).to_owned(), seen_as: self.seen_as(who, pod, seen) })
            .collect();
        ensure!(
            counts.keys().eq(expected.iter()),
            "{protocol:?} from {} ({}) to {to}: expected {}; got {}",
            who.place.namespace.name(),
            who.ip,
            listed(expected.iter()),
            listed(counts.keys()),
        );
        Ok(counts)
    }

    fn seen_as(&self, who: Who<'_>, pod: &str, seen: Seen) -> IpAddr {
        match seen {
            Seen::AsItself => who.ip,
            // The node's address on the way to that pod.
            Seen::Masqueraded if pod.starts_with("remote") => self.family().node(),
            Seen::Masqueraded => self.family().gateway(),
        }
    }

    /// Refused, over TCP and UDP alike unless one of them is served.
    pub(crate) fn refused(&self, who: Who<'_>, to: impl Into<SocketAddr>) -> Result<()> {
        self.comes_to(Protocol::Tcp, who, to, &Outcome::Refused)
    }

    /// Dropped without an answer.
    pub(crate) fn dropped(&self, who: Who<'_>, to: impl Into<SocketAddr>) -> Result<()> {
        self.comes_to(Protocol::Tcp, who, to, &Outcome::Silence)
    }

    pub(crate) fn comes_to(
        &self,
        protocol: Protocol,
        who: Who<'_>,
        to: impl Into<SocketAddr>,
        expected: &Outcome,
    ) -> Result<()> {
        let to = to.into();
        let outcome = match expected {
            Outcome::Silence => who.place.connect_briefly(protocol, to)?,
            _ => who.place.connect(protocol, to)?,
        };
        ensure!(
            outcome == *expected,
            "{protocol:?} from {} ({}) to {to}: expected {expected}; got {outcome}",
            who.place.namespace.name(),
            who.ip
        );
        Ok(())
    }

    /// Whatever becomes of it, no pod answers.
    pub(crate) fn unanswered(&self, who: Who<'_>, to: impl Into<SocketAddr>) -> Result<()> {
        let to = to.into();
        let outcome = who.place.connect_briefly(Protocol::Tcp, to)?;
        ensure!(!matches!(outcome, Outcome::Answered { .. }), "{to} is answered: {outcome}");
        Ok(())
    }
}

fn listed<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> String {
    outcomes.map(Outcome::to_string).collect::<Vec<_>>().join(", ")
}

/// The pod that answered.
pub(crate) fn answerer(outcome: &Outcome) -> Result<&str> {
    match outcome {
        Outcome::Answered { by, .. } => Ok(by),
        other => anyhow::bail!("no pod answered: {other}"),
    }
}
