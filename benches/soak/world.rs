//! Who is there: a node with pods, an API server, the proxy, and services. Two are healthy all the time, `steady`, which
//! never changes, and `changing`, whose endpoints do; all others come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::api_server::Options;
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::mode::Tool;
use testbed::{ApiServer, Bed, Cluster, Family, Layout, Mode, POD_PORT, Pod, Protocol, Proxy, Rules};

use crate::canonical;
use crate::model::{History, Pods};

const FAMILY: Family = Family::V4;
/// Services that come and go have numbers from here on.
const FIRST: u8 = 20;
/// How many do.
pub(crate) const COMING_AND_GOING: u8 = 24;
/// The number of `steady`, and of `changing`.
pub(crate) const STEADY: u8 = 10;
pub(crate) const CHANGING: u8 = 11;

/// A moment when what is true changes: while it is on, nobody knows what is in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    began: Instant,
    ended: Option<Instant>,
}

/// What connections are held against. Shared with those who make them.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    services: BTreeMap<u8, History>,
    /// While a process is away.
    pub(crate) away: Option<Window>,
    /// While the rules are flushed.
    pub(crate) flushed: Option<Window>,
}

impl Expected {
    /// What is wrong with what became of a connection to a service, if anything.
    pub(crate) fn complaint(
        &self,
        service: u8,
        began: Instant,
        ended: Instant,
        outcome: &testbed::Outcome,
    ) -> Option<String> {
        // What was changed just before a process went away is in force once the next one has synced.
        let away =
            self.away.filter(|away| away.ended.is_none_or(|ended| ended + Duration::from_secs(3) > began));
        let since = away.map_or(began, |away| away.began.min(began));
        self.services.get(&service)?.complaint(since, ended, outcome)
    }

    /// Whether a service should lead to something now.
    pub(crate) fn has_endpoints(&self, service: u8) -> bool {
        self.services.get(&service).is_some_and(History::has_endpoints)
    }

    /// Whether the rules were flushed while a connection was made.
    pub(crate) fn was_flushed(&self, began: Instant, ended: Instant) -> bool {
        self.flushed
            .is_some_and(|flushed| flushed.began <= ended && flushed.ended.is_none_or(|over| over >= began))
    }
}

/// What is expected, for those who make connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Expected>>);

impl Shared {
    pub(crate) fn expected(&self) -> MutexGuard<'_, Expected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn begin() -> Self {
        Self { began: Instant::now(), ended: None }
    }
}

pub(crate) struct World {
    pub(crate) mode: Mode,
    /// The network. Shared, since connections are made while the rest of the world changes.
    bed: Arc<Bed>,
    server: ApiServer,
    pub(crate) proxy: Proxy,
    /// Changes so far.
    pub(crate) changes: u64,
    dice: Dice,
    cluster: Cluster,
    /// Which of those that come and go are there.
    there: BTreeSet<u8>,
    expected: Shared,
}

impl World {
    /// The node with `steady` and `changing` in force.
    pub(crate) fn new(mode: Mode, seed: u64) -> Result<Self> {
        let bed = Bed::new(Layout::Routed, 3, 2)?;
        let server = bed.node.run(|| ApiServer::start(Options::default()))??;
        let mut cluster = Cluster::default();
        cluster.put_other("node", testbed::cluster::node(None, &[FAMILY.node()], &[]));
        let all = Dice::PODS.map(|name| Endpoint::of(pod(&bed, name), FAMILY));
        for number in [STEADY, CHANGING] {
            cluster.put(service(number)).put_slice(slice(number, all.to_vec()));
        }
        server.hold(&cluster.manifest())?;
        let cidrs = FAMILY.cluster_cidr();
        let args = [mode.args, &["--hostname-override", "node", "--cluster-cidr", cidrs]].concat();
        let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
        let proxy = Proxy::start_with_api(&bed.node, &server, &args)?;
        let (bed, expected) = (Arc::new(bed), Shared::default());
        let world = Self {
            mode,
            bed,
            server,
            proxy,
            changes: 0,
            dice: Dice(seed),
            cluster,
            there: BTreeSet::new(),
            expected,
        };
        for number in [STEADY, CHANGING] {
            world.expect(number, Dice::PODS.map(str::to_owned).into());
        }
        for number in coming_and_going() {
            world.expect(number, Pods::new());
        }
        Ok(world)
    }

    /// The network, and what is expected of connections in it.
    pub(crate) fn shared(&self) -> (Arc<Bed>, Shared) {
        (Arc::clone(&self.bed), self.expected.clone())
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.expected()
    }

