//! Taking away what this mode has made, and kube-proxy's ipvs mode: they are the same.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::ipset::{Entry, Ipsets};
use kernel::ipvs::{Frontend, Ipvs, Operation};
use kernel::link::{AddressEdit, Links};

use super::detached::{self, Detached};
use super::edge::DEVICE;
use super::installed::Installed;
use super::sets::{self, SetName};
use crate::Error;

/// How long the kernel may take to let go of a set, and how often it is asked.
const LETTING_GO: Duration = Duration::from_secs(2);
const MOMENT: Duration = Duration::from_millis(20);

/// Removes virtual servers, addresses and sets, and nothing of others, at once; says how many. Connections that IPVS
/// carries break. The rules that use the sets must be gone. What the kernel does not have cannot hold anything.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup(exclude_cidrs: &[IpNet]) -> Result<usize, Error> {
    let Some(mut remains) = Remains::read(exclude_cidrs)? else { return Ok(0) };
    let frontends = std::mem::take(&mut remains.frontends);
    remains.remove_servers(&frontends)?;
    Ok(frontends.len() + remains.remove_rest()?)
}

/// What there is of this mode, or of kube-proxy's, and the way to it.
pub(super) struct Remains {
    links: Links,
    pub(super) servers: Option<Ipvs>,
    sets: Ipsets,
    /// On our device, or [detached](Detached) from it.
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) detached: BTreeSet<IpAddr>,
    /// In our sets, as addresses of our device.
    entered: BTreeSet<IpAddr>,
    /// Virtual servers that are ours, but for those within ranges where they are never removed.
    pub(super) frontends: Vec<Frontend>,
}

impl Remains {
    /// Looks for it; `None` where there cannot be any.
    pub(super) fn read(exclude_cidrs: &[IpNet]) -> Result<Option<Self>, Error> {
        let mut links = Links::open()?;
        let Some(mut sets) = if_supported(Ipsets::open())? else { return Ok(None) };
        let device = links.find(DEVICE)?.map(|device| device.index);
        let mut installed = Installed { excluded: exclude_cidrs.to_vec(), ..Installed::default() };
        for found in links.addresses()? {
            let is_ours = device == Some(found.link);
            if is_ours { &mut installed.addresses } else { &mut installed.local }.insert(found.address);
        }
        installed.entries = entries(&mut sets)?;
        let (mut servers, mut frontends) = (if_supported(Ipvs::open())?, Vec::new());
        if let Some(servers) = &mut servers {
            let listed = match servers.servers() {
                // In a user namespace nobody may, not even root, so nobody has made any either.
                Err(kernel::Error::Permission { .. }) if device.is_none() && installed.entries.is_empty() => {
                    Vec::new()
                }
                listed => listed?,
            };
            let listed = listed.into_iter().map(|server| server.frontend);
            frontends.extend(listed.filter(|frontend| installed.is_ours(*frontend)));
        }
        let mut addresses = installed.addresses;
        let entered = installed.entries.remove(&SetName::IpvsIps).unwrap_or_default();
        let detached = detached::among(&entered, &addresses);
        addresses.extend(&detached);
        let entered = detached::all(&entered);
        Ok(Some(Self { links, servers, sets, addresses, detached, entered, frontends }))
    }

    /// Takes addresses away. Others may have removed our device.
    pub(super) fn unbind(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        let detached: Vec<_> = addresses.iter().filter(|address| self.detached.remove(address)).collect();
        if !detached.is_empty() {
            Detached::open(&mut self.links)?.remove(detached)?;
        }
        self.take_off_device(addresses)
    }

    /// Has addresses led here without our device, as far as that can be.
    pub(super) fn detach(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), Error> {
        let mut way = Detached::open(&mut self.links)?;
        let mut detached = Vec::new();
        for address in addresses.difference(&self.detached) {
            if way.add(*address)? {
                detached.push(*address);
            }
        }
        self.detached.extend(&detached);
        self.take_off_device(&detached)
    }

    fn take_off_device(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        let Some(device) = self.links.find(DEVICE)? else { return Ok(()) };
        let edit = |address: &IpAddr| AddressEdit { link: device.index, add: false, address: *address };
        Ok(self.links.run(&addresses.iter().map(edit).collect::<Vec<_>>())?)
    }

    /// Removes virtual servers with their destinations. Others may have removed some.
    pub(super) fn remove_servers(&mut self, frontends: &[Frontend]) -> Result<(), Error> {
        let removals: Vec<_> = frontends.iter().copied().map(Operation::RemoveServer).collect();
        self.run(&removals)
    }

    /// Changes virtual servers. Others may have removed some.
    pub(super) fn run(&mut self, operations: &[Operation]) -> Result<(), Error> {
        let Some(servers) = &mut self.servers else { return Ok(()) };
        let refused = servers.run(operations)?;
        let refused = refused.into_iter().find(|refusal| !refusal.missing());
        refused.map_or(Ok(()), |refusal| Err(kernel::Error::from(refusal).into()))
    }

    /// Removes the device with its addresses, and the sets; says how many.
    pub(super) fn remove_rest(&mut self) -> Result<usize, Error> {
        let mut removed = self.detached.len();
        // A process that ended halfway may have left the route of an address that is on our device, too.
        let routed: BTreeSet<_> = self.detached.union(&self.entered).collect();
        if !routed.is_empty() {
            Detached::open(&mut self.links)?.remove(routed)?;
        }
        if let Some(device) = self.links.find(DEVICE)? {
            self.links.remove(device.index)?;
            removed += 1;
        }
        for header in self.sets.headers()?.into_iter().filter(|header| sets::is_ours(&header.name)) {
            match destroy(&mut self.sets, &header.name) {
                Ok(()) => removed += 1,
                // Rules of others may look there; that is theirs to end.
                Err(error) => tracing::warn!("a set is left: {error}"),
            }
        }
        Ok(removed)
    }
}

/// Rules of iptables-nft let go of a set some time after they are gone.
fn destroy(sets: &mut Ipsets, name: &str) -> Result<(), kernel::Error> {
    let deadline = Instant::now() + LETTING_GO;
    loop {
        match sets.destroy(name) {
            Err(error) if error.is_busy() && Instant::now() < deadline => thread::sleep(MOMENT),
            result => return result,
        }
    }
}

/// What is in our sets, of both families.
fn entries(sets: &mut Ipsets) -> Result<HashMap<SetName, HashSet<Entry>>, Error> {
    let mut entries: HashMap<_, HashSet<_>> = HashMap::new();
    for header in sets.headers()? {
        if let Some((set, Family::V4 | Family::V6)) = SetName::parse(&header.name) {
            entries.entry(set).or_default().extend(sets.entries(&header.name)?);
        }
    }
    Ok(entries)
}

fn if_supported<T>(opened: Result<T, kernel::Error>) -> Result<Option<T>, Error> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(kernel::Error::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
