//! Noticing what others do, and the node's addresses as they come and go. The kernel tells of addresses and of rules in
//! nftables; IPVS and ipset tell nothing, so we look how many virtual servers and entries there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_cache::Family;
use kernel::ipset::Ipsets;
use kernel::ipvs::{Ipvs, Operation};
use kernel::link::{Address, AddressMonitor, AddressNews, Links};

use super::edge::{DEVICE, Node};
use super::installed::Installed;
use super::program::Plan;
use super::sets::SetName;
use crate::news::{spawn, tell};
use crate::{Disturbance, Error, Watch};

/// How often we look.
const OFTEN: Duration = Duration::from_secs(1);
/// How many times as long we wait as it takes to look: a hundredth of a core's time is enough.
const SHARE: u32 = 100;

/// What there is to see without reading everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    device: Option<u32>,
    /// What is on our device.
    bound: BTreeSet<IpAddr>,
    /// The node's other addresses.
    local: BTreeSet<IpAddr>,
    sizes: Sizes,
}

/// How much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sizes {
    /// Virtual servers, whoever made them.
    servers: usize,
    /// Entries of our sets.
    entries: BTreeMap<String, usize>,
}

impl Sizes {
    fn look(servers: &mut Ipvs, sets: &mut Ipsets) -> Result<Self, Error> {
        let headers = sets.headers()?.into_iter();
        let entries =
            headers.map(|header| (header.name, usize::try_from(header.entries).unwrap_or(usize::MAX)));
        Ok(Self { servers: servers.servers()?.len(), entries: entries.collect() })
    }

    /// Takes over what was found of these.
    fn take(&mut self, found: &Self) {
        self.servers = found.servers;
        for (name, entries) in &mut self.entries {
            *entries = found.entries.get(name).copied().unwrap_or_default();
        }
    }

    /// In words, what of these is another in what was found. There may be other sets.
    fn difference(&self, found: &Self) -> Option<String> {
        let (was, is) = (self.servers, found.servers);
        if was != is {
            return Some(format!("somebody changed the virtual servers of IPVS ({is} instead of {was})"));
        }
        self.entries.iter().find_map(|(name, was)| match found.entries.get(name) {
            Some(is) if is == was => None,
            Some(is) => Some(format!("somebody changed set {name} ({is} entries instead of {was})")),
            None => Some(format!("somebody removed set {name}")),
        })
    }
}

impl Footprint {
    /// What was read of the node.
    pub(super) fn of(node: &Node) -> Self {
        let lasting = node.addresses.iter().filter(|found| !found.link_local_scope);
        let (ours, others): (Vec<&Address>, Vec<&Address>) =
            lasting.partition(|found| found.link == node.device);
        let only = |found: Vec<&Address>| found.into_iter().map(|found| found.address).collect();
        let sizes = Sizes { servers: node.servers.len(), entries: BTreeMap::new() };
        Self { device: Some(node.device), bound: only(ours), local: only(others), sizes }
    }

    /// Adds what was read of a family.
    pub(super) fn add(&mut self, installed: &Installed, family: Family) {
        let entries =
            installed.entries.iter().map(|(set, entries)| (set.name(family).to_string(), entries.len()));
        self.sizes.entries.extend(entries);
    }

    /// Changes as a plan changes things. Where that is not what comes about, somebody else was there.
    pub(super) fn follow(&mut self, plan: &Plan, family: Family) {
        let is_addition = |operation: &&Operation| matches!(operation, Operation::AddServer(_));
        let is_removal = |operation: &&Operation| matches!(operation, Operation::RemoveServer(_));
        self.sizes.servers += plan.served.iter().filter(is_addition).count();
        let removed = plan.unserved.iter().filter(is_removal).count();
        self.sizes.servers = self.sizes.servers.saturating_sub(removed);
        let mut change = |set: SetName, difference: isize| {
            if let Some(entries) = self.sizes.entries.get_mut(&*set.name(family)) {
                *entries = entries.saturating_add_signed(difference);
            }
        };
        plan.entered.iter().for_each(|(set, _)| change(*set, 1));
        plan.left.iter().for_each(|(set, _)| change(*set, -1));
        self.bound.extend(&plan.bound);
        for address in &plan.unbound {
            self.bound.remove(address);
        }
    }
}

/// What the last sync left, `None` while that is not known. Held while a sync is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Footprints(Arc<Mutex<Option<Footprint>>>);

