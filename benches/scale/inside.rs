//! The mode by itself, from objects that are decoded already.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use benches::cluster::{self, NODE};
use benches::figures::{Figures, median, p99};
use benches::objects::ENDPOINTS;
use endpoint_cache::object::{Kind, Metadata, ObjectName, ObjectRef};
use endpoint_cache::{Cache, Update};
use modes::nftables::Nftables;
use modes::{Mode, Settings};

use crate::floor;

const WHO: &str = "pointsman, by itself";
/// Changes of each sort.
const SAMPLES: u32 = 300;

pub(crate) fn measure(services: u32) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut node = Node::load(services, &mut figures)?;
    let numbers = || (0..SAMPLES).map(|sample| sample * (services / SAMPLES));
    let pods = |number: u32| number * ENDPOINTS..(number + 1) * ENDPOINTS;
    // So that the chain for one endpoint more is there already, as it is in any cluster that has run for a while.
    node.put(services - 1, pods(services - 1).start..pods(services - 1).end + 1)?;
    let mut changes: Vec<(&str, Vec<Duration>)> = Vec::new();
    let mut measure = |change, times: Result<Vec<Duration>>| times.map(|times| changes.push((change, times)));
    let replaced = |number| pods(number).start + 1..pods(number).end + 1;
    measure("replace an endpoint", numbers().map(|n| node.put(n, replaced(n))).collect())?;
    measure("one endpoint more", numbers().map(|n| node.put(n, pods(n).start..pods(n).end + 1)).collect())?;
    measure("one endpoint less", numbers().map(|n| node.put(n, pods(n))).collect())?;
    measure("add a service", (services..services + SAMPLES).map(|n| node.add(n)).collect())?;
    measure("delete a service", (services..services + SAMPLES).map(|n| node.delete(n)).collect())?;
    for (change, mut times) in changes {
        figures.add(WHO, &format!("{change}, median"), median(&mut times));
        figures.add(WHO, &format!("{change}, p99"), p99(&mut times));
    }
    drop(node);
    floor::measure(&mut figures, SAMPLES)?;
    Ok(figures)
}

/// A cluster, and the kernel programmed for it.
struct Node {
    cache: Cache,
    mode: Nftables,
}

impl Node {
    fn load(services: u32, figures: &mut Figures) -> Result<Self> {
        let updates = cluster::updates(services, ENDPOINTS);
        let started = Instant::now();
        let mut cache = Cache::new(NODE);
        updates.into_iter().for_each(|update| cache.apply(update));
        cache.take_delta();
        let desired = cache.desired();
        let mut mode = Nftables::new(Settings::default())?;
        let loading = Instant::now();
        mode.resync(&desired)?;
        figures.add(WHO, "decoded objects to programmed", started.elapsed());
        figures.add(WHO, "full load", loading.elapsed());
        let restarting = Instant::now();
        let report = mode.resync(&desired)?;
        figures.add(WHO, "full sync with nothing to do", restarting.elapsed());
        // What is large is written anew.
        ensure!(report.operations == 0 || services > 20_000, "a second sync found something to do");
        Ok(Self { cache, mode })
    }

    /// Gives a service these pods.
    fn put(&mut self, number: u32, pods: std::ops::Range<u32>) -> Result<Duration> {
        self.apply([Update::EndpointSlice(cluster::slice(number, pods))])
    }

    fn add(&mut self, number: u32) -> Result<Duration> {
        let pods = number * ENDPOINTS..(number + 1) * ENDPOINTS;
        let slice = cluster::slice(number, pods);
        self.apply([Update::Service(cluster::service(number)), Update::EndpointSlice(slice)])
    }

    fn delete(&mut self, number: u32) -> Result<Duration> {
        let gone = |kind, metadata: Metadata| {
            let name = ObjectName::new(&metadata.namespace, &metadata.name);
            Update::Deleted(ObjectRef { kind, name })
        };
        self.apply([
            gone(Kind::Service, cluster::service(number).metadata),
            gone(Kind::EndpointSlice, cluster::slice(number, 0..0).metadata),
        ])
    }

    /// From objects to the kernel's commit.
    fn apply(&mut self, updates: impl IntoIterator<Item = Update>) -> Result<Duration> {
        let start = Instant::now();
        updates.into_iter().for_each(|update| self.cache.apply(update));
        let delta = self.cache.take_delta();
        ensure!(delta.changes.len() == 1, "one service changes");
        self.mode.apply(&delta)?;
        Ok(start.elapsed())
    }
}
