//! How each range is reached.

use std::sync::Arc;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::Mac;

use super::desired::Way;
use super::node::Facts;
use super::nodes::Nodes;
use super::settings::Backend;

impl Nodes {
    /// How a range is reached, now that something changed that it depends on.
    pub(super) fn refresh_way(&mut self, range: IpNet) {
        let owner = self.ranges.owner(&range).cloned();
        let after = match owner {
            Some(name) if name == self.name => None,
            Some(name) => {
                let facts = self.known.get(&name).map(|known| &known.facts);
                facts.and_then(|facts| {
                    self.way(Family::of(range.addr()), &range, &name, facts).0.ok().flatten()
                })
            }
            None => self.learned.get(&range).copied().filter(|_| self.may_learn(&range)),
        };
        let before = match after {
            Some(way) => self.desired.ways.insert(range, way),
            None => self.desired.ways.remove(&range),
        };
        if before != after {
            self.told.ways.entry(range).or_insert(before);
        }
    }

    /// Whether a route that is no Node's may be learned: one to pods, but not to those of this node.
    fn may_learn(&self, range: &IpNet) -> bool {
        let own = self.own().map(|facts| &facts.ranges);
        let is_own = own.is_some_and(|own| own.values().any(|own| own.contains(range)));
        let in_cluster = self.settings.cluster_cidrs.iter().any(|cluster| cluster.contains(range));
        self.settings.backend == Backend::Bgp && in_cluster && !is_own
    }

    /// How the pods of another node are reached, or why they are not; and whether there has to be a VXLAN device for it.
    /// Neither, while BIRD has learned no way to it.
    pub(super) fn way(
        &self,
        family: Family,
        range: &IpNet,
        name: &Arc<str>,
        facts: &Facts,
    ) -> (Result<Option<Way>, String>, bool) {
        let Some(uplink) = self.uplinks.get(&family) else { return (Ok(None), false) };
        let Some(address) = facts.addresses.get(&family).copied() else {
            return (Err(format!("the Node has no InternalIP of {family}")), false);
        };
        if address == uplink.address {
            return (Err(format!("its address {address} is this node's")), false);
        }
        let on_link = uplink.reaches(address);
        let says = |backend: Backend| facts.backend.as_deref() == Some(backend.as_str());
        let direct = Way::Gateway { address, link: uplink.link };
        let own_mac = |mac: &Mac| self.macs.owner(family, *mac) == Some(name);
        let tunnel = facts
            .macs
            .get(&family)
            .filter(|mac| own_mac(mac))
            .map(|mac| Way::Tunnel { mac: *mac, node: address });
        let by_tunnel = || {
            let missing = || "it has announced no VXLAN device of that family yet".to_owned();
            tunnel.map(Some).ok_or_else(missing)
        };
        // It may still send by its tunnel.
        let sends_so = says(Backend::Vxlan) && tunnel.is_some();
        match self.settings.backend {
            Backend::Vxlan if self.settings.direct_routing && on_link => (Ok(Some(direct)), true),
            // It has not gone over yet, and will take what comes so.
            Backend::Vxlan
                if tunnel.is_none() && on_link && (says(Backend::HostGw) || says(Backend::Bgp)) =>
            {
                (Ok(Some(direct)), true)
            }
            Backend::Vxlan => (by_tunnel(), true),
            Backend::HostGw if on_link => (Ok(Some(direct)), sends_so),
            Backend::HostGw => (by_tunnel(), true),
            Backend::Bgp => match self.learned.get(range) {
                Some(way) => (Ok(Some(*way)), sends_so),
                None if self.settled && says(Backend::Bgp) => (Ok(None), false),
                None if on_link => (Ok(Some(direct)), sends_so),
                None => (by_tunnel().or(Ok(None)), true),
            },
        }
    }
}
