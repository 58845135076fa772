//! Hearing of what others change.
//!
//! The kernel tells of everybody's changes, ours among them, and not always whose they are. So what is heard is held against
//! what is expected: what agrees with that is no news.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::Mac;
use kernel::neighbour::{Forwarding, Neighbour};
use kernel::network::{NetworkMonitor, NetworkNews, Thing};
use kernel::route::{MAIN, Route};

use super::applier::{Error, is_ours};
use super::bird;
use super::desired::{Change, Delta, Desired, Tunnel, Way};
use super::uplink::Uplink;

/// Hears of what others change that concerns the pod network. Waits on a thread of its own.
pub struct Monitor {
    monitor: NetworkMonitor,
    expected: Arc<Mutex<Expected>>,
    /// Devices that lead to other nodes and were taken down.
    down: BTreeSet<u32>,
}

/// What a [`Monitor`] heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something of ours was changed or removed, or that cannot be ruled out: [`Applier::resync`](super::Applier::resync)
    /// is due. Who or what, in words.
    Damage(String),
    /// A device or an address changed: [`Applier::uplinks`](super::Applier::uplinks) may have a new answer.
    Uplink,
    /// BIRD's table changed: [`Applier::learned`](super::Applier::learned) has a new answer.
    Learned,
}

/// What the applier left, or is about to.
#[derive(Default)]
pub(super) struct Expected {
    tunnels: BTreeMap<Family, Tunnel>,
    uplinks: BTreeMap<Family, Uplink>,
    /// Whether there are devices that lead to other nodes for every family that is wanted.
    has_uplinks: bool,
    ways: BTreeMap<IpNet, Way>,
    own: BTreeSet<IpNet>,
    /// Indexes of the VXLAN devices.
    pub(super) devices: BTreeMap<Family, u32>,
    /// Hardware addresses and nodes.
    forwarding: BTreeMap<Mac, BTreeSet<IpAddr>>,
    /// First addresses of ranges, and whose they are.
    neighbours: BTreeMap<IpAddr, Mac>,
}

impl Expected {
    /// `families` is how many there are to be.
    pub(super) fn set(&mut self, desired: &Desired, families: usize) {
        let devices = std::mem::take(&mut self.devices);
        *self = Self { devices, ..Self::default() };
        self.tunnels.clone_from(&desired.tunnels);
        self.uplinks.clone_from(&desired.uplinks);
        self.has_uplinks = desired.uplinks.len() >= families;
        self.own = desired.own.values().copied().collect();
        for (destination, way) in &desired.ways {
            self.add(*destination, *way);
        }
    }

    pub(super) fn change(&mut self, delta: &Delta) {
        for Change { destination, before, .. } in &delta.ways {
            self.ways.remove(destination);
            if let Some(Way::Tunnel { mac, node }) = before {
                self.neighbours.remove(&destination.network());
                if let Some(nodes) = self.forwarding.get_mut(mac) {
                    nodes.remove(node);
                    if nodes.is_empty() {
                        self.forwarding.remove(mac);
                    }
                }
            }
        }
        for Change { destination, after, .. } in &delta.ways {
            if let Some(after) = after {
                self.add(*destination, *after);
            }
        }
    }

    fn add(&mut self, destination: IpNet, way: Way) {
        self.ways.insert(destination, way);
        if let Way::Tunnel { mac, node } = way {
            self.neighbours.insert(destination.network(), mac);
            self.forwarding.entry(mac).or_default().insert(node);
        }
    }

