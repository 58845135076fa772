//! What the operator chose.

use std::fmt;
use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;

/// How the pod network is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How packets get to other nodes.
    pub backend: Backend,
    /// The families that pods have addresses of.
    pub families: Vec<Family>,
    /// With [`Backend::Vxlan`]: nodes on the same link are reached without a tunnel.
    pub direct_routing: bool,
    /// The ranges of all pods' addresses. A node's range must be within one of them; empty: any will do.
    pub cluster_cidrs: Vec<IpNet>,
    /// VXLAN's number of the network.
    pub vni: u32,
    /// VXLAN's UDP port.
    pub port: u16,
    /// Bytes of the largest packet of the uplink, if it is not to be asked.
    pub mtu: Option<u32>,
    /// The device that leads to the other nodes.
    pub interface: Interface,
    /// Whether what pods send out of the cluster gets the node's address.
    pub masquerade: Option<MasqueradeSettings>,
    /// For [`Backend::Bgp`].
    pub bgp: BgpSettings,
}

impl Default for Settings {
    /// flannel's numbers: VNI 1, port 8472.
    fn default() -> Self {
        Self {
            backend: Backend::Vxlan,
            families: Family::BOTH.to_vec(),
            direct_routing: false,
            cluster_cidrs: Vec::new(),
            vni: 1,
            port: 8472,
            mtu: None,
            interface: Interface::Auto,
            masquerade: Some(MasqueradeSettings::default()),
            bgp: BgpSettings::default(),
        }
    }
}

/// How packets get to pods of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// In UDP packets between nodes.
    Vxlan,
    /// As they are, by way of the node that the pod is on; to nodes that are not on the link, by VXLAN.
    HostGw,
    /// As they are, by the routes that BIRD learns.
    Bgp,
}

impl Backend {
    /// As the option and the annotation name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
            Self::Bgp => "bgp",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the device that leads to the other nodes is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// The one that has the own Node's `InternalIP`, else the one that the default route goes by.
    #[default]
    Auto,
    /// The one of a name, or that has an address.
    Named(String),
    /// The first, by its index, whose name or one of whose addresses this regular expression matches.
    Matching(String),
    /// The one that packets to an address leave by.
    Reaching(IpAddr),
}

/// Which packets get the node's address as they leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeSettings {
    /// Ranges besides the cluster's that pods reach under their own addresses.
    pub exempt: Vec<IpNet>,
    /// Whether packets to link-local addresses get the node's address as well.
    pub link_local: bool,
    /// Whether ports are chosen at random (`random-fully`), which keeps two packets at once from getting the same.
    pub random_fully: bool,
}

impl Default for MasqueradeSettings {
    fn default() -> Self {
        Self { exempt: Vec::new(), link_local: false, random_fully: true }
    }
}

/// What BIRD is told beside the Nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpSettings {
    /// Number of the nodes' autonomous system.
    pub autonomous_system: u32,
    /// Whether all nodes on the link speak to each other.
    pub mesh: bool,
    /// Routers, such as the top of the rack, that every node speaks to.
    pub peers: Vec<BgpPeer>,
}

impl Default for BgpSettings {
    /// 64512 is the first of those for private use (RFC 6996).
    fn default() -> Self {
        Self { autonomous_system: 64512, mesh: true, peers: Vec::new() }
    }
}

/// A router that every node speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BgpPeer {
    /// Its address.
    pub address: IpAddr,
    /// Number of its autonomous system.
    pub autonomous_system: u32,
}
