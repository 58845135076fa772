//! The floor: the messages that the mode sends, without the mode. In the order in which it sends them, which is what its
//! `program::Plan` says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::cluster::{cluster_ip, pod_ip};
use kernel::ipset::{Edit, Entry, Ipsets, Kind, Set};
use kernel::ipvs::{Frontend, Ipvs, Operation, Scheduler, Server, Target};
use kernel::link::{AddressEdit, Links};

use crate::workload::pods;

const CLUSTER_IP: &str = "KUBE-CLUSTER-IP";
const LOOP_BACK: &str = "KUBE-LOOP-BACK";
const IPVS_IPS: &str = "KUBE-IPVS-IPS";
const SETS: [(&str, Kind); 3] =
    [(CLUSTER_IP, Kind::HashIpPort), (LOOP_BACK, Kind::HashIpPortIp), (IPVS_IPS, Kind::HashIp)];
/// Every eighth pod is on the node, and may come to itself: see `benches::cluster`.
const NODES: u32 = 8;
const TCP: u8 = 6;

/// Connections to the kernel.
pub(crate) struct Floor {
    servers: Ipvs,
    sets: Ipsets,
    links: Links,
    device: u32,
}

/// How long each part takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) sets: Duration,
    pub(crate) servers: Duration,
    pub(crate) addresses: Duration,
}

impl Times {
    pub(crate) fn total(&self) -> Duration {
        self.sets + self.servers + self.addresses
    }
}

impl Floor {
    /// With sets and the device, and nothing in them yet.
    pub(crate) fn open() -> Result<Self> {
        let (servers, mut sets, mut links) = (Ipvs::open()?, Ipsets::open()?, Links::open()?);
        for (name, kind) in SETS {
            sets.create(&Set { name: name.to_owned(), kind, ipv6: false, max_entries: 1 << 20 })?;
        }
        let device = links.make_dummy("kube-ipvs0")?.index;
        Ok(Self { servers, sets, links, device })
    }

    /// Sends what is to be sent.
    pub(crate) fn send(&mut self, messages: &Messages) -> Result<Times> {
        let mut times = Times::default();
        for frontend in &messages.asked {
            timed(&mut times.servers, || Ok(self.servers.destinations(*frontend).map(drop)?))?;
        }
        timed(&mut times.sets, || Ok(self.sets.run(&messages.entered)?))?;
        timed(&mut times.servers, || run(&mut self.servers, &messages.served))?;
        timed(&mut times.addresses, || self.edit_addresses(true, &messages.bound))?;
        timed(&mut times.addresses, || self.edit_addresses(false, &messages.unbound))?;
        timed(&mut times.servers, || run(&mut self.servers, &messages.unserved))?;
        timed(&mut times.sets, || Ok(self.sets.run(&messages.left)?))?;
        Ok(times)
    }

    /// Reads all that is there, as a process that starts must.
    pub(crate) fn read(&mut self, services: u32) -> Result<Times> {
        let mut times = Times::default();
        let Self { servers, sets, links, .. } = self;
        timed(&mut times.addresses, || Ok(links.addresses().map(drop)?))?;
        timed(&mut times.servers, || {
            let found = servers.servers()?;
            ensure!(found.len() == services as usize, "{} virtual servers are there", found.len());
            for server in found {
                servers.destinations(server.frontend)?;
            }
            Ok(())
        })?;
        timed(&mut times.sets, || SETS.iter().try_for_each(|(name, _)| Ok(sets.entries(name).map(drop)?)))?;
        Ok(times)
    }

    fn edit_addresses(&mut self, add: bool, addresses: &[IpAddr]) -> Result<()> {
        let edit = |address: &IpAddr| AddressEdit { link: self.device, add, address: *address };
        let edits: Vec<_> = addresses.iter().map(edit).collect();
        Ok(self.links.run(&edits)?)
    }
}

fn run(servers: &mut Ipvs, operations: &[Operation]) -> Result<()> {
    match servers.run(operations)?.into_iter().next() {
        Some(refused) => Err(kernel::Error::from(refused).into()),
        None => Ok(()),
    }
}

fn timed(time: &mut Duration, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    body()?;
    *time += started.elapsed();
    Ok(())
}

