//! What scenarios work on: a bed, two services, traffic to them, and dice.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::suite::Circumstances;
use testbed::{
    Bed, Cluster, Family, Layout, Mode, Outcome, POD_PORT, Place, Protocol, Proxy, Resources, Rules,
    await_that,
};

/// How long a repair may take where the kernel does not tell of damage.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much more memory may be resident at the end: the allocator does not give all back at once.
const SLACK_KB: u64 = 8_192;

pub(crate) struct Chaos {
    mode: Mode,
    pub(crate) family: Family,
    pub(crate) bed: Bed,
    pub(crate) args: Vec<String>,
}

pub(crate) const PODS: [&str; 5] = ["pod-1", "pod-2", "pod-3", "remote-1", "remote-2"];

/// Connections so far, and whether to go on.
#[derive(Default)]
struct Traffic {
    done: AtomicBool,
    connections: AtomicUsize,
}

impl Chaos {
    pub(crate) fn prepare(circumstances: Circumstances) -> Result<Self> {
        let bed = Bed::new(Layout::Routed, 3, 2)?;
        let cidrs = Family::BOTH.map(Family::cluster_cidr).join(",");
        let Circumstances { mode, family } = circumstances;
        let args = [mode.args, &["--hostname-override", "node", "--cluster-cidr", &cidrs]].concat();
        Ok(Self { mode, family, bed, args: args.into_iter().map(str::to_owned).collect() })
    }

