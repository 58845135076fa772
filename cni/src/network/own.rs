//! What follows from the own Node and the devices that lead to the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::Mac;
use sha2::{Digest, Sha256};

use super::announcement::Announcement;
use super::desired::{Bgp, Desired, Masquerade, Tunnel};
use super::nodes::Nodes;
use super::settings::Backend;
use super::uplink::Uplink;

/// Bytes that VXLAN adds to a packet: Ethernet 14, IP 20 or 40, UDP 8, VXLAN 8.
const fn overhead(family: Family) -> u32 {
    match family {
        Family::V4 => 50,
        Family::V6 => 70,
    }
}

/// The parts of [`Desired`] whose size does not depend on how many nodes there are.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Small {
    pub(super) own: BTreeMap<Family, IpNet>,
    pub(super) uplinks: BTreeMap<Family, Uplink>,
    pub(super) tunnels: BTreeMap<Family, Tunnel>,
    /// Without the nodes' addresses.
    pub(super) masquerade: Option<(BTreeSet<IpNet>, BTreeSet<IpNet>, bool)>,
    pub(super) announcement: Option<Announcement>,
}

impl Small {
    pub(super) fn of(desired: &Desired) -> Self {
        let masquerade = desired.masquerade.as_ref();
        Self {
            own: desired.own.clone(),
            uplinks: desired.uplinks.clone(),
            tunnels: desired.tunnels.clone(),
            masquerade: masquerade.map(|all| (all.pods.clone(), all.exempt.clone(), all.random_fully)),
            announcement: desired.announcement.clone(),
        }
    }
}

impl Nodes {
    /// What follows from the own Node and the devices, now that anything may have changed.
    pub(super) fn refresh_own(&mut self) {
        self.desired.uplinks = self
            .uplinks
            .iter()
            .map(|(family, uplink)| {
                let mtu = self.settings.mtu.unwrap_or(uplink.mtu);
                (*family, Uplink { mtu, ..uplink.clone() })
            })
            .collect();
        let ranges = self.own().map(|facts| facts.ranges.clone()).unwrap_or_default();
        self.desired.own = ranges
            .into_iter()
            .filter(|(family, range)| self.uplinks.contains_key(family) && self.has_own(range))
            .collect();
        self.desired.tunnels = Family::BOTH
            .into_iter()
            .filter(|family| self.needs_tunnel(*family))
            .filter_map(|family| Some((family, self.tunnel(family)?)))
            .collect();
        self.desired.announcement = self.announcement();
        self.refresh_masquerade();
        self.refresh_bgp();
    }

    fn tunnel(&self, family: Family) -> Option<Tunnel> {
        let (uplink, own) = (self.desired.uplinks.get(&family)?, self.desired.own.get(&family)?);
        let vni = self.settings.vni;
        let name = match family {
            Family::V4 => format!("flannel.{vni}"),
            Family::V6 => format!("flannel-v6.{vni}"),
        };
        Some(Tunnel {
            name,
            vni,
            port: self.settings.port,
            local: uplink.address,
            underlay: uplink.link,
            mtu: uplink.mtu.saturating_sub(overhead(family)),
            mac: self.own_mac(family),
            address: own.network(),
        })
    }

    /// What the own Node says already, so that it stays when flannel goes and when the device is made anew; else one that
    /// is always the same.
    fn own_mac(&self, family: Family) -> Mac {
        let said = self.own().and_then(|facts| facts.macs.get(&family).copied());
        let ours = said.filter(|mac| self.macs.owner(family, *mac) == Some(self.name()));
        ours.unwrap_or_else(|| {
            let digest = Sha256::digest(format!("{family} {}", self.name()));
            let mut bytes = [0; 6];
            bytes.copy_from_slice(&digest[..6]);
            // Given by whoever runs the network, and one device's.
            bytes[0] = bytes[0] & !1 | 2;
            Mac(bytes)
        })
    }