    /// All rules, such that what means the same reads the same.
    pub(crate) fn rules_in_canonical_form(&self) -> Result<String> {
        match self.mode.tool {
            Tool::Nft => canonical::nftables(&self.bed.node.output("nft", &["--json", "list", "ruleset"])?),
            _ => Ok(canonical::lines(&self.rules().listing()?)),
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules::new(&self.bed.node, self.mode, FAMILY)
    }

    fn expect(&self, number: u8, pods: Pods) {
        let now = Instant::now();
        let mut expected = self.expected();
        let history = expected.services.entry(number).or_default();
        history.leads_to(now, pods);
        // No connection takes longer.
        history.forget_before(now.checked_sub(Duration::from_secs(60)).unwrap_or(now));
    }

    /// Changes one thing: the endpoints of `changing`, or one of the services that come and go.
    pub(crate) fn change(&mut self) -> Result<()> {
        let number = match self.dice.below(4) {
            0 => CHANGING,
            _ => FIRST + u8::try_from(self.dice.below(COMING_AND_GOING.into()))?,
        };
        let name = name(number);
        let goes = self.there.contains(&number) && self.dice.below(5) == 0;
        let pods = if goes {
            self.there.remove(&number);
            self.cluster.delete(&name).delete_slice(&name);
            Pods::new()
        } else {
            let endpoints = self.dice.endpoints(&self.bed, number == CHANGING);
            let pods = usable(&endpoints);
            let endpoints = endpoints.into_iter().map(|(_, endpoint)| endpoint).collect();
            if number != CHANGING {
                self.there.insert(number);
            }
            self.cluster.put(service(number)).put_slice(slice(number, endpoints));
            pods
        };
        // Whatever is told to the server counts at once; what was before counts for a while.
        self.expect(number, pods);
        self.changes += 1;
        self.server.hold(&self.cluster.manifest())
    }

    /// Kills the proxy and starts it again.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.expected().away = Some(Window::begin());
        self.proxy.kill()?;
        self.proxy.start_again(&self.bed.node)?;
        // What it was told meanwhile follows at once.
        self.proxy.await_quiet()?;
        let ended = Some(Instant::now());
        let mut expected = self.expected();
        expected.away = expected.away.map(|away| Window { ended, ..away });
        Ok(())
    }

    /// Flushes everything, as an administrator would who wants to be sure, and waits for the repair.
    pub(crate) fn flush(&self) -> Result<()> {
        self.expected().flushed = Some(Window::begin());
        // Other changes may still be under way, whose sync is not the repair.
        self.proxy.await_line_after("repairing what of it is ours", || {
            self.rules().edit(testbed::rules::Edit::FlushEverything)
        })?;
        self.proxy.await_quiet()?;
        let ended = Some(Instant::now());
        let mut expected = self.expected();
        expected.flushed = expected.flushed.map(|flushed| Window { ended, ..flushed });
        Ok(())
    }

    /// How many things a restart finds to do, as it says itself.
    pub(crate) fn operations_of_a_restart(&mut self) -> Result<Option<u64>> {
        self.proxy.kill()?;
        self.proxy.start_again(&self.bed.node)?;
        let line = self.proxy.last_line_with("synced").unwrap_or_default();
        let operations = line.split(' ').find_map(|word| word.strip_prefix("operations="));
        Ok(operations.and_then(|number| number.parse().ok()))
    }

    /// Takes away all that was programmed, and has a process that knows of nothing program it anew.
    pub(crate) fn start_afresh(&mut self) -> Result<()> {
        self.proxy.kill()?;
        let mut cleanup = std::process::Command::new(testbed::binary()?);
        let output =
            self.bed.node.run(|| cleanup.arg("--cleanup").output())?.context("cannot run pointsman")?;
        ensure!(output.status.success(), "--cleanup: {}", String::from_utf8_lossy(&output.stderr));
        self.proxy.start_again(&self.bed.node)
    }
}

/// The numbers of the services that come and go.
pub(crate) fn coming_and_going() -> std::ops::Range<u8> {
    FIRST..FIRST + COMING_AND_GOING
}

/// Where a service is found from pods, and from outside.
pub(crate) fn addresses(number: u8) -> [SocketAddr; 2] {
    [(FAMILY.cluster_ip(number), 80).into(), (FAMILY.external_ip(number), 80).into()]
}

fn name(number: u8) -> String {
    format!("service-{number}")
}

fn service(number: u8) -> Service {
    let service = Service::new(&name(number), FAMILY.cluster_ip(number));
    service.tcp("http", 80).udp("dns", 80).external_ip(FAMILY.external_ip(number))
}

fn slice(number: u8, endpoints: Vec<Endpoint>) -> Slice {
    let slice = Slice::new(&name(number), FAMILY, endpoints);
    slice.port("http", Protocol::Tcp, POD_PORT).port("dns", Protocol::Udp, POD_PORT)
}

fn pod<'a>(bed: &'a Bed, name: &str) -> &'a Pod {
    let number = name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(1);
    if name.starts_with("pod") { bed.pod(number) } else { bed.remote_pod(number) }
}

/// The pods that traffic may go to: those that are ready, else those that serve while they terminate.
fn usable(endpoints: &[(&'static str, Endpoint)]) -> Pods {
    let of = |is: fn(&Endpoint) -> bool| -> Pods {
        endpoints.iter().filter(|(_, endpoint)| is(endpoint)).map(|(name, _)| (*name).to_owned()).collect()
    };
    let ready = of(|endpoint| endpoint.ready != Some(false));
    if ready.is_empty() { of(|endpoint| endpoint.serving == Some(true)) } else { ready }
}

/// Small pseudo-random numbers, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    const PODS: [&'static str; 5] = ["pod-1", "pod-2", "pod-3", "remote-1", "remote-2"];

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound
    }

    /// Some endpoints in some condition; at least one that is ready if the service is to be healthy.
    fn endpoints(&mut self, bed: &Bed, healthy: bool) -> Vec<(&'static str, Endpoint)> {
        let first = self.below(Self::PODS.len());
        let count = self.below(Self::PODS.len() + 1).max(usize::from(healthy));
        let chosen: Vec<_> = Self::PODS.iter().cycle().skip(first).take(count).collect();
        let ready = usize::from(healthy);
        let mut endpoint = |(place, name): (usize, &&'static str)| {
            let endpoint = Endpoint::of(pod(bed, name), FAMILY);
            let endpoint = match self.below(8) {
                _ if place < ready => endpoint,
                0 => endpoint.not_ready(),
                1 => endpoint.terminating(),
                2 => endpoint.terminated(),
                _ => endpoint,
            };
            (*name, endpoint)
        };
        chosen.into_iter().enumerate().map(&mut endpoint).collect()
    }
}