/// What is sent, in this order.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// Virtual servers whose destinations are looked at.
    asked: Vec<Frontend>,
    entered: Vec<Edit>,
    served: Vec<Operation>,
    bound: Vec<IpAddr>,
    unbound: Vec<IpAddr>,
    unserved: Vec<Operation>,
    left: Vec<Edit>,
}

impl Messages {
    /// Services come.
    pub(crate) fn add(services: Range<u32>) -> Self {
        let mut messages = Self { entered: entries(services.clone(), true), ..Self::default() };
        for number in services {
            let (frontend, scheduler) = (frontend(number), Scheduler::default());
            messages.served.push(Operation::AddServer(Server { frontend, scheduler, persistence: None }));
            let destination = |pod| Operation::AddDestination(frontend, target(pod), 1);
            messages.served.extend(pods(number).map(destination));
            messages.bound.push(cluster_ip(number).into());
        }
        messages
    }

    /// A service goes, unless it has connections.
    pub(crate) fn delete(number: u32) -> Self {
        Self {
            asked: vec![frontend(number)],
            unbound: vec![cluster_ip(number).into()],
            unserved: vec![Operation::RemoveServer(frontend(number))],
            left: entries(number..number + 1, false),
            ..Self::default()
        }
    }

    /// A service gets pods of the next service in the place of some. What goes gets no new connections, but keeps those
    /// it has; what comes is in the sets already.
    pub(crate) fn replace(number: u32, was: Range<u32>, is: Range<u32>) -> Self {
        let (was, is) = (was.collect::<BTreeSet<_>>(), is.collect::<BTreeSet<_>>());
        let frontend = frontend(number);
        let came = is.difference(&was).map(|pod| Operation::AddDestination(frontend, target(*pod), 1));
        let went = was.difference(&is).map(|pod| Operation::SetDestination(frontend, target(*pod), 0));
        let left = edits(LOOP_BACK, false, loops(was.difference(&is).copied()));
        Self { served: came.chain(went).collect(), left, ..Self::default() }
    }

    /// How many changes.
    pub(crate) fn count(&self) -> usize {
        let Self { asked: _, entered, served, bound, unbound, unserved, left } = self;
        entered.len() + served.len() + bound.len() + unbound.len() + unserved.len() + left.len()
    }
}

/// What sets have for services, set by set.
fn entries(services: Range<u32>, add: bool) -> Vec<Edit> {
    let address = |number| IpAddr::from(cluster_ip(number));
    let fronts =
        services.clone().map(|number| Entry::IpPort { address: address(number), protocol: TCP, port: 80 });
    let ips = services.clone().map(|number| Entry::Ip(address(number)));
    [
        edits(CLUSTER_IP, add, fronts),
        edits(LOOP_BACK, add, loops(services.flat_map(pods))),
        edits(IPVS_IPS, add, ips),
    ]
    .concat()
}

/// Pods of the node, each as its own client.
fn loops(pods: impl Iterator<Item = u32>) -> impl Iterator<Item = Entry> {
    pods.filter(|pod| pod.is_multiple_of(NODES)).map(|pod| {
        let address = pod_ip(pod).into();
        Entry::IpPortIp { address, protocol: TCP, port: 8080, other: address }
    })
}

fn edits(set: &str, add: bool, entries: impl Iterator<Item = Entry>) -> Vec<Edit> {
    let set: Arc<str> = set.into();
    entries.map(|entry| Edit { set: Arc::clone(&set), add, entry }).collect()
}

fn frontend(number: u32) -> Frontend {
    Frontend::Address { address: cluster_ip(number).into(), protocol: TCP, port: 80 }
}

fn target(pod: u32) -> Target {
    Target { address: pod_ip(pod).into(), port: 8080 }
}

/// The kernel's own words on how many connections it can keep.
pub(crate) fn kernel_limits() -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let bits = read("/sys/module/ip_vs/parameters/conn_tab_bits")?;
    let buckets = read("/sys/module/nf_conntrack/parameters/hashsize")?;
    Ok(format!(
        "IPVS keeps its connections in 2^{} buckets (`conn_tab_bits`), conntrack its flows in {}.",
        bits.trim(),
        buckets.trim()
    ))
}