    fn announcement(&self) -> Option<Announcement> {
        let own = self.own()?;
        if self.desired.own.is_empty() {
            return None;
        }
        let learns = self.settings.backend == Backend::Bgp && !self.settled;
        let backend = match &own.backend {
            Some(before) if learns => before,
            // Others keep their devices for it until it has learned.
            None if learns && !self.desired.tunnels.is_empty() => Backend::Vxlan.as_str(),
            _ => self.settings.backend.as_str(),
        };
        let addresses = self.desired.own.keys().filter_map(|family| {
            let uplink = self.desired.uplinks.get(family)?;
            Some((*family, own.overwritten.get(family).copied().unwrap_or(uplink.address)))
        });
        Some(Announcement {
            backend: backend.to_owned(),
            vni: self.settings.vni,
            tunnels: self.desired.tunnels.iter().map(|(family, tunnel)| (*family, tunnel.mac)).collect(),
            addresses: addresses.collect(),
        })
    }

    fn refresh_masquerade(&mut self) {
        let pods: BTreeSet<IpNet> = self.desired.own.values().copied().collect();
        let Some(settings) = self.settings.masquerade.as_ref().filter(|_| !pods.is_empty()) else {
            if let Some(before) = self.desired.masquerade.take() {
                self.tell_addresses(&before.nodes, &BTreeSet::new());
            }
            return;
        };
        let mut exempt: Vec<IpNet> =
            self.settings.cluster_cidrs.iter().chain(&settings.exempt).copied().collect();
        exempt.extend(&pods);
        exempt.extend(MULTICAST);
        if !settings.link_local {
            exempt.extend(LINK_LOCAL);
        }
        let exempt = IpNet::aggregate(&exempt).into_iter().collect();
        let random_fully = settings.random_fully;
        match &mut self.desired.masquerade {
            Some(masquerade) => {
                (masquerade.pods, masquerade.exempt, masquerade.random_fully) = (pods, exempt, random_fully);
            }
            None => {
                let nodes = self.addresses.all();
                self.tell_addresses(&BTreeSet::new(), &nodes);
                self.desired.masquerade = Some(Masquerade { pods, exempt, nodes, random_fully });
            }
        }
    }

    fn refresh_bgp(&mut self) {
        let wanted = self.settings.backend == Backend::Bgp && !self.desired.own.is_empty();
        let before = self.desired.bgp.take();
        if !wanted {
            if before.is_some() {
                self.bgp_changed();
            }
            return;
        }
        let local: BTreeMap<_, _> =
            self.uplinks.iter().map(|(family, uplink)| (*family, uplink.address)).collect();
        let settings = self.settings.bgp.clone();
        let whole = before.as_ref().is_none_or(|before| before.settings.mesh != settings.mesh);
        let (mut mesh, mut fixed_before) = (BTreeMap::new(), None);
        if let Some(before) = before {
            mesh = before.mesh;
            fixed_before = Some(Bgp { mesh: BTreeMap::new(), ..before });
        }
        let mut bgp = Bgp {
            router_id: self.router_id(),
            settings,
            local,
            own: self.desired.own.clone(),
            cluster_cidrs: self.settings.cluster_cidrs.clone(),
            mesh: BTreeMap::new(),
        };
        if fixed_before.as_ref() != Some(&bgp) {
            self.bgp_changed();
        }
        if !whole || bgp.settings.mesh {
            bgp.mesh = mesh;
        }
        self.desired.bgp = Some(bgp);
        if whole {
            self.refresh_whole_mesh();
        }
    }

    fn router_id(&self) -> Ipv4Addr {
        if let Some(IpAddr::V4(address)) = self.uplinks.get(&Family::V4).map(|uplink| uplink.address) {
            return address;
        }
        let digest = Sha256::digest(self.name().as_bytes());
        // Any number but 0 will do that no other node has.
        Ipv4Addr::new(digest[0] | 1, digest[1], digest[2], digest[3])
    }
}

/// 224.0.0.0/4 and ff00::/8
const MULTICAST: [IpNet; 2] = [
    IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];
/// 169.254.0.0/16 and fe80::/10
const LINK_LOCAL: [IpNet; 2] = [
    IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
];
