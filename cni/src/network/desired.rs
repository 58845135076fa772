//! What there is to be on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::Mac;

use super::announcement::Announcement;
use super::settings::BgpSettings;
use super::uplink::Uplink;

/// What there is to be on this node for it to reach all others' pods. The same for the same Nodes and settings, in
/// whatever order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The own Node's ranges. Empty as long as it has none that can be used: the network is not ready then.
    pub own: BTreeMap<Family, IpNet>,
    /// The devices that lead to the other nodes.
    pub uplinks: BTreeMap<Family, Uplink>,
    /// The VXLAN devices.
    pub tunnels: BTreeMap<Family, Tunnel>,
    /// How the pods of other nodes are reached.
    pub ways: BTreeMap<IpNet, Way>,
    /// What gets the node's address as it leaves.
    pub masquerade: Option<Masquerade>,
    /// What BIRD is to be told.
    pub bgp: Option<Bgp>,
    /// What the own Node's annotations are to say; `None` while that is not known.
    pub announcement: Option<Announcement>,
}

impl Desired {
    /// Bytes of the largest packet that a pod may send; `None` while it is not known.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        let tunnels = self.tunnels.values().map(|tunnel| tunnel.mtu);
        tunnels.chain(self.uplinks.values().map(|uplink| uplink.mtu)).min()
    }

    /// Whether pods can be given addresses and the others' reached, as far as is known here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.own.is_empty() && self.own.keys().all(|family| self.uplinks.contains_key(family))
    }
}

/// A VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its name: `flannel.1`, or `flannel-v6.1` for IPv6.
    pub name: String,
    /// VXLAN's number of the network.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The node's address that packets are sent from.
    pub local: IpAddr,
    /// Index of the device that they are sent by.
    pub underlay: u32,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Mac,
    /// Its address: the first of the own range.
    pub address: IpAddr,
}

/// How the pods of a node are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// By the VXLAN device of the range's family.
    Tunnel {
        /// Hardware address of the node's VXLAN device.
        mac: Mac,
        /// The node's address.
        node: IpAddr,
    },
    /// By way of a router on the link, as a rule the node itself.
    Gateway {
        /// Its address.
        address: IpAddr,
        /// Index of the device.
        link: u32,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel { mac, node } => write!(f, "by VXLAN to {node} ({mac})"),
            Self::Gateway { address, .. } => write!(f, "via {address}"),
        }
    }
}

/// What gets the node's address as it leaves the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masquerade {
    /// The node's own pods.
    pub pods: BTreeSet<IpNet>,
    /// What they reach under their own addresses: disjoint ranges.
    pub exempt: BTreeSet<IpNet>,
    /// The nodes' addresses: reached so as well.
    pub nodes: BTreeSet<IpAddr>,
    /// Whether ports are chosen at random.
    pub random_fully: bool,
}

/// What BIRD is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// The number that names this node: its IPv4 address, or one made up of its name.
    pub router_id: std::net::Ipv4Addr,
    /// As the operator chose.
    pub settings: BgpSettings,
    /// The node's address in each family.
    pub local: BTreeMap<Family, IpAddr>,
    /// The ranges that are told to others.
    pub own: BTreeMap<Family, IpNet>,
    /// The ranges that others' must be within.
    pub cluster_cidrs: Vec<IpNet>,
    /// The other nodes on the link, by name, with their addresses.
    pub mesh: BTreeMap<Arc<str>, BTreeMap<Family, IpAddr>>,
}

/// What changed of [`Desired`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Ways that changed, by their destinations.
    pub ways: Vec<Change>,
    /// Nodes' addresses that came (true) or went, see [`Masquerade::nodes`].
    pub nodes: Vec<(IpAddr, bool)>,
    /// Whether uplinks or tunnels changed.
    pub devices: bool,
    /// Whether the own ranges changed.
    pub own: bool,
    /// Whether [`Desired::masquerade`] changed in anything but the nodes' addresses.
    pub masquerade: bool,
    /// Whether [`Desired::bgp`] changed.
    pub bgp: bool,
    /// Whether [`Desired::announcement`] changed.
    pub announcement: bool,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there is something for the kernel.
    #[must_use]
    pub fn concerns_kernel(&self) -> bool {
        !self.ways.is_empty() || !self.nodes.is_empty() || self.devices || self.own || self.masquerade
    }
}

/// A way that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The range of the pods.
    pub destination: IpNet,
    /// How they were reached.
    pub before: Option<Way>,
    /// How they are.
    pub after: Option<Way>,
}
