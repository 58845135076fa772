//! Churn, crashes and mass deletion, with connections under way: not one to a healthy service may fail, and what is in
//! the kernel at the end is what a fresh start would put there.

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::suite::{Circumstances, Scenario, run_everywhere};
use testbed::{Bed, Cluster, Family, Layout, Outcome, POD_PORT, Place, Protocol, Proxy};

static SCENARIOS: &[Scenario<Chaos>] = &[
    Scenario { name: "two_hundred_endpoint_changes_a_second_fail_no_connection", run: churn },
    Scenario { name: "fifty_crashes_under_churn_fail_no_connection", run: crashes },
    Scenario { name: "a_flushed_ruleset_and_single_edits_are_repaired_under_churn", run: vandals },
    Scenario { name: "five_thousand_services_go_at_once", run: mass_deletion },
];

fn main() -> ExitCode {
    run_everywhere(SCENARIOS, Chaos::prepare, |_| String::new())
}

struct Chaos {
    family: Family,
    bed: Bed,
    args: Vec<String>,
}

const PODS: [&str; 5] = ["pod-1", "pod-2", "pod-3", "remote-1", "remote-2"];

/// Connections so far, and whether to go on.
#[derive(Default)]
struct Traffic {
    done: AtomicBool,
    connections: AtomicUsize,
}

impl Chaos {
    fn prepare(circumstances: Circumstances) -> Result<Self> {
        let bed = Bed::new(Layout::Routed, 3, 2)?;
        let cidrs = Family::BOTH.map(Family::cluster_cidr).join(",");
        let args =
            ["--proxy-mode", circumstances.mode, "--hostname-override", "node", "--cluster-cidr", &cidrs];
        Ok(Self { family: circumstances.family, bed, args: args.map(str::to_owned).to_vec() })
    }

    fn start(&self, cluster: &Cluster) -> Result<Proxy> {
        Proxy::start(&self.bed.node, cluster, &self.args)
    }

    fn slice(&self, service: &str, pods: &[&str]) -> Slice {
        let endpoints = pods.iter().map(|name| {
            let number = name.split('-').nth(1).and_then(|number| number.parse().ok()).unwrap_or(1);
            let pod =
                if name.starts_with("pod") { self.bed.pod(number) } else { self.bed.remote_pod(number) };
            Endpoint::of(pod, self.family)
        });
        Slice::new(service, self.family, endpoints).port("http", Protocol::Tcp, POD_PORT)
    }

    fn service(&self, name: &str, number: u8) -> Service {
        Service::new(name, self.family.cluster_ip(number)).tcp("http", 80)
    }

    /// `changing`, whose endpoints will change, and `steady`, whose will not; both with an external address.
    fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, number) in [("changing", 10), ("steady", 11)] {
            cluster.put(self.service(name, number).external_ip(self.family.external_ip(number)));
            cluster.put_slice(self.slice(name, &PODS[..3]));
        }
        cluster
    }

    /// Connects without pause, from a pod and from outside, to both services, while something else is done.
    fn under_traffic(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
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

    /// The kernel holds what a fresh start would put there: it finds nothing to do.
    fn check_kernel(&self, proxy: &mut Proxy) -> Result<()> {
        proxy.kill()?;
        proxy.start_again(&self.bed.node)?;
        let line = proxy.last_line_with("synced").context("it never synced")?;
        ensure!(line.contains(" operations=0 "), "a fresh start found something to do: {line}");
        Ok(())
    }
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
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound
    }

    /// One to five pods, at least one.
    fn pods(&mut self) -> Vec<&'static str> {
        let first = self.below(PODS.len());
        let count = 1 + self.below(PODS.len());
        PODS.iter().cycle().skip(first).take(count).copied().collect()
    }
}

/// Saves another set of endpoints, not waiting for the sync.
fn change(chaos: &Chaos, proxy: &Proxy, dice: &mut Dice) -> Result<()> {
    let mut cluster = Cluster::default();
    cluster.put_slice(chaos.slice("changing", &dice.pods()));
    proxy.write("changing.json", &cluster.manifest())
}

/// The slice that changes has a file of its own.
fn start_for_churn(chaos: &Chaos) -> Result<Proxy> {
    let mut cluster = chaos.cluster();
    cluster.delete_slice("changing");
    let proxy = chaos.start(&cluster)?;
    let mut changing = Cluster::default();
    changing.put_slice(chaos.slice("changing", &PODS));
    proxy.save("changing.json", &changing.manifest())?;
    Ok(proxy)
}