impl Footprints {
    pub(super) fn hold(&self) -> MutexGuard<'_, Option<Footprint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the first that has something to tell.
pub(super) struct News {
    news: Receiver<Result<Disturbance, Error>>,
    sync_period: Duration,
}

/// Starts to listen and to look.
pub(super) fn start(
    mut rules: Box<dyn Watch>,
    footprints: Footprints,
    own_port: u32,
    sync_period: Duration,
) -> Result<News, Error> {
    let (sender, news) = mpsc::channel();
    let monitor = AddressMonitor::open(Some(own_port))?;
    let (servers, sets) = (Ipvs::open()?, Ipsets::open()?);
    spawn("rules", tell(sender.clone(), move || rules.next_disturbance().map(Some)))?;
    let mut addresses = Addresses { monitor, links: Links::open()?, footprints: footprints.clone() };
    if let Some(missed) = addresses.missed()? {
        // We have the receiver.
        let _ = sender.send(Ok(missed));
    }
    spawn("addresses", tell(sender.clone(), move || addresses.next()))?;
    let mut look = Look { servers, sets, footprints, wait: OFTEN };
    spawn("sizes", tell(sender, move || look.next()))?;
    Ok(News { news, sync_period })
}

impl Watch for News {
    fn next_disturbance(&mut self) -> Result<Disturbance, Error> {
        match self.news.recv_timeout(self.sync_period) {
            Ok(news) => news,
            Err(RecvTimeoutError::Timeout) => Ok(Disturbance::Checkup),
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(self.sync_period);
                Ok(Disturbance::Checkup)
            }
        }
    }
}

/// Hears of addresses.
struct Addresses {
    monitor: AddressMonitor,
    links: Links,
    footprints: Footprints,
}

impl Addresses {
    /// What came after the first sync had read the addresses, and before anybody listened.
    fn missed(&mut self) -> Result<Option<Disturbance>, Error> {
        let present = self.links.addresses()?;
        let footprints = self.footprints.clone();
        let mut footprint = footprints.hold();
        let Some(known) = footprint.as_mut() else { return Ok(None) };
        let device = known.device;
        let others = present.iter().filter(|found| Some(found.link) != device && !found.link_local_scope);
        let mut new = others.map(|found| found.address).filter(|address| !is_link_local(*address));
        let new = new.find(|address| known.local.insert(*address));
        Ok(new.map(|address| Disturbance::Node(format!("the node has got address {address}"))))
    }

    /// The next news, if it means anything.
    fn next(&mut self) -> Result<Option<Disturbance>, Error> {
        let (news, footprints) = (self.monitor.next()?, self.footprints.clone());
        let mut footprint = footprints.hold();
        let Some(known) = footprint.as_mut() else { return Ok(None) };
        let (address, came) = match news {
            AddressNews::Came { address, .. } | AddressNews::Went { address, .. }
                if is_link_local(address) =>
            {
                return Ok(None);
            }
            AddressNews::Came { link, address } if Some(link) == known.device => (address, true),
            AddressNews::Went { link, address } if Some(link) == known.device => (address, false),
            AddressNews::Came { address, .. } => {
                let is_new = known.local.insert(address);
                return Ok(is_new.then(|| Disturbance::Node(format!("the node has got address {address}"))));
            }
            AddressNews::Went { address, .. } => {
                let was = known.local.remove(&address);
                return Ok(was.then(|| Disturbance::Node(format!("the node has lost address {address}"))));
            }
            AddressNews::LinkWent { link, .. } if Some(link) == known.device => {
                known.device = None;
                return Ok(Some(Disturbance::Damage(format!("somebody removed {DEVICE}"))));
            }
            AddressNews::LinkWent { .. } => return Ok(None),
            AddressNews::Lost => {
                return Ok(Some(Disturbance::Node("news of addresses were lost".to_owned())));
            }
        };
        // The kernel does not tell whose change of an IPv6 address it was; ours may be long past.
        if known.bound.contains(&address) == came
            || known.bound.contains(&address) == self.is_bound(known, address)?
        {
            return Ok(None);
        }
        let (verb, preposition) = if came { ("put", "on") } else { ("took", "off") };
        Ok(Some(Disturbance::Damage(format!("somebody {verb} {address} {preposition} {DEVICE}"))))
    }

    /// Whether our device has an address now.
    fn is_bound(&mut self, known: &Footprint, address: IpAddr) -> Result<bool, Error> {
        let addresses = self.links.addresses()?;
        Ok(addresses.iter().any(|found| Some(found.link) == known.device && found.address == address))
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Looks how much there is.
struct Look {
    servers: Ipvs,
    sets: Ipsets,
    footprints: Footprints,
    wait: Duration,
}

impl Look {
    /// Waits some time; says what others have changed meanwhile.
    fn next(&mut self) -> Result<Option<Disturbance>, Error> {
        thread::sleep(self.wait);
        let started = Instant::now();
        let sizes = Sizes::look(&mut self.servers, &mut self.sets)?;
        self.wait = OFTEN.max(started.elapsed() * SHARE);
        let mut footprint = self.footprints.hold();
        let Some(known) = footprint.as_mut() else { return Ok(None) };
        if known.sizes.difference(&sizes).is_none() {
            return Ok(None);
        }
        // A change of ours may have come in between; now there is none.
        let sizes = Sizes::look(&mut self.servers, &mut self.sets)?;
        let difference = known.sizes.difference(&sizes);
        if difference.is_some() {
            known.sizes.take(&sizes);
        }
        Ok(difference.map(Disturbance::Damage))
    }
}
