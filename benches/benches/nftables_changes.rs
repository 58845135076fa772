//! How long the nftables mode takes from a change to the kernel's commit, in clusters of several sizes.
//!
//! Runs as root, in a network namespace of its own. Look at how the figures change with the size, not at themselves:
//! they should not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::cluster::{self, NODE};
use endpoint_cache::object::{Kind, Metadata, ObjectName, ObjectRef};
use endpoint_cache::{Cache, Update};
use modes::nftables::Nftables;
use modes::{Mode, Settings};
use nix::sched::{CloneFlags, unshare};

const SIZES: [u32; 3] = [1_000, 10_000, 50_000];
const ENDPOINTS: u32 = 10;
const SAMPLES: u32 = 300;

fn main() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("no network namespace to be had: run this as root")?;
    println!("{:>9} {:<18} {:>10} {:>10} {:>12}", "services", "change", "median", "p99", "bytes");
    for services in SIZES {
        let mut node = Node::load(services)?;
        let numbers = || (0..SAMPLES).map(|sample| sample * (services / SAMPLES));
        let pods = |number: u32| number * ENDPOINTS..(number + 1) * ENDPOINTS;
        // So that the chain for one endpoint more is there already, as it is in any cluster that has run for a while.
        node.put(services - 1, pods(services - 1).start..pods(services - 1).end + 1)?;
        node.measure("replace endpoint", numbers(), |node, number| {
            node.put(number, pods(number).start + 1..pods(number).end + 1)
        })?;
        node.measure("grow by one", numbers(), |node, number| {
            node.put(number, pods(number).start..pods(number).end + 1)
        })?;
        node.measure("shrink by one", numbers(), |node, number| node.put(number, pods(number)))?;
        node.measure("add service", services..services + SAMPLES, Node::add)?;
        node.measure("delete service", services..services + SAMPLES, Node::delete)?;
    }
    Ok(())
}

/// A cluster, and the kernel programmed for it.
struct Node {
    services: u32,
    cache: Cache,
    mode: Nftables,
}

impl Node {
    fn load(services: u32) -> Result<Self> {
        let mut cache = Cache::new(NODE);
        cluster::updates(services, ENDPOINTS).into_iter().for_each(|update| cache.apply(update));
        cache.take_delta();
        modes::nftables::cleanup()?;
        let mode = Nftables::new(Settings::default())?;
        let mut node = Self { services, cache, mode };
        let desired = node.cache.desired();
        let start = Instant::now();
        let report = node.mode.resync(&desired)?;
        node.print("full load", &mut [start.elapsed()], report.bytes);
        let restart = node.mode.resync(&desired)?;
        ensure!(restart.operations == 0, "a resync finds something to do");
        Ok(node)
    }

    /// Times a change for each of the numbers.
    fn measure(
        &mut self,
        change: &str,
        numbers: impl Iterator<Item = u32>,
        apply: impl Fn(&mut Self, u32) -> Result<(Duration, usize)>,
    ) -> Result<()> {
        let measured = numbers.map(|number| apply(self, number)).collect::<Result<Vec<_>>>()?;
        let (mut times, bytes): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
        self.print(change, &mut times, bytes[bytes.len() / 2]);
        Ok(())
    }

    fn print(&self, change: &str, times: &mut [Duration], bytes: usize) {
        times.sort_unstable();
        let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{:>9} {change:<18} {median:>10.1?} {p99:>10.1?} {bytes:>12}", self.services);
    }

    /// Gives a service these pods.
    fn put(&mut self, number: u32, pods: std::ops::Range<u32>) -> Result<(Duration, usize)> {
        self.apply([Update::EndpointSlice(cluster::slice(number, pods))])
    }

    fn add(&mut self, number: u32) -> Result<(Duration, usize)> {
        let pods = number * ENDPOINTS..(number + 1) * ENDPOINTS;
        let slice = cluster::slice(number, pods);
        self.apply([Update::Service(cluster::service(number)), Update::EndpointSlice(slice)])
    }

    fn delete(&mut self, number: u32) -> Result<(Duration, usize)> {
        let gone = |kind, metadata: Metadata| {
            let name = ObjectName::new(&metadata.namespace, &metadata.name);
            Update::Deleted(ObjectRef { kind, name })
        };
        self.apply([
            gone(Kind::Service, cluster::service(number).metadata),
            gone(Kind::EndpointSlice, cluster::slice(number, 0..0).metadata),
        ])
    }

    /// The time from a delta to the kernel's commit, and the bytes that it took.
    fn apply(&mut self, updates: impl IntoIterator<Item = Update>) -> Result<(Duration, usize)> {
        updates.into_iter().for_each(|update| self.cache.apply(update));
        let delta = self.cache.take_delta();
        ensure!(delta.changes.len() == 1, "one service changes");
        let start = Instant::now();
        let report = self.mode.apply(&delta)?;
        Ok((start.elapsed(), report.bytes))
    }
}