fn churn(chaos: &mut Chaos) -> Result<()> {
    const CHANGES: u32 = 2_000;
    const PACE: Duration = Duration::from_millis(5);
    let mut proxy = start_for_churn(chaos)?;
    let mut dice = Dice(1);
    let started = Instant::now();
    chaos.under_traffic(|| {
        for number in 0..CHANGES {
            change(chaos, &proxy, &mut dice)?;
            // The pace is what is asked for, not a wait for something.
            thread::sleep((started + PACE * number).saturating_duration_since(Instant::now()));
        }
        Ok(())
    })?;
    proxy.save("changing.json", &chaos.cluster().manifest())?;
    chaos.check_kernel(&mut proxy)
}

fn crashes(chaos: &mut Chaos) -> Result<()> {
    let mut proxy = start_for_churn(chaos)?;
    let mut dice = Dice(2);
    chaos.under_traffic(|| {
        for _ in 0..50 {
            for _ in 0..dice.below(8) {
                change(chaos, &proxy, &mut dice)?;
            }
            thread::sleep(Duration::from_micros(dice.below(5_000) as u64));
            proxy.kill()?;
            change(chaos, &proxy, &mut dice)?;
            proxy.start_again(&chaos.bed.node)?;
        }
        Ok(())
    })?;
    chaos.check_kernel(&mut proxy)
}

fn vandals(chaos: &mut Chaos) -> Result<()> {
    let table = if chaos.family == Family::V4 { "ip pointsman" } else { "ip6 pointsman" };
    let mut proxy = start_for_churn(chaos)?;
    let mut dice = Dice(3);
    for round in 0..12 {
        let edits = [
            "flush ruleset".to_owned(),
            format!("flush map {table} endpoints"),
            format!("flush chain {table} services"),
            format!("delete table {table}"),
        ];
        // Neither the edit nor the change may be lost, whichever the proxy hears of first.
        proxy.await_sync_after(|| {
            change(chaos, &proxy, &mut dice)?;
            chaos.bed.node.output("nft", &[&edits[round % edits.len()]]).map(drop)
        })?;
        proxy.save("changing.json", &chaos.cluster().manifest())?;
        proxy.await_quiet()?;
        let to = (chaos.family.cluster_ip(10), 80).into();
        let outcome = Place::of(chaos.bed.pod_namespace(3)).connect(Protocol::Tcp, to)?;
        ensure!(
            matches!(outcome, Outcome::Answered { .. }),
            "after {}: {outcome}",
            edits[round % edits.len()]
        );
    }
    chaos.check_kernel(&mut proxy)
}

fn mass_deletion(chaos: &mut Chaos) -> Result<()> {
    let mut proxy = chaos.start(&chaos.cluster())?;
    let many = |count: u16| {
        let mut cluster = Cluster::default();
        for number in 0..count {
            let name = format!("s{number}");
            let [high, low] = number.to_be_bytes();
            let ip: std::net::IpAddr = match chaos.family {
                Family::V4 => [172, 30, 100 + high, low].into(),
                Family::V6 => std::net::Ipv6Addr::from([0xfd00, 0x172, 0x30, 0, 0, 0, 1, number]).into(),
            };
            cluster.put(Service::new(&name, ip).tcp("http", 80));
            cluster.put_slice(chaos.slice(&name, &PODS[..2]));
        }
        cluster.manifest()
    };
    let (full, empty) = (many(5_000), many(0));
    // The allocator keeps memory for the next time, and needs some rounds to have enough: what grows on is a leak.
    for _ in 0..4 {
        proxy.save("many.json", &full)?;
        proxy.save("many.json", &empty)?;
    }
    let before = proxy.resources()?;
    chaos.under_traffic(|| {
        proxy.save("many.json", &full)?;
        proxy.save("many.json", &empty)
    })?;
    let after = proxy.resources()?;
    ensure!(after.descriptors == before.descriptors, "descriptors: {before:?} became {after:?}");
    ensure!(after.resident_kb < before.resident_kb + 8_192, "memory: {before:?} became {after:?}");
    fs::remove_file(proxy.folder().join("many.json"))?;
    chaos.check_kernel(&mut proxy)
}
