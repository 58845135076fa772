//! What scenarios work on: a cluster whose nodes are joined in some way, and the sentences to speak of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::cluster_bed::{Frame, Lan, Sniffer};
use testbed::cni::{PORT, Pod};
use testbed::{ClusterBed, Family, Outcome, Place, Protocol, Stack, await_that};

/// How soon what others broke must work again.
pub(crate) const REPAIRED: Duration = Duration::from_secs(1);
/// How long news may take through a cluster.
const CONVERGED: Duration = Duration::from_secs(15);

/// How nodes reach each other's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Vxlan,
    HostGw,
    Bgp,
}

impl Backend {
    pub(crate) const ALL: [Self; 3] = [Self::Vxlan, Self::HostGw, Self::Bgp];

    /// As the flag has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
            Self::Bgp => "bgp",
        }
    }
}

/// A cluster, and how its daemons are started.
pub(crate) struct Scene {
    pub(crate) backend: Backend,
    pub(crate) bed: ClusterBed,
    /// Further arguments of every daemon.
    pub(crate) args: Vec<&'static str>,
}

impl Scene {
    /// A cluster without nodes.
    pub(crate) fn prepare(backend: Backend, stack: Stack) -> Result<Self> {
        Ok(Self { backend, bed: ClusterBed::new(stack.families())?, args: Vec::new() })
    }

    pub(crate) fn explain(&self) -> String {
        self.bed.explain()
    }

    pub(crate) fn families(&self) -> &[Family] {
        self.bed.families()
    }

    /// What daemons are started with.
    fn arguments(&self) -> Vec<&'static str> {
        let cidrs = match self.families() {
            [Family::V4] => "10.244.0.0/16",
            [Family::V6] => "fd00:10:244::/48",
            _ => "10.244.0.0/16,fd00:10:244::/48",
        };
        let own = ["--pod-network", self.backend.name(), "--cluster-cidr", cidrs, "--proxy-mode", "nftables"];
        [&own[..], &self.args].concat()
    }

    /// Plugs in nodes 1 to so many, and starts their daemons.
    pub(crate) fn start(&mut self, nodes: u8) -> Result<()> {
        for number in 1..=nodes {
            self.bed.join(number, Lan::Near)?;
        }
        self.start_all()
    }

    /// Starts the daemon wherever it does not run.
    pub(crate) fn start_all(&mut self) -> Result<()> {
        let args = self.arguments();
        self.bed.start(&args)
    }

    /// Starts a node's daemon, and does not wait.
    pub(crate) fn launch(&mut self, node: u8) -> Result<()> {
        let args = self.arguments();
        let Self { bed, .. } = self;
        bed.launch(node, &args)
    }

    /// A pod on each node.
    pub(crate) fn pods(&self) -> Result<Vec<Pod>> {
        self.bed
            .nodes()
            .iter()
            .map(|node| self.bed.pod(node.number(), &format!("pod-{}", node.number())))
            .collect()
    }

    /// Waits until a pod reaches another in every family.
    pub(crate) fn await_reach(&self, from: &Pod, to: &Pod) -> Result<()> {
        self.await_reach_within(CONVERGED, from, to)
    }

    /// The same, within some time.
    pub(crate) fn await_reach_within(&self, patience: Duration, from: &Pod, to: &Pod) -> Result<()> {
        for family in self.families() {
            let address = SocketAddr::new(to.ip(*family)?, PORT);
            let is_there =
                |outcome: &Outcome| matches!(outcome, Outcome::Answered { by, .. } if by == to.name());
            let waited = from.place().connect_until(Protocol::Tcp, address, patience, is_there);
            waited.with_context(|| format!("{} to {}", from.name(), to.name()))?;
        }
        Ok(())
    }

    /// Waits until every pod reaches every other, and is seen as itself in both protocols.
    pub(crate) fn await_all_reach(&self, pods: &[Pod]) -> Result<()> {
        for one in pods {
            for other in pods.iter().filter(|other| other.name() != one.name()) {
                self.await_reach(one, other)?;
            }
        }
        for one in pods {
            for other in pods.iter().filter(|other| other.name() != one.name()) {
                one.must_reach(other)?;
            }
        }
        Ok(())
    }

    /// Waits until a pod does not reach another any more.
    pub(crate) fn await_silence(&self, from: &Pod, to: &Pod) -> Result<()> {
        for family in self.families() {
            let address = SocketAddr::new(to.ip(*family)?, PORT);
            let is_gone = |outcome: &Outcome| !matches!(outcome, Outcome::Answered { .. });
            from.place().connect_until(Protocol::Tcp, address, CONVERGED, is_gone)?;
        }
        Ok(())
    }

    /// What passes on the underlay while something is done.
    pub(crate) fn heard(&self, doing: impl FnOnce() -> Result<()>) -> Result<Vec<Frame>> {
        let sniffer = Sniffer::on(&self.bed.underlay.router)?;
        doing()?;
        Ok(sniffer.stop())
    }

    /// What `ip` says on a node, line by line, of those that have a word in them.
    pub(crate) fn lines(&self, node: u8, command: &str, word: &str) -> Result<Vec<String>> {
        let args: Vec<&str> = command.split(' ').collect();
        let told = self.bed.node(node).namespace.output("ip", &args)?;
        Ok(told.lines().filter(|line| line.contains(word)).map(|line| line.trim().to_owned()).collect())
    }

    /// Our routes of a node.
    pub(crate) fn routes(&self, node: u8) -> Result<Vec<String>> {
        let v4 = self.lines(node, "-4 route show proto 112", "")?;
        Ok([v4, self.lines(node, "-6 route show proto 112", "")?].concat())
    }

    /// Waits until our routes of a node are so.
    pub(crate) fn await_routes(&self, node: u8, are_so: impl Fn(&[String]) -> bool) -> Result<()> {
        let waited = await_that("routes change", || Ok(are_so(&self.routes(node)?)));
        waited.with_context(|| format!("{:#?}", self.routes(node)))
    }

    /// A place to connect from: a node.
    pub(crate) fn node(&self, number: u8) -> Place<'_> {
        self.bed.node(number).place()
    }

    /// Whether packets between nodes are in a tunnel.
    pub(crate) fn is_tunnelled(&self) -> bool {
        self.backend == Backend::Vxlan
    }
}

