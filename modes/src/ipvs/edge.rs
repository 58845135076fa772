//! The way to what this mode programs besides iptables: virtual servers, sets, and the device with our addresses.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::ipset::{Edit, Entry, Header, Ipsets, Kind, Set};
use kernel::ipvs::{Destination, Frontend, Ipvs, Operation, Refused};
use kernel::link::{Address, AddressEdit, Links};

use super::detached::{self, Detached};
use super::installed::{Found, Installed};
use super::sets::SetName;
use crate::{Error, Report};

/// The device that has our addresses: kube-proxy's.
pub(super) const DEVICE: &str = "kube-ipvs0";

/// A set under another name, until it takes the place of one that is too small.
const SUCCESSOR: &str = "KUBE-IPVS-SUCCESSOR";

/// Connections to the kernel, for both families.
pub(super) struct Edge {
    pub(super) servers: Ipvs,
    pub(super) sets: Ipsets,
    pub(super) links: Links,
    /// Whether what an earlier process detached is on our device again, with no route left.
    attached: bool,
}

/// What belongs to neither family alone.
pub(super) struct Node {
    /// Our device.
    pub(super) device: u32,
    /// The node's addresses.
    pub(super) addresses: Vec<Address>,
    /// Virtual servers of both families, with all their destinations.
    pub(super) servers: Vec<Found>,
}

impl Node {
    /// Addresses on other devices than ours.
    pub(super) fn others(&self) -> Vec<Address> {
        self.addresses.iter().filter(|found| found.link != self.device).copied().collect()
    }
}