    fn hears(&self, news: &NetworkNews) -> Option<News> {
        let (thing, gone) = match news {
            NetworkNews::Lost => {
                let words = "so much changed in the network that the kernel dropped the news of it";
                return Some(News::Damage(words.to_owned()));
            }
            NetworkNews::Is(thing) => (thing, false),
            NetworkNews::Gone(thing) => (thing, true),
        };
        let damage = |what: String| {
            Some(News::Damage(format!("{what} was {}", if gone { "removed" } else { "changed" })))
        };
        match thing {
            Thing::Link(link) => {
                let Some(tunnel) = self.tunnels.values().find(|tunnel| tunnel.name == link.name) else {
                    return self.is_uplink(link.index).then_some(News::Uplink);
                };
                let is_so = !gone && link.up && link.mtu == tunnel.mtu && link.mac == Some(tunnel.mac);
                (!is_so).then(|| damage(format!("device {}", link.name)))?
            }
            Thing::Address { link, address } => {
                let Some((family, _)) = self.devices.iter().find(|(_, index)| *index == link) else {
                    let concerns = !self.has_uplinks || self.is_uplink(*link) || self.is_nodes(*address);
                    return concerns.then_some(News::Uplink);
                };
                let is_ours = self.tunnels.get(family).is_some_and(|tunnel| tunnel.address == *address);
                let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
                (is_ours == gone && !is_link_local).then(|| damage(format!("address {address}")))?
            }
            Thing::Route(route) if route.table == bird::TABLE => Some(News::Learned),
            Thing::Route(route) => self.is_damage(route, gone).then(|| damage(route.to_string()))?,
            Thing::Neighbour(found) => self
                .neighbour_is_damage(found, gone)
                .then(|| damage(format!("neighbour {}", found.address)))?,
            Thing::Forwarding(found) => self
                .forwarding_is_damage(found, gone)
                .then(|| damage(format!("forwarding entry {}", found.mac)))?,
        }
    }

    fn is_uplink(&self, link: u32) -> bool {
        self.uplinks.values().any(|uplink| uplink.link == link)
    }

    fn is_nodes(&self, address: IpAddr) -> bool {
        self.uplinks.values().any(|uplink| uplink.address == address)
    }

    fn is_damage(&self, route: &Route, gone: bool) -> bool {
        if route.table != MAIN {
            return false;
        }
        let is_single = route.destination.prefix_len() == route.destination.max_prefix_len();
        if is_single && self.neighbours.contains_key(&route.destination.addr()) {
            // Was there while a route by this router was made.
            return false;
        }
        let is_first = route.metric.is_none_or(|metric| metric == 0);
        match self.ways.get(&route.destination) {
            // It is gone, or what stood in its way; not what was there before it.
            Some(way) if gone => is_first && (self.is_way(route, *way) || !is_ours(route, &self.devices)),
            Some(way) => is_first && !self.is_way(route, *way),
            None if self.own.contains(&route.destination) => route.link == 0 && gone,
            None => !gone && is_ours(route, &self.devices),
        }
    }

    fn is_way(&self, route: &Route, way: Way) -> bool {
        let (gateway, link) = match way {
            Way::Gateway { address, link } => (address, Some(link)),
            Way::Tunnel { .. } => {
                let family = Family::of(route.destination.addr());
                (route.destination.network(), self.devices.get(&family).copied())
            }
        };
        route.protocol == crate::PROTOCOL && route.gateway == Some(gateway) && Some(route.link) == link
    }

    fn neighbour_is_damage(&self, found: &Neighbour, gone: bool) -> bool {
        if !self.devices.values().any(|device| *device == found.link) {
            return false;
        }
        match self.neighbours.get(&found.address) {
            Some(_) if gone => true,
            Some(mac) => *mac != found.mac || !found.permanent,
            None => !gone && found.permanent,
        }
    }

    fn forwarding_is_damage(&self, found: &Forwarding, gone: bool) -> bool {
        let is_expected = self.forwarding.get(&found.mac).is_some_and(|nodes| nodes.contains(&found.to));
        self.devices.values().any(|device| *device == found.link) && is_expected == gone
    }
}

impl Monitor {
    pub(super) fn open(expected: Arc<Mutex<Expected>>) -> Result<Self, Error> {
        Ok(Self { monitor: NetworkMonitor::open()?, expected, down: BTreeSet::new() })
    }

    /// A device that is taken down loses the routes by it, of which the kernel says nothing.
    fn came_up(&mut self, heard: &NetworkNews) -> Option<News> {
        let NetworkNews::Is(Thing::Link(link)) = heard else { return None };
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if !expected.is_uplink(link.index) {
            return None;
        }
        if !link.up {
            self.down.insert(link.index);
            return None;
        }
        self.down.remove(&link.index).then(|| News::Damage(format!("device {} was taken down", link.name)))
    }

    /// Waits for news.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and fails")]
    pub fn next(&mut self) -> Result<News, Error> {
        loop {
            let heard = self.monitor.next()?;
            if let Some(news) = self.came_up(&heard) {
                return Ok(news);
            }
            let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(news) = expected.hears(&heard) {
                return Ok(news);
            }
        }
    }
}