    pub(crate) fn explain(&self) -> String {
        self.rules().explain()
    }

    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules::new(&self.bed.node, self.mode, self.family)
    }

    pub(crate) fn start(&self, cluster: &Cluster) -> Result<Proxy> {
        Proxy::start(&self.bed.node, cluster, &self.args)
    }

    pub(crate) fn slice(&self, service: &str, pods: &[&str]) -> Slice {
        let endpoints = pods.iter().map(|name| {
            let number = name.split('-').nth(1).and_then(|number| number.parse().ok()).unwrap_or(1);
            let pod =
                if name.starts_with("pod") { self.bed.pod(number) } else { self.bed.remote_pod(number) };
            Endpoint::of(pod, self.family)
        });
        Slice::new(service, self.family, endpoints).port("http", Protocol::Tcp, POD_PORT)
    }

    pub(crate) fn service(&self, name: &str, number: u8) -> Service {
        Service::new(name, self.family.cluster_ip(number)).tcp("http", 80)
    }

    /// `changing`, whose endpoints will change, and `steady`, whose will not; both with an external address.
    pub(crate) fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, number) in [("changing", 10), ("steady", 11)] {
            cluster.put(self.service(name, number).external_ip(self.family.external_ip(number)));
            cluster.put_slice(self.slice(name, &PODS[..3]));
        }
        cluster
    }

    /// Connects without pause, from a pod and from outside, to both services, while something else is done.
    pub(crate) fn under_traffic(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let traffic = Traffic::default();
        let pod = Place::of(self.bed.pod_namespace(3));
        let client = Place::of(&self.bed.client);
        let connectors = [
            (pod, self.family.cluster_ip(10)),
            (pod, self.family.cluster_ip(11)),
            (client, self.family.external_ip(10)),
            (client, self.family.external_ip(11)),
        ];
        thread::scope(|scope| {
            let threads = connectors.map(|(from, to)| {
                let traffic = &traffic;
                scope.spawn(move || traffic.connect(from, (to, 80).into()))
            });
            let result = meanwhile();
            traffic.done.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            result
        })?;
        let connections = traffic.connections.load(Ordering::Relaxed);
        ensure!(connections > 500, "only {connections} connections were made: that proves nothing");
        Ok(())
    }

    /// What the proxy uses while it does nothing.
    pub(crate) fn resources_at_rest(&self, proxy: &Proxy) -> Result<Resources> {
        // Programs that it runs, and threads that tidy up after another mode, need descriptors for a while.
        proxy.await_quiet()?;
        proxy.resources()
    }

    /// Nothing has leaked since.
    pub(crate) fn check_resources(&self, proxy: &Proxy, before: Resources) -> Result<()> {
        self.check_resources_with(proxy, before, 0)
    }

    /// The same, but so many connections more may be kept for a while.
    pub(crate) fn check_resources_with(&self, proxy: &Proxy, before: Resources, idle: usize) -> Result<()> {
        proxy.await_quiet()?;
        // It may just be looking at the kernel, through a program's pipe; what has leaked never closes.
        let most = before.descriptors + idle;
        await_that(&format!("no more than {most} descriptors are open"), || {
            Ok(proxy.resources()?.descriptors <= most)
        })?;
        let after = proxy.resources()?;
        ensure!(!has_grown(before, after), "memory: {before:?} became {after:?}");
        Ok(())
    }

    /// Nothing has leaked since, nor does when the same is done over and over. Which of its arenas the allocator takes is
    /// chance, so memory may come to a new height a few times; what leaks grows every time.
    pub(crate) fn check_resources_over(
        &self,
        proxy: &Proxy,
        mut before: Resources,
        again: impl Fn() -> Result<()>,
    ) -> Result<()> {
        const TIMES: usize = 5;
        for _ in 0..TIMES {
            let after = self.resources_at_rest(proxy)?;
            if !has_grown(before, after) {
                return self.check_resources(proxy, Resources { resident_kb: after.resident_kb, ..before });
            }
            before.resident_kb = after.resident_kb;
            again()?;
        }
        bail!("memory grows each time, to {before:?} by now")
    }

    /// The changing service comes to lead to an endpoint, sooner or later.
    pub(crate) fn await_answers(&self, proxy: &Proxy, when: &str) -> Result<()> {
        let to = (self.family.cluster_ip(10), 80).into();
        let answered = |outcome: &Outcome| matches!(outcome, Outcome::Answered { .. });
        let from = Place::of(self.bed.pod_namespace(3));
        let came = from.connect_until(Protocol::Tcp, to, PATIENCE, answered);
        came.map(drop).with_context(|| format!("after {when}; the proxy's log:\n{}", proxy.log()))
    }

    /// The changing service leads to an endpoint.
    pub(crate) fn check_answers(&self, when: &str) -> Result<()> {
        let to = (self.family.cluster_ip(10), 80).into();
        let outcome = Place::of(self.bed.pod_namespace(3)).connect(Protocol::Tcp, to)?;
        ensure!(matches!(outcome, Outcome::Answered { .. }), "after {when}: {outcome}");
        Ok(())
    }

    /// The kernel holds what a fresh start would put there: it finds nothing to do.
    pub(crate) fn check_kernel(&self, proxy: &mut Proxy) -> Result<()> {
        proxy.await_tidied()?;
        proxy.kill()?;
        proxy.start_again(&self.bed.node)?;
        let line = proxy.last_line_with("synced").context("it never synced")?;
        ensure!(line.contains(" operations=0 "), "a fresh start found something to do: {line}");
        Ok(())
    }
}

fn has_grown(before: Resources, after: Resources) -> bool {
    after.resident_kb >= before.resident_kb + SLACK_KB
}

impl Traffic {
    fn connect(&self, from: Place<'_>, to: std::net::SocketAddr) -> Result<()> {
        while !self.done.load(Ordering::Relaxed) {
            let outcome = from.connect(Protocol::Tcp, to)?;
            let answered = matches!(outcome, Outcome::Answered { .. });
            let number = self.connections.fetch_add(1, Ordering::Relaxed);
            ensure!(answered, "connection {number}, to {to}: {outcome}");
        }
        Ok(())
    }
}

/// Small pseudo-random numbers, the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound
    }

    /// One to five pods, at least one.
    pub(crate) fn pods(&mut self) -> Vec<&'static str> {
        let first = self.below(PODS.len());
        let count = 1 + self.below(PODS.len());
        PODS.iter().cycle().skip(first).take(count).copied().collect()
    }
}