impl Edge {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self { servers: Ipvs::open()?, sets: Ipsets::open()?, links: Links::open()?, attached: false })
    }

    /// Makes the device if it is missing, and reads what is not kept by family.
    pub(super) fn read_node(&mut self) -> Result<Node, Error> {
        let device = self.links.make_dummy(DEVICE)?.index;
        let mut addresses = self.links.addresses()?;
        if self.attach(device, &addresses)? {
            addresses = self.links.addresses()?;
        }
        Ok(Node { device, addresses, servers: self.read_servers()? })
    }

    /// The same without making anything; `None` for the device if it is missing.
    pub(super) fn look_at_node(&mut self) -> Result<(Option<u32>, Node), Error> {
        let device = self.links.find(DEVICE)?.map(|link| link.index);
        let (addresses, servers) = (self.links.addresses()?, self.read_servers()?);
        // No link has the number 0.
        Ok((device, Node { device: device.unwrap_or_default(), addresses, servers }))
    }

    fn read_servers(&mut self) -> Result<Vec<Found>, Error> {
        let mut servers = Vec::new();
        for server in self.servers.servers()? {
            let destinations = self.servers.destinations(server.frontend)?;
            let weights = destinations.iter().map(|found| (found.target, found.weight)).collect();
            servers.push(Found { server, weights, busy: destinations.iter().any(is_busy) });
        }
        Ok(servers)
    }

    /// Which of a family's sets are there, and fit.
    pub(super) fn fit_sets(&mut self, family: Family) -> Result<Vec<SetName>, Error> {
        let headers = self.sets.headers()?;
        let headers: HashMap<&str, &Header> =
            headers.iter().map(|header| (header.name.as_str(), header)).collect();
        let is_fit = |name: &SetName| {
            let set = name.set(family);
            headers.get(set.name.as_str()).is_some_and(|header| is_fit(header, &set))
        };
        Ok(SetName::ALL.into_iter().filter(is_fit).collect())
    }

    /// Which virtual servers have connections.
    pub(super) fn busy(&mut self, frontends: &[Frontend]) -> Result<HashSet<Frontend>, Error> {
        let mut busy = HashSet::new();
        for frontend in frontends {
            if self.servers.destinations(*frontend)?.iter().any(is_busy) {
                busy.insert(*frontend);
            }
        }
        Ok(busy)
    }

    /// Reads what a family has, with these of its sets, which must be there.
    pub(super) fn read_family(
        &mut self,
        family: Family,
        node: &Node,
        excluded: &[IpNet],
        sets: &[SetName],
    ) -> Result<Installed, Error> {
        let ipv6 = family == Family::V6;
        let of_family = |found: &&Found| found.server.frontend.is_ipv6() == ipv6;
        let servers = node.servers.iter().filter(of_family);
        let servers: HashMap<_, _> = servers.map(|found| (found.server.frontend, found.clone())).collect();
        let mut entries = HashMap::new();
        for set in sets {
            let found: HashSet<_> = self.sets.entries(&set.name(family))?.into_iter().collect();
            entries.insert(*set, found);
        }
        // The kernel gives devices link-local addresses by itself.
        let of_family = node.addresses.iter();
        let of_family =
            of_family.filter(|found| Family::of(found.address) == family && !found.link_local_scope);
        let (ours, others): (Vec<&Address>, Vec<&Address>) =
            of_family.partition(|found| found.link == node.device);
        let excluded = excluded.iter().copied().filter(|range| Family::of(range.addr()) == family);
        Ok(Installed {
            servers,
            entries,
            addresses: ours.into_iter().map(|found| found.address).collect(),
            local: others.into_iter().map(|found| found.address).collect(),
            excluded: excluded.collect(),
        })
    }

    /// Puts addresses back on our device that an earlier process took off it when another mode took over; says whether
    /// there were any.
    fn attach(&mut self, device: u32, addresses: &[Address]) -> Result<bool, Error> {
        let on_device = addresses.iter().filter(|found| found.link == device).map(|found| found.address);
        let entered = ipvs_ips(&mut self.sets)?;
        let missing = detached::among(&entered, &on_device.collect());
        // A process that ended halfway may have left the route of an address that is on our device.
        let suspects = if self.attached { BTreeSet::new() } else { detached::all(&entered) };
        if missing.is_empty() && suspects.is_empty() {
            self.attached = true;
            return Ok(false);
        }
        let detached = Detached::open(&mut self.links)?.of(missing)?;
        self.edit_addresses(device, true, &detached)?;
        Detached::open(&mut self.links)?.remove(suspects.iter().chain(&detached))?;
        self.attached = true;
        Ok(!detached.is_empty())
    }

    /// Makes a family's sets where they are missing or unfit.
    pub(super) fn make_sets(&mut self, family: Family, report: &mut Report) -> Result<(), Error> {
        let headers = self.sets.headers()?;
        let headers: HashMap<&str, &Header> =
            headers.iter().map(|header| (header.name.as_str(), header)).collect();
        for name in SetName::ALL {
            let set = name.set(family);
            match headers.get(set.name.as_str()) {
                Some(header) if is_fit(header, &set) => continue,
                // Rules may refer to it, so it must not be missing for a moment.
                Some(header) if header.kind == Some(set.kind) && header.ipv6 == set.ipv6 => {
                    self.replace(&set)?;
                }
                Some(_) => {
                    self.sets.destroy(&set.name)?;
                    self.sets.create(&set)?;
                }
                None => self.sets.create(&set)?,
            }
            report.operations += 1;
        }
        Ok(())
    }

    /// Puts a larger set in the place of one; entries come later.
    fn replace(&mut self, set: &Set) -> Result<(), Error> {
        let successor = Set { name: SUCCESSOR.to_owned(), ..set.clone() };
        if self.sets.headers()?.iter().any(|header| header.name == SUCCESSOR) {
            self.sets.destroy(SUCCESSOR)?;
        }
        self.sets.create(&successor)?;
        let entries = self.sets.entries(&set.name)?;
        let name: Arc<str> = SUCCESSOR.into();
        let copy = |entry| Edit { set: Arc::clone(&name), add: true, entry };
        self.sets.run(&entries.into_iter().map(copy).collect::<Vec<_>>())?;
        self.sets.swap(&set.name, SUCCESSOR)?;
        self.sets.destroy(SUCCESSOR)?;
        Ok(())
    }

    pub(super) fn edit_sets(
        &mut self,
        family: Family,
        add: bool,
        entries: &[(SetName, Entry)],
    ) -> Result<(), Error> {
        let mut names = BTreeMap::new();
        let mut entries = entries.to_vec();
        // What goes into one set travels together.
        entries.sort_unstable();
        let edits = entries.into_iter().map(|(set, entry)| {
            let name = names.entry(set).or_insert_with(|| set.name(family));
            Edit { set: Arc::clone(name), add, entry }
        });
        let edits: Vec<_> = edits.collect();
        if !edits.is_empty() {
            self.sets.run(&edits)?;
        }
        Ok(())
    }

    pub(super) fn edit_addresses(&mut self, link: u32, add: bool, addresses: &[IpAddr]) -> Result<(), Error> {
        if addresses.is_empty() {
            return Ok(());
        }
        let edit = |address: &IpAddr| AddressEdit { link, add, address: *address };
        Ok(self.links.run(&addresses.iter().map(edit).collect::<Vec<_>>())?)
    }

    /// Changes virtual servers. Where others were there first, what was meant is done. Returns what the kernel refuses
    /// for good, and of which; the rest is done.
    pub(super) fn edit_servers(
        &mut self,
        operations: &[Operation],
    ) -> Result<Vec<(Frontend, Refused)>, Error> {
        let (mut refused, mut again) = (Vec::new(), Vec::new());
        for refusal in self.servers.run(operations)? {
            let operation = &operations[refusal.operation];
            match instead(operation, &refusal) {
                Instead::Nothing => {}
                Instead::This(operation) => again.push(operation),
                Instead::GiveUp => refused.push((frontend_of(operation), refusal)),
            }
        }
        if !again.is_empty() {
            let still = self.servers.run(&again)?.into_iter();
            refused.extend(still.map(|refusal| (frontend_of(&again[refusal.operation]), refusal)));
        }
        Ok(refused)
    }
}