/// Frames between pods are in a tunnel of network 1, all of them, or none is.
pub(crate) fn must_be_tunnelled(
    frames: &[Frame],
    one: &Pod,
    other: &Pod,
    family: Family,
    so: bool,
) -> Result<()> {
    let (a, b) = (one.ip(family)?, other.ip(family)?);
    let bare = frames.iter().filter(|frame| frame.is_between(a, b)).count();
    let tunnelled: Vec<_> = frames.iter().filter_map(Frame::tunnelled).collect();
    let carried = tunnelled.iter().filter(|(_, frame)| frame.is_between(a, b)).count();
    let numbers = tunnelled.iter().all(|(number, _)| *number == 1);
    match so {
        true => ensure!(
            bare == 0 && carried > 0 && numbers,
            "{carried} in a tunnel, {bare} bare: {}",
            family.name()
        ),
        false => ensure!(carried == 0 && bare > 0, "{carried} in a tunnel, {bare} bare: {}", family.name()),
    }
    Ok(())
}

/// Two nodes on a link reach each other without a tunnel, and one elsewhere by one.
pub(crate) fn must_need_a_tunnel_only_off_the_link(s: &mut Scene) -> Result<()> {
    s.bed.join(1, Lan::Near)?;
    s.bed.join(2, Lan::Near)?;
    s.bed.join(3, Lan::Far)?;
    s.start_all()?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    let frames = s.heard(|| {
        pods[0].must_reach(&pods[1])?;
        pods[0].must_reach(&pods[2])
    })?;
    for family in s.families() {
        must_be_tunnelled(&frames, &pods[0], &pods[1], *family, false)?;
        must_be_tunnelled(&frames, &pods[0], &pods[2], *family, true)?;
    }
    Ok(())
}