/// What is entered of both families as addresses of our device.
fn ipvs_ips(sets: &mut Ipsets) -> Result<HashSet<Entry>, Error> {
    let mut entries = HashSet::new();
    for header in sets.headers()? {
        if let Some((SetName::IpvsIps, Family::V4 | Family::V6)) = SetName::parse(&header.name) {
            entries.extend(sets.entries(&header.name)?);
        }
    }
    Ok(entries)
}

fn is_busy(destination: &Destination) -> bool {
    destination.active > 0 || destination.inactive > 0
}

fn is_fit(header: &Header, set: &Set) -> bool {
    let large = header.ipv6 == set.ipv6 && header.max_entries.is_some_and(|most| most >= set.max_entries);
    header.kind == Some(set.kind) && (set.kind == Kind::BitmapPort || large)
}

/// What to do about an operation that was refused.
enum Instead {
    /// It has come about already.
    Nothing,
    This(Operation),
    GiveUp,
}

fn instead(operation: &Operation, refusal: &Refused) -> Instead {
    match *operation {
        Operation::AddServer(server) if refusal.exists() => Instead::This(Operation::SetServer(server)),
        Operation::SetServer(server) if refusal.missing() => Instead::This(Operation::AddServer(server)),
        Operation::AddDestination(of, target, weight) if refusal.exists() => {
            Instead::This(Operation::SetDestination(of, target, weight))
        }
        Operation::SetDestination(of, target, weight) if refusal.missing() && weight > 0 => {
            Instead::This(Operation::AddDestination(of, target, weight))
        }
        Operation::SetDestination(..) | Operation::RemoveServer(_) | Operation::RemoveDestination(..)
            if refusal.missing() =>
        {
            Instead::Nothing
        }
        _ => Instead::GiveUp,
    }
}

/// What an operation is about.
fn frontend_of(operation: &Operation) -> Frontend {
    match operation {
        Operation::AddServer(server) | Operation::SetServer(server) => server.frontend,
        Operation::RemoveServer(of)
        | Operation::AddDestination(of, ..)
        | Operation::SetDestination(of, ..)
        | Operation::RemoveDestination(of, _) => *of,
    }
}
